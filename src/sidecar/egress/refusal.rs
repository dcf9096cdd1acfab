//! The response to a refused request: a status that makes the client stop without blaming its credentials, and one line
//! that the client shows. `README.md` beside this file records what real agents did with other forms.
//!
//! The response contains nothing of the request but what its [`Reason`] says.

use hyper::ext::ReasonPhrase;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Version};
use percent_encoding::{AsciiSet, CONTROLS};

use super::bodies::{Body, empty, full};
use crate::policy::{Form, Intent, Reason};

/// Tells the SDKs of Anthropic and `OpenAI` that a retry would be refused again.
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The longest time that a client is told to wait before it tries again, in seconds (RFC 9110, section 10.2.3). Some wait as
/// long as they are told, without a word to their user: urllib3, and so pip.
const MAX_RETRY_AFTER: u64 = 60;

/// The kind of client, as far as it affects the response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientKind {
    /// Shows plain text, but not JSON (git's http.c, `show_http_message`).
    Git,
    /// Shows the `message` of its API's errors, and nothing of any other body (git-lfs' `docs/api/batch.md`).
    Lfs,
    /// Reads its own status and message, and no other content type (grpc's PROTOCOL-HTTP2.md).
    Grpc,
    /// Any other client.
    Other,
}

impl ClientKind {
    /// The client that sent a request.
    pub(super) fn of<B>(request: &Request<B>) -> Self {
        let header = |name| request.headers().get(name).map(HeaderValue::as_bytes).unwrap_or_default();
        let (agent, kind) = (header(header::USER_AGENT), header(header::CONTENT_TYPE));
        // gRPC-Web, for browsers, gets the ordinary response.
        let grpc =
            kind.strip_prefix(b"application/grpc").is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')));
        match () {
            () if agent.starts_with(b"git-lfs/") => Self::Lfs,
            () if agent.starts_with(b"git/") => Self::Git,
            () if grpc && request.version() == Version::HTTP_2 => Self::Grpc,
            () => Self::Other,
        }
    }
}

/// The status of a refusal. From the proxy itself, a decision about a host is a 403. Inside TLS it is a 400, like every
/// mistake in a request: agents take a 403 of their model's host for a wrong key, and retry other statuses.
pub(super) fn status(reason: &Reason, inside: bool) -> StatusCode {
    match reason {
        _ if is_down(reason) => StatusCode::BAD_GATEWAY,
        Reason::HostMismatch(..) => StatusCode::MISDIRECTED_REQUEST,
        Reason::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Reason::LimitReached(_) => StatusCode::TOO_MANY_REQUESTS,
        Reason::Stalled => StatusCode::REQUEST_TIMEOUT,
        Reason::HostNotAllowed(_)
        | Reason::Denied(..)
        | Reason::PortNotAllowed(..)
        | Reason::OtherPort(..)
        | Reason::NameNotPublic(..)
        | Reason::AddressNotPublic { .. }
        | Reason::AddressOfHost { .. }
            if !inside =>
        {
            StatusCode::FORBIDDEN
        }
        _ => StatusCode::BAD_REQUEST,
    }
}

/// What a response says of a refusal, besides its reason.
#[derive(Debug, Clone)]
pub(super) struct Refusal<'a> {
    /// The bottle's id.
    pub(super) bottle: &'a str,
    /// The refusal's id, by which it is explained.
    pub(super) id: String,
    /// What may have misled whoever wrote the policy, if anything.
    pub(super) note: Option<String>,
    /// The arguments of the call by which the agent asks its operator, if asking may help.
    pub(super) call: Option<String>,
}

/// The message: what, why, and what to do now.
fn message(reason: &Reason, refusal: &Refusal<'_>) -> String {
    let advice = match &refusal.call {
        None => reason.advice(refusal.bottle),
        Some(call) => format!(
            "this is a policy, not an outage: do not retry or bypass it; to ask the operator, call the tool egress_request of the MCP \
             server supervise with {call}"
        ),
    };
    let note = refusal.note.as_ref().map(|note| format!("{note}; ")).unwrap_or_default();
    format!("{}: {reason}; {note}{advice}; refusal {}", phrase(reason), refusal.id)
}

