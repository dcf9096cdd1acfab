//! How a body is to be looked at, by what its headers say of it.

use super::decode::{DecodeError, Encoding, decode};
use super::{Finding, Messages, Scanner, aws_chunked, boundary, inner, parts};

/// Parts of a form that are longer are no pieces of a secret.
const MAX_PIECE: usize = 64 << 10;

/// What a body is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    encodings: Vec<Encoding>,
    /// Whether S3's framing is around all that.
    framed: bool,
    form: Form,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Text,
    Pairs,
    Parts(String),
    Grpc(Option<String>),
}

impl Shape {
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
        let framed = words.any(|word| word.trim().eq_ignore_ascii_case(aws_chunked::NAME));
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        let form = match (boundary(content_type)?, kind.as_str()) {
            (Some(boundary), _) => Form::Parts(boundary),
            (None, "application/x-www-form-urlencoded") => Form::Pairs,
            (None, kind) if kind.starts_with("application/grpc") && !kind.ends_with("-web-text") => {
                Form::Grpc(grpc_encoding.map(str::to_owned))
            }
            _ => Form::Text,
        };
        if framed && matches!(form, Form::Grpc(_)) {
            return Err(DecodeError::AwsChunked("it is gRPC"));
        }
        let shape = Self { encodings: all, framed, form };
        shape.messages().transpose()?;
        Ok(shape)
    }

    /// Whether S3's framing is around it.
    pub fn is_framed(&self) -> bool {
        self.framed
    }

    /// Whether it can only be looked at whole.
    pub fn is_encoded(&self) -> bool {
        !self.encodings.is_empty()
    }

    /// The messages in it, where it is gRPC: each is sent on as soon as it was looked at.
    pub fn messages(&self) -> Option<Result<Messages, DecodeError>> {
        match &self.form {
            Form::Grpc(encoding) => Some(Messages::new(encoding.as_deref())),
            _ => None,
        }
    }

    /// Looks at a body that is whole.
    ///
    /// # Errors
    /// It is not what its headers say.
    pub fn whole(&self, scanner: &Scanner, body: &[u8]) -> Result<Option<Finding>, DecodeError> {
        let payload;
        let body = if self.framed {
            let (carried, lines) = aws_chunked::decode(body)?;
            if let Some(finding) = scanner.whole(&lines) {
                return Ok(Some(finding));
            }
            payload = carried;
            &payload
        } else {
            body
        };
        let decoded;
        let body = if self.encodings.is_empty() {
            body
        } else {
            decoded = decode(body, &self.encodings)?;
            &decoded
        };
        let finding = scanner.whole(body);
        let further = match &self.form {
            Form::Text | Form::Grpc(_) => None,
            Form::Pairs => scanner.whole(&joined(body)),
            Form::Parts(boundary) => {
                let parts = parts(boundary, body)?;
                let owned = |part: &std::borrow::Cow<'_, [u8]>| matches!(part, std::borrow::Cow::Owned(_));
                let fresh = parts.iter().filter(|part| owned(part) || inner::compressed(part).is_some());
                let found = fresh.into_iter().find_map(|part| scanner.whole(part));
                found.or_else(|| {
                    let short = parts.iter().filter(|part| part.len() <= MAX_PIECE);
                    scanner.whole(&short.map(|part| part.trim_ascii_end()).collect::<Vec<_>>().concat())
                })
            }
        };
        Ok(finding.or(further))
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
