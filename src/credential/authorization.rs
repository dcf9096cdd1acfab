//! The `Authorization` header (RFC 9110, section 11.6.2), as far as slots know it.

use data_encoding::{BASE64, BASE64_NOPAD, BASE64URL_NOPAD, Encoding};

use super::place::Slot;

/// What an `Authorization` header holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Authorization<'a> {
    /// Nothing, or a scheme without anything after it.
    Empty,
    /// `Bearer`.
    Bearer(&'a str),
    /// `token`.
    Token(&'a str),
    /// `Basic`: the user name and the password.
    Basic(String, String),
    /// Any other scheme, or what cannot be parsed.
    Other,
}

/// Parses the value of the header. The scheme is written in any case (RFC 9110, section 11.1).
pub(super) fn parse(value: &[u8]) -> Authorization<'_> {
    let Ok(text) = std::str::from_utf8(value) else { return Authorization::Other };
    let text = trim(text);
    let (scheme, rest) = text.split_once([' ', '\t']).map_or((text, ""), |(scheme, rest)| (scheme, trim(rest)));
    let known = ["bearer", "token", "basic"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known));
    match known {
        _ if text.is_empty() => Authorization::Empty,
        Some(_) if rest.is_empty() => Authorization::Empty,
        Some("bearer") => Authorization::Bearer(rest),
        Some("token") => Authorization::Token(rest),
        Some(_) => basic(rest).map_or(Authorization::Other, |(user, password)| Authorization::Basic(user, password)),
        None => Authorization::Other,
    }
}

/// Removes optional whitespace (RFC 9110, section 5.6.3).
pub(super) fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t'])
}

/// The user name and password of Basic (RFC 7617, section 2), in either alphabet, with or without padding: servers are
/// as lenient.
fn basic(text: &str) -> Option<(String, String)> {
    let text = text.trim_end_matches('=').as_bytes();
    let lenient = |encoding: &Encoding| {
        let mut specification = encoding.specification();
        specification.check_trailing_bits = false;
        specification.encoding().ok()?.decode(text).ok()
    };
    let decoded = lenient(&BASE64_NOPAD).or_else(|| lenient(&BASE64URL_NOPAD))?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

impl Authorization<'_> {
    /// The header with a value in the place of a placeholder, if that is what the slot says.
    pub(super) fn filled(&self, slot: &Slot, placeholder: &str, value: &str) -> Option<String> {
        match (self, slot) {
            (Self::Bearer(text), Slot::Bearer) if *text == placeholder => Some(format!("Bearer {value}")),
            (Self::Token(text), Slot::Token) if *text == placeholder => Some(format!("token {value}")),
            (Self::Basic(user, password), Slot::Basic(name))
                if password == placeholder && (name == "*" || name == user) =>
            {
                Some(format!("Basic {}", BASE64.encode(format!("{user}:{value}").as_bytes())))
            }
            _ => None,
        }
    }

    /// Whether it holds exactly this text, in any scheme.
    pub(super) fn is(&self, text: &str) -> bool {
        match self {
            Self::Bearer(held) | Self::Token(held) => *held == text,
            Self::Basic(_, password) => password == text,
            Self::Empty | Self::Other => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_read_in_any_case_and_basic_in_any_alphabet() {
        for (value, expected) in [
            ("Bearer abc", Authorization::Bearer("abc")),
            ("bEARER  abc ", Authorization::Bearer("abc")),
            ("bearer\tabc", Authorization::Bearer("abc")),
            ("Token abc", Authorization::Token("abc")),
            ("Bearer", Authorization::Empty),
            ("", Authorization::Empty),
            ("Basic dXNlcjpwYXNzd29yZA==", Authorization::Basic("user".into(), "password".into())),
            ("basic dXNlcjpwYXNzd29yZA", Authorization::Basic("user".into(), "password".into())),
            // `?` and `>` are `/` and `+` in one alphabet, `_` and `-` in the other.
            ("Basic dTo_Pz8-Pj4", Authorization::Basic("u".into(), "???>>>".into())),
            ("Basic dTo/Pz8+Pj4=", Authorization::Basic("u".into(), "???>>>".into())),
            // Bits after the last character are ignored.
            ("Basic dXNlcjpwYXNzd29yZB==", Authorization::Basic("user".into(), "password".into())),
            ("Basic dTph OmI=", Authorization::Other),
            ("Basic dXNlcg==", Authorization::Other),
            ("Digest username=\"x\"", Authorization::Other),
            ("abc", Authorization::Other),
        ] {
            assert_eq!(parse(value.as_bytes()), expected, "{value}");
        }
    }
}
