//! Placeholders: empty files and folders on the host that a bottle creates so that they can be masked. Their paths
//! are written into the bottle's directory first, so that whoever removes that directory also removes them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::{replace, wait_exclusive};

/// The file with their paths.
const FILE: &str = "placeholders.json";

/// Locks the placeholders of all bottles of this state directory until the file is dropped. So a bottle can record a
/// placeholder of another bottle before that one removes it.
///
/// # Errors
/// The lock cannot be taken.
pub fn lock(directory: &Path) -> io::Result<File> {
    let state = directory.parent().and_then(Path::parent).unwrap_or(directory);
    wait_exclusive(&state.join("placeholders.lock"))
}

/// Records a placeholder before it is created, or one that another bottle created. `directory` is the bottle's
/// directory.
///
/// # Errors
/// The record cannot be read or written; then nothing may be created.
pub fn note(directory: &Path, place: &Path) -> io::Result<()> {
    let file = directory.join(FILE);
    let mut known: Vec<PathBuf> = match std::fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => serde_json::from_slice(&read?)?,
    };
    known.push(place.to_owned());
    replace(&file, &serde_json::to_vec(&known)?)
}

/// Whether another bottle recorded this placeholder.
pub fn belongs_to_another(directory: &Path, place: &Path) -> bool {
    others(directory).iter().any(|other| noted(other).iter().any(|known| known == place))
}

/// Removes the placeholders of a bottle that are still empty and that no other bottle uses.
pub(super) fn remove(directory: &Path) {
    let places = noted(directory);
    // Without the lock, a placeholder might be removed that another bottle is about to record.
    let _lock = if places.is_empty() { None } else { lock(directory).ok() };
    for place in places {
        if belongs_to_another(directory, &place) {
            continue;
        }
        match std::fs::symlink_metadata(&place) {
            // `remove_dir` fails if the folder is not empty.
            Ok(seen) if seen.is_dir() => drop(std::fs::remove_dir(&place)),
            Ok(seen) if seen.is_file() && seen.len() == 0 => drop(std::fs::remove_file(&place)),
            _ => {}
        }
    }
}

fn noted(directory: &Path) -> Vec<PathBuf> {
    let text = std::fs::read(directory.join(FILE)).unwrap_or_default();
    serde_json::from_slice(&text).unwrap_or_default()
}

fn others(directory: &Path) -> Vec<PathBuf> {
    let siblings = directory.parent().and_then(|parent| std::fs::read_dir(parent).ok());
    let paths = siblings.into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| path != directory).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_goes_with_the_last_bottle_that_needs_it_and_only_if_it_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let (one, two) = (root.path().join("bottles/one"), root.path().join("bottles/two"));
        std::fs::create_dir_all(&one).unwrap();
        std::fs::create_dir_all(&two).unwrap();
        let (file, full) = (root.path().join(".envrc"), root.path().join(".vscode"));
        for place in [&file, &full] {
            note(&one, place).unwrap();
        }
        std::fs::write(&file, "").unwrap();
        std::fs::create_dir(&full).unwrap();
        assert!(belongs_to_another(&two, &file) && !belongs_to_another(&one, &file));
        note(&two, &file).unwrap();
        remove(&one);
        assert!(file.exists() && !full.exists());
        std::fs::remove_dir_all(&one).unwrap();
        std::fs::write(&file, "x").unwrap();
        remove(&two);
        assert!(file.exists());
        std::fs::write(&file, "").unwrap();
        remove(&two);
        assert!(!file.exists());
    }
}
