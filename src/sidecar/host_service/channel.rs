//! The end of the channel in egress.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

use super::limits::{CHANNEL_WINDOW, SEND_BUFFER, STREAM_WINDOW};
use crate::layout::sidecar::{CTL_DIR, HOST_SOCKET};
use crate::policy::HostService;
use crate::sidecar::dialer::{Connection, DIAL};
use crate::sidecar::socket;

/// How long to wait when accepting fails.
const PAUSE: Duration = Duration::from_millis(50);

/// Asks the holder for connections.
type Holder = SendRequest<Empty<Bytes>>;

/// The channel to the holder. Clones share it.
#[derive(Clone)]
pub struct Channel(watch::Sender<Option<Holder>>);

impl Channel {
    /// Listens for the holder. Does nothing where there is no folder for the socket.
    ///
    /// # Errors
    /// It cannot listen.
    pub(in crate::sidecar) fn listen() -> anyhow::Result<Self> {
        let channel = Self::closed();
        if Path::new(CTL_DIR).is_dir() {
            let listener = socket::listen_again(&Path::new(CTL_DIR).join(HOST_SOCKET), socket::OWN)?;
            crate::task::spawn(accept(listener, channel.clone()));
        }
        Ok(channel)
    }

    /// A channel that nobody opens.
    pub(in crate::sidecar) fn closed() -> Self {
        Self(watch::Sender::new(None))
    }

    /// A channel to a holder that answers nothing.
    #[cfg(test)]
    pub(in crate::sidecar) fn silent() -> Self {
        let (near, mut far) = UnixStream::pair().expect("there are descriptors");
        let channel = Self::closed();
        let opened = channel.clone();
        crate::task::spawn(async move { opened.open(near).await });
        crate::task::spawn(async move { tokio::io::copy(&mut far, &mut tokio::io::sink()).await });
        channel
    }

    /// Connects to a service.
    ///
    /// # Errors
    /// The reason why there is no connection.
    pub(in crate::sidecar) async fn connect(&self, service: &HostService) -> Result<Connection, String> {
        let mut channel = self.0.subscribe();
        let open = |holder: &Option<Holder>| holder.as_ref().is_some_and(|holder| !holder.is_closed());
        let holder = tokio::time::timeout(DIAL, channel.wait_for(open)).await;
        let holder = holder.ok().and_then(|found| found.ok()?.clone());
        let mut holder = holder.ok_or("bottler's process on this machine does not answer")?;
        let broken = |error: hyper::Error| error.to_string();
        let request = Request::connect(service.authority()).body(Empty::new()).map_err(|error| error.to_string())?;
        let response = holder.send_request(request).await.map_err(broken)?;
        if !response.status().is_success() {
            let port = service.port;
            return Err(format!(
                "nothing listens on port {port} of this machine's loopback interface ({})",
                response.status()
            ));
        }
        Ok(Box::new(TokioIo::new(hyper::upgrade::on(response).await.map_err(broken)?)))
    }

    /// Uses a connection of the holder's. It replaces an earlier one, whose streams go on.
    pub(super) async fn open(&self, stream: UnixStream) {
        let mut builder = Builder::new(TokioExecutor::new());
        builder.initial_stream_window_size(STREAM_WINDOW).initial_connection_window_size(CHANNEL_WINDOW);
        builder.max_send_buf_size(SEND_BUFFER);
        let Ok((holder, connection)) = builder.handshake(TokioIo::new(stream)).await else { return };
        self.0.send_replace(Some(holder));
        // Its end closes the sender, which says so.
        let _ = connection.await;
    }
}

async fn accept(listener: UnixListener, channel: Channel) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let channel = channel.clone();
                crate::task::spawn(async move { channel.open(stream).await });
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
