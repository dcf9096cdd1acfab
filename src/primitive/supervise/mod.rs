//! The operator's side of a bottle's requests: answers what can be answered at once, keeps the rest for the operator, carries
//! decisions out, and shows the agent the bottle's configuration.
//!
//! Rules:
//! * Nobody is asked about what would stay refused, is allowed already, or was answered before.
//! * A decision is about what was shown: it names the hash. If the policy has changed since, it is refused, and the request is shown
//!   again.
//! * One decision counts: the queue is locked from the check until the decision is recorded.
//! * An image is built while other requests are answered; it is the bottle's once it is complete and written down.
//! * The agent is told after egress has acknowledged the policy that has the grant.
//!
//! Attacks that this stops: an agent that tires the operator with many requests, or many spellings of one; an agent whose request
//! holds a secret of the bottle, which would reach a file and a screen; a second decision on the same request.

mod answer;
mod build;
mod capability;
mod decide;
mod declared;
mod denial;
mod fragment;
mod judge;
mod notify;
mod offered;
mod publish;
mod read;
mod remedy;
mod reply;
mod settle;
mod webhook;

pub(in crate::primitive) use answer::asked;
pub use capability::ImageOffer;
pub use decide::ShownRequest;
pub use fragment::BuildStep;
pub use offered::Offered;
pub(in crate::primitive) use publish::{policy_changed, publish};
pub(in crate::primitive) use settle::push_released;
