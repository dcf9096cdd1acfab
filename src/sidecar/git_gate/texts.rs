//! The texts in a file that are not its bytes: UTF-16 and UTF-32, and what is packed in it, in any order and up to a
//! depth. Other encodings and gzip, zstd and zlib are the scanner's. Pure.

use super::packed::{self, Unpackable};
use super::wide;

/// Maximum size of all texts of one file together, in bytes, and how deep archives are in each other.
const MAX_TEXTS: usize = 128 << 20;
const MAX_DEPTH: usize = 3;

/// Receives a text, and returns a value to end the search.
type Visit<'a, T> = dyn FnMut(&[u8]) -> Option<T> + 'a;

/// Calls `visit` with each text of a file that is not its bytes, until it returns a value.
///
/// # Errors
/// The texts are too large.
pub(super) fn find<T>(content: &[u8], visit: &mut Visit<'_, T>) -> Result<Option<T>, Unpackable> {
    let mut left = MAX_TEXTS;
    find_within(content, 0, &mut left, visit)
}

fn find_within<T>(
    content: &[u8],
    depth: usize,
    left: &mut usize,
    visit: &mut Visit<'_, T>,
) -> Result<Option<T>, Unpackable> {
    if let Some(text) = wide::decode(content) {
        *left = left.checked_sub(text.len()).ok_or(Unpackable::TooLarge)?;
        if let Some(value) = visit(&text) {
            return Ok(Some(value));
        }
    }
    if depth == MAX_DEPTH {
        return Ok(None);
    }
    packed::unpack(content, left, &mut |text, left| match visit(text) {
        Some(value) => Ok(Some(value)),
        None => find_within(text, depth + 1, left, visit),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    const TEXT: &str = "a line with needle in it\n";

    fn holds(content: &[u8], text: &str) -> Result<bool, Unpackable> {
        let mut visit = |found: &[u8]| memchr::memmem::find(found, text.as_bytes()).map(drop);
        find(content, &mut visit).map(|found| found.is_some())
    }

    fn filter(command: &[&str], input: &[u8]) -> Vec<u8> {
        let mut child = Command::new(command[0]);
        let mut child = child.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (mut stdin, input) = (child.stdin.take().unwrap(), input.to_vec());
        let feed = std::thread::spawn(move || stdin.write_all(&input).unwrap());
        let output = child.wait_with_output().unwrap();
        feed.join().unwrap();
        assert!(output.status.success());
        output.stdout
    }

    fn zip(name: &str, content: &[u8]) -> Vec<u8> {
        let program = "import sys, zipfile, io\n\
            file = io.BytesIO()\n\
            with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED) as archive:\n\
            \x20   archive.writestr(sys.argv[1], sys.stdin.buffer.read())\n\
            sys.stdout.buffer.write(file.getvalue())\n";
        filter(&["python3", "-c", program, name], content)
    }

    /// What no program compresses much.
    fn noise(length: usize) -> Vec<u8> {
        let mut state: u32 = 7;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            u8::try_from(state >> 24).unwrap()
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn promise_10_wide_text_and_archives_are_looked_into() {
        let wide: Vec<u8> = TEXT.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let xz = |content: &[u8]| filter(&["xz", "-c"], content);
        let bzip2 = |content: &[u8]| filter(&["bzip2", "-c"], content);
        let text = TEXT.as_bytes();
        let (start, end) = text.split_at(15);
        for (name, content) in [
            ("wide", wide.clone()),
            ("zip", [&b"#!/bin/sh\n"[..], &zip("a", b"other"), &zip("b", text)].concat()),
            ("zip in zip", zip("outer.zip", &zip("inner", text))),
            ("xz", xz(text)),
            ("xz behind a script", [&b"#!/bin/sh\n"[..], &xz(text)].concat()),
            ("xz in two streams", [xz(start), xz(end)].concat()),
            ("xz without a check", filter(&["xz", "-c", "-9e", "--check=none"], text)),
            ("xz with a filter", filter(&["xz", "-c", "--x86", "--lzma2"], &[&noise(9000)[..], text].concat())),
            ("cut xz", xz(&[text, &noise(300_000)].concat())[..200_000].to_vec()),
            ("bzip2", bzip2(text)),
            ("bzip2 behind a script", [&b"#!/bin/sh\n"[..], &bzip2(text)].concat()),
            ("bzip2 in two streams", [bzip2(start), bzip2(end)].concat()),
            ("bzip2 of several blocks", bzip2(&[&noise(2_000_000)[..], text].concat())),
            ("bzip2 behind one that is broken", [&bzip2(&noise(1000))[..500], &bzip2(text)].concat()),
            ("zip in xz", xz(&zip("inner", text))),
            ("wide text in bzip2", bzip2(&wide)),
        ] {
            assert_eq!(holds(&content, "needle"), Ok(true), "{name}");
        }
        assert_eq!(holds(text, "needle"), Ok(false), "plain bytes are scanned elsewhere");
        assert_eq!(holds(&xz(b"other"), "needle"), Ok(false));
    }

    #[test]
    fn promise_15_what_becomes_too_large_is_refused() {
        let zeros = vec![0; MAX_TEXTS + 1];
        for (name, content) in [
            ("zip", zip("bomb", &zeros)),
            ("xz", filter(&["xz", "-c", "-0"], &zeros)),
            ("bzip2", filter(&["bzip2", "-c", "-1"], &zeros)),
            ("headers of xz", b"\xfd7zXZ\0".repeat(1000)),
            ("headers of bzip2", b"BZh91AY&SY".repeat(1000)),
        ] {
            assert_eq!(holds(&content, "needle"), Err(Unpackable::TooLarge), "{name}");
        }
        let large = filter(&["xz", "-c", "--lzma2=preset=0,dict=256MiB"], TEXT.as_bytes());
        assert_eq!(holds(&large, "needle"), Err(Unpackable::Dictionary));
        // What `xz -9` writes is unpacked.
        assert_eq!(holds(&filter(&["xz", "-c", "-9"], TEXT.as_bytes()), "needle"), Ok(true));
    }
}
