//! The native engine's folders. Every object is a folder or file that appears whole, by rename, and whose name is its name on the
//! engine: the file system itself keeps names unique, and a crash leaves the object or nothing.
//!
//! | path | content |
//! | --- | --- |
//! | `images/ID` | `config.json` and `files/` |
//! | `tags/TAG` | the id of an image |
//! | `containers/NAME` | `record.json`, and what its shim makes: socket, log, upper layer, end |
//! | `volumes/NAME` | `labels.json` and `data/`; `passing`, where it ends with its bottle; `users.json`, where subordinate users had it |
//! | `networks/NAME` | labels and address range |
//! | `new/` | what is being made |
//!
//! Images, and volumes that may be kept, outlive a restart of this machine: what is written of them is on the disk before it is
//! used. Containers, networks and passing volumes mean nothing after it, and no launch waits for a disk on their account. What a
//! power loss left of their records is removed when they are listed.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::subordinates;
use crate::engine::labels::Identity;
use crate::host::{check_own, is_running, make_private, process_identity, shell_word, sweep_unfinished};

/// Tells the folders that one process is making apart.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The file in a volume that ends with its bottle.
pub(super) const PASSING: &str = "passing";

/// The file in a volume that says which subordinate users have used it last.
pub(super) const USERS: &str = "users.json";

/// A container's `record.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) plan: Plan,
}

/// A network's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NetworkRecord {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) subnet: ipnet::Ipv4Net,
}

/// A volume's `labels.json`, and what every record has.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Labelled {
    pub(super) labels: BTreeMap<String, String>,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) code: i64,
    pub(super) out_of_memory: bool,
}

/// The folders.
#[derive(Debug, Clone)]
pub(super) struct Store {
    root: PathBuf,
}

