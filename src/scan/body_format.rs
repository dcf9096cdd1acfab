//! How a body is to be looked at, by what its headers say of it.

use std::borrow::Cow;

use super::action::{Action, KNOWN_SECRET};
use super::budget::Budget;
use super::decode::decode;
use super::encoding::{AWS_CHUNKED, DecodeError, Encoding};
use super::finding::Finding;
use super::grpc::GrpcMessages;
use super::multipart::{boundary, parts};
use super::scanner::Scanner;
use super::{aws_chunked, inner};

/// Parts of a form that are longer are no pieces of a secret.
const MAX_PIECE: usize = 64 << 10;
/// So much of JSON's strings is put together before it is looked at, in bytes.
const MAX_TOGETHER: usize = 64 << 10;

/// What a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyFormat {
    encodings: Vec<Encoding>,
    /// Whether S3's framing is around all that.
    aws_chunked: bool,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Pairs,
    Parts(String),
    Grpc(Option<String>),
}

impl BodyFormat {
    /// Reads headers: `Content-Type`, `Content-Encoding` as often as it stands there, `grpc-encoding`.
    ///
    /// # Errors
    /// They say what nobody can look through.
    pub fn read(content_type: &str, encodings: &[&str], grpc_encoding: Option<&str>) -> Result<Self, DecodeError> {
        let mut all = Vec::new();
        for header in encodings {
            all.extend(Encoding::list(header)?);
        }
        let mut words = encodings.iter().flat_map(|header| header.split(','));
        let aws_chunked = words.any(|word| word.trim().eq_ignore_ascii_case(AWS_CHUNKED));
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = match (boundary(content_type)?, kind.as_str()) {
            (Some(boundary), _) => Form::Parts(boundary),
            (None, "application/x-www-form-urlencoded") => Form::Pairs,
            (None, kind) if kind.starts_with("application/grpc") && !kind.ends_with("-web-text") => {
                Form::Grpc(grpc_encoding.map(str::to_owned))
            }
            (None, kind) if kind == "application/json" || kind.ends_with("+json") => Form::Json,
            _ => Form::Text,
        };
        if aws_chunked && matches!(form, Form::Grpc(_)) {
            return Err(DecodeError::AwsChunked("it is gRPC"));
        }
        let format = Self { encodings: all, aws_chunked, form };
        if format.messages().transpose()?.is_some() && format.is_encoded() {
            // Its messages are compressed each for itself, or not at all.
            return Err(DecodeError::Grpc("it is in a content encoding besides"));
        }
        Ok(format)
    }

    /// Whether S3's framing is around it.
    pub fn is_aws_chunked(&self) -> bool {
        self.aws_chunked
    }

    /// Whether it can only be looked at whole.
    pub fn is_encoded(&self) -> bool {
        !self.encodings.is_empty()
    }

    /// The messages in it, where it is gRPC: each is sent on as soon as it was looked at.
    pub fn messages(&self) -> Option<Result<GrpcMessages, DecodeError>> {
        match &self.form {
            Form::Grpc(encoding) => Some(GrpcMessages::new(encoding.as_deref())),
            _ => None,
        }
    }

    /// Looks at a body that is whole.
    ///
    /// # Errors
    /// It is not what its headers say, or takes more work than there is.
    pub fn scan(&self, scanner: &Scanner, body: &[u8], budget: &mut Budget) -> Result<Option<Finding>, DecodeError> {
        let payload;
        let body = if self.aws_chunked {
            let (carried, lines) = aws_chunked::decode(body)?;
            budget.reserve(carried.len())?;
            if let Some(finding) = scanner.scan(&lines, budget)? {
                return Ok(Some(finding));
            }
            payload = carried;
            &payload
        } else {
            body
        };
        let decoded = if self.encodings.is_empty() { None } else { Some(decode(body, &self.encodings, budget)?) };
        let body = decoded.as_ref().map_or(body, |decoded| &decoded.text);
        if let Some(decoded) = &decoded {
            budget.grow(body.len());
            if let Some(finding) = scanner.scan(&decoded.metadata, budget)? {
                return Ok(Some(finding));
            }
        }
        if let Some(finding) = scanner.scan(body, budget)? {
            return Ok(Some(finding));
        }
        match &self.form {
            Form::Text | Form::Grpc(_) => Ok(None),
            Form::Json => Ok(scanner.scan_json_strings(body)),
            Form::Pairs => scanner.scan_form(body, budget),
            Form::Parts(boundary) => {
                let parts = parts(boundary, body, budget)?;
                let fresh = |part: &&Cow<'_, [u8]>| matches!(part, Cow::Owned(_)) || inner::compressed(part).is_some();
                for part in parts.iter().filter(fresh) {
                    if let Some(finding) = scanner.scan(part, budget)? {
                        return Ok(Some(finding));
                    }
                }
                let short = parts.iter().filter(|part| part.len() <= MAX_PIECE);
                let joined = short.map(|part| part.trim_ascii_end()).collect::<Vec<_>>().concat();
                Ok(scanner.scan_known(&joined, budget)?)
            }
        }
    }
}

