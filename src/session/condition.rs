//! The health of a running bottle, for `ps` and `inspect`. The holder writes it into the bottle's directory.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::host::replace;

/// The file's name.
const FILE: &str = "condition.json";

/// The health of a bottle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// Why the agent is paused, if it is.
    pub paused: Option<String>,
    /// Sidecars that died or do not answer, with the reason.
    pub sidecars: BTreeMap<String, String>,
}

impl Condition {
    /// Writes it into a bottle's directory atomically.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        replace(&directory.join(FILE), &serde_json::to_vec(self)?)
    }

    /// Reads what the holder wrote; without a file the bottle is healthy.
    pub fn read(directory: &Path) -> Self {
        std::fs::read(directory.join(FILE)).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
    }

    /// Removes the file of an earlier launch.
    pub fn forget(directory: &Path) {
        let _ = std::fs::remove_file(directory.join(FILE));
    }

    /// The state of a running bottle, as text.
    pub fn words(&self) -> String {
        if let Some(why) = &self.paused {
            return format!("paused: {why}");
        }
        let wrong: Vec<String> = self.sidecars.iter().map(|(name, why)| format!("{name} {why}")).collect();
        if wrong.is_empty() { "running".to_owned() } else { format!("running: {}", wrong.join("; ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Condition::read(folder.path()).words(), "running");
        let mut condition = Condition::default();
        condition.sidecars.insert("redis".into(), "died (exit 1)".into());
        condition.write(folder.path()).unwrap();
        assert_eq!(Condition::read(folder.path()).words(), "running: redis died (exit 1)");
        condition.paused = Some("egress died (exit 137)".into());
        condition.write(folder.path()).unwrap();
        assert_eq!(Condition::read(folder.path()).words(), "paused: egress died (exit 137)");
        Condition::forget(folder.path());
        assert_eq!(Condition::read(folder.path()), Condition::default());
    }
}
