//! An upstream over smart HTTP (git, `gitprotocol-http(5)`), as a conversation: git on the other side believes that it
//! talks to ssh. Redirects are refused, because they could lead a credential elsewhere.

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{ACCEPT, CONTENT_TYPE, HeaderName, USER_AGENT};
use hyper::{Method, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader, DuplexStream, ReadHalf, WriteHalf};
use url::Url;

use super::body::{Body, full, reader};
use super::conversation::{Conversation, PIPE, Service, Task, Trouble};
use super::pkt::{self, Packet};
use super::request::{Http, Redirected};
use crate::sidecar::place::Uplink;

/// The size of a piece of a body, in bytes.
const PIECE: usize = 64 << 10;

/// What requests need.
struct Client {
    http: Http,
    service: Service,
}

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
    let mut client = Client { http: Http::open(url, authorization, outward).await?, service };
    let refs = match client.refs().await {
        // Some forges know a repository by its whole name only.
        Err(error) if error.is::<Redirected>() && client.complete_name() => {
            client.http.reconnect().await?;
            client.refs().await.map_err(|_| error)?
        }
        refs => refs?,
    };
    let (near, far) = tokio::io::duplex(PIPE);
    let trouble = Trouble::default();
    let told = trouble.clone();
    let task = crate::task::spawn(async move {
        let done = client.converse(refs, far).await;
        told.set(done.err().map(|error| format!("{error:#}")).unwrap_or_default());
    });
    let (reader, writer) = tokio::io::split(near);
    let reader = Box::new(BufReader::with_capacity(PIPE, reader));
    Ok(Conversation { reader, writer: Box::new(writer), trouble, _task: Task(task) })
}

impl Client {
    /// Adds `.git` to the path; false if it is there.
    fn complete_name(&mut self) -> bool {
        let path = self.http.url.path().to_owned();
        if path.strip_suffix(".git").is_some() {
            return false;
        }
        self.http.url.set_path(&format!("{path}.git"));
        true
    }

    /// Asks for the references; returns the response after git's line about the service.
    async fn refs(&mut self) -> anyhow::Result<Response<Incoming>> {
        let service = self.service.name();
        let target = format!("{}/info/refs?service={service}", self.http.url.path());
        let response = self.send(Method::GET, &target, None, None, full(Bytes::new())).await?;
        let expected = format!("application/x-{service}-advertisement");
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        ensure!(kind == expected, "it is not a git server, or does not offer {service} (Content-Type {kind:?})");
        Ok(response)
    }

    async fn converse(&mut self, refs: Response<Incoming>, pipe: DuplexStream) -> anyhow::Result<()> {
        let (mut from, mut to) = tokio::io::split(pipe);
        let mut refs = reader(refs.into_body());
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
                let body = full(std::mem::take(&mut request));
                tokio::io::copy(&mut reader(self.post(body).await?.into_body()), &mut to).await?;
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
        tokio::io::copy(&mut reader(response.into_body()), to).await?;
        to.shutdown().await?;
        Ok(())
    }

    async fn post(&mut self, body: Body) -> anyhow::Result<Response<Incoming>> {
        // A proxy ends connections on which nothing happens, such as while a push is inspected.
        self.http.reconnect().await?;
        let service = self.service.name();
        let target = format!("{}/{service}", self.http.url.path());
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
        let mut headers = vec![
            (USER_AGENT, "git/2 (bottler)"),
            (ACCEPT, accept.unwrap_or("*/*")),
            (HeaderName::from_static("git-protocol"), "version=2"),
        ];
        headers.extend(kind.map(|kind| (CONTENT_TYPE, kind)));
        let response = self.http.send(method, target, &headers, body).await?;
        let status = response.status();
        ensure!(status.is_success(), "it responds {status}");
        Ok(response)
    }
}
