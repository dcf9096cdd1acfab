//! Unix sockets that processes in containers listen on.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use tokio::net::UnixListener;

/// Mode for the agent and sidecars, which run as other users: they may connect, and see the folder read-only.
pub(crate) const OTHERS: u32 = 0o666;
/// Mode for the operator, who connects by an exec as the same user.
pub(crate) const OWN: u32 = 0o600;

/// Replaces the socket of an earlier run of the same container.
///
/// # Errors
/// The socket cannot be created.
pub(super) fn listen_again(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    let _ = std::fs::remove_file(path);
    listen(path, mode)
}

/// Listens on a socket with a mode.
///
/// # Errors
/// The socket cannot be created.
pub(crate) fn listen(path: &Path, mode: u32) -> anyhow::Result<UnixListener> {
    let listener = UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode))?;
    Ok(listener)
}
