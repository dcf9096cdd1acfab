//! Packs that no git would write.

use flate2::{Compression, write::ZlibEncoder};
use sha1::{Digest, Sha1};

/// The header of an object in a pack (git, `gitformat-pack(5)`).
fn header(kind: u8, mut size: usize) -> Vec<u8> {
    let mut bytes = vec![kind << 4 | u8::try_from(size & 15).unwrap()];
    size >>= 4;
    while size > 0 {
        *bytes.last_mut().unwrap() |= 0x80;
        bytes.push(u8::try_from(size & 0x7f).unwrap());
        size >>= 7;
    }
    bytes
}

fn number(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let rest = value >> 7;
        bytes.push(u8::try_from(value & 0x7f).unwrap() | if rest > 0 { 0x80 } else { 0 });
        value = rest;
        if rest == 0 {
            return bytes;
        }
    }
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut to = ZlibEncoder::new(Vec::new(), Compression::best());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

/// A pack of about a thousand bytes, whose last object has a gibibyte: each delta copies its base many times.
pub fn bomb() -> Vec<u8> {
    const SMALL: usize = 1 << 16;
    let mut pack = [b"PACK", &2_u32.to_be_bytes()[..], &3_u32.to_be_bytes()].concat();
    let mut at = pack.len();
    pack.extend([header(3, SMALL), deflate(&vec![0; SMALL])].concat());
    let (mut base, mut size) = (at, SMALL);
    // A copy from the beginning: 64 KiB without a size, and 0xffffff bytes with three bytes of it.
    for (copy, length, times) in [(&[0x80][..], SMALL, 256), (&[0xf0, 0xff, 0xff, 0xff][..], 0xff_ffff, 64)] {
        let delta = [number(size), number(length * times), copy.repeat(times)].concat();
        at = pack.len();
        pack.extend(header(6, delta.len()));
        // The distance to the base, in git's own numbers.
        let mut distance = at - base;
        let mut digits = vec![u8::try_from(distance & 0x7f).unwrap()];
        distance >>= 7;
        while distance > 0 {
            distance -= 1;
            digits.push(u8::try_from(distance & 0x7f).unwrap() | 0x80);
            distance >>= 7;
        }
        pack.extend(digits.iter().rev());
        pack.extend(deflate(&delta));
        (base, size) = (at, length * times);
    }
    let sum = Sha1::digest(&pack);
    pack.extend_from_slice(&sum);
    pack
}
