//! `provision` and the release: what the agent is given, and the proof before its command starts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::bring_up::tell_secrets;
use super::self_image::EXECUTABLE;
use super::stream::{Lines, write_json};
use super::{Agent, Bottle, Event, Network, Role, Sidecar, StepState, is_absolute, lock};
use crate::engine::{Engine, ExecSpec, Streams};
use crate::init;
use crate::plan::{DEFAULT_HOME, PROMPT_FILE};
use crate::probe::{self, Target, Targets, Upstream};
use crate::session::{Class, Failure, Place, kept};
use crate::sidecar::upstream::HTTP_PORT;

/// How long init may take to prove and to release.
const PATIENCE: Duration = Duration::from_mins(1);

/// What `provision` takes, besides the handle of the probe's counterpart.
#[derive(Debug, Clone, Default, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionOptions {
    /// The prompt, written to a file whose path the recipe gets.
    pub prompt: Option<String>,
    /// Files.
    #[serde(default)]
    pub files: Vec<ProvisionFile>,
    /// Variables of the command alone; the way for secrets. Nothing of the container's configuration has them.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A file for the agent's container.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvisionFile {
    /// Where; absolute.
    pub path: String,
    /// What is in it.
    pub content: String,
    /// Its permission bits in octal, as in `"0644"`.
    #[serde(default = "default_mode")]
    pub mode: String,
    /// `uid:gid`; the agent's user when absent.
    pub owner: Option<String>,
    /// Whether `{NAME:-N}` in it becomes the last N characters of what only the agent is told as NAME.
    #[serde(default)]
    pub fill: bool,
}

fn default_mode() -> String {
    "0644".to_owned()
}

/// What has been provided so far.
#[derive(Default)]
pub(super) struct Provision {
    files: Vec<init::File>,
    /// The paths of those in which the ends of variables are put.
    filled: BTreeSet<String>,
    /// Files of others than the agent's user: put by an archive before the container has ever run.
    foreign: Vec<(init::File, (u64, u64))>,
    env: BTreeMap<String, String>,
    probe: Option<Arc<Sidecar>>,
    pub(super) prompt_path: Option<String>,
}

impl Provision {
    /// The archive of the files that are not the agent's own, if there are any.
    pub(super) fn upload(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.foreign.is_empty() {
            return None;
        }
        let mut tar = tar::Builder::new(Vec::new());
        for (file, (user, group)) in std::mem::take(&mut self.foreign) {
            let mut header = tar::Header::new_gnu();
            header.set_size(file.content.len() as u64);
            header.set_mode(file.mode);
            header.set_uid(user);
            header.set_gid(group);
            header.set_mtime(0);
            let path = file.path.trim_start_matches('/');
            if let Err(error) = tar.append_data(&mut header, path, file.content.as_bytes()) {
                return Some(Err(Failure::new(Class::Input, format!("provision {}: {error}", file.path))));
            }
        }
        Some(
            tar.into_inner()
                .map(Bytes::from)
                .map_err(|error| Failure::new(Class::Internal, format!("provision: {error}"))),
        )
    }
}

