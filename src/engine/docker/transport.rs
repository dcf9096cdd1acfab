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
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::endpoint::{Endpoint, Ssh};
use crate::sync::lock;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
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

/// ssh says why in words of its own, and its end is all that the protocol sees.
fn explain(error: hyper_util::client::legacy::Error, said: &Said) -> Error {
    let words = lock(&said.0).join(" ");
    if words.is_empty() { error.into() } else { io::Error::other(format!("ssh: {words}")).into() }
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
                let stream = TcpStream::connect(&host).await?;
                stream.set_nodelay(true)?;
                Ok(Wire::Tls(Box::new(connector.connect(name, stream).await?)))
            }
            Self::Ssh { to, said } => start(&to, &said),
        }
    }
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
    tokio::spawn(async move {
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
