//! A container beside a paused agent, for one proof: no process can run in the agent's own container.

use std::sync::Arc;
use std::time::Duration;

use crate::engine::labels::Kind;
use crate::engine::{ContainerSpec, VolumeMount};
use crate::init::beside;
use crate::layout::EXECUTABLE;
use crate::layout::agent::{Far, SERVICES_DIR};
use crate::layout::loopback::PROVER;
use crate::layout::sidecar::USER;
use crate::primitive::agent::Agent;
use crate::primitive::bottle::Bottle;
use crate::primitive::channel::stream::JsonChannel;
use crate::primitive::image::self_image;
use crate::probe::{ProbeResult, Targets};
use crate::session::{Class, Failure};

/// Its name, appended to the bottle's.
const NAME: &str = "prover";
/// How long the attempts may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Makes the attempts from there.
///
/// # Errors
/// The container cannot be created, or does not respond.
pub(in crate::primitive) async fn attempts(
    bottle: &Arc<Bottle>,
    agent: &Agent,
    targets: Targets,
) -> Result<Vec<ProbeResult>, Failure> {
    let egress = &agent.egress;
    let relayed = egress.relayed().await?;
    let far: Far = relayed
        .get(&targets.proxy)
        .cloned()
        .ok_or_else(|| Failure::new(Class::Internal, "prove the bottle from beside: egress has no relay"))?;
    let config = beside::Config { relays: [(PROVER, far)].into(), targets: Targets { proxy: PROVER, ..targets } };
    let mounts = egress.volume.iter().map(|volume| VolumeMount {
        volume: volume.clone(),
        target: format!("{SERVICES_DIR}/{}", egress.name),
        read_only: true,
    });
    let (mounts, beside) = (mounts.collect(), agent.container().await?);
    let image = self_image(bottle, None).get().await?.tag.clone();
    let identity = bottle.intend(Kind::Sidecar, &bottle.name(NAME), None)?;
    let command = vec![EXECUTABLE.into(), beside::ROLE.into()];
    // The agent's own limits, because the proof reads them back.
    let (user, bounds) = (format!("{USER}:{USER}"), agent.config.resources);
    let spec = ContainerSpec {
        beside: Some(beside),
        mounts,
        stdin: true,
        runtime: bottle.plan.runtime.clone(),
        ..ContainerSpec::closed(bottle.name(NAME), image, command, user, bounds, identity)
    };
    // An effect, so that the container is removed even if nobody waits for the result.
    let context = bottle.clone();
    let proof = bottle.session.effects.start(async move {
        let engine = &context.session.engine;
        let id = engine.container_create(&spec).await?;
        let asked = async {
            let mut talk = JsonChannel::new(engine.container_attach(&id).await?);
            engine.container_start(&id).await?;
            let answer = talk.ask::<Vec<ProbeResult>>(&config, PATIENCE).await;
            answer.map_err(|why| talk.failure("prove the bottle from beside the paused agent", why))
        };
        let lines = tokio::select! {
            lines = asked => lines,
            () = context.session.effects.cancelled() => Err(Failure::new(Class::Cancelled, "cancelled")),
        };
        engine.container_remove(&id).await?;
        lines
    });
    proof.get().await
}
