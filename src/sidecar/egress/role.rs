//! Egress as a role: its listeners, updates and questions.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::connect::Ways;
use super::pipelock::{self, Pipelock};
use super::{
    Ask, Config, Egress, InsideAddresses, Notice, ROLE, Ready, Stats, Update, capacity, memory, serve, tcp_port,
    tcp_socket,
};
use crate::layout::egress::{PORT, PROOF_PORT, PROOF_SOCKET};
use crate::layout::pair;
use crate::layout::pipelock::DIR as PIPELOCK_DIR;
use crate::layout::sidecar::{SERVICE_DIR, SOCKET};
use crate::sidecar::audit::Log;
use crate::sidecar::dialer::{Outside, Resolver};
use crate::sidecar::host_service::Channel;
use crate::sidecar::listener::Listener;
use crate::sidecar::role::Role;

impl Role for Egress {
    const NAME: &'static str = ROLE;
    const PARALLEL: bool = true;
    type Config = Config;
    type Ready = Ready;
    type Update = Update;
    type Ask = Ask;
    type Answer = Stats;
    type Notice = Notice;

    fn prepare() -> anyhow::Result<()> {
        memory::bound()
    }

    /// `at` is the folder for the sockets, or a TCP address.
    async fn start(config: Config, at: Option<&str>) -> anyhow::Result<(Arc<Self>, Ready)> {
        let outside = match &config.dialer {
            Some(socket) => Outside::Dialer(socket.as_path().into()),
            None => Outside::Network(Resolver::of_this_machine()?),
        };
        let log = Log::new(ROLE, &config.bottle);
        let pipelock = match &config.pipelock {
            Some(pipelock) => {
                let settings = pipelock::settings(pipelock, &config.policy, &config.secrets);
                let folder = Path::new(PIPELOCK_DIR);
                Some(Pipelock::start(pipelock, folder, settings, &log).await?)
            }
            None => None,
        };
        let has_services = !config.policy.spec.host_services.is_empty();
        let host = if has_services { Channel::listen()? } else { Channel::closed() };
        let ways = Ways { outside, host };
        let egress = Arc::new(Egress::inspected(&config, ways, capacity::TIMEOUTS, log, pipelock)?);
        let permits = serve::agent_permits();
        let folder = Path::new(at.unwrap_or(SERVICE_DIR));
        let targets = egress.snapshot().policy.tcp.len();
        if let Some(address) = at.and_then(|at| at.parse::<SocketAddr>().ok()) {
            let listener = Listener::on(address, None).await?;
            eprintln!("listening on {}", listener.address()?);
            serve::requests(listener, egress.clone(), permits);
        } else if let Some(InsideAddresses { own, agent }) = config.inside {
            for index in 0..targets {
                let listener = Listener::on((own, tcp_port(index)).into(), Some(agent)).await?;
                serve::destination(listener, index, egress.clone(), permits.clone());
            }
            serve::requests(Listener::on((own, PORT).into(), Some(agent)).await?, egress.clone(), permits);
            serve::proof(Listener::on((own, PROOF_PORT).into(), Some(agent)).await?, egress.clone());
        } else {
            for index in 0..targets {
                let listener = Listener::at(&folder.join(tcp_socket(index)))?;
                serve::destination(listener, index, egress.clone(), permits.clone());
            }
            serve::requests(Listener::at(&folder.join(SOCKET))?, egress.clone(), permits);
            serve::proof(Listener::at(&folder.join(PROOF_SOCKET))?, egress.clone());
        }
        for pair in &config.pairs {
            let listener = Listener::at(&pair.folder.join(pair::EGRESS))?;
            serve::sidecar(listener, Arc::new(egress.of_sidecar(&pair.name)));
        }
        let ready = Ready { ca: egress.authority.certificate.clone() };
        Ok((egress, ready))
    }

    async fn update(&self, update: Update) -> Result<(), String> {
        match update {
            Update::Secrets(secrets) => {
                if let Some(pipelock) = &self.pipelock {
                    pipelock.set_secrets(&secrets).await?;
                }
                self.set_secrets(&secrets);
                Ok(())
            }
            Update::Credentials(credentials) => self.set_credentials(credentials),
            Update::Register(registration) => self.register(registration),
            Update::HostAddresses(addresses) => {
                self.set_host_addresses(addresses);
                Ok(())
            }
            Update::Policy(policy) => {
                // Bottler's own gate is in front: what Pipelock allows too early or too late reaches nothing.
                if let Some(pipelock) = &self.pipelock {
                    pipelock.enforce(&policy).await?;
                }
                self.enforce(&policy).map_err(|error| format!("{error:#}"))
            }
        }
    }

    async fn answer(&self, ask: Ask) -> Result<Stats, String> {
        match ask {
            Ask::Stats => Ok(self.stats()),
        }
    }

    async fn broken(&self) -> anyhow::Error {
        match &self.pipelock {
            Some(pipelock) => anyhow::Error::msg(pipelock.ended().await),
            None => std::future::pending().await,
        }
    }

    fn flush(&self) {
        self.log.flush();
    }
}
