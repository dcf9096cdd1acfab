//! The control channels to a bottle's built-in sidecars, by their names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::primitive::channel::control::ControlChannel;
use crate::sync::lock;

/// The control channels.
#[derive(Default)]
pub(in crate::primitive) struct Channels(Mutex<BTreeMap<String, Arc<ControlChannel>>>);

impl Channels {
    pub(in crate::primitive) fn insert(&self, sidecar: &str, channel: Arc<ControlChannel>) {
        lock(&self.0).insert(sidecar.to_owned(), channel);
    }

    pub(in crate::primitive) fn get(&self, sidecar: &str) -> Option<Arc<ControlChannel>> {
        lock(&self.0).get(sidecar).cloned()
    }

    pub(in crate::primitive) fn all(&self) -> BTreeMap<String, Arc<ControlChannel>> {
        lock(&self.0).clone()
    }
}
