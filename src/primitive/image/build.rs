//! `build_image`: the image of the running executable; or an image that the engine has, pulls or builds, with the
//! executable on top.

use std::sync::Arc;

use crate::engine::ImageFound;
pub use crate::plan::ImagePlan as ImageOptions;
use crate::primitive::account::Account;
use crate::primitive::bottle::{Bottle, Layered};
use crate::primitive::event::Event;
use crate::primitive::handle::{Image, ImageInfo};
use crate::session::{Class, Failure, Pending, ScriptLocation};

/// The source that stands for the running executable.
const SELF: &str = "self";

/// The source that stands for it with git and ssh.
const GIT: &str = "self:git";

/// How many images a bottle may ask for.
const MAX_IMAGES: usize = 500;

/// Ensures that the engine has an image. It is built once per bottle, and cached on the engine by content.
///
/// # Errors
/// Neither or both of a source and a build are given, or a project's hooks try to build.
pub fn build_image(
    bottle: &Arc<Bottle>,
    options: &ImageOptions,
    at: Option<&ScriptLocation>,
) -> Result<Image, Failure> {
    let bad = |why: &str| Failure::new(Class::Input, format!("build_image: {why}")).at(at);
    match (&options.build, options.source.trim()) {
        (None, "") => return Err(bad("source is empty")),
        (Some(_), source) if !source.is_empty() => return Err(bad("takes a source or a build, not both")),
        (Some(build), _) if bottle.host.bounded && bottle.plan.image.build.as_ref() != Some(build) => {
            let hint =
                "a build reads folders of the host, and may reach the network: it belongs in a bottle of your own";
            return Err(bad("a project's hooks build nothing that the plan does not").hint(hint));
        }
        _ => {}
    }
    if bottle.images.len() >= MAX_IMAGES {
        return Err(bad(&format!("there are {MAX_IMAGES} images already")));
    }
    Ok(Image { built: built(bottle, options, at) })
}

/// The image of the git gate: the running executable with git and ssh.
pub(in crate::primitive) fn git_image(bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<Arc<ImageInfo>> {
    built(bottle, &ImageOptions::of(GIT), at)
}

/// The image of an egress that has Pipelock behind it: the running executable on top of Pipelock's own image.
pub(in crate::primitive) fn pipelock_image(
    bottle: &Arc<Bottle>,
    source: &str,
    at: Option<&ScriptLocation>,
) -> Pending<Arc<ImageInfo>> {
    let key = format!("pipelock {source}");
    let (context, source) = (bottle.clone(), source.to_owned());
    let build = async move {
        let found = find(&context, &source, false).await?;
        let images = context.host.images.source();
        let tag = images.sidecar(&context.session, &found, context.plan.gvisor).await?;
        Ok(Arc::new(ImageInfo { command: found.command, ..ImageInfo::own(tag, None) }))
    };
    bottle.images.get_or_start(key, || bottle.effect("image of Pipelock".to_owned(), at, build))
}

/// The image of built-in sidecars and of the agent `probe`.
pub(in crate::primitive) fn self_image(bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<Arc<ImageInfo>> {
    built(bottle, &ImageOptions::of(SELF), at)
}

/// Starts building an image; equal options share one effect.
fn built(bottle: &Arc<Bottle>, options: &ImageOptions, at: Option<&ScriptLocation>) -> Pending<Arc<ImageInfo>> {
    let key = serde_json::to_string(options).unwrap_or_default();
    let (context, wanted) = (bottle.clone(), options.clone());
    let name = match (wanted.source.as_str(), &wanted.build) {
        (SELF, _) => "image bottler".to_owned(),
        (GIT, _) => "image of the git gate".to_owned(),
        (source, None) => format!("image {source}"),
        (_, Some(_)) => "build image".to_owned(),
    };
    let build = async move {
        if [SELF, GIT].contains(&wanted.source.as_str()) {
            let account = Account::numbers(&context.plan.agent.user);
            let images = context.host.images.source();
            let tag = if wanted.source == SELF {
                images.own(&context.session, account, context.plan.gvisor).await?
            } else {
                let own = context.plan.git.as_ref().and_then(|git| git.image.as_deref());
                let found = match own {
                    Some(source) => Some(find(&context, source, false).await?),
                    None => None,
                };
                match &found {
                    Some(found) => images.sidecar(&context.session, found, context.plan.gvisor).await?,
                    None => images.git(&context.session, context.plan.gvisor).await?,
                }
            };
            return Ok(Arc::new(ImageInfo::own(tag, account)));
        }
        let source = match &wanted.build {
            Some(build) => {
                let images = context.host.images.source();
                images.build(&context.session, &context.events, build, wanted.rebuild).await?
            }
            None => wanted.source.clone(),
        };
        let found = find(&context, &source, wanted.pull && wanted.build.is_none()).await?;
        on_top(&context, found).await
    };
    bottle.images.get_or_start(key, || bottle.effect(name, at, build))
}

/// Finds an image on the engine that the executable is put on; pulls it if it does not exist, or if `pull` is set.
async fn find(bottle: &Bottle, source: &str, pull: bool) -> Result<ImageFound, Failure> {
    let found = fetch(bottle, source, pull).await?;
    if found.triggers.is_empty() {
        return Ok(found);
    }
    let message = format!("image {source} has ONBUILD commands: {:?}", found.triggers);
    Err(Failure::new(Class::Input, message)
        .hint("they would run unseen when the image is prepared; use an image without them"))
}

async fn fetch(bottle: &Bottle, source: &str, pull: bool) -> Result<ImageFound, Failure> {
    let engine = &bottle.session.engine;
    if !pull && let Some(found) = engine.image_find(source).await? {
        return Ok(found);
    }
    let told = |line: &str| bottle.events.tell(Event::Progress(format!("pull {source}: {line}")));
    if let Err(error) = engine.image_pull(source, &told).await {
        let message = format!("pull image {source}, which the engine does not have: {}", error.message);
        return Err(
            Failure::new(Class::Operation, message).hint("check the name, and that its registry can be reached")
        );
    }
    let found = engine.image_find(source).await?;
    found.ok_or_else(|| {
        Failure::new(Class::Operation, format!("pull image {source}: the engine does not have it afterwards"))
    })
}

/// Adds the executable to a user's image.
async fn on_top(bottle: &Bottle, found: ImageFound) -> Result<Arc<ImageInfo>, Failure> {
    let user = bottle.plan.agent.user.clone();
    let images = bottle.host.images.source();
    let Layered { tag, account, home } = images.layer(&bottle.session, &found, &user, bottle.plan.gvisor).await?;
    let ImageFound { id: base, command, user, workdir, env, .. } = found;
    Ok(Arc::new(ImageInfo { tag, command, user, workdir, account: Some(account), home, base, env }))
}
