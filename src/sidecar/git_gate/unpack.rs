//! Unpacks a pack while it arrives, as git's `index-pack` reads it (git, `gitformat-pack(5)`), for `early`. It stops at
//! anything that it does not understand; deltas and large objects are left to git.
//!
//! Attacks that this stops: a pack that becomes large (limits of what is unpacked, of an object and of how many there
//! are); one whose objects are not what their headers say (they are known by the hash of what was unpacked).

use std::io::{BufRead, Read};

use bytes::{Buf, Bytes};
use flate2::{Decompress, FlushDecompress, Status};
use sha1::{Digest, Sha1};
use tokio::sync::mpsc;

use super::inspect::{Kind, LOT, LOT_BYTES};

/// Maximum size of an object that is inspected while it arrives, and of all objects that are unpacked here, in bytes.
pub(super) const MAX_OBJECT: u64 = 1 << 20;
const MAX_UNPACKED: u64 = 1 << 30;
/// Maximum number of objects that are inspected while they arrive.
const MAX_OBJECTS: u32 = 250_000;
/// The length of a pack's header, and its beginning: the version that git sends.
const HEADER: usize = 12;
pub(super) const BEGINNING: &[u8] = b"PACK\0\0\0\x02";
/// The length of an id, in bytes.
const ID: usize = 20;
/// The size of a piece that is unpacked at once, in bytes.
const PIECE: usize = 32 << 10;

/// An id.
pub(super) type Id = [u8; ID];

/// An object that has arrived.
pub(super) struct Arrived {
    /// The hash of its content.
    pub(super) id: Id,
    pub(super) kind: Kind,
    pub(super) content: Vec<u8>,
}

/// Unpacks what arrives.
pub(super) struct Unpacking {
    from: Pieces,
    to: mpsc::Sender<Vec<Arrived>>,
    lot: Vec<Arrived>,
    bytes: usize,
    inflate: Decompress,
    piece: Vec<u8>,
    /// How much may still be unpacked, in bytes.
    left: u64,
}

impl Unpacking {
    /// Of a pack whose pieces come from one queue; its objects go into another.
    pub(super) fn new(pieces: mpsc::Receiver<Bytes>, to: mpsc::Sender<Vec<Arrived>>) -> Self {
        let from = Pieces { from: pieces, piece: Bytes::new() };
        let (inflate, piece) = (Decompress::new(true), vec![0; PIECE]);
        Self { from, to, lot: Vec::new(), bytes: 0, inflate, piece, left: MAX_UNPACKED }
    }

    /// Passes on every object of at most so many bytes that is in the pack as it is, up to what cannot be read.
    pub(super) fn run(mut self, most: u64) {
        let _ = self.objects(most);
        let _ = self.to.blocking_send(self.lot);
    }

    /// `None` where something is not as it should be.
    fn objects(&mut self, most: u64) -> Option<()> {
        let mut header = [0; HEADER];
        self.from.read_exact(&mut header).ok()?;
        let count = header.strip_prefix(BEGINNING)?;
        let count = u32::from_be_bytes(count.try_into().ok()?);
        for _ in 0..count.min(MAX_OBJECTS) {
            let (kind, size) = self.head()?;
            let kind = match kind {
                1 => Some(Kind::Commit),
                2 => Some(Kind::Tree),
                3 => Some(Kind::Blob),
                4 => Some(Kind::Tag),
                // A delta, behind the distance to its base or the id of it: git makes an object of it.
                6 => self.number().map(|()| None)?,
                7 => self.from.read_exact(&mut [0; ID]).ok().map(|()| None)?,
                _ => return None,
            };
            let content = self.content(size, kind.is_some() && size <= most)?;
            if let (Some(kind), Some(content)) = (kind, content) {
                self.pass(kind, content)?;
            }
        }
        Some(())
    }

    fn pass(&mut self, kind: Kind, content: Vec<u8>) -> Option<()> {
        let hash = Sha1::new_with_prefix(format!("{} {}\0", kind.word(), content.len())).chain_update(&content);
        self.bytes += content.len();
        self.lot.push(Arrived { id: hash.finalize().into(), kind, content });
        if self.lot.len() < LOT && self.bytes < LOT_BYTES {
            return Some(());
        }
        self.bytes = 0;
        self.to.blocking_send(std::mem::take(&mut self.lot)).ok()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.from.fill_buf().ok()?.first()?;
        self.from.consume(1);
        Some(byte)
    }

