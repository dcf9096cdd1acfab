//! One question to the holder of a running bottle, over the socket in the bottle's directory.

use std::path::Path;
use std::time::Duration;

use super::{FromHolder, Receiver, ToHolder, Wire, reach, split};
use crate::policy::{Change, LivePolicy};
use crate::session::{Class, Failure};

/// How long an answer may take: egress is waited for, and told again.
const PATIENCE: Duration = Duration::from_secs(45);

/// The file in the directory of a bottle inside another that names the outermost one.
pub(super) const WITHIN: &str = "within";

/// The policy of a bottle; with a change, the one after it, once that is enforced.
///
/// # Errors
/// Nobody listens there or answers, or the change cannot be made.
pub async fn ask_policy(bottle: &str, directory: &Path, change: Option<Change>) -> Result<LivePolicy, Failure> {
    let question = ToHolder::Policy { bottle: bottle.to_owned(), change: change.map(Box::new) };
    let answer = |said| if let FromHolder::Policy(answer) = said { Some(*answer) } else { None };
    ask(bottle, directory, &question, answer).await
}

/// Starts a dead sidecar of a bottle again, and waits until it serves.
///
/// # Errors
/// Nobody listens there or answers, or it cannot be started.
pub async fn restart_sidecar(bottle: &str, directory: &Path, name: &str) -> Result<(), Failure> {
    let question = ToHolder::RestartSidecar { bottle: bottle.to_owned(), name: name.to_owned() };
    let answer = |said| if let FromHolder::Restarted(answer) = said { Some(*answer) } else { None };
    ask(bottle, directory, &question, answer).await
}

async fn ask<T>(
    bottle: &str,
    directory: &Path,
    question: &ToHolder,
    answer: impl Fn(FromHolder) -> Option<Result<T, Failure>>,
) -> Result<T, Failure> {
    let failed = |why: String| Failure::new(Class::Operation, format!("ask the holder of {bottle}: {why}"));
    // The holder of a bottle inside another is the outermost one's.
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
