//! A body that comes in pieces: each is looked at together with the end of what came before, and an end that may be the
//! beginning of a secret is held back until the next piece tells.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{Finding, KNOWN_SECRET, Pending, Scanner};

/// How much of what came before is looked at again with a piece, in bytes: longer tokens are not found across pieces.
const OVERLAP: usize = 4 << 10;

/// The state of one body.
pub struct Stream {
    scanner: Arc<Scanner>,
    /// What has left already, as far as it is looked at again.
    before: BytesMut,
    /// What is held back.
    held: Bytes,
}

impl Stream {
    /// A body that begins.
    pub fn new(scanner: Arc<Scanner>) -> Self {
        Self { scanner, before: BytesMut::new(), held: Bytes::new() }
    }

    /// What looks at it.
    pub fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    /// Takes a piece; what may leave now.
    ///
    /// # Errors
    /// Something must not leave: nothing of this piece has.
    pub fn push(&mut self, piece: Bytes) -> Result<Bytes, Finding> {
        let fresh = if self.held.is_empty() {
            piece
        } else {
            let mut joined = BytesMut::from(std::mem::take(&mut self.held));
            joined.extend_from_slice(&piece);
            joined.freeze()
        };
        let known = self.before.len();
        self.before.extend_from_slice(&fresh);
        if let Some(finding) = self.scanner.whole(&self.before) {
            return Err(finding);
        }
        let pending = self.scanner.pending(&self.before).map_or(0, |pending| pending.bytes).min(fresh.len());
        let (leaves, held) = (fresh.slice(..fresh.len() - pending), fresh.slice(fresh.len() - pending..));
        self.held = held;
        // What is held comes again with the next piece.
        self.before.truncate(known + leaves.len());
        let excess = self.before.len().saturating_sub(OVERLAP);
        let _ = self.before.split_to(excess);
        Ok(leaves)
    }

    /// The end: what was held back leaves, for no secret was completed.
    pub fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }
}

/// Messages that must not wait for each other: each is looked at together with the end of those before it. What has left
/// is never half of a secret.
#[derive(Default)]
pub struct Seam {
    before: Vec<u8>,
}

impl Seam {
    /// Looks at a message before it is sent: by itself, and where it meets what came before.
    pub fn look(&mut self, scanner: &Scanner, message: &[u8]) -> Option<Finding> {
        if let Some(finding) = scanner.whole(message) {
            return Some(finding);
        }
        if !self.before.is_empty() {
            let known = self.before.len();
            self.before.extend_from_slice(&message[..message.len().min(OVERLAP)]);
            if let Some(finding) = scanner.whole(&self.before) {
                return Some(finding);
            }
            self.before.truncate(known);
        }
        self.before.extend_from_slice(message);
        if scanner.pending(&self.before).is_some_and(Pending::is_half) {
            return Some(Finding { rule: KNOWN_SECRET.to_owned(), fingerprint: None });
        }
        let excess = self.before.len().saturating_sub(OVERLAP);
        self.before.drain(..excess);
        None
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
        let mut stream = Stream::new(scanner.clone());
        let (mut left, mut from) = (Vec::new(), 0);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(text.len());
        for to in ends {
            match stream.push(Bytes::copy_from_slice(&text.as_bytes()[from..to])) {
                Ok(bytes) => left.extend_from_slice(&bytes),
                Err(_) => return (left, true),
            }
            from = to;
        }
        left.extend_from_slice(&stream.end());
        (left, false)
    }

    proptest! {
        #[test]
        fn promise_09_however_it_is_cut_a_secret_does_not_leave(
            before in "[a-z -]{0,50}", after in "[a-z -]{0,50}", cuts in prop::collection::vec(0_usize..200, 0..12),
        ) {
            let scanner = scanner();
            let (left, found) = run(&scanner, &format!("{before}{SECRET}{after}"), &cuts);
            prop_assert!(found);
            // At most what every text may hold of it.
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
