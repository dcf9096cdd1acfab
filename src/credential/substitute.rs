//! Puts values in the place of placeholders in the head of one request. Pure: the caller has authorized the request,
//! knows which slots its host has, and sends what comes out.
//!
//! Rules:
//! * A value is put only where its placeholder stands, and only in a slot that is declared for this host, method and
//!   path. It is never added.
//! * A placeholder in any other place for credentials is refused: another header of that kind, the query, the path, or a
//!   slot of another host. In other headers and in bodies it passes as it is; an agent's prompt may quote it.
//! * A host that has a credential takes no other one, but what it has handed out for it: what else stands in a place for
//!   credentials is refused.
//! * What stands twice is refused: servers use the first or the last.
//!
//! Attacks that this stops: a value that is sent to another host, or into a place from which the agent reads it back; work
//! under an account of an attacker at an allowed host; a header that is cut or extended by what a value holds
//! ([`super::check`]).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::authorization::{self, Authorization, trim};
use super::aws::{NotSigned, Signature, Signing};
use super::place::{Credential, Slot};
use super::position::{PROTOCOLS, Placeholders, Position, holds_credential, may_hold_credential};

/// The characters of a value that are percent-encoded in a query or a path: all but the unreserved ones (RFC 3986,
/// section 2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');
/// Parameters of a query that hold a credential at some provider (RFC 6750, section 2.3, and the usual ones of APIs).
const KEY_PARAMETERS: [&str; 8] =
    ["access_token", "api-key", "api_key", "apikey", "auth_token", "oauth_token", "private_token", "x-api-key"];
/// Parts of a subprotocol of a WebSocket that holds a credential, as `openai-insecure-api-key.KEY` does.
const KEY_PROTOCOLS: [&str; 5] = ["auth", "bearer", "key", "secret", "token"];

/// The parameters of presigned URLs with a key id: of Signature Version 4 and 2.
const PRESIGNED: [&str; 2] = ["x-amz-credential", "awsaccesskeyid"];

/// The head of a request.
pub struct RequestHead<'a> {
    /// The canonical path with its query.
    pub path: &'a str,
    /// Names in lower case, and values.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// Whether it is a WebSocket handshake.
    pub websocket: bool,
    /// Whether it is sent inside TLS.
    pub sealed: bool,
    /// Whether the hosts of a credential, by its name, have handed out this token for it.
    pub handed_out: &'a dyn Fn(&str, &str) -> bool,
}

/// A slot of the requested host.
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// The credential.
    pub credential: &'a Credential,
    /// The slot.
    pub slot: &'a Slot,
    /// Whether it is declared for this method and path.
    pub open: bool,
}

/// A header that is replaced.
#[derive(PartialEq, Eq)]
pub struct Replaced {
    /// Its name, in lower case.
    pub name: String,
    /// What was judged.
    pub before: Vec<u8>,
    /// What is sent.
    pub after: Vec<u8>,
}

/// What is replaced in a request.
#[derive(Default, PartialEq, Eq)]
pub struct Substitution {
    /// Headers.
    pub headers: Vec<Replaced>,
    /// The path with its query, if it changes.
    pub path: Option<String>,
    /// The names of the credentials that are used.
    pub used: Vec<String>,
    /// What signs the request anew, where it has a signature of AWS'.
    pub signing: Option<Signing>,
    /// The token that a host has handed out and takes back.
    pub handed_out: Option<String>,
    /// The name of a credential whose placeholder is in a header that is not for credentials.
    pub elsewhere: Option<String>,
}

