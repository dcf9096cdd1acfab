//! What a build begins with: the agent's image and its way out, as its container was created with them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::sync::Arc;

use crate::engine::VolumeMount;
use crate::layout::agent::Far;
use crate::primitive::handle::{ImageInfo, Sidecar};

/// What a build begins with.
pub(in crate::primitive) struct BuildBase {
    /// The agent's image.
    pub(in crate::primitive) image: Arc<ImageInfo>,
    /// The proxy, and nothing else that serves the agent: others use credentials.
    pub(in crate::primitive) egress: Arc<Sidecar>,
    pub(in crate::primitive) relays: BTreeMap<SocketAddrV4, Far>,
    pub(in crate::primitive) mounts: Vec<VolumeMount>,
    pub(in crate::primitive) hosts: Vec<(String, String)>,
    /// The variables by which programs find the proxy and the CA.
    pub(in crate::primitive) env: BTreeMap<String, String>,
}

impl BuildBase {
    /// The place of what it uses: it is removed before.
    pub(in crate::primitive) fn uses(&self) -> BTreeSet<u64> {
        [self.egress.life.seq].into()
    }
}
