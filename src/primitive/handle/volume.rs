//! A volume.

use std::sync::Arc;

use super::life::Lifecycle;
use crate::session::{Failure, Pending};

/// A volume.
pub struct Volume {
    /// Its name in the recipe.
    pub name: String,
    /// Its lifecycle.
    pub life: Arc<Lifecycle>,
    pub(in crate::primitive) created: Pending<String>,
}

impl Volume {
    /// Waits until the engine has it; returns its name there.
    ///
    /// # Errors
    /// It could not be created.
    pub async fn ready(&self) -> Result<String, Failure> {
        self.created.get().await
    }
}
