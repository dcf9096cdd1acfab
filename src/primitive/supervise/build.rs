//! Builds the image of an approved request: its steps run in a container of the bottle, and the engine makes an image of that.
//!
//! Rules:
//! * The container has what the agent's has of the network: none but egress' socket, with the bottle's policy, scanner and audit
//!   log. It has none of the agent's variables, credentials, placeholders, files, volumes and other sidecars.
//! * Its steps run as root, because package managers do, with the capabilities that those need and no others.
//! * It has the agent's bounds, and a time limit.
//! * The agent runs as the same user in it, with the same home.
//! * A failure at any point leaves neither the container nor an image that nobody has written down.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::sync::Notify;

use super::capability::ImageOffer;
use super::fragment::BuildStep;
use crate::audit;
use crate::engine::labels::{CACHE, KIND, Kind, OWNER, SEQ, SESSION};
use crate::engine::{ContainerSpec, ExecSpec, ImageCommit, Output, Streams};
use crate::init::{build_check, builder};
use crate::layout::{self, EXECUTABLE};
use crate::primitive::bottle::{Bottle, BuildBase};
use crate::primitive::event::Event;
use crate::primitive::exec::{MAX_OUTPUT, run_to_end};
use crate::session::{BottleImages, BuiltImage, Class, Failure};

/// How long all steps may take.
const PATIENCE: Duration = Duration::from_mins(20);
/// How long the container may take until steps can run.
const START: Duration = Duration::from_secs(30);
/// What dpkg and apt of Debian work with as root. apt runs its downloads as a user of its own.
const CAPABILITIES: [&str; 7] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID"];
/// How much of the output of a step that failed is shown: lines, and bytes of each.
const LAST_LINES: usize = 15;
const MAX_LINE: usize = 300;
/// How often a line of the output is shown while a step runs.
const SHOWN: Duration = Duration::from_millis(200);
/// The label of such an image with the bottle's id, and the one with the id of the image below.
const IMAGE_OF: &str = "dev.bottler.image-of";
const IMAGE_BASE: &str = "dev.bottler.image-base";
/// Most refusals of egress that are shown with a failure.
const MAX_REFUSED: usize = 5;

/// Builds an image. It has a reference that is written down, and is not the bottle's yet. `stop` ends it.
pub(super) async fn build(
    bottle: &Arc<Bottle>,
    request: &str,
    offer: &ImageOffer,
    stop: &Arc<Notify>,
) -> Result<BuiltImage, Failure> {
    let (context, request, offer, stop) = (bottle.clone(), request.to_owned(), offer.clone(), stop.clone());
    // An effect, so that the teardown waits for it, and what it has made is known.
    let effect = bottle.session.effects.start(async move {
        let session = &context.session;
        tokio::select! {
            built = made(&context, &request, &offer, &stop) => built,
            () = session.effects.cancelled() => {
                // Its container is found by its label.
                Err(Failure::new(Class::Cancelled, format!("build the image of {request}: the bottle is ending")))
            }
        }
    });
    effect.get().await
}

async fn made(bottle: &Arc<Bottle>, request: &str, offer: &ImageOffer, stop: &Notify) -> Result<BuiltImage, Failure> {
    let base = bottle.build_base.get().ok_or_else(|| failed(request, "the agent has no container yet"))?;
    let engine = &bottle.session.engine;
    let found = engine.image_find(&offer.base).await?;
    let found = found.ok_or_else(|| failed(request, "the engine no longer has the image that it begins with"))?;
    let images = bottle.host.images.source();
    let layered = images.layer(&bottle.session, &found, &bottle.plan.agent.user, bottle.plan.gvisor).await?;
    let name = bottle.name("builder");
    let mut identity = bottle.intend(Kind::Sidecar, &name, None)?;
    identity.uses = base.uses();
    let config = builder::Config { relays: base.relays.clone(), ca: base.egress.ca().await? };
    let config = serde_json::to_string(&config).map_err(|error| failed(request, &error))?;
    let command = vec![EXECUTABLE.into(), builder::ROLE.into(), config];
    let memory = "rw,nosuid,nodev,noexec,size=16m,mode=0755,uid=0,gid=0".to_owned();
    let spec = ContainerSpec {
        hostname: bottle.session.id.clone(),
        hosts: base.hosts.clone(),
        mounts: base.mounts.clone(),
        tmpfs: [(layout::agent::RUN_DIR.to_owned(), memory)].into(),
        runtime: bottle.plan.runtime.clone(),
        disk: bottle.plan.agent.disk,
        read_only: false,
        fixed: vec![EXECUTABLE.to_owned()],
        capabilities: CAPABILITIES.to_vec(),
        ..ContainerSpec::closed(name, layered.tag, command, "0:0".into(), bottle.plan.agent.resources, identity)
    };
    let container = engine.container_create(&spec).await?;
    let work = async {
        start(bottle, &container, request).await?;
        let env = run_all(bottle, base, &container, request, &offer.steps).await?;
        commit(bottle, base, &container, request, offer, env).await
    };
    let built = tokio::select! {
        built = work => built,
        () = tokio::time::sleep(PATIENCE) => {
            Err(failed(request, format!("its steps were not done within {} min", PATIENCE.as_secs() / 60)))
        }
        () = stop.notified() => {
            Err(Failure::new(Class::Cancelled, format!("build the image of {request}: it was rejected meanwhile")))
        }
    };
    // Without it there is nothing to kill.
    let removed = engine.container_remove(&container).await;
    let built = built?;
    removed?;
    Ok(built)
}

