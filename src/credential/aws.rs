//! AWS' Signature Version 4: a request that is signed with placeholders is signed anew. Its client has a key id and a secret that
//! are placeholders; the key id of its signature is one, and shows where a signature is wanted.
//!
//! After the AWS IAM User Guide, "Create a signed AWS API request". Rules:
//! * What is signed is what is sent: method, path, query, and of the headers that the client signed those that are sent.
//! * The date, the region and the service are the client's.
//! * The secret is in no request, so it is in no response.

use hmac::hmac;
use percent_encoding::percent_decode_str;
use sha2::{Digest, Sha256};

/// The scheme of `Authorization`.
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// The end of a scope.
const TERMINATOR: &str = "aws4_request";
/// The header with the digest of the body, or a word for none.
pub const CONTENT_DIGEST: &str = "x-amz-content-sha256";
/// The header with the time.
const DATE: &str = "x-amz-date";
/// Services whose paths are encoded once; those of others are encoded again.
const ENCODED_ONCE: [&str; 4] = ["s3", "s3-object-lambda", "s3-outposts", "s3express"];
/// Words for a body that is not signed as a whole. That of a body with a signature in each chunk is none of them.
const UNSIGNED: [&str; 2] = ["UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"];

/// The value of an `Authorization` header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Signature<'a> {
    /// The key id.
    pub(super) key_id: &'a str,
    /// Date, region, service and terminator.
    scope: &'a str,
    /// The signed headers, in lower case.
    headers: Vec<&'a str>,
}

impl<'a> Signature<'a> {
    /// Parses the header. `None` if it is another scheme, or malformed.
    pub(super) fn parse(value: &'a [u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?.strip_prefix(ALGORITHM)?.strip_prefix(' ')?;
        let (mut credential, mut headers, mut signature) = (None, None, None);
        for part in text.split(',') {
            let (name, value) = part.trim_matches(' ').split_once('=')?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut headers,
                "Signature" => &mut signature,
                _ => return None,
            };
            if place.replace(value).is_some() {
                return None;
            }
        }
        signature?;
        let (key_id, scope) = credential?.split_once('/')?;
        let headers: Vec<&str> = headers?.split(';').collect();
        let is_name = |text: &&str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && !byte.is_ascii_uppercase())
        };
        let parts: Vec<&str> = scope.split('/').collect();
        let is_word = |text: &&str| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        let well =
            parts.len() == 4 && parts[3] == TERMINATOR && parts.iter().all(is_word) && headers.iter().all(is_name);
        (well && headers.contains(&"host")).then_some(Self { key_id, scope, headers })
    }

    /// What signs such a request anew.
    pub(super) fn signing(&self, key_id: &str, secret: &str, credential: &str) -> Signing {
        Signing {
            credential: credential.to_owned(),
            key_id: key_id.to_owned(),
            secret: secret.to_owned(),
            scope: self.scope.to_owned(),
            headers: self.headers.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

/// Signs a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Signing {
    /// The name of the credential with the key id.
    pub(super) credential: String,
    key_id: String,
    secret: String,
    scope: String,
    headers: Vec<String>,
}

/// A request as it is sent.
pub struct ToSign<'a> {
    /// The method.
    pub method: &'a str,
    /// The path with its query.
    pub path: &'a str,
    /// The `Host` header.
    pub host: &'a str,
    /// Names in lower case, and values.
    pub headers: Vec<(&'a str, &'a [u8])>,
    /// The digest of the body, if the body is known as a whole.
    pub digest: Option<[u8; 32]>,
}

/// Why a request is not signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotSigned {
    /// The host has a key id, and no secret.
    #[error("the host has no credential in the slot aws-secret")]
    NoSecret,
    /// A link that is signed.
    #[error("it is a presigned URL; send a request that is signed in Authorization")]
    Presigned,
    /// Each chunk of the body has a signature.
    #[error(
        "each chunk of its body is signed; have the client sign the body whole, or not, as newer SDKs do: UNSIGNED-PAYLOAD or \
         STREAMING-UNSIGNED-PAYLOAD-TRAILER"
    )]
    Chunks,
    /// The body's digest is another word than is known.
    #[error("its header x-amz-content-sha256 is not a digest in hexadecimal digits, nor UNSIGNED-PAYLOAD")]
    Digest,
    /// The body is not known as a whole, and its digest is not said.
    #[error("its body is too long to be signed, and no header x-amz-content-sha256 says its digest")]
    Long,
    /// There is no time, or another one than its scope's.
    #[error("it has no header x-amz-date of the day that it is signed for")]
    Date,
}

impl Signing {
    /// The name of the credential with the key id.
    pub fn credential(&self) -> &str {
        &self.credential
    }

