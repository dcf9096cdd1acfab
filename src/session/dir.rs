//! The state directory, and in it a directory for every bottle: the lock that is its sign of life, its record.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{ByteRange, is_held, make_private, random_base36, replace, try_exclusive, try_shared};

/// Characters at the end of a bottle's id.
const SUFFIX: usize = 5;
/// Longest bottle name: it is a host name too, and objects add to it.
const MAX_NAME: usize = 40;

/// The file whose lock is a bottle's sign of life.
const LOCK: &str = "lock";
/// The file that says what a bottle is.
const RECORD: &str = "bottle.json";
/// The part of the lock that the holder and its reaper have: the bottle lives.
const LIFE: ByteRange = ByteRange { start: 0, length: 1 };
/// The part that those share who read what is kept of it.
const READING: ByteRange = ByteRange { start: 1, length: 1 };
/// Both: who launches or removes a bottle has it alone.
const ALL: ByteRange = ByteRange { start: 0, length: 2 };
/// How often it is looked for whether a bottle still lives.
const LOOK: Duration = Duration::from_millis(50);

/// `$XDG_STATE_HOME/bottler`: the bottles of one owner.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    /// The owner label of everything made from here.
    pub owner: String,
    /// What was wrong with the directory and has been put right, in words.
    pub notice: Option<String>,
}

/// What is in the bottles' directory and is no bottle's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownEntry {
    /// Where.
    pub path: PathBuf,
    /// Why it is none.
    pub why: String,
}

/// What a bottle's directory says about it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The bottle's id.
    pub id: String,
    /// The engine's address.
    pub endpoint: String,
    /// The owner label of what it has made; absent where an earlier version has written it.
    #[serde(default)]
    pub owner: Option<String>,
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
    pub words: Vec<Argument>,
    /// The directory.
    pub directory: PathBuf,
    /// What its grants are remembered by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<GrantsKey>,
}

/// What the grants of a bottle are remembered by, for later launches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantsKey {
    /// The bottle's name in the manifest, or its agent's.
    pub name: String,
    /// The folder that it works at.
    pub folder: PathBuf,
}

/// A word of a command line: text, or the bytes of one that is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Argument {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl From<OsString> for Argument {
    fn from(word: OsString) -> Self {
        word.into_string().map_or_else(|word| Self::Bytes(word.into_vec()), Self::Text)
    }
}

