//! Changes of binary files in git's format (`GIT binary patch`): both contents, deflated, in base 85.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::ZlibEncoder;
use sha1::{Digest as _, Sha1};
use sha2::Sha256;

/// Bytes of a line.
const LINE: usize = 52;
const ALPHABET: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Writes the body of a file's change; `None` means that there is no file. `wide`: the repository uses SHA-256.
pub(super) fn write(old: Option<&[u8]>, new: Option<&[u8]>, wide: bool, to: &mut impl Write) -> io::Result<()> {
    writeln!(to, "index {}..{}\nGIT binary patch", named(old, wide), named(new, wide))?;
    literal(new.unwrap_or_default(), to)?;
    literal(old.unwrap_or_default(), to)
}

/// The object id that git gives a content.
fn named(content: Option<&[u8]>, wide: bool) -> String {
    let Some(content) = content else { return "0".repeat(if wide { 64 } else { 40 }) };
    let header = format!("blob {}\0", content.len());
    if wide {
        use sha2::Digest as _;
        return data_encoding::HEXLOWER.encode(&Sha256::new().chain_update(&header).chain_update(content).finalize());
    }
    data_encoding::HEXLOWER.encode(&Sha1::new().chain_update(&header).chain_update(content).finalize())
}

fn literal(content: &[u8], to: &mut impl Write) -> io::Result<()> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(content)?;
    writeln!(to, "literal {}", content.len())?;
    for line in encoder.finish()?.chunks(LINE) {
        // Its length as a letter: A to Z for 1 to 26, a to z for more.
        let length = u8::try_from(line.len()).unwrap_or(u8::MAX);
        let letter = if length <= 26 { b'A' + length - 1 } else { b'a' + length - 27 };
        let mut text = vec![letter];
        for group in line.chunks(4) {
            let mut bytes = [0; 4];
            bytes[..group.len()].copy_from_slice(group);
            let mut value = u32::from_be_bytes(bytes);
            let mut digits = [0; 5];
            for digit in digits.iter_mut().rev() {
                *digit = ALPHABET[(value % 85) as usize];
                value /= 85;
            }
            text.extend(digits);
        }
        text.push(b'\n');
        to.write_all(&text)?;
    }
    to.write_all(b"\n")
}
