//! The proxy through which destinations are reached with `CONNECT` (RFC 9110, section 9.3.6): the user's, or an inspector
//! beside egress.

use std::net::Ipv4Addr;

use anyhow::Context;
use bytes::Bytes;
use data_encoding::BASE64;
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::header::{self, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use crate::net::Host;
use crate::policy::{Connect, EgressSpec, Rule};
use crate::sidecar::dialer::{Connection, DIAL};

/// A configured upstream proxy.
pub(super) struct UpstreamProxy {
    /// Whether the proxy expects TLS.
    pub(super) tls: bool,
    pub(super) host: Host,
    pub(super) port: u16,
    /// How destinations are named to the proxy.
    pub(super) connect: Connect,
    no_proxy: Vec<Rule>,
    /// The proxy's credentials, if any (RFC 7617).
    pub(super) authorization: Option<HeaderValue>,
    /// Whether it is the inspector in egress' own container, on loopback.
    pub(super) inspects: bool,
}

impl UpstreamProxy {
    /// Reads the proxy from the policy, if there is one. `credentials` are `name:password`.
    pub(super) fn read(spec: &EgressSpec, credentials: Option<&str>) -> anyhow::Result<Option<Self>> {
        let (Some((tls, host, port)), Some(proxy)) = (spec.proxy()?, &spec.upstream_proxy) else { return Ok(None) };
        let authorization = credentials.map(|credentials| {
            let mut value = HeaderValue::try_from(format!("Basic {}", BASE64.encode(credentials.as_bytes())))?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        });
        let authorization = authorization.transpose().context("read the upstream proxy's credentials")?;
        Ok(Some(Self {
            tls,
            host,
            port,
            connect: proxy.connect,
            no_proxy: spec.no_proxy()?,
            authorization,
            inspects: false,
        }))
    }

    /// The inspector on a port of loopback. It does not see the policy's destinations of plain TCP.
    pub(super) fn inspector(port: u16, spec: &EgressSpec) -> anyhow::Result<Self> {
        let tcp = spec.tcp.iter().map(|entry| entry.parse()).collect::<Result<_, _>>()?;
        Ok(Self {
            tls: false,
            host: Host::V4(Ipv4Addr::LOCALHOST),
            port,
            connect: Connect::Name,
            no_proxy: tcp,
            authorization: None,
            inspects: true,
        })
    }

    /// Whether a host is reached through the proxy.
    pub(super) fn applies_to(&self, host: &Host, port: u16) -> bool {
        !self.no_proxy.iter().any(|rule| rule.has_host(host) && rule.has_port(port))
    }

    /// Opens a tunnel to a destination through the connected proxy.
    pub(super) async fn tunnel(&self, stream: Connection, target: &str) -> Result<Connection, String> {
        timeout(DIAL, self.ask(stream, target)).await.map_err(|_| "no answer in time".to_owned())?
    }

    async fn ask(&self, stream: Connection, target: &str) -> Result<Connection, String> {
        let broken = |error: hyper::Error| error.to_string();
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        crate::task::spawn(connection.with_upgrades());
        let mut request = Request::connect(target).header(header::HOST, target);
        if let Some(value) = &self.authorization {
            request = request.header(header::PROXY_AUTHORIZATION, value);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
        let answer = sender.send_request(request).await.map_err(broken)?;
        match answer.status() {
            status if status.is_success() => {
                Ok(Box::new(TokioIo::new(hyper::upgrade::on(answer).await.map_err(broken)?)))
            }
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err("it wants other credentials".to_owned()),
            status => Err(format!("it answers {status}")),
        }
    }
}
