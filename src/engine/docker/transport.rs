//! Engines that are not behind a socket of this host: TLS with certificates, and ssh as the docker command does it.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, BollardRequest, Docker};
use hyper::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::{Endpoint, Ssh};
use crate::sync::lock;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// Largest head of the answer to the greeting, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// What is remembered of what ssh wrote, in lines.
const SAID: usize = 5;

/// The engine at an endpoint that is reached by TLS or ssh.
///
/// # Errors
/// The certificates cannot be read.
pub(super) fn connect(endpoint: &Endpoint, limit: u64) -> Result<Docker, Error> {
    let dial = match endpoint {
        Endpoint::Tls { host, certificates } => {
            let (name, _) = host.rsplit_once(':').unwrap_or((host, ""));
            let name = ServerName::try_from(name.trim_matches(['[', ']']).to_owned()).map_err(io::Error::other)?;
            Dial::Tls { host: host.clone(), name, connector: TlsConnector::from(Arc::new(tls(certificates)?)) }
        }
        Endpoint::Ssh(ssh) => Dial::Ssh { to: ssh.clone(), said: Said::default() },
        Endpoint::Unix(_) | Endpoint::Tcp(_) => return Err(io::Error::other("it is no remote engine").into()),
    };
    let said = if let Dial::Ssh { said, .. } = &dial { said.clone() } else { Said::default() };
    let client = Client::builder(TokioExecutor::new()).build(dial);
    let transport = move |request: BollardRequest| {
        let (answer, said) = (client.request(request), said.clone());
        async move { answer.await.map_err(|error| explain(error, &said)) }
    };
    Docker::connect_with_custom_transport(transport, Some("http://engine"), limit, API_DEFAULT_VERSION)
}

/// ssh says why in words of its own, and its end is all that the protocol sees. A connection that could not be made says so
/// itself; one that has ended before its request is no refusal of the engine's.
fn explain(error: hyper_util::client::legacy::Error, said: &Said) -> Error {
    let words = lock(&said.0).join(" ");
    if !words.is_empty() {
        return io::Error::other(format!("ssh: {words}")).into();
    }
    let canceled = std::error::Error::source(&error)
        .and_then(|cause| cause.downcast_ref::<hyper::Error>())
        .is_some_and(|cause| cause.is_canceled() || cause.is_closed() || cause.is_incomplete_message());
    if canceled {
        io::Error::other(format!("the connection to the engine ended: {error}")).into()
    } else {
        error.into()
    }
}

/// TLS as the docker command has it: the folder's authority and no other, and the client's certificate where there is one.
fn tls(folder: &Path) -> io::Result<ClientConfig> {
    let file = |name: &str| folder.join(name);
    let wrong = |name: &str, why: &dyn std::fmt::Display| {
        io::Error::new(io::ErrorKind::InvalidData, format!("read {}: {why}", file(name).display()))
    };
    let certificates = |name: &str| -> io::Result<Vec<CertificateDer<'static>>> {
        let found = CertificateDer::pem_file_iter(file(name)).and_then(Iterator::collect);
        found.map_err(|error| wrong(name, &error))
    };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca.pem")? {
        roots.add(certificate).map_err(|error| wrong("ca.pem", &error))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(io::Error::other)?.with_root_certificates(roots);
    if !file("cert.pem").exists() {
        return Ok(builder.with_no_client_auth());
    }
    let key = PrivateKeyDer::from_pem_file(file("key.pem")).map_err(|error| wrong("key.pem", &error))?;
    builder.with_client_auth_cert(certificates("cert.pem")?, key).map_err(|error| wrong("cert.pem", &error))
}

/// The last lines that ssh wrote to its standard error.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<String>>>);

