//! The owner of bottles: derived from this machine, this user and this state directory.
//!
//! Objects on an engine are found by their owner label, so the directory's id must not be lost: it is written
//! atomically. If it is lost nevertheless, the owner is taken from the bottles' records. A new id is created only if
//! no bottle exists that it would orphan.

use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::host::{random_base36, replace, wait_exclusive};

/// Hexadecimal digits of an owner: enough to make a collision on one engine practically impossible.
const DIGITS: usize = 16;
/// Characters of a directory's id.
const ID: usize = 24;
/// Prefix of an id file that contains an owner instead of an id.
const ADOPTED: &str = "owner:";

/// The owner whose bottles are kept under a state directory.
pub struct OwnerLookup {
    /// The owner label.
    pub owner: String,
    /// What was wrong and was repaired, as text.
    pub notice: Option<String>,
}

/// Bottles, each with the owner in its record.
pub type BottleOwners = Vec<(String, Option<String>)>;

/// The content of the id file.
#[derive(Debug, PartialEq, Eq)]
enum Id {
    /// The directory's id, from which the owner is derived.
    Own(String),
    /// An owner that was recovered from records.
    Adopted(String),
    /// Neither, with the reason.
    Broken(&'static str),
}

/// Finds the owner of a state directory. The id is created on first use. `named` lists the bottles with the owners in
/// their records.
///
/// # Errors
/// The id cannot be read or written, or it is lost and the bottles' records do not name one owner.
pub fn resolve(state: &Path, named: impl FnOnce() -> BottleOwners) -> std::io::Result<OwnerLookup> {
    let file = state.join("id");
    match read(&file)? {
        Id::Broken(_) => recover(state, &file, named),
        known => Ok(OwnerLookup { owner: owner(known), notice: None }),
    }
}

fn read(file: &Path) -> std::io::Result<Id> {
    match std::fs::read(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Id::Broken("is missing")),
        Err(error) => Err(std::io::Error::new(error.kind(), format!("read {}: {error}", file.display()))),
        Ok(text) => Ok(parse(&text)),
    }
}

fn parse(text: &[u8]) -> Id {
    let Ok(text) = std::str::from_utf8(text) else { return Id::Broken("is not UTF-8") };
    let text = text.trim_end_matches('\n');
    let base36 = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    match text.strip_prefix(ADOPTED) {
        Some(owner) if is_owner(owner) => Id::Adopted(owner.to_owned()),
        None if text.len() == ID && text.chars().all(base36) => Id::Own(text.to_owned()),
        _ if text.is_empty() => Id::Broken("is empty"),
        _ => Id::Broken("has unexpected content"),
    }
}

fn is_owner(text: &str) -> bool {
    text.len() == DIGITS && text.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
}

fn owner(id: Id) -> String {
    let id = match id {
        Id::Adopted(owner) => return owner,
        Id::Own(id) => id,
        Id::Broken(_) => String::new(),
    };
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let mut digest = Sha256::new();
    for part in [machine.trim(), &nix::unistd::getuid().to_string(), &id] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let hex = HEXLOWER.encode(&digest.finalize());
    hex[..DIGITS].to_owned()
}

/// Repairs the id, under a lock.
fn recover(state: &Path, file: &Path, named: impl FnOnce() -> BottleOwners) -> std::io::Result<OwnerLookup> {
    let _lock = wait_exclusive(&state.join("id.lock"))?;
    let what = match read(file)? {
        Id::Broken(what) => what,
        known => return Ok(OwnerLookup { owner: owner(known), notice: None }),
    };
    let named = named();
    let owners = owners(&named);
    let bottles: Vec<String> = named.into_iter().map(|(bottle, _)| bottle).collect();
    let said = |done: &str| format!("{} {what}; {done}", file.display());
    let (content, notice) = match &owners[..] {
        [one] => (format!("{ADOPTED}{one}"), Some(said("recovered from the bottles' records"))),
        [] if bottles.is_empty() => {
            let first = what == "is missing";
            (random_base36(ID)?, (!first).then(|| said("there are no bottles, so a new one was created")))
        }
        _ => {
            let (some, say) = match owners.len() {
                0 => (&bottles, "do not name their owner"),
                _ => (&owners, "have several owners"),
            };
            let why = said(&format!("the bottles in {} {say} ({})", state.join("bottles").display(), some.join(", ")));
            return Err(std::io::Error::other(format!(
                "{why}; the owner is the label dev.bottler.owner of their containers, networks and volumes: write {ADOPTED}OWNER into that file"
            )));
        }
    };
    replace(file, content.as_bytes())?;
    Ok(OwnerLookup { owner: owner(parse(content.as_bytes())), notice })
}

/// The distinct owners in the bottles' records.
fn owners(named: &[(String, Option<String>)]) -> Vec<String> {
    let mut owners: Vec<String> = named.iter().filter_map(|(_, owner)| owner.clone()).collect();
    owners.retain(|owner| is_owner(owner));
    owners.sort();
    owners.dedup();
    owners
}

#[cfg(test)]
mod tests {
    use super::super::{Record, StateDir};
    use super::*;

    fn record(id: &str, owner: Option<&str>) -> Record {
        let text = serde_json::json!({
            "id": id, "endpoint": "unix:///x", "owner": owner, "agent": "a", "launched": 1,
        });
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_lost_id_is_made_anew_only_where_that_orphans_nothing() {
        for broken in [Some(""), Some("\n"), Some("abc"), Some("owner:xyz"), None] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("id");
            let lose = || match broken {
                Some(text) => std::fs::write(&file, text).unwrap(),
                None => std::fs::remove_file(&file).unwrap(),
            };
            let before = StateDir::at(folder.path()).unwrap();
            assert_eq!(before.notice, None);
            lose();
            let fresh = StateDir::at(folder.path()).unwrap();
            assert_ne!(fresh.owner, before.owner, "{broken:?}");
            assert_eq!(fresh.notice.is_some(), broken.is_some());

            // With a bottle, its owner is recovered, permanently.
            let dir = fresh.claim("a-1").unwrap().unwrap();
            dir.write_record(&record("a-1", Some(&fresh.owner))).unwrap();
            lose();
            let again = StateDir::at(folder.path()).unwrap();
            assert_eq!(again.owner, fresh.owner);
            assert!(again.notice.unwrap().contains("recovered"));
            let later = StateDir::at(folder.path()).unwrap();
            assert_eq!((later.owner, later.notice), (fresh.owner.clone(), None));

            // Records without an owner: nothing is guessed.
            dir.write_record(&record("a-1", None)).unwrap();
            lose();
            let error = StateDir::at(folder.path()).unwrap_err().to_string();
            assert!(error.contains("a-1") && error.contains("owner:OWNER"), "{error}");
            lose_twice(&file);
            assert!(StateDir::at(folder.path()).is_err());
        }
    }

    fn lose_twice(file: &Path) {
        std::fs::write(file, b"\xff\xfe").unwrap();
    }

    #[test]
    fn first_runs_at_once_have_one_owner() {
        let folder = tempfile::tempdir().unwrap();
        let owners: Vec<String> = std::thread::scope(|scope| {
            let runs: Vec<_> = (0..20).map(|_| scope.spawn(|| StateDir::at(folder.path()).unwrap().owner)).collect();
            runs.into_iter().map(|run| run.join().unwrap()).collect()
        });
        assert!(owners.iter().all(|owner| *owner == owners[0]));
    }
}
