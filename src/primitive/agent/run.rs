//! `run_agent`: creates and starts the agent's container at once, and holds its command back until the release.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use futures_util::FutureExt;
use tokio::sync::{OnceCell, watch};

use super::channel::Channel;
use super::container::{account, container, create, note_build_base, relays};
use super::home;
use super::provisions::Provisions;
use crate::engine::labels::{Identity, Kind};
use crate::engine::{ErrorKind, VolumeMount, VolumeSpec, whole};
use crate::layout::agent::WORKSPACE;
use crate::plan::{AgentPlan, WorkspaceMode};
use crate::primitive::account::Account;
use crate::primitive::away::{outlast, unsaid};
use crate::primitive::bottle::Bottle;
use crate::primitive::event::Event;
use crate::primitive::handle::{Image, Lifecycle, Network, Sidecar, WorkspaceSource};
use crate::primitive::receiver::Receiver;
use crate::primitive::workspace::mounts;
use crate::session::{Class, Failure, Pending, ScriptLocation};
use crate::sync::lock;
use crate::workspace::stream;

/// The options of `run_agent`.
pub struct AgentOptions {
    /// Its image.
    pub image: Arc<Image>,
    /// The network that it is attached to, if any.
    pub network: Option<Arc<Network>>,
    /// The egress sidecar, its only way out.
    pub egress: Arc<Sidecar>,
    /// Its configuration.
    pub config: AgentPlan,
}

/// The agent.
pub struct Agent {
    /// Its configuration.
    pub config: AgentPlan,
    /// Its lifecycle.
    pub life: Arc<Lifecycle>,
    /// The volume of its workspace, if it has one.
    pub(in crate::primitive) workspace: Option<String>,
    /// Its home, if an earlier agent has left it; known once its container has been created.
    pub(in crate::primitive) left_home: Arc<OnceLock<String>>,
    pub(in crate::primitive) egress: Arc<Sidecar>,
    /// The internal network that it is attached to, in a bottle that is not sealed.
    pub(in crate::primitive) inside: Option<Arc<Network>>,
    /// The receiver for the first proof, started along with everything else.
    receiver: Option<Pending<Arc<Mutex<Option<Receiver>>>>>,
    pub(in crate::primitive) provision: Mutex<Provisions>,
    pub(in crate::primitive) released: OnceCell<()>,
    pub(in crate::primitive) channel: Pending<Channel>,
    created: Pending<String>,
    exit: Pending<i64>,
    reconnected: watch::Sender<u64>,
    gate: watch::Sender<bool>,
    started: Arc<AtomicBool>,
}

impl Agent {
    /// Allows the container to start: everything that must be put into it before has been put.
    pub(in crate::primitive) fn open_gate(&self) {
        self.gate.send_replace(true);
    }

    /// Whether the container may have started.
    pub(in crate::primitive) fn has_started(&self) -> bool {
        self.started.load(Ordering::Acquire)
    }

    /// Waits until the container runs; returns its id.
    ///
    /// # Errors
    /// It could not be created or started.
    pub async fn ready(&self) -> Result<String, Failure> {
        self.open_gate();
        self.channel.get().await?;
        self.created.get().await
    }

    /// A receiver on the engine's host, if the agent is attached to a network; each proof needs its own.
    pub(in crate::primitive) async fn receiver(&self, bottle: &Arc<Bottle>) -> Result<Option<Receiver>, Failure> {
        let (Some(network), Some(first)) = (&self.inside, &self.receiver) else { return Ok(None) };
        let first = lock(first.get().await?.as_ref()).take();
        match first {
            Some(receiver) => Ok(Some(receiver)),
            None => Receiver::start(bottle, network).await.map(Some),
        }
    }

    /// The volume of its workspace, if it has one.
    pub fn workspace_volume(&self) -> Option<String> {
        self.workspace.clone()
    }

    /// Counts how often the engine was unreachable and has come back.
    pub(in crate::primitive) fn reconnected(&self) -> watch::Receiver<u64> {
        self.reconnected.subscribe()
    }

    /// Waits until its container exists; returns the container's id.
    pub(in crate::primitive) async fn container(&self) -> Result<String, Failure> {
        self.created.get().await
    }

