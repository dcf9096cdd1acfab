//! Messages that carry a secret: a secret with what tools stumble over in it, an encoding of it, further encodings around that,
//! and noise beside it. Secrets are made from a seed, so that a fuzzer cannot write them into the noise.

use std::io::Write;

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD, Encoding, HEXLOWER, HEXUPPER, Specification};
use libfuzzer_sys::arbitrary::{Arbitrary, Result, Unstructured};

/// Forms of a secret that are searched for as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Plain,
    Base64 { alphabet: u8, before: u8, behind: u8 },
    Base32 { lower: bool, before: u8 },
    Hex { upper: bool },
    Percent { all: bool, upper: bool },
    Pluses,
    Json,
    Units { upper: bool },
    Utf16 { big: bool },
    Reversed,
}

/// What may be around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outer {
    Json,
    Units,
    Percent,
    /// As a form has it: with pluses for spaces.
    Form,
    Base64,
    Base64Url,
    Hex,
    /// UTF-16.
    Wide {
        big: bool,
    },
    Gzip,
}

/// A message without its carrier.
#[derive(Debug)]
pub struct Message {
    pub secret: String,
    pub form: Form,
    pub outer: Vec<Outer>,
    before: String,
    behind: String,
}

impl<'a> Arbitrary<'a> for Message {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let secret = secret(u.int_in_range(0..=7)?, u.arbitrary()?);
        let form = u.arbitrary()?;
        let outer = (0..u.int_in_range(0..=3)?).map(|_| u.arbitrary()).collect::<Result<_>>()?;
        Ok(Self { secret, form, outer, before: noise(u)?, behind: noise(u)? })
    }
}

impl<'a> Arbitrary<'a> for Form {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let (one, other, upper) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        Ok(match u.int_in_range(0..=9)? {
            0 => Self::Plain,
            1 => Self::Base64 { alphabet: one, before: other, behind: one >> 2 },
            2 => Self::Base32 { lower: upper, before: other },
            3 => Self::Hex { upper },
            4 => Self::Percent { all: one & 1 == 1, upper },
            5 => Self::Pluses,
            6 => Self::Json,
            7 => Self::Units { upper },
            8 => Self::Utf16 { big: upper },
            _ => Self::Reversed,
        })
    }
}

impl<'a> Arbitrary<'a> for Outer {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let all = [
            Self::Json,
            Self::Units,
            Self::Percent,
            Self::Form,
            Self::Base64,
            Self::Base64Url,
            Self::Hex,
            Self::Wide { big: false },
            Self::Wide { big: true },
            Self::Gzip,
        ];
        u.choose(&all).copied()
    }
}

/// Text that has nothing of a secret: those begin with other letters.
pub fn noise(u: &mut Unstructured<'_>) -> Result<String> {
    const LETTERS: &[u8] = b"aeiou aeiou ,.;:!?()[]{}'\"\n\t\\%=&-_/+";
    let length = u.int_in_range(0..=60)?;
    (0..length).map(|_| u.choose(LETTERS).map(|byte| char::from(*byte))).collect()
}

/// A secret of a kind, from a seed.
fn secret(kind: u8, seed: u64) -> String {
    let mut state = seed | 1;
    let mut letters = |count: usize| -> String {
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b"bcdfghjklmnpqrstvwxyzBCDFGHJKLMNPQRSTVWXYZ0123456789"[(state >> 33) as usize % 52])
        };
        (0..count).map(|_| next()).collect()
    };
    let length = 8 + (seed >> 60) as usize;
    match kind {
        0 => letters(12 + length),
        1 => format!("{} {} {}", letters(6), letters(length), letters(5)),
        2 => format!("{}\r\n{}\r\n", letters(20), letters(length)),
        3 => {
            let lines: Vec<String> = (0..3).map(|_| letters(64)).collect();
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"))
        }
        4 => format!("{{\"{}\": \"{}\\n{}\"}}", letters(4), letters(length), letters(9)),
        5 => format!("{}%{}\\{}/{}", letters(5), letters(length), letters(4), letters(3)),
        6 => format!("{}$\"{}'+{}=&{}", letters(5), letters(length), letters(4), letters(3)),
        _ => format!("{}\u{e4}{}\u{20ac}{}", letters(6), letters(length), letters(5)),
    }
}

