//! What a request makes of its connection.

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response};

use super::drain::Asked;
use super::passing::Body;
use super::permit::Place;
use super::strict::Granted;

/// What a request makes of its connection, if it is granted.
pub(super) enum Switch {
    Nothing,
    Tunnel,
    Upgrade(Option<Granted>),
}

impl Switch {
    /// What a request makes of its connection has the connection's place, too, and may be granted; most make nothing of it.
    pub(super) fn prepare(request: &mut Request<Incoming>, place: Option<&Place>, granted: &Granted) {
        if request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE) {
            let extensions = request.extensions_mut();
            extensions.insert(granted.clone());
            if let Some(place) = place {
                extensions.insert(place.clone());
            }
        }
    }

    pub(super) fn of(request: &Request<Asked>) -> Self {
        if request.method() == Method::CONNECT {
            Self::Tunnel
        } else if request.headers().contains_key(header::UPGRADE) {
            Self::Upgrade(request.extensions().get::<Granted>().cloned())
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
                granted.filter(|_| switched).iter().for_each(Granted::grant);
                switched
            }
        };
        if !granted {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
