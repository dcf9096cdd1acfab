//! Slots as text, in manifests, plans and messages.

use std::fmt;
use std::str::FromStr;

use super::check::{Fault, check_slot};
use super::place::Slot;

/// Why a text is no slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// None of the words.
    #[error(
        "{0:?} is not a slot: bearer, token, basic:USER, header:NAME, query:NAME, path, websocket, aws-key-id, aws-secret"
    )]
    Unknown(String),
    /// A word that takes a name, without one or with a malformed one.
    #[error("slot {0:?}: {1}")]
    Name(String, &'static str),
    /// What stands there is logged or reflected, or decides how a message is framed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        let bad = |why| SlotError::Name(text.to_owned(), why);
        let slot = match text.split_once(':') {
            None => match text {
                "bearer" => Self::Bearer,
                "token" => Self::Token,
                "path" => Self::Path,
                "websocket" => Self::WebSocket,
                "aws-key-id" => Self::AwsKeyId,
                "aws-secret" => Self::AwsSecret,
                "basic" => return Err(bad("name the user, as in basic:x-access-token; basic:* is any")),
                "header" => return Err(bad("name the header, as in header:x-api-key")),
                "query" => return Err(bad("name the parameter, as in query:key")),
                _ => return Err(SlotError::Unknown(text.to_owned())),
            },
            Some(("basic", user)) => Self::Basic(user.to_owned()),
            Some(("header", name)) => Self::Header(name.to_ascii_lowercase()),
            // What is percent-encoded in a name could be read in two ways.
            Some(("query", name)) if name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) => {
                Self::Query(name.to_owned())
            }
            Some(("query", _)) => return Err(bad("a parameter's name has letters, digits, and - . _ ~")),
            Some(_) => return Err(SlotError::Unknown(text.to_owned())),
        };
        check_slot(&slot)?;
        Ok(slot)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer => f.write_str("bearer"),
            Self::Token => f.write_str("token"),
            Self::Basic(user) => write!(f, "basic:{user}"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
            Self::WebSocket => f.write_str("websocket"),
            Self::AwsKeyId => f.write_str("aws-key-id"),
            Self::AwsSecret => f.write_str("aws-secret"),
        }
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}

impl TryFrom<String> for Slot {
    type Error = SlotError;

    fn try_from(text: String) -> Result<Self, SlotError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_read_and_written() {
        for text in [
            "bearer",
            "token",
            "basic:x-access-token",
            "basic:*",
            "header:x-api-key",
            "query:key",
            "path",
            "websocket",
            "aws-key-id",
            "aws-secret",
        ] {
            assert_eq!(text.parse::<Slot>().unwrap().to_string(), text);
        }
        assert_eq!("header:X-Api-Key".parse(), Ok(Slot::Header("x-api-key".into())));
    }

    #[test]
    fn what_is_no_place_for_a_credential_is_refused() {
        for text in [
            "",
            "Bearer",
            "cookie:x",
            "header",
            "header:",
            "header:a b",
            "header:a\r\nb",
            "header:User-Agent",
            "header:origin",
            "header:Referer",
            "header:traceparent",
            "header:x-forwarded-for",
            "header:Content-Length",
            "header:Sec-WebSocket-Protocol",
            "basic",
            "basic:",
            "basic:a:b",
            "query:",
            "query:a%62",
            "query:a&b",
        ] {
            assert!(text.parse::<Slot>().is_err(), "{text:?}");
        }
    }
}
