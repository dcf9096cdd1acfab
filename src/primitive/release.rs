//! The release: the proof that the bottle is tight, and what the agent is given, before its command starts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use super::bring_up::tell_secrets;
use super::self_image::EXECUTABLE;
use super::stream::{Lines, write_json};
use super::{Agent, Bottle, Event, Network, Role, StepState, lock, receiver};
use crate::engine::{Engine, ExecSpec, Streams};
use crate::init;
use crate::plan::DEFAULT_HOME;
use crate::probe::{self, Inside, Target, Targets, Upstream};
use crate::session::{Class, Failure, kept};
use crate::sidecar::upstream::HTTP_PORT;

/// How long init may take to prove and to release.
const PATIENCE: Duration = Duration::from_mins(1);

/// The open channel to init.
#[derive(Clone)]
pub(super) struct Channel(Arc<Mutex<Ends>>);

struct Ends {
    input: std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>,
    lines: Lines,
}

impl Channel {
    pub(super) async fn open(engine: &dyn Engine, container: &str) -> Result<Self, Failure> {
        let spec = ExecSpec::plain(vec![EXECUTABLE.into(), "ctl".into()]);
        let (_, Streams { output, input }) = engine.exec(container, &spec).await?;
        Ok(Self(Arc::new(Mutex::new(Ends { input, lines: Lines::new(output) }))))
    }

    async fn ask(&self, request: &init::Request) -> Result<init::Answer, Failure> {
        let mut ends = self.0.lock().await;
        let Ends { input, lines } = &mut *ends;
        let asked = async {
            write_json(input, request).await.ok()?;
            lines.next_json().await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => {
                let failure =
                    Failure::new(Class::Operation, "talk to init in the agent's container: it does not answer");
                Err(if lines.errors.is_empty() {
                    failure
                } else {
                    failure.cause(format!("it wrote: {}", lines.errors.trim()))
                })
            }
            Err(_) => {
                Err(Failure::new(Class::Operation, format!("talk to init: no answer within {} s", PATIENCE.as_secs())))
            }
        }
    }
}

/// Waits for everything the recipe has made, proves that the bottle is tight, and starts the agent's command.
/// Done once, however often it is called.
///
/// # Errors
/// Something the recipe made failed, or the proof is red: then the command does not start.
pub async fn release(bottle: &Arc<Bottle>, agent: &Agent) -> Result<(), Failure> {
    let work = async {
        agent.open_gate();
        let sidecars = lock(&bottle.sidecars).clone();
        for sidecar in sidecars.iter().filter(|sidecar| !sidecar.life.is_closed()) {
            sidecar.ready().await?;
        }
        bottle.events.tell(Event::SidecarsUp);
        bottle.session.effects.settle().await?;
        let channel = agent.channel.get().await?;
        prove(bottle, agent, &channel).await?;
        tell_secrets(bottle).await?;
        bottle.wait_attached().await;
        let release = message(bottle, agent).await?;
        bottle.released.store(true, std::sync::atomic::Ordering::Release);
        if let Some(directory) = &bottle.setting.staging {
            kept::note_released(directory)
                .map_err(|error| Failure::new(Class::Internal, format!("write {}: {error}", directory.display())))?;
        }
        match channel.ask(&init::Request::Release(Box::new(release))).await? {
            init::Answer::Released => {
                bottle.events.tell(Event::Released);
                Ok(())
            }
            init::Answer::Failed(why) => Err(Failure::new(Class::Operation, format!("release the agent: {why}"))),
            init::Answer::Proof(_) => {
                Err(Failure::new(Class::Internal, "release the agent: init answered something else"))
            }
        }
    };
    agent.released.get_or_try_init(|| work).await.copied()
}

async fn prove(bottle: &Arc<Bottle>, agent: &Agent, channel: &Channel) -> Result<(), Failure> {
    bottle.events.step("probe", StepState::Started);
    let listening = agent.receiver(bottle).await?;
    if let Some(receiver) = listening.as_ref().filter(|receiver| !receiver.host.filters()) {
        return Err(unfiltered(bottle, receiver.device(), receiver.host.filter));
    }
    let targets = targets(bottle, agent).await?;
    let mut lines = match channel.ask(&init::Request::Prove(Box::new(targets))).await? {
        init::Answer::Proof(lines) => lines,
        init::Answer::Failed(why) => return Err(Failure::new(Class::Operation, format!("probe the bottle: {why}"))),
        init::Answer::Released => {
            return Err(Failure::new(Class::Internal, "probe the bottle: init answered something else"));
        }
    };
    if let Some(receiver) = listening {
        let (device, host) = (receiver.device().to_owned(), receiver.host.clone());
        let heard = receiver.finish(bottle).await?;
        lines.extend(receiver::lines(&device, &host, &heard, probe::sent(&lines)));
    }
    if bottle.plan.gvisor {
        let bounds = bottle.session.engine.container_bounds(&agent.container().await?).await?;
        lines.extend(probe::bounds(&agent.config.resources, bounds));
    }
    let tight = probe::passed(&lines);
    bottle.events.step("probe", if tight { StepState::Done } else { StepState::Failed });
    let red: Vec<String> = lines
        .iter()
        .filter(|line| !line.ok)
        .map(|line| format!("{}: expected {}, {}", line.attempt, line.expected, line.happened))
        .collect();
    bottle.events.tell(Event::Proof(lines));
    if tight {
        return Ok(());
    }
    let mut failure = Failure::new(Class::Isolation, format!("the bottle is not tight: {} of the probe's lines are red", red.len()))
        .hint("the agent's command was not started; keep the agent off every network, or report this with `bottler --version`");
    failure.causes = red;
    Err(failure)
}

