//! `stub`: a role for tests, and an example; only in debug builds. It reports its name, sends requests through egress,
//! and can delay a request until it is stopped.
//!
//! | request | response |
//! | --- | --- |
//! | `GET /` | its name, the listener that the request came by, and the word of the last update |
//! | `GET /out/HOST/PATH` | egress' response to `http://HOST/PATH` |
//! | `POST /hold/HOST/PATH` | none; it sends half of a request there now, and the rest when it is stopped |

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::dialer::Connection;
use super::listener::Listener;
use super::message::Never;
use super::place::{InsideAddresses, Uplink};
use super::role::Role;
use crate::sync::lock;

/// Maximum size of a response that it returns, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// Connections at a time; others wait.
const CONNECTIONS: usize = 256;
/// The halves of a request's body.
const HALVES: [&[u8]; 2] = [b"begun, ", b"and ended"];

/// The configuration, on standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// The port of its name.
    pub port: u16,
    /// Its address on the network inside, if it is there; otherwise it creates a socket for the agent.
    pub inside: Option<InsideAddresses>,
    /// Its way out.
    pub outward: Uplink,
}

/// An update.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Update {
    /// The word to report; not empty.
    Word(String),
}

/// A question.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The current word.
    Word,
}

/// The role.
pub struct Stub {
    config: Config,
    word: Mutex<String>,
    stopped: watch::Sender<bool>,
    held: Mutex<JoinSet<std::io::Result<()>>>,
}

impl Role for Stub {
    const NAME: &'static str = "stub";
    type Config = Config;
    type Ready = ();
    type Update = Update;
    type Ask = Ask;
    type Answer = String;
    type Notice = Never;

    /// `at` is the folder of the socket for the agent.
    async fn start(config: Config, at: Option<&str>) -> anyhow::Result<(Arc<Self>, ())> {
        let egress = Listener::for_egress(&config.outward)?;
        let agent = Listener::for_agent(config.inside, config.port, at).await?;
        let stub = Self { config, word: Mutex::default(), stopped: watch::Sender::new(false), held: Mutex::default() };
        let (stub, permits) = (Arc::new(stub), Arc::new(Semaphore::new(CONNECTIONS)));
        for (listener, door) in [(egress, "egress"), (agent, "agent")] {
            let stub = stub.clone();
            listener.serve(permits.clone(), move |connection, permit| serve(connection, permit, door, stub.clone()));
        }
        Ok((stub, ()))
    }

    async fn update(&self, update: Update) -> Result<(), String> {
        match update {
            Update::Word(word) if word.is_empty() => Err("the word is empty".to_owned()),
            Update::Word(word) => {
                *lock(&self.word) = word;
                Ok(())
            }
        }
    }

    async fn answer(&self, ask: Ask) -> Result<String, String> {
        match ask {
            Ask::Word => Ok(lock(&self.word).clone()),
        }
    }

    async fn end(&self) {
        self.stopped.send_replace(true);
        let held = std::mem::take(&mut *lock(&self.held));
        held.join_all().await;
    }
}

async fn serve(stream: Connection, _permit: OwnedSemaphorePermit, door: &'static str, stub: Arc<Stub>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let stub = stub.clone();
        async move {
            let path = request.uri().path().to_owned();
            let text = if let Some(target) = path.strip_prefix("/out/") {
                stub.out(target).await.unwrap_or_else(|error| error.to_string())
            } else if let Some(target) = path.strip_prefix("/hold/") {
                stub.hold(target)
            } else {
                format!("{} by {door}: {}\n", stub.config.name, lock(&stub.word))
            };
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        }
    });
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

impl Stub {
    /// Sends a request through egress; returns the whole response.
    async fn out(&self, target: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.config.outward.proxy).await?;
        stream.write_all(format!("GET {}\r\n", head(target)).as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(MAX_ANSWER).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Starts a request that ends when this is stopped.
    fn hold(&self, target: &str) -> String {
        let (proxy, mut stopped) = (self.config.outward.proxy.clone(), self.stopped.subscribe());
        let length = HALVES.concat().len();
        let head = format!("POST {}Content-Length: {length}\r\n\r\n", head(target));
        lock(&self.held).spawn(async move {
            let mut stream = UnixStream::connect(proxy).await?;
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(HALVES[0]).await?;
            let _ = stopped.wait_for(|stopped| *stopped).await;
            stream.write_all(HALVES[1]).await?;
            let mut answer = Vec::new();
            stream.take(MAX_ANSWER).read_to_end(&mut answer).await.map(drop)
        });
        "held\n".to_owned()
    }
}

/// A request's target and headers, without its method.
fn head(target: &str) -> String {
    let host = target.split('/').next().unwrap_or_default();
    format!("http://{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n")
}