impl Store {
    /// # Errors
    /// They cannot be made.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        check_own(root).map_err(|error| {
            let remedy = "run it as the user whose it is, or set XDG_DATA_HOME to a folder of this user's";
            io::Error::new(error.kind(), format!("{error}: {remedy}"))
        })?;
        for folder in ["images", "tags", "containers", "volumes", "networks", "new"] {
            make_private(&root.join(folder))?;
        }
        let store = Self { root: root.to_owned() };
        store.sweep();
        Ok(store)
    }

    /// Removes what processes that have died were making, or removing.
    pub(super) fn sweep(&self) {
        let new = self.root.join("new");
        for name in names(&new) {
            let (made, removed) =
                name.split_once(REMOVED).map_or((&*name, None), |(made, removed)| (made, Some(removed)));
            let maker = made.rsplit_once('-').map_or("", |(maker, _)| maker);
            if is_running(maker) {
                continue;
            }
            let path = new.join(&name);
            let object = removed.and_then(|removed| removed.split_once(REMOVED));
            // What stays is listed again, or tried again by the next command.
            let _ = match object {
                Some((folder, name)) => remove_or_return(&path, &self.root.join(folder).join(name)),
                None => remove_tree(&path),
            };
        }
        for folder in ["", "networks", "tags"] {
            sweep_unfinished(&self.root.join(folder), None);
        }
    }

    pub(super) fn volumes(&self) -> PathBuf {
        self.root.join("volumes")
    }

    pub(super) fn container(&self, name: &str) -> PathBuf {
        self.root.join("containers").join(name)
    }

    pub(super) fn image(&self, id: &str) -> PathBuf {
        self.root.join("images").join(id)
    }

    /// The folders of all images.
    pub(super) fn images(&self) -> Vec<PathBuf> {
        let all = std::fs::read_dir(self.root.join("images")).into_iter().flatten().flatten();
        all.map(|entry| entry.path()).collect()
    }

    pub(super) fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    pub(super) fn network(&self, name: &str) -> PathBuf {
        self.root.join("networks").join(name)
    }

    fn tag(&self, reference: &str) -> PathBuf {
        self.root.join("tags").join(reference.replace('/', "%2F"))
    }

    /// Makes a folder that appears at `path` once `fill` has filled it.
    ///
    /// # Errors
    /// `AlreadyExists` where there is one; or it cannot be filled.
    pub(super) fn create(&self, path: &Path, fill: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let new = self.root.join("new").join(temporary());
        make_private(&new)?;
        let made = fill(&new).and_then(|()| match std::fs::rename(&new, path) {
            // rename(2) over a folder: ENOTEMPTY, or EEXIST.
            Err(error) if path.exists() => Err(io::Error::new(ErrorKind::AlreadyExists, error)),
            renamed => renamed,
        });
        if made.is_err() {
            let _ = remove_tree(&new);
        }
        made
    }

    /// The id behind a reference: a tag, or an id itself.
    pub(super) fn find(&self, reference: &str) -> Option<String> {
        let id = std::fs::read_to_string(self.tag(reference)).unwrap_or_else(|_| reference.to_owned());
        (is_name(&id) && self.image(&id).is_dir()).then_some(id)
    }

    /// # Errors
    /// It cannot be written.
    pub(super) fn set_tag(&self, reference: &str, id: &str) -> io::Result<()> {
        crate::host::replace(&self.tag(reference), id.as_bytes())
    }

    /// Every tag.
    pub(super) fn tags(&self) -> Vec<String> {
        names(&self.root.join("tags")).into_iter().map(|name| name.replace("%2F", "/")).collect()
    }

    /// Removes a tag, and its image where it was the last; false where there was none.
    ///
    /// # Errors
    /// Something cannot be removed.
    pub(super) fn remove_tag(&self, reference: &str) -> io::Result<bool> {
        let Ok(id) = std::fs::read_to_string(self.tag(reference)) else { return Ok(false) };
        std::fs::remove_file(self.tag(reference))?;
        if !self.tags().iter().any(|tag| std::fs::read_to_string(self.tag(tag)).is_ok_and(|other| other == id)) {
            discard(&self.image(&id))?;
        }
        Ok(true)
    }

    /// The names of all containers, volumes and networks, with their labels.
    pub(super) fn labelled(&self) -> Vec<(String, BTreeMap<String, String>)> {
        let mut all = Vec::new();
        for (folder, file) in
            [("containers", Some("record.json")), ("volumes", Some("labels.json")), ("networks", None)]
        {
            let folder = self.root.join(folder);
            for name in names(&folder) {
                let object = folder.join(&name);
                match read(&file.map_or(object.clone(), |file| object.join(file))) {
                    Ok(Labelled { labels }) => all.push((name, labels)),
                    // A volume that cannot be read may have been kept, unless it says otherwise.
                    Err(_)
                        if (file != Some("labels.json") || object.join(PASSING).exists())
                            && is_of_an_earlier_boot(&object) =>
                    {
                        let _ = remove_tree(&object).or_else(|_| std::fs::remove_file(&object));
                    }
                    // What is being removed at this moment cannot be read any more.
                    Err(_) => {}
                }
            }
        }
        all
    }

    /// The names of all containers.
    pub(super) fn containers(&self) -> Vec<String> {
        names(&self.root.join("containers"))
    }

    /// Every network's address range.
    pub(super) fn subnets(&self) -> Vec<ipnet::Ipv4Net> {
        let read = |name: String| read::<NetworkRecord>(&self.network(&name)).ok();
        names(&self.root.join("networks")).into_iter().filter_map(read).map(|network| network.subnet).collect()
    }
}

/// Whether a text can be the name of an object: one step of a path, and none that leads elsewhere.
pub(super) fn is_name(text: &str) -> bool {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.');
    !text.is_empty() && text.len() <= 128 && !text.starts_with('.') && text.chars().all(plain)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| !name.starts_with('.'));
    names.sort_unstable();
    names
}

/// Reads a value of a file of ours.
///
/// # Errors
/// It is not there, or no such value.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    serde_json::from_slice(&std::fs::read(path)?)
        .map_err(|error| io::Error::new(ErrorKind::InvalidData, format!("{}: {error}", path.display())))
}