    /// The `Authorization` header of a request.
    ///
    /// # Errors
    /// It cannot be signed.
    pub fn authorization(&self, request: &ToSign<'_>) -> Result<String, NotSigned> {
        let one = |name: &str| request.headers.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let text = |name: &str| one(name).and_then(|value| std::str::from_utf8(value).ok());
        let digest = match (one(CONTENT_DIGEST), request.digest) {
            (Some(_), _) => known_digest(text(CONTENT_DIGEST).unwrap_or_default())?.to_owned(),
            (None, Some(digest)) => hex(&digest),
            (None, None) => return Err(NotSigned::Long),
        };
        let (day, _) = self.scope.split_once('/').ok_or(NotSigned::Date)?;
        let time = text(DATE).filter(|time| is_time(time) && time.starts_with(day)).ok_or(NotSigned::Date)?;
        let names: Vec<&str> =
            self.headers.iter().map(String::as_str).filter(|name| *name == "host" || one(name).is_some()).collect();
        let canonical = self.canonical(request, &names, &digest);
        let to_sign = format!("{ALGORITHM}\n{time}\n{}\n{}", self.scope, hex(&Sha256::digest(canonical)));
        let signature = hex(&hmac(&self.key(), to_sign.as_bytes()));
        let (key_id, scope, names) = (&self.key_id, &self.scope, names.join(";"));
        Ok(format!("{ALGORITHM} Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}"))
    }

    /// The canonical request.
    fn canonical(&self, request: &ToSign<'_>, names: &[&str], digest: &str) -> Vec<u8> {
        let (path, query) = request.path.split_once('?').unwrap_or((request.path, ""));
        let once = self.scope.split('/').nth(2).is_some_and(|service| ENCODED_ONCE.contains(&service));
        let segment = |text: &str| {
            if once { encode(&decode(text)) } else { encode(text.as_bytes()) }
        };
        let path = path.split('/').map(segment).collect::<Vec<_>>().join("/");
        let mut pairs: Vec<(String, String)> = query
            .split('&')
            .filter(|pair| !pair.is_empty())
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .map(|(name, value)| (encode(&decode(name)), encode(&decode(value))))
            .collect();
        pairs.sort_unstable();
        let query = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&");
        let mut text = format!("{}\n{path}\n{query}\n", request.method).into_bytes();
        for name in names {
            text.extend_from_slice(name.as_bytes());
            text.push(b':');
            if *name == "host" {
                text.extend_from_slice(request.host.as_bytes());
            } else {
                let values = request.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| folded(value));
                text.extend_from_slice(&values.collect::<Vec<_>>().join(&b","[..]));
            }
            text.push(b'\n');
        }
        text.extend_from_slice(format!("\n{}\n{digest}", names.join(";")).as_bytes());
        text
    }

    /// The key that a request of its day, region and service is signed with.
    fn key(&self) -> [u8; 32] {
        let secret = format!("AWS4{}", self.secret).into_bytes();
        let mut key: Vec<u8> = secret;
        for part in self.scope.split('/') {
            key = hmac(&key, part.as_bytes()).to_vec();
        }
        key.try_into().expect("an HMAC has 32 bytes")
    }
}

/// A digest, or a word for none.
fn known_digest(text: &str) -> Result<&str, NotSigned> {
    let is_digest = text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_digest || UNSIGNED.contains(&text) {
        Ok(text)
    } else if text.starts_with("STREAMING-") {
        Err(NotSigned::Chunks)
    } else {
        Err(NotSigned::Digest)
    }
}

/// Whether a text is a time as `20150830T123600Z`.
fn is_time(text: &str) -> bool {
    let (date, time) = (text.as_bytes().get(..8), text.as_bytes().get(9..15));
    let digits = |part: Option<&[u8]>| part.is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    text.len() == 16 && digits(date) && digits(time) && &text[8..9] == "T" && text.ends_with('Z')
}

/// A header's value without spaces around it, and with one where there are several.
fn folded(value: &[u8]) -> Vec<u8> {
    let words = value.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(&b' ')
}

fn decode(text: &str) -> Vec<u8> {
    percent_decode_str(text).collect()
}

/// Percent-encodes all but the unreserved characters (RFC 3986, section 2.3).
fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// HMAC with SHA-256 (RFC 2104).
mod hmac {
    use sha2::{Digest, Sha256};

    /// The block of SHA-256, in bytes.
    const BLOCK: usize = 64;

