//! Objects of Git LFS that were refused, with the reason. git-lfs repeats a transfer that failed, whatever the reason, and shows none
//! but that of the answer to where an object is; there it gets the reason once, and ends. (After a status of 422, it would end
//! at once, and push the pointer all the same.)

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::lfs::{Object, Wrong};
use crate::sync::lock;

/// How long a reason is kept for the client that was refused, and how many are.
const KEPT: Duration = Duration::from_mins(1);
const MOST: usize = 1000;

/// Objects that were refused, of all repositories: an id is a hash of what was refused.
#[derive(Default)]
pub(super) struct Refused(Mutex<BTreeMap<String, (Instant, Wrong)>>);

impl Refused {
    /// Keeps a reason.
    pub(super) fn note(&self, object: &Object, wrong: &Wrong) {
        let mut all = lock(&self.0);
        all.retain(|_, (since, _)| since.elapsed() < KEPT);
        if all.len() < MOST {
            // 422: the client does not ask again.
            all.insert(object.oid.clone(), (Instant::now(), Wrong::new(422, wrong.message.clone())));
        }
    }

    /// The reason, if there is one; the next transfer is judged anew.
    pub(super) fn take(&self, object: &Object) -> Option<Wrong> {
        let (since, wrong) = lock(&self.0).remove(&object.oid)?;
        (since.elapsed() < KEPT).then_some(wrong)
    }

    /// Forgets all: the operator has approved something.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}
