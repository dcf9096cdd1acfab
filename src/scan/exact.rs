//! Searches for known secrets in all of their encodings at once (promise 9).

use std::cmp::Reverse;
use std::ops::Range;

use super::escapes::next_escape;
use super::forms::{encoded, plain, resolved, written};
use super::runs::MIN_LINE;

/// Shorter values occur in ordinary text and are not searched for, in bytes.
pub const MIN_SECRET: usize = 8;
/// Maximum number of secrets.
const MAX_SECRETS: usize = 200;
/// The longest escape, in bytes.
const ESCAPE: usize = 12;
/// The length of the words in the hash table, in bytes.
const HELD: usize = 4;

/// The encoded forms of all secrets, and a hash table that rules out most positions of a text.
pub struct ExactMatcher {
    /// The words that begin in the first `stride` bytes of a form: only every `stride`-th position of a text is looked up.
    early: Words,
    /// The first words of forms.
    first: Words,
    stride: Stride,
    /// Sorted.
    forms: Vec<Vec<u8>>,
    /// Whether each form is plain text, at most with escapes.
    plain: Vec<bool>,
    longest: usize,
    reach: usize,
}

/// How far the positions that are looked up are apart, so that each form has one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stride {
    Four,
    Eight,
    Sixteen,
}

impl Stride {
    /// The longest for forms of at least this length.
    fn of(shortest: usize) -> Self {
        match shortest {
            ..11 => Self::Four,
            11..19 => Self::Eight,
            19.. => Self::Sixteen,
        }
    }

    fn bytes(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
            Self::Sixteen => 16,
        }
    }
}

/// A prefix of a secret at the end of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialMatch {
    /// The length of the prefix, in bytes.
    pub bytes: usize,
    /// The length of the shortest form with that prefix, in bytes.
    pub of: usize,
}

impl PartialMatch {
    /// Whether the prefix is at least half of the secret.
    pub fn is_half_or_more(self) -> bool {
        self.bytes * 2 >= self.of
    }
}

/// The size of a table's index, in bits: small enough for the processor's cache, larger for many secrets.
const MIN_BITS: u32 = 16;
const MAX_BITS: u32 = 22;
/// How many positions are looked up together.
const TOGETHER: usize = 8;

/// A set of words of four bytes, by their hashes: it may have others as well.
struct Words {
    table: Vec<u64>,
    /// By how many bits a hash is shifted to become a table index.
    shift: u32,
}

impl Words {
    fn of(count: usize, words: impl Iterator<Item = [u8; HELD]>) -> Self {
        if count == 0 {
            return Self { table: Vec::new(), shift: 0 };
        }
        // At most one bit in thirty-two is set.
        let bits = (count * 32).next_power_of_two().ilog2().clamp(MIN_BITS, MAX_BITS);
        let mut all = Self { table: vec![0; 1 << (bits - 6)], shift: u32::BITS - bits };
        for word in words {
            let place = all.place(word);
            all.table[place / 64] |= 1 << (place % 64);
        }
        all
    }

