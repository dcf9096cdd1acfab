//! Sends one request to the holder of a running bottle, over the socket in the bottle's directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::{FromHolder, Receiver, ToHolder, Wire, reach, split};
use crate::policy::{Change, LivePolicy};
use crate::session::{Class, Failure};
use crate::sidecar::git_gate::Approval;

/// How long a response may take: the holder waits for egress, and sends a change to it again if necessary.
const PATIENCE: Duration = Duration::from_secs(45);

/// The file in a nested bottle's directory that contains the id of the outermost bottle.
pub(super) const WITHIN: &str = "within";

/// Returns the policy of a bottle. With a change, applies it first and returns the policy once it is enforced.
///
/// # Errors
/// No holder listens or responds, or the change is refused.
pub async fn ask_policy(bottle: &str, directory: &Path, change: Option<Change>) -> Result<LivePolicy, Failure> {
    let question = ToHolder::Policy { bottle: bottle.to_owned(), change: change.map(Box::new) };
    let answer = |said| if let FromHolder::Policy(answer) = said { Some(*answer) } else { None };
    ask(bottle, directory, &question, answer).await
}

/// Gives credentials of a bottle these values, by name; returns the names of those that had others, once egress uses them.
///
/// # Errors
/// No holder listens or responds, or a value cannot be used.
pub async fn renew_credentials(
    bottle: &str,
    directory: &Path,
    values: BTreeMap<String, String>,
) -> Result<Vec<String>, Failure> {
    let question = ToHolder::Renew { bottle: bottle.to_owned(), values };
    let answer = |said| if let FromHolder::Renewed(answer) = said { Some(*answer) } else { None };
    ask(bottle, directory, &question, answer).await
}

/// Restarts a dead sidecar of a bottle, and waits until it is ready.
///
/// # Errors
/// No holder listens or responds, or the sidecar cannot be started.
pub async fn restart_sidecar(bottle: &str, directory: &Path, name: &str) -> Result<(), Failure> {
    let question = ToHolder::RestartSidecar { bottle: bottle.to_owned(), name: name.to_owned() };
    let answer = |said| if let FromHolder::Restarted(answer) = said { Some(*answer) } else { None };
    ask(bottle, directory, &question, answer).await
}

/// Approves a push that the git gate has refused.
///
/// # Errors
/// No holder listens or responds, there is no gate, or it has refused no push under this id.
pub async fn approve_push(bottle: &str, directory: &Path, approval: Approval) -> Result<(), Failure> {
    let question = ToHolder::ApprovePush { bottle: bottle.to_owned(), approval };
    let answer = |said| if let FromHolder::Approved(answer) = said { Some(*answer) } else { None };
    ask(bottle, directory, &question, answer).await
}

async fn ask<T>(
    bottle: &str,
    directory: &Path,
    question: &ToHolder,
    answer: impl Fn(FromHolder) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    let failed = |why: String| Failure::new(Class::Operation, format!("ask the holder of {bottle}: {why}"));
    // A nested bottle is served by the holder of the outermost one.
    let outermost = std::fs::read_to_string(directory.join(WITHIN)).ok();
    let outermost = outermost.and_then(|id| Some(directory.parent()?.join(id)));
    let stream = reach(outermost.as_deref().unwrap_or(directory)).await.map_err(|error| failed(error.to_string()))?;
    let (mut from, to): (Receiver<FromHolder>, Wire) = split(stream);
    to.send(question);
    let answered = async {
        loop {
            match from.next().await {
                Ok(Some(FromHolder::Finished(_) | FromHolder::Dies(_)) | None) => {
                    return Err(failed("the bottle has ended".to_owned()));
                }
                Ok(Some(said)) => {
                    if let Some(answer) = answer(said) {
                        return answer;
                    }
                }
                Err(error) => return Err(failed(format!("{error:#}"))),
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.map_err(|_| failed("it does not answer".to_owned()))?
}
