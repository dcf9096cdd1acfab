//! The digest of the running executable's content. It is computed once for each executable, and kept in the state directory: to read
//! and digest tens of megabytes takes longer than to launch a bottle on the native engine.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// The file in the state directory.
const FILE: &str = "executable.json";
/// A file that changed so recently may change again without another time of change: the kernel's clock has ticks.
const SETTLED: Duration = Duration::from_secs(2);

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Kept {
    executable: String,
    digest: String,
}

/// Where the digest is kept, and which executable it belongs to.
pub(super) struct Memory {
    file: PathBuf,
    executable: String,
}

impl Memory {
    /// The memory of a state directory. None if the executable cannot be identified without reading it.
    pub(super) fn of(state: &Path, executable: &Path) -> Option<Self> {
        Some(Self { file: state.join(FILE), executable: identity(executable)? })
    }

    /// The digest, if it was computed before.
    pub(super) fn recall(&self) -> Option<String> {
        let kept: Kept = serde_json::from_slice(&std::fs::read(&self.file).ok()?).ok()?;
        (kept.executable == self.executable).then_some(kept.digest)
    }

    /// Keeps it. Where that fails, the next launch computes it again.
    pub(super) fn keep(&self, digest: &str) {
        let kept = Kept { executable: self.executable.clone(), digest: digest.to_owned() };
        let _ = serde_json::to_vec(&kept).map(|text| crate::host::replace(&self.file, &text));
    }
}

/// What no change of the file leaves as it is: no user can set the time of the last change (inode(7), ctime).
fn identity(executable: &Path) -> Option<String> {
    let found = std::fs::metadata(executable).ok()?;
    let changed = Duration::new(u64::try_from(found.ctime()).ok()?, u32::try_from(found.ctime_nsec()).ok()?);
    let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed).ok()?;
    let times = [found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec()].map(|time| time.to_string());
    (age > SETTLED).then(|| format!("{}-{}-{}-{}", found.dev(), found.ino(), found.len(), times.join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_kept_for_the_executable_that_it_is_of() {
        let state = tempfile::tempdir().unwrap();
        let own = Path::new("/proc/self/exe");
        let memory = Memory::of(state.path(), own).unwrap();
        assert_eq!(memory.recall(), None);
        memory.keep("abc");
        assert_eq!(Memory::of(state.path(), own).unwrap().recall().as_deref(), Some("abc"));
        assert_eq!(Memory::of(state.path(), Path::new("/bin/sh")).unwrap().recall(), None);
    }

    #[test]
    fn an_executable_that_has_just_changed_is_read_again() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("new");
        std::fs::write(&path, "x").unwrap();
        assert!(Memory::of(state.path(), &path).is_none());
    }
}
