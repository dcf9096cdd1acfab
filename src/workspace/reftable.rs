//! Reads references and reflogs from reftables (`extensions.refStorage = reftable`; git's
//! Documentation/technical/reftable; version 2 as git writes it, for SHA-256). Pure.
//!
//! Tables come from an agent. Attacks: names that grow by prefix compression, and logs that grow by inflation (a
//! budget shared by all tables of an archive bounds the decoded size); bad blocks, offsets and counts (sections are
//! read once, in order, and every length is checked); tables that other readers interpret differently (unsorted or
//! duplicate names, reserved types and bytes between blocks are refused). Indices and restart lists, which only speed
//! up lookups, are ignored.

use std::collections::BTreeMap;

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::name::Name;

const MAGIC: &[u8] = b"REFT";
/// Size of the file header without the hash id, in bytes.
const HEADER: usize = 24;
/// Size of the footer after the copy of the header, in bytes: five positions and a checksum.
const TRAILER: usize = 44;
/// Size of a block's type and length, in bytes.
const BLOCK: usize = 4;
/// Maximum length of a reference name, in bytes.
const MAX_NAME: usize = 4096;
/// What a record costs of the budget besides its name, in bytes: roughly its memory.
const RECORD: usize = 128;

/// The value of a reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// An object id in hexadecimal.
    Object(String),
    /// The name of another reference.
    Symbolic(Name),
}

/// Why a table is refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum TableError {
    /// It is damaged, or has an unknown format.
    #[error("it is not a valid table of references: {0}")]
    Malformed(&'static str),
    /// Its content exceeds the budget.
    #[error("there are too many references and logs")]
    TooLarge,
}

/// The remaining size of decoded tables, in bytes.
#[derive(Debug)]
pub(super) struct Budget(pub(super) usize);

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), TableError> {
        self.0 = self.0.checked_sub(bytes).ok_or(TableError::TooLarge)?;
        Ok(())
    }
}

/// A stack of tables.
#[derive(Debug, Default)]
pub(super) struct Stack {
    /// References, by name.
    pub(super) references: BTreeMap<Name, Value>,
    /// Old and new object ids, by reference name, a zero byte and the update index.
    logs: BTreeMap<Name, Vec<u8>>,
    /// Size of an object id, in bytes.
    width: usize,
}

impl Stack {
    /// Adds a table on top of the stack; its records override older ones.
    ///
    /// # Errors
    /// It is malformed, or the budget is used up. Records that were read before stay in the stack.
    pub(super) fn add(&mut self, table: &[u8], budget: &mut Budget) -> Result<(), TableError> {
        budget.take(table.len())?;
        let sections = Sections::read(table)?;
        if self.width != 0 && self.width != sections.width {
            return Err(TableError::Malformed("its object ids have another length than those of other tables"));
        }
        self.width = sections.width;
        self.add_references(table, &sections, budget)?;
        self.add_logs(table, &sections, budget)
    }

    /// All objects in the reflogs.
    pub(super) fn logged(&self) -> impl Iterator<Item = String> {
        let width = self.width.max(1);
        self.logs.values().flat_map(move |objects| objects.chunks_exact(width).map(hex))
    }

    fn add_references(&mut self, table: &[u8], sections: &Sections, budget: &mut Budget) -> Result<(), TableError> {
        let mut last = Name::new();
        let mut at = sections.header;
        // The first block starts at the beginning of the file.
        let mut block = 0;
        while at < sections.references {
            if table[at] != b'r' {
                return Err(TableError::Malformed("a block of references is missing"));
            }
            let end = block + number(table, at + 1)?;
            let mut from = Records::new(&table[..sections.references], at + BLOCK, end)?;
            while let Some(kind) = from.key(&mut last, MAX_NAME, budget)? {
                from.varint()?;
                let value = match kind {
                    0 => None,
                    1 => Some(Value::Object(hex(from.take(sections.width)?))),
                    2 => Some(Value::Object(hex(&from.take(2 * sections.width)?[..sections.width]))),
                    3 => Some(Value::Symbolic(from.text(MAX_NAME)?.to_vec())),
                    _ => return Err(TableError::Malformed("a reference has an unknown type")),
                };
                match value {
                    Some(value) => drop(self.references.insert(last.clone(), value)),
                    None => drop(self.references.remove(&last)),
                }
            }
            // Blocks are padded with zeros, or not at all.
            let filled = table[end..sections.references].iter().take_while(|byte| **byte == 0).count();
            (at, block) = (end + filled, end + filled);
        }
        Ok(())
    }

