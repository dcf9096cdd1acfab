//! What the operator sees and decides.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::denial::denied;
use super::judge::{judge, now};
use crate::policy::{Candidate, Change, LivePolicy, Scope, Verdict};
use crate::primitive::bottle::{Bottle, Decider, Request, RequestState, Wish};
use crate::session::{Class, Failure};
use crate::sidecar::supervise::DeniedRequest;

/// How many refused requests are shown with a request.
const MAX_CAUSES: usize = 5;
/// Maximum length of the operator's reason, in bytes.
const MAX_REASON: usize = 1000;

/// A request, as an operator sees it. Its texts are an agent's: they go through one escaper before they are shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownRequest {
    /// The bottle.
    pub bottle: String,
    /// The request.
    pub request: Request,
    /// What a grant would add; absent for what is decided, and for what cannot be granted any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    /// The hash of it, which a decision names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// The generation of the policy that it was compared with.
    pub generation: u64,
    /// How many other requests for the same domain wait.
    pub alike: usize,
    /// The refused requests of the agent to the same host, the latest first.
    #[serde(default)]
    pub causes: Vec<DeniedRequest>,
}

impl Bottle {
    /// The requests of its agent, the oldest first.
    ///
    /// # Errors
    /// The bottle has no supervise.
    pub async fn requests(&self) -> Result<Vec<ShownRequest>, Failure> {
        self.supervised()?;
        let queue = self.queue().await.map_err(|error| self.unread(&error))?;
        let policy = self.policy().await?;
        Ok(queue.all().iter().map(|request| self.shown(queue.all(), &policy, request)).collect())
    }

    /// Grants a request that was shown with this hash.
    ///
    /// # Errors
    /// There is no such request, it is decided already, it was shown under another policy, the scope does not fit, or egress does not
    /// acknowledge the grant. Nothing is granted then.
    pub async fn approve(self: &Arc<Self>, id: &str, hash: &str, scope: Scope) -> Result<ShownRequest, Failure> {
        self.supervised()?;
        let mut queue = self.desk.queue.lock().await;
        let request = self.undecided(queue.get(id), id)?.clone();
        let policy = self.policy().await?;
        let shown = self.shown(queue.all(), &policy, &request);
        let (Some(candidate), Some(now_hash)) = (&shown.candidate, &shown.hash) else {
            let why = format!(
                "approve {id} of {}: the policy has changed since, and it can be granted no more",
                self.session.id
            );
            return Err(Failure::new(Class::Operation, why).hint(self.look_again(id)));
        };
        if now_hash != hash {
            let why = format!(
                "approve {id} of {}: stale: it was shown with the hash {hash}, and is {now_hash} under the policy of now ({})",
                self.session.id, policy.generation
            );
            return Err(Failure::new(Class::Operation, why).hint(self.look_again(id)));
        }
        if scope == Scope::Once && !candidate.exact {
            let why = format!(
                "approve {id} of {}: a grant for one request is for one method and one plain path",
                self.session.id
            );
            return Err(Failure::new(Class::Input, why).hint("--for 10m, or reject it with the reason: ask for less"));
        }
        let change = Change::Allow { entries: vec![candidate.entry.clone()], scope };
        let enforced = self.change_policy(&change).await?;
        let state = RequestState::Approved { scope, generation: enforced.generation, at: now() };
        let request = self.record(&mut queue, id, state);
        drop(queue);
        let request = request.ok_or_else(|| self.unknown(id))?;
        self.tell_decided(&request);
        Ok(ShownRequest { request, candidate: None, hash: None, generation: enforced.generation, ..shown })
    }

    /// Rejects a request. The agent reads the reason.
    ///
    /// # Errors
    /// There is no such request, or it is decided already.
    pub async fn reject(self: &Arc<Self>, id: &str, reason: &str) -> Result<ShownRequest, Failure> {
        self.supervised()?;
        if reason.len() > MAX_REASON {
            return Err(Failure::new(
                Class::Input,
                format!("reject {id}: the reason is longer than {MAX_REASON} bytes"),
            ));
        }
        self.undecided(self.desk.queue.lock().await.get(id), id)?;
        let state = RequestState::Rejected { reason: reason.to_owned(), by: Decider::Operator, at: now() };
        let settled = self.settle(id, state).await;
        let queue = self.desk.queue.lock().await;
        let request = match settled {
            Some(request) => request,
            // Another operator was faster.
            None => self.undecided(queue.get(id), id)?.clone(),
        };
        let policy = self.policy().await?;
        Ok(self.shown(queue.all(), &policy, &request))
    }

    fn supervised(&self) -> Result<(), Failure> {
        if self.plan.supervise.is_some() {
            return Ok(());
        }
        let why = format!("{}: its agent cannot ask for anything", self.session.id);
        Err(Failure::new(Class::Input, why)
            .hint("`supervise: true` in the bottle, at the next launch; `bottler policy allow` works now"))
    }

    fn undecided<'a>(&self, request: Option<&'a Request>, id: &str) -> Result<&'a Request, Failure> {
        let request = request.ok_or_else(|| self.unknown(id))?;
        let what = match &request.state {
            RequestState::Pending => return Ok(request),
            RequestState::Approved { .. } => "approved",
            RequestState::Rejected { .. } => "rejected",
        };
        let why = format!("{id} of {}: it was {what} already", self.session.id);
        Err(Failure::new(Class::Operation, why)
            .hint("nothing was changed; `bottler policy allow` and `policy deny` change a decision"))
    }

    fn unread(&self, error: &std::io::Error) -> Failure {
        Failure::new(Class::Internal, format!("read the requests of {}: {error}", self.session.id))
    }

    fn unknown(&self, id: &str) -> Failure {
        let why = format!("{} has no request {id:?}", self.session.id);
        Failure::new(Class::Input, why).hint(format!("`bottler requests list {}`", self.session.id))
    }

    fn look_again(&self, id: &str) -> String {
        format!("nothing was granted; look at it again: `bottler requests show {} {id}`", self.session.id)
    }

    fn shown(&self, all: &[Request], policy: &LivePolicy, request: &Request) -> ShownRequest {
        let generation = policy.generation;
        let candidate = match &request.wish {
            Wish::Egress(wanted) if request.is_pending() => match judge(self, policy, wanted) {
                Verdict::Candidate(candidate) => Some(candidate),
                _ => None,
            },
            _ => None,
        };
        let hash = candidate.as_ref().map(|candidate| candidate.hash(&self.session.id, &request.id, generation));
        let class = request.wish.class();
        let alike =
            all.iter().filter(|other| other.is_pending() && other.id != request.id && other.wish.class() == class);
        let causes = self.causes(&request.wish);
        ShownRequest {
            bottle: self.session.id.clone(),
            candidate,
            hash,
            generation,
            alike: alike.count(),
            causes,
            request: request.clone(),
        }
    }

    /// The refused requests that a wish is probably about.
    fn causes(&self, wish: &Wish) -> Vec<DeniedRequest> {
        let Wish::Egress(wanted) = wish else { return Vec::new() };
        let named = wanted.host.trim_start_matches("*.");
        let about = |destination: &str| {
            destination.rsplit_once(':').is_some_and(|(host, _)| host == named || wanted.host == destination)
        };
        let all = self.desk.denials().into_iter().filter(|event| about(&event.kind.destination));
        all.map(|event| denied(&event, true)).take(MAX_CAUSES).collect()
    }
}
