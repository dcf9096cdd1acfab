//! Which credentials a host did not accept lately. Each is reported to the holder once in a while, because a client may retry at
//! once; the holder answers with all credentials, whether their sources have newer values or not.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::sync::lock;

/// How long no further need of a credential is reported.
const AGAIN: Duration = Duration::from_mins(1);
/// How long to wait for the holder's answer: a source's command has 30 seconds.
const PATIENCE: Duration = Duration::from_secs(35);

/// When a need was last reported, for each credential, and how many updates there had been.
pub(super) struct Needs {
    reported: Mutex<HashMap<String, (Instant, u64)>>,
    updates: watch::Sender<u64>,
}

impl Default for Needs {
    fn default() -> Self {
        Self { reported: Mutex::default(), updates: watch::Sender::new(0) }
    }
}

/// What to do about a value that was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// Report it, and wait for the holder's answer.
    Report,
    /// It is reported, and the holder has not answered yet.
    Wait,
    /// It was reported a short while ago, and the holder has answered.
    Known,
}

impl Needs {
    /// What to do about a credential.
    pub(super) fn note(&self, credential: &str) -> Need {
        let (now, updates) = (Instant::now(), *self.updates.borrow());
        let mut reported = lock(&self.reported);
        match reported.get(credential) {
            Some((at, known)) if *known == updates && now - *at < PATIENCE => Need::Wait,
            Some((at, _)) if now - *at < AGAIN => Need::Known,
            _ => {
                reported.insert(credential.to_owned(), (now, updates));
                Need::Report
            }
        }
    }

    /// Notes an answer of the holder.
    pub(super) fn answered(&self) {
        self.updates.send_modify(|updates| *updates += 1);
    }

    /// A receiver that does not miss an answer from now on.
    pub(super) fn updates(&self) -> watch::Receiver<u64> {
        self.updates.subscribe()
    }
}

/// Waits for an answer of the holder, for a bounded time.
pub(super) async fn next(updates: &mut watch::Receiver<u64>) {
    let _ = timeout(PATIENCE, updates.changed()).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_need_is_reported_once_a_minute_and_all_wait_for_its_answer() {
        let needs = Needs::default();
        let mut updates = needs.updates();
        assert_eq!([needs.note("a"), needs.note("a"), needs.note("b")], [Need::Report, Need::Wait, Need::Report]);
        needs.answered();
        next(&mut updates).await;
        assert_eq!(needs.note("a"), Need::Known);
        tokio::time::advance(AGAIN).await;
        assert_eq!(needs.note("a"), Need::Report);
        // A holder that does not answer does not hold clients up for ever.
        next(&mut needs.updates()).await;
        assert_eq!(needs.note("a"), Need::Known);
    }
}
