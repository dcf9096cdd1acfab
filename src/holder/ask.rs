//! Sends one request to the holder of a running bottle, over the socket in the bottle's directory.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{FromHolder, Receiver, RequestAction, ToHolder, Wire, reach, split};
use crate::policy::{Change, LivePolicy};
use crate::primitive::{Event, ShownRequest};
use crate::session::{Class, Failure};
use crate::sidecar::git_gate::Approval;

/// How long a response may take: the holder waits for egress, and sends a change to it again if necessary.
const PATIENCE: Duration = Duration::from_secs(45);

/// How long the answer to an approval may take: an image may be built for it.
const PATIENCE_OF_BUILD: Duration = Duration::from_mins(25);

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

/// Returns the requests of a bottle's agent, or decides about one and returns that.
///
/// # Errors
/// No holder listens or responds, or the decision is not possible.
pub async fn ask_requests(bottle: &str, directory: &Path, action: RequestAction) -> Result<Vec<ShownRequest>, Failure> {
    ask_requests_telling(bottle, directory, action, PATIENCE, |_| ()).await
}

/// Approves a request, and tells each line of the progress of a build.
///
/// # Errors
/// No holder listens or responds, or the approval is not possible.
pub async fn ask_to_build(
    bottle: &str,
    directory: &Path,
    action: RequestAction,
    told: impl Fn(&str),
) -> Result<Vec<ShownRequest>, Failure> {
    ask_requests_telling(bottle, directory, action, PATIENCE_OF_BUILD, told).await
}

async fn ask_requests_telling(
    bottle: &str,
    directory: &Path,
    action: RequestAction,
    patience: Duration,
    told: impl Fn(&str),
) -> Result<Vec<ShownRequest>, Failure> {
    let question = ToHolder::Requests { bottle: bottle.to_owned(), action };
    let answer = |said| match said {
        FromHolder::Requests(answer) => Some(*answer),
        FromHolder::Event { event, .. } => {
            if let Event::Progress(line) = *event {
                told(&line);
            }
            None
        }
        _ => None,
    };
    ask_within(bottle, directory, &question, patience, answer).await
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

/// The directory of the bottle whose holder serves a bottle: its own, or that of the outermost one around it.
pub fn served_in(directory: &Path) -> PathBuf {
    let outermost = std::fs::read_to_string(directory.join(WITHIN)).ok();
    outermost.and_then(|id| Some(directory.parent()?.join(id))).unwrap_or_else(|| directory.to_owned())
}

async fn ask<T>(
    bottle: &str,
    directory: &Path,
    question: &ToHolder,
    answer: impl Fn(FromHolder) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    ask_within(bottle, directory, question, PATIENCE, answer).await
}

async fn ask_within<T>(
    bottle: &str,
    directory: &Path,
    question: &ToHolder,
    patience: Duration,
    answer: impl Fn(FromHolder) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    let failed = |why: String| Failure::new(Class::Operation, format!("ask the holder of {bottle}: {why}"));
    let stream = reach(&served_in(directory)).await.map_err(|error| failed(error.to_string()))?;
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
    tokio::time::timeout(patience, answered).await.map_err(|_| failed("it does not answer".to_owned()))?
}
