//! Names to addresses, by the machine's resolver.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::proto::rr::Name;
use tokio::time::timeout;

use crate::net::Host;

/// The time limit for resolving a name.
const PATIENCE: Duration = Duration::from_secs(5);
/// Maximum number of addresses of a name that are used.
const MAX_ADDRESSES: usize = 16;

/// A resolver.
#[derive(Clone)]
pub struct Resolver(Arc<TokioResolver>);

impl Resolver {
    /// The servers of `/etc/resolv.conf`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn of_this_machine() -> anyhow::Result<Self> {
        Ok(Self(Arc::new(TokioResolver::builder_tokio()?.build()?)))
    }

    /// One that asks nobody, for tests.
    #[cfg(test)]
    pub fn none() -> Self {
        let provider = hickory_resolver::net::runtime::TokioRuntimeProvider::default();
        let builder = TokioResolver::builder_with_config(hickory_resolver::config::ResolverConfig::default(), provider);
        Self(Arc::new(builder.build().expect("it asks nobody")))
    }

    /// The addresses of a host, at least one; an address is its own.
    ///
    /// # Errors
    /// The reason why there is none.
    pub async fn resolve(&self, host: &Host) -> Result<Vec<IpAddr>, String> {
        let name = match host {
            Host::V4(address) => return Ok(vec![IpAddr::V4(*address)]),
            Host::V6(address) => return Ok(vec![IpAddr::V6(*address)]),
            // The final dot disables search domains. Parsed as ASCII: IDNA does not allow underscores.
            Host::Name(name) => Name::from_ascii(format!("{name}.")).map_err(|error| error.to_string())?,
        };
        let answer = timeout(PATIENCE, self.0.lookup_ip(name)).await.map_err(|_| "no answer in time".to_owned())?;
        let addresses = answer.map_err(|_| "no such name, or no resolver".to_owned())?;
        let addresses: Vec<IpAddr> = addresses.iter().take(MAX_ADDRESSES).collect();
        if addresses.is_empty() { Err("no addresses".to_owned()) } else { Ok(addresses) }
    }
}
