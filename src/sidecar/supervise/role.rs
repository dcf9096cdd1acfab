//! supervise as a role: its listener, and the updates of the holder.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::desk::Desk;
use super::protocol::{Call, Config, Update};
use super::server::{Http, http};
use super::{ROLE, files};
use crate::layout::supervise::{POLICY_DIR, PORT};
use crate::sidecar::dialer::Connection;
use crate::sidecar::listener::Listener;
use crate::sidecar::message::Never;
use crate::sidecar::role::Role;
use crate::sidecar::run::notify;

/// Connections at a time; others wait.
const CONNECTIONS: usize = 128;
/// The time limit for the head of a request.
const HEAD: Duration = Duration::from_secs(30);

/// The role.
pub struct Supervise {
    desk: Arc<Desk>,
    /// The folder of the files that the agent reads.
    folder: PathBuf,
}

impl Role for Supervise {
    const NAME: &'static str = ROLE;
    type Config = Config;
    type Ready = ();
    type Update = Update;
    type Ask = Never;
    type Answer = Never;
    type Notice = Call;

    /// `at` is the folder of the socket and of the files, for machines without a bottle.
    async fn start(config: Config, at: Option<&str>) -> anyhow::Result<(Arc<Self>, ())> {
        let desk = Arc::new(Desk::new(notify::<Self>));
        let listener = Listener::for_agent(None, PORT, at).await?;
        let http = http(&desk, &config.hosts);
        listener.serve(Arc::new(Semaphore::new(CONNECTIONS)), move |connection, permit| {
            serve(connection, permit, http.clone())
        });
        Ok((Arc::new(Self { desk, folder: Path::new(at.unwrap_or(POLICY_DIR)).to_owned() }), ()))
    }

    async fn update(&self, update: Update) -> Result<(), String> {
        match update {
            Update::Answer { n, reply } => self.desk.answer(n, reply),
            Update::Decided(reply) => self.desk.decide(reply),
            Update::View(view) => {
                files::write(&self.folder, &view).map_err(|error| {
                    format!("write the bottle's configuration to {}: {error}", self.folder.display())
                })?;
                self.desk.set_view(*view);
            }
        }
        Ok(())
    }

    async fn answer(&self, ask: Never) -> Result<Never, String> {
        match ask {}
    }
}

async fn serve(stream: Connection, _permit: OwnedSemaphorePermit, http: Http) {
    let service = service_fn(move |request| {
        let http = http.clone();
        async move { Ok::<_, Infallible>(http.answer(request).await) }
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD);
    // A client that breaks off has no response to get.
    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
}