/// The body: one line.
pub(super) fn line(reason: &Reason, client_kind: ClientKind, refusal: &Refusal<'_>) -> String {
    let message = message(reason, refusal);
    match client_kind {
        ClientKind::Git => return format!("{message}\n"),
        ClientKind::Grpc => return message,
        ClientKind::Lfs => return format!("{}\n", serde_json::json!({ "message": message })),
        ClientKind::Other => {}
    }
    // The error format of Anthropic's and OpenAI's APIs, which agents and SDKs parse: all of them show the message.
    let kind = match reason {
        _ if is_down(reason) => "api_error",
        Reason::LimitReached(_) => "rate_limit_error",
        _ => "invalid_request_error",
    };
    let error = serde_json::json!({ "type": kind, "code": reason.code(), "message": message, "id": refusal.id });
    format!("{}\n", serde_json::json!({ "type": "error", "error": error }))
}

/// The response to a refused request; `intent` is what it wanted, if that could be parsed.
pub(super) fn answer(
    reason: &Reason,
    intent: Option<&Intent>,
    client_kind: ClientKind,
    refusal: &Refusal<'_>,
) -> Response<Body> {
    let inside = intent.is_some_and(|intent| intent.form == Form::Inside);
    let status = status(reason, inside);
    if client_kind == ClientKind::Grpc {
        return grpc(reason, status, refusal);
    }
    let mut response = Response::new(full(line(reason, client_kind, refusal).into()));
    *response.status_mut() = status;
    let kind = match client_kind {
        ClientKind::Git => "text/plain; charset=utf-8",
        ClientKind::Lfs => "application/vnd.git-lfs+json",
        ClientKind::Grpc | ClientKind::Other => "application/json",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if !is_down(reason) {
        response.headers_mut().insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    if let Reason::LimitReached(reached) = reason
        && let Some(wait) = reached.wait().filter(|wait| *wait <= MAX_RETRY_AFTER)
    {
        response.headers_mut().insert(header::RETRY_AFTER, wait.into());
    }
    // No client shows the body of a response to `CONNECT`; some show the reason phrase (Go, urllib3).
    if let Ok(phrase) = ReasonPhrase::try_from(phrase(reason)) {
        response.extensions_mut().insert(phrase);
    }
    response
}

/// A gRPC response that consists of trailers alone, in its headers. Clients retry none of the codes for a wrong
/// request, and take `PERMISSION_DENIED` and `UNAUTHENTICATED` for a problem with credentials.
fn grpc(reason: &Reason, status: StatusCode, refusal: &Refusal<'_>) -> Response<Body> {
    const INVALID_ARGUMENT: u16 = 3;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNAVAILABLE: u16 = 14;
    let code = match reason {
        Reason::LimitReached(_) => RESOURCE_EXHAUSTED,
        _ if status.is_server_error() => UNAVAILABLE,
        _ => INVALID_ARGUMENT,
    };
    let message =
        percent_encoding::utf8_percent_encode(&line(reason, ClientKind::Grpc, refusal), GRPC_MESSAGE).to_string();
    let mut response = Response::new(empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", code.into());
    if let Ok(message) = HeaderValue::try_from(message) {
        headers.insert("grpc-message", message);
    }
    response
}

/// The characters that are percent-encoded in a message: all but printable ASCII, and the percent sign.
const GRPC_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// The reason phrase of HTTP/1.1.
pub(super) fn phrase(reason: &Reason) -> String {
    let who = if is_down(reason) { "not passed on by bottler" } else { "refused by bottler" };
    format!("{who}: {}", reason.code())
}

/// Whether the destination is at fault: a retry may succeed.
fn is_down(reason: &Reason) -> bool {
    matches!(reason, Reason::NameUnresolved(..) | Reason::Unreachable(..))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::net::Host;
    use crate::scan::{DecodeError, Finding};

    #[test]
    fn a_limit_that_is_reached_is_not_tried_again_soon() {
        use crate::credential::{Bound, LimitReached, Rate};
        let refusal = Refusal { bottle: "dev", id: "d0".to_owned(), note: None, call: None };
        let rate = Rate { requests: 5, per: Duration::from_hours(1) };
        for (bound, after, option) in [
            (Bound::Total(5), None, "--total N"),
            (Bound::Concurrent(5), None, "--concurrent N"),
            (Bound::Rate(rate, Duration::from_mins(1)), Some("60"), "60s"),
            (Bound::Rate(rate, Duration::from_secs(61)), None, "61s"),
        ] {
            let reason = Reason::LimitReached(LimitReached { credential: Some("own".into()), bound });
            let response = answer(&reason, None, ClientKind::Other, &refusal);
            let header = |name: &HeaderName| response.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!((response.status(), status(&reason, true)), (StatusCode::TOO_MANY_REQUESTS, response.status()));
            assert_eq!((header(&header::RETRY_AFTER), header(&SHOULD_RETRY)), (after, Some("false")));
            let line = line(&reason, ClientKind::Other, &refusal);
            for words in [
                "rate_limit_error",
                "limit_reached",
                "with the credential own",
                option,
                "`bottler policy limit dev own --",
            ] {
                assert!(line.contains(words), "{words}: {line}");
            }
            assert_eq!(answer(&reason, None, ClientKind::Grpc, &refusal).headers()["grpc-status"], "8");
        }
    }

    #[test]
    fn the_status_fits_the_kind_of_refusal_and_the_line_says_why() {
        let host = || Host::Name("api.example.com".into());
        let refusal = Refusal { bottle: "shell-ab12c", id: "d0123abcd".to_owned(), note: None, call: None };
        let finding = Finding { rule: "known-secret".into(), fingerprint: None };
        for (reason, outside, inside) in [
            (Reason::HostNotAllowed(host()), 403, 400),
            (Reason::PortNotAllowed(host(), 22), 403, 400),
            (Reason::Denied(host(), "api.example.com".into()), 403, 400),
            (Reason::PathNotAllowed(host(), "/x".into()), 400, 400),
            (Reason::MethodNotAllowed("PUT".into(), host()), 400, 400),
            (Reason::SecretFound(finding, "body"), 400, 400),
            (Reason::NotDecoded(DecodeError::TooLarge), 400, 400),
            (Reason::BadRequest("x"), 400, 400),
            (Reason::HostMismatch(host(), "x".into()), 421, 421),
            (Reason::Unreachable(host(), "x".into()), 502, 502),
            (Reason::NameUnresolved(host(), "x".into()), 502, 502),
        ] {
            assert_eq!(
                (status(&reason, false).as_u16(), status(&reason, true).as_u16()),
                (outside, inside),
                "{reason}"
            );
            let text = line(&reason, ClientKind::Other, &refusal);
            assert!(text.ends_with("}\n") && text.matches('\n').count() == 1, "{text}");
            let json: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((&json["type"], &json["error"]["code"]), (&"error".into(), &reason.code().into()));
            let message = json["error"]["message"].as_str().unwrap();
            assert!(
                message.contains(&reason.to_string()) && message.contains(&reason.advice("shell-ab12c")),
                "{message}"
            );
            assert!(message.ends_with("; refusal d0123abcd") && json["error"]["id"] == "d0123abcd", "{message}");
            assert_eq!(line(&reason, ClientKind::Git, &refusal).trim_end(), message);
            let lfs: serde_json::Value = serde_json::from_str(&line(&reason, ClientKind::Lfs, &refusal)).unwrap();
            assert_eq!(lfs["message"], message);
            let response = answer(&reason, None, ClientKind::Grpc, &refusal);
            let code = response.headers()["grpc-status"].to_str().unwrap();
            assert_eq!(
                (response.status(), code),
                (StatusCode::OK, if outside == 502 { "14" } else { "3" }),
                "{reason}"
            );
            assert_eq!(response.headers()["grpc-message"], message);
            let retries = !answer(&reason, None, ClientKind::Other, &refusal).headers().contains_key(SHOULD_RETRY);
            assert_eq!(retries, outside == 502, "{reason}");
        }
    }

    #[test]
    fn an_agent_that_can_ask_reads_the_call_instead_of_the_operators_command() {
        let reason = Reason::HostNotAllowed(Host::Name("crates.io".into()));
        let call = Some("{\"host\":\"crates.io\"}".to_owned());
        let note = Some("\"*.crates.io\" does not include crates.io itself".to_owned());
        let refusal = Refusal { bottle: "demo", id: "d0".to_owned(), note, call };
        let text = line(&reason, ClientKind::Git, &refusal);
        for words in [
            "allowlist; \"*.crates.io\" does not include crates.io itself; this is a policy",
            "not an outage",
            "egress_request of the MCP server supervise with {\"host\":\"crates.io\"}",
            "refusal d0",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(!text.contains("policy allow"), "{text}");
    }
}