/// Whether a file or folder was last changed before this machine started (`btime` in proc(5)).
fn is_of_an_earlier_boot(path: &Path) -> bool {
    let started = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let started = started.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<i64>().ok());
    // A second is the precision of the one, and the tolerance of the other.
    std::fs::symlink_metadata(path).is_ok_and(|found| started.is_some_and(|started| found.mtime() + 1 < started))
}

/// Writes a value into a file of ours that means nothing after a restart of this machine.
///
/// # Errors
/// It cannot be written.
pub(super) fn note(path: &Path, value: &impl Serialize) -> io::Result<()> {
    crate::host::replace_in_memory(path, &serde_json::to_vec(value).map_err(io::Error::other)?)
}

/// Writes a value into a file of ours, and has it on the disk.
///
/// # Errors
/// It cannot be written.
pub(super) fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    crate::host::replace(path, &serde_json::to_vec(value).map_err(io::Error::other)?)
}

/// How often a removal is tried again where somebody else removes the same.
const TRIES: usize = 20;

/// Removes a folder with all that is in it, links never followed; of an overlay's work folder, which nobody may enter, too. A
/// container's shim and its engine may both be at it: what the other one has removed is removed.
///
/// # Errors
/// Something cannot be removed.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    remove_trees(&[path.to_owned()])
}

fn remove_trees(paths: &[PathBuf]) -> io::Result<()> {
    let (mut denied, mut failed) = (Vec::new(), None);
    for path in paths {
        match remove_own(path) {
            Err(error) if error.kind() == ErrorKind::PermissionDenied => denied.push(path.as_path()),
            Err(error) => failed = Some(error),
            Ok(()) => {}
        }
    }
    if !denied.is_empty() {
        subordinates::remove(&denied)?;
    }
    failed.map_or(Ok(()), Err)
}

fn remove_own(path: &Path) -> io::Result<()> {
    let mut tried = Ok(());
    for _ in 0..TRIES {
        tried = match std::fs::symlink_metadata(path) {
            Ok(found) if !found.is_dir() => std::fs::remove_file(path),
            Ok(_) => std::fs::remove_dir_all(path).or_else(|error| match error.kind() {
                ErrorKind::PermissionDenied => open_up(path).and_then(|()| std::fs::remove_dir_all(path)),
                _ => Err(error),
            }),
            Err(error) => Err(error),
        };
        match &tried {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) => {}
            _ => break,
        }
        if std::fs::symlink_metadata(path).is_err() {
            return Ok(());
        }
    }
    tried
}

/// A name in `new/`: of this process, which must be running.
fn temporary() -> String {
    let process = process_identity(&std::process::id().to_string()).unwrap_or_default();
    format!("{process}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What stands in a name in `new/` before the folder and the name of an object that is being removed.
const REMOVED: char = '~';

/// The files that say what an object is. They are removed last.
const RECORDS: [&str; 4] = ["record.json", "labels.json", PASSING, USERS];

/// Removes an object's folder. It loses its name at once: whoever is killed meanwhile leaves no half of it there. What cannot be
/// removed has its name again, so that it is listed, and can be removed later.
///
/// # Errors
/// Something cannot be removed.
pub(super) fn discard(object: &Path) -> io::Result<()> {
    let parts =
        || Some((object.parent()?.parent()?, object.parent()?.file_name()?.to_str()?, object.file_name()?.to_str()?));
    let Some((root, folder, name)) = parts() else { return remove_tree(object) };
    let going = root.join("new").join(format!("{}{REMOVED}{folder}{REMOVED}{name}", temporary()));
    match std::fs::rename(object, &going) {
        Ok(()) => remove_or_return(&going, object),
        Err(error) if error.kind() == ErrorKind::NotFound && !object.exists() => Ok(()),
        Err(_) => remove_tree(object),
    }
    .map_err(|error| {
        let (path, word) = (object.display(), shell_word(object));
        io::Error::new(error.kind(), format!("{path} stays: {error}; `sudo rm -rf {word}` removes it"))
    })
}

/// Removes what had an object's name; what is left of it has that again.
fn remove_or_return(going: &Path, object: &Path) -> io::Result<()> {
    let content = std::fs::read_dir(going)?.flatten();
    let but_records = content.filter(|entry| !RECORDS.iter().any(|record| entry.file_name() == *record));
    let removed = remove_trees(&but_records.map(|entry| entry.path()).collect::<Vec<_>>());
    if removed.is_ok() {
        return remove_tree(going);
    }
    let has_a_record = RECORDS.iter().any(|record| going.join(record).exists());
    if has_a_record && !object.exists() {
        std::fs::rename(going, object)?;
    }
    removed
}

/// Makes every folder in a tree one that its owner may change.
fn open_up(path: &Path) -> io::Result<()> {
    let _ = std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(path)?.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            open_up(&entry.path())?;
        }
    }
    Ok(())
}

