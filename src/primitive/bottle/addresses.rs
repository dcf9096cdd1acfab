//! Chooses small address ranges for networks from configurable pools, without overlap with the host's networks and routes.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::{IpNet, Ipv4Net};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::engine::{Engine, EngineError};
use crate::host::routes;
use crate::session::{Class, Failure};

/// The default pools; `BOTTLER_POOLS` replaces them.
const POOLS: &str = "10.213.0.0/16,172.29.0.0/16";
/// A range's prefix: 16 addresses, of which 13 are for containers.
const PREFIX: u8 = 28;

/// Allocates ranges. Each bottle begins at another place in the pools, so that two rarely try the same range.
pub(in crate::primitive) struct Allocator {
    next: AtomicU32,
    local: bool,
    taken: OnceCell<Vec<Ipv4Net>>,
}

impl Allocator {
    pub(in crate::primitive) fn new(session: &str, local: bool) -> Self {
        let digest = Sha256::digest(session.as_bytes());
        let start = u32::from_be_bytes([0, 0, digest[0], digest[1]]);
        Self { next: AtomicU32::new(start), local, taken: OnceCell::new() }
    }

    /// The next range that seems free; the engine may still refuse it.
    pub(in crate::primitive) async fn next(&self, engine: &dyn Engine) -> Result<Ipv4Net, Failure> {
        let pools = pools()?;
        let taken = self.taken.get_or_try_init(|| taken(engine, self.local)).await?;
        let ranges: u32 = pools.iter().copied().map(count).sum();
        for _ in 0..ranges {
            let range = nth(&pools, self.next.fetch_add(1, Ordering::Relaxed) % ranges);
            if !taken.iter().any(|other| overlap(*other, range)) {
                return Ok(range);
            }
        }
        Err(Failure::new(Class::Operation, "no address range is free in the pools").hint(
            "name others in BOTTLER_POOLS, as CIDR separated by commas; `bottler gc` frees those of dead bottles",
        ))
    }
}

/// Address ranges of the pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FreeRanges {
    /// Those that overlap no network of the engine and no route of its host.
    pub free: u32,
    /// All of them.
    pub all: u32,
}

/// Counts the ranges that are free.
///
/// # Errors
/// The pools cannot be read, or the engine does not answer.
pub async fn free_ranges(engine: &dyn Engine, local: bool) -> Result<FreeRanges, Failure> {
    let pools = pools()?;
    let taken = taken(engine, local).await?;
    let all: u32 = pools.iter().copied().map(count).sum();
    let is_free = |index: &u32| !taken.iter().any(|other| overlap(*other, nth(&pools, *index)));
    let free = (0..all).filter(is_free).count();
    Ok(FreeRanges { free: u32::try_from(free).unwrap_or(u32::MAX), all })
}

fn pools() -> Result<Vec<Ipv4Net>, Failure> {
    let text = std::env::var("BOTTLER_POOLS").unwrap_or_else(|_| POOLS.to_owned());
    let pools: Result<Vec<Ipv4Net>, _> = text.split(',').map(|pool| pool.trim().parse()).collect();
    match pools {
        Ok(pools) if pools.iter().all(|pool| pool.prefix_len() <= PREFIX) && !pools.is_empty() => Ok(pools),
        _ => Err(Failure::new(Class::Input, format!("BOTTLER_POOLS: {text:?} is not a list of address ranges"))
            .hint(format!("CIDR of at most /{PREFIX}, separated by commas, as in {POOLS}"))),
    }
}

async fn taken(engine: &dyn Engine, local: bool) -> Result<Vec<Ipv4Net>, EngineError> {
    let mut taken = engine.subnets().await?;
    if local {
        let routes = routes().unwrap_or_default().into_iter().filter(|route| !route.is_default());
        taken.extend(routes.filter_map(|route| match route.to {
            IpNet::V4(range) => Some(range),
            IpNet::V6(_) => None,
        }));
    }
    Ok(taken)
}

fn overlap(a: Ipv4Net, b: Ipv4Net) -> bool {
    a.contains(&b) || b.contains(&a)
}

fn count(pool: Ipv4Net) -> u32 {
    1 << (PREFIX - pool.prefix_len())
}

fn nth(pools: &[Ipv4Net], mut index: u32) -> Ipv4Net {
    for &pool in pools {
        if index < count(pool) {
            let base = u32::from(pool.network()) + (index << (32 - PREFIX));
            return Ipv4Net::new_assert(Ipv4Addr::from(base), PREFIX);
        }
        index -= count(pool);
    }
    unreachable!("the index is below the sum of the counts")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_fill_the_pools_one_after_the_other() {
        let pools = ["10.0.0.0/27".parse().unwrap(), "10.9.0.0/28".parse().unwrap()];
        let all: Vec<String> = (0..3).map(|index| nth(&pools, index).to_string()).collect();
        assert_eq!(all, ["10.0.0.0/28", "10.0.0.16/28", "10.9.0.0/28"]);
    }
}
