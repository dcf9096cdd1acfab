//! The holder's end of the channel.

use std::convert::Infallible;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::limits::{CHANNEL_WINDOW, CONCURRENT, SEND_BUFFER, STREAM_WINDOW};
use crate::policy::HostService;

/// The time limit for connecting to a service.
const CONNECT: Duration = Duration::from_secs(5);

/// Serves a channel until it ends: connects to the declared services, and to nothing else.
///
/// # Errors
/// The channel breaks.
pub async fn serve(
    channel: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    services: Arc<[HostService]>,
) -> Result<(), hyper::Error> {
    let respond = service_fn(move |request| {
        let services = services.clone();
        async move { Ok::<_, Infallible>(respond(request, &services).await) }
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder.max_concurrent_streams(CONCURRENT).max_send_buf_size(SEND_BUFFER);
    builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CHANNEL_WINDOW);
    builder.serve_connection(TokioIo::new(channel), respond).await
}

async fn respond(request: Request<Incoming>, services: &[HostService]) -> Response<Empty<Bytes>> {
    let status = match (request.method(), named(&request, services)) {
        (&Method::CONNECT, Some(service)) => match connect(service.port).await {
            Ok(stream) => {
                crate::task::spawn(carry(request, stream));
                StatusCode::OK
            }
            Err(_) => StatusCode::BAD_GATEWAY,
        },
        _ => StatusCode::FORBIDDEN,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    response
}

/// The declared service that a request names.
fn named<'a>(request: &Request<Incoming>, services: &'a [HostService]) -> Option<&'a HostService> {
    let authority = request.uri().authority()?;
    services.iter().find(|service| service.authority() == authority.as_str())
}

/// Connects to a port of the loopback interface: a service may have it on either address.
async fn connect(port: u16) -> std::io::Result<TcpStream> {
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    for address in [SocketAddr::from((Ipv4Addr::LOCALHOST, port)), (Ipv6Addr::LOCALHOST, port).into()] {
        match timeout(CONNECT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                let _ = stream.set_nodelay(true);
                return Ok(stream);
            }
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
    }
    Err(last)
}

async fn carry(request: Request<Incoming>, mut service: TcpStream) {
    if let Ok(stream) = hyper::upgrade::on(request).await {
        // Whoever ends it first ends it.
        let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(stream), &mut service).await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, UnixStream};

    use super::*;
    use crate::sidecar::host_service::Channel;

    fn channel(services: Vec<HostService>) -> Channel {
        let (near, far) = UnixStream::pair().unwrap();
        let channel = Channel::closed();
        let opened = channel.clone();
        crate::task::spawn(async move { opened.open(near).await });
        crate::task::spawn(async move { serve(far, services.into()).await });
        channel
    }

    #[tokio::test]
    async fn declared_services_are_connected_to_in_both_directions_and_nothing_else() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = |name: &str, listener: &TcpListener| HostService {
            name: name.to_owned(),
            port: listener.local_addr().unwrap().port(),
        };
        let declared = service("echo", &listener);
        let channel = channel(vec![declared.clone()]);
        let echo = crate::task::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            stream.read_to_end(&mut text).await.unwrap();
            stream.write_all(&text).await.unwrap();
        });
        let mut stream = channel.connect(&declared).await.unwrap();
        // More than a window.
        let text = vec![b'x'; 3 << 20];
        let (mut from, mut to) = tokio::io::split(&mut stream);
        let mut back = Vec::new();
        let sent = async {
            to.write_all(&text).await.unwrap();
            to.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(sent, from.read_to_end(&mut back));
        assert_eq!((read.unwrap(), back == text), (text.len(), true));
        echo.await.unwrap();
        // Declared by nobody, or under another name or port.
        for wrong in [service("other", &other), service("echo", &other), service("other", &other)] {
            let why = channel.connect(&wrong).await.err().unwrap();
            assert!(why.contains("403"), "{why}");
        }
        assert!(timeout(Duration::from_millis(1), other.accept()).await.is_err(), "nobody came");
    }

    #[tokio::test]
    async fn connections_beyond_the_limit_wait_for_another_to_end() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = HostService { name: "full".to_owned(), port: listener.local_addr().unwrap().port() };
        crate::task::spawn(async move {
            let mut accepted = Vec::new();
            while let Ok((stream, _)) = listener.accept().await {
                accepted.push(stream);
            }
        });
        let channel = channel(vec![service.clone()]);
        let held = futures_util::future::join_all((0..CONCURRENT).map(|_| channel.connect(&service))).await;
        let mut held: Vec<_> = held.into_iter().map(Result::unwrap).collect();
        let mut waiting = std::pin::pin!(channel.connect(&service));
        assert!(timeout(Duration::from_millis(50), &mut waiting).await.is_err(), "there is one more");
        drop(held.pop());
        assert!(timeout(CONNECT, waiting).await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_service_that_does_not_run_is_said_to_be_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = HostService { name: "down".to_owned(), port: listener.local_addr().unwrap().port() };
        drop(listener);
        let channel = channel(vec![service.clone()]);
        let why = channel.connect(&service).await.err().unwrap();
        assert!(why.contains("nothing listens on port"), "{why}");
    }
}
