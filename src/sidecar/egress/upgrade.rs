//! A request that switches the protocol of its connection: `CONNECT`, or an upgrade.

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
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
