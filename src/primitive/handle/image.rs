//! An image, and its properties.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::layout::agent::DEFAULT_HOME;
use crate::primitive::account::Account;
use crate::session::{Failure, Pending};

/// An image that the engine has, with this executable in it.
#[derive(Debug, Clone, serde::Serialize, schemars::JsonSchema)]
pub struct ImageInfo {
    /// Its reference.
    pub tag: String,
    /// Its default command.
    pub command: Vec<String>,
    /// The user that it runs as.
    pub user: String,
    /// Its working directory.
    pub workdir: String,
    /// The account of the plan's agent in it.
    #[serde(skip)]
    pub(in crate::primitive) account: Option<Account>,
    /// The home of that account.
    #[serde(skip)]
    pub(in crate::primitive) home: String,
    /// The id of the image without bottler's layer; empty for bottler's own.
    #[serde(skip)]
    pub(in crate::primitive) base: String,
    /// Its environment variables.
    #[serde(skip)]
    pub(in crate::primitive) env: BTreeMap<String, String>,
}

impl ImageInfo {
    /// One of bottler's own, which has no command of its own.
    pub(in crate::primitive) fn own(tag: String, account: Option<Account>) -> Self {
        Self {
            tag,
            command: Vec::new(),
            user: String::new(),
            workdir: String::new(),
            account,
            home: DEFAULT_HOME.to_owned(),
            base: String::new(),
            env: BTreeMap::new(),
        }
    }
}

/// An image.
pub struct Image {
    pub(in crate::primitive) built: Pending<Arc<ImageInfo>>,
}

impl Image {
    /// Waits until the engine has it; returns its reference.
    ///
    /// # Errors
    /// It could not be built, or does not exist.
    pub async fn ready(&self) -> Result<String, Failure> {
        Ok(self.built.get().await?.tag.clone())
    }

    /// Waits until the engine has it; returns its properties.
    ///
    /// # Errors
    /// It could not be built, or does not exist.
    pub async fn inspect(&self) -> Result<Arc<ImageInfo>, Failure> {
        self.built.get().await
    }
}
