//! Volumes that egress shares with one sidecar each. Only these two mount the volume, so a connection through one of
//! its sockets comes from that sidecar.
//!
//! A container's volumes are fixed when it is created. So an egress is created when the script that started it first
//! waits, and shares a volume with every sidecar that was started until then.

use std::path::PathBuf;

use tokio::sync::watch;

use crate::engine::VolumeMount;
use crate::layout::pair;
use crate::session::{Failure, Pending};
use crate::sidecar::egress;

/// A shared volume.
#[derive(Clone)]
pub(in crate::primitive) struct Pair {
    /// The other sidecar's name.
    pub(in crate::primitive) name: String,
    /// Its number among the volumes of its egress, from 1.
    pub(in crate::primitive) number: u8,
    /// The volume.
    pub(in crate::primitive) volume: String,
    pub(in crate::primitive) created: Pending<()>,
}

impl Pair {
    /// The mount for egress, once the volume exists.
    pub(in crate::primitive) async fn for_egress(&self) -> Result<VolumeMount, Failure> {
        self.mount(self.number).await
    }

    /// The mount for the other sidecar.
    pub(in crate::primitive) async fn for_sidecar(&self) -> Result<VolumeMount, Failure> {
        self.mount(pair::OTHERS).await
    }

    async fn mount(&self, number: u8) -> Result<VolumeMount, Failure> {
        self.created.get().await?;
        Ok(VolumeMount { volume: self.volume.clone(), target: pair::folder(number), read_only: false })
    }

    /// The pair in egress' configuration.
    pub(in crate::primitive) fn of_egress(&self) -> egress::Pair {
        egress::Pair { name: self.name.clone(), folder: pair::folder(self.number).into() }
    }

    /// The registration that egress receives when the other sidecar is ready.
    pub(in crate::primitive) fn registration(&self, port: u16) -> egress::Registration {
        let socket = PathBuf::from(pair::folder(self.number)).join(pair::SIDECAR);
        egress::Registration { name: self.name.clone(), port, socket }
    }
}

/// The shared volumes of one egress.
pub(in crate::primitive) struct Pairs {
    /// The sequence number of all of them. It precedes the egress' own, so that they are removed after it.
    pub(in crate::primitive) place: u64,
    state: watch::Sender<State>,
}

struct State {
    open: bool,
    pairs: Vec<Pair>,
}

/// Why an egress shares no further volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::primitive) enum Refusal {
    /// Its container is already being created.
    Late,
    /// It has the maximum number of volumes.
    Full,
}

impl Pairs {
    /// Starts without volumes; `open` tells whether some can be added.
    pub(in crate::primitive) fn new(place: u64, open: bool) -> Self {
        Self { place, state: watch::Sender::new(State { open, pairs: Vec::new() }) }
    }

    /// The volume shared with a sidecar. If there is none for that name, `make` creates it with the given number.
    pub(in crate::primitive) fn get_or_add<E: From<Refusal>>(
        &self,
        name: &str,
        make: impl FnOnce(u8) -> Result<Pair, E>,
    ) -> Result<Pair, E> {
        let mut found = Err(Refusal::Late.into());
        self.state.send_modify(|state| {
            let number = u8::try_from(state.pairs.len() + 1).unwrap_or(u8::MAX);
            found = match state.pairs.iter().find(|pair| pair.name == name) {
                Some(pair) => Ok(pair.clone()),
                None if !state.open => Err(Refusal::Late.into()),
                None if number > pair::MAX => Err(Refusal::Full.into()),
                None => make(number).inspect(|pair| state.pairs.push(pair.clone())),
            };
        });
        found
    }

    /// Adds no further volumes from now on.
    pub(in crate::primitive) fn close(&self) {
        self.state.send_modify(|state| state.open = false);
    }

    /// All volumes, once no more are added.
    pub(in crate::primitive) async fn complete(&self) -> Vec<Pair> {
        // `self` owns the sender, so this cannot fail.
        let mut state = self.state.subscribe();
        let complete = state.wait_for(|state| !state.open).await;
        complete.map(|state| state.pairs.clone()).unwrap_or_default()
    }

    /// The current volumes.
    pub(in crate::primitive) fn so_far(&self) -> Vec<Pair> {
        self.state.borrow().pairs.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(pairs: &Pairs, name: &str) -> Result<u8, Refusal> {
        let made = pairs.get_or_add(name, |number| {
            let created = Pending::detached(Box::pin(std::future::ready(Ok(()))));
            Ok(Pair { name: name.to_owned(), number, volume: String::new(), created })
        });
        made.map(|pair| pair.number)
    }

    #[tokio::test]
    async fn a_sidecar_has_one_volume_and_none_is_added_once_egress_is_created() {
        let pairs = Pairs::new(1, true);
        assert_eq!([add(&pairs, "a"), add(&pairs, "b"), add(&pairs, "a")], [Ok(1), Ok(2), Ok(1)]);
        pairs.close();
        assert_eq!(add(&pairs, "c"), Err(Refusal::Late));
        assert_eq!(add(&pairs, "b"), Ok(2), "one that was closed and is started again");
        assert_eq!(pairs.complete().await.len(), 2);
        let full = Pairs::new(1, true);
        for number in 1..=pair::MAX {
            assert_eq!(add(&full, &number.to_string()), Ok(number));
        }
        assert_eq!(add(&full, "more"), Err(Refusal::Full));
    }
}
