//! Rebuilds the head of a request or response for the next connection.
//!
//! Attacks that this stops: headers that address the proxy or the connection, and a destination or framing other than
//! the one that was judged.

use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Uri, http};

use crate::net::Host;
use crate::policy::{Intent, Reason};

/// Joins the cookie headers of HTTP/2 for HTTP/1.1 (RFC 9113, section 8.2.3): servers use only one of several, and not
/// all the same.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // A concatenation of valid values is valid.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Sets the destination to the judged one, and the path to this one; ignores what the client wrote.
pub(super) fn aim(head: &mut http::request::Parts, intent: &Intent, path: &str, scheme: &str) -> Result<(), Reason> {
    let authority = authority(&intent.host, intent.port, scheme);
    // The HTTP client writes `Host` for HTTP/1; HTTP/2 has `:authority`, and servers refuse both together.
    head.headers.remove(header::HOST);
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(path).build();
    head.uri = uri.map_err(|_| Reason::BadRequest("the path cannot be read"))?;
    head.version = hyper::Version::HTTP_11;
    head.extensions = http::Extensions::new();
    Ok(())
}

fn authority(host: &Host, port: u16, scheme: &str) -> String {
    let host = match host {
        Host::V6(address) => format!("[{address}]"),
        other => other.to_string(),
    };
    let default = if scheme == "https" { 443 } else { 80 };
    if port == default { host } else { format!("{host}:{port}") }
}
