//! Pipelock's refusals: responses of its own, in place of the destination's. They become refusals of bottler's form, which
//! agents show, and after which they stop.
//!
//! A destination can write such a response as well. It gains nothing: the request has been sent, and the response says that
//! it was not.

use hyper::StatusCode;
use hyper::header::{self, HeaderMap};

/// Maximum size of such a response, in bytes.
pub(in crate::sidecar::egress) const MAX_REFUSAL: usize = 2 << 10;
/// Maximum length of its words that are passed on, in characters.
const MAX_WORDS: usize = 200;
/// The header that it has beside those of Go's `http.Error`.
const HINT: &str = "x-pipelock-hint";

/// Whether the head of a response is like that of a refusal: what Go's `http.Error` writes, and nothing else.
pub(in crate::sidecar::egress) fn may_be_refusal(status: StatusCode, headers: &HeaderMap) -> bool {
    const NAMES: [&str; 6] = ["content-type", "x-content-type-options", "content-length", "date", "connection", "vary"];
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|found| found.as_bytes() == value.as_bytes());
    let length = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    status == StatusCode::FORBIDDEN
        && is("content-type", "text/plain; charset=utf-8")
        && is("x-content-type-options", "nosniff")
        && length.is_some_and(|length| length <= MAX_REFUSAL)
        && headers.keys().all(|name| NAMES.contains(&name.as_str()) || name == HINT)
}

/// What a refusal says; `None` if the text is another's.
pub(in crate::sidecar::egress) fn refusal(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?;
    let words =
        ["blocked: ", "WebSocket blocked: ", "airlock: "].iter().find_map(|before| text.strip_prefix(before))?;
    let plain = words.trim().chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    Some(plain.take(MAX_WORDS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Version 2.3's response to a request with a credit card, less the date.
    fn headers() -> HeaderMap {
        let all = [
            ("content-type", "text/plain; charset=utf-8"),
            ("x-content-type-options", "nosniff"),
            ("content-length", "55"),
        ];
        all.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn its_refusals_are_told_from_responses_of_destinations() {
        assert!(may_be_refusal(StatusCode::FORBIDDEN, &headers()));
        assert!(!may_be_refusal(StatusCode::OK, &headers()));
        for (name, value) in
            [("server", "nginx"), ("content-type", "text/html"), ("content-length", "4096"), ("etag", "a")]
        {
            let mut other = headers();
            other.insert(name, value.parse().unwrap());
            assert!(!may_be_refusal(StatusCode::FORBIDDEN, &other), "{name}");
        }
        assert_eq!(
            refusal(b"blocked: request body contains secret: Credit Card\n").unwrap(),
            "request body contains secret: Credit Card"
        );
        assert_eq!(refusal(b"blocked: a\x1b[2Jb").unwrap(), "a [2Jb");
        assert_eq!(refusal(format!("blocked: {}", "x".repeat(900)).as_bytes()).unwrap().len(), MAX_WORDS);
        for other in [&b"forbidden"[..], b"", b"Blocked: x", b"blocked: \xff"] {
            assert_eq!(refusal(other), None);
        }
    }
}
