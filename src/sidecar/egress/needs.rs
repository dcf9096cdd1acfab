//! Which credentials a host did not accept lately: each is reported once in a while, because a client may retry at once.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use crate::sync::lock;

/// How long no further need of a credential is reported.
const AGAIN: Duration = Duration::from_mins(1);

/// When a need was last reported, for each credential.
#[derive(Default)]
pub(super) struct Needs(Mutex<HashMap<String, Instant>>);

impl Needs {
    /// Whether a need is to be reported now.
    pub(super) fn is_due(&self, credential: &str) -> bool {
        let now = Instant::now();
        let mut reported = lock(&self.0);
        if reported.get(credential).is_some_and(|before| now - *before < AGAIN) {
            return false;
        }
        reported.insert(credential.to_owned(), now);
        true
    }

    /// Forgets what was reported: there are new values.
    pub(super) fn clear(&self) {
        lock(&self.0).clear();
    }
}
