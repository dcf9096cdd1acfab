//! The messages of the dialer: its configuration from the holder, requests from egress.

use std::io;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::policy::EnforcedPolicy;

/// Maximum length of a request and of a response, in bytes.
const MAX_MESSAGE: usize = 4 << 10;

/// The configuration, the first line on standard input.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The policy of the egress that this serves. It says which addresses may be dialled that are not public.
    pub policy: EnforcedPolicy,
}

/// A request from egress, the first line of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DialRequest {
    /// The addresses of a name.
    Resolve(String),
    /// A TCP connection.
    Connect(SocketAddr),
}

/// The response, one line. After [`DialResponse::Connected`], the connection is the stream to the destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DialResponse {
    /// The addresses; at least one.
    Addresses(Vec<IpAddr>),
    /// Connected.
    Connected,
    /// The reason why not.
    Failed(String),
}

/// The first line of a connection. It reads no byte beyond it: what follows belongs to somebody else.
pub(super) async fn first_line(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    while line.len() < MAX_MESSAGE {
        match stream.read_u8().await? {
            b'\n' => return Ok(line),
            byte => line.push(byte),
        }
    }
    Err(io::Error::other("the message is too long"))
}