/// Starts the container, and waits until its relays listen.
async fn start(bottle: &Bottle, container: &str, request: &str) -> Result<(), Failure> {
    let engine = &bottle.session.engine;
    let Streams { mut output, input: _input } = engine.container_attach(container).await?;
    engine.container_start(container).await?;
    let mut said = String::new();
    let ready = async {
        while let Some(piece) = output.next().await {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece?;
            said.push_str(&String::from_utf8_lossy(&bytes));
            if said.ends_with(builder::READY) {
                return Ok(());
            }
        }
        Err(failed(request, format!("its container has ended: {}", plain(&said))))
    };
    tokio::time::timeout(START, ready).await.unwrap_or_else(|_| Err(failed(request, "its container does not start")))
}

/// Runs the steps; returns the variables that they set.
async fn run_all(
    bottle: &Bottle,
    base: &BuildBase,
    container: &str,
    request: &str,
    steps: &[BuildStep],
) -> Result<Vec<(String, String)>, Failure> {
    let began = audit::now();
    let mut own = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let step_name = format!("build {request}: step {} of {}", number + 1, steps.len());
        bottle.events.tell(Event::Progress(format!("{step_name}: {}", plain(&step.to_string()))));
        let command = match step {
            BuildStep::Env { name, value } => {
                own.push((name.clone(), value.clone()));
                continue;
            }
            BuildStep::Run(command) => command.clone(),
        };
        // What bottler sets counts, whatever the steps say.
        let all = own.iter().map(|(name, value)| (name, value)).chain(&base.env);
        let env = all.map(|(name, value)| format!("{name}={value}")).collect();
        let spec = ExecSpec {
            env,
            workdir: Some("/".to_owned()),
            ..ExecSpec::plain(vec!["/bin/sh".to_owned(), "-c".to_owned(), command])
        };
        let engine = &bottle.session.engine;
        let (exec, Streams { mut output, input }) = engine.exec(container, &spec).await?;
        drop(input);
        let (mut last, mut shown) = (LastLines::default(), Instant::now());
        while let Some(piece) = output.next().await {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece?;
            last.add(&bytes);
            if shown.elapsed() >= SHOWN {
                shown = Instant::now();
                bottle.events.tell(Event::Progress(format!("{step_name}: {}", last.latest())));
            }
        }
        let code = engine.exec_exit_code(&exec).await?;
        if code != 0 {
            let why = format!("step {} failed with exit code {code}: {}", number + 1, plain(&step.to_string()));
            let failure = refused_since(bottle, began).into_iter().fold(failed(request, &why), Failure::cause);
            return Err(last.lines().fold(failure, Failure::cause));
        }
        check(bottle, base, container, request).await?;
    }
    Ok(own)
}

/// Refuses a file system of which no image may be made. It is looked at after each step: an engine looks up the user of the next
/// command in the container, and waits where a step has left a pipe.
async fn check(bottle: &Bottle, base: &BuildBase, container: &str, request: &str) -> Result<(), Failure> {
    let checked = tokio::time::timeout(START, find_odd(bottle, base, container, request)).await;
    checked.unwrap_or_else(|_| {
        let why = format!("no command has started in its container for {} s", START.as_secs());
        Err(failed(request, why)
            .hint("a step may have left something else than files in the place of /etc/passwd or /etc/group"))
    })
}

async fn find_odd(bottle: &Bottle, base: &BuildBase, container: &str, request: &str) -> Result<(), Failure> {
    let workspace = bottle.plan.workspace.as_ref().map_or(layout::agent::WORKSPACE, |plan| plan.path.as_str());
    let command = [EXECUTABLE, build_check::ROLE, workspace, base.image.home.as_str()].map(str::to_owned);
    let spec = ExecSpec::plain(command.to_vec());
    let done = run_to_end(bottle.session.engine.as_ref(), container, &spec, b"", MAX_OUTPUT).await?;
    if done.exit_code == 0 {
        return Ok(());
    }
    let why = plain(String::from_utf8_lossy(&done.stderr).trim_end());
    Err(failed(request, "its steps leave what no image may have").cause(why))
}

