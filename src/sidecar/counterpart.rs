//! `counterpart`: the destination of the probe. It reports over HTTP what reached it by any way *other* than egress.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UdpSocket};

use super::message::Never;
use super::role::Role;
use crate::layout::counterpart::{GROUP, HTTP_PORT, UDP_PORT};

/// The role's name.
const ROLE: &str = "counterpart";
/// Maximum number of receipts.
const MAX_RECEIPTS: usize = 256;

/// The configuration, on standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Its own addresses, each with its network's broadcast address.
    pub listen: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Egress' address; only connections from there are allowed.
    pub egress: Option<Ipv4Addr>,
}

type Receipts = Arc<Mutex<BTreeSet<String>>>;

/// The role.
pub struct Counterpart;

impl Role for Counterpart {
    const NAME: &'static str = ROLE;
    type Config = Config;
    type Ready = ();
    type Update = Never;
    type Ask = Never;
    type Answer = Never;
    type Notice = Never;

    async fn start(config: Config, _: Option<&str>) -> anyhow::Result<(Arc<Self>, ())> {
        let receipts = Receipts::default();
        for &(address, broadcast) in &config.listen {
            let listener =
                TcpListener::bind((address, HTTP_PORT)).await.with_context(|| format!("listen on {address}"))?;
            crate::task::spawn(serve(listener, config.egress, receipts.clone()));
            for bound in [address, broadcast] {
                let socket = UdpSocket::bind((bound, UDP_PORT)).await.with_context(|| format!("receive on {bound}"))?;
                crate::task::spawn(receive(socket, format!("to {bound}"), receipts.clone()));
            }
        }
        let group = UdpSocket::bind((GROUP, UDP_PORT)).await.context("receive from a group")?;
        for &(address, _) in &config.listen {
            match group.join_multicast_v4(GROUP, address) {
                // Both networks may be on one interface.
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {}
                joined => joined.with_context(|| format!("join {GROUP} at {address}"))?,
            }
        }
        crate::task::spawn(receive(group, format!("to group {GROUP}"), receipts));
        Ok((Arc::new(Self), ()))
    }

    async fn update(&self, update: Never) -> Result<(), String> {
        match update {}
    }

    async fn answer(&self, ask: Never) -> Result<Never, String> {
        match ask {}
    }
}

fn note(receipts: &Receipts, receipt: String) {
    let mut receipts = crate::sync::lock(receipts);
    if receipts.len() < MAX_RECEIPTS {
        receipts.insert(receipt);
    }
}

async fn receive(socket: UdpSocket, how: String, receipts: Receipts) {
    let mut buffer = [0_u8; 256];
    while let Ok((length, _)) = socket.recv_from(&mut buffer).await {
        let text: String = String::from_utf8_lossy(&buffer[..length]).chars().filter(char::is_ascii_graphic).collect();
        note(&receipts, format!("udp {how}: {text}"));
    }
}

async fn serve(listener: TcpListener, egress: Option<Ipv4Addr>, receipts: Receipts) {
    while let Ok((stream, peer)) = listener.accept().await {
        if egress.is_some_and(|egress| peer.ip() != egress) {
            note(&receipts, format!("tcp from {}", peer.ip()));
        }
        let receipts = receipts.clone();
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let body = if request.uri().path() == "/received" {
                let receipts = crate::sync::lock(&receipts);
                serde_json::to_vec(&*receipts).unwrap_or_default()
            } else {
                b"{\"counterpart\":true}\n".to_vec()
            };
            async move { Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(body)))) }
        });
        crate::task::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

/// The addresses of a counterpart at `address`.
pub fn http_address(address: Ipv4Addr) -> SocketAddr {
    SocketAddrV4::new(address, HTTP_PORT).into()
}
