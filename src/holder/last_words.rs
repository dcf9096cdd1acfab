//! The last actions of a holder that cannot continue: it closes the audit file and tells its clients why. It removes
//! nothing itself; the reaper notices its end and unwinds.

use std::time::Duration;

use tokio::runtime::Handle;

use super::Hub;
use super::evidence::Evidence;
use crate::session::{Class, Failure};

/// How long this may take: the thread that hangs may hold a lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// What is needed to do this from any thread.
#[derive(Clone)]
pub(super) struct LastWords {
    pub(super) evidence: Evidence,
    pub(super) hub: Hub,
    pub(super) runtime: Handle,
}

impl LastWords {
    /// Tells the clients why the holder ends. Blocks for a few seconds at most.
    pub(super) fn say(&self, failure: &Failure) {
        let (words, failure) = (self.clone(), failure.clone());
        let (sender, said) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _ = words.evidence.close();
            words.runtime.block_on(words.hub.last_words(failure));
            let _ = sender.send(());
        });
        let _ = said.recv_timeout(PATIENCE);
    }
}

/// The failure of a holder that panicked: the panic's message, and the path of the trace.
pub(super) fn panicked(bottle: &str, panic: &(dyn std::any::Any + Send), log: &std::path::Path) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    let message = format!("hold {bottle}: a bug in bottler: {}", text.unwrap_or("it does not say which"));
    Failure::new(Class::Internal, message).hint(format!("the trace is in {}; please report it", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_launch_that_panics_is_told_with_the_place_of_its_trace() {
        use std::panic::{AssertUnwindSafe, panic_any};

        use futures_util::FutureExt;
        for said in ["in words", "in a text"] {
            let launch = async move {
                let fails = async move { if said == "in words" { panic_any(said) } else { panic!("{said}") } };
                super::super::thread::on_own_thread(fails).await
            };
            let panic = AssertUnwindSafe(launch).catch_unwind().await.err().unwrap();
            let failure = panicked("a-1", panic.as_ref(), std::path::Path::new("/state/logs/a-1.log"));
            assert_eq!(failure.message, format!("hold a-1: a bug in bottler: {said}"));
            assert!(failure.hint.unwrap().contains("/state/logs/a-1.log"));
        }
    }
}
