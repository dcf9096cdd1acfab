//! The objects of a bottle, in the order in which its script created them.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use crate::primitive::handle::{Child, Network, Sidecar};
use crate::sync::lock;

/// The objects of a bottle.
#[derive(Default)]
pub(in crate::primitive) struct Inventory {
    sidecars: Mutex<Vec<Arc<Sidecar>>>,
    networks: Mutex<Vec<Arc<Network>>>,
    children: Mutex<Vec<Arc<Child>>>,
    /// All announced objects, also those that were removed.
    announced: Mutex<Vec<String>>,
    /// Containers that a script has stopped.
    stopped: Mutex<BTreeSet<String>>,
}

impl Inventory {
    pub(in crate::primitive) fn add_sidecar(&self, sidecar: Sidecar) -> Arc<Sidecar> {
        let sidecar = Arc::new(sidecar);
        lock(&self.sidecars).push(sidecar.clone());
        sidecar
    }

    /// All sidecars, also closed ones.
    pub(in crate::primitive) fn sidecars(&self) -> Vec<Arc<Sidecar>> {
        lock(&self.sidecars).clone()
    }

    /// The sidecars that are not closed.
    pub(in crate::primitive) fn open_sidecars(&self) -> Vec<Arc<Sidecar>> {
        lock(&self.sidecars).iter().filter(|sidecar| !sidecar.life.is_closed()).cloned().collect()
    }

    /// How many ordinary images have been started.
    pub(in crate::primitive) fn services(&self) -> usize {
        lock(&self.sidecars).iter().filter(|sidecar| sidecar.role.is_none()).count()
    }

    /// How many built-in sidecars that serve the agent have been started, without its proxies.
    pub(in crate::primitive) fn served(&self) -> usize {
        let serves = |sidecar: &&Arc<Sidecar>| sidecar.role.is_some_and(|role| role.port.is_some());
        lock(&self.sidecars).iter().filter(serves).count()
    }

    pub(in crate::primitive) fn add_network(&self, network: Network) -> Arc<Network> {
        let network = Arc::new(network);
        lock(&self.networks).push(network.clone());
        network
    }

    pub(in crate::primitive) fn networks(&self) -> Vec<Arc<Network>> {
        lock(&self.networks).clone()
    }

    /// The network that the agent is on, in a bottle that is not sealed.
    pub(in crate::primitive) fn inside(&self) -> Option<Arc<Network>> {
        lock(&self.networks).iter().find(|network| network.internal && !network.life.is_closed()).cloned()
    }

    pub(in crate::primitive) fn add_child(&self, child: Child) -> Arc<Child> {
        let child = Arc::new(child);
        lock(&self.children).push(child.clone());
        child
    }

    pub(in crate::primitive) fn children(&self) -> Vec<Arc<Child>> {
        lock(&self.children).clone()
    }

    pub(in crate::primitive) fn take_children(&self) -> Vec<Arc<Child>> {
        std::mem::take(&mut *lock(&self.children))
    }

    /// Notes that an object is about to be created; false if the bottle has too many.
    pub(in crate::primitive) fn announce(&self, title: String, most: usize) -> bool {
        let mut announced = lock(&self.announced);
        let room = announced.len() < most;
        if room {
            announced.push(title);
        }
        room
    }

    pub(in crate::primitive) fn announced(&self) -> Vec<String> {
        lock(&self.announced).clone()
    }

    /// Notes that a script stops a container itself.
    pub(in crate::primitive) fn note_stopped(&self, container: &str) {
        lock(&self.stopped).insert(container.to_owned());
    }

    pub(in crate::primitive) fn is_stopped(&self, container: &str) -> bool {
        lock(&self.stopped).contains(container)
    }
}
