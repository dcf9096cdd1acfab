//! Bodies that are scanned while they arrive. What was scanned is released, except an end that may be the beginning of
//! a finding.
//!
//! These types do not scan: they return texts to scan, and are told that nothing was found, so that the scan can run
//! elsewhere.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::budget::{Budget, Exhausted};
use super::exact::PartialMatch;
use super::finding::Finding;
use super::joined_values::JoinedValues;
use super::scanner::Scanner;

/// How much of the preceding text is scanned again, in bytes: longer tokens are not found across a boundary.
const OVERLAP: usize = 4 << 10;
/// The size of a window of a body that is too long to be scanned whole, and how much of it is held back until the next
/// window was scanned, in bytes. A longer token may leave in part.
pub(super) const WINDOW: usize = 256 << 10;
pub(super) const HELD: usize = 16 << 10;
/// By how much the last piece usually exceeds a window, in bytes.
const SLACK: usize = 16 << 10;

/// How much of a run of base64 is searched at a time, in bytes.
const RUN_CHUNK: usize = 64;

/// The body of a request, in windows. A token that a window ends within is not released before its rest was scanned.
pub struct Windows {
    held: usize,
    buffer: BytesMut,
    /// How much of the buffer was scanned already.
    known: usize,
}

impl Windows {
    /// Starts a body.
    pub fn new(scanner: &Scanner) -> Self {
        Self { held: HELD.max(scanner.longest_form()), buffer: BytesMut::new(), known: 0 }
    }

    /// Adds input.
    pub fn push(&mut self, piece: &[u8]) {
        self.buffer.extend_from_slice(piece);
    }

    /// The next window to scan, if enough has arrived. `end` says that the input is complete.
    pub fn offer(&mut self, end: bool) -> Option<Bytes> {
        let fresh = self.buffer.len() - self.known;
        let due = fresh >= WINDOW || (end && fresh > 0);
        due.then(|| self.buffer.split().freeze())
    }

    /// Releases what was scanned of a window without a finding.
    pub fn accept(&mut self, mut window: Bytes, end: bool) -> Bytes {
        if end {
            return window;
        }
        let cut = aligned(&window, window.len().saturating_sub(self.held));
        let held = window.split_off(cut);
        self.known = held.len();
        // Allocates the next window at once: growing it would copy it several times.
        self.buffer = BytesMut::with_capacity(held.len() + WINDOW + SLACK);
        self.buffer.extend_from_slice(&held);
        window
    }

    /// Releases the rest at the end, which was scanned already.
    pub fn end(&mut self) -> Bytes {
        self.buffer.split().freeze()
    }
}

/// The last cut position up to `cut` that keeps base64 after it decodable: groups of four characters stay together.
pub(super) fn aligned(bytes: &[u8], cut: usize) -> usize {
    // A whole window may be one run. A chunk is searched without an early exit, many bytes at a time.
    let (rest, chunks) = bytes[..cut].as_rchunks::<RUN_CHUNK>();
    let continues = |chunk: &&[u8; RUN_CHUNK]| chunk.iter().fold(0, |any, &byte| any | u8::from(!is_base64(byte))) == 0;
    let run = chunks.iter().rev().take_while(continues).count() * RUN_CHUNK;
    let before = if run == cut - rest.len() { rest } else { &bytes[..cut - run] };
    cut - (run + before.iter().rev().take_while(|&&byte| is_base64(byte)).count()) % 4
}

/// Whether a byte is a character of base64, in either alphabet.
fn is_base64(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'-' | b'_')
}

/// A response. Only a possible beginning of a known secret is held back.
pub struct LiveStream {
    scanner: Arc<Scanner>,
    /// Released bytes that are scanned again.
    before: BytesMut,
    /// Bytes that are held back, and new ones.
    fresh: Bytes,
}

impl LiveStream {
    /// Starts a body.
    pub fn new(scanner: Arc<Scanner>) -> Self {
        Self { scanner, before: BytesMut::new(), fresh: Bytes::new() }
    }

    /// Adds input; returns the text to scan.
    pub fn offer(&mut self, piece: Bytes) -> Bytes {
        if self.fresh.is_empty() {
            self.fresh = piece;
        } else {
            self.fresh = [&self.fresh[..], &piece].concat().into();
        }
        [&self.before[..], &self.fresh].concat().into()
    }

