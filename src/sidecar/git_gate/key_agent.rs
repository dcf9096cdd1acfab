//! An ssh agent with one key, for ssh to log in with: the private key stays with the operator's own agent. Each signature is
//! asked of the holder, which asks that agent; this side never has the key, and can neither list, add nor remove others.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, oneshot};

use super::conversation::Task;
use super::ssh_agent::{MAX_MESSAGE, Question, identities, public_key, question, signed};
use crate::sidecar::socket;
use crate::sync::lock;

/// How long a signature may take: the operator may have to confirm it, or to touch a key.
const PATIENCE: Duration = Duration::from_mins(1);
/// How many connections are served at a time.
const CONNECTIONS: usize = 8;

/// A signature that is asked of the holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sign {
    /// The number of the question, which the answer repeats.
    pub n: u64,
    /// The repository whose key signs.
    pub repository: String,
    /// What is signed, in Base64.
    pub data: String,
    /// How, as agents are told.
    pub flags: u32,
}

/// The holder's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signed {
    /// The number of the question.
    pub n: u64,
    /// The signature, in Base64; `None` if there is none.
    pub signature: Option<String>,
    /// Why there is none.
    #[serde(default)]
    pub why: String,
}

/// Signatures that are waited for.
pub(super) struct Signatures {
    /// Sends a question to the holder.
    tell: fn(Sign),
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, oneshot::Sender<Signed>>>,
}

impl Signatures {
    /// Asks by `tell`.
    pub(super) fn new(tell: fn(Sign)) -> Arc<Self> {
        let mut first = [0; 8];
        // An answer to a question of an earlier run of this process is nobody's; without randomness it would fail a login.
        let _ = getrandom::fill(&mut first);
        let next = AtomicU64::new(u64::from_le_bytes(first) >> 2);
        Arc::new(Self { tell, next, waiting: Mutex::default() })
    }

    /// Takes an answer. The question may have been given up.
    pub(super) fn answer(&self, answer: Signed) {
        if let Some(waiting) = lock(&self.waiting).remove(&answer.n) {
            let _ = waiting.send(answer);
        }
    }

    async fn ask(&self, repository: &str, data: &[u8], flags: u32) -> Result<Vec<u8>, String> {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, answer) = oneshot::channel();
        lock(&self.waiting).insert(n, sender);
        (self.tell)(Sign { n, repository: repository.to_owned(), data: BASE64.encode(data), flags });
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        lock(&self.waiting).remove(&n);
        let late = || format!("the operator's ssh agent has not answered within {} s", PATIENCE.as_secs());
        let answer = answer.map_err(|_| late())?.map_err(|_| late())?;
        let signature = answer.signature.ok_or(answer.why)?;
        BASE64.decode(signature.as_bytes()).map_err(|_| "the signature is damaged".to_owned())
    }
}

/// The agent of one repository.
pub(super) struct KeyAgent {
    /// Its socket.
    pub(super) socket: PathBuf,
    /// Why it did not sign the last time.
    trouble: Arc<Mutex<String>>,
    _task: Task,
}

impl KeyAgent {
    /// Listens in a folder that is this process's own.
    ///
    /// # Errors
    /// The key is malformed, or it cannot listen.
    pub(super) fn listen(
        folder: &Path,
        repository: &str,
        public: &str,
        signatures: &Arc<Signatures>,
    ) -> anyhow::Result<Self> {
        let key: Arc<[u8]> = public_key(public).context("the public key cannot be read")?.into();
        let socket = folder.join("agent");
        let listener = socket::listen_again(&socket, socket::OWN)?;
        let trouble: Arc<Mutex<String>> = Arc::default();
        let (told, signatures, repository) = (trouble.clone(), signatures.clone(), repository.to_owned());
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let task = crate::task::spawn(async move {
            while let Ok(permit) = permits.clone().acquire_owned().await {
                let Ok((stream, _)) = listener.accept().await else { return };
                let (told, signatures, key) = (told.clone(), signatures.clone(), key.clone());
                let repository = repository.clone();
                crate::task::spawn(async move {
                    let _permit = permit;
                    // A client that goes ends its connection, and nothing else.
                    let _ = converse(stream, &repository, &key, &signatures, &told).await;
                });
            }
        });
        Ok(Self { socket, trouble, _task: Task(task) })
    }

    /// Why it did not sign, since the last call; empty if it did.
    pub(super) fn trouble(&self) -> String {
        std::mem::take(&mut *lock(&self.trouble))
    }
}

async fn converse(
    mut stream: UnixStream,
    repository: &str,
    key: &[u8],
    signatures: &Signatures,
    trouble: &Mutex<String>,
) -> std::io::Result<()> {
    loop {
        let length = stream.read_u32().await?;
        if length > MAX_MESSAGE {
            return Ok(());
        }
        let mut message = vec![0; usize::try_from(length).unwrap_or_default()];
        stream.read_exact(&mut message).await?;
        let answer = match question(&message, key) {
            Question::Identities => identities(key),
            Question::Sign { data, flags } => match signatures.ask(repository, &data, flags).await {
                Ok(signature) => signed(Some(&signature)),
                Err(why) => {
                    *lock(trouble) = why;
                    signed(None)
                }
            },
            Question::Other => signed(None),
        };
        stream.write_all(&answer).await?;
    }
}
