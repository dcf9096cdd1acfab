//! Records what became of a request, and tells everybody.

use std::sync::Arc;

use serde_json::json;

use super::judge::{audited, now};
use super::publish::tell;
use super::reply::reply;
use crate::policy::Scope;
use crate::primitive::bottle::{Bottle, Queue, Request, RequestState, Wish};
use crate::primitive::event::Event;
use crate::sidecar::git_gate::Approval;
use crate::sidecar::supervise::Update;

/// Tells the operator's clients that a request is there, or was decided.
pub(super) fn tell_clients(bottle: &Bottle, request: &Request) {
    bottle.events.tell(Event::Request {
        bottle: bottle.session.id.clone(),
        id: request.id.clone(),
        kind: request.wish.kind().to_owned(),
        pending: request.is_pending(),
    });
}

/// What follows from an approval of a push: the agent's request for it is answered.
pub(in crate::primitive) async fn push_released(bottle: &Arc<Bottle>, approval: &Approval) {
    let scope = if approval.once { Scope::Once } else { Scope::Bottle };
    let generation = bottle.policy().await.map_or(0, |policy| policy.generation);
    let answered = {
        let mut queue = bottle.desk.queue.lock().await;
        let is_it =
            |request: &&Request| matches!(&request.wish, Wish::Git { operation, .. } if *operation == approval.id);
        let found = queue.pending().find(is_it).map(|request| request.id.clone());
        found.and_then(|id| bottle.record(&mut queue, &id, RequestState::Approved { scope, generation, at: now() }))
    };
    if let Some(request) = &answered {
        bottle.tell_decided(request);
    }
}

impl Bottle {
    /// Decides about a request that is still pending, tells the agent, and returns it; `None` if it is not pending.
    pub(super) async fn settle(self: &Arc<Self>, id: &str, state: RequestState) -> Option<Request> {
        let mut queue = self.desk.queue.lock().await;
        queue.get(id).filter(|request| request.is_pending())?;
        let settled = self.record(&mut queue, id, state);
        drop(queue);
        if let Some(request) = &settled {
            self.tell_decided(request);
        }
        settled
    }

    /// The queue, with what an earlier life of the bottle has left.
    pub(super) async fn queue(&self) -> std::io::Result<tokio::sync::OwnedMutexGuard<Queue>> {
        let mut queue = self.desk.queue.clone().lock_owned().await;
        if let Some(directory) = &self.host.staging {
            queue.open(directory)?;
        }
        Ok(queue)
    }

    /// Tells the agent of a decision. Nobody waits for that: a sidecar that is dead asks again when it lives.
    pub(super) fn tell_decided(self: &Arc<Self>, request: &Request) {
        let (bottle, reply) = (self.clone(), reply(request));
        crate::task::spawn(async move { tell(&bottle, Update::Decided(reply)).await });
    }

    /// Records a decision, and reports it.
    pub(super) fn record(&self, queue: &mut Queue, id: &str, state: RequestState) -> Option<Request> {
        let (request, written) = queue.decide(id, state);
        let request = request?;
        if let Err(error) = written {
            let what = format!("error: {}: record the decision about {id}: {error}; it is in effect", self.session.id);
            self.events.tell(Event::Alarm(what));
        }
        let (decision, code, reason) = match &request.state {
            RequestState::Approved { generation, .. } => {
                ("note", "request_approved", format!("{id}: generation {generation}"))
            }
            RequestState::Rejected { by, .. } => ("refuse", "request_rejected", format!("{id}: by {}", json!(by))),
            RequestState::Pending => return Some(request),
        };
        audited(self, &request.wish, decision, code, &reason);
        tell_clients(self, &request);
        Some(request)
    }
}
