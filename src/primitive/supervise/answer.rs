//! Answers the agent's questions.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::capability::offer;
use super::declared::{declared, place};
use super::denial::denied;
use super::judge::{audited, has_ended, judge, now, wanted};
use super::notify::notify;
use super::publish::tell;
use super::read::read;
use super::reply::{expired, reply};
use super::settle::tell_clients;
use crate::plan::OnRequest;
use crate::policy::{Verdict, Wanted};
use crate::primitive::bottle::{Bottle, Decider, Queue, Request, RequestState, Wish};
use crate::session::{BottleImages, Failure};
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
    let request = match bottle.queue().await {
        Ok(queue) => queue.get(id).cloned(),
        Err(error) => {
            let why = format!("the requests cannot be read: {}", error.kind());
            return Reply::new(Status::Refused, why, "Go on with other work, and ask again later.");
        }
    };
    let Some(request) = request else {
        return Reply::new(Status::Unknown, "there is no request of this id", "Use an id that a request returned.");
    };
    let policy = bottle.policy().await;
    if policy.is_ok_and(|policy| has_ended(bottle, &policy, &request)) { expired(&request) } else { reply(&request) }
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
    if json!(wish).to_string().len() + reason.len() > MAX_REQUEST {
        return Reply::new(Status::Invalid, "the request is too long", "Ask with fewer words.");
    }
    if holds_secret(bottle, &wish, &reason) {
        let why = "the request holds a secret of this bottle; it was not recorded";
        return Reply::new(Status::Invalid, why, "Ask again without the secret.");
    }
    let wish = match read(bottle, wish).await {
        Ok(wish) => wish,
        Err(reply) => return reply,
    };
    let mut queue = match bottle.queue().await {
        Ok(queue) => queue,
        Err(error) => return unwritten(&error),
    };
    let wanted = wanted(bottle, &wish);
    if let Some(wanted) = &wanted {
        match verdict(bottle, wanted).await {
            Ok(Verdict::Candidate(_)) => {}
            Ok(verdict) => return at_once(bottle, &wish, verdict),
            Err(failure) => return Reply::new(Status::Refused, failure.message, "Go on with other work."),
        }
    }
    let unattended = bottle.plan.supervise.as_ref().is_some_and(|plan| plan.on_request == OnRequest::Reject);
    // The policy may have changed since a rule refused a host.
    let rules_stay = unattended || wanted.is_none();
    if let Some(known) = queue.known(&wish, rules_stay).cloned() {
        if known.is_pending() {
            queue.again(&known.id);
        }
        return reply(&known);
    }
    if let Some(why) = too_many(&queue, &wish) {
        audited(bottle, &wish, "refuse", "request_flood", &why);
        return Reply::new(Status::Refused, why, "Wait until the operator has decided about the others.");
    }
    if let Some(built) = built(bottle, &queue, &wish) {
        return reply(&built);
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
        if request.is_noted() {
            notify(bottle, &request);
        }
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
        Verdict::Allowed => usable(bottle, wish).unwrap_or_else(|| {
            Reply::new(
                Status::AlreadyAllowed,
                "this is allowed already",
                "Make the request. If it is refused, call explain_denial: it may be refused for another reason.",
            )
        }),
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

/// How an agent uses a credential that is there.
fn usable(bottle: &Bottle, wish: &Wish) -> Option<Reply> {
    let Wish::Credential { name, host } = wish else { return None };
    let credential = declared(&bottle.plan, name, host)?;
    let slot = &place(credential, host)?.slot;
    let held = match (&credential.env, &credential.file) {
        (Some(variable), _) => format!("the variable {variable}"),
        (None, file) => format!("the file {}", file.as_ref()?.path),
    };
    let why = format!(
        "the credential {name} is there already: {held} holds a placeholder, which stands for it at {host} in {slot}"
    );
    let next = "Make the request with the placeholder. bottler puts in the value, which you never see.";
    Some(Reply::new(Status::AlreadyAllowed, why, next))
}

/// The state of a request that nobody is asked about.
fn refused_by_rule(bottle: &Bottle, wish: &Wish) -> Option<RequestState> {
    let told = "it is listed for the operator, with what to write for the next launch";
    let reason = match wish {
        Wish::Credential { name, host } if wanted(bottle, wish).is_none() => {
            format!("no credential {name} is declared for {host}, and a running bottle gets no other ones; {told}")
        }
        Wish::Capability { packages, dockerfile } if let Err(why) = offer(bottle, packages, dockerfile) => {
            format!("no other image is built for this bottle: {why}; {told}")
        }
        Wish::Egress(_) | Wish::Credential { .. } | Wish::Git { .. } | Wish::Capability { .. } => {
            let plan = bottle.plan.supervise.as_ref()?;
            if plan.on_request != OnRequest::Reject {
                return None;
            }
            "nobody watches this bottle: requests are rejected at once".to_owned()
        }
    };
    Some(RequestState::Rejected { reason, by: Decider::Rule, at: now() })
}

/// The request that an image was built for already, if the bottle still has that.
fn built(bottle: &Bottle, queue: &Queue, wish: &Wish) -> Option<Request> {
    let is_it = |request: &&Request| matches!(request.state, RequestState::Approved { .. }) && request.wish == *wish;
    let found = queue.all().iter().rev().filter(|_| matches!(wish, Wish::Capability { .. })).find(is_it)?;
    let images = BottleImages::read(bottle.host.staging.as_deref()?).ok()?;
    images.current.is_some().then(|| found.clone())
}

/// Rejects a request for which nobody decides in time.
fn await_deadline(bottle: &Arc<Bottle>, id: &str) {
    let Some(seconds) = bottle.plan.supervise.as_ref().and_then(|plan| plan.deadline) else { return };
    let (weak, id) = (Arc::downgrade(bottle), id.to_owned());
    crate::task::spawn(async move {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let Some(bottle) = weak.upgrade() else { return };
        // Somebody has decided, and what is decided is being done.
        if bottle.desk.is_building(&id) {
            return;
        }
        let why = format!("nobody decided in time, which is {seconds} s here");
        bottle.settle(&id, RequestState::Rejected { reason: why, by: Decider::Deadline, at: now() }).await;
    });
}

/// Whether a text of a request holds a secret of the bottle, or the value of a credential.
fn holds_secret(bottle: &Bottle, wish: &Wish, reason: &str) -> bool {
    let (secrets, credentials) = (bottle.secrets.all(), bottle.credentials());
    let secrets = secrets.iter().map(|secret| secret.value.as_str());
    // In requests of a build, in which the agent has no placeholders, egress would put values in for them.
    let builds = matches!(wish, Wish::Capability { .. });
    let placeholders = credentials.iter().filter(|_| builds).map(|credential| credential.placeholder.as_str());
    let values = credentials.iter().map(|credential| credential.value.as_str()).chain(placeholders);
    let mut all = secrets.chain(values).filter(|value| value.len() >= MIN_SECRET);
    let wish = json!(wish);
    all.any(|value| reason.contains(value) || has_text(&wish, value))
}

fn has_text(value: &Value, text: &str) -> bool {
    match value {
        Value::String(own) => own.contains(text),
        Value::Array(all) => all.iter().any(|one| has_text(one, text)),
        Value::Object(all) => all.values().any(|one| has_text(one, text)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_found_in_every_text_of_a_wish_whatever_json_makes_of_it() {
        let secret = "a\"quoted\\secret";
        let wishes = [
            Wish::Credential { name: format!("x{secret}"), host: "a.com".into() },
            Wish::Git { repository: String::new(), reference: String::new(), operation: secret.into() },
            Wish::Capability { packages: vec!["jq".into(), secret.into()], dockerfile: String::new() },
            Wish::Egress(Wanted { host: "a.com".into(), paths: vec![format!("/{secret}")], ..Wanted::default() }),
        ];
        for wish in wishes {
            assert!(has_text(&json!(wish), secret), "{wish:?}");
            assert!(!has_text(&json!(wish), "other-secret"), "{wish:?}");
        }
    }
}
