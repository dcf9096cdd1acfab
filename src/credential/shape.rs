//! Placeholders: text of the same form as a provider's credential, with random content. Clients check the form of a
//! credential before they use it; a placeholder passes those checks and is worth nothing anywhere.
//!
//! Rules:
//! * The prefix, the length and the alphabet are the provider's. A checksum is wrong on purpose, so that a scanner that
//!   verifies checksums reports no leak, and the provider refuses it at once.
//! * Two random seeds never give the same placeholder.

use data_encoding::BASE64URL_NOPAD;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::scan::crc32_base62;

/// The least number of random characters in an opaque placeholder: nobody guesses it, and no ordinary text contains it.
const MIN_RANDOM: usize = 16;
/// Maximum length of an opaque placeholder, in bytes.
const MAX_OPAQUE: usize = 4096;

const DIGITS: &[u8] = b"0123456789";
const HEX: &[u8] = b"0123456789abcdef";
const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
/// Base 32 of RFC 4648, as in the ids of AWS.
const BASE32: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64URL: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// The form of a credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Shape {
    /// An API key of Anthropic: `sk-ant-api03-` and 95 characters.
    Anthropic,
    /// An OAuth access token of Anthropic: `sk-ant-oat01-` and 95 characters.
    AnthropicOauth,
    /// A project key of `OpenAI`: `sk-proj-` and 156 characters.
    Openai,
    /// A classic token of GitHub: `ghp_` and 36 characters, the last six of which are a checksum.
    Github,
    /// A fine-grained token of GitHub: `github_pat_`, 22 and 59 characters.
    GithubFineGrained,
    /// An API key of Google: `AIza` and 35 characters.
    Google,
    /// A token of Hugging Face: `hf_` and 34 letters.
    Huggingface,
    /// A token of npm: `npm_` and 36 characters, the last six of which are a checksum.
    Npm,
    /// A personal access token of GitLab: `glpat-` and 20 characters.
    Gitlab,
    /// A bot token of Slack: `xoxb-`, two numbers and 24 characters.
    SlackBot,
    /// An app token of Slack: `xapp-1-`, the app's id, a number and 64 hexadecimal digits.
    SlackApp,
    /// An access key id of AWS: `AKIA` and 16 characters.
    AwsKeyId,
    /// A secret access key of AWS: 40 characters.
    AwsSecret,
    /// An access token of `OpenAI`'s login, as Codex reads it: a JWT that does not expire before 2100.
    Jwt,
    /// Any other credential: a prefix, and letters and digits.
    Opaque {
        /// What it begins with.
        #[serde(default)]
        prefix: String,
        /// The length of the whole, in bytes. With the value's own length, a response in which the value is replaced
        /// keeps its text whole.
        length: usize,
    },
}

impl Default for Shape {
    /// 40 letters and digits.
    fn default() -> Self {
        Self::Opaque { prefix: String::new(), length: 40 }
    }
}

/// Why no placeholder of a shape can be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// The prefix has a character that a header, a query or JSON would change.
    #[error("the prefix {0:?} of an opaque shape holds a character other than letters, digits and `-._~`")]
    Prefix(String),
    /// It leaves too few random characters, or is too long.
    #[error(
        "an opaque shape of {length} bytes with a prefix of {prefix}: the length is from the prefix and {MIN_RANDOM} \
         more to {MAX_OPAQUE}"
    )]
    Length {
        /// The length of the whole.
        length: usize,
        /// The length of its prefix.
        prefix: usize,
    },
}

