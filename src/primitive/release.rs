//! The release: proves that the bottle is isolated, and sends the agent's files and variables, before its command
//! starts.

use std::sync::Arc;

use super::agent::Agent;
use super::bottle::Bottle;
use super::event::Event;
use super::handle::Sidecar;
use super::proof::prove::{self, targets};
use super::sidecar::POLICY_FILE;
use super::sidecar::secrets::tell_secrets;
use super::supervise::publish;
use crate::host;
use crate::init;
use crate::layout::agent::DEFAULT_HOME;
use crate::layout::{cred_proxy, git_gate, supervise};
use crate::probe;
use crate::session::{Class, Failure, PLAN_FILE, kept_workspace};
use crate::sidecar;
use crate::sync::lock;

/// Waits for everything that the recipe has created, proves that the bottle is isolated, and starts the agent's
/// command. Only the first call has an effect.
///
/// # Errors
/// An effect failed, or the proof did; then the command does not start.
pub async fn release(bottle: &Arc<Bottle>, agent: &Agent) -> Result<(), Failure> {
    let work = async {
        check_sidecars(bottle)?;
        check_supervise(bottle)?;
        agent.open_gate();
        for sidecar in bottle.inventory.open_sidecars() {
            sidecar.ready().await?;
        }
        bottle.events.tell(Event::SidecarsUp);
        bottle.session.effects.settle().await?;
        let channel = agent.channel.get().await?;
        let (kept, proved) = tokio::join!(keep_on_disk(bottle), prove::before_release(bottle, agent, &channel));
        proved?;
        kept?;
        tell_secrets(bottle).await?;
        publish(bottle).await?;
        bottle.progress.wait_attached().await;
        let release = message(bottle, agent).await?;
        bottle.progress.note_released();
        if let Some(directory) = &bottle.host.staging {
            kept_workspace::note_released(directory)
                .map_err(|error| Failure::new(Class::Internal, format!("write {}: {error}", directory.display())))?;
        }
        // The output of a nested bottle belongs to its parent, and nobody asks later for that of a bottle without a
        // directory.
        if bottle.nesting.outer.is_none()
            && bottle.host.staging.is_some()
            && let Some(why) = bottle.recording.start(&bottle.session.engine, &agent.container().await?).await
        {
            bottle.events.tell(Event::Log(format!("record the agent's output: {why}")));
        }
        match channel.ask(&init::Request::Release(Box::new(release))).await? {
            init::Response::Released => {
                channel.start().await;
                bottle.turn.release();
                bottle.events.tell(Event::Released);
                Ok(())
            }
            init::Response::NoProgram(why) => {
                Err(Failure::new(Class::Input, format!("release the agent: in its image{}, {why}", image(bottle)))
                    .hint("install it in the image, or leave the image out: then the template's own is built"))
            }
            init::Response::Failed(why) => {
                let failure = Failure::new(Class::Operation, format!("release the agent: {why}"));
                let id = &bottle.session.id;
                Err(match agent.left_home.get() {
                    Some(_) => failure.hint(format!("`bottler resume {id} --fresh-home` starts with the image's home")),
                    None => failure,
                })
            }
            init::Response::Proof(_) => {
                Err(Failure::new(Class::Internal, "release the agent: init sent an unexpected response"))
            }
        }
    };
    agent.released.get_or_try_init(|| work).await.copied()
}

/// Has the disk keep what was written of this bottle so far.
async fn keep_on_disk(bottle: &Bottle) -> Result<(), Failure> {
    let Some(directory) = bottle.host.staging.clone() else { return Ok(()) };
    let path = directory.display().to_string();
    let kept = crate::task::blocking(move || host::keep_on_disk(&directory, &[PLAN_FILE, POLICY_FILE])).await;
    kept.map_err(std::io::Error::other)
        .flatten()
        .map_err(|error| Failure::new(Class::Internal, format!("write the files in {path} to the disk: {error}")))
}

/// Refuses a recipe that leaves routes or repositories of the plan without a sidecar that serves them.
fn check_sidecars(bottle: &Bottle) -> Result<(), Failure> {
    let sidecars = bottle.inventory.open_sidecars();
    let serves = |name: &str, role: &str| {
        let is_it = |sidecar: &Arc<Sidecar>| sidecar.role.is_some_and(|found| found.name == role);
        sidecars.iter().any(|sidecar| sidecar.name == name && is_it(sidecar))
    };
    for (is_planned, what, name, role, call) in [
        (
            bottle.plan.cred_proxy.is_some(),
            "routes in `cred_proxy`",
            cred_proxy::NAME,
            sidecar::cred_proxy::ROLE,
            "cred_proxy",
        ),
        (bottle.plan.git.is_some(), "repositories in `git`", git_gate::NAME, sidecar::git_gate::ROLE, "git_gate"),
    ] {
        if is_planned && !serves(name, role) {
            let why = format!("the plan has {what}, and the recipe starts no sidecar named {name}");
            let hint = format!("sidecars.{call}(net, egress), as in scripts/launch.lua");
            return Err(Failure::new(Class::Input, why).hint(hint));
        }
    }
    Ok(())
}

/// The name of the image, where it has one.
fn image(bottle: &Bottle) -> String {
    let name = &bottle.plan.image.source;
    if name.is_empty() { String::new() } else { format!(" {name}") }
}

/// Refuses a recipe that leaves out the sidecar by which the plan's agent asks.
fn check_supervise(bottle: &Bottle) -> Result<(), Failure> {
    let serves =
        |sidecar: &Arc<Sidecar>| sidecar.name == supervise::NAME && sidecar.role.is_some_and(|role| role.shows_policy);
    if bottle.plan.supervise.is_none() || bottle.inventory.open_sidecars().iter().any(serves) {
        return Ok(());
    }
    let why =
        format!("the plan has `supervise`, and the recipe starts no sidecar named {} of that role", supervise::NAME);
    Err(Failure::new(Class::Input, why).hint("sidecars.supervise(), as in scripts/launch.lua"))
}

async fn message(bottle: &Bottle, agent: &Agent) -> Result<init::Release, Failure> {
    let ca = agent.egress.ca().await?;
    let told = bottle.agent_env();
    let (mut files, mut env, counterpart) = {
        let provided = lock(&agent.provision);
        (provided.files(&told), provided.env.clone(), provided.probe.is_some())
    };
    for file in bottle.credential_files() {
        // A recipe's file takes precedence.
        if files.iter().all(|known| known.path != file.path) {
            files.push(file);
        }
    }
    if counterpart {
        let targets = targets(bottle, agent, 0).await?;
        let json = serde_json::to_string(&targets).map_err(|error| Failure::new(Class::Internal, error.to_string()))?;
        env.insert(probe::VARIABLE.to_owned(), json);
    }
    for (name, value) in told {
        // A recipe's value of the same variable takes precedence.
        env.entry(name).or_insert(value);
    }
    let workdir = if agent.config.workdir.is_empty() { DEFAULT_HOME.to_owned() } else { agent.config.workdir.clone() };
    let left = agent.left_home.get().cloned();
    Ok(init::Release { command: agent.config.command.clone(), workdir, env, files, ca, left })
}