    #[inline]
    fn place(&self, word: [u8; HELD]) -> usize {
        (u32::from_le_bytes(word).wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    #[inline]
    fn may_have(&self, word: [u8; HELD]) -> bool {
        let place = self.place(word);
        self.table[place / 64] & (1 << (place % 64)) != 0
    }
}

impl ExactMatcher {
    /// Builds the matcher; secrets that are too short are left out.
    pub fn new(secrets: &[String]) -> Self {
        let long = secrets.iter().filter(|secret| secret.len() >= MIN_SECRET).take(MAX_SECRETS);
        let written = long.flat_map(|secret| written(secret));
        let mut all: Vec<(Vec<u8>, Reverse<bool>)> = written
            .flat_map(|text| {
                let plain = plain(&text).into_iter().chain(resolved(&text)).map(|form| (form, Reverse(true)));
                let reversed: String = text.chars().rev().collect();
                let encoded = encoded(&text).into_iter().chain(resolved(&reversed));
                plain.chain(encoded.map(|form| (form, Reverse(false)))).collect::<Vec<_>>()
            })
            .collect();
        all.retain(|(form, _)| form.len() >= MIN_SECRET);
        all.sort_unstable();
        // Of equal forms, the plain one stays.
        all.dedup_by(|other, first| other.0 == first.0);
        let (forms, plain): (Vec<Vec<u8>>, Vec<bool>) = all.into_iter().map(|(form, plain)| (form, plain.0)).unzip();
        let longest = forms.iter().map(Vec::len).max().unwrap_or_default();
        let stride = Stride::of(forms.iter().map(Vec::len).min().unwrap_or_default());
        let words = |form: &Vec<u8>, most: usize| -> Vec<[u8; HELD]> {
            form.windows(HELD).take(most).map(|word| [word[0], word[1], word[2], word[3]]).collect()
        };
        let table = |most: usize| Words::of(forms.len() * most, forms.iter().flat_map(|form| words(form, most)));
        let (early, first, reach) = (table(stride.bytes()), table(1), reach(&forms));
        Self { early, first, stride, forms, plain, longest, reach }
    }

    /// Whether there are no secrets.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// The length of the longest form, in bytes.
    pub fn longest_form(&self) -> usize {
        self.longest
    }

    /// How much text without escapes may be within a form, or before or behind its escapes, in bytes; with the line ends that
    /// wrapped base64 has there.
    pub(super) fn reach(&self) -> usize {
        self.reach
    }

    /// Whether the text contains a secret, in any form.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.find_form(bytes).is_some()
    }

    /// The first place of a secret in the text, with the longest form that is there.
    pub fn find(&self, bytes: &[u8]) -> Option<(usize, &[u8])> {
        self.find_form(bytes).map(|(start, form)| (start, self.forms[form].as_slice()))
    }

    /// Every place of a secret in the text, in the longest form that begins there, and whether that is plain text.
    pub(super) fn places<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (Range<usize>, bool)> + 'a {
        let mut from = 0;
        std::iter::from_fn(move || {
            let (start, form) = self.find_form(bytes.get(from..)?)?;
            let start = from + start;
            from = start + 1;
            Some((start..start + self.forms[form].len(), self.plain[form]))
        })
    }

    /// The first place of a secret, and the index of the longest form that is there.
    fn find_form(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        if self.is_empty() {
            return None;
        }
        match self.stride {
            Stride::Four => self.find_by::<4>(bytes),
            Stride::Eight => self.find_by::<8>(bytes),
            Stride::Sixteen => self.find_by::<16>(bytes),
        }
    }

    /// The same, with a position for each block of `STRIDE` bytes.
    fn find_by<const STRIDE: usize>(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let (blocks, rest) = bytes.as_chunks::<STRIDE>();
        let may_be = |block: &[u8; STRIDE]| self.early.may_have([block[0], block[1], block[2], block[3]]);
        // Several at a time: usually none of them is in the table.
        let found = blocks.chunks(TOGETHER).enumerate().find_map(|(chunk, blocks)| {
            if !blocks.iter().fold(false, |any, block| any | may_be(block)) {
                return None;
            }
            let early = blocks.iter().enumerate().filter(|(_, block)| may_be(block));
            early.map(|(index, _)| (chunk * TOGETHER + index) * STRIDE).find_map(|at| self.form_around(bytes, at))
        });
        found.or_else(|| {
            let word = rest.first_chunk().filter(|word| self.early.may_have(**word));
            word.and_then(|_| self.form_around(bytes, blocks.len() * STRIDE))
        })
    }

    /// The first form that begins here, or so short before that only this position was looked up in it.
    fn form_around(&self, bytes: &[u8], at: usize) -> Option<(usize, usize)> {
        (at.saturating_sub(self.stride.bytes() - 1)..=at).find_map(|start| {
            let rest = &bytes[start..];
            if !self.first.may_have(*rest.first_chunk()?) {
                return None;
            }
            Some((start, self.form_at(rest)?))
        })
    }

    /// The longest form that begins here.
    fn form_at(&self, rest: &[u8]) -> Option<usize> {
        // Forms are sorted: the last one that is not greater than the text is a prefix of it, or an earlier one with
        // the same first word is. Of several prefixes, the last one is the longest.
        let behind = self.forms.partition_point(|form| form.as_slice() <= rest);
        let near = self.forms[..behind].iter().rev().take_while(|form| rest.starts_with(&form[..HELD]));
        near.zip((0..behind).rev()).find(|(form, _)| rest.starts_with(form)).map(|(_, index)| index)
    }

