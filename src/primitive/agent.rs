//! `run_agent`: the agent's container, created and started at once, its command held back until the release.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use tokio::sync::{OnceCell, watch};

use super::account::Account;
use super::image::Built;
use super::release::{Channel, Provision};
use super::self_image::EXECUTABLE;
use super::workspace::Source;
use super::{Bottle, Event, Image, Life, Network, Role, Sidecar, lock};
use crate::engine::labels::{Identity, Kind};
use crate::engine::{Attachment, ContainerSpec, ErrorKind, VolumeMount, VolumeSpec, whole};
use crate::init;
use crate::plan::{AgentPlan, WORKSPACE, WorkspaceMode};
use crate::session::{Class, Failure, Pending, Place};
use crate::workspace::stream;

/// Names that are tried when one is taken: the bottle's id, then with `-2` to `-99`.
const NAMES: u32 = 99;

/// What `run_agent` takes.
pub struct AgentOptions {
    /// Its image.
    pub image: Arc<Image>,
    /// The network it is on; none at all when absent.
    pub network: Option<Arc<Network>>,
    /// Its only way out.
    pub egress: Arc<Sidecar>,
    /// What it is.
    pub config: AgentPlan,
}

/// The agent.
pub struct Agent {
    /// What it is.
    pub config: AgentPlan,
    /// Its life.
    pub life: Arc<Life>,
    /// The volume of its workspace, if it has one.
    pub(super) workspace: Option<String>,
    pub(super) egress: Arc<Sidecar>,
    pub(super) provision: Mutex<Provision>,
    pub(super) released: OnceCell<()>,
    pub(super) channel: Pending<Channel>,
    created: Pending<String>,
    exit: Pending<i64>,
    gate: watch::Sender<bool>,
    started: Arc<AtomicBool>,
}

impl Agent {
    /// Lets the container start: what is put into it before its first start has been put.
    pub(super) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Whether the container may have started.
    pub(super) fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Waits until the container runs; its id.
    ///
    /// # Errors
    /// It could not be created or started.
    pub async fn ready(&self) -> Result<String, Failure> {
        self.open_gate();
        self.channel.get().await?;
        self.created.get().await
    }

    /// Kills and removes its container now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&Place>) -> Pending<()> {
        let (engine, created) = (bottle.session.engine.clone(), self.created.clone());
        self.open_gate();
        self.life.close(bottle, at, async move {
            if let Ok(id) = created.get().await {
                engine.container_remove(&id).await?;
            }
            Ok(())
        })
    }

    /// The path of the prompt file, if a prompt has been provided.
    pub fn prompt_path(&self) -> Option<String> {
        lock(&self.provision).prompt_path.clone()
    }

    /// Waits for the end of the command, without releasing it; its exit code.
    ///
    /// # Errors
    /// The engine lost it.
    pub async fn exit_code(&self) -> Result<i64, Failure> {
        self.exit.get().await
    }
}