/// A placeholder of a shape. `random` is 32 bytes of the system's randomness; the same bytes give the same placeholder.
///
/// # Errors
/// An opaque shape is malformed.
pub fn placeholder(shape: &Shape, random: [u8; 32]) -> Result<String, ShapeError> {
    let mut letters = Letters { seed: random, block: 0, pool: Vec::new() };
    let mut take = |count: usize, alphabet: &[u8]| letters.take(count, alphabet);
    Ok(match shape {
        Shape::Anthropic => format!("sk-ant-api03-{}AA", take(93, BASE64URL)),
        Shape::AnthropicOauth => format!("sk-ant-oat01-{}AA", take(93, BASE64URL)),
        Shape::Openai => {
            // `T3BlbkFJ` is "OpenAI" in base64; it is in the middle of every key.
            let half = take(74, BASE64URL);
            format!("sk-proj-{half}T3BlbkFJ{}", take(74, BASE64URL))
        }
        Shape::Github => format!("ghp_{}", with_wrong_checksum(take(30, ALPHANUMERIC))),
        Shape::GithubFineGrained => {
            let id = take(22, ALPHANUMERIC);
            format!("github_pat_{id}_{}", take(59, ALPHANUMERIC))
        }
        Shape::Google => format!("AIza{}", take(35, BASE64URL)),
        Shape::Huggingface => format!("hf_{}", take(34, LETTERS)),
        Shape::Npm => format!("npm_{}", with_wrong_checksum(take(30, ALPHANUMERIC))),
        Shape::Gitlab => format!("glpat-{}", take(20, ALPHANUMERIC)),
        Shape::SlackBot => {
            let (team, bot) = (take(12, &DIGITS[1..]), take(13, &DIGITS[1..]));
            format!("xoxb-{team}-{bot}-{}", take(24, ALPHANUMERIC))
        }
        Shape::SlackApp => {
            let (app, number) = (take(10, UPPER), take(13, &DIGITS[1..]));
            format!("xapp-1-A{app}-{number}-{}", take(64, HEX))
        }
        Shape::AwsKeyId => format!("AKIA{}", take(16, BASE32)),
        Shape::AwsSecret => take(40, ALPHANUMERIC),
        Shape::Jwt => jwt(&mut take),
        Shape::Opaque { prefix, length } => {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            if !prefix.bytes().all(plain) {
                return Err(ShapeError::Prefix(prefix.clone()));
            }
            let rest = length.checked_sub(prefix.len()).filter(|rest| *rest >= MIN_RANDOM && *length <= MAX_OPAQUE);
            let rest = rest.ok_or(ShapeError::Length { length: *length, prefix: prefix.len() })?;
            format!("{prefix}{}", take(rest, ALPHANUMERIC))
        }
    })
}

/// Appends six digits that are not the checksum of the characters before them.
fn with_wrong_checksum(text: String) -> String {
    let mut digits = crc32_base62(text.as_bytes());
    digits[5] = if digits[5] == b'z' { b'0' } else { b'z' };
    text + &String::from_utf8_lossy(&digits)
}