/// Provides the agent with files, variables and a prompt; the prompt's path. May be called more than once until the
/// release. `counterpart` is where the agent `probe` is to be received.
///
/// # Errors
/// A path, mode or owner is bad, or a file of another owner comes after the container's start.
pub fn provision(
    agent: &Agent,
    options: ProvisionOptions,
    counterpart: Option<Arc<Sidecar>>,
    at: Option<&Place>,
) -> Result<Option<String>, Failure> {
    let bad = |message: String| Failure::new(Class::Input, format!("provision: {message}")).at(at);
    if agent.released.initialized() {
        return Err(bad("the agent has been released".into()).hint("provision before agent:wait()"));
    }
    let mut provided = lock(&agent.provision);
    let prompt = options.prompt.map(|content| ProvisionFile {
        path: PROMPT_FILE.to_owned(),
        content,
        mode: default_mode(),
        owner: None,
        fill: false,
    });
    let prompt_path = prompt.as_ref().map(|file| file.path.clone());
    for file in options.files.into_iter().chain(prompt) {
        if !is_absolute(&file.path) {
            return Err(bad(format!("{:?} is no absolute path", file.path)));
        }
        let mode = init::files::mode(&file.mode)
            .ok_or_else(|| bad(format!("{}: mode {:?} is not octal", file.path, file.mode)))?;
        let written = init::File { path: file.path, content: file.content, mode };
        match file.owner.filter(|owner| *owner != agent.config.user) {
            None => {
                if file.fill {
                    provided.filled.insert(written.path.clone());
                }
                provided.files.push(written);
            }
            Some(_) if agent.has_started() => {
                return Err(bad(format!(
                    "{}: a file of another owner comes before the agent's container starts",
                    written.path
                ))
                .hint("provision before the first use of the agent"));
            }
            Some(owner) => {
                let ids = owner.split_once(':').and_then(|(u, g)| Some((u.parse().ok()?, g.parse().ok()?)));
                let ids = ids.ok_or_else(|| bad(format!("{}: owner {owner:?} is not uid:gid", written.path)))?;
                provided.foreign.push((written, ids));
            }
        }
    }
    provided.env.extend(options.env);
    provided.prompt_path = prompt_path.or_else(|| provided.prompt_path.take());
    let prompt_path = provided.prompt_path.clone();
    provided.probe = counterpart.or_else(|| provided.probe.take());
    drop(provided);
    agent.open_gate();
    Ok(prompt_path)
}

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

async fn prove(bottle: &Bottle, agent: &Agent, channel: &Channel) -> Result<(), Failure> {
    bottle.events.step("probe", StepState::Started);
    let targets = targets(bottle, agent).await?;
    let lines = match channel.ask(&init::Request::Prove(Box::new(targets))).await? {
        init::Answer::Proof(lines) => lines,
        init::Answer::Failed(why) => return Err(Failure::new(Class::Operation, format!("probe the bottle: {why}"))),
        init::Answer::Released => {
            return Err(Failure::new(Class::Internal, "probe the bottle: init answered something else"));
        }
    };
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

async fn message(bottle: &Bottle, agent: &Agent) -> Result<init::Release, Failure> {
    let ca = agent.egress.ready().await?.ca;
    let (files, mut env, counterpart) = {
        let provided = lock(&agent.provision);
        let mut files = provided.files.clone();
        for file in files.iter_mut().filter(|file| provided.filled.contains(&file.path)) {
            file.content = fill(&file.content, &bottle.setting.env);
        }
        (files, provided.env.clone(), provided.probe.is_some())
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

/// Puts the ends of variables into a text: `{NAME:-N}` is the last N characters of one; nothing, where it is not told.
fn fill(text: &str, env: &BTreeMap<String, String>) -> String {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('{') {
        let word = rest[at + 1..].split_once('}').map(|(word, _)| word);
        let parts = word.and_then(|word| word.split_once(":-")).and_then(|(name, end)| Some((name, end.parse().ok()?)));
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        match (word, parts) {
            (Some(word), Some((name, end))) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                let value = env.get(name).map_or("", String::as_str);
                let skipped = value.chars().count().saturating_sub(end);
                filled.extend(value.chars().skip(skipped));
                rest = &rest[word.len() + 2..];
            }
            _ => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
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
    Ok(Targets { proxy, direct, upstream, resources: agent.config.resources })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_variable_is_put_in_and_nothing_else() {
        let env = BTreeMap::from([("KEY".to_owned(), "0123456789".to_owned())]);
        assert_eq!(fill("{\"a\": [\"{KEY:-3}\", \"{NONE:-3}\"], {KEY}}", &env), "{\"a\": [\"789\", \"\"], {KEY}}");
    }
}
