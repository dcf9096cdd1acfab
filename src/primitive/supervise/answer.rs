//! Answers the agent's questions.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::denial::denied;
use super::judge::{audited, judge, now};
use super::notify::notify;
use super::publish::tell;
use super::reply::reply;
use super::settle::tell_clients;
use crate::plan::OnRequest;
use crate::policy::{Verdict, Wanted};
use crate::primitive::bottle::{Bottle, Decider, Queue, RequestState, Wish};
use crate::session::Failure;
use crate::sidecar::supervise::{Ask, Call, Reply, Status, Update};

/// Most requests that wait for the operator, and most of one domain.
const MAX_PENDING: usize = 32;
const MAX_ALIKE: usize = 8;
/// Most new requests in a minute.
const PER_MINUTE: usize = 20;
/// The longest request, in bytes.
const MAX_REQUEST: usize = 64 << 10;
/// A secret that is shorter than this is in too many words.
const MIN_SECRET: usize = 6;

/// Answers a call of the agent.
pub(in crate::primitive) async fn asked(bottle: &Arc<Bottle>, call: Call) {
    let reply = match call.ask {
        Ask::Request { id } => status(bottle, &id).await,
        Ask::Denials { id } => denials(bottle, id.as_deref()),
        Ask::Egress { wanted, reason } => request(bottle, Wish::Egress(wanted), reason).await,
        Ask::Credential { name, host, reason } => request(bottle, Wish::Credential { name, host }, reason).await,
        Ask::Git { repository, reference, operation, reason } => {
            request(bottle, Wish::Git { repository, reference, operation }, reason).await
        }
        Ask::Capability { packages, dockerfile, reason } => {
            request(bottle, Wish::Capability { packages, dockerfile }, reason).await
        }
    };
    tell(bottle, Update::Answer { n: call.n, reply }).await;
}

async fn status(bottle: &Arc<Bottle>, id: &str) -> Reply {
    match bottle.desk.queue.lock().await.get(id) {
        Some(request) => reply(request),
        None => Reply::new(Status::Unknown, "there is no request of this id", "Use an id that a request returned."),
    }
}

/// Refused requests, the latest first.
fn denials(bottle: &Bottle, id: Option<&str>) -> Reply {
    let asks = bottle.plan.supervise.is_some();
    let all = bottle.desk.denials().into_iter().map(|event| denied(&event, asks));
    let found: Vec<_> = all.filter(|denial| id.is_none_or(|id| denial.id == id)).take(10).collect();
    if found.is_empty() {
        let why =
            if id.is_some() { "there is no refusal of this id among the last ones" } else { "nothing was refused" };
        return Reply::new(
            if id.is_some() { Status::Unknown } else { Status::Answer },
            why,
            "Call it without an id for the last ten.",
        );
    }
    let next = "Make the next_call of what you need. A refusal without one stays: do not retry it.";
    Reply { denials: found, ..Reply::new(Status::Answer, "these requests were refused by the bottle's policy", next) }
}

/// Takes a request.
async fn request(bottle: &Arc<Bottle>, wish: Wish, reason: String) -> Reply {
    // The sidecar has checked this; it is beside the agent, and this is not.
    let wish = match wish {
        Wish::Egress(wanted) => match wanted.normal() {
            Ok(wanted) => Wish::Egress(wanted),
            Err(why) => return Reply::new(Status::Invalid, why, "Correct the request."),
        },
        other => other,
    };
    if json!(wish).to_string().len() + reason.len() > MAX_REQUEST {
        return Reply::new(Status::Invalid, "the request is too long", "Ask with fewer words.");
    }
    if holds_secret(bottle, &wish, &reason) {
        let why = "the request holds a secret of this bottle; it was not recorded";
        return Reply::new(Status::Invalid, why, "Ask again without the secret.");
    }
    let mut queue = match bottle.queue().await {
        Ok(queue) => queue,
        Err(error) => return unwritten(&error),
    };
    if let Wish::Egress(wanted) = &wish {
        match verdict(bottle, wanted).await {
            Ok(Verdict::Candidate(_)) => {}
            Ok(verdict) => return at_once(bottle, &wish, verdict),
            Err(failure) => return Reply::new(Status::Refused, failure.message, "Go on with other work."),
        }
    }
    let unattended = bottle.plan.supervise.as_ref().is_some_and(|plan| plan.on_request == OnRequest::Reject);
    if let Some(known) = queue.known(&wish, unattended).cloned() {
        if known.is_pending() {
            queue.again(&known.id);
        }
        return reply(&known);
    }
    if let Some(why) = too_many(&queue, &wish) {
        audited(bottle, &wish, "refuse", "request_flood", &why);
        return Reply::new(Status::Refused, why, "Wait until the operator has decided about the others.");
    }
    let state = refused_by_rule(bottle, &wish).unwrap_or(RequestState::Pending);
    let request = match queue.add(wish, reason, now(), state) {
        Ok(request) => request,
        Err(error) => return unwritten(&error),
    };
    drop(queue);
    let kind = request.wish.kind();
    audited(bottle, &request.wish, "note", "request_asked", &format!("{}: {kind}", request.id));
    if request.is_pending() {
        notify(bottle, &request);
        await_deadline(bottle, &request.id);
    } else {
        audited(bottle, &request.wish, "refuse", "request_rejected", &format!("{}: by a rule", request.id));
    }
    tell_clients(bottle, &request);
    reply(&request)
}