/// A JWT (RFC 7519) with the claims that Codex reads without verifying the signature.
fn jwt(take: &mut impl FnMut(usize, &[u8]) -> String) -> String {
    let mut id = || format!("{}-{}-4{}-a{}-{}", take(8, HEX), take(4, HEX), take(3, HEX), take(3, HEX), take(12, HEX));
    let claims = serde_json::json!({
        "aud": ["https://api.openai.com/v1"],
        "exp": 4_102_444_800_u32,
        "https://api.openai.com/auth": { "chatgpt_account_id": id(), "chatgpt_plan_type": "pro" },
        "iat": 1_760_000_000,
        "iss": "https://auth.openai.com",
        "jti": id(),
    });
    let part = |text: &str| BASE64URL_NOPAD.encode(text.as_bytes());
    // A signature by RS256 has 256 bytes.
    format!("{}.{}.{}", part(r#"{"alg":"RS256","typ":"JWT"}"#), part(&claims.to_string()), take(342, BASE64URL))
}

/// Random characters: the hashes of the seed and a counter.
struct Letters {
    seed: [u8; 32],
    block: u64,
    pool: Vec<u8>,
}

impl Letters {
    fn take(&mut self, count: usize, alphabet: &[u8]) -> String {
        let mut text = String::with_capacity(count);
        // Every character is equally likely: bytes beyond the last multiple of the alphabet's size are left out.
        let limit = 256 - 256 % alphabet.len();
        while text.len() < count {
            match self.pool.pop() {
                Some(byte) if usize::from(byte) < limit => {
                    text.push(char::from(alphabet[usize::from(byte) % alphabet.len()]));
                }
                Some(_) => {}
                None => {
                    let hash = Sha256::new().chain_update(self.seed).chain_update(self.block.to_be_bytes()).finalize();
                    self.pool.extend_from_slice(&hash);
                    self.block += 1;
                }
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{Budget, Rules};

    /// Every shape, what it begins with, its length, and the rule of the scanner for its provider.
    fn shapes() -> Vec<(Shape, &'static str, usize, &'static str)> {
        vec![
            (Shape::Anthropic, "sk-ant-api03-", 108, "anthropic-key"),
            (Shape::AnthropicOauth, "sk-ant-oat01-", 108, "anthropic-key"),
            (Shape::Openai, "sk-proj-", 164, "openai-key"),
            (Shape::Github, "ghp_", 40, ""),
            (Shape::GithubFineGrained, "github_pat_", 93, "github-fine-grained"),
            (Shape::Google, "AIza", 39, "google-api-key"),
            (Shape::Huggingface, "hf_", 37, "hugging-face-token"),
            (Shape::Npm, "npm_", 40, ""),
            (Shape::Gitlab, "glpat-", 26, "gitlab-token"),
            (Shape::SlackBot, "xoxb-", 56, "slack-bot"),
            (Shape::SlackApp, "xapp-1-A", 97, "slack-app"),
            (Shape::AwsKeyId, "AKIA", 20, "aws-access-key"),
            (Shape::AwsSecret, "", 40, ""),
            (Shape::Jwt, "eyJ", 0, "jwt"),
            (Shape::Opaque { prefix: "pat-".into(), length: 30 }, "pat-", 30, ""),
        ]
    }

    #[test]
    fn a_placeholder_has_the_form_of_its_provider_and_a_wrong_checksum() {
        let rules = Rules::providers().unwrap();
        for (shape, prefix, length, rule) in shapes() {
            let mut found = 0;
            for seed in 0..40_u8 {
                let text = placeholder(&shape, [seed; 32]).unwrap();
                assert!(text.starts_with(prefix) && (length == 0 || text.len() == length), "{shape:?}: {text}");
                assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{text}");
                assert_eq!(text, placeholder(&shape, [seed; 32]).unwrap());
                assert_ne!(text, placeholder(&shape, [seed + 1; 32]).unwrap());
                // A scanner recognizes the form; where it verifies the checksum, it reports nothing.
                let quoted = format!("key = \"{text}\"");
                let id = rules.find(quoted.as_bytes(), &mut Budget::unbounded(), &mut |_, rule, token| {
                    (token == text.as_bytes()).then(|| rule.to_owned())
                });
                match id.unwrap() {
                    Some(id) => found += usize::from(id == rule),
                    None if rule.is_empty() => found += 1,
                    // By chance, one that repeats letters may be taken for an example.
                    None => {}
                }
            }
            assert!(found >= 36, "{shape:?}: {found} of 40");
        }
    }

    #[test]
    fn a_jwt_has_the_claims_that_codex_reads() {
        let text = placeholder(&Shape::Jwt, [7; 32]).unwrap();
        let parts: Vec<&str> = text.split('.').collect();
        assert_eq!(parts.len(), 3);
        let claims: serde_json::Value =
            serde_json::from_slice(&BASE64URL_NOPAD.decode(parts[1].as_bytes()).unwrap()).unwrap();
        assert!(claims["exp"].as_u64().unwrap() > 4_000_000_000);
        assert_eq!(claims["https://api.openai.com/auth"]["chatgpt_account_id"].as_str().unwrap().len(), 36);
    }

    #[test]
    fn opaque_shapes_have_their_limits() {
        let opaque = |prefix: &str, length| placeholder(&Shape::Opaque { prefix: prefix.into(), length }, [1; 32]);
        assert_eq!(opaque("x-", 18).unwrap().len(), 18);
        for (prefix, length) in
            [("x-", 17), ("", 15), ("", 4097), ("longer-than-the-length", 20), ("a b", 40), ("é", 40)]
        {
            assert!(opaque(prefix, length).is_err(), "{prefix} {length}");
        }
    }

    #[test]
    fn a_shape_is_written_by_its_name() {
        let read = |text: &str| serde_yaml::from_str::<Shape>(text);
        assert_eq!(read("github-fine-grained").unwrap(), Shape::GithubFineGrained);
        assert_eq!(read("aws-key-id").unwrap(), Shape::AwsKeyId);
        let opaque: Shape = serde_json::from_str(r#"{"opaque":{"prefix":"pat-","length":40}}"#).unwrap();
        assert_eq!(opaque, Shape::Opaque { prefix: "pat-".into(), length: 40 });
        assert!(read("github-classic").is_err());
    }
}
