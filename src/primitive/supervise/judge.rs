//! What a request is under the policy of a bottle, and the record of what became of it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::declared::{declared, place};
use crate::audit;
use crate::policy::{CredentialReach, LivePolicy, Scope, Verdict, Wanted, examine};
use crate::primitive::bottle::{Bottle, Request, RequestState, Wish};
use crate::primitive::event::Event;

/// What a wish needs of the allowlist: a host; or the host of a credential that is declared for it, where the policy has changed since
/// the launch. Nothing widens where a credential goes.
pub(super) fn wanted(bottle: &Bottle, wish: &Wish) -> Option<Wanted> {
    match wish {
        Wish::Egress(wanted) => Some(wanted.clone()),
        Wish::Credential { name, host } => {
            let place = place(declared(&bottle.plan, name, host)?, host)?;
            let wanted = Wanted { host: host.clone(), methods: place.methods.clone(), paths: place.paths.clone() };
            wanted.normal().ok()
        }
        Wish::Git { .. } | Wish::Capability { .. } => None,
    }
}

/// Whether a grant of the allowlist has ended: its time is over, its one request was made, or it was of an earlier life of the bottle.
pub(super) fn has_ended(bottle: &Bottle, policy: &LivePolicy, request: &Request) -> bool {
    let (RequestState::Approved { .. }, Some(wanted)) = (&request.state, wanted(bottle, &request.wish)) else {
        return false;
    };
    match judge(bottle, policy, &wanted) {
        Verdict::Allowed => false,
        Verdict::Refused(_) | Verdict::Invalid(_) => true,
        // What is granted for one request can be asked for again all the same.
        Verdict::Candidate(candidate) => {
            !policy.grants.iter().any(|grant| grant.allow == candidate.entry && grant.scope == Scope::Once)
        }
    }
}

/// What a request for a host is, under a policy.
pub(super) fn judge(bottle: &Bottle, policy: &LivePolicy, wanted: &Wanted) -> Verdict {
    let places = bottle.plan.credentials.iter();
    let reach: Vec<CredentialReach<'_>> = places
        .flat_map(|plan| plan.places.iter().map(|place| CredentialReach { name: &plan.name, host: &place.host }))
        .collect();
    examine(policy, wanted, &reach, now())
}

/// Records a decision about a request. The agent's own words are in the queue, and not in the audit log, which is shared.
pub(super) fn audited(bottle: &Bottle, wish: &Wish, decision: &str, code: &str, reason: &str) {
    let destination = match wish {
        Wish::Egress(wanted) => wanted.host.chars().take(260).collect(),
        Wish::Credential { host, .. } => host.chars().take(260).collect(),
        Wish::Git { .. } | Wish::Capability { .. } => String::new(),
    };
    bottle.events.tell(Event::Audit(audit::Event {
        time: audit::now(),
        count: 1,
        kind: audit::Details {
            subject: audit::Subject::Proposal,
            sidecar: "supervise".to_owned(),
            bottle: bottle.session.id.clone(),
            client: String::new(),
            decision: decision.to_owned(),
            code: code.to_owned(),
            reason: reason.chars().take(400).collect(),
            form: String::new(),
            method: String::new(),
            destination,
        },
    }));
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}