    fn add_logs(&mut self, table: &[u8], sections: &Sections, budget: &mut Budget) -> Result<(), TableError> {
        let mut last = Name::new();
        let mut at = sections.logs.start;
        while at < sections.logs.end {
            if table[at] != b'g' {
                return Err(TableError::Malformed("a block of logs is missing"));
            }
            // The length is that of the inflated block, and in the first block it includes the file header.
            let before = if at == sections.header { sections.header } else { 0 };
            let length = number(table, at + 1)?.checked_sub(before + BLOCK);
            let length = length.ok_or(TableError::Malformed("a block is too short"))?;
            budget.take(length)?;
            let deflated =
                table.get(at + BLOCK..sections.logs.end).ok_or(TableError::Malformed("a block is truncated"))?;
            let (block, used) = inflate(deflated, length)?;
            let mut from = Records::new(&block, 0, block.len())?;
            while let Some(kind) = from.key(&mut last, MAX_NAME + 9, budget)? {
                let zero = last.len().checked_sub(9).map(|at| last[at]);
                match (zero, kind) {
                    (Some(0), 0) => drop(self.logs.remove(&last)),
                    (Some(0), 1) => {
                        let objects = from.take(2 * sections.width)?.to_vec();
                        from.text(usize::MAX)?;
                        from.text(usize::MAX)?;
                        from.varint()?;
                        from.take(2)?;
                        from.text(usize::MAX)?;
                        self.logs.insert(last.clone(), objects);
                    }
                    _ => return Err(TableError::Malformed("a log has an unknown type")),
                }
            }
            at += BLOCK + used;
        }
        Ok(())
    }
}

/// The positions of a table's sections.
struct Sections {
    /// Size of the header, in bytes.
    header: usize,
    /// Size of an object id, in bytes.
    width: usize,
    /// The end of the reference blocks.
    references: usize,
    /// The range of the log blocks.
    logs: std::ops::Range<usize>,
}

impl Sections {
    fn read(table: &[u8]) -> Result<Self, TableError> {
        let malformed = |why| Err(TableError::Malformed(why));
        let (header, width) = match (table.get(..4), table.get(4), table.get(HEADER..HEADER + 4)) {
            (Some(MAGIC), Some(1), _) => (HEADER, 20),
            (Some(MAGIC), Some(2), Some(b"sha1")) => (HEADER + 4, 20),
            (Some(MAGIC), Some(2), Some(b"s256")) => (HEADER + 4, 32),
            _ => return malformed("its header has an unknown format, version or hash"),
        };
        let Some(footer) = table.len().checked_sub(header + TRAILER).filter(|at| *at >= header) else {
            return malformed("it is truncated");
        };
        let (checked, sum) = table[footer..].split_at(header + TRAILER - 4);
        let mut crc = Crc::new();
        crc.update(checked);
        if sum != crc.sum().to_be_bytes() {
            return malformed("its checksum is wrong");
        }
        if checked[..header] != table[..header] {
            return malformed("its footer does not match its header");
        }
        // The position of each section; 0 if it does not exist.
        let position = |number: usize| {
            let at = header + 8 * number;
            let bytes = checked[at..at + 8].try_into().unwrap_or_default();
            // The lowest bits of this position contain the length of abbreviated object ids.
            let position = u64::from_be_bytes(bytes) >> if number == 1 { 5 } else { 0 };
            usize::try_from(position).unwrap_or(usize::MAX)
        };
        let begins: [usize; 5] = std::array::from_fn(position);
        let [_, _, _, logs, log_index] = begins;
        let there: Vec<usize> = begins.into_iter().filter(|at| *at != 0).chain([footer]).collect();
        if there.iter().any(|at| *at < header) || !there.is_sorted() {
            return malformed("its sections are out of order");
        }
        let is_log = table[header] == b'g' && footer > header;
        let (references, logs) = match (is_log, logs) {
            (true, 0) => (header, header),
            (true, at) if at == header => (header, header),
            (false, 0) => (there[0], footer),
            (false, at) => (there[0], at),
            (true, _) => return malformed("it has two sections of logs"),
        };
        Ok(Self { header, width, references, logs: logs..if log_index == 0 { footer } else { log_index } })
    }
}

