//! The keys that detach from a terminal, in docker's notation; `ctrl-p,ctrl-q` by default.

use std::str::FromStr;
use std::time::Duration;

/// How long the first detach keys are held back from the program: long enough to type the next key, short enough not to be
/// noticed.
pub(in crate::cli) const HELD: Duration = Duration::from_millis(100);

/// A sequence of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::cli) struct DetachKeys(Vec<u8>);

impl Default for DetachKeys {
    fn default() -> Self {
        Self(vec![0x10, 0x11])
    }
}

impl FromStr for DetachKeys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let key = |name: &str| {
            let byte = match name.as_bytes() {
                [byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9')] => Some(*byte),
                // What a terminal sends for them: the low five bits (ECMA-48, C0).
                [b'c', b't', b'r', b'l', b'-', byte @ (b'a'..=b'z' | b'@' | b'['..=b'_')] => Some(byte & 0x1f),
                _ => None,
            };
            let hint = "a letter, a digit, or ctrl- and one of a-z @ [ \\ ] ^ _, separated by commas: ctrl-p,ctrl-q";
            byte.ok_or_else(|| format!("{name:?} is not a key; {hint}"))
        };
        text.split(',').map(key).collect::<Result<_, _>>().map(Self)
    }
}

/// Detects the keys in typed bytes.
#[derive(Default)]
pub(in crate::cli) struct Keys {
    wanted: DetachKeys,
    /// The end of what was typed, as far as it begins the keys.
    begun: Vec<u8>,
    /// How much of that the program has got already.
    passed: usize,
}

impl Keys {
    pub(in crate::cli) fn new(wanted: DetachKeys) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Returns the bytes for the program, and whether the user detaches. A prefix of the keys is held back.
    pub(in crate::cli) fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut on = Vec::with_capacity(typed.len() + 1);
        for &byte in typed {
            self.begun.push(byte);
            while !self.wanted.0.starts_with(&self.begun) {
                let first = self.begun.remove(0);
                match self.passed.checked_sub(1) {
                    Some(left) => self.passed = left,
                    None => on.push(first),
                }
            }
            if self.begun == self.wanted.0 {
                (self.begun, self.passed) = (Vec::new(), 0);
                return (on, true);
            }
        }
        (on, false)
    }

    /// Whether bytes are held back.
    pub(in crate::cli) fn holds(&self) -> bool {
        self.passed < self.begun.len()
    }

    /// Releases the held-back bytes after a pause. The remaining keys still detach.
    pub(in crate::cli) fn pass(&mut self) -> Vec<u8> {
        let on = self.begun[self.passed..].to_vec();
        self.passed = self.begun.len();
        on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_keys_together_leave() {
        let mut keys = Keys::default();
        assert_eq!(keys.take(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.take(b"\x10"), (b"".to_vec(), false));
        assert_eq!(keys.take(b"x"), (b"\x10x".to_vec(), false));
        assert_eq!(keys.take(b"\x10\x10"), (b"\x10".to_vec(), false));
        assert_eq!(keys.take(b"\x11rest"), (b"".to_vec(), true));
        assert_eq!(keys.take(b"\x11"), (b"\x11".to_vec(), false));
    }

    #[test]
    fn what_was_held_for_too_long_is_passed_once_and_the_rest_leaves_still() {
        let mut keys = Keys::default();
        assert!(!keys.holds());
        keys.take(b"\x10");
        assert!(keys.holds());
        assert_eq!(keys.pass(), b"\x10");
        assert!(!keys.holds() && keys.pass().is_empty());
        assert_eq!(keys.take(b"x"), (b"x".to_vec(), false));
        keys.take(b"\x10");
        keys.pass();
        assert_eq!(keys.take(b"\x11"), (Vec::new(), true));
    }

    #[test]
    fn keys_that_repeat_themselves_are_found() {
        let mut keys = Keys::new("a,a,b".parse().unwrap());
        assert_eq!(keys.take(b"aaab"), (b"a".to_vec(), true));
        assert_eq!(keys.take(b"aaxaab"), (b"aax".to_vec(), true));
    }

    #[test]
    fn keys_are_named_as_docker_names_them() {
        for (text, bytes) in
            [("ctrl-p,ctrl-q", &b"\x10\x11"[..]), ("ctrl-@", b"\0"), ("a,ctrl-\\", b"a\x1c"), ("ctrl-_", b"\x1f")]
        {
            assert_eq!(text.parse::<DetachKeys>().unwrap().0, bytes, "{text}");
        }
        for text in ["", ",", "ctrl-", "ctrl-P", "ctrl-1", "ab", "a,", "ctrl-p ctrl-q", "é"] {
            assert!(text.parse::<DetachKeys>().is_err(), "{text}");
        }
    }
}
