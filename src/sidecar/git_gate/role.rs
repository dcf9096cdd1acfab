//! The gate as a role: its listeners and updates.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use tokio::net::TcpListener;

use super::config::{Config, Update};
use super::gate::{Gate, ROLE};
use super::serve::spawn;
use crate::sidecar::listener::Listener;
use crate::sidecar::message::Never;
use crate::sidecar::role::Role;

/// The port of git's protocol, at which the gate serves HTTP as well.
pub const PORT: u16 = 9418;

impl Role for Gate {
    const NAME: &'static str = ROLE;
    const PARALLEL: bool = true;
    type Config = Config;
    type Ready = ();
    type Update = Update;
    type Ask = Never;
    type Answer = Never;
    type Notice = Never;

    /// `at` is the folder of the socket for the agent, or a TCP address.
    async fn start(config: Config, at: Option<&str>) -> anyhow::Result<(Arc<Self>, ())> {
        let gate = Arc::new(Self::new(&config)?);
        if let Some(address) = at.and_then(|at| at.parse::<SocketAddr>().ok()) {
            let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
            let address = listener.local_addr()?;
            spawn(Listener::Tcp(listener, None), gate.clone());
            eprintln!("listening on {address}");
        } else {
            spawn(Listener::for_agent(config.inside, PORT, at).await?, gate.clone());
        }
        if let Some(outward) = &config.outward {
            spawn(Listener::for_egress(outward)?, gate.clone());
        }
        Ok((gate, ()))
    }

    async fn update(&self, update: Update) -> Result<(), String> {
        match update {
            Update::Known(known) => self.search_for(&known).map_err(|error| format!("{error:#}")),
        }
    }

    async fn answer(&self, ask: Never) -> Result<Never, String> {
        match ask {}
    }

    fn flush(&self) {
        self.log.flush();
    }
}
