//! What the tasks of a shim share.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

use tokio::net::UnixStream;
use tokio::sync::watch;

use super::lifeline::Lifeline;
use super::process::{Parent, Users};
use super::streams::{Input, Outputs};
use super::terminals::Terminals;
use crate::engine::native::child::Setup;
use crate::engine::native::store::End;

/// A container, as its shim knows it.
pub(super) struct Shim {
    pub(super) setup: Setup,
    /// The first process, by its number out here.
    pub(super) first: i32,
    /// What started it.
    pub(super) parent: Parent,
    pub(super) users: Users,
    /// The channel to the first process until it becomes the command.
    pub(super) go: Mutex<Option<UnixStream>>,
    pub(super) started: watch::Sender<bool>,
    pub(super) ended: watch::Sender<Option<End>>,
    pub(super) outputs: Outputs,
    pub(super) input: Input,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) beside: Terminals,
    /// Clients that are still to hear of the end.
    pub(super) waiting: watch::Sender<usize>,
    pub(super) lifeline: Arc<Lifeline>,
    /// Whether the container has ended before, and is there to be copied from.
    pub(super) copying: bool,
}
