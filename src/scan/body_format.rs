//! The format of a body, as its headers declare it, and the scan of a complete body.

use std::borrow::Cow;

use super::budget::Budget;
use super::carrier::Carrier;
use super::decode::decode;
use super::encoding::{AWS_CHUNKED, DecodeError, Encoding, compressed};
use super::finding::Finding;
use super::grpc::{GrpcMessages, web_text};
use super::joined_values::JoinedValues;
use super::multipart::{boundary, parts};
use super::scanner::{Look, Scanner};
use super::signed_form::signer;
use super::{aws_chunked, wide};

/// Longer parts of a form are not joined with others, in bytes.
const MAX_PIECE: usize = 64 << 10;

/// Content types of JSON texts one after the other (ndjson.org, jsonlines.org, RFC 7464).
const LINES: [&str; 6] = [
    "application/x-ndjson",
    "application/ndjson",
    "application/jsonl",
    "application/jsonlines",
    "application/x-jsonlines",
    "application/json-seq",
];

/// The format of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyFormat {
    encodings: Vec<Encoding>,
    /// Whether the body is in S3's `aws-chunked` framing.
    aws_chunked: bool,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    /// JSON in its lines, one after the other; `true` if that is all that is there.
    Lines(bool),
    Pairs,
    Parts(String),
    Grpc(Option<String>),
    /// The same in base64, as browsers send it.
    GrpcText(Option<String>),
}

impl BodyFormat {
    /// Reads `Content-Type`, every `Content-Encoding`, and `grpc-encoding`.
    ///
    /// # Errors
    /// The headers declare a format that cannot be inspected.
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
            (None, kind) if kind.starts_with("application/grpc-web-text") => {
                Form::GrpcText(grpc_encoding.map(str::to_owned))
            }
            (None, kind) if kind.starts_with("application/grpc") => Form::Grpc(grpc_encoding.map(str::to_owned)),
            (None, kind) if kind == "application/json" || kind.ends_with("+json") => Form::Json,
            (None, "text/event-stream") => Form::Lines(false),
            (None, kind) if LINES.contains(&kind) => Form::Lines(true),
            _ => Form::Text,
        };
        if aws_chunked && matches!(form, Form::Grpc(_) | Form::GrpcText(_)) {
            return Err(DecodeError::AwsChunked("it is gRPC"));
        }
        let format = Self { encodings: all, aws_chunked, form };
        if format.messages().transpose()?.is_some() && format.is_encoded() {
            // gRPC messages are compressed one by one, or not at all.
            return Err(DecodeError::Grpc("it is in a content encoding besides"));
        }
        Ok(format)
    }

    /// Whether the body is in S3's `aws-chunked` framing.
    pub fn is_aws_chunked(&self) -> bool {
        self.aws_chunked
    }

    /// Whether the body has a content encoding.
    pub fn is_encoded(&self) -> bool {
        !self.encodings.is_empty()
    }

    /// Whether the body can only be scanned as a whole.
    pub fn needs_whole(&self) -> bool {
        self.is_encoded() || matches!(self.form, Form::GrpcText(_))
    }

    /// The parser of its messages, if this is gRPC. Each message is forwarded as soon as it was scanned.
    pub fn messages(&self) -> Option<Result<GrpcMessages, DecodeError>> {
        match &self.form {
            Form::Grpc(encoding) => Some(GrpcMessages::new(encoding.as_deref())),
            _ => None,
        }
    }

    /// The id of the key that a complete body is signed with, if it is such a form for S3.
    pub fn signer<'a>(&self, body: &'a [u8]) -> Option<&'a [u8]> {
        match &self.form {
            Form::Parts(boundary) if !self.aws_chunked && !self.is_encoded() => signer(boundary, body),
            _ => None,
        }
    }

    /// Scans a complete body in which findings may be masked: where it is plain text, without a content encoding.
    ///
    /// # Errors
    /// The body does not match its headers, or the budget is exhausted.
    pub fn look(&self, scanner: &Scanner, body: &[u8], budget: &mut Budget) -> Result<Look, DecodeError> {
        let blocked = |found: Option<Finding>| {
            found.map_or(Look::Clean, |finding| {
                let would_mask = scanner.would_mask(&finding);
                Look::Blocked(finding, would_mask)
            })
        };
        if self.aws_chunked || self.is_encoded() {
            return Ok(blocked(self.scan(scanner, body, budget)?));
        }
        let carrier = match &self.form {
            Form::Json | Form::Lines(true) => Carrier::Json,
            Form::Pairs => Carrier::Pairs,
            Form::Parts(boundary) => Carrier::Parts(boundary),
            Form::Grpc(_) => Carrier::Message,
            // Masked in base64 it would be another message; only what is no base64 is plain text.
            Form::Text | Form::Lines(false) | Form::GrpcText(_) => Carrier::Text,
        };
        let mut look = scanner.look(body, carrier, budget)?;
        if look == Look::Clean
            && scanner.masks()
            && carrier == Carrier::Pairs
            && let Some(spaced) = spaced(body)
        {
            look = scanner.look_at(&spaced, body, carrier, budget)?;
        }
        match look {
            // What is joined from pieces of a body has no place in it.
            Look::Clean => Ok(blocked(self.scan_joined(scanner, body, budget)?)),
            found => Ok(found),
        }
    }

    /// Scans a complete body.
    ///
    /// # Errors
    /// The body does not match its headers, or the budget is exhausted.
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
        match scanner.scan(body, budget)? {
            None => self.scan_joined(scanner, body, budget),
            found => Ok(found),
        }
    }

    /// Scans what the body's form puts together or encodes.
    fn scan_joined(&self, scanner: &Scanner, body: &[u8], budget: &mut Budget) -> Result<Option<Finding>, DecodeError> {
        match &self.form {
            Form::Text | Form::Grpc(_) => Ok(None),
            Form::GrpcText(encoding) => scanner.scan_web_text(body, encoding.as_deref(), budget),
            Form::Json | Form::Lines(_) => {
                // As Windows' shells write it.
                let narrow = if wide::begins(body) { wide::narrow(body) } else { None };
                let text = narrow.as_deref().unwrap_or(body);
                Ok(JoinedValues::default().join_lines(scanner, text, budget)?)
            }
            Form::Pairs => scanner.scan_form(body, budget),
            Form::Parts(boundary) => {
                let parts = parts(boundary, body, budget)?;
                let fresh = |part: &&Cow<'_, [u8]>| matches!(part, Cow::Owned(_)) || compressed(part).is_some();
                for part in parts.iter().filter(fresh) {
                    if let Some(finding) = scanner.scan(part, budget)? {
                        return Ok(Some(finding));
                    }
                }
                // Without the line end that is the boundary's, and without all white space at the end, as some join them.
                let short = || parts.iter().filter(|part| part.len() <= MAX_PIECE);
                let joined = short().map(|part| without_line_end(part)).collect::<Vec<_>>().concat();
                let trimmed = short().map(|part| part.trim_ascii_end()).collect::<Vec<_>>().concat();
                match scanner.scan_known(&joined, budget)? {
                    None if trimmed != joined => Ok(scanner.scan_known(&trimmed, budget)?),
                    found => Ok(found),
                }
            }
        }
    }
}

