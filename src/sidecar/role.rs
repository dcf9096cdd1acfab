//! The trait of every built-in sidecar. [`super::run`] reads the configuration, reports ready, and dispatches commands;
//! a role says what it serves and how it handles updates and questions.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::message::{Acknowledgement, Action, Command, CommandOutcome, Message};

/// A value that is exchanged as JSON.
pub trait Value: Serialize + DeserializeOwned + Send + Sync + 'static {}
impl<T: Serialize + DeserializeOwned + Send + Sync + 'static> Value for T {}

/// A role.
pub trait Role: Send + Sync + Sized + 'static {
    /// Its name on the command line, and in the `role` label of its container.
    const NAME: &'static str;
    /// Whether it runs on more than one processor.
    const PARALLEL: bool = false;
    /// Whether it ends with its standard input. Other roles continue to serve, because the holder may be away.
    const ENDS_WITH_INPUT: bool = false;

    /// The configuration, the first line of its standard input.
    type Config: Value;
    /// What it reports when it is ready.
    type Ready: Value;
    /// An update.
    type Update: Value;
    /// A question.
    type Ask: Value;
    /// The answer to a question.
    type Answer: Value;
    /// A notice that it sends by itself, besides audit events.
    type Notice: Value;

    /// Runs before there are threads.
    ///
    /// # Errors
    /// The system refuses.
    fn prepare() -> anyhow::Result<()> {
        Ok(())
    }

    /// Starts to serve. `at` is a place from the command line, for machines without a bottle, as in tests and
    /// benchmarks.
    ///
    /// # Errors
    /// The configuration is invalid, or it cannot listen.
    fn start(
        config: Self::Config,
        at: Option<&str>,
    ) -> impl Future<Output = anyhow::Result<(Arc<Self>, Self::Ready)>> + Send;

    /// Runs once it listens everywhere, before it reports ready.
    ///
    /// # Errors
    /// The system refuses.
    fn serving(&self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Applies an update, completely or not at all.
    ///
    /// # Errors
    /// The reason why not.
    fn update(&self, update: Self::Update) -> impl Future<Output = Result<(), String>> + Send;

    /// Answers a question.
    ///
    /// # Errors
    /// The reason why not.
    fn answer(&self, ask: Self::Ask) -> impl Future<Output = Result<Self::Answer, String>> + Send;

    /// Writes the audit events that were only counted so far.
    fn flush(&self) {}

    /// Resolves when it can serve no longer, with the reason: its process ends then, and the holder hears of it.
    fn broken(&self) -> impl Future<Output = anyhow::Error> + Send {
        std::future::pending()
    }

    /// Finishes work in progress when the container is stopped. The engine kills it after a time limit.
    fn end(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A message of a role.
pub type MessageOf<R> = Message<<R as Role>::Ready, <R as Role>::Answer, <R as Role>::Notice>;
/// A command to a role.
pub type CommandOf<R> = Command<<R as Role>::Update, <R as Role>::Ask>;

/// Carries out a command from either channel.
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
