//! `bottler resume`: launches a kept bottle again, with a new plan and new keys, and its old workspace and home.

use std::ffi::OsString;

use clap::{Parser, Subcommand};

use super::home::KeptHome;
use super::image::KeptImage;
use super::run;
use crate::cli::bottle::find::FoundBottle;
use crate::cli::failure::input;
use crate::engine::labels::Kind;
use crate::primitive::HomeOrigin;
use crate::session::{BottleImages, Class, Failure, KeptWorkspace};

/// What `resume` takes.
#[derive(clap::Args)]
pub(in crate::cli) struct Args {
    /// The bottle's id
    bottle: String,
    /// Another prompt, instead of the one it was launched with
    #[arg(long)]
    prompt: Option<String>,
    /// Start with the image's home, and remove the one that the agent has left
    #[arg(long)]
    fresh_home: bool,
    /// Use the image of the plan, and remove the one that was built for this bottle
    #[arg(long)]
    fresh_image: bool,
    /// Launch the bottle and return at once
    #[arg(short, long)]
    detach: bool,
    /// Launch without asking
    #[arg(short, long)]
    yes: bool,
}

/// The command that a bottle was launched with.
#[derive(Parser)]
struct RecordedCommand {
    #[command(subcommand)]
    command: Launch,
}

#[derive(Subcommand)]
enum Launch {
    Run(Box<run::Args>),
}

/// Launches a kept bottle again in the background, without asking.
pub(in crate::cli) async fn in_background(bottle: &str) -> Result<u8, Failure> {
    let (bottle, prompt) = (bottle.to_owned(), None);
    let args = Args { bottle, prompt, fresh_home: false, fresh_image: false, detach: true, yes: true };
    Box::pin(main(&args)).await
}

pub(in crate::cli) async fn main(args: &Args) -> Result<u8, Failure> {
    let known = FoundBottle::find(&args.bottle)?;
    let id = &known.id;
    if known.state.is_alive(id) {
        return Err(input(format!("{id} is running")).hint(format!("bottler attach {id}")));
    }
    let Some(kept) = KeptWorkspace::of_dead(&known.state, id) else {
        return Err(input(format!("nothing of {id} is kept")).hint("`bottler ps --all` lists kept bottles"));
    };
    known.engine.info().await?;
    // An engine makes a volume that is not there, and an agent would find an empty workspace.
    let objects = known.objects().await?;
    let has = |name: &str| objects.iter().any(|object| object.identity.kind == Kind::Volume && object.name == name);
    if !has(&kept.volume) {
        return Err(input(format!("the workspace of {id} is gone from the engine")).hint(format!("bottler rm {id}")));
    }
    let home = match &kept.home {
        _ if args.fresh_home => KeptHome::Fresh,
        Some(name) if has(name) => KeptHome::Left(HomeOrigin::read(&known.state.bottle(id))),
        Some(_) | None => KeptHome::Gone,
    };
    let left = matches!(home, KeptHome::Left(_)).then_some(kept.home.as_ref()).flatten();
    for name in std::iter::once(&kept.volume).chain(left) {
        known.engine.volume_check(name).await?;
    }
    let image = match BottleImages::read(&known.state.bottle(id)) {
        _ if args.fresh_image => KeptImage::Fresh,
        Ok(images) => images.current.map_or(KeptImage::Plan, KeptImage::Built),
        Err(error) => {
            return Err(Failure::new(Class::Internal, format!("resume {id}: {error}"))
                .hint(format!("`bottler resume {id} --fresh-image` uses the image of the plan")));
        }
    };
    let broken = || Failure::new(Class::Internal, format!("the record of {id} does not say how it was launched"));
    let invocation = known.record.invocation.clone().ok_or_else(broken)?;
    std::env::set_current_dir(&invocation.directory)
        .map_err(|error| input(format!("resume {id} in {}: {error}", invocation.directory.display())))?;
    let words = invocation.words.iter().cloned().map(OsString::from);
    let words = std::iter::once(OsString::from("bottler")).chain(words);
    let Ok(RecordedCommand { command: Launch::Run(mut run) }) = RecordedCommand::try_parse_from(words) else {
        return Err(broken());
    };
    run.override_for_resume(args.prompt.clone(), args.detach, args.yes);
    let before = known.plan().ok().and_then(|plan| serde_json::to_value(plan).ok());
    let resumed = Some(run::ResumedBottle { id: id.clone(), before, home, image });
    Box::pin(run::launch(*run, invocation.words, resumed)).await
}