impl From<Argument> for OsString {
    fn from(word: Argument) -> Self {
        match word {
            Argument::Text(text) => text.into(),
            Argument::Bytes(bytes) => Self::from_vec(bytes),
        }
    }
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
        make_private(&path.join("bottles"))?;
        let found = super::owner::resolve(path, || Self::unchecked(path, "").named())?;
        Ok(Self { path: path.to_owned(), owner: found.owner, notice: found.notice })
    }

    /// The state directory of a bottle that has been told it, whether it is there still or not; nothing is read.
    pub fn unchecked(path: &Path, owner: &str) -> Self {
        Self { path: path.to_owned(), owner: owner.to_owned(), notice: None }
    }

    /// The bottles that are there, each with the owner that its record names.
    fn named(&self) -> super::owner::BottleOwners {
        let bottles = self.bottles().unwrap_or_default();
        let named = |id: String| {
            let owner = self.record(&id).and_then(|record| record.owner);
            (id, owner)
        };
        bottles.into_iter().map(named).collect()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Claims a bottle's directory. `None` when a living bottle has it, or somebody reads what is kept of a dead one.
    ///
    /// # Errors
    /// It cannot be made or locked.
    pub fn claim(&self, id: &str) -> io::Result<Option<SessionDir>> {
        let path = self.bottle(id);
        loop {
            make_private(&path)?;
            if let Some(why) = why_not_a_bottle(&path) {
                return Err(io::Error::other(format!("{} belongs to no bottle: {why}", path.display())));
            }
            let file = path.join(LOCK);
            let lock = match open_lock(&file, true) {
                // Someone removed the directory in this moment.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                opened => opened?,
            };
            if !try_exclusive(&lock, ALL)? {
                return Ok(None);
            }
            // A lock on a file that is no longer there keeps nobody out.
            if is_same(&lock, &file)? {
                return Ok(Some(SessionDir { reused: path.join(RECORD).exists(), path, lock }));
            }
        }
    }

    /// Holds what is kept of a dead bottle, with others who read it, until the file is dropped. `None` when somebody
    /// launches it again, or removes it.
    ///
    /// # Errors
    /// It is gone, or cannot be locked.
    pub fn lock_for_reading(&self, id: &str) -> io::Result<Option<File>> {
        let file = self.bottle(id).join(LOCK);
        let lock = open_lock(&file, false)?;
        Ok((try_shared(&lock, READING)? && is_same(&lock, &file)?).then_some(lock))
    }

    /// The ids of all bottles that have a directory, living or dead.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn bottles(&self) -> io::Result<Vec<String>> {
        Ok(self.scan()?.0)
    }

    /// The same, and what else is in there: whatever that is, it is nobody's to remove.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn scan(&self) -> io::Result<(Vec<String>, Vec<UnknownEntry>)> {
        let folder = self.path.join("bottles");
        let named = |error: io::Error| io::Error::new(error.kind(), format!("read {}: {error}", folder.display()));
        let (mut ids, mut strays) = (Vec::new(), Vec::new());
        for entry in std::fs::read_dir(&folder).map_err(named)? {
            let path = entry.map_err(named)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).filter(|name| valid_name(name));
            match (name, why_not_a_bottle(&path)) {
                (_, Some(why)) => strays.push(UnknownEntry { path, why }),
                (None, None) => strays.push(UnknownEntry { path, why: "its name is not a bottle's".to_owned() }),
                (Some(name), None) => ids.push(name.to_owned()),
            }
        }
        ids.sort();
        strays.sort_by(|a, b| a.path.cmp(&b.path));
        Ok((ids, strays))
    }

    /// Whether a living process holds a bottle. Looking takes nothing: who claims it in the same moment gets it.
    pub fn is_alive(&self, id: &str) -> bool {
        File::open(self.bottle(id).join(LOCK)).is_ok_and(|lock| is_held(&lock, LIFE).unwrap_or(false))
    }

    /// Waits until no process holds a bottle. Blocks.
    pub fn wait_released(&self, id: &str) {
        while self.is_alive(id) {
            std::thread::sleep(LOOK);
        }
    }

    /// What a bottle's directory says; `None` where it says nothing yet.
    ///
    /// # Errors
    /// It says something that cannot be read; the error names the file.
    pub fn read_record(&self, id: &str) -> io::Result<Option<Record>> {
        let path = self.bottle(id).join(RECORD);
        let named = |why: &dyn std::fmt::Display| {
            io::Error::new(io::ErrorKind::InvalidData, format!("read {}: {why}", path.display()))
        };
        match std::fs::read(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(named(&error)),
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| named(&error)),
        }
    }

    /// What a bottle's directory says, where it says something that can be read.
    pub fn record(&self, id: &str) -> Option<Record> {
        self.read_record(id).ok().flatten()
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
        replace(&self.path.join(RECORD), &serde_json::to_vec(record)?)
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
    // The lock is the last to go: a directory without one is taken for no bottle's.
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name() != LOCK {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // What stays is met again below.
            let _ = if is_folder { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
        }
    }
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

fn open_lock(path: &Path, make: bool) -> io::Result<File> {
    let opened = OpenOptions::new().create(make).truncate(false).read(true).write(true).mode(0o600).open(path);
    opened.map_err(|error| io::Error::new(error.kind(), format!("open {}: {error}", path.display())))
}

/// Why something in the bottles' directory is no bottle's own directory, if it is not: a bottle's has its lock from its
/// first moment on, and one that died before that is empty.
fn why_not_a_bottle(path: &Path) -> Option<String> {
    let seen = match std::fs::symlink_metadata(path) {
        // It is gone in this moment.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(format!("it cannot be looked at: {error}")),
        Ok(seen) => seen,
    };
    if seen.is_symlink() {
        return Some("it is a symbolic link".to_owned());
    }
    if !seen.is_dir() {
        return Some("it is no folder".to_owned());
    }
    if std::fs::symlink_metadata(path.join(LOCK)).is_ok_and(|lock| lock.is_file()) {
        return None;
    }
    match std::fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
        Ok(true) => None,
        Ok(false) => Some(format!("there is no {LOCK} in it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
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
    fn looking_at_a_bottle_never_keeps_a_claim_from_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        drop(state.claim("a-1").unwrap().unwrap());
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    state.is_alive("a-1");
                }
            });
            let refused = (0..2000).filter(|_| state.claim("a-1").unwrap().is_none()).count();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }

    #[test]
    fn what_is_read_is_neither_removed_nor_launched_over_and_does_not_look_alive() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        drop(state.claim("a-1").unwrap().unwrap());
        let (one, two) =
            (state.lock_for_reading("a-1").unwrap().unwrap(), state.lock_for_reading("a-1").unwrap().unwrap());
        assert!(!state.is_alive("a-1") && state.claim("a-1").unwrap().is_none());
        drop((one, two));
        let claimed = state.claim("a-1").unwrap().unwrap();
        assert!(state.lock_for_reading("a-1").unwrap().is_none());
        claimed.remove().unwrap();
        assert!(state.lock_for_reading("a-1").is_err());
    }

    #[test]
    fn what_is_no_bottles_is_named_and_hides_no_bottle() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        drop(state.claim("real-1").unwrap().unwrap());
        let at = |name: &str| folder.path().join("bottles").join(name);
        std::fs::write(at("stray"), "x").unwrap();
        std::fs::write(at(".hidden"), "x").unwrap();
        std::fs::create_dir(at("Photos 2024")).unwrap();
        std::fs::create_dir(at("mine")).unwrap();
        std::fs::write(at("mine/work"), "x").unwrap();
        std::fs::create_dir(at("empty")).unwrap();
        std::os::unix::fs::symlink("/nowhere", at("dangling")).unwrap();
        std::os::unix::fs::symlink(at("real-1"), at("other")).unwrap();
        std::fs::write(at("x").with_file_name(std::ffi::OsStr::from_bytes(b"\xff\xfe")), "x").unwrap();
        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let (bottles, strays) = state.scan().unwrap();
        assert_eq!(bottles, ["empty", "real-1"]);
        assert!(state.claim("mine").is_err() && at("mine/work").exists(), "nor is it launched over");
        assert_eq!(strays.len(), 8, "{strays:?}");
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_error_and_none_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        let dir = state.claim("a-1").unwrap().unwrap();
        assert!(state.read_record("a-1").unwrap().is_none());
        for broken in ["", "{\"id\": \"a-1\", \"endp"] {
            std::fs::write(dir.path.join(RECORD), broken).unwrap();
            assert!(state.read_record("a-1").unwrap_err().to_string().contains("bottle.json"));
        }
        std::fs::remove_file(dir.path.join(RECORD)).unwrap();
        std::fs::create_dir(dir.path.join(RECORD)).unwrap();
        assert!(state.read_record("a-1").is_err());
    }

    #[test]
    fn a_word_that_is_no_text_comes_back_as_it_was() {
        for word in [OsString::from("plain"), OsString::from_vec(vec![b'/', 0xff, b'x'])] {
            let written = serde_json::to_string(&Argument::from(word.clone())).unwrap();
            assert_eq!(OsString::from(serde_json::from_str::<Argument>(&written).unwrap()), word);
        }
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
