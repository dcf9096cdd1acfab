//! The images of one bottle, and where they come from.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use crate::engine::ImageFound;
use crate::plan::BuildSection;
use crate::primitive::account::Account;
use crate::primitive::event::Events;
use crate::primitive::handle::ImageInfo;
use crate::session::{Failure, Pending, Session};
use crate::sync::lock;

/// An image with the running executable, a home and an account on top.
pub(in crate::primitive) struct Layered {
    /// Its reference.
    pub(in crate::primitive) tag: String,
    /// The account that the agent runs as.
    pub(in crate::primitive) account: Account,
    /// The home directory of that account.
    pub(in crate::primitive) home: String,
}

/// Makes images that the engine does not have.
#[async_trait]
pub(in crate::primitive) trait ImageSource: Send + Sync {
    /// The image that contains only the running executable, for an agent of this account if it has one; its reference.
    async fn own(&self, session: &Session, agent: Option<Account>, gvisor: bool) -> Result<String, Failure>;

    /// The image of the git gate, with git and ssh of this machine; its reference.
    async fn git(&self, session: &Session, gvisor: bool) -> Result<String, Failure>;

    /// The image of a sidecar that needs a user's own image below it; its reference.
    async fn sidecar(&self, session: &Session, found: &ImageFound, gvisor: bool) -> Result<String, Failure>;

    /// A user's image; its reference. The same context, Dockerfile and arguments are built once.
    async fn build(
        &self,
        session: &Session,
        events: &Events,
        build: &BuildSection,
        rebuild: bool,
    ) -> Result<String, Failure>;

    /// An image with the executable, and a home and an entry in `/etc/passwd` for a user, on top.
    async fn layer(&self, session: &Session, found: &ImageFound, user: &str, gvisor: bool) -> Result<Layered, Failure>;
}

/// Where the images of a launch come from.
#[derive(Clone)]
pub struct Images(Arc<dyn ImageSource>);

impl Images {
    pub(in crate::primitive) fn new(source: Arc<dyn ImageSource>) -> Self {
        Self(source)
    }

    pub(in crate::primitive) fn source(&self) -> &dyn ImageSource {
        self.0.as_ref()
    }
}

/// The images of a bottle, by their options.
#[derive(Default)]
pub(in crate::primitive) struct ImageCache(Mutex<BTreeMap<String, Pending<Arc<ImageInfo>>>>);

impl ImageCache {
    pub(in crate::primitive) fn len(&self) -> usize {
        lock(&self.0).len()
    }

    /// An image. The same options give the same effect, so that it is built once.
    pub(in crate::primitive) fn get_or_start(
        &self,
        key: String,
        start: impl FnOnce() -> Pending<Arc<ImageInfo>>,
    ) -> Pending<Arc<ImageInfo>> {
        lock(&self.0).entry(key).or_insert_with(start).clone()
    }
}
