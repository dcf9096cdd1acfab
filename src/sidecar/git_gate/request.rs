//! Requests to an upstream over HTTP: straight or through egress, with the repository's credential. Redirects are
//! refused, because they could lead a credential elsewhere.

use anyhow::Context;
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST, HeaderName};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use url::Url;

use super::body::Body;
use super::tunnel;
use crate::sidecar::dialer::Connection;
use crate::sidecar::outward::{bottle_ca, public_ca, tls};
use crate::sidecar::place::Uplink;

/// The upstream redirects.
#[derive(Debug, thiserror::Error)]
#[error("it redirects elsewhere ({0}), which the gate does not follow")]
pub(super) struct Redirected(StatusCode);

/// A connection to a repository's host.
pub(super) struct Http {
    /// The repository.
    pub(super) url: Url,
    authorization: Option<String>,
    outward: Option<Uplink>,
    /// Whether requests name their whole URL, as a proxy wants it.
    absolute: bool,
    sender: SendRequest<Body>,
}

impl Http {
    /// Opens a connection.
    ///
    /// # Errors
    /// The upstream cannot be reached.
    pub(super) async fn open(
        url: &Url,
        authorization: Option<String>,
        outward: Option<&Uplink>,
    ) -> anyhow::Result<Self> {
        let (sender, absolute) = begin(url, outward).await?;
        Ok(Self { url: url.clone(), authorization, outward: outward.cloned(), absolute, sender })
    }

    /// Takes another connection: the last one may have ended while something else was done.
    ///
    /// # Errors
    /// The upstream cannot be reached.
    pub(super) async fn reconnect(&mut self) -> anyhow::Result<()> {
        (self.sender, self.absolute) = begin(&self.url, self.outward.as_ref()).await?;
        Ok(())
    }

    /// Sends a request for a path of the host, and returns the response of any status but a redirect.
    ///
    /// # Errors
    /// The connection has ended, or the upstream redirects.
    pub(super) async fn send(
        &mut self,
        method: Method,
        target: &str,
        headers: &[(HeaderName, &str)],
        body: Body,
    ) -> anyhow::Result<Response<Incoming>> {
        let host = &self.url[url::Position::BeforeHost..url::Position::AfterPort];
        let target = if self.absolute { format!("{}://{host}{target}", self.url.scheme()) } else { target.to_owned() };
        let mut request = Request::builder().method(method).uri(target).header(HOST, host);
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        self.sender.ready().await.context("the connection has ended")?;
        let response = self.sender.send_request(request.body(body)?).await.context("no response")?;
        let status = response.status();
        if status.is_redirection() { Err(Redirected(status).into()) } else { Ok(response) }
    }
}

/// Opens a connection for requests; also whether these name their whole URL.
async fn begin(url: &Url, outward: Option<&Uplink>) -> anyhow::Result<(SendRequest<Body>, bool)> {
    let (stream, absolute) = connect(url, outward).await?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.context("begin HTTP")?;
    crate::task::spawn(connection);
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
        None => public_ca(),
    };
    let name = ServerName::try_from(host.to_owned())?;
    Ok((Box::new(tls(roots)?.connect(name, stream).await.with_context(|| format!("TLS with {host}"))?), false))
}
