//! What every built-in sidecar is: a role of this executable, PID 1 of its container. [`super::run`] reads its configuration,
//! says ready, carries out commands and acknowledges them; a role only says what it serves and what it takes.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Acknowledgement, Action, Command, CommandOutcome, Message};

/// What goes through the door as JSON.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// A role.
pub trait Role: Send + Sync + Sized + 'static {
    /// Its name: on the command line, and in the `role` label of its container.
    const NAME: &'static str;
    /// Whether it uses more than one processor.
    const PARALLEL: bool = false;
    /// Whether it ends with its standard input. Others serve on: their holder may be away.
    const ENDS_WITH_INPUT: bool = false;

    /// The first line of its standard input.
    type Config: Value;
    /// What it says when it serves.
    type Ready: Value;
    /// What it takes later.
    type Update: Value;
    /// What it can be asked.
    type Ask: Value;
    /// What it answers.
    type Answer: Value;
    /// What it says of its own accord, besides audit events.
    type Notice: Value;

    /// What must be done before it has threads.
    ///
    /// # Errors
    /// The system refuses.
    fn prepare() -> anyhow::Result<()> {
        Ok(())
    }

    /// Begins to serve. `at` is the place that the command line names on a machine that has no bottle, as the tests and the
    /// bench have.
    ///
    /// # Errors
    /// The configuration is bad, or it cannot listen.
    fn start(
        config: Self::Config,
        at: Option<&str>,
    ) -> impl Future<Output = anyhow::Result<(Arc<Self>, Self::Ready)>> + Send;

    /// Takes an update, whole or not at all.
    ///
    /// # Errors
    /// Why not.
    fn update(&self, update: Self::Update) -> impl Future<Output = Result<(), String>> + Send;

    /// Answers a question.
    ///
    /// # Errors
    /// Why it cannot.
    fn answer(&self, ask: Self::Ask) -> impl Future<Output = Result<Self::Answer, String>> + Send;

    /// Writes the audit events that were only counted so far.
    fn flush(&self) {}

    /// Ends what is under way, when the container is stopped. The engine kills what takes too long.
    fn end(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A message of a role.
pub type MessageOf<R> = Message<<R as Role>::Ready, <R as Role>::Answer, <R as Role>::Notice>;
/// A command to a role.
pub type CommandOf<R> = Command<<R as Role>::Update, <R as Role>::Ask>;

/// Carries out a command, wherever it came in.
pub(super) async fn carry_out<R: Role>(role: &R, command: CommandOf<R>) -> Acknowledgement<R::Answer> {
    let outcome = match command.action {
        Action::Ping => Ok(CommandOutcome::Done),
        Action::Flush => {
            role.flush();
            Ok(CommandOutcome::Done)
        }
        Action::Update(update) => role.update(update).await.map(|()| CommandOutcome::Done),
        Action::Ask(ask) => role.answer(ask).await.map(CommandOutcome::Answer),
    };
    Acknowledgement { n: command.n, outcome: outcome.unwrap_or_else(CommandOutcome::Refused) }
}
