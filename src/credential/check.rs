//! Whether credentials can be used: a value that would break the place that it is put in, or that could not be found
//! again in a response, is refused before it is used.

use std::collections::BTreeSet;

use super::place::{Credential, Slot};
use super::position::PROTOCOLS;
use super::value::{MAX_VALUE, MIN_VALUE};

/// The length of a value, in bytes: a shorter one occurs in ordinary text, and is not found again in a response; a longer
/// one fits in no header.
const VALUE: std::ops::RangeInclusive<usize> = MIN_VALUE..=MAX_VALUE;
/// The length of a placeholder, in bytes: nobody guesses it.
const PLACEHOLDER: std::ops::RangeInclusive<usize> = 16..=4096;
/// Maximum number of credentials of a bottle, and of places of one.
const MAX_CREDENTIALS: usize = 64;
const MAX_PLACES: usize = 64;
/// Headers that tell about the client, the connection or the message, by the beginnings of their names. Servers log and
/// forward them.
const NOT_FOR_CREDENTIALS: [&str; 26] = [
    "accept",
    "access-control",
    "baggage",
    "connection",
    "content-",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "if-",
    "keep-alive",
    "origin",
    "proxy-",
    "range",
    "referer",
    "sec-",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "via",
    "x-forwarded",
];

/// Why a credential cannot be used. It never shows a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// Too many.
    #[error("there are {0} credentials; a bottle has at most {MAX_CREDENTIALS}")]
    TooMany(usize),
    /// Two of one name.
    #[error("there are two credentials {0}")]
    Name(String),
    /// What is wrong with one.
    #[error("the credential {name}: {what}")]
    Credential {
        /// Its name.
        name: String,
        /// What is wrong.
        what: Fault,
    },
}

/// What is wrong with a credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The name.
    #[error("a name has letters, digits and `-_.`, and at most 64 of them")]
    Name,
    /// The placeholder's characters or length.
    #[error("its placeholder has other characters than letters, digits and `-._~`, or not from 16 to 4096 of them")]
    Placeholder,
    /// A placeholder that contains another one, or a value.
    #[error("its placeholder and another placeholder or value contain each other")]
    Overlap,
    /// The value's length.
    #[error("its value has {0} bytes; from 8 to 16384 are possible")]
    Length(usize),
    /// A character of the value.
    #[error("its value has a control character, as a line end at its end; take it out at the source")]
    Control,
    /// A character that a slot does not take.
    #[error("its value has a character that {0} cannot hold")]
    Character(&'static str),
    /// No place, or too many.
    #[error("it has {0} places; from 1 to {MAX_PLACES} are possible")]
    Places(usize),
    /// A key id without the secret to sign with, or the other way round.
    #[error("{0} has it in the slot {1}; another credential must have the same host, in the slot {2}, and only one")]
    NoPair(String, Slot, Slot),
    /// A slot that is none.
    #[error("slot {0}: no credential stands there")]
    Slot(String),
}

/// Checks the credentials of a bottle.
///
/// # Errors
/// The first that cannot be used.
pub fn check(credentials: &[Credential]) -> Result<(), CredentialError> {
    if credentials.len() > MAX_CREDENTIALS {
        return Err(CredentialError::TooMany(credentials.len()));
    }
    let mut names = BTreeSet::new();
    for (index, credential) in credentials.iter().enumerate() {
        if !names.insert(&credential.name) {
            return Err(CredentialError::Name(credential.name.clone()));
        }
        let placeholder = credential.placeholder.as_str();
        let overlaps = credentials.iter().enumerate().any(|(other, it)| {
            let placeholders = other != index && it.placeholder.contains(placeholder);
            placeholders || it.value.contains(placeholder) || placeholder.contains(&it.value)
        });
        let fault = one(credential).err().or_else(|| overlaps.then_some(Fault::Overlap));
        if let Some(what) = fault {
            return Err(CredentialError::Credential { name: credential.name.chars().take(64).collect(), what });
        }
    }
    check_pairs(credentials)
}

/// Checks that every host that requests are signed for has one secret for its key ids.
fn check_pairs(credentials: &[Credential]) -> Result<(), CredentialError> {
    let at = |host: &str, slot: &Slot| {
        credentials.iter().flat_map(|it| &it.places).filter(|place| place.host == host && place.slot == *slot).count()
    };
    for credential in credentials {
        for place in &credential.places {
            let other = match place.slot {
                Slot::AwsKeyId if at(&place.host, &Slot::AwsSecret) != 1 => Slot::AwsSecret,
                Slot::AwsSecret if at(&place.host, &Slot::AwsKeyId) != 1 => Slot::AwsKeyId,
                _ => continue,
            };
            let what = Fault::NoPair(place.host.clone(), place.slot.clone(), other);
            return Err(CredentialError::Credential { name: credential.name.clone(), what });
        }
    }
    Ok(())
}

