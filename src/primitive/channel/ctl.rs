//! Commands to a running sidecar by an exec in its container, for anyone who may use the engine.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::stream::JsonChannel;
use crate::engine::labels::Kind;
use crate::engine::{Engine, ExecSpec, Filter};
use crate::layout::EXECUTABLE;
use crate::session::{Class, Failure};
use crate::sidecar::ctl::ROLE;
use crate::sidecar::{Acknowledgement, Action, Command, CommandOutcome, Role};

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Asks the sidecar of a bottle that has this role.
///
/// # Errors
/// The bottle has none, or it does not respond.
pub async fn ask<R: Role>(
    engine: &Arc<dyn Engine>,
    bottle: &str,
    owner: &str,
    ask: R::Ask,
) -> Result<R::Answer, Failure> {
    let objects = engine.list(&Filter::Session(bottle.to_owned())).await?;
    let mut own =
        objects.iter().filter(|object| object.identity.owner == owner && object.identity.kind == Kind::Sidecar);
    let found = own.find(|object| object.identity.role.as_deref() == Some(R::NAME));
    let attempted = format!("ask {} of {bottle}", R::NAME);
    let container =
        found.ok_or_else(|| Failure::new(Class::Input, format!("{attempted}: it has no sidecar of that role")))?;
    let command: Command<R::Update, R::Ask> = Command { n: 1, action: Action::Ask(ask) };
    let answer: Acknowledgement<R::Answer> = send(engine.as_ref(), &container.id, &attempted, &command).await?;
    match answer.outcome {
        CommandOutcome::Answer(answer) => Ok(answer),
        CommandOutcome::Refused(why) => Err(Failure::new(Class::Operation, format!("{attempted}: {why}"))),
        CommandOutcome::Done => {
            Err(Failure::new(Class::Internal, format!("{attempted}: it did not answer the question")))
        }
    }
}

/// Sends a command to the sidecar in a container, and waits for its acknowledgement.
///
/// # Errors
/// There is no acknowledgement.
pub(in crate::primitive) async fn send<A: DeserializeOwned>(
    engine: &dyn Engine,
    container: &str,
    attempted: &str,
    command: &(impl Serialize + Sync),
) -> Result<Acknowledgement<A>, Failure> {
    let spec = ExecSpec::plain(vec![EXECUTABLE.into(), ROLE.into(), "sidecar".into()]);
    let mut talk = JsonChannel::new(engine.exec(container, &spec).await?.1);
    let answer = talk.ask(command, PATIENCE).await;
    answer.map_err(|why| talk.failure(attempted, why))
}