/// Why a placeholder is not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The host has no slot of the credential.
    #[error("and this host is not one of its hosts")]
    Host,
    /// The host's slots are for other methods or paths.
    #[error("and it is not declared for this method and path")]
    Request,
    /// The host has another slot.
    #[error("which is not its slot at this host")]
    Slot,
    /// The request is not inside TLS.
    #[error("and a credential is only sent inside TLS")]
    Plain,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A placeholder in a place for credentials that is not its slot.
    #[error("{position} holds the placeholder of the credential {credential}, {why}")]
    Misplaced {
        /// The credential's name.
        credential: String,
        /// Where the placeholder is.
        position: Position,
        /// Why it is not replaced.
        why: Why,
    },
    /// Another credential at a host that has one.
    #[error("{position} holds another credential than {credential}, the one that this bottle has for the host")]
    Foreign {
        /// The name of the host's credential.
        credential: String,
        /// Where the other one is.
        position: Position,
    },
    /// A request that is signed with placeholders, and cannot be signed anew.
    #[error("the request cannot be signed with the credential {credential}: {why}")]
    NotSigned {
        /// The name of the credential with the key id.
        credential: String,
        /// Why.
        why: NotSigned,
    },
    /// A place for credentials is there twice.
    #[error("{position} holds a credential twice")]
    Twice {
        /// Which place.
        position: Position,
    },
}

/// Judges a request and says what is replaced in it. `offers` are the slots of its host.
///
/// # Errors
/// It holds a placeholder that is not in its slot, or another credential.
pub fn substitute(
    head: &RequestHead<'_>,
    offers: &[Offer<'_>],
    placeholders: &Placeholders,
) -> Result<Substitution, Violation> {
    let judge = Judge { head, offers, placeholders };
    let mut result = Substitution::default();
    judge.headers(&mut result)?;
    judge.path(&mut result)?;
    result.used.sort_unstable();
    result.used.dedup();
    Ok(result)
}

struct Judge<'a> {
    head: &'a RequestHead<'a>,
    offers: &'a [Offer<'a>],
    placeholders: &'a Placeholders,
}

impl<'a> Judge<'a> {
    /// The slots into which a value may be put.
    fn open(&self) -> impl Iterator<Item = &'a Offer<'a>> {
        let sealed = self.head.sealed;
        self.offers.iter().filter(move |offer| sealed && offer.open)
    }

    /// Refuses a placeholder in a text.
    fn check_misplaced(&self, position: impl FnOnce() -> Position, text: &[u8]) -> Result<(), Violation> {
        let Some(credential) = self.placeholders.find(text) else { return Ok(()) };
        let own: Vec<_> = self.offers.iter().filter(|offer| offer.credential.name == credential).collect();
        let why = match () {
            () if !self.head.sealed => Why::Plain,
            () if own.is_empty() => Why::Host,
            () if own.iter().any(|offer| offer.open) => Why::Slot,
            () => Why::Request,
        };
        Err(Violation::Misplaced { credential: credential.to_owned(), position: position(), why })
    }

    /// Refuses what is not a credential of the host. Its own value passes: the scan before has let it.
    fn check_foreign(&self, position: Position, is: impl Fn(&str) -> bool) -> Result<(), Violation> {
        match self.offers.first() {
            Some(first) if !self.offers.iter().any(|offer| is(&offer.credential.value)) => {
                Err(Violation::Foreign { credential: first.credential.name.clone(), position })
            }
            _ => Ok(()),
        }
    }

    fn headers(&self, result: &mut Substitution) -> Result<(), Violation> {
        for &(name, value) in &self.head.headers {
            let declared = self
                .offers
                .iter()
                .any(|offer| matches!(offer.slot, Slot::Header(slot) if slot.eq_ignore_ascii_case(name)));
            if !declared && !may_hold_credential(name) {
                if result.elsewhere.is_none() {
                    result.elsewhere = self.placeholders.find(value).map(str::to_owned);
                }
                continue;
            }
            let position = || Position::header(name);
            // Several lines of subprotocols are one list.
            let several = name != PROTOCOLS && self.head.headers.iter().filter(|(other, _)| *other == name).count() > 1;
            let filled = self.open().find_map(|offer| Some((offer, self.fill(name, value, offer)?)));
            if let Some((offer, after)) = filled {
                if several {
                    return Err(Violation::Twice { position: position() });
                }
                self.check_misplaced(position, &after)?;
                if *offer.slot == Slot::AwsKeyId {
                    result.signing = Some(self.signing(offer, &after, &mut result.used)?);
                }
                result.used.push(offer.credential.name.clone());
                result.headers.push(Replaced { name: name.to_owned(), before: value.to_vec(), after });
                continue;
            }
            self.check_misplaced(position, value)?;
            if self.offers.is_empty() {
                continue;
            }
            if name == PROTOCOLS {
                self.check_protocols(value)?;
            } else if declared || holds_credential(name) {
                if several {
                    return Err(Violation::Twice { position: position() });
                }
                match self.handed_out(name, value) {
                    Some(token) => result.handed_out = Some(token),
                    None => self.check_header(name, value)?,
                }
            }
        }
        Ok(())
    }

