//! The state directory, and a directory in it for every bottle. A locked file shows that the bottle is running; a
//! record says what it is.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::host::{
    ByteRange, check_own, is_held, make_private, random_base36, replace, sweep_unfinished, try_exclusive, try_shared,
};

/// Characters at the end of a bottle's id.
const SUFFIX: usize = 5;
/// Longest bottle name: it is a host name too, and objects add to it.
const MAX_NAME: usize = 40;

/// The file that is locked while the bottle runs.
const LOCK: &str = "lock";
/// The folder beside the bottles', where their directories are created and removed.
const ASIDE: &str = "aside";
/// The length of a name there, and how old a directory is there that was left.
const ASIDE_NAME: usize = 12;
const LEFT: Duration = Duration::from_mins(1);
/// The file with the bottle's record.
const RECORD: &str = "bottle.json";
/// The file with the bottle's plan.
pub const PLAN_FILE: &str = "plan.json";
/// The byte that the holder and its reaper lock: the bottle is running.
const LIFE: ByteRange = ByteRange { start: 0, length: 1 };
/// The byte that readers of a kept workspace share.
const READING: ByteRange = ByteRange { start: 1, length: 1 };
/// Both bytes: locked exclusively to launch or remove a bottle.
const ALL: ByteRange = ByteRange { start: 0, length: 2 };
/// How often to check whether a bottle is still running.
const LOOK: Duration = Duration::from_millis(5);

/// `$XDG_STATE_HOME/bottler`: the bottles of one owner.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    /// The owner label of all objects created from this directory.
    pub owner: String,
    /// What was wrong with the directory and was repaired, as text.
    pub notice: Option<String>,
}

/// An entry in the bottles' directory that is not a bottle's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnknownEntry {
    /// Its path.
    pub path: PathBuf,
    /// Why it is not a bottle's directory.
    pub why: String,
}

/// The record of a bottle, stored in its directory.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The bottle's id.
    pub id: String,
    /// The engine's address.
    pub endpoint: String,
    /// The owner label of its objects; absent in records of earlier versions.
    #[serde(default)]
    pub owner: Option<String>,
    /// The agent's name.
    pub agent: String,
    /// When it was launched, in seconds since 1970.
    pub launched: u64,
    /// The volume that is kept if the holder dies before it decides.
    #[serde(default)]
    pub keeps: Option<String>,
    /// The volume with the agent's home, which is kept with it.
    #[serde(default)]
    pub keeps_home: Option<String>,
    /// The command line that launched it, for `resume`.
    #[serde(default)]
    pub invocation: Option<Invocation>,
}

/// A command line and its working directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invocation {
    /// Its arguments, without the program's name.
    pub words: Vec<Argument>,
    /// The directory.
    pub directory: PathBuf,
    /// The key of its saved grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grants: Option<GrantsKey>,
}

/// The key under which a bottle's grants are saved for later launches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantsKey {
    /// The bottle's name in the manifest, or its agent's.
    pub name: String,
    /// The folder that the agent works on.
    pub folder: PathBuf,
}

/// A command-line argument: text, or bytes if it is not UTF-8.
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

/// A bottle's directory, locked by the holder and by the reaper, which inherits the lock.
#[derive(Debug)]
pub struct SessionDir {
    /// Where it is.
    pub path: PathBuf,
    /// The locked file.
    pub lock: File,
    /// Whether an earlier bottle used this directory.
    pub reused: bool,
}

impl StateDir {
    /// Opens this user's state directory and creates it if necessary.
    ///
    /// # Errors
    /// Neither `XDG_STATE_HOME` nor `HOME` is set, or it is another user's, or it cannot be created.
    pub fn open() -> io::Result<Self> {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = var("XDG_STATE_HOME").or_else(|| Some(var("HOME")?.join(".local/state")));
        let base = base.ok_or_else(|| io::Error::other("neither XDG_STATE_HOME nor HOME is set"))?;
        let path = base.join("bottler");
        check_own(&path)?;
        Self::at(&path)
    }

    /// Opens a state directory at a path.
    ///
    /// # Errors
    /// It cannot be created or read.
    pub fn at(path: &Path) -> io::Result<Self> {
        make_private(&path.join("bottles"))?;
        let found = super::owner::resolve(path, || Self::unchecked(path, "").named())?;
        Ok(Self { path: path.to_owned(), owner: found.owner, notice: found.notice })
    }

