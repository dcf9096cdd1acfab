//! Questions to the person at the client.

use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::{Bottle, Event};
use crate::session::{Class, Failure};
use crate::sync::lock;

/// What is expected as an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// A line.
    Line,
    /// A line that is not shown.
    Secret,
    /// Yes or no.
    Confirm,
}

impl Bottle {
    /// Asks the client's user, and waits for the answer.
    ///
    /// # Errors
    /// Nobody is there to answer.
    pub async fn ask(&self, what: Question, text: &str) -> Result<String, Failure> {
        // A person takes longer than an engine.
        self.give_turn_back();
        let id = self.next_question.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.questions).insert(id, sender);
        self.events.tell(Event::Ask { id, what, text: text.to_owned() });
        answer.await.ok().flatten().ok_or_else(|| {
            Failure::new(Class::Input, format!("ask {text:?}: there is no terminal to ask at"))
                .hint("run it in a terminal, or give the answer with --set and read it from plan.params")
        })
    }

    /// Gives the answer to a question; none where nobody can be asked.
    pub fn answer(&self, id: u64, answer: Option<String>) {
        if let Some(waiting) = lock(&self.questions).remove(&id) {
            let _ = waiting.send(answer);
        }
    }
}
