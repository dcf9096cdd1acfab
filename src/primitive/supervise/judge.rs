//! What a request is under the policy of a bottle, and the record of what became of it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::audit;
use crate::policy::{CredentialReach, LivePolicy, Verdict, Wanted, examine};
use crate::primitive::bottle::{Bottle, Wish};
use crate::primitive::event::Event;

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
        _ => String::new(),
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
