//! `serve`: PID 1 of an ordinary image that runs as a sidecar. It relays the ports that the image's command opens on
//! loopback: to sockets in the sidecar's volume, which the agent's container mounts read-only, or to ports of the
//! container's address on the network inside.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::child;
use super::relay::PAUSE;
use super::signals::signals;
use crate::layout::sidecar::INSIDE_PORTS;
use crate::layout::sidecar::SERVICE_DIR;
use crate::sidecar::{Message, Never, socket, stdio};
use crate::splice::{Socket, relay};

/// The role's name on the command line.
pub const ROLE: &str = "serve";
/// How often readiness is tested; this is inside the container, on its loopback.
const ASK: Duration = Duration::from_millis(20);
/// How long to wait for the last output after the command has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The configuration, on standard input; it may contain secrets, which the engine's configuration must not.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The image's command and arguments.
    pub command: Vec<String>,
    /// The working directory.
    pub workdir: String,
    /// Environment variables in addition to the container's.
    pub env: BTreeMap<String, String>,
    /// The command's ports, relayed to sockets of that name, or to ports from [`INSIDE_PORTS`] on.
    pub ports: Vec<u16>,
    /// Its address on the network inside, if it has one.
    #[serde(default)]
    pub inside: Option<Ipv4Addr>,
    /// The readiness condition; ready at once if absent.
    pub ready: Option<Condition>,
}

/// When a service is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Condition {
    /// It accepts connections at this port.
    Tcp(u16),
    /// It has written a line that contains this.
    Log(String),
    /// This command, run in its container, ends with exit code 0.
    Exec(Vec<String>),
}

/// Runs until the image's command has ended; returns its exit code.
///
/// # Errors
/// The configuration is invalid, a socket cannot be created, or the command cannot be started.
pub async fn run() -> anyhow::Result<i32> {
    let config = stdio::Input::new().next::<Config>().await.context("read the configuration")?;
    let config = config.context("read the configuration: there is none")?;
    let mut signals = signals()?;
    for (&port, relayed) in config.ports.iter().zip(INSIDE_PORTS..) {
        match config.inside {
            Some(address) => {
                let address = SocketAddrV4::new(address, relayed);
                let bound = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
                let listener = Arc::new(bound);
                accept(port, move || {
                    let listener = listener.clone();
                    async move { listener.accept().await.map(|(stream, _)| stream) }
                });
            }
            None => listen(port)?,
        }
    }
    let (reader, writer) = std::io::pipe()?;
    let task =
        child::Task { command: &config.command, env: &config.env, workdir: &config.workdir, output: Some(writer) };
    let child = child::start(task)?;
    let (found_sender, found) = oneshot::channel();
    let words = match &config.ready {
        Some(Condition::Log(words)) => Some((words.clone(), found_sender)),
        _ => None,
    };
    let passed_on = crate::task::spawn(pass_on(pipe::Receiver::from_owned_fd(reader.into())?, words));
    let others = child.others();
    crate::task::spawn(async move { report_ready(&config, &others, found).await });
    let code = child.end(&mut signals).await;
    // The last output is in the pipe; an orphaned process may keep it open.
    let _ = tokio::time::timeout(LAST_WORDS, passed_on).await;
    Ok(code)
}

fn listen(port: u16) -> anyhow::Result<()> {
    let path = Path::new(SERVICE_DIR).join(port.to_string());
    let listener = Arc::new(socket::listen(&path, socket::OTHERS)?);
    accept(port, move || {
        let listener = listener.clone();
        async move { listener.accept().await.map(|(stream, _)| stream) }
    });
    Ok(())
}

/// Relays connections to a port of the image's command.
fn accept<S, F>(port: u16, next: impl Fn() -> F + Send + 'static)
where
    S: Socket + 'static,
    F: Future<Output = std::io::Result<S>> + Send,
{
    crate::task::spawn(async move {
        loop {
            match next().await {
                Ok(stream) => drop(crate::task::spawn(carry(stream, port))),
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    });
}

async fn carry(near: impl Socket, port: u16) {
    // A service that does not listen looks like a closed port.
    if let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
        let _ = far.set_nodelay(true);
        let _ = relay(&near, &far).await;
    }
}

/// Forwards the command's output to the container's log, and signals when a text was in it.
async fn pass_on(from: pipe::Receiver, mut words: Option<(String, oneshot::Sender<()>)>) {
    let mut reader = BufReader::new(from);
    let mut log = tokio::io::stderr();
    while let Ok(bytes) = reader.fill_buf().await {
        if bytes.is_empty() {
            break;
        }
        // One line at a time, or a full buffer if a line does not end.
        let length = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| end + 1);
        if let Some((_, found_sender)) = words.take_if(|(words, _)| contains(&bytes[..length], words.as_bytes())) {
            let _ = found_sender.send(());
        }
        let written = log.write_all(&bytes[..length]).await.and(log.flush().await);
        reader.consume(length);
        if written.is_err() {
            break;
        }
    }
}

fn contains(line: &[u8], words: &[u8]) -> bool {
    words.is_empty() || line.windows(words.len()).any(|part| part == words)
}

async fn report_ready(config: &Config, others: &child::OtherChildren, found: oneshot::Receiver<()>) {
    match &config.ready {
        Some(Condition::Tcp(port)) => {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.is_err() {
                tokio::time::sleep(ASK).await;
            }
        }
        Some(Condition::Exec(command)) => {
            while others.run(command, &config.env).await != Some(0) {
                tokio::time::sleep(ASK).await;
            }
        }
        Some(Condition::Log(_)) if found.await.is_err() => return,
        None | Some(Condition::Log(_)) => {}
    }
    stdio::write(&Message::<(), Never, Never>::Ready(()));
}