    /// Where the end of the text may be the beginning of a secret: the first such place, and the shortest form that
    /// begins there. Unlike [`Self::partial_match`], it finds beginnings of any length.
    pub fn open_end(&self, bytes: &[u8]) -> Option<(usize, &[u8])> {
        if self.is_empty() {
            return None;
        }
        let from = bytes.len().saturating_sub(self.longest);
        (from..bytes.len()).find_map(|start| {
            let rest = &bytes[start..];
            if rest.first_chunk::<HELD>().is_some_and(|word| !self.first.may_have(*word)) {
                return None;
            }
            let first = self.forms.partition_point(|form| form.as_slice() < rest);
            let longer = self.forms[first..].iter().take_while(|form| form.starts_with(rest));
            let form = longer.filter(|form| form.len() > rest.len()).min_by_key(|form| form.len())?;
            Some((start, form.as_slice()))
        })
    }

    /// The longest prefix of a secret at the end of the text.
    pub fn partial_match(&self, bytes: &[u8]) -> Option<PartialMatch> {
        if self.is_empty() {
            return None;
        }
        let tail = &bytes[bytes.len().saturating_sub(self.longest)..];
        let words = tail.windows(HELD).enumerate();
        let starts = words.filter(|(_, word)| self.first.may_have([word[0], word[1], word[2], word[3]]));
        starts.map(|(start, _)| start).find_map(|start| {
            let rest = &tail[start..];
            // Forms are sorted: those that begin with `rest` are adjacent.
            let first = self.forms.partition_point(|form| form.as_slice() < rest);
            let longer = self.forms[first..].iter().take_while(|form| form.starts_with(rest));
            let of = longer.map(Vec::len).filter(|&length| length > rest.len()).min()?;
            Some(PartialMatch { bytes: rest.len(), of })
        })
    }
}

impl ExactMatcher {
    /// How many bytes at the end must be searched again together with what follows, to find a secret that crosses the
    /// boundary.
    pub fn tail(&self, bytes: &[u8]) -> usize {
        let short = (HELD - 1).min(bytes.len());
        self.partial_match(bytes).map_or(short, |pending| pending.bytes.max(short))
    }
}

