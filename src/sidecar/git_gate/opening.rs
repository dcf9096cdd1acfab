//! Opens the conversation in which a push will be forwarded, and reads what the upstream lists: for the client, which
//! is told it before it pushes, or while the push is arriving. Nothing of the push is sent before it has been
//! inspected; one that is refused ends the conversation.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::advertised::{self, Listed};
use super::commands::Request;
use super::conversation::{Conversation, Service};
use super::gate::Served;
use super::outcome::ForwardError;

/// How long the upstream may take to list its references.
const LISTED: Duration = Duration::from_mins(2);

/// A conversation that is being opened; it ends when this is dropped.
pub(super) struct Opening(JoinHandle<Result<(Conversation, Listed), String>>);

impl Opening {
    /// Begins to open one for a push: the one whose list the client was told, if it is there.
    pub(super) fn begin(served: &Arc<Served>, request: &Request) -> Self {
        match served.kept.take(request) {
            Some(kept) => Self(crate::task::spawn(async { Ok(kept) })),
            None => Self::anew(served),
        }
    }

    /// Begins to open one.
    pub(super) fn anew(served: &Arc<Served>) -> Self {
        let served = served.clone();
        Self(crate::task::spawn(async move {
            let late = |_| Err(format!("it has not listed its references within {} s", LISTED.as_secs()));
            tokio::time::timeout(LISTED, open(&served)).await.unwrap_or_else(late)
        }))
    }

    /// The conversation, and what the upstream has listed.
    ///
    /// # Errors
    /// Why there is none, as text.
    pub(super) async fn done(&mut self) -> Result<(Conversation, Listed), String> {
        (&mut self.0).await.unwrap_or_else(|error| Err(error.to_string()))
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn open(served: &Served) -> Result<(Conversation, Listed), String> {
    let opened = served.target.open(Service::ReceivePack).await;
    let mut conversation = opened.map_err(|error| format!("{error:#}"))?;
    match advertised::listed(&mut conversation).await {
        Ok(listed) => Ok((conversation, listed)),
        Err(ForwardError::Ended(why)) => Err(why),
        Err(error) => Err(error.to_string()),
    }
}
