//! An upstream over smart HTTP (git, `gitprotocol-http(5)`), as a conversation: git on the other side believes that it
//! talks to ssh. Redirects are refused, because they could lead a credential elsewhere.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use tokio::net::{TcpStream, UnixStream};
use url::Url;

use super::conversation::{Conversation, PIPE, Service, Task, Trouble};
use super::pkt::{self, Packet};
use super::tunnel;
use crate::sidecar::dialer::Connection;
use crate::sidecar::outward::{bottle_ca, tls};
use crate::sidecar::place::Uplink;

/// The size of a piece of a body, in bytes.
const PIECE: usize = 64 << 10;

type Body = BoxBody<Bytes, std::io::Error>;

/// What requests need.
struct Client {
    url: Url,
    authorization: Option<String>,
    service: Service,
    /// Whether requests name their whole URL, as a proxy wants it.
    absolute: bool,
    sender: SendRequest<Body>,
    outward: Option<Uplink>,
}

/// The upstream redirects.
#[derive(Debug, thiserror::Error)]
#[error("it redirects elsewhere ({0}), which the gate does not follow")]
struct Redirected(StatusCode);

/// Opens a conversation: asks for the references, and posts what is written.
///
/// # Errors
/// The upstream cannot be reached, or does not offer the service.
pub(super) async fn open(
    url: &Url,
    authorization: Option<String>,
    outward: Option<&Uplink>,
    service: Service,
) -> anyhow::Result<Conversation> {
    let (sender, absolute) = begin(url, outward).await?;
    let mut client = Client { url: url.clone(), authorization, service, absolute, sender, outward: outward.cloned() };
    let refs = match client.refs().await {
        // Some forges know a repository by its whole name only.
        Err(error) if error.is::<Redirected>() && client.complete_name() => {
            client.reconnect().await?;
            client.refs().await.map_err(|_| error)?
        }
        refs => refs?,
    };
    let (near, far) = tokio::io::duplex(PIPE);
    let trouble = Trouble::default();
    let told = trouble.clone();
    let task = tokio::spawn(async move {
        let done = client.converse(refs, far).await;
        told.set(done.err().map(|error| format!("{error:#}")).unwrap_or_default());
    });
    let (reader, writer) = tokio::io::split(near);
    let reader = Box::new(BufReader::with_capacity(PIPE, reader));
    Ok(Conversation { reader, writer: Box::new(writer), trouble, _task: Task(task) })
}

/// Opens a connection for requests; also whether these name their whole URL.
async fn begin(url: &Url, outward: Option<&Uplink>) -> anyhow::Result<(SendRequest<Body>, bool)> {
    let (stream, absolute) = connect(url, outward).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.context("begin HTTP")?;
    tokio::spawn(connection);
    Ok((sender, absolute))
}

async fn connect(url: &Url, outward: Option<&Uplink>) -> anyhow::Result<(Connection, bool)> {
    let host = url.host_str().context("the URL has no host")?;
    let port = url.port_or_known_default().context("the URL has no port")?;
    let is_https = url.scheme() == "https";
    let stream: Connection = match outward {
        Some(outward) if !is_https => {
            let stream = UnixStream::connect(&outward.proxy).await.context("connect to egress")?;
            return Ok((Box::new(stream), true));
        }
        Some(outward) => Box::new(tunnel::connect(&outward.proxy, &format!("{host}:{port}")).await?),
        None => {
            let stream = TcpStream::connect((host, port)).await.with_context(|| format!("connect to {host}:{port}"))?;
            stream.set_nodelay(true)?;
            Box::new(stream)
        }
    };
    if !is_https {
        return Ok((stream, false));
    }
    let roots = match outward {
        Some(outward) => bottle_ca(outward)?,
        None => rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() },
    };
    let name = ServerName::try_from(host.to_owned())?;
    Ok((Box::new(tls(roots)?.connect(name, stream).await.with_context(|| format!("TLS with {host}"))?), false))
}

impl Client {
    /// Takes another connection: the last one may have ended while something else was done.
    async fn reconnect(&mut self) -> anyhow::Result<()> {
        (self.sender, self.absolute) = begin(&self.url, self.outward.as_ref()).await?;
        Ok(())
    }

    /// Adds `.git` to the path; false if it is there.
    fn complete_name(&mut self) -> bool {
        let path = self.url.path().to_owned();
        if path.strip_suffix(".git").is_some() {
            return false;
        }
        self.url.set_path(&format!("{path}.git"));
        true
    }

    /// Asks for the references; returns the response after git's line about the service.
    async fn refs(&mut self) -> anyhow::Result<Response<Incoming>> {
        let service = self.service.name();
        let target = format!("{}/info/refs?service={service}", self.url.path());
        let response = self.send(Method::GET, &target, None, None, full(Bytes::new())).await?;
        let expected = format!("application/x-{service}-advertisement");
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        ensure!(kind == expected, "it is not a git server, or does not offer {service} (Content-Type {kind:?})");
        Ok(response)
    }

