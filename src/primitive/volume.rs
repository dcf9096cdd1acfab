//! `volume_create`: a folder that outlives its containers, but not its bottle.

use std::sync::Arc;

use serde::Deserialize;

use super::name::check_name;
use super::{Bottle, Life};
use crate::engine::VolumeSpec;
use crate::engine::labels::Kind;
use crate::session::{Failure, Pending, ScriptLocation};

/// What `volume_create` takes.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeOptions {
    /// Its name in the recipe.
    pub name: String,
}

/// A volume.
pub struct Volume {
    /// Its name in the recipe.
    pub name: String,
    /// Its life.
    pub life: Arc<Life>,
    created: Pending<String>,
}

impl Volume {
    /// Waits until the engine has it; its name there.
    ///
    /// # Errors
    /// It could not be created.
    pub async fn ready(&self) -> Result<String, Failure> {
        self.created.get().await
    }

    /// Removes it now; refused by the engine while a container has it.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        let (engine, created) = (bottle.session.engine.clone(), self.created.clone());
        self.life.close(bottle, at, async move {
            if let Ok(name) = created.get().await {
                engine.volume_remove(&name).await?;
            }
            Ok(())
        })
    }
}

/// Creates a volume.
///
/// # Errors
/// The name cannot be one.
pub fn volume_create(
    bottle: &Arc<Bottle>,
    options: &VolumeOptions,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Volume>, Failure> {
    check_name("volume_create", &options.name).map_err(|failure| failure.at(at))?;
    let name = bottle.name(&options.name);
    let (identity, life) = bottle.begin(Kind::Volume, &options.name, &name, at)?;
    let context = bottle.clone();
    let created = bottle.effect(format!("volume {}", options.name), at, async move {
        context.session.engine.volume_create(&VolumeSpec { name: name.clone(), owner: None, identity }).await?;
        Ok(name)
    });
    Ok(Arc::new(Volume { name: options.name.clone(), life, created }))
}