/// What egress has refused since a build began, of the agent's or of the build's.
fn refused_since(bottle: &Bottle, began: u64) -> Vec<String> {
    let events = bottle.desk.denials().into_iter().filter(|event| event.time >= began);
    let line = |event: audit::Event| {
        let kind = event.kind;
        plain(&format!("refused meanwhile: {} {}: {}", kind.method, kind.destination, kind.code))
    };
    events.map(line).take(MAX_REFUSED).collect()
}

/// Makes an image of the container, under a reference that is written down first.
async fn commit(
    bottle: &Bottle,
    base: &BuildBase,
    container: &str,
    request: &str,
    offer: &ImageOffer,
    env: Vec<(String, String)>,
) -> Result<BuiltImage, Failure> {
    let directory = bottle.host.staging.as_deref().ok_or_else(|| failed(request, "the bottle has no directory"))?;
    let mut images = BottleImages::read(directory).map_err(|error| failed(request, &error))?;
    let id = &bottle.session.id;
    let reference = format!("bottler-kept/{id}:{}", images.references.len() + 1);
    images.note(&reference, directory).map_err(|error| failed(request, &error))?;
    // An image is found by its reference: its labels make no container of it one of a bottle's, nor the image a cached one.
    let emptied = [SESSION, SEQ, KIND, CACHE].map(|label| (label.to_owned(), String::new()));
    let labels = [(OWNER, &bottle.session.owner), (IMAGE_OF, id), (IMAGE_BASE, &offer.base)];
    let labels = labels.map(|(label, value)| (label.to_owned(), value.clone()));
    let commit = ImageCommit {
        container: container.to_owned(),
        config_of: offer.base.clone(),
        reference: reference.clone(),
        env: env.into_iter().collect(),
        labels: emptied.into_iter().chain(labels).collect(),
    };
    let engine = &bottle.session.engine;
    let made = engine.image_commit(&commit).await?;
    let checked = finish(bottle, base, request, &made, &mut images, directory).await;
    if checked.is_err() {
        // Its reference is written down: what cannot be removed now is removed with the bottle.
        let _ = engine.image_remove(&reference).await;
    }
    checked?;
    let steps = offer.steps.iter().map(ToString::to_string).collect();
    Ok(BuiltImage { reference, id: made, base: offer.base.clone(), steps })
}

/// Makes what the next launch has on top of an image, and refuses one that changes whom the agent runs as.
async fn finish(
    bottle: &Bottle,
    base: &BuildBase,
    request: &str,
    made: &str,
    images: &mut BottleImages,
    directory: &Path,
) -> Result<(), Failure> {
    let engine = &bottle.session.engine;
    let found = engine.image_find(made).await?.ok_or_else(|| failed(request, "the engine does not have it"))?;
    // As the next launch does. Whoever the agent runs as by name, and where its home is, is written in the image.
    let source = bottle.host.images.source();
    let next = source.layer(&bottle.session, &found, &bottle.plan.agent.user, bottle.plan.gvisor).await?;
    images.note(&next.tag, directory).map_err(|error| failed(request, &error))?;
    if Some(next.account) != base.image.account || next.home != base.image.home {
        let _ = engine.image_remove(&next.tag).await;
        return Err(failed(request, "its steps change the user that the agent runs as, or its home"));
    }
    Ok(())
}

/// The end of a step's output.
#[derive(Default)]
struct LastLines {
    lines: std::collections::VecDeque<String>,
    begun: Vec<u8>,
}

impl LastLines {
    fn add(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            match byte {
                b'\n' | b'\r' => self.end_line(),
                // The rest of a longer line is not shown.
                byte if self.begun.len() < MAX_LINE => self.begun.push(byte),
                _ => {}
            }
        }
    }

    fn end_line(&mut self) {
        let line = plain(&String::from_utf8_lossy(&std::mem::take(&mut self.begun)));
        if line.trim().is_empty() {
            return;
        }
        if self.lines.len() == LAST_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn latest(&self) -> &str {
        self.lines.back().map_or("", String::as_str)
    }

    fn lines(mut self) -> impl Iterator<Item = String> {
        self.end_line();
        self.lines.into_iter()
    }
}

/// A text of a step as one line that draws nothing.
fn plain(text: &str) -> String {
    text.chars().take(MAX_LINE).map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' }).collect()
}

fn failed(request: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Class::Operation, format!("build the image of {request}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_output_is_bounded_and_draws_nothing() {
        let mut last = LastLines::default();
        for n in 0..100 {
            last.add(format!("line {n} \u{1b}[2J\u{202e}{}\r\n\n", "x".repeat(1000)).as_bytes());
        }
        last.add(b"the end");
        let lines: Vec<String> = last.lines().collect();
        assert_eq!((lines.len(), lines[LAST_LINES - 1].as_str()), (LAST_LINES, "the end"));
        assert!(lines.iter().all(|line| line.len() <= MAX_LINE && line.is_ascii()), "{lines:?}");
        assert!(lines[0].starts_with("line 86 ?[2J"), "{lines:?}");
    }
}
