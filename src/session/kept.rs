//! Bottles that are gone but for their workspace: what their directory says of it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StateDir;

/// The file that says what is kept.
const FILE: &str = "kept.json";
/// The file that says that the agent's command has been started.
const RELEASED: &str = "released";
/// The file that says which state of the workspace has been pulled.
const PULLED: &str = "pulled";

/// What is kept of a bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The volume's name.
    pub volume: String,
    /// Why it is kept, in words.
    pub why: String,
    /// Files that were changed, where that is known.
    pub changed: Option<usize>,
    /// How much it is, in bytes, where that is known.
    pub size: Option<u64>,
}

impl Kept {
    /// Writes it down in a bottle's directory.
    ///
    /// # Errors
    /// It cannot be written: then nothing is kept.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        std::fs::write(directory.join(FILE), serde_json::to_vec(self)?)
    }

    /// What is kept of the bottle of a directory, as its holder has decided.
    pub fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(directory.join(FILE)).ok()?).ok()
    }

    /// Takes the decision back: the bottle is to go.
    pub fn forget(directory: &Path) {
        let _ = std::fs::remove_file(directory.join(FILE));
        let _ = std::fs::remove_file(directory.join(RELEASED));
    }

    /// What is kept of a bottle whose holder is gone: as it has decided, or, where it had no time to, the workspace of an
    /// agent that had begun to work.
    pub fn of_dead(state: &StateDir, id: &str) -> Option<Self> {
        let directory = state.bottle(id);
        if let Some(kept) = Self::read(&directory) {
            return Some(kept);
        }
        let volume = state.record(id)?.keeps?;
        directory.join(RELEASED).exists().then_some(())?;
        let kept = Self { volume, why: "it was cut short".to_owned(), changed: None, size: None };
        kept.write(&directory).ok()?;
        Some(kept)
    }
}

/// Notes that the agent's command is about to be started.
///
/// # Errors
/// It cannot be written.
pub fn note_released(directory: &Path) -> io::Result<()> {
    std::fs::write(directory.join(RELEASED), "")
}

/// Notes which state of the workspace has been pulled.
///
/// # Errors
/// It cannot be written.
pub fn note_pulled(directory: &Path, digest: &str) -> io::Result<()> {
    std::fs::write(directory.join(PULLED), digest)
}

/// Whether a state of the workspace has been pulled.
pub fn is_pulled(directory: &Path, digest: &str) -> bool {
    std::fs::read_to_string(directory.join(PULLED)).is_ok_and(|pulled| pulled == digest)
}