/// Creates and starts the agent's container. It idles until [`super::release`].
///
/// # Errors
/// The options are bad.
pub fn run_agent(bottle: &Arc<Bottle>, options: AgentOptions, at: Option<&Place>) -> Result<Arc<Agent>, Failure> {
    let config = options.config;
    if config.command.is_empty() {
        return Err(Failure::new(Class::Input, "run_agent: config.command is empty").at(at));
    }
    let bad = |why: String| Failure::new(Class::Input, format!("run_agent: config: {why}")).at(at);
    bottle.check_resources(&config.resources).map_err(bad)?;
    if bottle.setting.bounded && config.user != bottle.plan.agent.user {
        return Err(bad(format!("user {:?} is not the plan's, and a project's hooks cannot change it", config.user)));
    }
    // Of a copy, the volume is made; one that was kept is there.
    let seed = bottle.seed();
    let kept = matches!(bottle.setting.workspace, Some(Source::Kept(_)));
    let path = bottle.plan.workspace.as_ref().map_or_else(|| WORKSPACE.to_owned(), |plan| plan.path.clone());
    let workspace = match &seed {
        Some(_) if kept => Some((None, bottle.workspace_volume())),
        Some(_) => {
            let name = bottle.workspace_volume();
            Some((Some(bottle.intend(Kind::Volume, &name, at)?), name))
        }
        None => None,
    };
    let serving: Vec<Arc<Sidecar>> = {
        let sidecars = lock(&bottle.sidecars);
        sidecars.iter().filter(|sidecar| sidecar.volume.is_some() && !sidecar.life.is_closed()).cloned().collect()
    };
    let (identity, life) = bottle.begin(Kind::Agent, "", &bottle.session.id, at)?;
    let place = options.network.as_ref().map(|network| (network.clone(), network.take_place()));
    let image = options.image;
    let (context, base, plan, volume) = (bottle.clone(), image.clone(), config.clone(), workspace.clone());
    let workspace = workspace.map(|(_, name)| name);
    let created = bottle.effect("create agent".into(), at, async move {
        let network = match &place {
            Some((network, place)) => Some(network.attachment(*place).await?),
            None => None,
        };
        // The volumes must be there, and filled by their writers' images, before a reader mounts them.
        for sidecar in &serving {
            sidecar.container().await?;
        }
        let built = base.inspect().await?;
        let account = account(&plan, &built)?;
        let mut spec = container(&context, &plan, built.tag.clone(), account, network, &serving, identity)?;
        if let Some((identity, name)) = volume {
            if let Some(identity) = identity {
                context.session.engine.volume_create(&VolumeSpec { name: name.clone(), identity }).await?;
            }
            spec.mounts.push(VolumeMount { volume: name, target: path.clone(), read_only: false });
        }
        if let Some(plan) = context.plan.workspace.as_ref().filter(|plan| plan.mode == WorkspaceMode::Mount) {
            spec.binds = super::workspace::mounts(&context, plan)?;
        }
        let id = create(&context, spec).await?;
        context.events.tell(Event::AgentCreated { container: id.clone() });
        Ok(id)
    });
    let used = image.clone();
    let (gate, opened) = watch::channel(false);
    let started = Arc::new(AtomicBool::new(false));
    let provision = Mutex::new(Provision::default());
    let agent = Arc::new_cyclic(|this: &std::sync::Weak<Agent>| {
        let begin = Begin { created: created.clone(), image: used, opened, started: started.clone() };
        let (channel, exit) = start(bottle, begin, this.clone(), &config, at);
        Agent {
            config,
            life,
            workspace,
            egress: options.egress,
            provision,
            released: OnceCell::new(),
            channel,
            created,
            exit,
            gate,
            started,
        }
    });
    Ok(agent)
}

/// The relays that init keeps: for every sidecar that serves the agent, made so far.
fn relays(serving: &[Arc<Sidecar>]) -> BTreeMap<SocketAddrV4, String> {
    let all = serving.iter().flat_map(|sidecar| sidecar.relays.iter().map(move |relay| (sidecar, relay)));
    all.map(|(sidecar, relay)| (relay.address, format!("{}/{}", sidecar.name, relay.socket))).collect()
}