    /// A header with the value of a credential in the place of its placeholder.
    fn fill(&self, name: &str, value: &[u8], offer: &Offer<'_>) -> Option<Vec<u8>> {
        let Credential { placeholder, value: secret, .. } = offer.credential;
        let text = trim(std::str::from_utf8(value).ok()?);
        let filled = match offer.slot {
            Slot::Header(slot) if slot.eq_ignore_ascii_case(name) => {
                let before = text.strip_suffix(placeholder.as_str())?;
                // The whole value, or what follows the word for a scheme.
                let scheme = before.is_empty() || before.ends_with(' ') && !trim(before).contains([' ', '\t']);
                scheme.then(|| format!("{before}{secret}"))
            }
            Slot::WebSocket if name == PROTOCOLS && self.head.websocket => {
                let mut any = false;
                let list = text.split(',').map(|item| match trim(item).strip_suffix(placeholder.as_str()) {
                    Some(before) => {
                        any = true;
                        format!("{before}{secret}")
                    }
                    None => trim(item).to_owned(),
                });
                let list = list.collect::<Vec<_>>().join(", ");
                any.then_some(list)
            }
            Slot::AwsKeyId if name == "authorization" => Signature::parse(value)
                .filter(|signature| signature.key_id == placeholder)
                .map(|_| text.replacen(placeholder.as_str(), secret, 1)),
            slot if name == "authorization" => authorization::parse(value).filled(slot, placeholder, secret),
            _ => None,
        };
        filled.map(String::into_bytes)
    }

    /// What signs a request anew, whose header has the key id by now.
    fn signing(&self, key: &Offer<'_>, header: &[u8], used: &mut Vec<String>) -> Result<Signing, Violation> {
        let refused = |why| Violation::NotSigned { credential: key.credential.name.clone(), why };
        let signature = Signature::parse(header).ok_or_else(|| refused(NotSigned::Date))?;
        let secret = self.open().find(|offer| *offer.slot == Slot::AwsSecret);
        let secret = secret.ok_or_else(|| refused(NotSigned::NoSecret))?;
        used.push(secret.credential.name.clone());
        Ok(signature.signing(&key.credential.value, &secret.credential.value, &key.credential.name))
    }

    /// The token of a header that a host has handed out for one of its credentials.
    fn handed_out(&self, name: &str, value: &[u8]) -> Option<String> {
        let parsed = if name == "authorization" { authorization::parse(value) } else { Authorization::Other };
        let Authorization::Bearer(token) = parsed else { return None };
        let known = self.offers.iter().any(|offer| (self.head.handed_out)(&offer.credential.name, token));
        (known && self.head.sealed).then(|| token.to_owned())
    }

    fn check_header(&self, name: &str, value: &[u8]) -> Result<(), Violation> {
        let text = trim(std::str::from_utf8(value).unwrap_or("?"));
        let parsed = if name == "authorization" { authorization::parse(value) } else { Authorization::Other };
        if text.is_empty() || parsed == Authorization::Empty {
            return Ok(());
        }
        self.check_foreign(Position::header(name), |own| text == own || parsed.is(own))
    }

    fn check_protocols(&self, value: &[u8]) -> Result<(), Violation> {
        let text = String::from_utf8_lossy(value);
        for item in text.split(',').map(trim) {
            let lower = item.to_ascii_lowercase();
            if KEY_PROTOCOLS.iter().any(|word| lower.contains(word)) {
                self.check_foreign(Position::header(PROTOCOLS), |own| item.ends_with(own))?;
            }
        }
        Ok(())
    }

    fn path(&self, result: &mut Substitution) -> Result<(), Violation> {
        let whole = self.head.path;
        let (path, query) = whole.split_once('?').map_or((whole, None), |(path, query)| (path, Some(query)));
        let mut shown = self.segments(path, result)?;
        if let Some(query) = query {
            shown.push('?');
            shown.push_str(&self.parameters(query, result)?);
        }
        result.path = (shown != whole).then_some(shown);
        Ok(())
    }

