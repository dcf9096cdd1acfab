//! The gate as a role: its listeners and updates.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use super::approvals::Offer;
use super::config::{Config, Update};
use super::gate::{Gate, ROLE};
use super::http::Door;
use super::key_agent::Sign;
use super::serve::spawn;
use crate::layout::git_gate;
use crate::sidecar::listener::Listener;
use crate::sidecar::role::Role;
use crate::sidecar::run::notify;

/// The port of git's protocol, at which the gate serves HTTP as well.
pub const PORT: u16 = git_gate::PORT;

/// A question.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// The refused pushes that may be approved.
    Offers,
}

impl Role for Gate {
    const NAME: &'static str = ROLE;
    const PARALLEL: bool = true;
    type Config = Config;
    type Ready = ();
    type Update = Update;
    type Ask = Ask;
    type Answer = Vec<Offer>;
    type Notice = Sign;

    /// `at` is the folder of the socket for the agent, or a TCP address.
    async fn start(config: Config, at: Option<&str>) -> anyhow::Result<(Arc<Self>, ())> {
        let gate = Arc::new(Self::new(&config, notify::<Self>)?);
        if let Some(address) = at.and_then(|at| at.parse::<SocketAddr>().ok()) {
            let listener = TcpListener::bind(address).await.with_context(|| format!("listen on {address}"))?;
            let address = listener.local_addr()?;
            spawn(Listener::Tcp(listener, None), Door::Own, gate.clone());
            eprintln!("listening on {address}");
        } else {
            spawn(Listener::for_agent(config.inside, PORT, at).await?, Door::Own, gate.clone());
        }
        if let Some(outward) = &config.outward {
            spawn(Listener::for_egress(outward)?, Door::Egress, gate.clone());
        }
        Ok((gate, ()))
    }

    async fn update(&self, update: Update) -> Result<(), String> {
        match update {
            Update::Secrets(secrets) => self.set_secrets(secrets).map_err(|error| format!("{error:#}")),
            Update::Credentials(credentials) => self.set_credentials(credentials).map_err(|error| format!("{error:#}")),
            Update::Approve(approval) => {
                self.approvals.approve(&approval)?;
                self.refused.clear();
                Ok(())
            }
            Update::Signed(signed) => {
                self.signatures.answer(signed);
                Ok(())
            }
        }
    }

    async fn answer(&self, ask: Ask) -> Result<Vec<Offer>, String> {
        match ask {
            Ask::Offers => Ok(self.approvals.offers()),
        }
    }

    fn flush(&self) {
        self.log.flush();
    }
}
