//! Of what reads a workspace, what needs nothing else of it.

#[path = "../../../src/workspace/name.rs"]
mod name;
#[path = "../../../src/workspace/reftable.rs"]
mod reftable;

use reftable::{Budget, Stack};

/// What may be made of the tables that are fuzzed, in bytes.
const MAX_TABLES: usize = 4 << 20;

/// Reads a table of references as it is, and as it would be with its checksum put right; then once more on top of itself.
pub fn tables(bytes: &[u8]) {
    let mut checked = bytes.to_vec();
    let header = if bytes.get(4) == Some(&2) { 28 } else { 24 };
    if let Some(footer) = bytes.len().checked_sub(header + 44).filter(|at| *at >= header) {
        let (begin, end) = checked.split_at_mut(footer);
        end[..header].copy_from_slice(&begin[..header]);
        let (text, sum) = end.split_at_mut(header + 40);
        let mut crc = flate2::Crc::new();
        crc.update(text);
        sum.copy_from_slice(&crc.sum().to_be_bytes());
    }
    for table in [bytes, &checked] {
        let (mut stack, mut budget) = (Stack::default(), Budget(MAX_TABLES));
        if stack.add(table, &mut budget).is_err() {
            continue;
        }
        let (references, logged) = (stack.references.clone(), stack.logged().count());
        assert!(references.keys().map(Vec::len).sum::<usize>() <= MAX_TABLES);
        let again = stack.add(table, &mut Budget(MAX_TABLES));
        assert!(again.is_ok() && stack.references == references && stack.logged().count() == logged, "{again:?}");
    }
}
