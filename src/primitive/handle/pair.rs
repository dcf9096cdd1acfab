//! A volume that egress shares with one sidecar, mounted by these two and nobody else: who comes in by a socket of it is that
//! sidecar.

use std::path::PathBuf;

use crate::engine::VolumeMount;
use crate::layout::pair;
use crate::session::{Failure, Pending};
use crate::sidecar::egress;

/// Such a volume.
#[derive(Clone)]
pub(in crate::primitive) struct Pair {
    /// The other sidecar's name.
    pub(in crate::primitive) name: String,
    /// Its number among those of its egress, from 1.
    pub(in crate::primitive) number: u8,
    /// The volume.
    pub(in crate::primitive) volume: String,
    pub(in crate::primitive) created: Pending<()>,
}

impl Pair {
    /// The mount for egress, once the volume is there.
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

    /// As egress' configuration has it.
    pub(in crate::primitive) fn of_egress(&self) -> egress::Pair {
        egress::Pair { name: self.name.clone(), folder: pair::folder(self.number).into() }
    }

    /// What egress is told when the other sidecar is up.
    pub(in crate::primitive) fn registration(&self, port: u16) -> egress::Registration {
        let socket = PathBuf::from(pair::folder(self.number)).join(pair::SIDECAR);
        egress::Registration { name: self.name.clone(), port, socket }
    }
}