/// Why a bottle that is not sealed cannot be: the host would take what the agent sends past every route.
fn unfiltered(bottle: &Bottle, device: &str, filter: u8) -> Failure {
    bottle.events.step("probe", StepState::Failed);
    let state = if filter == 0 { "off" } else { "loose" };
    let why = format!(
        "isolation: bridge: the engine's host does not filter what comes from the agent's network: rp_filter on {device} is {state}"
    );
    let hint = if bottle.plan.set_rp_filter {
        "it is loose for all devices, which counts for more: `sysctl net.ipv4.conf.all.rp_filter=1` on the engine's host"
    } else {
        "`bridge: {set_rp_filter: true}` in the bottle of your manifest lets bottler set it for that bridge, by a container that may; \
         or `isolation: sealed`"
    };
    Failure::new(Class::Isolation, why).hint(hint)
}

async fn message(bottle: &Bottle, agent: &Agent) -> Result<init::Release, Failure> {
    let ca = agent.egress.ready().await?.ca;
    let (files, mut env, counterpart) = {
        let provided = lock(&agent.provision);
        (provided.files(&bottle.setting.env), provided.env.clone(), provided.probe.is_some())
    };
    if counterpart {
        let targets = targets(bottle, agent).await?;
        let json = serde_json::to_string(&targets).map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
        env.insert(probe::VARIABLE.to_owned(), json);
    }
    for (name, value) in &bottle.setting.env {
        // What a recipe says of the same variable is nearer.
        env.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let workdir = if agent.config.workdir.is_empty() { DEFAULT_HOME.to_owned() } else { agent.config.workdir.clone() };
    Ok(init::Release { command: agent.config.command.clone(), workdir, env, files, ca })
}

/// Every address that this launch knows of and the agent must not reach.
async fn targets(bottle: &Bottle, agent: &Agent) -> Result<Targets, Failure> {
    let relay = agent.egress.relays.first().filter(|_| agent.egress.role == Some(Role::Egress));
    let proxy = relay
        .map(|relay| relay.address)
        .ok_or_else(|| Failure::new(Class::Input, "run_agent: egress is not an egress sidecar"))?;
    let mut direct = Vec::new();
    let networks: Vec<Arc<Network>> = lock(&bottle.networks).clone();
    for network in networks.into_iter().filter(|network| !network.life.is_closed()) {
        direct.push(target(format!("gateway of {}", network.name), network.address(1).await?, 22));
    }
    let inside = match &agent.inside {
        Some(network) => {
            Some(Inside { nobody: network.address(1).await?, egress: network.address(Network::egress_place()).await? })
        }
        None => None,
    };
    let sidecars = lock(&bottle.sidecars).clone();
    for sidecar in sidecars.into_iter().filter(|sidecar| !sidecar.life.is_closed()) {
        for (network, address) in sidecar.addresses().await? {
            direct.push(target(format!("{} on {network}", sidecar.name), address, HTTP_PORT));
        }
    }
    if bottle.setting.local {
        direct.extend(host_addresses());
    }
    let counterpart = lock(&agent.provision).probe.clone();
    let upstream = match counterpart {
        Some(sidecar) => {
            Some(Upstream { host: format!("{}:{HTTP_PORT}", sidecar.name), address: sidecar.address().await? })
        }
        None => None,
    };
    Ok(Targets { proxy, direct, upstream, resources: agent.config.resources, gvisor: bottle.plan.gvisor, inside })
}

fn target(name: String, address: std::net::Ipv4Addr, port: u16) -> Target {
    Target { name, address, port }
}

/// The addresses of the host's own interfaces, docker0 among them.
fn host_addresses() -> Vec<Target> {
    let Ok(all) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut found: Vec<Target> = all
        .filter_map(|interface| {
            let address = interface.address?.as_sockaddr_in()?.ip();
            // The other bottles' bridges are the engine's, and each has its own probe.
            let bridge = interface.interface_name.starts_with("br-");
            (!address.is_loopback() && !bridge)
                .then(|| target(format!("host's {}", interface.interface_name), address, 22))
        })
        .collect();
    found.dedup_by(|a, b| a.address == b.address);
    found
}
