//! The answer to the agent about a request. Pure, but for the clock.

use super::judge::now;
use crate::policy::Scope;
use crate::primitive::bottle::{Decider, Request, RequestState, Wish};
use crate::sidecar::supervise::{Reply, Status};

/// The answer to the agent about a request whose grant has ended.
pub(super) fn expired(request: &Request) -> Reply {
    let next = "Ask again, if you still need it.";
    Reply::new(Status::Expired, "it was granted, and the grant has ended", next).about(&request.id)
}

/// The answer to the agent about a request.
pub(super) fn reply(request: &Request) -> Reply {
    let id = request.id.as_str();
    let reply = match &request.state {
        RequestState::Pending => Reply::new(
            Status::Pending,
            "the operator has not decided yet",
            format!(
                "Go on with other work. Call request_status with {{\"id\": \"{id}\", \"wait_s\": 240}} to wait for the decision."
            ),
        ),
        RequestState::Approved { scope, .. } if matches!(request.wish, Wish::Git { .. }) => {
            let how = if *scope == Scope::Once { "for one push" } else { "as long as this bottle runs" };
            Reply::new(Status::Approved, format!("released {how}, exactly as it was refused"), "Push again now.")
        }
        RequestState::Approved { .. } if matches!(request.wish, Wish::Capability { .. }) => Reply::new(
            Status::Approved,
            "the image with it is built; a bottle that runs without it has it after the operator's next `bottler resume`, with \
             your workspace and home",
            "If it is not there yet: save your work, also what you need to remember, and say in your answer that you wait for it.",
        ),
        RequestState::Approved { scope, .. } => {
            let how = match scope {
                Scope::Once => "for one request".to_owned(),
                Scope::Until(until) => format!("for {} s", until.saturating_sub(now())),
                Scope::Bottle | Scope::Always => "as long as this bottle runs".to_owned(),
            };
            Reply::new(Status::Approved, format!("granted {how}, and in effect"), "Make the request now.")
        }
        RequestState::Rejected { reason, by, .. } => {
            let who = match by {
                Decider::Operator => "the operator rejected it",
                Decider::Rule | Decider::Deadline => "rejected",
            };
            let why = if reason.is_empty() { who.to_owned() } else { format!("{who}: {reason}") };
            let next = match by {
                // Nobody has said no.
                Decider::Deadline => "Go on without it. You may ask again later, if you still need it.",
                Decider::Operator | Decider::Rule => {
                    "Do not ask for it again, and look for no way around it. Go on without it, or say in your final answer what you \
                     could not do."
                }
            };
            Reply::new(Status::Rejected, why, next)
        }
    };
    reply.about(id)
}