/// The values of a form or a query, one after the other: a secret may be split over several.
pub(super) fn joined(pairs: &[u8]) -> Vec<u8> {
    let values = pairs.split(|&byte| byte == b'&').map(|pair| {
        let equals = memchr::memchr(b'=', pair);
        equals.map_or(pair, |at| &pair[at + 1..])
    });
    values.collect::<Vec<_>>().concat()
}

/// The strings of JSON (RFC 8259, section 7) that are values, as they are written.
fn values(json: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = json;
    std::iter::from_fn(move || {
        loop {
            let from = memchr::memchr(b'"', rest)? + 1;
            let mut to = from;
            loop {
                to += memchr::memchr2(b'"', b'\\', rest.get(to..)?)?;
                if rest[to] == b'"' {
                    break;
                }
                to += 2;
            }
            let value = &rest[from..to];
            rest = &rest[to + 1..];
            if rest.trim_ascii_start().first() != Some(&b':') {
                return Some(value);
            }
        }
    })
}

/// With its pluses as the spaces that they stand for there; `None` where there are none.
pub(super) fn spaced(pairs: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'+', pairs)?;
    Some(pairs.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect())
}

impl Scanner {
    /// Looks at a form besides as it is: with its spaces, and for known secrets with its values put together.
    fn scan_form(&self, pairs: &[u8], budget: &mut Budget) -> Result<Option<Finding>, DecodeError> {
        let spaced = spaced(pairs);
        if let Some(finding) = spaced.as_deref().map_or(Ok(None), |text| self.scan(text, budget))? {
            return Ok(Some(finding));
        }
        for text in [Some(joined(pairs)), spaced.as_deref().map(joined)].into_iter().flatten() {
            if let Some(finding) = self.scan_known(&text, budget)? {
                return Ok(Some(finding));
            }
        }
        Ok(None)
    }

    /// Looks for known secrets that are split over several strings of JSON, one after the other.
    fn scan_json_strings(&self, json: &[u8]) -> Option<Finding> {
        let longest = self.exact.longest_form();
        if longest == 0 || self.action(KNOWN_SECRET) != Action::Block {
            return None;
        }
        // Many strings are one look; of a long one only its ends meet others.
        let mut together = Vec::new();
        for value in values(json) {
            let is_long = value.len() > longest;
            together.extend_from_slice(&value[..value.len().min(longest)]);
            if is_long || together.len() >= MAX_TOGETHER {
                if self.exact.matches(&together) {
                    return Some(Finding::known_secret());
                }
                let end = if is_long { value } else { &together };
                together = end[end.len().saturating_sub(longest)..].to_vec();
            }
        }
        self.exact.matches(&together).then(Finding::known_secret)
    }

    /// Looks at a message that may be compressed for itself; what is in it.
    ///
    /// # Errors
    /// It is not what is said of it, or takes more work than there is.
    pub fn scan_message(
        &self,
        message: &bytes::Bytes,
        encoding: Option<Encoding>,
        budget: &mut Budget,
    ) -> Result<(bytes::Bytes, Option<Finding>), DecodeError> {
        let Some(encoding) = encoding else { return Ok((message.clone(), self.scan(message, budget)?)) };
        let decoded = decode(message, &[encoding], budget)?;
        budget.grow(decoded.text.len());
        let found = self.scan(&decoded.text, budget)?;
        let found = if found.is_some() { found } else { self.scan(&decoded.metadata, budget)? };
        Ok((decoded.text.into(), found))
    }
}
