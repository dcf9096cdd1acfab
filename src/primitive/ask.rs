//! Questions to the user at the client.

use super::bottle::Bottle;
use super::event::{Event, Question};
use crate::session::{Class, Failure};

impl Bottle {
    /// Asks the client's user, and waits for the answer.
    ///
    /// # Errors
    /// There is no terminal to ask at.
    pub async fn ask(&self, what: Question, text: &str) -> Result<String, Failure> {
        // A user takes longer than an engine, so let other bottles launch.
        self.turn.release();
        let (id, answer) = self.questions.ask();
        self.events.tell(Event::Ask { id, what, text: text.to_owned() });
        answer.await.ok().flatten().ok_or_else(|| {
            Failure::new(Class::Input, format!("ask {text:?}: there is no terminal to ask at"))
                .hint("run it in a terminal, or give the answer with --set and read it from plan.params")
        })
    }

    /// Passes on the answer to a question; `None` if nobody can be asked.
    pub fn answer(&self, id: u64, answer: Option<String>) {
        self.questions.answer(id, answer);
    }
}
