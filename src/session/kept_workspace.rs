//! Kept workspaces: the volumes of a bottle that has ended, described by a file in the bottle's directory.
//!
//! Once the agent's command was started, its workspace is kept unless the holder decided to remove it. Whatever
//! cannot be written, read or parsed is kept. Reading changes nothing. The agent's home is kept where its workspace is,
//! and never alone.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::StateDir;
use crate::host::replace;

/// The file that describes the kept workspace.
const FILE: &str = "kept.json";
/// The file that exists once the agent's command was started.
const RELEASED: &str = "released";

/// A kept workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWorkspace {
    /// The volume's name.
    pub volume: String,
    /// The name of the volume with the agent's home; absent for bottles of earlier versions, whose homes were not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    /// Why it is kept, as text.
    pub why: String,
    /// How many files were changed, if known.
    pub changed: Option<usize>,
    /// Its size in bytes, if known.
    pub size: Option<u64>,
    /// What was not fetched, as lines of text.
    #[serde(default)]
    pub outstanding: Vec<String>,
}

impl KeptWorkspace {
    /// A volume of which only the reason for keeping it is known.
    pub fn unknown(volume: &str, why: &str) -> Self {
        Self {
            volume: volume.to_owned(),
            home: None,
            why: why.to_owned(),
            changed: None,
            size: None,
            outstanding: Vec::new(),
        }
    }

    /// The same, with a home.
    #[must_use]
    pub fn with_home(self, home: Option<String>) -> Self {
        Self { home, ..self }
    }

    /// The names of the volumes that stay.
    pub fn volumes(&self) -> Vec<String> {
        std::iter::once(&self.volume).chain(&self.home).cloned().collect()
    }

    /// Writes it into a bottle's directory.
    ///
    /// # Errors
    /// It cannot be written. The volume is kept anyway; only the reason is lost.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        replace(&directory.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Reads the holder's decision to keep the workspace.
    pub fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(directory.join(FILE)).ok()?).ok()
    }

    /// Removes the decision, because the bottle is to be removed.
    pub fn forget(directory: &Path) {
        let _ = std::fs::remove_file(directory.join(FILE));
        let _ = std::fs::remove_file(directory.join(RELEASED));
    }

    /// What is kept of a bottle whose holder has died: what the holder decided, or else the workspace of an agent
    /// that was started.
    pub fn of_dead(state: &StateDir, id: &str) -> Option<Self> {
        let directory = state.bottle(id);
        if let Some(kept) = Self::read(&directory) {
            // It may have been written by a version that kept no homes, and launched again since.
            let home = kept.home.clone().or_else(|| state.record(id)?.keeps_home);
            return Some(kept.with_home(home));
        }
        // If the directory cannot be read, assume that the agent was started.
        if !directory.join(RELEASED).try_exists().unwrap_or(true) {
            return None;
        }
        let Some(record) = state.record(id) else {
            let kept = Self::unknown(&workspace_volume(id), "its record cannot be read");
            return Some(kept.with_home(Some(home_volume(id))));
        };
        Some(Self::unknown(&record.keeps?, "it was interrupted").with_home(record.keeps_home))
    }
}

/// Whether the agent's command was started, or was about to be.
pub fn was_released(directory: &Path) -> bool {
    directory.join(RELEASED).exists()
}

/// The name of a bottle's workspace volume.
pub fn workspace_volume(id: &str) -> String {
    format!("{id}-workspace")
}

/// The name of the volume with the home of a bottle's agent.
pub fn home_volume(id: &str) -> String {
    format!("{id}-home")
}

/// Records that the agent's command is about to be started.
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
            keeps_home: Some(home_volume(id)),
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
        let volumes = || KeptWorkspace::of_dead(&state, "a").map(|kept| kept.volumes()).unwrap_or_default();
        assert_eq!(volumes(), ["a-workspace", "a-home"]);
        let kept = KeptWorkspace::unknown("a-workspace", "decided").with_home(Some("a-home".to_owned()));
        kept.write(&dir.path).unwrap();
        assert_eq!(KeptWorkspace::of_dead(&state, "a"), Some(kept.clone()));
        // As a version wrote it that kept no homes; since then the bottle may have had another life.
        let earlier = "{\"volume\": \"a-workspace\", \"why\": \"decided\", \"changed\": null, \"size\": 7}";
        std::fs::write(dir.path.join(FILE), earlier).unwrap();
        assert_eq!((volumes().len(), why().unwrap().1), (2, "decided".to_owned()));
        dir.write_record(&Record { keeps_home: None, ..record("a") }).unwrap();
        assert_eq!(volumes(), ["a-workspace"]);
        dir.write_record(&record("a")).unwrap();
        std::fs::write(dir.path.join(FILE), "{\"volume\": \"a-wo").unwrap();
        assert_eq!(why().unwrap().1, "it was interrupted");
        std::fs::write(dir.path.join("bottle.json"), "{\"id\"").unwrap();
        assert_eq!(why(), Some(("a-workspace".to_owned(), "its record cannot be read".to_owned())));
        assert_eq!(volumes(), ["a-workspace", "a-home"]);
        // It cannot be written down, and is kept all the same.
        std::fs::remove_file(dir.path.join(FILE)).unwrap();
        std::fs::create_dir(dir.path.join(FILE)).unwrap();
        assert!(kept.write(&dir.path).is_err());
        assert!(why().is_some());
        KeptWorkspace::forget(&dir.path);
    }
}
