//! `build_image`: the image made of the running executable, or one that the engine has with the executable on top.

use std::sync::Arc;

use serde::Deserialize;

use super::self_image::{Base, SelfImage};
use super::{Bottle, Event, lock};
use crate::session::{Class, Failure, Pending, Place};

/// What `build_image` takes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageOptions {
    /// `self`, or the reference of an image that the engine has.
    pub source: String,
}

/// An image.
pub struct Image {
    pub(super) tag: Pending<String>,
}

impl Image {
    /// Waits until the engine has it; its reference.
    ///
    /// # Errors
    /// It could not be built, or is not there.
    pub async fn ready(&self) -> Result<String, Failure> {
        self.tag.get().await
    }
}

/// Sees to it that the engine has an image. Built once per bottle; cached on the engine by content.
///
/// # Errors
/// The source is empty.
pub fn build_image(bottle: &Arc<Bottle>, options: &ImageOptions, at: Option<&Place>) -> Result<Image, Failure> {
    if options.source == "self" {
        return Ok(Image { tag: self_image(bottle, at) });
    }
    if options.source.trim().is_empty() {
        return Err(Failure::new(Class::Input, "build_image: source is empty").at(at));
    }
    let (source, context) = (options.source.clone(), bottle.clone());
    let tag = bottle.effect(format!("image {source}"), at, async move {
        let Some(found) = context.session.engine.image_find(&source).await? else {
            return Err(Failure::new(Class::Operation, format!("look up image {source}: the engine does not have it"))
                .hint(format!("docker pull {source}")));
        };
        if !found.triggers.is_empty() {
            return Err(Failure::new(
                Class::Input,
                format!("image {source} has ONBUILD commands: {:?}", found.triggers),
            )
            .hint("they would run unseen when the image is prepared; use an image without them"));
        }
        cached(&context, Base::Image(found.id)).await
    });
    Ok(Image { tag })
}

/// The image of the built-in sidecars and of the agent `probe`: one effect however often it is asked for.
pub(super) fn self_image(bottle: &Arc<Bottle>, at: Option<&Place>) -> Pending<String> {
    let mut known = lock(&bottle.self_image);
    if let Some(tag) = &*known {
        return tag.clone();
    }
    let context = bottle.clone();
    let tag = bottle.effect("image bottler".into(), at, async move { cached(&context, Base::Scratch).await });
    *known = Some(tag.clone());
    tag
}

/// The image with this executable on top of a base; built where the engine does not have it yet.
async fn cached(bottle: &Bottle, base: Base) -> Result<String, Failure> {
    let internal = |error: anyhow::Error| {
        Failure::new(Class::Internal, format!("make an image of the running executable: {error:#}"))
    };
    let engine = &bottle.session.engine;
    let info = engine.info().await?;
    let image = tokio::task::spawn_blocking(move || SelfImage::read(&info, base));
    let image = image.await.map_err(|error| internal(error.into()))?.map_err(internal)?;
    if engine.image_find(&image.tag).await?.is_none() {
        let build = image.build().map_err(internal)?;
        engine.image_build(&build, &|line| bottle.events.tell(Event::Log(line.to_owned()))).await?;
    }
    Ok(image.tag)
}
