//! Pipelock's process: its start, its health, its signal, its output.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use super::log::{LogLine, read, says_healthy};
use crate::layout::pipelock as layout;
use crate::sidecar::audit::Log;
use crate::sidecar::egress::ROLE;

/// How long it may take until it is healthy, and how often it is asked.
const READY: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);
/// How often its health is looked at, how long it may take to say so, and how often it may not.
const CHECK: Duration = Duration::from_secs(2);
const MISSED: u32 = 3;
/// How long it may take until it enforces a change.
const RELOAD: Duration = Duration::from_secs(5);
/// Maximum length of a line of its output, and of its answer about its health, in bytes.
const MAX_LINE: usize = 64 << 10;
/// What is kept of its standard error, in bytes.
const MAX_ERRORS: usize = 2 << 10;

/// What its output has said last.
#[derive(Debug, Clone, Default)]
struct Said {
    /// The digest of the configuration that it enforces.
    enforces: String,
    /// Why it rejected one, and how often it did.
    rejected: (u64, String),
    /// The end of its standard error.
    errors: String,
    /// Whether it has ended.
    ended: Option<String>,
}

/// The running program.
pub(super) struct Running {
    pid: Pid,
    said: watch::Receiver<Said>,
}

impl Running {
    /// Starts it with the configuration in `folder`, whose digest is given, and waits until it enforces that and is healthy.
    ///
    /// # Errors
    /// The program cannot be started, ends, or is not healthy in time.
    pub(super) async fn start(program: &Path, folder: &Path, digest: &str, log: Log) -> anyhow::Result<Self> {
        let failed = || format!("start Pipelock, {}", program.display());
        let mut command = Command::new(program);
        let roots = folder.join(layout::ROOTS);
        command.args(["run", "--config"]).arg(folder.join(layout::CONFIG));
        command.env_clear().env("HOME", folder).env("SSL_CERT_FILE", roots).current_dir(folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().with_context(failed)?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw).with_context(failed)?;
        let (said, heard) = watch::channel(Said::default());
        let said = Arc::new(said);
        let (output, errors) = (child.stdout.take().with_context(failed)?, child.stderr.take().with_context(failed)?);
        crate::task::spawn(listen(output, said.clone(), log));
        crate::task::spawn(keep_errors(errors, said.clone()));
        crate::task::spawn(await_end(child, said));
        let running = Self { pid, said: heard };
        let up = async {
            running.until(digest, 0).await?;
            while !is_healthy(READY).await {
                running.alive()?;
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        let why = match timeout(READY, up).await {
            Ok(Ok(())) => return Ok(running),
            Ok(Err(why)) => why,
            Err(_) => format!("it was not healthy within {} s; {}", READY.as_secs(), running.errors()),
        };
        Err(anyhow::anyhow!("{}: {why}", failed()))
    }

    /// Has it read its configuration again, and waits until it enforces the one with this digest.
    ///
    /// # Errors
    /// It rejects that one, or has ended: with its own words.
    pub(super) async fn reload(&self, digest: &str) -> Result<(), String> {
        let rejected = self.said.borrow().rejected.0;
        kill(self.pid, Signal::SIGHUP).map_err(|error| format!("signal it: {error}"))?;
        let taken = timeout(RELOAD, self.until(digest, rejected)).await;
        taken.unwrap_or_else(|_| Err(format!("it has not said so within {} s; {}", RELOAD.as_secs(), self.errors())))
    }

    /// Waits until it enforces a configuration, or rejects one more than before.
    async fn until(&self, digest: &str, rejected: u64) -> Result<(), String> {
        let mut said = self.said.clone();
        loop {
            {
                let now = said.borrow_and_update();
                if let Some(why) = &now.ended {
                    return Err(format!("it has ended: {why}; {}", now.errors.trim()));
                }
                if now.enforces == digest {
                    return Ok(());
                }
                if now.rejected.0 > rejected {
                    return Err(now.rejected.1.clone());
                }
            }
            if said.changed().await.is_err() {
                return Err("its output has ended".to_owned());
            }
        }
    }

    fn alive(&self) -> Result<(), String> {
        let said = self.said.borrow();
        said.ended.as_ref().map_or(Ok(()), |why| Err(format!("it has ended: {why}; {}", said.errors.trim())))
    }

    /// Waits until it has ended, or does not answer any more; returns how, with its last words.
    pub(super) async fn ended(&self) -> String {
        let mut said = self.said.clone();
        let ended = tokio::select! {
            ended = said.wait_for(|said| said.ended.is_some()) => ended,
            () = hangs() => {
                // It must not come back while egress ends.
                let _ = kill(self.pid, Signal::SIGKILL);
                return format!("Pipelock does not answer; {}", self.errors());
            }
        };
        let why = ended.ok().and_then(|said| said.ended.clone()).unwrap_or_else(|| "unknown".to_owned());
        format!("Pipelock has ended: {why}; {}", self.errors())
    }

    fn errors(&self) -> String {
        format!("its last words: {}", self.said.borrow().errors.trim())
    }
}

/// Reads its log. Decisions go to the audit.
async fn listen(output: impl AsyncRead + Unpin, said: Arc<watch::Sender<Said>>, log: Log) {
    let mut lines = Lines::new(output);
    while let Some(line) = lines.next().await {
        match read(&line, ROLE, log.bottle()) {
            LogLine::Enforces(digest) => said.send_modify(|said| said.enforces = digest),
            LogLine::Rejects(why) => said.send_modify(|said| said.rejected = (said.rejected.0 + 1, why)),
            LogLine::Decision(details) => log.note(*details),
            LogLine::Nothing => {}
        }
    }
}

/// Keeps the end of its standard error, where it says why it does not start and why it does not take a configuration.
async fn keep_errors(errors: impl AsyncRead + Unpin, said: Arc<watch::Sender<Said>>) {
    let mut lines = Lines::new(errors);
    while let Some(line) = lines.next().await {
        said.send_modify(|said| {
            said.errors.push_str(&line);
            said.errors.push('\n');
            let mut from = said.errors.len().saturating_sub(MAX_ERRORS);
            while !said.errors.is_char_boundary(from) {
                from += 1;
            }
            said.errors.drain(..from);
            if let Some((_, why)) = line.split_once("config reload failed: ") {
                said.rejected = (said.rejected.0 + 1, why.to_owned());
            }
        });
    }
}

/// Notes how it ends.
async fn await_end(mut child: Child, said: Arc<watch::Sender<Said>>) {
    let why = match child.wait().await {
        Ok(status) => status.to_string(),
        Err(error) => error.to_string(),
    };
    said.send_modify(|said| said.ended = Some(why));
}

/// Resolves when it has not said that it is healthy for several times.
async fn hangs() {
    let mut missed = 0;
    while missed < MISSED {
        tokio::time::sleep(CHECK).await;
        missed = if is_healthy(CHECK).await { 0 } else { missed + 1 };
    }
}

/// Whether it says within a time that it is healthy.
async fn is_healthy(patience: Duration) -> bool {
    let ask = async {
        let stream = TcpStream::connect(("127.0.0.1", layout::PORT)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        crate::task::spawn(connection);
        let request = Request::get("/health").header(header::HOST, "127.0.0.1").body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let ok = response.status() == StatusCode::OK;
        let body =
            Limited::new(response.into_body(), MAX_LINE).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        anyhow::Ok(ok && says_healthy(&body.to_bytes()))
    };
    timeout(patience, ask).await.is_ok_and(|healthy| healthy.unwrap_or(false))
}

/// Lines of text. Of a line that is too long, only the first part is read.
struct Lines<R>(BufReader<R>);

impl<R: AsyncRead + Unpin> Lines<R> {
    fn new(reader: R) -> Self {
        Self(BufReader::new(reader))
    }

    async fn next(&mut self) -> Option<String> {
        let mut line = Vec::new();
        loop {
            let available = self.0.fill_buf().await.ok()?;
            if available.is_empty() {
                return (!line.is_empty()).then(|| String::from_utf8_lossy(&line).into_owned());
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let piece = &available[..end.unwrap_or(available.len())];
            let room = MAX_LINE.saturating_sub(line.len());
            line.extend_from_slice(&piece[..piece.len().min(room)]);
            let used = piece.len() + usize::from(end.is_some());
            self.0.consume(used);
            if end.is_some() {
                return Some(String::from_utf8_lossy(&line).into_owned());
            }
        }
    }
}
