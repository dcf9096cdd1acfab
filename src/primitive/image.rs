//! `build_image`: the image made of the running executable, or one that the engine has with the executable on top.

use std::sync::Arc;

use serde::Deserialize;

use super::self_image::{Base, SelfImage};
use super::{Bottle, Event, lock};
use crate::session::{Class, Failure, Pending, Place};

/// The source that means the running executable.
const SELF: &str = "self";

/// What `build_image` takes.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageOptions {
    /// `self`, or the reference of an image that the engine has.
    pub source: String,
}

/// An image that the engine has, with this executable in it.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub struct Built {
    /// Its reference.
    pub tag: String,
    /// What it runs where nobody says otherwise.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub user: String,
    /// The directory that it starts in.
    pub workdir: String,
}

/// An image.
pub struct Image {
    pub(super) built: Pending<Arc<Built>>,
}

impl Image {
    /// Waits until the engine has it; its reference.
    ///
    /// # Errors
    /// It could not be built, or is not there.
    pub async fn ready(&self) -> Result<String, Failure> {
        Ok(self.built.get().await?.tag.clone())
    }

    /// Waits until the engine has it; what is known of it.
    ///
    /// # Errors
    /// It could not be built, or is not there.
    pub async fn inspect(&self) -> Result<Arc<Built>, Failure> {
        self.built.get().await
    }
}

/// Sees to it that the engine has an image. Built once per bottle; cached on the engine by content.
///
/// # Errors
/// The source is empty.
pub fn build_image(bottle: &Arc<Bottle>, options: &ImageOptions, at: Option<&Place>) -> Result<Image, Failure> {
    if options.source.trim().is_empty() {
        return Err(Failure::new(Class::Input, "build_image: source is empty").at(at));
    }
    Ok(Image { built: built(bottle, &options.source, at) })
}

/// The image of the built-in sidecars and of the agent `probe`.
pub(super) fn self_image(bottle: &Arc<Bottle>, at: Option<&Place>) -> Pending<Arc<Built>> {
    built(bottle, SELF, at)
}

/// An image by its source: one effect however often it is asked for.
fn built(bottle: &Arc<Bottle>, source: &str, at: Option<&Place>) -> Pending<Arc<Built>> {
    let mut known = lock(&bottle.images);
    if let Some(built) = known.get(source) {
        return built.clone();
    }
    let (context, wanted) = (bottle.clone(), source.to_owned());
    let name = if source == SELF { "bottler" } else { source };
    let built = bottle.effect(format!("image {name}"), at, async move {
        if wanted == SELF {
            let tag = cached(&context, Base::Scratch).await?;
            return Ok(Arc::new(Built { tag, command: Vec::new(), user: String::new(), workdir: String::new() }));
        }
        on_top(&context, &wanted).await
    });
    known.insert(source.to_owned(), built.clone());
    built
}

/// A user's image, with this executable on top.
async fn on_top(bottle: &Bottle, source: &str) -> Result<Arc<Built>, Failure> {
    let Some(found) = bottle.session.engine.image_find(source).await? else {
        return Err(Failure::new(Class::Operation, format!("look up image {source}: the engine does not have it"))
            .hint(format!("docker pull {source}")));
    };
    if !found.triggers.is_empty() {
        let message = format!("image {source} has ONBUILD commands: {:?}", found.triggers);
        return Err(Failure::new(Class::Input, message)
            .hint("they would run unseen when the image is prepared; use an image without them"));
    }
    let tag = cached(bottle, Base::Image(found.id)).await?;
    Ok(Arc::new(Built { tag, command: found.command, user: found.user, workdir: found.workdir }))
}

/// The image with this executable on top of a base; built where the engine does not have it yet.
async fn cached(bottle: &Bottle, base: Base) -> Result<String, Failure> {
    let internal = |error: anyhow::Error| {
        Failure::new(Class::Internal, format!("make an image of the running executable: {error:#}"))
    };
    let engine = &bottle.session.engine;
    if bottle.setting.rehearsal {
        return Ok("bottler:rehearsal".to_owned());
    }
    let info = engine.info().await?;
    let image = tokio::task::spawn_blocking(move || SelfImage::read(&info, base));
    let image = image.await.map_err(|error| internal(error.into()))?.map_err(internal)?;
    if engine.image_find(&image.tag).await?.is_some() {
        return Ok(image.tag);
    }
    let _building = bottle.setting.building.lock().await;
    // Another bottle may have built it meanwhile.
    if engine.image_find(&image.tag).await?.is_none() {
        let build = image.build().map_err(internal)?;
        engine.image_build(&build, &|line| bottle.events.tell(Event::Log(line.to_owned()))).await?;
    }
    Ok(image.tag)
}
