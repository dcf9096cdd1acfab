//! Places of the host that a bottle made so that they could be masked, empty, and takes away again: written down in its
//! directory before they are made, so that whoever removes that directory removes them.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use crate::host::{replace, wait_exclusive};

/// The file with their paths.
const FILE: &str = "placeholders.json";

/// Keeps other bottles of this state directory from making or removing places, until it is dropped: whoever finds one that
/// another has made can note it before that one is gone.
///
/// # Errors
/// The lock cannot be taken.
pub fn lock(directory: &Path) -> io::Result<File> {
    let state = directory.parent().and_then(Path::parent).unwrap_or(directory);
    wait_exclusive(&state.join("placeholders.lock"))
}

/// Notes a place before it is made, or that another bottle has made. `directory` is the bottle's.
///
/// # Errors
/// The note cannot be written, or an earlier one not be read: then nothing may be made.
pub fn note(directory: &Path, place: &Path) -> io::Result<()> {
    let file = directory.join(FILE);
    let mut known: Vec<PathBuf> = match std::fs::read(&file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        read => serde_json::from_slice(&read?)?,
    };
    known.push(place.to_owned());
    replace(&file, &serde_json::to_vec(&known)?)
}

/// Whether a bottle beside this one has made a place.
pub fn belongs_to_another(directory: &Path, place: &Path) -> bool {
    others(directory).iter().any(|other| noted(other).iter().any(|known| known == place))
}

/// Removes the places that a bottle has made, where nobody has put anything into them and no other bottle needs them.
pub(super) fn remove(directory: &Path) {
    let places = noted(directory);
    // Without the lock it is as it was before there was one: at worst a place goes that another bottle was about to note.
    let _lock = if places.is_empty() { None } else { lock(directory).ok() };
    for place in places {
        if belongs_to_another(directory, &place) {
            continue;
        }
        match std::fs::symlink_metadata(&place) {
            // A folder that is not empty is not removed.
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
