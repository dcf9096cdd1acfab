//! What ends a container whose engine has gone, whatever its shim is doing: a thread that waits for nothing else.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustix::process::{Signal, pidfd_send_signal};
use tokio::sync::Notify;

use crate::engine::native::cgroup::kill_all;

/// Bytes of the thread's stack.
const STACK: usize = 128 << 10;

/// What the thread and the shim share.
#[derive(Default)]
pub(super) struct Lifeline {
    /// The container's first process, once there is one.
    pub(super) first: OnceLock<OwnedFd>,
    /// The engine has gone, or a client has asked for the end.
    pub(super) stop: Notify,
}

/// Waits in a thread until the other end of standard input is closed, then kills the container and tells the shim.
///
/// # Errors
/// There is no thread to be had.
pub(super) fn watch(groups: Vec<(String, PathBuf)>) -> std::io::Result<Arc<Lifeline>> {
    let mut input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let lifeline = Arc::new(Lifeline::default());
    let shared = lifeline.clone();
    let watching = move || {
        let mut byte = [0];
        loop {
            match input.read(&mut byte) {
                Ok(1) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        shared.end(&groups);
    };
    std::thread::Builder::new().name("lifeline".into()).stack_size(STACK).spawn(watching)?;
    Ok(lifeline)
}

impl Lifeline {
    /// Kills the container; the shim learns of it.
    pub(super) fn end(&self, groups: &[(String, PathBuf)]) {
        if let Some(first) = self.first.get() {
            // One that has ended already is what was wanted.
            let _ = pidfd_send_signal(first, Signal::KILL);
        }
        kill_all(groups);
        self.stop.notify_one();
    }
}
