//! The proof that a bottle is isolated: attempts from inside the bottle, checked against what its host and its engine
//! report.

use std::net::{IpAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use super::prover;
use crate::engine::ExecSpec;
use crate::host::addresses;
use crate::init;
use crate::layout::agent::Far;
use crate::layout::counterpart::HTTP_PORT;
use crate::layout::{self, EXECUTABLE};
use crate::primitive::agent::Agent;
use crate::primitive::agent::channel::Channel;
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::stream::{JsonChannel, NoAnswer};
use crate::primitive::event::{Event, StepState};
use crate::primitive::handle::Network;
use crate::primitive::receiver;
use crate::probe::{self, Counterpart, DirectTarget, InsideNetwork, ProbeResult, Targets};
use crate::session::{Class, Failure};
use crate::sync::lock;

/// How long the attempts may take, once the agent runs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Proves the bottle through init, before the agent's command starts.
///
/// # Errors
/// The proof cannot be made, or an attempt failed.
pub(in crate::primitive) async fn before_release(
    bottle: &Arc<Bottle>,
    agent: &Agent,
    channel: &Channel,
) -> Result<(), Failure> {
    bottle.events.step("probe", StepState::Started);
    let asked = |targets: Targets| async move {
        match channel.ask(&init::Request::Prove(Box::new(targets))).await? {
            init::Response::Proof(lines) => Ok(lines),
            init::Response::Failed(why) => Err(Failure::new(Class::Operation, format!("probe the bottle: {why}"))),
            init::Response::Released | init::Response::NoProgram(_) => {
                Err(Failure::new(Class::Internal, "probe the bottle: init sent an unexpected response"))
            }
        }
    };
    let lines = lines(bottle, agent, asked).await;
    let tight = lines.as_deref().is_ok_and(probe::passed);
    bottle.events.step("probe", if tight { StepState::Done } else { StepState::Failed });
    let lines = lines?;
    let red = red(&lines);
    bottle.events.tell(Event::Proof(lines));
    if tight {
        return Ok(());
    }
    let mut failure = Failure::new(Class::Isolation, format!("the bottle is not tight: {} of the probe's attempts did not end as expected", red.len()))
        .hint("the agent's command was not started; keep the agent off every network, or report this with `bottler --version`");
    failure.causes = red;
    Err(failure)
}

/// Proves the bottle beside the running agent: an exec makes the attempts, and the agent can neither write its
/// executable nor read its memory. Returns the failed attempts, as text.
///
/// # Errors
/// The proof cannot be made.
pub(in crate::primitive) async fn again(bottle: &Arc<Bottle>, agent: &Agent) -> Result<Vec<String>, Failure> {
    let container = agent.container().await?;
    let places = places(agent).await?;
    let asked = |targets: Targets| async move {
        let targets = Targets { proof: Some(places), ..targets };
        let spec = ExecSpec::plain(vec![EXECUTABLE.into(), probe::AGAIN.into()]);
        let attempted = "probe the bottle";
        let joined = tokio::time::timeout(PATIENCE, bottle.session.engine.exec(&container, &spec)).await;
        let late = |_| Failure::new(Class::Operation, format!("{attempted}: {}", NoAnswer::Late(PATIENCE)));
        let mut talk = JsonChannel::new(joined.map_err(late)??.1);
        let answer = talk.ask(&targets, PATIENCE).await;
        answer.map_err(|why| talk.failure(attempted, why))
    };
    Ok(red(&lines(bottle, agent, asked).await?))
}

/// Proves the bottle from a container beside the paused agent, which shares its network and its sidecars' sockets.
/// Returns the failed attempts, as text.
///
/// # Errors
/// The proof cannot be made.
pub(in crate::primitive) async fn beside(bottle: &Arc<Bottle>, agent: &Agent) -> Result<Vec<String>, Failure> {
    let places = places(agent).await?;
    let asked = |targets: Targets| prover::attempts(bottle, agent, Targets { proof: Some(places), ..targets });
    Ok(red(&lines(bottle, agent, asked).await?))
}

/// Where egress reserves connections for proofs.
async fn places(agent: &Agent) -> Result<Far, Failure> {
    Ok(match agent.egress.inside().await? {
        Some(address) => Far::Address(SocketAddrV4::new(address, layout::egress::PROOF_PORT)),
        None => Far::Socket(format!("{}/{}", agent.egress.name, layout::egress::PROOF_SOCKET)),
    })
}

fn red(lines: &[ProbeResult]) -> Vec<String> {
    let words = |line: &ProbeResult| format!("{}: expected {}, {}", line.attempt, line.expected, line.happened);
    if lines.is_empty() {
        vec!["nothing was tried".to_owned()]
    } else {
        lines.iter().filter(|line| !line.ok).map(words).collect()
    }
}

/// The results of attempts, however they are made, and of the engine's host.
async fn lines<F: Future<Output = Result<Vec<ProbeResult>, Failure>>>(
    bottle: &Arc<Bottle>,
    agent: &Agent,
    attempts: impl FnOnce(Targets) -> F,
) -> Result<Vec<ProbeResult>, Failure> {
    let listening = agent.receiver(bottle).await?;
    if let Some(receiver) = listening.as_ref().filter(|receiver| !receiver.host.filters()) {
        return Err(unfiltered(bottle, receiver.device(), receiver.host.filter));
    }
    let port = listening.as_ref().map_or(0, |receiver| receiver.host.port);
    let mut lines = attempts(targets(bottle, agent, port).await?).await?;
    if let Some(receiver) = listening {
        let (device, host) = (receiver.device().to_owned(), receiver.host.clone());
        let heard = receiver.finish(bottle).await?;
        lines.extend(receiver::lines(&device, &host, &heard, probe::sent(&lines)));
    }
    if bottle.plan.gvisor {
        let bounds = bottle.session.engine.container_bounds(&agent.container().await?).await?;
        lines.extend(probe::bounds(&agent.config.resources, bounds));
    }
    Ok(lines)
}

/// Why a bottle that is not sealed is not isolated: its host would accept packets that the agent sends past its routing
/// table.
fn unfiltered(bottle: &Bottle, device: &str, filter: u8) -> Failure {
    let state = if filter == 0 { "off" } else { "loose" };
    let why = format!(
        "isolation: bridge: the engine's host does not filter packets from the agent's network: rp_filter on {device} is {state}"
    );
    let hint = if bottle.plan.set_rp_filter {
        "it is loose for all devices, which counts for more: `sysctl net.ipv4.conf.all.rp_filter=1` on the engine's host"
    } else {
        "`bridge: {set_rp_filter: true}` in the bottle of your manifest lets bottler set it for that bridge, by a container that may; \
         or `isolation: sealed`"
    };
    Failure::new(Class::Isolation, why).hint(hint)
}

/// All addresses that this launch knows and that the agent must not reach. `port` is where a receiver on the engine's
/// host listens, if there is one.
pub(in crate::primitive) async fn targets(bottle: &Bottle, agent: &Agent, port: u16) -> Result<Targets, Failure> {
    let relay = agent.egress.relays.first().filter(|_| agent.egress.is_proxy());
    let proxy = relay
        .map(|relay| relay.address)
        .ok_or_else(|| Failure::new(Class::Input, "run_agent: egress is not an egress sidecar"))?;
    let mut direct = Vec::new();
    for network in bottle.inventory.networks().into_iter().filter(|network| !network.life.is_closed()) {
        direct.push(target(format!("gateway of {}", network.name), network.address(1).await?, 22));
    }
    let inside = match &agent.inside {
        Some(network) => {
            let (nobody, egress) = (network.address(1).await?, network.address(Network::egress_place()).await?);
            Some(InsideNetwork { nobody, egress, port })
        }
        None => None,
    };
    for sidecar in bottle.inventory.open_sidecars() {
        for (network, address) in sidecar.addresses().await? {
            direct.push(target(format!("{} on {network}", sidecar.name), address, HTTP_PORT));
        }
    }
    if bottle.host.local {
        direct.extend(host_addresses());
    }
    let counterpart = lock(&agent.provision).probe.clone();
    let counterpart = match counterpart {
        Some(sidecar) => {
            Some(Counterpart { host: format!("{}:{HTTP_PORT}", sidecar.name), address: sidecar.address().await? })
        }
        None => None,
    };
    let engine = &bottle.session.engine;
    let unbounded = bottle.plan.best_effort_bounds && engine.container_bounds(&agent.container().await?).await.is_err();
    Ok(Targets {
        proxy,
        direct,
        counterpart,
        proof: None,
        resources: agent.config.resources,
        unbounded,
        gvisor: bottle.plan.gvisor,
        inside,
    })
}

fn target(name: String, address: std::net::Ipv4Addr, port: u16) -> DirectTarget {
    DirectTarget { name, address, port }
}

/// The addresses of the host's own interfaces, including docker0.
pub(in crate::primitive) fn host_addresses() -> Vec<DirectTarget> {
    let mut found: Vec<DirectTarget> = addresses()
        .unwrap_or_default()
        .into_iter()
        .filter_map(|(interface, address)| {
            let IpAddr::V4(address) = address else { return None };
            // Bridges of other bottles belong to the engine, and each bottle proves its own.
            let bridge = interface.starts_with("br-");
            (!address.is_loopback() && !bridge).then(|| target(format!("host's {interface}"), address, 22))
        })
        .collect();
    found.dedup_by(|a, b| a.address == b.address);
    found
}
