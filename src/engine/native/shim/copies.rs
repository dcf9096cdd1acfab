//! A container that has ended, opened once more so that files can be copied out of it: in namespaces as it had, never by walking on
//! the host what it wrote. Its upper layer is read only, below one that is thrown away.
//!
//! The working directory is the container's folder.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};

use crate::engine::native::protocol::SOCKET;
use crate::engine::native::store::remove_tree;

/// The folder with the layer that is thrown away.
pub(super) const FOLDER: &str = "copy";
/// The file that is locked by whoever copies: one at a time.
const LOCK: &str = "copying";

/// The right to copy; ends with the process.
pub(super) type Turn = Flock<File>;

/// Waits for its turn, and makes the layer. The engine waits for a bounded time, and ends this process then.
pub(super) fn begin() -> std::io::Result<Turn> {
    let file = OpenOptions::new().create(true).append(true).open(LOCK)?;
    let turn = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| std::io::Error::from(errno))?;
    remove_tree(Path::new(FOLDER))?;
    for folder in [FOLDER, "copy/upper", "copy/work"] {
        DirBuilder::new().mode(0o755).create(folder)?;
    }
    match std::fs::remove_file(SOCKET) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(turn),
    }
}
