//! Tables that git 2.47 wrote, and damaged copies of them.

use super::*;

const SHA1: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/sha1");
const SHA256: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/sha256");
const MANY: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/many");
const LOGS: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/logs-only");
const STASH: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/stash");
const FRESH: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/fresh");
const GONE: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/deleted-sha1");
const GONE_256: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/deleted-sha256");
/// The logs end before the header of their first block does.
const SHORT: &[u8] = include_bytes!("../../tests/fuzz/corpus/reftable/short-logs");
const ALL: [&[u8]; 8] = [SHA1, SHA256, MANY, LOGS, STASH, FRESH, GONE, GONE_256];

const BUDGET: usize = 1 << 20;

fn stack(tables: &[&[u8]]) -> Stack {
    let (mut stack, mut budget) = (Stack::default(), Budget(BUDGET));
    for table in tables {
        stack.add(table, &mut budget).unwrap();
    }
    stack
}

fn told(stack: &Stack) -> Vec<String> {
    let one = |(name, value): (&Name, &Value)| {
        let value = match value {
            Value::Object(object) => object[..6].to_owned(),
            Value::Symbolic(name) => String::from_utf8(name.clone()).unwrap(),
        };
        format!("{} {value}", String::from_utf8(name.clone()).unwrap())
    };
    stack.references.iter().map(one).collect()
}

#[test]
fn references_of_every_kind_are_read_and_newer_tables_win() {
    let whole = [
        "HEAD refs/heads/main",
        "refs/heads/gone 71ba57",
        "refs/heads/main 71ba57",
        "refs/heads/sym refs/heads/main",
        "refs/tags/ann 7e32a1",
    ];
    assert_eq!(told(&stack(&[SHA1])), whole);
    assert_eq!(told(&stack(&[SHA1, GONE])), [&whole[..1], &whole[2..]].concat());
    assert_eq!(told(&stack(&[GONE, SHA1])), whole);
    let wide = stack(&[SHA256, GONE_256]);
    let Value::Object(main) = &wide.references[&b"refs/heads/main"[..]] else { panic!() };
    assert_eq!(main, "553d0c607b1ade3b15fe2860986df155deb14a6f1dcc895066000d3a9f38a1db");
    assert!(wide.logged().any(|object| object == *main));
    assert_eq!(told(&stack(&[FRESH])), ["HEAD refs/heads/main"]);
    let mut mixed = stack(&[SHA1]);
    assert!(mixed.add(SHA256, &mut Budget(BUDGET)).is_err());
}

#[test]
fn blocks_with_indices_and_logs_alone_are_read() {
    let many = stack(&[MANY]);
    // 60 branches, main and HEAD.
    assert_eq!(many.references.len(), 62);
    // A line without objects records that a log exists.
    let lines = |stack: &Stack, name: &[u8]| {
        let of_name =
            stack.logs.iter().filter(|(key, objects)| key.starts_with(name) && objects.iter().any(|byte| *byte != 0));
        of_name.count()
    };
    assert_eq!(lines(&many, b"refs/heads/branch-"), 60);
    let fewer = stack(&[MANY, LOGS]);
    assert_eq!((fewer.references.len(), lines(&fewer, b"refs/heads/branch-")), (62, 59), "one log is expired");
    assert!(stack(&[LOGS]).references.is_empty());
    assert_eq!(lines(&stack(&[STASH]), b"refs/stash\0"), 2);
}

/// The same table with a correct checksum.
fn checked(mut table: Vec<u8>) -> Vec<u8> {
    let header = if table.get(4) == Some(&2) { 28 } else { 24 };
    let Some(footer) = table.len().checked_sub(header + TRAILER) else { return table };
    // Also update the copy of the header, so that damage there is in both.
    let begin = table[..header].to_vec();
    table[footer..footer + header].copy_from_slice(&begin);
    let end = table.len() - 4;
    let mut crc = Crc::new();
    crc.update(&table[footer..end]);
    table[end..].copy_from_slice(&crc.sum().to_be_bytes());
    table
}

#[test]
fn what_is_damaged_is_refused_and_never_panics() {
    for table in ALL {
        for at in 0..table.len() {
            let read = |table: &[u8]| Stack::default().add(table, &mut Budget(BUDGET));
            assert!(read(&table[..at]).is_err(), "cut short at {at}");
            for change in [0xff, 1] {
                let mut changed = table.to_vec();
                changed[at] ^= change;
                let _ = read(&changed);
                let _ = read(&checked(changed));
            }
            let mut longer = table.to_vec();
            longer.insert(at, 0);
            let _ = read(&checked(longer));
        }
    }
    let refused = Stack::default().add(&checked(SHORT.to_vec()), &mut Budget(BUDGET)).unwrap_err();
    assert_eq!(refused, TableError::Malformed("a block is truncated"));
    let mut sum = SHA1.to_vec();
    *sum.last_mut().unwrap() ^= 1;
    let refused = Stack::default().add(&sum, &mut Budget(BUDGET)).unwrap_err();
    assert_eq!(refused, TableError::Malformed("its checksum is wrong"));
}

/// A table with one block of references that contains these records.
fn table(records: &[u8]) -> Vec<u8> {
    let mut table = b"REFT\x01".to_vec();
    table.extend([0; 19]);
    let length = u32::try_from(HEADER + BLOCK + records.len() + 5).unwrap().to_be_bytes();
    table.push(b'r');
    table.extend(&length[1..]);
    table.extend(records);
    table.extend([0, 0, 28, 0, 1]);
    table.extend([0; HEADER + TRAILER]);
    checked(table)
}

#[test]
fn what_grows_is_bounded_and_what_others_read_otherwise_is_refused() {
    let add = |records: &[u8], budget: usize| Stack::default().add(&table(records), &mut Budget(budget));
    let one = b"\0\x78refs/heads/main\0";
    assert_eq!(add(one, BUDGET), Ok(()));
    // A duplicate name, wrong order, a reserved type, a prefix that is too long, and a number without an end.
    let is_malformed = |records: &[u8]| matches!(add(records, BUDGET), Err(TableError::Malformed(_)));
    assert!(is_malformed(&[&one[..], b"\x0f\0\0"].concat()));
    assert!(is_malformed(&[&one[..], b"\x0e\x08m\0"].concat()));
    assert!(is_malformed(&[&one[..], b"\x0f\x0ca\0"].concat()));
    assert!(is_malformed(b"\x01\x78refs/heads/main\0"));
    assert!(is_malformed(&[&one[..], b"\x10\x08a\0"].concat()));
    assert!(is_malformed(&[0xff; 20]));
    // Names with a long common prefix: a few bytes each in the table, and many in memory.
    let long = |length: u32| {
        let (one, two, three) = (length & 0x7f, (length >> 7) - 1, 0);
        let (two, three) = (two & 0x7f | 0x80, three | ((two >> 7) - 1) & 0x7f | 0x80);
        [three, two, one].map(|byte| u8::try_from(byte).unwrap())
    };
    let mut records = [&[0][..], &long(4000 << 3), &[b'a'; 4000], &[0]].concat();
    assert_eq!(add(&records, BUDGET), Ok(()));
    let (shared, one) = ([0x9e, 0x20], 0x08);
    for last in 0..=255 {
        records.extend([shared[0], shared[1], one, last, 0]);
    }
    assert_eq!(add(&records, BUDGET), Err(TableError::TooLarge));
    assert_eq!(add(&records, 2 * BUDGET), Ok(()));
    // Logs that inflate beyond the budget.
    assert_eq!(Stack::default().add(MANY, &mut Budget(MANY.len() + 1000)), Err(TableError::TooLarge));
}
