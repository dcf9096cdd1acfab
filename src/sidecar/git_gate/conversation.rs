//! A conversation with an upstream: two streams, and why it ended.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncWrite};

use crate::sync::lock;

/// The size of a pipe or buffer between the sides, in bytes: an upstream may list a hundred thousand references.
pub(super) const PIPE: usize = 256 << 10;

/// A service of git's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Service {
    /// Fetches.
    UploadPack,
    /// Pushes.
    ReceivePack,
}

impl Service {
    /// The name of the program.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::UploadPack => "git-upload-pack",
            Self::ReceivePack => "git-receive-pack",
        }
    }

    /// What a client does with it, as it is logged.
    pub(super) fn operation(self) -> &'static str {
        match self {
            Self::UploadPack => "fetch",
            Self::ReceivePack => "push",
        }
    }

    /// The service of a name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        [Self::UploadPack, Self::ReceivePack].into_iter().find(|service| service.name() == name)
    }
}

/// A conversation with an upstream.
pub(super) struct Conversation {
    /// What it says.
    pub(super) reader: Box<dyn AsyncRead + Send + Unpin>,
    /// What it is told.
    pub(super) writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// Why it ended, if it did not end well.
    pub(super) trouble: Trouble,
    /// Ends with the conversation.
    pub(super) _task: Task,
}

/// A task that ends when this is dropped.
pub(super) struct Task(pub(super) tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What went wrong in a conversation; told by the side that knows.
#[derive(Clone, Default)]
pub(super) struct Trouble(Arc<Mutex<Option<String>>>, Arc<tokio::sync::Notify>);

impl Trouble {
    /// Says how the conversation ended; without words it ended well.
    pub(super) fn set(&self, what: String) {
        lock(&self.0).get_or_insert(what);
        self.1.notify_one();
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self) -> bool {
        lock(&self.0).is_some()
    }

    /// Waits for the end, and returns the words.
    pub(super) async fn ended(&self) -> String {
        loop {
            if let Some(words) = lock(&self.0).clone() {
                return words;
            }
            self.1.notified().await;
        }
    }
}