    /// A state directory with a known owner. Reads nothing; the directory need not exist.
    pub fn unchecked(path: &Path, owner: &str) -> Self {
        Self { path: path.to_owned(), owner: owner.to_owned(), notice: None }
    }

    /// All bottles, each with the owner in its record.
    fn named(&self) -> super::owner::BottleOwners {
        let bottles = self.bottles().unwrap_or_default();
        let named = |id: String| {
            let owner = self.record(&id).and_then(|record| record.owner);
            (id, owner)
        };
        bottles.into_iter().map(named).collect()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Locks a bottle's directory exclusively and creates it if necessary. `None` if the bottle is running, or another
    /// process reads its kept workspace.
    ///
    /// # Errors
    /// It cannot be created or locked.
    pub fn claim(&self, id: &str) -> io::Result<Option<SessionDir>> {
        let path = self.bottle(id);
        loop {
            if let Some(why) = why_not_a_bottle(&path) {
                return Err(io::Error::other(format!("{} belongs to no bottle: {why}", path.display())));
            }
            let file = path.join(LOCK);
            let lock = match open_lock(&file, true) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => match self.create(&path)? {
                    Some(lock) => return Ok(Some(SessionDir { reused: false, path, lock })),
                    // Another process has just created the directory.
                    None => continue,
                },
                opened => opened?,
            };
            if !try_exclusive(&lock, ALL)? {
                return Ok(None);
            }
            // A lock on a deleted file protects nothing.
            if is_same(&lock, &file)? {
                sweep_unfinished(&path, None);
                return Ok(Some(SessionDir { reused: path.join(RECORD).exists(), path, lock }));
            }
        }
    }

    /// Creates a bottle's directory with a lock that is held: another process, which may be cleaning up, never sees one without.
    /// `None` if there is one by now.
    fn create(&self, path: &Path) -> io::Result<Option<File>> {
        make_private(&self.path.join("bottles"))?;
        let aside = aside(path)?;
        make_private(&aside)?;
        let made = open_lock(&aside.join(LOCK), true).and_then(|lock| {
            try_exclusive(&lock, ALL)?;
            std::fs::rename(&aside, path).map(|()| lock)
        });
        match made {
            Ok(lock) => Ok(Some(lock)),
            Err(error) => {
                let _ = std::fs::remove_dir_all(&aside);
                let exists = matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists);
                if exists {
                    Ok(None)
                } else {
                    Err(io::Error::new(error.kind(), format!("create {}: {error}", path.display())))
                }
            }
        }
    }

    /// Locks a kept bottle for reading, shared with other readers, until the file is dropped. `None` if another process
    /// launches or removes it.
    ///
    /// # Errors
    /// It is gone, or cannot be locked.
    pub fn lock_for_reading(&self, id: &str) -> io::Result<Option<File>> {
        let file = self.bottle(id).join(LOCK);
        let lock = open_lock(&file, false)?;
        Ok((try_shared(&lock, READING)? && is_same(&lock, &file)?).then_some(lock))
    }

    /// The ids of all bottles that have a directory, running or not.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn bottles(&self) -> io::Result<Vec<String>> {
        Ok(self.scan()?.0)
    }

    /// The ids of all bottles, and entries that are not bottles' directories. bottler never removes those.
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

    /// Whether a process holds the bottle's lock. The check itself takes no lock.
    pub fn is_alive(&self, id: &str) -> bool {
        File::open(self.bottle(id).join(LOCK)).is_ok_and(|lock| is_held(&lock, LIFE).unwrap_or(false))
    }

    /// Blocks until no process holds the bottle's lock.
    pub fn wait_released(&self, id: &str) {
        while self.is_alive(id) {
            std::thread::sleep(LOOK);
        }
    }

    /// Reads a bottle's record; `None` if there is none yet.
    ///
    /// # Errors
    /// The record cannot be read, or is no record (`InvalidData`); the error names the file.
    pub fn read_record(&self, id: &str) -> io::Result<Option<Record>> {
        let path = self.bottle(id).join(RECORD);
        let named = |kind, why: &dyn std::fmt::Display| io::Error::new(kind, format!("read {}: {why}", path.display()));
        match std::fs::read(&path) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(named(error.kind(), &error)),
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|error| named(io::ErrorKind::InvalidData, &error))
            }
        }
    }

    /// Reads a bottle's record; `None` if there is none or it cannot be read.
    pub fn record(&self, id: &str) -> Option<Record> {
        self.read_record(id).ok().flatten()
    }

    /// The path of a bottle's directory, which need not exist.
    pub fn bottle(&self, id: &str) -> PathBuf {
        self.path.join("bottles").join(id)
    }
}

