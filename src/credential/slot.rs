//! Slots as text, in manifests, plans and messages. A slot that a server or a proxy on the way reads for something else than a
//! credential is refused: what stands there is logged, reflected, or decides how the message is framed.

use std::fmt;
use std::str::FromStr;

use super::Slot;

/// Headers that hold no credential, in lower case: those of framing and connections (RFC 9110, sections 6.6 and 7.6), and those
/// that servers log or reflect. Names that begin with [`TRACING`] are refused, too.
const NO_SLOT: [&str; 21] = [
    "accept-encoding",
    "baggage",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "origin",
    "proxy-authorization",
    "proxy-connection",
    "referer",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-request-id",
];
/// Beginnings of headers for tracing and forwarding.
const TRACING: [&str; 6] = ["sec-", "trace", "x-amzn-trace", "x-b3-", "x-datadog-", "x-forwarded-"];

/// Why a text is no slot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// None of the words.
    #[error("{0:?} is not a slot: bearer, token, basic:USER, header:NAME, query:NAME, path, websocket")]
    Unknown(String),
    /// A word that takes a name, without one or with a malformed one.
    #[error("slot {0:?}: {1}")]
    Name(String, &'static str),
}

impl FromStr for Slot {
    type Err = SlotError;

    fn from_str(text: &str) -> Result<Self, SlotError> {
        let bad = |why| SlotError::Name(text.to_owned(), why);
        match text.split_once(':') {
            None => match text {
                "bearer" => Ok(Self::Bearer),
                "token" => Ok(Self::Token),
                "path" => Ok(Self::Path),
                "websocket" => Ok(Self::WebSocket),
                "basic" => Err(bad("name the user, as in basic:x-access-token; basic:* is any")),
                "header" => Err(bad("name the header, as in header:x-api-key")),
                "query" => Err(bad("name the parameter, as in query:key")),
                _ => Err(SlotError::Unknown(text.to_owned())),
            },
            Some(("basic", user)) => match user {
                "" => Err(bad("name the user; basic:* is any")),
                // RFC 7617, section 2.
                _ if user.contains(':') || user.contains(char::is_control) => {
                    Err(bad("a user name has no colon and no control characters"))
                }
                _ => Ok(Self::Basic(user.to_owned())),
            },
            Some(("header", name)) => {
                let name = name.to_ascii_lowercase();
                if name.is_empty() || !name.bytes().all(is_token) {
                    return Err(bad("that is not a header's name"));
                }
                if NO_SLOT.contains(&&*name) || TRACING.iter().any(|beginning| name.starts_with(beginning)) {
                    return Err(bad("this header is no place for a credential"));
                }
                Ok(Self::Header(name))
            }
            Some(("query", name)) => {
                // What is percent-encoded in a name could be read in two ways.
                if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
                    return Err(bad("a parameter's name has letters, digits, and - . _ ~"));
                }
                Ok(Self::Query(name.to_owned()))
            }
            Some(_) => Err(SlotError::Unknown(text.to_owned())),
        }
    }
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
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
        for text in
            ["bearer", "token", "basic:x-access-token", "basic:*", "header:x-api-key", "query:key", "path", "websocket"]
        {
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