/// Another text of the same length and alphabet.
pub fn twin(secret: &str) -> String {
    let other = |letter: char| match letter {
        '0'..='9' => char::from((letter as u8 - b'0' + 5) % 10 + b'0'),
        'a'..='z' => char::from((letter as u8 - b'a' + 13) % 26 + b'a'),
        'A'..='Z' => char::from((letter as u8 - b'A' + 13) % 26 + b'A'),
        other => other,
    };
    // The frame of a key is no secret, and makes of what is in it one.
    let framed = secret.contains("PRIVATE KEY");
    let line =
        |line: &str| if framed && line.contains('-') { line.to_owned() } else { line.chars().map(other).collect() };
    secret.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

impl Message {
    /// The bytes with this secret, as the form and what is around it write them.
    pub fn bytes(&self, secret: &str) -> Vec<u8> {
        let mut bytes = self.form.write(secret);
        let mut wide = matches!(self.form, Form::Utf16 { .. });
        for outer in &self.outer {
            // Apart from what is beside it, as the receiver's parser needs it; nothing else is beside wide text.
            let apart = [self.before.as_bytes(), b" ", &bytes, b" ", self.behind.as_bytes()].concat();
            bytes = outer.write(if wide { &bytes } else { &apart });
            wide = matches!(outer, Outer::Wide { .. });
        }
        [self.before.as_bytes(), b" ", &bytes, b" ", self.behind.as_bytes()].concat()
    }

    /// Whether all of it is text, for carriers that are.
    pub fn is_text(&self) -> bool {
        let is_wide = match self.outer.last() {
            None => matches!(self.form, Form::Utf16 { .. }),
            Some(outer) => matches!(outer, Outer::Wide { .. }),
        };
        !is_wide && !self.outer.contains(&Outer::Gzip)
    }

    /// Whether it is looked through: binary data is not found in encodings of text, nor in the middle of others.
    pub fn is_looked_through(&self) -> bool {
        let is_wide = |outer: &Outer| matches!(outer, Outer::Wide { .. });
        // Wide text is found as bytes, and in encodings that begin with it.
        let opens = |outer: Option<&Outer>| {
            matches!(outer, None | Some(Outer::Base64 | Outer::Base64Url | Outer::Hex | Outer::Percent))
        };
        let first = !matches!(self.form, Form::Utf16 { .. }) || opens(self.outer.first());
        let others = self.outer.iter().enumerate().filter(|(_, outer)| is_wide(outer));
        !self.outer.contains(&Outer::Gzip)
            && first
            && others.clone().all(|(at, _)| opens(self.outer.get(at + 1)))
            // Only Latin letters are read in it.
            && (others.count() == 0 || self.secret.is_ascii())
    }
}

impl Form {
    pub fn write(self, secret: &str) -> Vec<u8> {
        const ALPHABETS: [&str; 4] = ["+/", "-_", "+,", "./"];
        let bytes = secret.as_bytes();
        let beside = |count: u8| vec![b'e'; usize::from(count % 7)];
        match self {
            Self::Plain => bytes.to_vec(),
            Self::Base64 { alphabet, before, behind } => {
                let text = [beside(before), bytes.to_vec(), beside(behind)].concat();
                base64(ALPHABETS[usize::from(alphabet % 4)]).encode(&text).into_bytes()
            }
            Self::Base32 { lower, before } => {
                let text = BASE32_NOPAD.encode(&[beside(before), bytes.to_vec()].concat());
                if lower { text.to_lowercase().into_bytes() } else { text.into_bytes() }
            }
            Self::Hex { upper } => if upper { HEXUPPER.encode(bytes) } else { HEXLOWER.encode(bytes) }.into_bytes(),
            Self::Percent { all, upper } => percent(bytes, all, upper),
            Self::Pluses => {
                String::from_utf8(percent(bytes, false, true)).expect("it is ASCII").replace("%20", "+").into_bytes()
            }
            Self::Json => json(secret),
            Self::Units { upper } => units(secret, upper),
            Self::Utf16 { big } => {
                let bytes = if big { u16::to_be_bytes } else { u16::to_le_bytes };
                secret.encode_utf16().flat_map(bytes).collect()
            }
            Self::Reversed => bytes.iter().rev().copied().collect(),
        }
    }
}

impl Outer {
    fn write(self, bytes: &[u8]) -> Vec<u8> {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        match self {
            Self::Json => json(&text()),
            Self::Units => units(&text(), false),
            Self::Percent => percent(bytes, false, true),
            Self::Form => String::from_utf8_lossy(&percent(bytes, false, true)).replace("%20", "+").into_bytes(),
            Self::Wide { big } => {
                text().encode_utf16().flat_map(if big { u16::to_be_bytes } else { u16::to_le_bytes }).collect()
            }
            Self::Base64 => BASE64.encode(bytes).into_bytes(),
            Self::Base64Url => BASE64URL_NOPAD.encode(bytes).into_bytes(),
            Self::Hex => HEXLOWER.encode(bytes).into_bytes(),
            Self::Gzip => gzip(bytes),
        }
    }
}

fn base64(last: &str) -> Encoding {
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut specification = Specification::new();
    specification.symbols = match last {
        "./" => format!("./0123456789{letters}"),
        last => format!("{letters}0123456789{last}"),
    };
    specification.encoding().expect("it is an alphabet")
}

pub fn percent(bytes: &[u8], all: bool, upper: bool) -> Vec<u8> {
    let plain = |byte: u8| !all && (byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let one = |&byte: &u8| match byte {
        byte if plain(byte) => char::from(byte).to_string(),
        byte if upper => format!("%{byte:02X}"),
        byte => format!("%{byte:02x}"),
    };
    bytes.iter().map(one).collect::<String>().into_bytes()
}

pub fn json(text: &str) -> Vec<u8> {
    let quoted = serde_json::to_string(text).expect("it is text");
    quoted.as_bytes()[1..quoted.len() - 1].to_vec()
}

fn units(text: &str, upper: bool) -> Vec<u8> {
    let one = |unit: u16| if upper { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
    text.encode_utf16().map(one).collect::<String>().into_bytes()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(bytes).expect("it is memory");
    to.finish().expect("it is memory")
}
