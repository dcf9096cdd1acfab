//! A network, and the addresses in its range.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::Ipv4Net;

use super::life::Lifecycle;
use crate::engine::Attachment;
use crate::session::{Class, Failure, Pending};

/// The addresses in every range that belong to egress and, on an internal network, to the agent. The gateway is
/// number 1.
const EGRESS: u32 = 2;
const AGENT: u32 = 3;

/// A network.
pub struct Network {
    /// Its name in the recipe.
    pub name: String,
    /// Whether it is internal, without a route out. Then sidecars serve the agent at their addresses on it.
    pub internal: bool,
    /// Its lifecycle.
    pub life: Arc<Lifecycle>,
    pub(in crate::primitive) created: Pending<(String, Ipv4Net)>,
    next: AtomicU32,
}

impl Network {
    /// Waits until the engine has it; returns its id and address range.
    ///
    /// # Errors
    /// It could not be created.
    pub async fn ready(&self) -> Result<(String, Ipv4Net), Failure> {
        self.created.get().await
    }

    /// A network that is being created.
    pub(in crate::primitive) fn new(
        name: String,
        internal: bool,
        life: Arc<Lifecycle>,
        created: Pending<(String, Ipv4Net)>,
    ) -> Self {
        Self { name, internal, life, created, next: AtomicU32::new(AGENT + 1) }
    }

    /// Takes the next address number in its range, in program order.
    pub(in crate::primitive) fn take_place(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of egress' address.
    pub(in crate::primitive) const fn egress_place() -> u32 {
        EGRESS
    }

    /// The number of the agent's address on an internal network.
    pub(in crate::primitive) const fn agent_place() -> u32 {
        AGENT
    }

    /// The address with a number.
    pub(in crate::primitive) async fn address(&self, place: u32) -> Result<Ipv4Addr, Failure> {
        let (_, range) = self.ready().await?;
        let address = Ipv4Addr::from(u32::from(range.network()) + place);
        if address < range.broadcast() {
            Ok(address)
        } else {
            Err(Failure::new(Class::Input, format!("network {}: its range {range} is full", self.name)))
        }
    }

    /// A container's attachment with an address number.
    pub(in crate::primitive) async fn attachment(&self, place: u32) -> Result<Attachment, Failure> {
        let (network, _) = self.ready().await?;
        Ok(Attachment { network, address: self.address(place).await? })
    }
}