    fn segments(&self, path: &str, result: &mut Substitution) -> Result<String, Violation> {
        let slots: Vec<&Offer<'_>> = self.open().filter(|offer| *offer.slot == Slot::Path).collect();
        let (mut shown, mut left, mut count) = (Vec::new(), Vec::new(), 0);
        for segment in path.split('/') {
            let decoded = percent_decode_str(segment).decode_utf8_lossy();
            let fits =
                slots.iter().find_map(|offer| Some((offer, decoded.strip_suffix(&*offer.credential.placeholder)?)));
            let Some((offer, before)) = fits else {
                shown.push(segment.to_owned());
                left.push(segment);
                continue;
            };
            self.check_misplaced(|| Position::Path, before.as_bytes())?;
            count += 1;
            result.used.push(offer.credential.name.clone());
            shown.push(format!("{}{}", encoded(before), encoded(&offer.credential.value)));
        }
        if count > 1 {
            return Err(Violation::Twice { position: Position::Path });
        }
        self.check_misplaced(|| Position::Path, left.join("/").as_bytes())?;
        match slots.first() {
            // Any other segment may be the key of somebody else.
            Some(offer) if count == 0 && !left.iter().any(|segment| segment.ends_with(&offer.credential.value)) => {
                Err(Violation::Foreign { credential: offer.credential.name.clone(), position: Position::Path })
            }
            _ => Ok(shown.join("/")),
        }
    }

    fn parameters(&self, query: &str, result: &mut Substitution) -> Result<String, Violation> {
        let slot = |offer: &Offer<'_>, name: &str| matches!(offer.slot, Slot::Query(slot) if slot == name);
        let declared: Vec<String> = self
            .offers
            .iter()
            .filter_map(|offer| if let Slot::Query(name) = offer.slot { Some(name.to_ascii_lowercase()) } else { None })
            .collect();
        let (mut shown, mut left, mut seen) = (Vec::new(), Vec::new(), Vec::new());
        for pair in query.split('&') {
            let (name, value) = parameter(pair);
            if let Some(key) = self.open().find(|offer| *offer.slot == Slot::AwsKeyId)
                && PRESIGNED.iter().any(|known| name.eq_ignore_ascii_case(known))
                && value.starts_with(&key.credential.placeholder)
            {
                let credential = key.credential.name.clone();
                return Err(Violation::NotSigned { credential, why: NotSigned::Presigned });
            }
            let fits = self.open().find(|offer| slot(offer, &name) && value == offer.credential.placeholder);
            // Some servers separate parameters by semicolons as well.
            for (name, value) in pair.split(';').map(parameter) {
                let lower = name.to_ascii_lowercase();
                // Some make a list of `name[]`.
                let lower = lower.split_once('[').map_or(lower.as_str(), |(name, _)| name).to_owned();
                let known = KEY_PARAMETERS.contains(&lower.as_str());
                if !declared.contains(&lower) && !known {
                    continue;
                }
                if declared.contains(&lower) && seen.contains(&lower) {
                    return Err(Violation::Twice { position: Position::Query });
                }
                seen.push(lower);
                if fits.is_none() && !value.is_empty() {
                    self.check_misplaced(|| Position::Query, value.as_bytes())?;
                    self.check_foreign(Position::Query, |own| value == own)?;
                }
            }
            if let Some(offer) = fits {
                let name = pair.split_once('=').map_or(pair, |(name, _)| name);
                result.used.push(offer.credential.name.clone());
                shown.push(format!("{name}={}", encoded(&offer.credential.value)));
            } else {
                shown.push(pair.to_owned());
                left.push(pair);
            }
        }
        self.check_misplaced(|| Position::Query, left.join("&").as_bytes())?;
        Ok(shown.join("&"))
    }
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The name and value of a parameter, decoded as forms are.
fn parameter(pair: &str) -> (String, String) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
    (decode(name), decode(value))
}

#[cfg(test)]
#[path = "substitute_tests.rs"]
mod tests;
