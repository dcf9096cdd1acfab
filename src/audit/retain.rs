//! Which files may go. Only those of launches that have certainly ended, the oldest first: what cannot be told stays.

use std::collections::BTreeMap;
use std::fs::OpenOptions;

use super::format::MAX_FILES;
use super::read::{AuditFile, torn_beside};

/// Removes the oldest files of ended launches, so that with one more there are at most so many of them.
pub(super) fn remove_oldest(all: &[AuditFile], is_gone: impl Fn(&str) -> bool) {
    let ended = ended(all, is_gone);
    for file in ended.iter().take((ended.len() + 1).saturating_sub(MAX_FILES)) {
        // Another launch may have removed it in this moment.
        let _ = std::fs::remove_file(&file.path);
        let _ = std::fs::remove_file(torn_beside(&file.path));
    }
}

/// The files of launches that have ended: nobody writes them, and of a bottle that is there it is not the last one.
fn ended(all: &[AuditFile], is_gone: impl Fn(&str) -> bool) -> Vec<&AuditFile> {
    let mut gone: BTreeMap<&str, bool> = BTreeMap::new();
    let last: BTreeMap<&str, u128> = all.iter().map(|file| (file.bottle.as_str(), file.when)).collect();
    all.iter()
        .filter(|file| {
            let earlier = last.get(file.bottle.as_str()).is_some_and(|last| file.when < *last);
            let gone = earlier || *gone.entry(&file.bottle).or_insert_with(|| is_gone(&file.bottle));
            // The lock is let go here, by closing the file: it was only asked for.
            gone && OpenOptions::new().read(true).open(&file.path).is_ok_and(|open| open.try_lock().is_ok())
        })
        .collect()
}