    /// Releases what was scanned without a finding.
    pub fn accept(&mut self) -> Bytes {
        let mut leaves = std::mem::take(&mut self.fresh);
        self.before.extend_from_slice(&leaves);
        let pending = self.scanner.partial_match(&self.before).map_or(0, |pending| pending.bytes).min(leaves.len());
        self.fresh = leaves.split_off(leaves.len() - pending);
        // What is held back is part of the next text.
        self.before.truncate(self.before.len() - pending);
        let excess = self.before.len().saturating_sub(OVERLAP.max(self.scanner.longest_form()));
        let _ = self.before.split_to(excess);
        leaves
    }

    /// Releases the rest at the end: no secret was completed.
    pub fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.fresh)
    }
}

/// The overlap between messages that must not wait for each other, or between pieces of one text. Each is scanned
/// together with the end of the preceding ones. Never more than half of a secret is released, but of one that is split over the
/// strings of several JSON messages: there, the message that completes it is not.
#[derive(Clone)]
pub struct Overlap {
    before: Vec<u8>,
    /// The strings of the messages before, if they are JSON. None for the pieces of one text, in which a token may cross a
    /// boundary; two messages never form a token.
    values: Option<JoinedValues>,
}

impl Overlap {
    /// Between separate messages.
    pub fn messages() -> Self {
        Self { before: Vec::new(), values: Some(JoinedValues::default()) }
    }

    /// Between pieces of one text.
    pub fn pieces() -> Self {
        Self { before: Vec::new(), values: None }
    }