/// What a request for a host is, under the policy of now.
async fn verdict(bottle: &Bottle, wanted: &Wanted) -> Result<Verdict, Failure> {
    Ok(judge(bottle, &bottle.policy().await?, wanted))
}

/// The answer to what no operator needs to see.
fn at_once(bottle: &Bottle, wish: &Wish, verdict: Verdict) -> Reply {
    match verdict {
        Verdict::Invalid(why) => Reply::new(Status::Invalid, why, "Correct the request."),
        Verdict::Allowed => Reply::new(
            Status::AlreadyAllowed,
            "this is allowed already",
            "Make the request. If it is refused, call explain_denial: it may be refused for another reason.",
        ),
        Verdict::Refused(why) => {
            audited(bottle, wish, "refuse", "request_refused", &why);
            let next = "This stays refused, whoever asks. Do not retry it, and look for no way around it.";
            Reply::new(Status::Refused, why, next)
        }
        Verdict::Candidate(_) => Reply::new(Status::Refused, "it was not recorded", "Ask again."),
    }
}

fn unwritten(error: &std::io::Error) -> Reply {
    let why = format!("the request cannot be recorded: {}", error.kind());
    Reply::new(Status::Refused, why, "Go on with other work, and ask again later.")
}

fn too_many(queue: &Queue, wish: &Wish) -> Option<String> {
    let pending = queue.pending().count();
    if pending >= MAX_PENDING {
        return Some(format!("{pending} requests wait for the operator already"));
    }
    let class = wish.class();
    let alike = queue.pending().filter(|request| request.wish.class() == class).count();
    if alike >= MAX_ALIKE {
        return Some(format!(
            "{alike} requests for {class} wait for the operator already; one that covers all would do"
        ));
    }
    let since = now().saturating_sub(60);
    let recent = queue.all().iter().filter(|request| request.asked > since).count();
    (recent >= PER_MINUTE).then(|| format!("{recent} requests in a minute"))
}

/// The state of a request that nobody is asked about.
fn refused_by_rule(bottle: &Bottle, wish: &Wish) -> Option<RequestState> {
    let unattended = || {
        let plan = bottle.plan.supervise.as_ref()?;
        (plan.on_request == OnRequest::Reject)
            .then(|| "nobody watches this bottle: requests are rejected at once".to_owned())
    };
    let reason = match wish {
        Wish::Egress(_) => unattended()?,
        Wish::Credential { name, host } => format!(
            "credentials are declared before a launch; the operator was told that {name} for {host} is missing, and can add it to \
             `credentials` of the bottle"
        ),
        Wish::Git { .. } if bottle.plan.git.is_some() => format!(
            "a refused push is approved where it was refused: the operator was told, and can do so with `bottler git approve {}` and \
             the id in the push's message",
            bottle.session.id
        ),
        Wish::Git { .. } => "this bottle has no git gate whose decisions could be changed".to_owned(),
        Wish::Capability { .. } => {
            "the image of a running bottle is not changed; the operator was told what is missing, and can \
                                    build it for the next launch"
                .to_owned()
        }
    };
    Some(RequestState::Rejected { reason, by: Decider::Rule, at: now() })
}

/// Rejects a request for which nobody decides in time.
fn await_deadline(bottle: &Arc<Bottle>, id: &str) {
    let Some(seconds) = bottle.plan.supervise.as_ref().and_then(|plan| plan.deadline) else { return };
    let (weak, id) = (Arc::downgrade(bottle), id.to_owned());
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let Some(bottle) = weak.upgrade() else { return };
        let why = format!("nobody decided within {seconds} s");
        bottle.settle(&id, RequestState::Rejected { reason: why, by: Decider::Deadline, at: now() }).await;
    });
}

fn holds_secret(bottle: &Bottle, wish: &Wish, reason: &str) -> bool {
    let text = format!("{}{reason}", json!(wish));
    bottle.secrets.all().iter().any(|secret| secret.value.len() >= MIN_SECRET && text.contains(&secret.value))
}
