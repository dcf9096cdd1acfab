//! The head of a request or response as it is sent on.

use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Uri, http};

use crate::net::Host;
use crate::policy::{Intent, Reason};

/// Headers that concern one connection only (RFC 9110, section 7.6.1), and the proxy's own.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "expect",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
];

/// Joins what HTTP/2 has in several headers, as HTTP/1.1 has it (RFC 9113, section 8.2.3): servers take one of them, and not
/// all the same one.
pub(super) fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    // What was made of values is one.
    if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(header::COOKIE, joined);
    }
}

/// Sets a request's destination: what was judged, in its one form, and nothing that the client wrote.
pub(super) fn aim(head: &mut http::request::Parts, intent: &Intent, scheme: &str) -> Result<(), Reason> {
    let authority = authority(&intent.host, intent.port, scheme);
    let path = intent.path.clone().unwrap_or_else(|| "/".to_owned());
    // The client writes one for HTTP/1; in HTTP/2 it is `:authority`, and servers refuse both.
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

/// Removes what concerns one connection only, also what the Connection header names.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A sender may not use Connection to take framing or the destination away.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // Framing is that of each connection.
    headers.remove(header::TRANSFER_ENCODING);
}
