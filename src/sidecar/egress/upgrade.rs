//! What a request makes of its connection.

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};

use super::bodies::Body;
use super::connection_permit::ConnectionPermit;
use super::drain::RequestBody;
use super::strict::UpgradeGrant;

/// What a request makes of its connection, if it is granted.
pub(super) enum ProtocolSwitch {
    Nothing,
    Tunnel,
    Upgrade(Option<UpgradeGrant>),
}

impl ProtocolSwitch {
    /// What a request makes of its connection has the connection's place, too, and may be granted; most make nothing of it.
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
            Self::Nothing
        }
    }

    /// Ends the connection after an answer that does not grant what was asked for: only a tunnel is granted by any 2xx, and
    /// an upgrade by 101 alone (RFC 9110, section 15.2.2).
    pub(super) fn end(self, mut response: Response<Body>) -> Response<Body> {
        let granted = match self {
            Self::Nothing => true,
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