/// Tries the bottle's id as the container's name, then numbered ones; a pinned name is the only one tried.
async fn create(bottle: &Bottle, mut spec: ContainerSpec) -> Result<String, Failure> {
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

fn container(
    bottle: &Bottle,
    plan: &AgentPlan,
    image: String,
    account: Account,
    network: Option<Attachment>,
    serving: &[Arc<Sidecar>],
    identity: Identity,
) -> Result<ContainerSpec, Failure> {
    let config = serde_json::to_string(&init::Config { relays: relays(serving) })
        .map_err(|error| Failure::new(Class::Internal, format!("write init's configuration: {error}")))?;
    let owner = format!("uid={},gid={}", account.user, account.group);
    Ok(ContainerSpec {
        name: bottle.session.id.clone(),
        image,
        command: vec![EXECUTABLE.into(), init::ROLE.into(), config],
        env: environment(plan, serving),
        user: account.to_string(),
        workdir: "/".into(),
        hostname: bottle.session.id.clone(),
        hosts: serving
            .iter()
            .flat_map(|sidecar| &sidecar.relays)
            .map(|relay| (relay.name.clone(), relay.address.ip().to_string()))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect(),
        networks: network.into_iter().collect(),
        mounts: serving
            .iter()
            .filter_map(|sidecar| {
                let target = format!("{}/{}", init::SERVICES_DIR, sidecar.name);
                Some(VolumeMount { volume: sidecar.volume.clone()?, target, read_only: true })
            })
            .collect(),
        tmpfs: [(init::RUN_DIR.to_owned(), format!("rw,nosuid,nodev,noexec,size=16m,mode=0755,{owner}"))].into(),
        binds: Vec::new(),
        runtime: bottle.plan.runtime.clone(),
        disk: plan.disk,
        read_only: false,
        tty: plan.terminal,
        stdin: plan.terminal,
        auto_remove: true,
        resources: plan.resources,
        identity,
    })
}

/// Whom an agent runs as: the image knows it of the plan's agent; a recipe's own has numbers.
fn account(config: &AgentPlan, built: &Built) -> Result<Account, Failure> {
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

/// What the start of an agent waits for.
struct Begin {
    created: Pending<String>,
    image: Arc<Image>,
    opened: watch::Receiver<bool>,
    started: Arc<AtomicBool>,
}

/// Starts the container once its gate is open, and opens the channel to init; waits for its end from before the start.
fn start(
    bottle: &Arc<Bottle>,
    begin: Begin,
    agent: std::sync::Weak<Agent>,
    config: &AgentPlan,
    at: Option<&Place>,
) -> (Pending<Channel>, Pending<i64>) {
    let Begin { created, image, mut opened, started } = begin;
    let (waiting, waiter) = tokio::sync::oneshot::channel();
    let (context, id) = (bottle.clone(), created.clone());
    // Not an effect: it ends with the bottle, and is not waited for.
    let exit = Pending::detached(
        async move {
            let id = id.get().await?;
            let engine = context.session.engine.clone();
            let mut end = engine.container_wait(&id, false);
            // Once polled, the request is on its way; the start comes after.
            let early = (&mut end).now_or_never();
            let _ = waiting.send(());
            match early {
                Some(answer) => Ok(answer?),
                None => Ok(end.await?),
            }
        }
        .boxed(),
    );
    let (context, config) = (bottle.clone(), config.clone());
    let channel = bottle.effect("start agent".into(), at, async move {
        let id = created.get().await?;
        tokio::select! {
            changed = opened.wait_for(|open| *open) => drop(changed),
            () = context.session.effects.cancelled() => return Err(Failure::new(Class::Cancelled, "cancelled")),
        }
        let _ = waiter.await;
        started.store(true, Ordering::Release);
        if let Some(seed) = context.seed()
            && !matches!(context.setting.workspace, Some(Source::Kept(_)))
        {
            let owner = account(&config, image.inspect().await?.as_ref())?;
            let path = context.plan.workspace.as_ref().map_or(WORKSPACE, |plan| &plan.path);
            let archive = stream(seed.get().await?, path, (owner.user.into(), owner.group.into()));
            context.session.engine.container_upload(&id, archive).await?;
        }
        if let Some(tar) = agent.upgrade().and_then(|agent| lock(&agent.provision).upload()).transpose()? {
            context.session.engine.container_upload(&id, whole(tar)).await?;
        }
        context.session.engine.container_start(&id).await?;
        Channel::open(context.session.engine.as_ref(), &id).await
    });
    (channel, exit)
}
