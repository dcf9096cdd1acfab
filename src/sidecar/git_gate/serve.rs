//! Accepts connections. HTTP and git's own protocol come in at the same port: a request of the latter begins with the
//! digits of a pkt-line.

use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::conversation::Service;
use super::fetch::{self, Version};
use super::gate::{Gate, Operation, Served};
use super::http::Door;
use super::pkt::{self, Packet};
use super::receive::Push;
use super::report::{Answer, QUEUE};
use super::{http, push, receive};
use crate::sidecar::dialer::Connection;
use crate::sidecar::listener::Listener;

/// How many connections are served at a time; others wait.
const CONNECTIONS: usize = 128;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(30);

/// Starts to serve a listener.
pub(super) fn spawn(listener: Listener, door: Door, gate: Arc<Gate>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS));
    listener.serve(permits, move |connection, permit| serve(connection, permit, door, gate.clone()));
}

async fn serve(mut stream: Connection, _permit: OwnedSemaphorePermit, door: Door, gate: Arc<Gate>) {
    let mut first = [0];
    if !matches!(tokio::time::timeout(PATIENCE, stream.read_exact(&mut first)).await, Ok(Ok(_))) {
        return;
    }
    let (from, to) = tokio::io::split(stream);
    let mut stream = tokio::io::join((&first[..]).chain(from), to);
    if first == *b"0" {
        Box::pin(converse(&mut stream, &gate)).await;
        let _ = stream.shutdown().await;
        return;
    }
    let first = Vec::from(first);
    let (from, to) = stream.into_inner();
    let (_, from) = from.into_inner();
    let stream = tokio::io::join(std::io::Cursor::new(first).chain(from), to);
    let service = service_fn(move |request| http::respond(gate.clone(), door, request));
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}

/// Serves a connection of git's own protocol (`gitprotocol-pack(5)`, "Git Transport").
async fn converse<S: AsyncRead + AsyncWrite + Send + Unpin>(stream: &mut S, gate: &Arc<Gate>) {
    let request = match tokio::time::timeout(PATIENCE, pkt::read(stream)).await {
        Ok(Ok(Some(Packet::Line(line)))) => String::from_utf8_lossy(&line).into_owned(),
        _ => return,
    };
    let Some((service, path, version)) = parse(&request) else {
        return say(stream, "this is not a request of git's protocol").await;
    };
    let name = path.trim_start_matches('/');
    let Some(served) = gate.named(name.strip_suffix(".git").unwrap_or(name)) else {
        return say(stream, "the git gate serves no such repository").await;
    };
    match service {
        Service::UploadPack => {
            let _permit = gate.fetches.acquire().await;
            if let Err(error) = fetch::converse(&served.mirror, version, stream).await {
                fail(stream, gate, &served, service, error.to_string()).await;
            }
        }
        Service::ReceivePack => {
            match receive::advertisement(&served).await {
                Ok(list) => {
                    if stream.write_all(&list).await.is_err() {
                        return;
                    }
                }
                Err(error) => return fail(stream, gate, &served, service, error.to_string()).await,
            }
            match receive::receive(gate, &served, stream, false).await {
                Ok(push) => Box::pin(answer(stream, gate, &served, push)).await,
                Err(error) => say(stream, &error.to_string()).await,
            }
        }
    }
}

/// Decides about a push and answers. What the client still sends is read and dropped, so that it reads the response.
async fn answer<S: AsyncRead + AsyncWrite + Send + Unpin>(
    stream: &mut S,
    gate: &Arc<Gate>,
    served: &Arc<Served>,
    push: Push,
) {
    let (from, mut to) = tokio::io::split(stream);
    let mut from = from.take(served.terms.max_push);
    let (pieces, mut queue) = mpsc::channel(QUEUE);
    let answer = Answer::new(pieces, &push.request);
    let write = async {
        while let Some(piece) = queue.recv().await {
            if to.write_all(&piece).await.is_err() {
                // Who has gone stops nothing.
                queue.close();
            }
        }
        let _ = to.shutdown().await;
    };
    let decide = async {
        push::decide(gate, served, push, &answer).await;
        drop(answer);
    };
    let mut sink = tokio::io::sink();
    let drain = async {
        let _ = tokio::io::copy(&mut from, &mut sink).await;
    };
    let work = async {
        tokio::join!(write, decide);
    };
    let (mut drain, mut work) = (std::pin::pin!(drain), std::pin::pin!(work));
    tokio::select! {
        () = &mut work => drop(tokio::time::timeout(PATIENCE, drain).await),
        () = &mut drain => work.await,
    }
}

/// Reads `SERVICE PATH\0host=HOST\0\0version=N\0`.
fn parse(request: &str) -> Option<(Service, &str, Version)> {
    let (command, parameters) = request.split_once('\0').unwrap_or((request, ""));
    let (service, path) = command.trim_end_matches('\n').split_once(' ')?;
    let version = parameters.split('\0').find(|word| word.starts_with("version=")).unwrap_or_default();
    Some((Service::of_name(service)?, path, Version::read(version)))
}

/// Says and logs that the upstream cannot be asked.
async fn fail(stream: &mut (impl AsyncWrite + Unpin), gate: &Gate, served: &Served, service: Service, reason: String) {
    say(stream, &reason).await;
    let (method, decision, code) = (service.operation(), "refuse", "git_upstream_failed");
    gate.record(served, &Operation { method, decision, code, reason });
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), why: &str) {
    let _ = stream.write_all(&pkt::line(format!("ERR bottler: {}", super::visible::reason(why)))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_gits_protocol_are_read() {
        let parsed = parse("git-upload-pack /app.git\0host=git-gate\0\0version=2\0");
        assert_eq!(parsed, Some((Service::UploadPack, "/app.git", Version::Two)));
        assert_eq!(parse("git-receive-pack /app.git\n"), Some((Service::ReceivePack, "/app.git", Version::Old)));
        for wrong in ["git-upload-archive /app.git\0", "git-upload-pack", ""] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