/// The records of a block.
struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    is_first: bool,
}

impl<'a> Records<'a> {
    /// The records from a position on, up to the list of restarts at the end of the block.
    fn new(table: &'a [u8], from: usize, end: usize) -> Result<Self, TableError> {
        let short = TableError::Malformed("a block is truncated");
        let Some(restarts) = end.checked_sub(2).filter(|at| *at >= from && end <= table.len()) else {
            return Err(short);
        };
        let count = usize::from(u16::from_be_bytes([table[restarts], table[restarts + 1]]));
        let Some(last) = restarts.checked_sub(3 * count).filter(|at| *at >= from) else { return Err(short) };
        Ok(Self { bytes: &table[..last], at: from, is_first: true })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], TableError> {
        let end = self.at.checked_add(count).ok_or(TableError::Malformed("a record is truncated"))?;
        let taken = self.bytes.get(self.at..end).ok_or(TableError::Malformed("a record is truncated"))?;
        self.at = end;
        Ok(taken)
    }

    /// A number in the encoding of pack offsets (gitformat-pack(5)).
    fn varint(&mut self) -> Result<u64, TableError> {
        let mut byte = self.take(1)?[0];
        let mut value = u64::from(byte & 0x7f);
        while byte & 0x80 != 0 {
            byte = self.take(1)?[0];
            let next = value.checked_add(1).and_then(|value| value.checked_mul(128));
            value = next.ok_or(TableError::Malformed("a number is too large"))? + u64::from(byte & 0x7f);
        }
        Ok(value)
    }

    fn length(&mut self) -> Result<usize, TableError> {
        usize::try_from(self.varint()?).map_err(|_| TableError::Malformed("a number is too large"))
    }

    /// Bytes with their length in front.
    fn text(&mut self, most: usize) -> Result<&'a [u8], TableError> {
        let length = self.length()?;
        if length > most {
            return Err(TableError::Malformed("a name is too long"));
        }
        self.take(length)
    }

    /// The next record's key, which extends a prefix of the previous key, and its type; `None` at the end.
    fn key(&mut self, last: &mut Name, most: usize, budget: &mut Budget) -> Result<Option<u8>, TableError> {
        if self.at == self.bytes.len() {
            return Ok(None);
        }
        let shared = self.length()?;
        let more = self.varint()?;
        let kind = (more & 7) as u8;
        let suffix =
            self.take(usize::try_from(more >> 3).map_err(|_| TableError::Malformed("a number is too large"))?)?;
        if shared > last.len() || self.is_first && shared > 0 {
            return Err(TableError::Malformed("a name shares more with the previous name than that has"));
        }
        self.is_first = false;
        let length = shared + suffix.len();
        if length > most {
            return Err(TableError::Malformed("a name is too long"));
        }
        budget.take(length + RECORD)?;
        if last.get(shared..).is_some_and(|rest| suffix <= rest) {
            return Err(TableError::Malformed("its names are out of order"));
        }
        last.truncate(shared);
        last.extend_from_slice(suffix);
        Ok(Some(kind))
    }
}

/// A number of three bytes, big-endian.
fn number(table: &[u8], at: usize) -> Result<usize, TableError> {
    match table.get(at..at + 3) {
        Some(&[one, two, three]) => Ok(usize::from(one) << 16 | usize::from(two) << 8 | usize::from(three)),
        _ => Err(TableError::Malformed("a block is truncated")),
    }
}

/// Inflates a block to this length. Also returns how many compressed bytes were read.
fn inflate(bytes: &[u8], length: usize) -> Result<(Vec<u8>, usize), TableError> {
    // One extra byte, so that the end of the stream is read before the buffer is full.
    let mut block = Vec::with_capacity(length + 1);
    let mut zlib = Decompress::new(true);
    let done = zlib.decompress_vec(bytes, &mut block, FlushDecompress::Finish);
    match (done, usize::try_from(zlib.total_in())) {
        (Ok(Status::StreamEnd), Ok(used)) if block.len() == length => Ok((block, used)),
        _ => Err(TableError::Malformed("a block of logs cannot be inflated")),
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
#[path = "reftable_tests.rs"]
mod tests;
