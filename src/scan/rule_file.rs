//! Rule files in gitleaks' TOML format: rules, allowlists and checksums.

use regex::bytes::{Regex, RegexBuilder};
use serde::Deserialize;

use super::base58::decode_checked;
use super::password::is_placeholder;

/// Maximum size of a compiled expression, in bytes.
const MAX_REGEX: usize = 4 << 20;

/// A rule file (gitleaks 8, `config/gitleaks.toml`). Conditions on paths and commits apply to repositories and are
/// ignored here.
#[derive(Deserialize)]
pub(super) struct File {
    /// Our extension: keywords are case-sensitive.
    #[serde(default)]
    pub(super) keyword_case: bool,
    #[serde(default)]
    pub(super) rules: Vec<Entry>,
    #[serde(default)]
    pub(super) allowlist: Option<Allowlist>,
    #[serde(default)]
    pub(super) allowlists: Vec<Allowlist>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) id: String,
    pub(super) regex: Option<String>,
    #[serde(default)]
    pub(super) keywords: Vec<String>,
    pub(super) entropy: Option<f64>,
    pub(super) secret_group: Option<usize>,
    #[serde(default)]
    pub(super) allowlist: Option<Allowlist>,
    #[serde(default)]
    pub(super) allowlists: Vec<Allowlist>,
    /// Our extension: the checksum in the token.
    pub(super) checksum: Option<Checksum>,
    /// Our extension: whether the rule applies to requests, to responses, or, if absent, to both.
    pub(super) direction: Option<Direction>,
    /// Our extension: people choose the value, so that a variable or a plain example is none.
    #[serde(default)]
    pub(super) password: bool,
    /// Our extension: an expression for what each match has where its keyword is. A keyword that is frequent in ordinary text is
    /// ruled out by it, so that the rule need not search around it.
    pub(super) beginning: Option<String>,
    /// Our extension: what finds the tokens of the rule instead of an expression.
    pub(super) finder: Option<RuleFinder>,
    /// Our extension: `off` for a rule that applies only where the user's actions name it.
    pub(super) default: Option<DefaultAction>,
}

/// What finds tokens that have no mark.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum RuleFinder {
    /// Seed phrases with their checksum.
    #[serde(rename = "bip39")]
    Bip39,
}

/// What a rule does that the user says nothing of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DefaultAction {
    /// Nothing.
    Off,
}

/// An allowlist: matches that are not findings.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Allowlist {
    #[serde(default)]
    regexes: Vec<String>,
    /// The text that the expressions are matched against: the token if absent, `match`, or `line`.
    regex_target: Option<String>,
    #[serde(default)]
    stopwords: Vec<String>,
    condition: Option<String>,
    #[serde(default)]
    paths: Vec<String>,
    #[serde(default)]
    commits: Vec<String>,
    /// The rules that an allowlist of the file applies to; all if empty.
    #[serde(default)]
    pub(super) target_rules: Vec<String>,
}

/// The direction of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// From the agent.
    Request,
    /// To the agent.
    Response,
}

/// The checksum in a token, which tells real tokens from similar text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) enum Checksum {
    /// Of forty characters, the last six are the CRC-32 of the thirty before them, in base 62 (GitHub, "Behind GitHub's
    /// new authentication token formats", 2021; npm does the same).
    #[serde(rename = "crc32-base62")]
    Crc32Base62,
    /// No checksum: base64 of a name, a colon and a password that is no plain example (RFC 7617, section 2).
    #[serde(rename = "base64-login")]
    Base64Login,
    /// `Base58Check` of a private key of Bitcoin, in the wallet import format.
    #[serde(rename = "base58-wif")]
    Base58Wif,
    /// `Base58Check` of an extended private key (BIP-32, "Serialization format").
    #[serde(rename = "base58-bip32")]
    Base58Bip32,
}

/// Compiles the expression of a rule or an allowlist.
pub(super) fn compile(source: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(source).unicode(false).size_limit(MAX_REGEX).build()
}

/// A compiled allowlist.
pub(super) struct AllowlistMatcher {
    regexes: Vec<Regex>,
    target: MatchPart,
    stopwords: Vec<String>,
    /// Whether all conditions must hold.
    all: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum MatchPart {
    Token,
    Match,
    Line,
}

impl Allowlist {
    /// `None` if it only concerns paths and commits.
    pub(super) fn read(&self) -> Result<Option<AllowlistMatcher>, regex::Error> {
        let all = self.condition.as_deref().is_some_and(|condition| condition.eq_ignore_ascii_case("and"));
        let elsewhere = !self.paths.is_empty() || !self.commits.is_empty();
        if (self.regexes.is_empty() && self.stopwords.is_empty()) || (all && elsewhere) {
            return Ok(None);
        }
        let target = match self.regex_target.as_deref() {
            Some("match") => MatchPart::Match,
            Some("line") => MatchPart::Line,
            _ => MatchPart::Token,
        };
        let regexes = self.regexes.iter().map(|source| compile(source)).collect::<Result<_, _>>()?;
        let stopwords = self.stopwords.iter().map(|word| word.to_ascii_lowercase()).collect();
        Ok(Some(AllowlistMatcher { regexes, target, stopwords, all }))
    }
}

impl AllowlistMatcher {
    pub(super) fn matches(&self, token: &[u8], matched: &[u8], line: &[u8]) -> bool {
        let text = match self.target {
            MatchPart::Token => token,
            MatchPart::Match => matched,
            MatchPart::Line => line,
        };
        let by_regex = self.regexes.iter().any(|regex| regex.is_match(text));
        let lower = token.to_ascii_lowercase();
        let by_word = self.stopwords.iter().any(|word| memchr::memmem::find(&lower, word.as_bytes()).is_some());
        if self.all {
            (self.regexes.is_empty() || by_regex) && (self.stopwords.is_empty() || by_word)
        } else {
            by_regex || by_word
        }
    }
}

impl Checksum {
    /// Whether the checksum of a token is correct, or its content is what it should be; never for another length.
    pub(super) fn matches(self, token: &[u8]) -> bool {
        match self {
            Self::Crc32Base62 => {
                let Some((prefix, rest)) = token.split_at_checked(4) else { return false };
                prefix.ends_with(b"_") && rest.len() == 36 && crc32_base62(&rest[..30]) == rest[30..]
            }
            Self::Base64Login => is_login(token),
            // A version, the key, and a byte that says that the public key is compressed.
            Self::Base58Wif => decode_checked(token).is_some_and(|bytes| match bytes[..] {
                [0x80 | 0xef, ..] => bytes.len() == 33 || bytes.len() == 34 && bytes[33] == 1,
                _ => false,
            }),
            // Of 78 bytes, the key is behind a zero at the end.
            Self::Base58Bip32 => decode_checked(token).is_some_and(|bytes| bytes.len() == 78 && bytes[45] == 0),
        }
    }
}

/// Whether base64 is a name, a colon and a password.
fn is_login(token: &[u8]) -> bool {
    let Ok(text) = data_encoding::BASE64.decode(token) else { return false };
    let colon = memchr::memchr(b':', &text).filter(|at| *at > 0);
    colon.is_some_and(|at| {
        let is_text = std::str::from_utf8(&text).is_ok_and(|text| !text.contains(char::is_control));
        is_text && text.len() > at + 4 && !is_placeholder(&text[at + 1..])
    })
}

/// The CRC-32 of some bytes as six digits in base 62.
pub fn crc32_base62(bytes: &[u8]) -> [u8; 6] {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    let mut number = crc.sum();
    let mut digits = [0; 6];
    for digit in digits.iter_mut().rev() {
        *digit = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    digits
}