    pub(super) fn hmac(key: &[u8], text: &[u8]) -> [u8; 32] {
        let mut block = [0; BLOCK];
        if key.len() > BLOCK {
            block[..32].copy_from_slice(&Sha256::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let inner = Sha256::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
        Sha256::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the IAM User Guide, and what it is signed to.
    const EXAMPLE: &[u8] = b"AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, \
        SignedHeaders=content-type;host;x-amz-date, Signature=0000";
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    fn request<'a>(path: &'a str, headers: &[(&'a str, &'a str)]) -> ToSign<'a> {
        let headers = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        ToSign { method: "GET", path, host: "iam.amazonaws.com", headers, digest: Some(Sha256::digest("").into()) }
    }

    const HEADERS: [(&str, &str); 2] =
        [("content-type", "application/x-www-form-urlencoded; charset=utf-8"), ("x-amz-date", "20150830T123600Z")];

    #[test]
    fn the_example_of_the_documentation_is_signed_as_there() {
        let signing = Signature::parse(EXAMPLE).unwrap().signing("AKIDEXAMPLE", SECRET, "key");
        let authorization = signing.authorization(&request("/?Action=ListUsers&Version=2010-05-08", &HEADERS)).unwrap();
        let expected = "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
        assert!(authorization.ends_with(&format!("Signature={expected}")), "{authorization}");
        assert_eq!(hex(&signing.key()), "c4afb1cc5771d871763a393e44b703571b55cc28424d1a5e86da6ed3c154a4b9");
    }

    #[test]
    fn an_hmac_is_as_in_its_document() {
        // RFC 4231, test cases 2 and 6.
        let short = hex(&hmac(b"Jefe", b"what do ya want for nothing?"));
        assert_eq!(short, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
        let long = hex(&hmac(&[0xaa; 131], b"Test Using Larger Than Block-Size Key - Hash Key First"));
        assert_eq!(long, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    }

    #[test]
    fn what_is_sent_is_signed_in_its_canonical_form() {
        let of = |service: &str, path: &str, headers: &[(&str, &str)]| {
            let value = EXAMPLE.to_vec();
            let value = String::from_utf8(value).unwrap().replace("/iam/", &format!("/{service}/"));
            let value = value.replace("content-type;host", "host;x-amz-a");
            let signing = Signature::parse(value.as_bytes()).unwrap().signing("AKIDEXAMPLE", SECRET, "key");
            let names: Vec<&str> = signing.headers.iter().map(String::as_str).collect();
            String::from_utf8(signing.canonical(&request(path, headers), &names, "D")).unwrap()
        };
        let canonical =
            of("s3", "/a%20b/(c)/%2A?b=2&a=%2b+&a", &[("x-amz-a", " 1  2 "), ("x-amz-a", "3"), ("x-amz-date", "T")]);
        let expected = "GET\n/a%20b/%28c%29/%2A\na=&a=%2B%2B&b=2\nhost:iam.amazonaws.com\nx-amz-a:1 2,3\nx-amz-date:T\n\n\
                        host;x-amz-a;x-amz-date\nD";
        assert_eq!(canonical, expected);
        assert!(of("iam", "/a%20b", &[]).starts_with("GET\n/a%2520b\n"));
    }

    #[test]
    fn what_is_no_signature_is_none() {
        assert!(Signature::parse(EXAMPLE).is_some());
        let text = String::from_utf8(EXAMPLE.to_vec()).unwrap();
        for (before, after) in [
            ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"),
            ("aws4_request", "aws4"),
            ("host;", ""),
            ("us-east-1/", ""),
            ("us-east-1", "us\neast"),
            (", Signature=0000", ""),
            ("Signature=0000", "Signature=0000, Signature=0000"),
            ("Signature=0000", "Signature=0000, More=1"),
            ("content-type", "Content-Type"),
            ("AKIDEXAMPLE/", ""),
        ] {
            assert_eq!(Signature::parse(text.replace(before, after).as_bytes()), None, "{before} {after}");
        }
    }

    #[test]
    fn what_cannot_be_signed_says_why() {
        let signing = Signature::parse(EXAMPLE).unwrap().signing("AKIDEXAMPLE", SECRET, "key");
        let with = |headers: &[(&str, &str)], digest| {
            signing.authorization(&ToSign { digest, ..request("/", headers) }).map(|_| ())
        };
        let (date, empty) = (("x-amz-date", "20150830T123600Z"), Some(Sha256::digest("").into()));
        let digest = hex(&Sha256::digest(""));
        for (headers, body, expected) in [
            (vec![date], empty, Ok(())),
            (vec![date], None, Err(NotSigned::Long)),
            (vec![date, (CONTENT_DIGEST, digest.as_str())], None, Ok(())),
            (vec![date, (CONTENT_DIGEST, "UNSIGNED-PAYLOAD")], None, Ok(())),
            (vec![date, (CONTENT_DIGEST, "STREAMING-UNSIGNED-PAYLOAD-TRAILER")], None, Ok(())),
            (vec![date, (CONTENT_DIGEST, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")], empty, Err(NotSigned::Chunks)),
            (vec![date, (CONTENT_DIGEST, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER")], None, Err(NotSigned::Chunks)),
            (vec![date, (CONTENT_DIGEST, "e3b0")], empty, Err(NotSigned::Digest)),
            (vec![], empty, Err(NotSigned::Date)),
            (vec![("x-amz-date", "20150831T123600Z")], empty, Err(NotSigned::Date)),
            (vec![("x-amz-date", "20150830")], empty, Err(NotSigned::Date)),
        ] {
            assert_eq!(with(&headers, body), expected, "{headers:?}");
        }
    }
}
