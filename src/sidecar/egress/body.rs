//! A request is looked at before it leaves: its head at once, and its body whole, whatever its framing, up to a size; what
//! is longer in windows, with what a window ends within held back. Answers pass, or are looked at where the user wants it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;

use super::Egress;
use super::drain::Asked;
use super::gather::{Gathered, MAX_WHOLE, gather};
use super::inspect::{Verdict, trailer_text};
use super::load::{Load, hold};
use super::passing::{Body, Passing, Slices, empty};
use super::pieces::{Look, Pieces};
use crate::policy::{Intent, Reason};
use crate::scan::{DecodeError, Finding, Framed, Head, Scanner, Seam, Shape, Stream, Windows, Work};

/// Looks at the head of a request.
pub(super) async fn check_head(load: &Load, scanner: &Arc<Scanner>, head: &Parts, path: &str) -> Result<(), Reason> {
    fn look(
        scanner: &Scanner,
        head: &Head<'_>,
        work: &mut Work,
    ) -> Result<Option<(Finding, &'static str)>, DecodeError> {
        let found = scanner.head(head, work)?;
        scanner.tell(work);
        Ok(found)
    }
    let method = head.method.as_str();
    let headers: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let length = path.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let head = Head { method, path, headers };
    let looked = if let Some(looked) = Load::at_once(length, |work| look(scanner, &head, work)) {
        looked
    } else {
        let headers = head.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        let headers: Vec<(String, Vec<u8>)> = headers.collect();
        let (scanner, method, path) = (scanner.clone(), method.to_owned(), path.to_owned());
        let aside = load.aside(length, move |work| {
            let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            look(&scanner, &Head { method: &method, path: &path, headers }, work)
        });
        aside.await
    };
    looked?.map_or(Ok(()), |(finding, place)| Err(Reason::SecretFound(finding, place)))
}

fn shape(headers: &HeaderMap) -> Result<Shape, Reason> {
    let text = |name: header::HeaderName| -> Result<Vec<&str>, DecodeError> {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().map_err(|_| DecodeError::Unknown("not ASCII".to_owned()))).collect()
    };
    let kinds = text(header::CONTENT_TYPE)?;
    if kinds.len() > 1 {
        return Err(Reason::BadRequest("there are two Content-Type headers"));
    }
    let grpc = text(header::HeaderName::from_static("grpc-encoding"))?;
    let kind = kinds.first().copied().unwrap_or_default();
    let mut encodings = text(header::CONTENT_ENCODING)?;
    // S3's clients that say so by this alone frame the body, too.
    let streams = |value: &&str| value.starts_with("STREAMING-");
    if text(header::HeaderName::from_static("x-amz-content-sha256"))?.iter().any(streams) {
        encodings.push("aws-chunked");
    }
    Ok(Shape::read(kind, &encodings, grpc.first().copied())?)
}

/// Lets a body through: whole where it is not too long for that, in windows otherwise; messages one by one.
pub(super) async fn admit(
    egress: &Arc<Egress>,
    scanner: &Arc<Scanner>,
    headers: &HeaderMap,
    body: Asked,
    verdict: &Verdict,
) -> Result<Body, Reason> {
    let counters = egress.counters.clone();
    if body.is_end_stream() {
        return Ok(empty());
    }
    if !scanner.looks() {
        return Ok(Passing { inner: body, counters, counter: |counters| &counters.request_bytes }.boxed());
    }
    let shape = shape(headers)?;
    let hint = body.size_hint();
    let pieces = |look, inner, kept| Pieces {
        inner,
        look,
        scanner: scanner.clone(),
        egress: egress.clone(),
        kept,
        first: Bytes::new(),
        trailers: None,
        ended: false,
        verdict: verdict.clone(),
        counter: |counters| &counters.request_bytes,
        place: "body",
    };
    if let Some(messages) = shape.messages() {
        let look = Look::Messages(messages?, Seam::messages());
        return Ok(pieces(look, body, egress.load.keep()).body(hint));
    }
    let length = hint.exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let mut body = body;
    let begun = match length {
        Some(length) if length > MAX_WHOLE => None,
        length => Some(gather(&egress.load, &mut body, length).await?),
    };
    let Some(Gathered { bytes, trailers, kept, ended: true }) = begun else {
        if shape.is_encoded() {
            return Err(Reason::NotDecoded(DecodeError::TooLarge));
        }
        let (begun, kept) = begun.map_or_else(|| (Bytes::new(), egress.load.keep()), |begun| (begun.bytes, begun.kept));
        if shape.is_framed() {
            let rest = pieces(Look::Framed(Framed::new(scanner)), body, kept);
            return Ok(Pieces { first: begun, ..rest }.body(hint));
        }
        let mut windows = Windows::new(scanner);
        windows.push(&begun);
        return Ok(pieces(Look::Windows(windows, None), body, kept).body(hint));
    };
    let (looking, text) = (scanner.clone(), bytes.clone());
    let lines = trailers.as_ref().map(trailer_text).unwrap_or_default();
    let looked = egress.load.look(bytes.len(), move |work| {
        let found = shape.whole(&looking, &text, work)?;
        let found = if found.is_some() { found } else { looking.look(&lines, work)? };
        looking.tell(work);
        Ok(found)
    });
    if let Some(finding) = looked.await? {
        return Err(Reason::SecretFound(finding, "body"));
    }
    counters.request_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    let body = Slices(bytes);
    Ok(match trailers {
        None => hold(body, kept),
        Some(trailers) => hold(body.with_trailers(Box::pin(async move { Some(Ok(trailers)) })), kept),
    })
}

/// Lets an answer through, and looks at it where `scanner` is there.
///
/// # Errors
/// It is to be looked at, and cannot be.
pub(super) fn answer(
    egress: &Arc<Egress>,
    scanner: Option<&Arc<Scanner>>,
    headers: &HeaderMap,
    body: Incoming,
    intent: &Arc<Intent>,
) -> Result<Body, Reason> {
    let counters = egress.counters.clone();
    let Some(scanner) = scanner else {
        return Ok(Passing { inner: body, counters, counter: |counters| &counters.response_bytes }.boxed());
    };
    if shape(headers)?.is_encoded() {
        return Err(Reason::NotDecoded(DecodeError::Unknown("of an answer, which was asked for as it is".to_owned())));
    }
    let verdict = Verdict::default();
    verdict.answered(egress, intent);
    let hint = body.size_hint();
    let pieces = Pieces {
        inner: body,
        look: Look::Live(Stream::new(scanner.clone())),
        scanner: scanner.clone(),
        egress: egress.clone(),
        kept: egress.load.keep(),
        first: Bytes::new(),
        trailers: None,
        ended: false,
        verdict,
        counter: |counters| &counters.response_bytes,
        place: "answer",
    };
    Ok(pieces.body(hint))
}