/// How a connection is made.
#[derive(Clone)]
enum Dial {
    Tls { host: String, name: ServerName<'static>, connector: TlsConnector },
    Ssh { to: Ssh, said: Said },
}

impl Dial {
    async fn dial(self) -> io::Result<Wire> {
        match self {
            Self::Tls { host, name, connector } => {
                let connect = async || {
                    let stream = TcpStream::connect(&host).await?;
                    stream.set_nodelay(true)?;
                    connector.connect(name.clone(), stream).await
                };
                let mut stream = connect().await?;
                if greet(&mut stream).await? == Greeted::Closes {
                    stream = connect().await?;
                }
                Ok(Wire::Tls(Box::new(stream)))
            }
            Self::Ssh { to, said } => start(&to, &said),
        }
    }
}

/// What becomes of a connection after the greeting.
#[derive(Debug, PartialEq, Eq)]
enum Greeted {
    /// It takes further requests.
    Stays,
    /// The engine closes it.
    Closes,
}

/// Asks the engine for a sign of life, and waits for any answer. In TLS 1.3 a client is done with the handshake before the
/// server has looked at its certificate (RFC 8446, 2): what the server says of that comes with the first answer, or instead of
/// it, and a client library that has begun a request by then may see only that the connection has ended.
async fn greet(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<Greeted> {
    let request = b"HEAD /_ping HTTP/1.1\r\nHost: engine\r\nUser-Agent: bottler\r\n\r\n";
    let sent = async {
        stream.write_all(request).await?;
        stream.flush().await
    }
    .await;
    // Why it could not be sent stands in what has been received, if anything says it.
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() == MAX_HEAD || stream.read(&mut byte).await? == 0 {
            sent?;
            let why = if head.len() == MAX_HEAD {
                "its answer has no end"
            } else {
                "it closes the connection without a word"
            };
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, why));
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_ascii_lowercase();
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let closes = fields.any(|(name, value)| name.trim() == "connection" && value.contains("close"));
    Ok(if closes || head.starts_with("http/1.0") { Greeted::Closes } else { Greeted::Stays })
}

/// `ssh HOST docker system dial-stdio`: the engine's API on a command's standard streams. ssh's own configuration decides
/// about keys, jumps and shared connections; it is asked nothing, for nobody is there to answer later.
fn start(to: &Ssh, said: &Said) -> io::Result<Wire> {
    let mut command = Command::new("ssh");
    command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-T"]);
    if let Some(user) = &to.user {
        command.args(["-l", user]);
    }
    if let Some(port) = to.port {
        command.args(["-p", &port.to_string()]);
    }
    command.args(["--", &to.host, "docker"]);
    if let Some(socket) = &to.socket {
        command.arg(format!("--host=unix://{socket}"));
    }
    command.args(["system", "dial-stdio"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| io::Error::new(error.kind(), format!("start ssh: {error}")))?;
    let missing = || io::Error::other("ssh has no standard streams");
    let (input, output) = (child.stdin.take().ok_or_else(missing)?, child.stdout.take().ok_or_else(missing)?);
    let mut lines = BufReader::new(child.stderr.take().ok_or_else(missing)?).lines();
    let said = said.clone();
    crate::task::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            let mut said = lock(&said.0);
            said.push(line.chars().filter(|c| !c.is_control()).take(200).collect());
            if said.len() > SAID {
                said.remove(0);
            }
        }
    });
    Ok(Wire::Ssh(Box::new(Process { _child: child, input, output })))
}

impl tower_service::Service<Uri> for Dial {
    type Response = TokioIo<Wire>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Wire>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let dial = self.clone();
        Box::pin(async move {
            let late =
                |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", CONNECT.as_secs()));
            Ok(TokioIo::new(tokio::time::timeout(CONNECT, dial.dial()).await.map_err(late)??))
        })
    }
}

/// A connection.
enum Wire {
    Tls(Box<TlsStream<TcpStream>>),
    Ssh(Box<Process>),
}

/// An ssh, killed when its connection is dropped.
struct Process {
    _child: Child,
    input: ChildStdin,
    output: ChildStdout,
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for Wire {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Ssh(ssh) => Pin::new(&mut ssh.output).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Ssh(ssh) => Pin::new(&mut ssh.input).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Ssh(ssh) => Pin::new(&mut ssh.input).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Ssh(ssh) => Pin::new(&mut ssh.input).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn greeted(answer: &'static [u8]) -> io::Result<Greeted> {
        let (mut near, mut far) = tokio::io::duplex(1 << 10);
        let engine = async {
            let mut request = vec![0; 1 << 10];
            let _ = far.read(&mut request).await;
            let _ = far.write_all(answer).await;
            drop(far);
        };
        tokio::join!(greet(&mut near), engine).0
    }

    #[tokio::test]
    async fn any_whole_answer_is_a_sign_of_life_and_nothing_of_what_follows_is_lost() {
        let stays = b"HTTP/1.1 200 OK\r\nApi-Version: 1.41\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(greeted(stays).await.unwrap(), Greeted::Stays);
        assert_eq!(greeted(b"HTTP/1.1 403 Forbidden\r\n\r\n").await.unwrap(), Greeted::Stays);
        assert_eq!(greeted(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n").await.unwrap(), Greeted::Closes);
        for cut in [&b""[..], b"HTTP/1.1 200 OK\r\n"] {
            assert_eq!(greeted(cut).await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        }
    }
}