impl SessionDir {
    /// Writes the bottle's record.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write_record(&self, record: &Record) -> io::Result<()> {
        replace(&self.path.join(RECORD), &serde_json::to_vec(record)?)
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// It exists and cannot be removed.
    pub fn remove(&self) -> io::Result<()> {
        remove(&self.path)
    }
}

/// Removes a bottle's directory, and its placeholders elsewhere on the host.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    super::placeholder::remove(path);
    // The lock stays in it as long as it has the bottle's name.
    for entry in std::fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_name() != LOCK {
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            // The last call reports what could not be removed.
            let _ = if is_folder { std::fs::remove_dir_all(entry.path()) } else { std::fs::remove_file(entry.path()) };
        }
    }
    // Under another name first, if there is room for one: a full disk keeps nothing from being removed.
    let moved = aside(path).and_then(|aside| std::fs::rename(path, &aside).map(|()| aside));
    match std::fs::remove_dir_all(moved.as_deref().unwrap_or(path)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A new name beside the bottles' directory, for a directory that is no bottle's yet, or no more. What a process has left
/// there, because it was killed, is removed.
fn aside(path: &Path) -> io::Result<PathBuf> {
    let state = path.parent().and_then(Path::parent).unwrap_or(path);
    let folder = state.join(ASIDE);
    make_private(&folder)?;
    for entry in std::fs::read_dir(&folder)?.flatten() {
        let old =
            entry.metadata().and_then(|seen| seen.modified()).is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT));
        if old {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(folder.join(random_base36(ASIDE_NAME)?))
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

/// Why an entry is not a bottle's directory; `None` if it is one. A bottle's directory contains a lock, or is empty
/// if its holder died before it created the lock.
fn why_not_a_bottle(path: &Path) -> Option<String> {
    let seen = match std::fs::symlink_metadata(path) {
        // It has just been removed.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some(format!("it cannot be inspected: {error}")),
        Ok(seen) => seen,
    };
    if seen.is_symlink() {
        return Some("it is a symbolic link".to_owned());
    }
    if !seen.is_dir() {
        return Some("it is not a folder".to_owned());
    }
    if std::fs::symlink_metadata(path.join(LOCK)).is_ok_and(|lock| lock.is_file()) {
        return None;
    }
    match std::fs::read_dir(path).map(|entries| entries.flatten().map(|entry| entry.file_name()).collect::<Vec<_>>()) {
        // It has just been created.
        Ok(names) if names.is_empty() || names.iter().any(|name| name == LOCK) => None,
        Ok(_) => Some(format!("there is no {LOCK} in it")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("it cannot be read: {error}")),
    }
}

/// A new id: the slug and five random characters.
///
/// # Errors
/// The system gives no random bytes.
pub fn new_id(slug: &str) -> io::Result<String> {
    Ok(format!("{slug}-{}", random_base36(SUFFIX)?))
}

/// Whether a name is a valid bottle name: lower-case letters, digits and hyphens, starting with a letter, at most 40
/// characters.
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
    fn a_clean_up_never_keeps_a_launch_from_a_new_name() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            // As gc does: what is not alive is claimed, and removed.
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    for id in state.bottles().unwrap().into_iter().filter(|id| !state.is_alive(id)) {
                        if let Some(dir) = state.claim(&id).unwrap() {
                            dir.remove().unwrap();
                        }
                    }
                    assert_eq!(state.scan().unwrap().1, []);
                }
            });
            let launch = |number: usize| {
                let dir = state.claim(&format!("a-{number}"))?.ok_or_else(|| io::Error::other("it is running"))?;
                std::fs::write(dir.path.join(RECORD), "{}")?;
                dir.remove()
            };
            let failed: Vec<io::Error> = (0..2000).filter_map(|number| launch(number).err()).collect();
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(failed.is_empty(), "{failed:?}");
        });
        assert_eq!(state.bottles().unwrap(), Vec::<String>::new());
        assert_eq!(std::fs::read_dir(folder.path().join(ASIDE)).unwrap().count(), 0);
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
