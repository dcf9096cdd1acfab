//! An image, and what is known of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::primitive::account::Account;
use crate::session::{Failure, Pending};

/// An image that the engine has, with this executable in it.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub struct ImageInfo {
    /// Its reference.
    pub tag: String,
    /// What it runs where nobody says otherwise.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub user: String,
    /// The directory that it starts in.
    pub workdir: String,
    /// Whom the plan's agent runs as in it.
    #[serde(skip)]
    pub(in crate::primitive) account: Option<Account>,
    /// Where that one lives.
    #[serde(skip)]
    pub(in crate::primitive) home: String,
    /// Its variables.
    #[serde(skip)]
    pub(in crate::primitive) env: BTreeMap<String, String>,
}

/// An image.
pub struct Image {
    pub(in crate::primitive) built: Pending<Arc<ImageInfo>>,
}

impl Image {
    /// Waits until the engine has it; returns its reference.
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
    pub async fn inspect(&self) -> Result<Arc<ImageInfo>, Failure> {
        self.built.get().await
    }
}
