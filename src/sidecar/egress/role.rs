//! Egress as a role: its listeners, updates and questions.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use super::serve::{self, Listener};
use super::{
    Ask, Config, Egress, InsideAddresses, Notice, ROLE, Ready, Stats, Update, capacity, memory, tcp_port, tcp_socket,
};
use crate::layout::egress::{PORT, PROOF_PORT, PROOF_SOCKET};
use crate::layout::pair;
use crate::layout::sidecar::{SERVICE_DIR, SOCKET};
use crate::sidecar::dialer::{Outside, Resolver};
use crate::sidecar::role::Role;
use crate::sidecar::socket;

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
        let egress = Arc::new(Egress::new(&config, outside, capacity::TIMEOUTS)?);
        let permits = serve::agent_permits();
        let folder = Path::new(at.unwrap_or(SERVICE_DIR));
        let targets = egress.snapshot().policy.tcp.len();
        if let Some(address) = at.and_then(|at| at.parse::<SocketAddr>().ok()) {
            let listener = serve::address(address).await?;
            let address = listener.local_addr()?;
            serve::spawn(Listener::Tcp(listener, None), None, egress.clone(), permits);
            eprintln!("listening on {address}");
        } else if let Some(InsideAddresses { own, agent }) = config.inside {
            for index in 0..targets {
                let listener = serve::address((own, tcp_port(index)).into()).await?;
                serve::spawn(Listener::Tcp(listener, Some(agent)), Some(index), egress.clone(), permits.clone());
            }
            let listener = serve::address((own, PORT).into()).await?;
            serve::spawn(Listener::Tcp(listener, Some(agent)), None, egress.clone(), permits);
            let proof = serve::address((own, PROOF_PORT).into()).await?;
            serve::spawn_proof(Listener::Tcp(proof, Some(agent)), egress.clone());
        } else {
            for index in 0..targets {
                let listener = socket::listen_again(&folder.join(tcp_socket(index)), socket::OTHERS)?;
                serve::spawn(Listener::Unix(listener), Some(index), egress.clone(), permits.clone());
            }
            serve::spawn(
                Listener::Unix(socket::listen_again(&folder.join(SOCKET), socket::OTHERS)?),
                None,
                egress.clone(),
                permits,
            );
            serve::spawn_proof(
                Listener::Unix(socket::listen_again(&folder.join(PROOF_SOCKET), socket::OTHERS)?),
                egress.clone(),
            );
        }
        for pair in &config.pairs {
            let listener = Listener::Unix(socket::listen_again(&pair.folder.join(pair::EGRESS), socket::OTHERS)?);
            serve::spawn(listener, None, Arc::new(egress.of_sidecar(&pair.name)), serve::sidecar_permits());
        }
        let ready = Ready { ca: egress.authority.certificate.clone() };
        Ok((egress, ready))
    }

    async fn update(&self, update: Update) -> Result<(), String> {
        match update {
            Update::Secrets(secrets) => {
                self.set_secrets(&secrets);
                Ok(())
            }
            Update::Credentials(credentials) => self.set_credentials(credentials),
            Update::Register(registration) => self.register(registration),
            Update::Policy(policy) => self.enforce(&policy).map_err(|error| format!("{error:#}")),
        }
    }

    async fn answer(&self, ask: Ask) -> Result<Stats, String> {
        match ask {
            Ask::Stats => Ok(self.stats()),
        }
    }

    fn flush(&self) {
        self.log.flush();
    }
}
