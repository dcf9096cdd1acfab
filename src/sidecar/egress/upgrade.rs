//! A request that switches the protocol of its connection: `CONNECT`, or an upgrade.

use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response};

use super::bodies::Body;
use super::connection_permit::ConnectionPermit;
use super::drain::RequestBody;
use super::strict::UpgradeGrant;

/// The protocol switch that a request asks for.
pub(super) enum ProtocolSwitch {
    Never,
    Tunnel,
    Upgrade(Option<UpgradeGrant>),
}

impl ProtocolSwitch {
    /// Attaches the connection's permit to a request that switches protocols, so that what follows keeps it.
    pub(super) fn prepare(request: &mut Request<Incoming>, permit: Option<&ConnectionPermit>, granted: &UpgradeGrant) {
        ignore_h2c(request.headers_mut());
        if request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE) {
            let extensions = request.extensions_mut();
            extensions.insert(granted.clone());
            if let Some(permit) = permit {
                extensions.insert(permit.clone());
            }
        }
    }

    pub(super) fn of(request: &Request<RequestBody>) -> Self {
        if request.method() == Method::CONNECT {
            Self::Tunnel
        } else if request.headers().contains_key(header::UPGRADE) {
            Self::Upgrade(request.extensions().get::<UpgradeGrant>().cloned())
        } else {
            Self::Never
        }
    }

    /// Closes the connection after a response that does not grant the switch: any 2xx grants a tunnel, but only 101 an
    /// upgrade (RFC 9110, section 15.2.2).
    pub(super) fn end(self, mut response: Response<Body>) -> Response<Body> {
        let granted = match self {
            Self::Never => true,
            Self::Tunnel => response.status().is_success(),
            Self::Upgrade(granted) => {
                let switched = response.status() == hyper::StatusCode::SWITCHING_PROTOCOLS;
                granted.filter(|_| switched).iter().for_each(UpgradeGrant::grant);
                switched
            }
        };
        if !granted {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// Takes out an offer to go on in HTTP/2, which Java's client makes: a server may ignore it (RFC 9110, section 7.8), and the
/// later standard knows it no more (RFC 9113, section 3.1). It is never forwarded.
fn ignore_h2c(headers: &mut HeaderMap) {
    let mut offers = headers.get_all(header::UPGRADE).iter();
    let first = offers.next().is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"h2c"));
    if first && offers.next().is_none() {
        headers.remove(header::UPGRADE);
        headers.remove("http2-settings");
    }
}
