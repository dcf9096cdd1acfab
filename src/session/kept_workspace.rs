//! Bottles that are gone but for their workspace: what their directory says of it.
//!
//! The workspace of an agent whose command was started stays until a decision says otherwise, and no decision is one: what
//! cannot be written, read or understood is kept. Looking at it changes nothing.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StateDir;
use crate::host::replace;

/// The file that says what is kept.
const FILE: &str = "kept.json";
/// The file that says that the agent's command has been started.
const RELEASED: &str = "released";
/// What is kept of a bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWorkspace {
    /// The volume's name.
    pub volume: String,
    /// Why it is kept, in words.
    pub why: String,
    /// Files that were changed, where that is known.
    pub changed: Option<usize>,
    /// How much it is, in bytes, where that is known.
    pub size: Option<u64>,
    /// What of it nobody has fetched, in lines.
    #[serde(default)]
    pub outstanding: Vec<String>,
}

impl KeptWorkspace {
    /// The volume, of which nothing is known but why it is kept.
    pub fn unknown(volume: &str, why: &str) -> Self {
        Self { volume: volume.to_owned(), why: why.to_owned(), changed: None, size: None, outstanding: Vec::new() }
    }

    /// Writes it down in a bottle's directory.
    ///
    /// # Errors
    /// It cannot be written: it is kept all the same, and only why is not known later.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        replace(&directory.join(FILE), &serde_json::to_vec(self)?)
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
        // A directory that cannot be looked into may say so.
        if !directory.join(RELEASED).try_exists().unwrap_or(true) {
            return None;
        }
        match state.record(id) {
            Some(record) => Some(Self::unknown(&record.keeps?, "it was interrupted")),
            None => Some(Self::unknown(&workspace_volume(id), "its record cannot be read")),
        }
    }
}

/// Whether the agent's command has been started, or was about to be.
pub fn was_released(directory: &Path) -> bool {
    directory.join(RELEASED).exists()
}

/// The name of the volume of a bottle's workspace.
pub fn workspace_volume(id: &str) -> String {
    format!("{id}-workspace")
}

/// Notes that the agent's command is about to be started.
///
/// # Errors
/// It cannot be written.
pub fn note_released(directory: &Path) -> io::Result<()> {
    replace(&directory.join(RELEASED), b"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::Record;

    fn record(id: &str) -> Record {
        Record {
            id: id.to_owned(),
            endpoint: String::new(),
            owner: None,
            agent: String::new(),
            launched: 0,
            keeps: Some(workspace_volume(id)),
            invocation: None,
        }
    }

    #[test]
    fn whatever_is_damaged_is_kept_and_looking_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        let dir = state.claim("a").unwrap().unwrap();
        dir.write_record(&record("a")).unwrap();
        let why = || KeptWorkspace::of_dead(&state, "a").map(|kept| (kept.volume, kept.why));
        assert_eq!(why(), None, "nothing has begun");
        note_released(&dir.path).unwrap();
        let files = || std::fs::read_dir(&dir.path).unwrap().count();
        let before = files();
        assert_eq!(why(), Some(("a-workspace".to_owned(), "it was interrupted".to_owned())));
        assert_eq!(files(), before, "a question writes nothing");
        let kept = KeptWorkspace { why: "decided".to_owned(), ..KeptWorkspace::unknown("a-workspace", "") };
        kept.write(&dir.path).unwrap();
        assert_eq!(KeptWorkspace::of_dead(&state, "a"), Some(kept.clone()));
        std::fs::write(dir.path.join(FILE), "{\"volume\": \"a-wo").unwrap();
        assert_eq!(why().unwrap().1, "it was interrupted");
        std::fs::write(dir.path.join("bottle.json"), "{\"id\"").unwrap();
        assert_eq!(why(), Some(("a-workspace".to_owned(), "its record cannot be read".to_owned())));
        // It cannot be written down, and is kept all the same.
        std::fs::remove_file(dir.path.join(FILE)).unwrap();
        std::fs::create_dir(dir.path.join(FILE)).unwrap();
        assert!(kept.write(&dir.path).is_err());
        assert!(why().is_some());
        KeptWorkspace::forget(&dir.path);
    }
}