    /// The type of an object and its size.
    fn head(&mut self) -> Option<(u8, u64)> {
        let first = self.byte()?;
        let (mut size, mut shift, mut byte) = (u64::from(first & 15), 4, first);
        while byte & 0x80 != 0 {
            byte = self.byte()?;
            size |= u64::from(byte & 0x7f).checked_shl(shift).filter(|_| shift < 57)?;
            shift += 7;
        }
        Some((first >> 4 & 7, size))
    }

    /// Skips the distance to a base.
    fn number(&mut self) -> Option<()> {
        while self.byte()? & 0x80 != 0 {}
        Some(())
    }

    /// Unpacks an object of this size; its content, if it is to be kept.
    #[expect(clippy::option_option, reason = "nothing more can be read, or it is not kept")]
    fn content(&mut self, size: u64, keep: bool) -> Option<Option<Vec<u8>>> {
        self.left = self.left.checked_sub(size)?;
        self.inflate.reset(true);
        let mut content = Vec::with_capacity(if keep { usize::try_from(size).ok()? } else { 0 });
        loop {
            let packed = self.from.fill_buf().ok()?;
            let before = (self.inflate.total_in(), self.inflate.total_out());
            let status = self.inflate.decompress(packed, &mut self.piece, FlushDecompress::None).ok()?;
            let (read, written) = (self.inflate.total_in(), self.inflate.total_out());
            self.from.consume(usize::try_from(read - before.0).ok()?);
            if keep && written <= size {
                content.extend_from_slice(&self.piece[..usize::try_from(written - before.1).ok()?]);
            }
            if status == Status::StreamEnd {
                return (written == size).then_some(keep.then_some(content));
            }
            // It has ended too early, is larger than it says, or never ends.
            if (read, written) == before || written > size {
                return None;
            }
        }
    }
}

/// The pieces of a pack, as they arrive.
struct Pieces {
    from: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl BufRead for Pieces {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.piece.is_empty() {
            match self.from.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => break,
            }
        }
        Ok(&self.piece)
    }

    fn consume(&mut self, length: usize) {
        self.piece.advance(length);
    }
}

impl Read for Pieces {
    fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
        let length = self.fill_buf()?.read(to)?;
        self.consume(length);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// How many objects of a pack are passed on. Each is written with its head, and in pieces.
    async fn passed(count: usize, objects: impl Iterator<Item = Vec<u8>> + Send + 'static) -> usize {
        let (to, pieces) = mpsc::channel(64);
        let (found, mut lots) = mpsc::channel(1);
        let unpacking = crate::task::blocking(move || Unpacking::new(pieces, found).run(MAX_OBJECT));
        let count = u32::try_from(count).unwrap().to_be_bytes();
        let feed = crate::task::spawn(async move {
            for piece in std::iter::once([BEGINNING, &count[..]].concat()).chain(objects) {
                let _ = to.send(piece.into()).await;
            }
        });
        let mut passed = 0;
        while let Some(lot) = lots.recv().await {
            passed += lot.len();
        }
        unpacking.await.unwrap();
        feed.await.unwrap();
        passed
    }

    #[tokio::test]
    async fn promise_15_so_many_objects_and_bytes_are_unpacked_while_they_arrive_and_no_more() {
        let deflated = |size: usize| {
            let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            to.write_all(&vec![0; size]).unwrap();
            to.finish().unwrap()
        };
        let file = |size: usize, data: &[u8]| {
            let mut head = vec![0xb0 | u8::try_from(size & 15).unwrap()];
            (1..5).for_each(|digit| head.push(0x80 | u8::try_from(size >> (7 * digit - 3) & 0x7f).unwrap()));
            head.push(u8::try_from(size >> 32).unwrap());
            [&head[..], data].concat()
        };
        let one = file(1, &deflated(1));
        let most = usize::try_from(MAX_OBJECTS).unwrap();
        for (count, expected) in [(most, most), (most + 1, most)] {
            assert_eq!(passed(count, std::iter::repeat_n(one.clone(), count)).await, expected);
        }
        // What is too large to be inspected here has to be unpacked all the same.
        let large = 64 << 20;
        let large = (0..16).map(|number| if number == 0 { large - 2 } else { large });
        let large: Vec<_> = large.map(|size| file(size, &deflated(size))).collect();
        let count = large.len() + 3;
        let objects = large.into_iter().chain(std::iter::repeat_n(one, 3));
        assert_eq!(passed(count, objects).await, 2);
    }
}