fn without_line_end(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").map_or(bytes, |text| text.strip_suffix(b"\r").unwrap_or(text))
}

/// The values of a form or query, concatenated: a secret may be split over several.
pub(super) fn joined(pairs: &[u8]) -> Vec<u8> {
    let values = pairs.split(|&byte| byte == b'&').map(|pair| {
        let equals = memchr::memchr(b'=', pair);
        equals.map_or(pair, |at| &pair[at + 1..])
    });
    values.collect::<Vec<_>>().concat()
}

/// Replaces each plus by a space, as forms encode it; `None` if there is none.
pub(super) fn spaced(pairs: &[u8]) -> Option<Vec<u8>> {
    memchr::memchr(b'+', pairs)?;
    Some(pairs.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect())
}

impl Scanner {
    /// Scans the decoded forms of a form body: with spaces for pluses, and with all values concatenated, for known
    /// secrets.
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

    /// Scans the messages of gRPC that stand in base64, each decoded, and together for known secrets.
    fn scan_web_text(
        &self,
        text: &[u8],
        encoding: Option<&str>,
        budget: &mut Budget,
    ) -> Result<Option<Finding>, DecodeError> {
        let mut messages = GrpcMessages::new(encoding)?;
        let decoded = web_text(text)?;
        budget.spend(decoded.len())?;
        budget.reserve(decoded.len())?;
        messages.push(&decoded.into());
        let mut joined = Vec::new();
        while let Some((_, message, encoding)) = messages.take()? {
            let (content, found) = self.scan_message(&message, encoding, budget)?;
            if found.is_some() {
                return Ok(found);
            }
            budget.reserve(content.len())?;
            joined.extend_from_slice(&content);
        }
        messages.end()?;
        Ok(self.scan_known(&joined, budget)?)
    }

    /// Scans one message, which may be compressed; returns its decoded content.
    ///
    /// # Errors
    /// The message cannot be decoded, or the budget is exhausted.
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
