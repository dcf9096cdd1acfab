//! Inspects a request before it is forwarded: its head, and its body as a whole up to a size, in which findings are masked if
//! the policy says so. Longer bodies are inspected in windows, and the end of each window is held back. Responses are forwarded without inspection unless the
//! user enables it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body as _;
use hyper::header::{self, HeaderMap};
use hyper::http::request::Parts;
use sha2::{Digest, Sha256};

use super::Egress;
use super::bodies::{Body, IncomingBody, Sliced, Uninspected, empty};
use super::buffered::{Buffered, MAX_WHOLE, buffer};
use super::capacity::{Capacity, hold};
use super::drain::RequestBody;
use super::inspect::{BodyRefusal, check_trailers, scan_or_mask, trailer_text};
use super::inspected_body::{InspectedBody, Inspection};
use super::renew::Whole;
use crate::policy::{Intent, Reason};
use crate::scan::{
    AwsChunkedWindows, BodyFormat, Budget, DecodeError, Finding, Head, LiveStream, Look, Overlap, Scanner, Windows,
};

/// Scans the head of a request.
pub(super) async fn check_head(
    capacity: &Capacity,
    scanner: &Arc<Scanner>,
    head: &Parts,
    path: &str,
) -> Result<(), Reason> {
    fn scan_head(
        scanner: &Scanner,
        head: &Head<'_>,
        budget: &mut Budget,
    ) -> Result<Option<(Finding, &'static str)>, DecodeError> {
        let found = scanner.scan_head(head, budget)?;
        scanner.report_warnings(budget);
        Ok(found)
    }
    let method = head.method.as_str();
    let headers: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let length = path.len() + headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
    let head = Head { method, path, headers };
    let result = if let Some(result) = Capacity::scan_inline(length, |budget| scan_head(scanner, &head, budget)) {
        result
    } else {
        let headers = head.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec()));
        let headers: Vec<(String, Vec<u8>)> = headers.collect();
        let (scanner, method, path) = (scanner.clone(), method.to_owned(), path.to_owned());
        let offload = capacity.offload(length, move |budget| {
            let headers = headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
            scan_head(&scanner, &Head { method: &method, path: &path, headers }, budget)
        });
        offload.await
    };
    result?.map_or(Ok(()), |(finding, place)| Err(Reason::SecretFound(finding, place)))
}

fn format(headers: &HeaderMap) -> Result<BodyFormat, Reason> {
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
    // Some S3 clients frame the body and say so only in this header.
    let streams = |value: &&str| value.starts_with("STREAMING-");
    if text(header::HeaderName::from_static("x-amz-content-sha256"))?.iter().any(streams) {
        encodings.push("aws-chunked");
    }
    Ok(BodyFormat::read(kind, &encodings, grpc.first().copied())?)
}

/// What is wanted of a body besides its inspection.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    /// That it can be sent again, if it is whole and short enough.
    pub(super) again: bool,
    /// Its digest, if it is whole.
    pub(super) digest: bool,
}

/// A body that was inspected, or is inspected while it is sent.
pub(super) struct Inspected {
    pub(super) body: Body,
    /// The same, to be sent again.
    pub(super) whole: Option<Whole>,
    /// SHA-256.
    pub(super) digest: Option<[u8; 32]>,
}

impl Inspected {
    fn streamed(body: Body) -> Self {
        Self { body, whole: None, digest: None }
    }
}

