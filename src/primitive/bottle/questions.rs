//! Questions to the person at the client that wait for an answer.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use crate::sync::lock;

/// Open questions, by their numbers.
#[derive(Default)]
pub(in crate::primitive) struct Questions {
    open: Mutex<BTreeMap<u64, oneshot::Sender<Option<String>>>>,
    asked: AtomicU64,
}

impl Questions {
    /// Opens a question; returns its number, from 1, and the receiver of the answer.
    pub(in crate::primitive) fn ask(&self) -> (u64, oneshot::Receiver<Option<String>>) {
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, answer) = oneshot::channel();
        lock(&self.open).insert(number, sender);
        (number, answer)
    }

    /// Answers a question; `None` if nobody can be asked. An unknown number is ignored.
    pub(in crate::primitive) fn answer(&self, number: u64, answer: Option<String>) {
        if let Some(waiting) = lock(&self.open).remove(&number) {
            let _ = waiting.send(answer);
        }
    }
}