/// Whose an object is, where it is one of bottler's.
pub(super) fn identity(name: &str, labels: &BTreeMap<String, String>) -> Option<Identity> {
    Identity::from_labels(name, |key| labels.get(key).map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_power_loss_left_of_a_container_is_removed_and_nothing_that_may_be_in_use() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(root.path()).unwrap();
        let before = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        let make = |folder: &str, name: &str, record: Option<&str>, is_old: bool| {
            let path = root.path().join(folder).join(name);
            std::fs::create_dir(&path).unwrap();
            if let Some(text) = record {
                std::fs::write(path.join(if folder == "volumes" { "labels.json" } else { "record.json" }), text)
                    .unwrap();
            }
            if is_old {
                std::fs::File::open(&path).unwrap().set_modified(before).unwrap();
            }
        };
        let whole = r#"{"labels": {"a": "b"}}"#;
        make("containers", "torn", Some(""), true);
        make("containers", "lost", None, true);
        make("containers", "whole", Some(whole), true);
        make("containers", "going", None, false);
        make("volumes", "work", Some(""), true);
        make("volumes", "socket", Some(""), true);
        make("volumes", "new-socket", Some(""), false);
        for name in ["socket", "new-socket"] {
            std::fs::write(store.volume(name).join(PASSING), "").unwrap();
        }
        std::fs::File::open(store.volume("socket")).unwrap().set_modified(before).unwrap();
        std::fs::write(root.path().join("networks/torn"), "").unwrap();
        std::fs::File::options()
            .write(true)
            .open(root.path().join("networks/torn"))
            .unwrap()
            .set_modified(before)
            .unwrap();
        let listed: Vec<String> = store.labelled().into_iter().map(|(name, _)| name).collect();
        assert_eq!(listed, ["whole"]);
        assert_eq!(store.containers(), ["going", "whole"]);
        assert!(store.volume("work").exists() && !store.network("torn").exists());
        assert!(!store.volume("socket").exists() && store.volume("new-socket").exists());
    }

    #[test]
    fn what_a_process_was_making_is_removed_once_that_process_has_ended_and_not_before() {
        let root = tempfile::tempdir().unwrap();
        Store::open(root.path()).unwrap();
        let own = process_identity(&std::process::id().to_string()).unwrap();
        // One of the same number that began at another time has ended; so has one that nobody has waited for.
        let mut zombie = std::process::Command::new("true").spawn().unwrap();
        let number = zombie.id().to_string();
        let ended = process_identity(&number).unwrap_or_else(|| format!("{number}.1"));
        while process_identity(&number).is_some() {
            std::thread::yield_now();
        }
        let earlier = format!("{}.1", std::process::id());
        for maker in [&own, &ended, &earlier, "123", "x"] {
            std::fs::create_dir(root.path().join("new").join(format!("{maker}-0"))).unwrap();
        }
        let unfinished = [number, std::process::id().to_string()].map(|number| format!("networks/.a.b.{number}-1.new"));
        for path in &unfinished {
            std::fs::write(root.path().join(path), "").unwrap();
        }
        Store::open(root.path()).unwrap();
        assert_eq!(unfinished.map(|path| root.path().join(path).exists()), [false, true]);
        assert_eq!(names(&root.path().join("new")), [format!("{own}-0")]);
        zombie.wait().unwrap();
    }
}