    /// Scans the boundary between a message and the preceding ones.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub fn scan_overlap(
        &self,
        scanner: &Scanner,
        message: &[u8],
        budget: &mut Budget,
    ) -> Result<Option<Finding>, Exhausted> {
        if let Some(values) = &self.values
            && let Some(finding) = values.clone().join(scanner, message, budget)?
        {
            return Ok(Some(finding));
        }
        if self.before.is_empty() {
            return Ok(None);
        }
        let text = [&self.before[..], &message[..message.len().min(OVERLAP.max(scanner.longest_form()))]].concat();
        if self.values.is_none() { scanner.scan(&text, budget) } else { scanner.scan_known(&text, budget) }
    }

    /// Records a message in which nothing was found; returns a finding if it must not be released.
    pub fn accept(&mut self, scanner: &Scanner, message: &[u8]) -> Option<Finding> {
        let overlap = OVERLAP.max(scanner.longest_form());
        self.before.extend_from_slice(&message[message.len().saturating_sub(overlap)..]);
        if scanner.partial_match(&self.before).is_some_and(PartialMatch::is_half_or_more) {
            return Some(Finding::known_secret());
        }
        let excess = self.before.len().saturating_sub(overlap);
        self.before.drain(..excess);
        // What is found was looked for before.
        let _ = self.values.as_mut().map(|values| values.join(scanner, message, &mut Budget::unbounded()));
        None
    }

    /// Scans a message before it is sent, without a limit of work.
    pub fn scan(&mut self, scanner: &Scanner, message: &[u8]) -> Option<Finding> {
        let meets = self.scan_overlap(scanner, message, &mut Budget::unbounded()).ok().flatten();
        scanner.scan_unbounded(message).or(meets).or_else(|| self.accept(scanner, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{Actions, Dlp, Rules};
    use proptest::prelude::*;

    const SECRET: &str = "correct-horse-battery-staple";

    fn scanner() -> Arc<Scanner> {
        let actions = Arc::new(Actions::new(&Dlp::default()));
        Arc::new(Scanner::new(&[SECRET.to_owned()], Arc::new(Rules::none()), actions))
    }

    fn run(scanner: &Arc<Scanner>, text: &str, cuts: &[usize]) -> (Vec<u8>, bool) {
        let mut stream = LiveStream::new(scanner.clone());
        let (mut left, mut from) = (Vec::new(), 0);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(text.len());
        for to in ends {
            let offered = stream.offer(Bytes::copy_from_slice(&text.as_bytes()[from..to]));
            if scanner.scan_unbounded(&offered).is_some() {
                return (left, true);
            }
            left.extend_from_slice(&stream.accept());
            from = to;
        }
        left.extend_from_slice(&stream.end());
        (left, false)
    }

    #[test]
    fn promise_09_of_what_windows_end_within_nothing_has_left() {
        let scanner = scanner();
        for at in (WINDOW - 2 * SECRET.len()..WINDOW + 2).chain([WINDOW - HELD - 5, WINDOW - HELD, 2 * WINDOW]) {
            let text = [vec![b'-'; at], SECRET.as_bytes().to_vec(), vec![b'-'; 3 * WINDOW]].concat();
            let (mut windows, mut left) = (Windows::new(&scanner), 0);
            let found = text.chunks(1000).any(|piece| {
                windows.push(piece);
                let Some(window) = windows.offer(false) else { return false };
                let found = scanner.scan_unbounded(&window).is_some();
                left += if found { 0 } else { windows.accept(window, false).len() };
                found
            });
            assert!(found && left <= at, "{at}: {left}");
        }
    }

    #[test]
    fn so_much_is_held_back_and_inspected_again() {
        let rules = Arc::new(Rules::providers().unwrap());
        let scanner = Arc::new(Scanner::new(&[SECRET.to_owned()], rules, Arc::new(Actions::new(&Dlp::default()))));
        let mut windows = Windows::new(&scanner);
        windows.push(&vec![b'-'; WINDOW]);
        let window = windows.offer(false).unwrap();
        assert_eq!(windows.accept(window, false).len(), WINDOW - HELD);
        // A token that a window ends within is found with the next one, and nothing of it has left.
        let token = ["ghp_", "wWPw5k4aXcaT4fNP0UcnZwJUVFk6LO0pINUx"].concat();
        for cut in 1..token.len() {
            let mut windows = Windows::new(&scanner);
            windows.push(&[&vec![b'-'; WINDOW - cut], &token.as_bytes()[..cut]].concat());
            let window = windows.offer(false).unwrap();
            assert!(scanner.scan_unbounded(&window).is_none(), "{cut}");
            assert!(windows.accept(window, false).iter().all(|&byte| byte == b'-'), "{cut}");
            windows.push(&[&token.as_bytes()[cut..], &vec![b'-'; WINDOW]].concat());
            assert!(scanner.scan_unbounded(&windows.offer(false).unwrap()).is_some(), "{cut}");
        }
        let mut overlap = Overlap::messages();
        for _ in 0..3 {
            assert_eq!(overlap.accept(&scanner, &vec![b'-'; OVERLAP - 1]), None);
        }
        assert_eq!(overlap.before.len(), OVERLAP);
    }

    #[test]
    fn windows_leave_whole_and_base_64_readable() {
        let scanner = scanner();
        let text: Vec<u8> = (0..(1_u32 << 20)).map(|at| b"abcdefghij klmnop\n"[(at % 18) as usize]).collect();
        let (mut windows, mut left) = (Windows::new(&scanner), Vec::new());
        for piece in text.chunks(777) {
            windows.push(piece);
            while let Some(window) = windows.offer(false) {
                left.extend_from_slice(&windows.accept(window, false));
            }
        }
        match windows.offer(true) {
            Some(window) => left.extend_from_slice(&windows.accept(window, true)),
            None => left.extend_from_slice(&windows.end()),
        }
        assert!(left == text);
        assert_eq!([aligned(b"..abcdefgh", 9), aligned(b"abcdefgh", 7), aligned(b"ab. ", 3)], [6, 4, 3]);
    }

    proptest! {
        #[test]
        fn promise_09_however_it_is_cut_a_secret_does_not_leave(
            before in "[a-z -]{0,50}", after in "[a-z -]{0,50}", cuts in prop::collection::vec(0_usize..200, 0..12),
        ) {
            let scanner = scanner();
            let (left, found) = run(&scanner, &format!("{before}{SECRET}{after}"), &cuts);
            prop_assert!(found);
            // At most what any text may contain of it.
            let longest = (0..=SECRET.len()).rev().find(|&n| left.ends_with(&SECRET.as_bytes()[..n])).unwrap_or(0);
            prop_assert!(longest < 4 || before.ends_with(&SECRET[..longest.min(before.len())]) , "{longest} of it left");
        }

        #[test]
        fn what_holds_no_secret_leaves_whole(text in "[a-z -]{0,300}", cuts in prop::collection::vec(0_usize..300, 0..12)) {
            prop_assume!(!text.contains(SECRET));
            let scanner = scanner();
            prop_assert_eq!(run(&scanner, &text, &cuts), (text.clone().into_bytes(), false));
        }
    }
}