/// See [`ExactMatcher::reach`].
fn reach(forms: &[Vec<u8>]) -> usize {
    // A text with zeros is resolved as a whole.
    let narrow = forms.iter().filter(|form| !form.contains(&0));
    let longest = narrow.map(|form| {
        let (mut from, mut longest) = (0, 0);
        while let Some(at) = next_escape(form, from) {
            longest = longest.max(at - from);
            from = at + 1;
        }
        longest.max(form.len() - from)
    });
    let longest = longest.max().unwrap_or_default();
    // An escape that stands in a form was made by another one, of which it has at least a byte. A line end is of two bytes;
    // whether it is one that is joined depends on the line before it.
    longest + ESCAPE + 2 * longest.div_ceil(MIN_LINE) + MIN_LINE + 4
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::{BASE32_NOPAD, HEXLOWER, HEXUPPER};
    use proptest::prelude::*;

    const SECRET: &str = "pa$$w0rd/with\"quotes+and=signs";

    fn exact() -> ExactMatcher {
        ExactMatcher::new(&[SECRET.to_owned(), "short".to_owned()])
    }

    #[test]
    fn promise_09_every_encoding_is_found_at_every_alignment() {
        let exact = exact();
        for before in 0..7 {
            let text = format!("{}{SECRET}{}", "x".repeat(before), "after");
            let bytes = text.as_bytes();
            let encoded = [
                text.clone(),
                data_encoding::BASE64.encode(bytes),
                data_encoding::BASE64URL_NOPAD.encode(bytes),
                BASE32_NOPAD.encode(bytes),
                BASE32_NOPAD.encode(bytes).to_lowercase(),
                HEXLOWER.encode(bytes),
                HEXUPPER.encode(bytes),
                serde_json::to_string(&text).unwrap(),
                text.chars().rev().collect(),
                url::form_urlencoded::byte_serialize(bytes).collect(),
                bytes.iter().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat(),
                text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect::<Vec<_>>().concat(),
            ];
            for text in encoded {
                assert!(exact.matches(text.as_bytes()), "{before}: {text}");
            }
            for text in [
                text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
                text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            ] {
                assert!(exact.matches(&text));
            }
        }
        assert!(!exact.matches(b"a short text without any of it, pa$$w0rd alone"));
    }

    #[test]
    fn promise_09_secrets_of_several_words_and_lines_are_found_as_forms_have_them() {
        let lines = [
            "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
            "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu",
        ];
        let key = format!("-----BEGIN PRIVATE KEY-----\n{}\n{}\n-----END PRIVATE KEY-----\n", lines[0], lines[1]);
        let account =
            serde_json::to_string_pretty(&serde_json::json!({"type": "service_account", "private_key": key})).unwrap();
        let exact = ExactMatcher::new(&["correct horse battery".to_owned(), key.clone(), account.clone()]);
        let form = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let windows = |text: &str| text.replace('\n', "\r\n");
        for text in [
            "a=correct+horse+battery&b".to_owned(),
            form(&key),
            form(&account),
            form(&windows(&key)),
            form(&windows(&account)),
            windows(&account),
            key.trim().to_owned(),
            key.replace('\n', ""),
            key.replace('\n', "\n    "),
            data_encoding::BASE64.encode(windows(&key).as_bytes()),
            serde_json::to_string(&key).unwrap(),
            format!("only a line: {}", lines[1]),
        ] {
            assert!(exact.matches(text.as_bytes()), "{text}");
        }
        assert!(!exact.matches(b"-----BEGIN PRIVATE KEY-----\n{\n  \"type\": \"service_account\",\n"));
    }

    #[test]
    fn promise_09_secrets_of_every_length_are_found_at_every_place() {
        for length in MIN_SECRET..40 {
            // No two words of it are the same.
            let secret: String = "0aZ1bY2cX3dW4eV5fU6gT7hS8iR9jQkPlOmNnMoLp"[..length].to_owned();
            let exact = ExactMatcher::new(std::slice::from_ref(&secret));
            for before in 0..=2 * length {
                for behind in [0, 1, 20] {
                    let text = format!("{}{secret}{}", "-".repeat(before), "-".repeat(behind));
                    assert_eq!(exact.find(text.as_bytes()), Some((before, secret.as_bytes())), "{text}");
                    assert!(!exact.matches(&text.as_bytes()[..before + length - 1]), "{text}");
                }
            }
        }
    }

    #[test]
    fn so_many_secrets_of_such_a_length_are_searched_for() {
        let secret = |number: usize| format!("secret-{number:05}-of-many");
        let exact = ExactMatcher::new(&(0..=MAX_SECRETS).map(secret).collect::<Vec<_>>());
        assert!((0..MAX_SECRETS).all(|number| exact.matches(secret(number).as_bytes())));
        assert!(!exact.matches(secret(MAX_SECRETS).as_bytes()));
        // Short ones do not count.
        let short = std::iter::repeat_n("x".repeat(MIN_SECRET - 1), MAX_SECRETS);
        let exact = ExactMatcher::new(&short.chain(["y".repeat(MIN_SECRET)]).collect::<Vec<_>>());
        assert!(exact.matches("y".repeat(MIN_SECRET).as_bytes()));
        assert!(!exact.matches("x".repeat(MIN_SECRET).as_bytes()));
    }

    proptest! {
        #[test]
        fn a_secret_is_found_where_it_begins_and_its_beginning_at_the_end(
            cut in 1..SECRET.len(), before in "[a-oq-z ]{0,40}", after in "[a-z ]{0,9}",
        ) {
            let exact = exact();
            let whole = format!("{before}{SECRET}{after}");
            prop_assert_eq!(exact.find(whole.as_bytes()), Some((before.len(), SECRET.as_bytes())));
            let piece = format!("{before}{}", &SECRET[..cut]);
            prop_assert_eq!(exact.find(piece.as_bytes()), None);
            let (start, form) = exact.open_end(piece.as_bytes()).unwrap();
            prop_assert!(start <= before.len() && form.starts_with(&piece.as_bytes()[start..]), "{piece:?}: {start}");
        }

        #[test]
        fn what_is_held_back_is_what_a_secret_may_begin_with(cut in 1..SECRET.len(), before in "[a-z ]{0,40}") {
            let piece = format!("{before}{}", &SECRET[..cut]);
            let pending = exact().partial_match(piece.as_bytes()).map_or(0, |pending| pending.bytes);
            if cut >= HELD {
                prop_assert!(pending >= cut, "{piece:?}: {pending}");
            }
            prop_assert!(pending <= piece.len());
        }
    }
}
