//! The release: the proof that the bottle is tight, and what the agent is given, before its command starts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::engine::{Engine, ExecSpec};
use crate::init;
use crate::layout::EXECUTABLE;
use crate::layout::agent::DEFAULT_HOME;
use crate::primitive::proof::prove;
use crate::primitive::proof::prove::targets;
use crate::primitive::sidecar::bring_up::tell_secrets;
use crate::primitive::stream::Talk;
use crate::primitive::{Agent, Bottle, Event};
use crate::probe;
use crate::session::{Class, Failure, kept_workspace};
use crate::sync::lock;

/// How long init may take to prove and to release.
const PATIENCE: Duration = Duration::from_mins(1);

/// The open channel to init.
#[derive(Clone)]
pub(in crate::primitive) struct Channel(Arc<Mutex<Talk>>);

impl Channel {
    pub(in crate::primitive) async fn open(engine: &dyn Engine, container: &str) -> Result<Self, Failure> {
        let spec = ExecSpec::plain(vec![EXECUTABLE.into(), "ctl".into()]);
        let (_, streams) = engine.exec(container, &spec).await?;
        Ok(Self(Arc::new(Mutex::new(Talk::new(streams)))))
    }

    pub(in crate::primitive) async fn ask(&self, request: &init::Request) -> Result<init::Response, Failure> {
        let mut talk = self.0.lock().await;
        let answer = talk.ask(request, PATIENCE).await;
        answer.map_err(|why| talk.failure("talk to init in the agent's container", why))
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
        for (egress, pair) in sidecars.iter().flat_map(|sidecar| sidecar.pairs.iter().map(move |pair| (sidecar, pair)))
        {
            if !sidecars.iter().any(|sidecar| sidecar.name == pair.name) {
                let why =
                    format!("release the agent: {} has the peer {}, which was not started", egress.name, pair.name);
                return Err(Failure::new(Class::Input, why).hint("start it, or take it out of `peers`"));
            }
        }
        for sidecar in sidecars.iter().filter(|sidecar| !sidecar.life.is_closed()) {
            sidecar.ready().await?;
        }
        bottle.events.tell(Event::SidecarsUp);
        bottle.session.effects.settle().await?;
        let channel = agent.channel.get().await?;
        prove::before_release(bottle, agent, &channel).await?;
        tell_secrets(bottle).await?;
        bottle.wait_attached().await;
        let release = message(bottle, agent).await?;
        bottle.released.store(true, std::sync::atomic::Ordering::Release);
        if let Some(directory) = &bottle.setting.staging {
            kept_workspace::note_released(directory)
                .map_err(|error| Failure::new(Class::Internal, format!("write {}: {error}", directory.display())))?;
        }
        // A bottle of another's is part of that one; one without a directory has nobody who would ask for it later.
        if bottle.setting.room.is_none()
            && bottle.setting.staging.is_some()
            && let Some(why) = bottle.recording.start(&bottle.session.engine, &agent.container().await?).await
        {
            bottle.events.tell(Event::Log(format!("keep what the agent writes: {why}")));
        }
        match channel.ask(&init::Request::Release(Box::new(release))).await? {
            init::Response::Released => {
                bottle.give_turn_back();
                bottle.events.tell(Event::Released);
                Ok(())
            }
            init::Response::Failed(why) => Err(Failure::new(Class::Operation, format!("release the agent: {why}"))),
            init::Response::Proof(_) => {
                Err(Failure::new(Class::Internal, "release the agent: init gave an unexpected answer"))
            }
        }
    };
    agent.released.get_or_try_init(|| work).await.copied()
}

async fn message(bottle: &Bottle, agent: &Agent) -> Result<init::Release, Failure> {
    let ca = agent.egress.ca().await?;
    let (files, mut env, counterpart) = {
        let provided = lock(&agent.provision);
        (provided.files(&bottle.setting.env), provided.env.clone(), provided.probe.is_some())
    };
    if counterpart {
        let targets = targets(bottle, agent, 0).await?;
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
