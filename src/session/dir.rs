//! The state directory, and in it a directory for every bottle: the lock that is its sign of life, its record.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Characters at the end of a bottle's id.
const SUFFIX: usize = 5;
/// Longest bottle name: it is a host name too, and objects add to it.
const MAX_NAME: usize = 40;

/// The file whose lock is a bottle's sign of life.
const LOCK: &str = "lock";
/// The file that says what a bottle is.
const RECORD: &str = "bottle.json";

/// `$XDG_STATE_HOME/bottler`: the bottles of one owner.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    /// The owner label of everything made from here.
    pub owner: String,
}

/// What a bottle's directory says about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The bottle's id.
    pub id: String,
    /// The engine's address.
    pub endpoint: String,
    /// The agent's name.
    pub agent: String,
    /// When it was launched, in seconds since 1970.
    pub launched: u64,
    /// The volume that outlives it if its holder has no time to decide.
    #[serde(default)]
    pub keeps: Option<String>,
    /// How it was asked for, to be asked for again.
    #[serde(default)]
    pub invocation: Option<Invocation>,
}

/// A command line, and where it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Its words, without the program's own name.
    pub words: Vec<String>,
    /// The directory.
    pub directory: PathBuf,
}

/// A bottle's own directory, with its lock held: by the holder, and by the reaper that inherits it.
#[derive(Debug)]
pub struct SessionDir {
    /// Where it is.
    pub path: PathBuf,
    /// The locked file.
    pub lock: File,
    /// Whether a bottle that is dead now has been here before.
    pub reused: bool,
}

impl StateDir {
    /// Opens the state directory of this user, making it if need be.
    ///
    /// # Errors
    /// There is no place for it, or it cannot be made.
    pub fn open() -> io::Result<Self> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")));
        let base = base.ok_or_else(|| io::Error::other("neither XDG_STATE_HOME nor HOME is set"))?;
        Self::at(&base.join("bottler"))
    }

    /// Opens a state directory at a path.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn at(path: &Path) -> io::Result<Self> {
        make_private(path)?;
        make_private(&path.join("bottles"))?;
        Ok(Self { path: path.to_owned(), owner: super::owner::of(path)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Claims a bottle's directory. `None` when a living bottle has it.
    ///
    /// # Errors
    /// It cannot be made or locked.
    pub fn claim(&self, id: &str) -> io::Result<Option<SessionDir>> {
        let path = self.bottle(id);
        loop {
            make_private(&path)?;
            let file = path.join(LOCK);
            let lock = match File::create(&file) {
                // Someone removed the directory in this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            match lock.try_lock() {
                // A lock on a file that is no longer there keeps nobody out.
                Ok(()) if !is_same(&lock, &file)? => {}
                Ok(()) => return Ok(Some(SessionDir { reused: path.join(RECORD).exists(), path, lock })),
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The ids of all bottles that have a directory, living or dead.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn bottles(&self) -> io::Result<Vec<String>> {
        let mut ids = Vec::new();
        for entry in std::fs::read_dir(self.path.join("bottles"))? {
            ids.extend(entry?.file_name().into_string().ok());
        }
        ids.sort();
        Ok(ids)
    }

    /// Whether a living process holds a bottle.
    pub fn is_alive(&self, id: &str) -> bool {
        let Ok(lock) = File::open(self.bottle(id).join(LOCK)) else { return false };
        matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Waits until no process holds a bottle. Blocks.
    pub fn wait_released(&self, id: &str) {
        if let Ok(lock) = File::open(self.bottle(id).join(LOCK)) {
            // An error here is a lock that cannot be waited for; the caller looks at what is left either way.
            let _ = lock.lock_shared();
        }
    }

    /// What a bottle's directory says, if it says anything yet.
    pub fn record(&self, id: &str) -> Option<Record> {
        serde_json::from_slice(&std::fs::read(self.bottle(id).join(RECORD)).ok()?).ok()
    }

    /// A bottle's directory, there or not.
    pub fn bottle(&self, id: &str) -> PathBuf {
        self.path.join("bottles").join(id)
    }
}

impl SessionDir {
    /// Writes what the bottle is.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        std::fs::write(self.path.join(RECORD), serde_json::to_vec(record)?)
    }

    /// Removes the directory: the bottle is gone.
    ///
    /// # Errors
    /// It cannot be removed, for another reason than being gone.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Removes a bottle's directory, and what it made on the host outside of it.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    super::placeholder::remove(path);
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn is_same(open: &File, path: &Path) -> io::Result<bool> {
    let open = open.metadata()?;
    match std::fs::metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (open.dev(), open.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

pub(super) fn make_private(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// A fresh id: the slug and five characters.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_id(slug: &str) -> io::Result<String> {
    Ok(format!("{slug}-{}", random_base36(SUFFIX)?))
}

/// Whether a name can be a bottle's: lower-case letters, digits and hyphens, a letter first, of a bounded length.
pub fn valid_name(name: &str) -> bool {
    name.len() <= MAX_NAME
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

/// Random characters of 0–9a–z, without bias.
pub(super) fn random_base36(count: usize) -> io::Result<String> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    /// The largest multiple of 36 in a byte's range; what lies above would favour the first digits.
    const FAIR: u8 = 252;
    let mut text = String::new();
    while text.len() < count {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let fair = bytes.into_iter().filter(|&byte| byte < FAIR);
        text.extend(fair.map(|byte| char::from(DIGITS[usize::from(byte % 36)])).take(count - text.len()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_directory_is_alive_until_the_last_holder_lets_go() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        assert!(!state.is_alive("a-1"));
        let dir = state.claim("a-1").unwrap().unwrap();
        let inherited = dir.lock.try_clone().unwrap();
        assert!(state.is_alive("a-1"));
        assert!(state.claim("a-1").unwrap().is_none());
        drop(dir);
        assert!(state.is_alive("a-1"), "the reaper's copy keeps it alive");
        drop(inherited);
        assert!(!state.is_alive("a-1"));
        state.claim("a-1").unwrap().unwrap().remove().unwrap();
        assert_eq!(state.bottles().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn owners_differ_by_state_directory_and_are_stable() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let owner = StateDir::at(one.path()).unwrap().owner;
        assert_eq!(StateDir::at(one.path()).unwrap().owner, owner);
        assert_ne!(StateDir::at(two.path()).unwrap().owner, owner);
    }

    #[test]
    fn names_are_host_names_too() {
        for name in ["probe", "try-1", "a"] {
            assert!(valid_name(name), "{name}");
        }
        for name in ["", "-a", "a-", "A", "1a", "a_b", "a/b", "../a", &"a".repeat(41)] {
            assert!(!valid_name(name), "{name}");
        }
    }
}
