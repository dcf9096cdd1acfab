//! `volume_create`: a folder that outlives its containers, but not its bottle.

use std::sync::Arc;

use serde::Deserialize;

use super::bottle::Bottle;
use super::handle::Volume;
use super::name::check_name;
use crate::engine::VolumeSpec;
use crate::engine::labels::Kind;
use crate::session::{Class, Failure, Pending, ScriptLocation};

/// Names of volumes of every bottle whose work may be kept, and what they hold.
const TAKEN: [(&str, &str); 2] = [("workspace", "workspace"), ("home", "home")];

/// The options of `volume_create`.
#[derive(Debug, Clone, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeOptions {
    /// Its name in the recipe.
    pub name: String,
}

impl Volume {
    /// Removes it now. The engine refuses that while a container uses it.
    pub fn close(&self, bottle: &Arc<Bottle>, at: Option<&ScriptLocation>) -> Pending<()> {
        let (engine, created) = (bottle.session.engine.clone(), self.created.clone());
        bottle.undo(&self.life, at, async move {
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
/// The name is invalid.
pub fn volume_create(
    bottle: &Arc<Bottle>,
    options: &VolumeOptions,
    at: Option<&ScriptLocation>,
) -> Result<Arc<Volume>, Failure> {
    check_name("volume_create", &options.name).map_err(|failure| failure.at(at))?;
    if let Some((name, what)) = TAKEN.iter().find(|(name, _)| *name == options.name) {
        let why = format!("volume_create {name:?}: this is the name of the volume with the agent's {what}");
        return Err(Failure::new(Class::Input, why).hint("choose another name, such as \"cache\"").at(at));
    }
    let name = bottle.name(&options.name);
    let (identity, life) = bottle.begin(Kind::Volume, &options.name, &name, at)?;
    let context = bottle.clone();
    let created = bottle.effect(format!("volume {}", options.name), at, async move {
        let spec = VolumeSpec { name: name.clone(), owner: None, may_be_kept: false, identity };
        context.session.engine.volume_create(&spec).await?;
        Ok(name)
    });
    Ok(Arc::new(Volume { name: options.name.clone(), life, created }))
}
