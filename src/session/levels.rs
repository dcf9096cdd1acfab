//! The order of the teardown: a pure function that sorts objects into levels, removed one after the other. An object
//! is removed before the objects that it uses; independent objects are removed at the same time.
//!
//! Labels say what an object uses, so that holder, reaper and `gc` all remove in the same order.

use std::collections::BTreeMap;

use crate::engine::Object;
use crate::engine::labels::Kind;

/// What is undone at the same time.
#[derive(Debug)]
pub enum Level {
    /// Objects that do not depend on each other.
    Objects(Vec<Object>),
    /// A script's `defer`, by its sequence number: a barrier.
    Defer(u64),
}

/// The rank of a kind of object: users are removed before what they use.
fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Agent => 0,
        Kind::Sidecar => 1,
        Kind::Network | Kind::Volume => 2,
    }
}

/// Sorts objects and defers into levels. Between two defers, objects are sorted by rank: agent, sidecars, then
/// networks and volumes; within a rank, users come first. A defer runs after everything that was created after it was
/// removed, and before everything that was created earlier.
pub fn levels(objects: Vec<Object>, defers: &[u64]) -> Vec<Level> {
    let mut barriers: Vec<u64> = defers.to_vec();
    barriers.sort_unstable_by(|a, b| b.cmp(a));
    let mut left = objects;
    let mut found = Vec::new();
    for barrier in barriers {
        let (later, earlier) = left.into_iter().partition(|object: &Object| object.identity.seq > barrier);
        by_rank(later, &mut found);
        found.push(Level::Defer(barrier));
        left = earlier;
    }
    by_rank(left, &mut found);
    found
}

fn by_rank(mut objects: Vec<Object>, found: &mut Vec<Level>) {
    objects.sort_by_key(|object| (rank(object.identity.kind), std::cmp::Reverse(object.identity.seq)));
    for chunk in objects.chunk_by(|a, b| rank(a.identity.kind) == rank(b.identity.kind)) {
        found.extend(by_use(chunk).into_iter().map(Level::Objects));
    }
}

/// Sorts objects of one rank, the latest first: each after all its users, and as early as possible.
fn by_use(objects: &[Object]) -> Vec<Vec<Object>> {
    let mut levels: Vec<Vec<Object>> = Vec::new();
    let mut earliest: BTreeMap<u64, usize> = BTreeMap::new();
    for object in objects {
        let seq = object.identity.seq;
        let level = earliest.get(&seq).copied().unwrap_or_default();
        // A user is always created after what it uses; ignore labels that say otherwise.
        for used in object.identity.uses.range(..seq) {
            let after = earliest.entry(*used).or_default();
            *after = (*after).max(level + 1);
        }
        if level == levels.len() {
            levels.push(Vec::new());
        }
        levels[level].push(object.clone());
    }
    levels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::labels::Identity;
    use proptest::prelude::*;

    fn object(seq: u64, kind: Kind) -> Object {
        using(seq, kind, [])
    }

    fn using<const N: usize>(seq: u64, kind: Kind, uses: [u64; N]) -> Object {
        let identity = Identity { session: "s".into(), owner: "o".into(), seq, kind, role: None, uses: uses.into() };
        Object { id: seq.to_string(), name: format!("s-{seq}"), identity }
    }

    fn shape(levels: &[Level]) -> Vec<String> {
        let name = |level: &Level| match level {
            Level::Objects(objects) => objects.iter().map(|o| o.id.clone()).collect::<Vec<_>>().join("+"),
            Level::Defer(seq) => format!("defer {seq}"),
        };
        levels.iter().map(name).collect()
    }

    #[test]
    fn the_default_launch_goes_agent_sidecars_networks_and_volumes() {
        let made = vec![
            object(1, Kind::Network),
            object(2, Kind::Volume),
            object(3, Kind::Sidecar),
            object(4, Kind::Volume),
            object(5, Kind::Sidecar),
            object(6, Kind::Agent),
        ];
        assert_eq!(shape(&levels(made, &[])), ["6", "5+3", "4+2+1"]);
    }

    #[test]
    fn what_is_used_goes_after_all_that_use_it() {
        let made = || {
            vec![
                object(1, Kind::Network),
                object(2, Kind::Volume),
                object(3, Kind::Sidecar),
                using(4, Kind::Sidecar, [3]),
                using(5, Kind::Sidecar, [3]),
                object(6, Kind::Sidecar),
                using(7, Kind::Sidecar, [5]),
                object(8, Kind::Agent),
            ]
        };
        assert_eq!(shape(&levels(made(), &[])), ["8", "7+6+4", "5", "3", "2+1"]);
        assert_eq!(shape(&levels(made(), &[5])), ["8", "7+6", "defer 5", "5+4", "3", "2+1"]);
        // Part of it is gone already.
        let left = made().into_iter().filter(|object| object.identity.seq != 5).collect();
        assert_eq!(shape(&levels(left, &[])), ["8", "7+6+4", "3", "2+1"]);
        // Uses of later objects, or of itself, are ignored.
        let made = vec![using(1, Kind::Sidecar, [1, 2]), using(2, Kind::Sidecar, [1])];
        assert_eq!(shape(&levels(made, &[])), ["2", "1"]);
    }

    #[test]
    fn a_defer_is_a_barrier_in_its_place() {
        let made = vec![object(1, Kind::Network), object(3, Kind::Sidecar), object(5, Kind::Agent)];
        assert_eq!(shape(&levels(made, &[2, 4])), ["5", "defer 4", "3", "defer 2", "1"]);
    }

    proptest! {
        #[test]
        fn everything_is_undone_once_and_never_before_its_user(kinds in prop::collection::vec(0..5_u8, 0..30)) {
            let (mut made, mut defers) = (Vec::new(), Vec::new());
            for (seq, kind) in (1_u64..).zip(&kinds) {
                match kind {
                    0 => made.push(object(seq, Kind::Agent)),
                    1 => made.push(object(seq, Kind::Sidecar)),
                    2 => made.push(object(seq, Kind::Network)),
                    3 => made.push(object(seq, Kind::Volume)),
                    _ => defers.push(seq),
                }
            }
            let order = levels(made, &defers);
            let mut seen = Vec::new();
            for level in &order {
                match level {
                    Level::Defer(seq) => {
                        prop_assert!(seen.iter().all(|earlier| earlier > seq), "nothing older goes before a defer");
                        seen.push(*seq);
                    }
                    Level::Objects(objects) => seen.extend(objects.iter().map(|object| object.identity.seq)),
                }
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (1..=kinds.len() as u64).collect::<Vec<_>>());
        }
    }
}