/// Inspects the body of a request: as a whole if it is short enough, in windows otherwise, and message by message for
/// gRPC.
pub(super) async fn inspect_request(
    egress: &Arc<Egress>,
    scanner: &Arc<Scanner>,
    headers: &HeaderMap,
    body: RequestBody,
    refusal: &BodyRefusal,
    wanted: Wanted,
) -> Result<Inspected, Reason> {
    let counters = egress.counters.clone();
    let digest = |bytes: &[u8]| wanted.digest.then(|| Sha256::digest(bytes).into());
    if body.is_end_stream() {
        return Ok(Inspected { body: empty(), whole: Some(Whole::none()), digest: digest(&[]) });
    }
    if !scanner.is_enabled() && !wanted.digest {
        let body = Uninspected { inner: body, counters, counter: |counters| &counters.request_bytes };
        return Ok(Inspected::streamed(body.boxed()));
    }
    let format = format(headers)?;
    let hint = body.size_hint();
    let pieces = |inspection, inner, memory| InspectedBody {
        inner,
        inspection,
        scanner: scanner.clone(),
        format: None,
        egress: egress.clone(),
        memory,
        first: Bytes::new(),
        trailers: None,
        ended: false,
        refusal: refusal.clone(),
        counter: |counters| &counters.request_bytes,
        place: "body",
    };
    if let Some(messages) = format.messages() {
        let inspection = Inspection::Messages(messages?, Overlap::messages());
        return Ok(Inspected::streamed(pieces(inspection, body, egress.capacity.memory()).body(hint)));
    }
    let length = hint.exact().map(|length| usize::try_from(length).unwrap_or(usize::MAX));
    let mut body = body;
    let buffered = match length {
        Some(length) if length > MAX_WHOLE => None,
        length => Some(buffer(&egress.capacity, &mut body, length).await?),
    };
    let Some(Buffered { bytes, trailers, memory, ended: true }) = buffered else {
        if format.needs_whole() {
            return Err(Reason::NotDecoded(DecodeError::TooLarge));
        }
        let (buffered, memory) = buffered
            .map_or_else(|| (Bytes::new(), egress.capacity.memory()), |buffered| (buffered.bytes, buffered.memory));
        if format.is_aws_chunked() {
            let rest = pieces(Inspection::AwsChunkedWindows(AwsChunkedWindows::new(scanner)), body, memory);
            return Ok(Inspected::streamed(InspectedBody { first: buffered, ..rest }.body(hint)));
        }
        let mut windows = Windows::new(scanner);
        windows.push(&buffered);
        let rest = pieces(Inspection::Windows(windows, None), body, memory);
        return Ok(Inspected::streamed(InspectedBody { format: Some(format), ..rest }.body(hint)));
    };
    trailers.as_ref().map_or(Ok(()), check_trailers)?;
    let lines = trailers.as_ref().map(trailer_text).unwrap_or_default();
    let signed = format.signer(&bytes).map(|id| Arc::new(scanner.for_signer(id)));
    let scanner = signed.as_ref().unwrap_or(scanner);
    let place = if format.is_encoded() { "compressed body" } else { "body" };
    let look = move |scanner: &Scanner, text: &Bytes, budget: &mut Budget| match format.look(scanner, text, budget)? {
        Look::Clean => {
            let found = scanner.scan(&lines, budget)?;
            Ok(found.map_or(Look::Clean, |finding| Look::Blocked(finding, false)))
        }
        found => Ok(found),
    };
    let bytes = scan_or_mask(&egress.capacity, scanner, bytes, place, look).await?;
    counters.request_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
    let digest = digest(&bytes);
    let (body, whole) = match trailers {
        None if wanted.again => {
            let memory = Arc::new(memory);
            let whole = Whole::new(&bytes, &memory);
            (hold(Sliced(bytes), memory), whole)
        }
        None => (hold(Sliced(bytes), memory), None),
        Some(trailers) => {
            let body = Sliced(bytes).with_trailers(Box::pin(async move { Some(Ok(trailers)) }));
            (hold(body, memory), None)
        }
    };
    Ok(Inspected { body, whole, digest })
}

/// Forwards the body of a response; inspects it if there is a `scanner`.
///
/// # Errors
/// The body cannot be inspected.
pub(super) fn inspect_response(
    egress: &Arc<Egress>,
    scanner: Option<&Arc<Scanner>>,
    headers: &HeaderMap,
    body: impl IncomingBody,
    intent: &Arc<Intent>,
) -> Result<Body, Reason> {
    let counters = egress.counters.clone();
    let Some(scanner) = scanner else {
        return Ok(Uninspected { inner: body, counters, counter: |counters| &counters.response_bytes }.boxed());
    };
    if format(headers)?.is_encoded() {
        return Err(Reason::NotDecoded(DecodeError::Unknown("of an answer, which was asked for as it is".to_owned())));
    }
    let refusal = BodyRefusal::default();
    refusal.answered(egress, intent);
    let hint = body.size_hint();
    let pieces = InspectedBody {
        inner: body,
        inspection: Inspection::Live(LiveStream::new(scanner.clone())),
        format: None,
        scanner: scanner.clone(),
        egress: egress.clone(),
        memory: egress.capacity.memory(),
        first: Bytes::new(),
        trailers: None,
        ended: false,
        refusal,
        counter: |counters| &counters.response_bytes,
        place: "answer",
    };
    Ok(pieces.body(hint))
}