    /// Kills and removes its container now.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        let (engine, created) = (bottle.session.engine.clone(), self.created.clone());
        self.open_gate();
        bottle.undo(&self.life, at, async move {
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

    /// Waits for the end of the command without releasing it; returns its exit code.
    ///
    /// # Errors
    /// The engine has lost the container.
    pub async fn exit_code(&self) -> Result<i64, Failure> {
        self.exit.get().await
    }
}

/// Checks the configuration, also against what a project's hooks may change.
fn check(bottle: &Bottle, config: &AgentPlan) -> Result<(), Failure> {
    if config.command.is_empty() {
        return Err(Failure::new(Class::Input, "run_agent: config.command is empty"));
    }
    let bad = |why: String| Failure::new(Class::Input, format!("run_agent: config: {why}"));
    bottle.check_resources(&config.resources).map_err(bad)?;
    if bottle.host.bounded && config.user != bottle.plan.agent.user {
        return Err(bad(format!("user {:?} is not the plan's, and a project's hooks cannot change it", config.user)));
    }
    if bottle.host.bounded && config.disk != bottle.plan.agent.disk {
        return Err(bad("disk is not the plan's, and a project's hooks cannot change it".to_owned()));
    }
    Ok(())
}

/// The volume of the workspace.
struct WorkspaceVolume {
    name: String,
    /// Its labels if it is created; that of a kept workspace exists.
    identity: Option<Identity>,
}

/// Announces the volume of the agent's workspace, if it has one.
fn announce_workspace(bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Result<Option<WorkspaceVolume>, Failure> {
    if bottle.seed().is_none() {
        return Ok(None);
    }
    let name = bottle.workspace_volume();
    let exists = matches!(bottle.host.workspace, Some(WorkspaceSource::KeptWorkspace(_)));
    let identity = if exists { None } else { Some(bottle.intend(Kind::Volume, &name, at)?) };
    Ok(Some(WorkspaceVolume { name, identity }))
}

impl WorkspaceVolume {
    /// Creates it, unless it exists.
    async fn mounted(self, bottle: &Bottle, account: Account) -> Result<VolumeMount, Failure> {
        let Self { name, identity } = self;
        if let Some(identity) = identity {
            let owner = Some((account.user, account.group));
            let spec = VolumeSpec { name: name.clone(), owner, may_be_kept: true, identity };
            bottle.session.engine.volume_create(&spec).await?;
        }
        let target = bottle.plan.workspace.as_ref().map_or(WORKSPACE, |plan| &plan.path).to_owned();
        Ok(VolumeMount { volume: name, target, read_only: false })
    }
}

/// Creates and starts the agent's container. Its command waits for [`crate::primitive::release`].
///
/// # Errors
/// The options are invalid.
pub fn run_agent(
    bottle: &Arc<Bottle>,
    options: AgentOptions,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Agent>, Failure> {
    let config = options.config;
    check(bottle, &config).map_err(|failure| failure.at(at))?;
    let workspace = announce_workspace(bottle, at)?;
    let home = home::announce(bottle, at)?;
    let left_home = Arc::new(OnceLock::new());
    let serving: Vec<Arc<Sidecar>> = {
        let sidecars = bottle.inventory.open_sidecars();
        sidecars.into_iter().filter(|sidecar| !sidecar.relays.is_empty()).collect()
    };
    let outside = serving.iter().find(|sidecar| sidecar.places.iter().any(|(network, _)| network.internal));
    if let (Some(sidecar), None) = (outside, &options.network) {
        let why = format!("run_agent: {} is on an internal network, and the agent is not", sidecar.name);
        return Err(Failure::new(Class::Input, why).hint("network = net.inside").at(at));
    }
    let (identity, life) = bottle.begin(Kind::Agent, "", &bottle.session.id, at)?;
    let place = options.network.as_ref().map(|network| {
        let place = if network.internal { Network::agent_place() } else { network.take_place() };
        (network.clone(), place)
    });
    let inside = options.network.filter(|network| network.internal);
    let receiver = inside.clone().map(|network| {
        let context = bottle.clone();
        bottle.effect("hear on the host".into(), at, async move {
            Ok(Arc::new(Mutex::new(Some(Receiver::start(&context, &network).await?))))
        })
    });
    let image = options.image;
    let (context, base, plan, left) = (bottle.clone(), image.clone(), config.clone(), left_home.clone());
    let name = workspace.as_ref().map(|volume| volume.name.clone());
    let created = bottle.effect("create agent".into(), at, async move {
        // The volumes must exist, and must have been initialised by their writers' images, before a reader mounts
        // them.
        for sidecar in &serving {
            sidecar.container().await?;
        }
        let built = base.inspect().await?;
        let account = account(&plan, &built)?;
        let relays = relays(&serving).await?;
        let mut spec = container(&context, &plan, &built, account, relays, &serving, identity)?;
        if let Some((network, place)) = &place {
            spec.networks.push(network.attachment(*place).await?);
            // The only DNS server that it is given does not respond: nothing listens there.
            spec.resolver = Some(network.address(Network::egress_place()).await?);
        }
        if let Some(volume) = workspace {
            spec.mounts.push(volume.mounted(&context, account).await?);
        }
        if let Some(plan) = context.plan.workspace.as_ref().filter(|plan| plan.mode == WorkspaceMode::Mount) {
            spec.binds = mounts(&context, plan)?;
        }
        if let Some(home) = home
            && let Some(home) = home::mounted(&context, home, &built, account, &spec).await?
        {
            if home.is_left {
                let _ = left.set(home.mount.target.clone());
            }
            spec.mounts.push(home.mount);
        }
        note_build_base(&context, &plan, built, &serving).await?;
        let id = create(&context, spec).await?;
        // Clients attach to it when they hear of it, and its end is awaited by a request that is sent before its start.
        context.session.engine.container_settled(&id).await?;
        context.events.tell(Event::AgentCreated { container: id.clone() });
        Ok(id)
    });
    let used = image.clone();
    let (gate, opened) = watch::channel(false);
    let started = Arc::new(AtomicBool::new(false));
    let provision = Mutex::new(Provisions::default());
    bottle.policies.note_agents(&options.egress.name);
    let agent = Arc::new_cyclic(|this: &std::sync::Weak<Agent>| {
        let reconnected = watch::Sender::new(0);
        let back = reconnected.clone();
        let inputs = StartInputs {
            created: created.clone(),
            image: used,
            opened,
            started: started.clone(),
            back,
            left: left_home.clone(),
        };
        let (channel, exit) = start(bottle, inputs, this.clone(), &config, at);
        Agent {
            config,
            life,
            workspace: name,
            left_home,
            egress: options.egress,
            inside,
            receiver,
            provision,
            released: OnceCell::new(),
            channel,
            created,
            exit,
            reconnected,
            gate,
            started,
        }
    });
    Ok(agent)
}

/// The inputs of an agent's start.
struct StartInputs {
    created: Pending<String>,
    image: Arc<Image>,
    opened: watch::Receiver<bool>,
    started: Arc<AtomicBool>,
    /// Notified when the engine was unreachable and has come back.
    back: watch::Sender<u64>,
    left: Arc<OnceLock<String>>,
}

/// Starts the container once its gate is open, and connects to init. Waits for its end from before the start, so as
/// not to miss it.
fn start(
    bottle: &Arc<Bottle>,
    begin: StartInputs,
    agent: std::sync::Weak<Agent>,
    config: &AgentPlan,
    at: Option<&ScriptLocation>,
) -> (Pending<Channel>, Pending<i64>) {
    let StartInputs { created, image, mut opened, started, back, left } = begin;
    let (waiting, waiter) = tokio::sync::oneshot::channel();
    let (context, id) = (bottle.clone(), created.clone());
    // Not an effect: it lasts as long as the bottle, and the teardown does not wait for it.
    let exit = Pending::detached(
        async move {
            let id = id.get().await?;
            let engine = context.session.engine.clone();
            let mut end = engine.container_wait(&id, false);
            // Polling sends the request, so the container starts after it.
            let early = (&mut end).now_or_never();
            let _ = waiting.send(());
            let ended = if let Some(answer) = early {
                answer
            } else {
                tokio::select! {
                    answer = end => answer,
                    answer = unsaid(engine.as_ref(), &id) => answer,
                }
            };
            match ended {
                Ok(code) => Ok(code),
                Err(error) => {
                    if error.kind != ErrorKind::NotFound {
                        context.events.tell(Event::Log("the engine does not answer; waiting for it".to_owned()));
                    }
                    Ok(outlast(engine.as_ref(), &id, error, &back).await?)
                }
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
            && !matches!(context.host.workspace, Some(WorkspaceSource::KeptWorkspace(_)))
        {
            let owner = account(&config, image.inspect().await?.as_ref())?;
            let path = context.plan.workspace.as_ref().map_or(WORKSPACE, |plan| &plan.path);
            let archive = stream(seed.get().await?, path, (owner.user.into(), owner.group.into()));
            context.session.engine.container_upload(&id, archive).await?;
        }
        let agent = agent.upgrade();
        if let (Some(home), Some(agent)) = (left.get(), &agent) {
            home::check_unpacked(&context.session.id, home, lock(&agent.provision).unpacked())?;
        }
        if let Some(tar) = agent.and_then(|agent| lock(&agent.provision).upload()).transpose()? {
            context.session.engine.container_upload(&id, whole(tar)).await?;
        }
        context.session.engine.container_start(&id).await?;
        Channel::open(context.session.engine.as_ref(), &id).await
    });
    (channel, exit)
}
