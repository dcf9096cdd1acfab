//! The sockets of this side's processes.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use tokio::net::UnixListener;

/// For the agent and sidecars, which run as other users and see the folder read-only: they may connect, nothing else.
pub(crate) const OTHERS: u32 = 0o666;
/// For the operator, by an exec as the same user.
pub(crate) const OWN: u32 = 0o600;

/// The same for a process that may be started again, and finds its own of before.
///
/// # Errors
/// It cannot be made.
pub(super) fn listen_again(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    listen(path, mode)
}

/// Listens on a socket that those of a mode may connect to.
///
/// # Errors
/// It cannot be made.
pub(crate) fn listen(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    Ok(listener)
}
