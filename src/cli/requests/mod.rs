//! Commands for the requests of agents: list, show, approve, reject, watch.

mod ask;
pub(super) mod command;
mod keys;
mod model;
mod view;
mod watch;
