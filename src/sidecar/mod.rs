//! The built-in sidecars: roles of this executable, each PID 1 of its container. They use neither Lua nor an engine.
//!
//! [`role`] defines what a role is, [`run`] runs its process, and [`message`] holds the messages that it exchanges.

mod audit;
pub mod counterpart;
pub mod cred_proxy;
pub mod ctl;
pub mod dialer;
pub mod egress;
pub mod git_gate;
mod hop_by_hop;
pub mod host_service;
mod listener;
pub mod message;
mod outward;
pub mod place;
pub mod receiver;
pub mod role;
pub mod run;
pub(crate) mod socket;
pub(crate) mod stdio;
#[cfg(debug_assertions)]
pub mod stub;
pub mod supervise;

pub use message::{Acknowledgement, Action, Command, CommandOutcome, Message, Never, OutputLine, Resume};
pub(crate) use outward::{public_ca, tls};
pub use role::Role;
pub(crate) use stdio::MAX_LINE;

pub use crate::audit::{Details, Event};
