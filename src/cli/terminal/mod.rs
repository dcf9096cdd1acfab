//! The user's terminal: giving it to an agent and back, writing, asking questions.

mod detach;
mod handover;
mod output;
mod question;
mod signals;

pub(super) use detach::DetachKeys;
pub(super) use handover::{Handover, MutedTerminal, give, is_there, size};
pub(super) use output::{Writer, follow_output};
pub(super) use question::{confirm, read_answer, read_secret};
pub(super) use signals::Signals;
