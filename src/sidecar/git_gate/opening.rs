//! Opens the conversation in which a push will be forwarded, and reads what the upstream lists, while the push is still arriving.
//! Nothing of the push is sent before it has been inspected; one that is refused ends the conversation.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::advertised::{self, Listed};
use super::commands::Request;
use super::conversation::{Conversation, Service};
use super::gate::Served;

/// How long the upstream may take to list its references.
const LISTED: Duration = Duration::from_mins(2);

/// A conversation that is being opened; it ends when this is dropped.
pub(super) struct Opening(JoinHandle<Result<(Conversation, Listed), String>>);

impl Opening {
    /// Begins to open one for a push.
    pub(super) fn begin(served: &Arc<Served>, request: &Request) -> Self {
        let names: Vec<String> = request.commands.iter().map(|command| command.name.clone()).collect();
        let served = served.clone();
        Self(crate::task::spawn(async move {
            let late = |_| Err(format!("the upstream has not listed its references within {} s", LISTED.as_secs()));
            tokio::time::timeout(LISTED, open(&served, &names)).await.unwrap_or_else(late)
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

async fn open(served: &Served, names: &[String]) -> Result<(Conversation, Listed), String> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let opened = served.target.open(Service::ReceivePack).await;
    let mut conversation = opened.map_err(|error| format!("the upstream cannot be reached: {error:#}"))?;
    let listed = advertised::listed(&mut conversation, &names).await.map_err(|error| error.to_string())?;
    Ok((conversation, listed))
}
