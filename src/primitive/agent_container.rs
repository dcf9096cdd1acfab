//! The agent's container, as the engine is asked for it: its name, its command, which is init, and what every process in it
//! sees.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::Arc;

use super::account::Account;
use super::image::Built;
use super::self_image::EXECUTABLE;
use super::{Bottle, Event, Role, Sidecar};
use crate::engine::labels::Identity;
use crate::engine::{ContainerSpec, ErrorKind, VolumeMount};
use crate::init::{self, Far};
use crate::plan::AgentPlan;
use crate::session::{Class, Failure};

/// Names that are tried when one is taken: the bottle's id, then with `-2` to `-99`.
const NAMES: u32 = 99;

/// The relays that init keeps: for every sidecar that serves the agent, made so far.
pub(super) async fn relays(serving: &[Arc<Sidecar>]) -> Result<BTreeMap<SocketAddrV4, Far>, Failure> {
    let mut relays = BTreeMap::new();
    for sidecar in serving {
        relays.extend(sidecar.relayed().await?);
    }
    Ok(relays)
}

/// Tries the bottle's id as the container's name, then numbered ones; a pinned name is the only one tried.
pub(super) async fn create(bottle: &Bottle, mut spec: ContainerSpec) -> Result<String, Failure> {
    let engine = &bottle.session.engine;
    let first = spec.name.clone();
    for number in 2..=NAMES + 1 {
        match engine.container_create(&spec).await {
            Err(error) if error.kind == ErrorKind::NameTaken && !bottle.plan.pinned => {
                let next = format!("{first}-{number}");
                if number <= NAMES {
                    bottle.events.tell(Event::Log(format!("the name {} is taken; trying {next}", spec.name)));
                }
                spec.name = next;
            }
            Err(error) if spec.disk.is_some() && error.message.contains("storage-opt") => {
                let hint = "this engine's storage cannot bound a container's disk; leave resources.disk out";
                return Err(Failure::from(error).hint(hint));
            }
            answer => return Ok(answer?),
        }
    }
    Err(Failure::new(Class::Name, format!("create agent: {first} and the {} names after it are all taken", NAMES - 1))
        .hint("clean up old containers: `docker ps -a`, `bottler gc`"))
}

pub(super) fn container(
    bottle: &Bottle,
    plan: &AgentPlan,
    image: String,
    account: Account,
    relays: BTreeMap<SocketAddrV4, Far>,
    serving: &[Arc<Sidecar>],
    identity: Identity,
) -> Result<ContainerSpec, Failure> {
    let config = serde_json::to_string(&init::Config { relays, gvisor: bottle.plan.gvisor })
        .map_err(|error| Failure::new(Class::Internal, format!("write init's configuration: {error}")))?;
    let owner = format!("uid={},gid={}", account.user, account.group);
    let command = vec![EXECUTABLE.into(), init::ROLE.into(), config];
    let name = bottle.session.id.clone();
    Ok(ContainerSpec {
        env: environment(plan, serving),
        hostname: bottle.session.id.clone(),
        hosts: serving
            .iter()
            .flat_map(|sidecar| &sidecar.relays)
            .map(|relay| (relay.name.clone(), relay.address.ip().to_string()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        mounts: serving
            .iter()
            .filter_map(|sidecar| {
                let target = format!("{}/{}", init::SERVICES_DIR, sidecar.name);
                Some(VolumeMount { volume: sidecar.volume.clone()?, target, read_only: true })
            })
            .collect(),
        tmpfs: [(init::RUN_DIR.to_owned(), format!("rw,nosuid,nodev,noexec,size=16m,mode=0755,{owner}"))].into(),
        runtime: bottle.plan.runtime.clone(),
        disk: plan.disk,
        read_only: false,
        tty: plan.terminal,
        stdin: plan.terminal,
        auto_remove: true,
        ..ContainerSpec::closed(name, image, command, account.to_string(), plan.resources, identity)
    })
}

/// Whom an agent runs as: the image knows it of the plan's agent; a recipe's own has numbers.
pub(super) fn account(config: &AgentPlan, built: &Built) -> Result<Account, Failure> {
    let known = built.account.filter(|_| Account::numbers(&config.user).is_none());
    known.or_else(|| Account::numbers(&config.user)).ok_or_else(|| {
        Failure::new(Class::Input, format!("run_agent: user {:?} is no number", config.user))
            .hint("user = \"1000:1000\"")
    })
}

/// What every process of the agent's container sees: the proxy in both cases, names that need none, the CA.
fn environment(plan: &AgentPlan, serving: &[Arc<Sidecar>]) -> BTreeMap<String, String> {
    let proxy = serving.iter().find(|sidecar| sidecar.role == Some(Role::Egress));
    let proxy = proxy.and_then(|egress| Some((&egress.name, egress.relays.first()?.address.port())));
    let proxy = proxy.map(|(name, port)| format!("http://{name}:{port}")).unwrap_or_default();
    let direct: Vec<&str> = ["localhost", "127.0.0.0/8", "::1"]
        .into_iter()
        .chain(serving.iter().map(|sidecar| sidecar.name.as_str()))
        .collect();
    // A destination of plain TCP may be asked for by the proxy, too, at another port.
    let others = serving.iter().flat_map(|sidecar| sidecar.relays.iter().filter(|relay| relay.name != sidecar.name));
    let others = others.map(|relay| format!(",{}:{}", relay.name, relay.address.port()));
    let direct = format!("{}{}", direct.join(","), others.collect::<String>());
    let mut env = plan.env.clone();
    let both_cases = [("HTTP_PROXY", &proxy), ("HTTPS_PROXY", &proxy), ("NO_PROXY", &direct)];
    for (name, value) in both_cases {
        env.insert(name.to_owned(), value.clone());
        env.insert(name.to_ascii_lowercase(), value.clone());
    }
    for name in [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "GIT_SSL_CAINFO",
        "PIP_CERT",
        "CARGO_HTTP_CAINFO",
        "AWS_CA_BUNDLE",
        "DENO_CERT",
    ] {
        env.insert(name.to_owned(), init::BUNDLE_FILE.to_owned());
    }
    env.insert("SSL_CERT_DIR".to_owned(), init::BUNDLE_DIR.to_owned());
    env.insert("NODE_EXTRA_CA_CERTS".to_owned(), init::CA_FILE.to_owned());
    env.entry("HOME".to_owned()).or_insert_with(|| crate::plan::DEFAULT_HOME.to_owned());
    env.entry("PATH".to_owned())
        .or_insert_with(|| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned());
    env
}
