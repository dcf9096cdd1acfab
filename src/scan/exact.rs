//! Searches for known secrets in all of their encodings at once (promise 9).

use std::cmp::Reverse;
use std::ops::Range;

use data_encoding::{BASE32_NOPAD, Encoding, HEXLOWER, HEXUPPER, Specification};

use super::inner::{MAX_DEPTH, unescape};

/// Shorter values occur in ordinary text and are not searched for, in bytes.
pub const MIN_SECRET: usize = 8;
/// Maximum number of secrets.
const MAX_SECRETS: usize = 200;
/// The length of the words in the hash table, in bytes.
const HELD: usize = 4;
/// Shorter lines of a private key are not unique to it, in bytes.
const KEY_LINE: usize = 40;

/// The base64 alphabets: RFC 4648 sections 4 and 5, RFC 3501 section 5.1.3, crypt(5).
const ALPHABETS: [&str; 4] = [
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,",
    "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
];

/// The encoded forms of all secrets, and a hash table that rules out most positions of a text.
pub struct ExactMatcher {
    /// A bit for the hash of each four-byte word that begins in the first four bytes of a form. So only every fourth
    /// position of a text has to be looked up.
    table: Vec<u64>,
    /// By how many bits a hash is shifted to become a table index.
    shift: u32,
    /// Sorted.
    forms: Vec<Vec<u8>>,
    /// Whether each form is plain text, at most with escapes.
    plain: Vec<bool>,
    longest: usize,
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

/// The size of the table index, in bits: small enough for the processor's cache, larger for many secrets.
const MIN_BITS: u32 = 18;
const MAX_BITS: u32 = 22;

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
        // At most one bit in sixty-four is set.
        let bits = (forms.len() * HELD * 64).next_power_of_two().ilog2().clamp(MIN_BITS, MAX_BITS);
        let mut exact = Self { table: Vec::new(), shift: u32::BITS - bits, forms, plain, longest };
        if !exact.forms.is_empty() {
            exact.table = vec![0; 1 << (bits - 6)];
        }
        for form in 0..exact.forms.len() {
            for word in exact.forms[form].windows(HELD).take(HELD) {
                let place = exact.place([word[0], word[1], word[2], word[3]]);
                exact.table[place / 64] |= 1 << (place % 64);
            }
        }
        exact
    }

    /// The table index of a word.
    fn place(&self, word: [u8; HELD]) -> usize {
        (u32::from_le_bytes(word).wrapping_mul(0x9E37_79B1) >> self.shift) as usize
    }

    fn may_be(&self, word: [u8; HELD]) -> bool {
        let place = self.place(word);
        self.table[place / 64] & (1 << (place % 64)) != 0
    }

    /// Whether there are no secrets.
    pub fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    /// The length of the longest form, in bytes.
    pub fn longest_form(&self) -> usize {
        self.longest
    }

    /// Whether the text contains a secret, in any form.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        if self.table.is_empty() {
            return false;
        }
        let (words, _) = bytes.as_chunks::<HELD>();
        // Eight words at a time: usually none of them is in the table.
        words.chunks(8).enumerate().any(|(chunk, words)| {
            words.iter().fold(false, |any, word| any | self.may_be(*word))
                && words.iter().enumerate().any(|(index, word)| {
                    let at = (chunk * 8 + index) * HELD;
                    self.may_be(*word) && (at.saturating_sub(HELD - 1)..=at).any(|start| self.begins(&bytes[start..]))
                })
        })
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
        if self.table.is_empty() {
            return None;
        }
        let (words, _) = bytes.as_chunks::<HELD>();
        words.chunks(8).enumerate().find_map(|(chunk, words)| {
            if !words.iter().fold(false, |any, word| any | self.may_be(*word)) {
                return None;
            }
            words.iter().enumerate().filter(|(_, word)| self.may_be(**word)).find_map(|(index, _)| {
                let at = (chunk * 8 + index) * HELD;
                (at.saturating_sub(HELD - 1)..=at).find_map(|start| Some((start, self.form_at(&bytes[start..])?)))
            })
        })
    }

    /// Whether a form begins here.
    fn begins(&self, rest: &[u8]) -> bool {
        self.form_at(rest).is_some()
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
        if self.table.is_empty() {
            return None;
        }
        let from = bytes.len().saturating_sub(self.longest);
        (from..bytes.len()).find_map(|start| {
            let rest = &bytes[start..];
            if rest.first_chunk::<HELD>().is_some_and(|word| !self.may_be(*word)) {
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
        if self.table.is_empty() {
            return None;
        }
        let tail = &bytes[bytes.len().saturating_sub(self.longest)..];
        let words = tail.windows(HELD).enumerate();
        let starts = words.filter(|(_, word)| self.may_be([word[0], word[1], word[2], word[3]]));
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

/// The variants of a secret that tools produce: trimmed; for several lines, with either kind of line ending, with none,
/// and with spaces instead; and each line of a private key, because a line identifies the key and may be indented.
fn written(secret: &str) -> Vec<String> {
    let text = secret.trim();
    let mut all = vec![secret.to_owned(), text.to_owned()];
    // In JSON, the line endings of a key are escaped.
    let plain = text.replace("\\n", "\n").replace("\r\n", "\n");
    if plain.contains('\n') {
        let unix = text.replace("\r\n", "\n");
        all.extend([unix.replace('\n', "\r\n"), unix.replace('\n', ""), unix.replace('\n', " "), unix]);
        let mut inside = false;
        for line in plain.lines().map(str::trim) {
            if line.contains("PRIVATE KEY-----") {
                inside = line.contains("-----BEGIN ");
            } else if inside && line.len() >= KEY_LINE {
                all.push(line.to_owned());
            }
        }
    }
    all
}

/// The forms of a secret. Two secrets of the same characters, but for letters and digits, have the same forms in the
/// same order.
pub fn forms(secret: &str) -> Vec<Vec<u8>> {
    [plain(secret), encoded(secret)].concat()
}

/// The forms in which a secret is plain text, as it is or with escapes: each of its characters is by itself.
fn plain(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let mut forms = vec![bytes.to_vec()];
    // Percent-encoding of every byte, or only of those that a URL must escape; with digits in both cases.
    let percent = |all: bool, upper: bool| -> Vec<u8> {
        let escape = |byte: u8| if upper { format!("%{byte:02X}") } else { format!("%{byte:02x}") };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let one = |&byte: &u8| if !all && plain(byte) { char::from(byte).to_string() } else { escape(byte) };
        bytes.iter().map(one).collect::<String>().into_bytes()
    };
    forms.extend([percent(true, true), percent(true, false), percent(false, true), percent(false, false)]);
    if secret.contains(' ') {
        // Forms and queries encode a space as a plus.
        for upper in [true, false] {
            let text = String::from_utf8_lossy(&percent(false, upper)).replace("%20", "+");
            forms.push(text.into_bytes());
        }
        // The same after the other escapes were resolved.
        forms.push(secret.replace(' ', "+").into_bytes());
    }
    // JSON: the usual escapes, and every UTF-16 unit as \uXXXX.
    if let Ok(quoted) = serde_json::to_string(secret) {
        forms.push(quoted.trim_matches('"').replace('/', "\\/").into_bytes());
        forms.push(quoted.as_bytes()[1..quoted.len() - 1].to_vec());
    }
    let units = || secret.encode_utf16();
    forms.push(units().flat_map(|unit| format!("\\u{unit:04x}").into_bytes()).collect());
    forms.push(units().flat_map(|unit| format!("\\u{unit:04X}").into_bytes()).collect());
    forms
}

/// What the escapes' removal makes of a secret that has `%` escapes itself: JSON escapes and those of URLs are removed
/// together, so the secret's own go with the first layer of JSON around it. Where a form is around that, a space is a plus.
fn resolved(secret: &str) -> Vec<Vec<u8>> {
    if !secret.contains('%') {
        return Vec::new();
    }
    let mut forms = Vec::new();
    // In this order: the secret's own escapes may be spaces.
    for written in [secret.to_owned(), secret.replace(' ', "+")] {
        let mut text = written;
        for depth in 1..=MAX_DEPTH {
            let Ok(quoted) = serde_json::to_string(&text) else { break };
            quoted[1..quoted.len() - 1].clone_into(&mut text);
            let removed = (0..depth).fold(text.clone().into_bytes(), |text, _| unescape(&text).unwrap_or(text));
            if removed != secret.as_bytes() && !forms.contains(&removed) {
                forms.push(removed);
            }
        }
    }
    forms
}

/// The other forms of a secret.
fn encoded(secret: &str) -> Vec<Vec<u8>> {
    let bytes = secret.as_bytes();
    let mut forms: Vec<Vec<u8>> = vec![bytes.iter().rev().copied().collect()];
    if secret.contains(' ') {
        forms.push(forms[0].iter().map(|&byte| if byte == b' ' { b'+' } else { byte }).collect());
    }
    forms.extend(base64(bytes));
    forms.extend(base32(bytes));
    forms.extend([HEXLOWER.encode(bytes), HEXUPPER.encode(bytes)].map(String::into_bytes));
    forms.push(secret.encode_utf16().flat_map(u16::to_le_bytes).collect());
    forms.push(secret.encode_utf16().flat_map(u16::to_be_bytes).collect());
    forms
}

/// The base64 characters that depend on the secret alone, for every alignment.
fn base64(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Vec::new();
    for symbols in ALPHABETS {
        let mut specification = Specification::new();
        specification.symbols.push_str(symbols);
        let Ok(encoding) = specification.encoding() else { continue };
        forms.extend((0..3).map(|offset| aligned(bytes, &encoding, offset, 6)));
    }
    forms
}

fn base32(bytes: &[u8]) -> Vec<Vec<u8>> {
    let upper = (0..5).map(|offset| aligned(bytes, &BASE32_NOPAD, offset, 5));
    upper.flat_map(|form| [form.to_ascii_lowercase(), form]).collect()
}

/// Encodes the bytes at an offset, and keeps the characters that neither the bytes before nor those after influence.
fn aligned(bytes: &[u8], encoding: &Encoding, offset: usize, bits: usize) -> Vec<u8> {
    let padded = [vec![0; offset], bytes.to_vec()].concat();
    let text = encoding.encode(&padded).into_bytes();
    let (from, to) = ((offset * 8).div_ceil(bits), padded.len() * 8 / bits);
    text[from..to.max(from)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;
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
