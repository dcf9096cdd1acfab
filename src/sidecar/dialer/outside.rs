//! How egress reaches the world: by its own container's network, or through a dialer.

use std::any::Any;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::protocol::{DialRequest, DialResponse, first_line};
use super::resolver::Resolver;
use crate::net::Host;
use crate::splice::Socket;
use crate::wire;

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {
    /// The socket, if it is nothing else.
    fn socket(&self) -> Option<&dyn Socket>;
}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {
    fn socket(&self) -> Option<&dyn Socket> {
        let stream: &dyn Any = self;
        let tcp = stream.downcast_ref::<TcpStream>().map(|stream| stream as &dyn Socket);
        tcp.or_else(|| stream.downcast_ref::<UnixStream>().map(|stream| stream as &dyn Socket))
    }
}

/// A connection of any kind.
pub type Connection = Box<dyn Duplex>;

/// The time limit for one connection attempt, and for the TLS handshake after it.
pub const DIAL: Duration = Duration::from_secs(10);

/// The way out.
#[derive(Clone)]
pub enum Outside {
    /// The network of this container.
    Network(Resolver),
    /// The dialer behind this socket.
    Dialer(Arc<Path>),
}

impl Outside {
    /// The addresses of a host, at least one; an address is its own.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, String> {
        match (self, host) {
            (Self::Network(resolver), _) => resolver.resolve(host).await,
            (_, Host::V4(address)) => Ok(vec![IpAddr::V4(*address)]),
            (_, Host::V6(address)) => Ok(vec![IpAddr::V6(*address)]),
            (Self::Dialer(socket), Host::Name(name)) => {
                match ask(socket, &DialRequest::Resolve(name.clone())).await.map_err(|error| no_dialer(&error))? {
                    (DialResponse::Addresses(addresses), _) if !addresses.is_empty() => Ok(addresses),
                    (DialResponse::Failed(why), _) => Err(why),
                    _ => Err("the dialer gave another answer".to_owned()),
                }
            }
        }
    }

    /// Connects to an address that was checked.
    ///
    /// # Errors
    /// The reason why there is no connection.
    pub async fn connect(&self, address: SocketAddr) -> Result<Connection, String> {
        match self {
            Self::Network(_) => Ok(Box::new(tcp(address).await?)),
            Self::Dialer(socket) => {
                match ask(socket, &DialRequest::Connect(address)).await.map_err(|error| no_dialer(&error))? {
                    (DialResponse::Connected, stream) => Ok(Box::new(stream)),
                    (DialResponse::Failed(why), _) => Err(why),
                    _ => Err("the dialer gave another answer".to_owned()),
                }
            }
        }
    }
}

/// A TCP connection. Small requests do not wait for a full segment (measured: 40 ms each).
///
/// # Errors
/// The reason why there is none.
pub async fn tcp(address: SocketAddr) -> Result<TcpStream, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.kind().to_string())?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn no_dialer(error: &io::Error) -> String {
    format!("the dialer does not answer: {}", error.kind())
}

async fn ask(socket: &Path, request: &DialRequest) -> io::Result<(DialResponse, UnixStream)> {
    let mut stream = UnixStream::connect(socket).await?;
    wire::send(&mut stream, request).await?;
    Ok((serde_json::from_slice(&first_line(&mut stream).await?)?, stream))
}
