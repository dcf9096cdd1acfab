//! Removes old logs: only those of launches that have certainly ended, the oldest first.

use std::collections::BTreeMap;
use std::fs::OpenOptions;

use super::format::MAX_FILES;
use super::read::{AuditFile, torn_beside};

/// Removes the oldest logs of ended launches, to make room for one more.
pub(super) fn remove_oldest(all: &[AuditFile], is_gone: impl Fn(&str) -> bool) {
    let ended = ended(all, is_gone);
    for file in ended.iter().take((ended.len() + 1).saturating_sub(MAX_FILES)) {
        // Another launch may have removed it.
        let _ = std::fs::remove_file(&file.path);
        let _ = std::fs::remove_file(torn_beside(&file.path));
    }
}

/// The logs of ended launches: no process writes them, and they are not the last one of a bottle that may exist.
fn ended(all: &[AuditFile], is_gone: impl Fn(&str) -> bool) -> Vec<&AuditFile> {
    let mut gone: BTreeMap<&str, bool> = BTreeMap::new();
    let last: BTreeMap<&str, u128> = all.iter().map(|file| (file.bottle.as_str(), file.when)).collect();
    all.iter()
        .filter(|file| {
            let earlier = last.get(file.bottle.as_str()).is_some_and(|last| file.when < *last);
            let gone = earlier || *gone.entry(&file.bottle).or_insert_with(|| is_gone(&file.bottle));
            // Closing the file releases the lock, which was only a test.
            gone && OpenOptions::new().read(true).open(&file.path).is_ok_and(|open| open.try_lock().is_ok())
        })
        .collect()
}
