//! Headers of a single connection, which no proxy forwards.
//!
//! Attacks that this stops: `Connection` that names a header of the framing or the destination, so that the next server reads
//! another request than the one that was judged.

use hyper::header::{self, HeaderMap, HeaderName};

/// Headers of a single connection (RFC 9110, section 7.6.1), and of the proxy.
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

/// Removes the headers of a single connection, including those that `Connection` names.
pub(super) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // `Connection` must not remove the framing or the destination.
        .filter(|name| ![header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(name))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
    // Each connection has its own framing.
    headers.remove(header::TRANSFER_ENCODING);
    // Equal lengths were accepted as one (RFC 9110, section 8.6); HTTP/2 clients take two for an error.
    if headers.get_all(header::CONTENT_LENGTH).iter().nth(1).is_some()
        && let Some(length) = headers.remove(header::CONTENT_LENGTH)
    {
        headers.insert(header::CONTENT_LENGTH, length);
    }
}
