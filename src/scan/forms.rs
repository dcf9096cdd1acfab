//! The forms in which tools write a secret: as it is, with escapes, and encoded.

use data_encoding::{BASE32_NOPAD, Encoding, HEXLOWER, HEXUPPER, Specification};

use super::escapes::unescape;
use super::inner::MAX_DEPTH;

/// Shorter lines of a private key are not unique to it, in bytes.
const KEY_LINE: usize = 40;

/// The base64 alphabets: RFC 4648 sections 4 and 5, RFC 3501 section 5.1.3, crypt(5).
const ALPHABETS: [&str; 4] = [
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,",
    "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
];

/// The variants of a secret that tools produce: trimmed; for several lines, with either kind of line ending, with none,
/// and with spaces instead; and each line of a private key, because a line identifies the key and may be indented.
pub(super) fn written(secret: &str) -> Vec<String> {
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
pub(super) fn plain(secret: &str) -> Vec<Vec<u8>> {
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

/// What JSON around a secret that has `%` escapes itself makes of it, and what is left of that as escapes are removed: those of
/// JSON and of URLs are removed together, so the secret's own go with the first layer. The last may be too short to be searched
/// for; then one of those before it is found. Where a form is around that, a space is a plus.
pub(super) fn resolved(secret: &str) -> Vec<Vec<u8>> {
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
            let removed = |text: &Vec<u8>| Some(unescape(text).unwrap_or_else(|| text.clone()));
            for form in std::iter::successors(Some(text.clone().into_bytes()), removed).take(depth + 1) {
                if form != secret.as_bytes() && !forms.contains(&form) {
                    forms.push(form);
                }
            }
        }
    }
    forms
}

/// The other forms of a secret.
pub(super) fn encoded(secret: &str) -> Vec<Vec<u8>> {
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