fn one(credential: &Credential) -> Result<(), Fault> {
    let Credential { name, placeholder, value, places } = credential;
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > 64 || !name.bytes().all(named) {
        return Err(Fault::Name);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    if !PLACEHOLDER.contains(&placeholder.len()) || !placeholder.bytes().all(plain) {
        return Err(Fault::Placeholder);
    }
    if !VALUE.contains(&value.len()) {
        return Err(Fault::Length(value.len()));
    }
    if value.chars().any(char::is_control) {
        return Err(Fault::Control);
    }
    if places.is_empty() || places.len() > MAX_PLACES {
        return Err(Fault::Places(places.len()));
    }
    places.iter().try_for_each(|place| check_slot(&place.slot).and_then(|()| fits(value, &place.slot)))
}

/// Whether a slot is one.
///
/// # Errors
/// Its header is not for credentials, or its name is malformed.
pub fn check_slot(slot: &Slot) -> Result<(), Fault> {
    let token = |text: &str| !text.is_empty() && text.bytes().all(is_token);
    let (name, fine) = match slot {
        Slot::Bearer | Slot::Token | Slot::Path | Slot::WebSocket | Slot::AwsKeyId | Slot::AwsSecret => return Ok(()),
        Slot::Basic(user) => (user, !user.is_empty() && !user.contains(':') && !user.chars().any(char::is_control)),
        Slot::Query(name) => (name, !name.is_empty() && !name.chars().any(char::is_control)),
        Slot::Header(name) => {
            let lower = name.to_ascii_lowercase();
            let other = lower == PROTOCOLS || NOT_FOR_CREDENTIALS.iter().any(|start| begins(&lower, start));
            (name, token(name) && !other)
        }
    };
    if fine { Ok(()) } else { Err(Fault::Slot(name.chars().take(64).collect())) }
}

/// Whether a name is this one, or one of a family (`content-` and `x-forwarded-for`).
fn begins(name: &str, start: &str) -> bool {
    name.strip_prefix(start).is_some_and(|rest| rest.is_empty() || start.ends_with('-') || rest.starts_with('-'))
}

/// Whether a slot can hold a value.
fn fits(value: &str, slot: &Slot) -> Result<(), Fault> {
    let visible = value.bytes().all(|byte| byte.is_ascii_graphic());
    match slot {
        Slot::Bearer | Slot::Token if !visible => Err(Fault::Character("a token in Authorization")),
        Slot::Header(_) if value.trim() != value || !value.is_ascii() => Err(Fault::Character("a header")),
        Slot::AwsKeyId if !value.bytes().all(|byte| byte.is_ascii_alphanumeric()) => Err(Fault::Character("a key id")),
        Slot::WebSocket if !value.bytes().all(is_token) => Err(Fault::Character("a subprotocol")),
        _ => Ok(()),
    }
}

/// A character of a token (RFC 9110, section 5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credential::Place;

    fn credential(value: &str, slot: Slot) -> Credential {
        let place = Place { host: "api.example.com".into(), slot, methods: Vec::new(), paths: Vec::new() };
        let placeholder = "placeholder-0123456789".into();
        Credential { name: "key".into(), placeholder, value: value.into(), places: vec![place] }
    }

    #[test]
    fn a_value_that_would_break_its_place_is_refused() {
        let fault = |value: &str, slot: Slot| match check(&[credential(value, slot)]) {
            Err(CredentialError::Credential { what, .. }) => Some(what),
            Err(other) => panic!("{other}"),
            Ok(()) => None,
        };
        assert_eq!(fault("a-secret-value", Slot::Bearer), None);
        for value in ["a-secret-value\n", "a-secret\r\nX: y", "a-secret\0value", "\u{85}a-secret-value"] {
            for slot in [Slot::Bearer, Slot::Basic("*".into()), Slot::Header("x-key".into()), Slot::Path] {
                assert_eq!(fault(value, slot), Some(Fault::Control), "{value:?}");
            }
        }
        assert_eq!(fault("short", Slot::Bearer), Some(Fault::Length(5)));
        assert!(matches!(fault("a secret value", Slot::Bearer), Some(Fault::Character(_))));
        assert_eq!(fault("a secret value", Slot::Basic("user".into())), None);
        assert_eq!(fault("a secret value", Slot::Header("x-key".into())), None);
        assert!(matches!(fault(" a secret value", Slot::Header("x-key".into())), Some(Fault::Character(_))));
        assert!(matches!(fault("a,secret,value", Slot::WebSocket), Some(Fault::Character(_))));
        assert_eq!(fault("a/secret?value", Slot::Query("key".into())), None);
        assert_eq!(fault("with-placeholder-0123456789", Slot::Bearer), Some(Fault::Overlap));
    }

    #[test]
    fn only_headers_for_credentials_are_slots() {
        for name in [
            "User-Agent",
            "origin",
            "Referer",
            "traceparent",
            "Host",
            "Cookie",
            "content-type",
            "TE",
            "via",
            "X-Forwarded-For",
            "x-forwarded",
            "Sec-WebSocket-Protocol",
            "proxy-authorization",
            "if-match",
            "a b",
            "",
            "x\n",
        ] {
            assert!(check_slot(&Slot::Header(name.into())).is_err(), "{name}");
        }
        for name in ["Authorization", "x-api-key", "PRIVATE-TOKEN", "term", "viaduct", "hostage", "datex"] {
            assert!(check_slot(&Slot::Header(name.into())).is_ok(), "{name}");
        }
        assert!(check_slot(&Slot::Basic("a:b".into())).is_err() && check_slot(&Slot::Basic("*".into())).is_ok());
        assert!(check_slot(&Slot::Query(String::new())).is_err());
    }

    #[test]
    fn a_key_id_of_aws_has_its_secret_at_the_same_host() {
        let at = |name: &str, host: &str, slot: Slot| {
            let place = Place { host: host.into(), slot, methods: Vec::new(), paths: Vec::new() };
            let (placeholder, value) = (format!("placeholder-of-{name}"), format!("Value1Of{name}"));
            Credential { name: name.into(), placeholder, value, places: vec![place] }
        };
        let key = || at("key", "a.com", Slot::AwsKeyId);
        assert!(check(&[key(), at("secret", "a.com", Slot::AwsSecret)]).is_ok());
        for others in [
            vec![],
            vec![at("secret", "b.com", Slot::AwsSecret)],
            vec![at("secret", "a.com", Slot::Bearer)],
            vec![at("secret", "a.com", Slot::AwsSecret), at("more", "a.com", Slot::AwsSecret)],
        ] {
            let error = check(&[vec![key()], others].concat()).unwrap_err().to_string();
            assert!(error.contains("a.com has it in the slot aws-"), "{error}");
        }
        assert!(check(&[at("secret", "a.com", Slot::AwsSecret)]).is_err());
    }

    #[test]
    fn promise_15_credentials_places_and_values_have_bounds() {
        let many = |count: usize| -> Vec<Credential> {
            let one = |number: usize| Credential {
                name: format!("key-{number}"),
                placeholder: format!("placeholder-of-{number:04}"),
                ..credential(&format!("a-secret-value-{number:04}"), Slot::Bearer)
            };
            (0..count).map(one).collect()
        };
        assert_eq!(check(&many(MAX_CREDENTIALS)), Ok(()));
        assert_eq!(check(&many(MAX_CREDENTIALS + 1)), Err(CredentialError::TooMany(MAX_CREDENTIALS + 1)));
        let fault = |credential: Credential| match check(&[credential]) {
            Err(CredentialError::Credential { what, .. }) => Some(what),
            other => other.err().map(|other| panic!("{other}")),
        };
        let placed = |count: usize| {
            let one = credential("a-secret-value", Slot::Bearer);
            let places = (0..count).map(|number| Place { host: format!("h{number}.com"), ..one.places[0].clone() });
            Credential { places: places.collect(), ..one }
        };
        assert_eq!(fault(placed(MAX_PLACES)), None);
        assert_eq!(fault(placed(MAX_PLACES + 1)), Some(Fault::Places(MAX_PLACES + 1)));
        for (length, fits) in [(MIN_VALUE - 1, false), (MIN_VALUE, true), (MAX_VALUE, true), (MAX_VALUE + 1, false)] {
            let expected = (!fits).then_some(Fault::Length(length));
            assert_eq!(fault(credential(&"v".repeat(length), Slot::Bearer)), expected, "{length}");
        }
    }

    #[test]
    fn credentials_are_told_apart() {
        let one = credential("a-secret-value", Slot::Bearer);
        let other = |name: &str, placeholder: &str| Credential {
            name: name.into(),
            placeholder: placeholder.into(),
            ..credential("another-secret-value", Slot::Bearer)
        };
        assert!(check(&[one.clone(), other("other", "placeholder-of-another")]).is_ok());
        assert!(matches!(check(&[one.clone(), other("key", "placeholder-of-another")]), Err(CredentialError::Name(_))));
        for placeholder in ["placeholder-0123456789", "placeholder-01234567890", "a-secret-value-1234"] {
            assert!(check(&[one.clone(), other("other", placeholder)]).is_err(), "{placeholder}");
        }
        assert!(check(&[Credential { places: Vec::new(), ..one.clone() }]).is_err());
        assert!(check(&[Credential { name: "a b".into(), ..one }]).is_err());
    }
}