    async fn converse(&mut self, refs: Response<Incoming>, pipe: DuplexStream) -> anyhow::Result<()> {
        let (mut from, mut to) = tokio::io::split(pipe);
        let mut refs = reader(refs);
        let first = pkt::read(&mut refs).await?.context("the response is empty")?;
        let first = match &first {
            Packet::Line(line) if line.starts_with(b"# service=") => {
                ensure!(pkt::read(&mut refs).await? == Some(Packet::Flush), "the response has no references");
                pkt::read(&mut refs).await?.context("the response is empty")?
            }
            _ => first,
        };
        let is_v2 = matches!(&first, Packet::Line(line) if line.starts_with(b"version 2"));
        to.write_all(&pkt::frame(&first)).await?;
        tokio::io::copy(&mut refs, &mut to).await?;
        match self.service {
            Service::UploadPack if is_v2 => self.fetch(from, to).await,
            Service::UploadPack => bail!("it does not speak git's protocol v2 over HTTP"),
            Service::ReceivePack => {
                let mut first = vec![0; PIECE];
                let length = from.read(&mut first).await?;
                first.truncate(length);
                if length == 0 { Ok(()) } else { self.push(first, from, &mut to).await }
            }
        }
    }

    /// Each request of protocol v2 ends with a flush packet.
    async fn fetch(&mut self, mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) -> anyhow::Result<()> {
        let mut request = Vec::new();
        while let Some(packet) = pkt::read(&mut from).await? {
            request.extend_from_slice(&pkt::frame(&packet));
            if packet == Packet::Flush && request.len() > pkt::FLUSH.len() {
                let body = full(std::mem::take(&mut request).into());
                tokio::io::copy(&mut reader(self.post(body).await?), &mut to).await?;
            } else if packet == Packet::Flush {
                request.clear();
            }
        }
        Ok(())
    }

    /// A push is one request, up to the end of what is written.
    async fn push(
        &mut self,
        first: Vec<u8>,
        from: ReadHalf<DuplexStream>,
        to: &mut WriteHalf<DuplexStream>,
    ) -> anyhow::Result<()> {
        let pieces = futures_util::stream::unfold((Some(first), from), |(first, mut from)| async {
            if let Some(first) = first {
                return Some((Ok(Frame::data(first.into())), (None, from)));
            }
            let mut piece = vec![0; PIECE];
            match from.read(&mut piece).await {
                Ok(0) => None,
                Ok(length) => {
                    piece.truncate(length);
                    Some((Ok(Frame::data(piece.into())), (None, from)))
                }
                Err(error) => Some((Err(error), (None, from))),
            }
        });
        let response = self.post(BodyExt::boxed(StreamBody::new(Box::pin(pieces.map(|piece| piece))))).await?;
        tokio::io::copy(&mut reader(response), to).await?;
        to.shutdown().await?;
        Ok(())
    }

    async fn post(&mut self, body: Body) -> anyhow::Result<Response<Incoming>> {
        // A proxy ends connections on which nothing happens, such as while a push is inspected.
        self.reconnect().await?;
        let service = self.service.name();
        let target = format!("{}/{service}", self.url.path());
        let kinds = [format!("application/x-{service}-request"), format!("application/x-{service}-result")];
        self.send(Method::POST, &target, Some(&kinds[0]), Some(&kinds[1]), body).await
    }

    async fn send(
        &mut self,
        method: Method,
        target: &str,
        kind: Option<&str>,
        accept: Option<&str>,
        body: Body,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let target = if self.absolute { format!("{}://{host}{target}", self.url.scheme()) } else { target.to_owned() };
        let mut request = Request::builder().method(method).uri(target).header(HOST, host);
        request = request.header(USER_AGENT, "git/2 (bottler)").header(ACCEPT, accept.unwrap_or("*/*"));
        request = request.header("Git-Protocol", "version=2");
        if let Some(kind) = kind {
            request = request.header(CONTENT_TYPE, kind);
        }
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        self.sender.ready().await.context("the connection has ended")?;
        let response = self.sender.send_request(request.body(body)?).await.context("no response")?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Redirected(status).into());
        }
        ensure!(status.is_success(), "it responds {status}");
        Ok(response)
    }
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// The body of a response, as something to read.
fn reader(response: Response<Incoming>) -> ReadHalf<DuplexStream> {
    let (near, mut far) = tokio::io::duplex(PIPE);
    tokio::spawn(async move {
        let mut body = response.into_body();
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && far.write_all(&data).await.is_err()
            {
                return;
            }
        }
    });
    tokio::io::split(near).0
}
