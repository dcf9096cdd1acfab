//! One request: from its route to the destination, and the response back. Bodies stream in both directions.

use bytes::Bytes;
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Request, Response, StatusCode, Uri};

use super::routes::{Put, Refused, Route, find};
use crate::credential::may_hold_credential;
use crate::sidecar::hop_by_hop::strip;
use crate::sidecar::outward::OutwardClient;

/// What goes back to the client.
pub(super) type Back = Response<Either<Incoming, Full<Bytes>>>;

/// Forwards a request by its route.
pub(super) async fn forward(request: Request<Incoming>, routes: &[Route], client: &OutwardClient<Incoming>) -> Back {
    match send(request, routes, client).await {
        Ok(response) => response,
        Err((status, why)) => refusal(status, &why),
    }
}

async fn send(request: Request<Incoming>, routes: &[Route], client: &OutwardClient<Incoming>) -> Result<Back, Refused> {
    let (mut head, body) = request.into_parts();
    // The target is a path: nothing else names a destination (RFC 9112, section 3.2).
    if head.uri.authority().is_some() || head.uri.scheme().is_some() {
        return Err((400, "send the path of a route, not a URL".to_owned()));
    }
    let whole = head.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let (route, rest) = find(routes, &whole)?;
    let target = route.target(head.method.as_str(), rest)?;
    let uri = format!("https://{}:{}{target}", route.host, route.port);
    head.uri = uri.parse::<Uri>().map_err(|error| (400, format!("the path is not accepted: {error}")))?;
    strip(&mut head.headers);
    let foreign: Vec<HeaderName> =
        head.headers.keys().filter(|name| may_hold_credential(name.as_str())).cloned().collect();
    for name in foreign {
        head.headers.remove(name);
    }
    head.headers.remove(header::HOST);
    if let Put::Header(name, value) = &route.put {
        let name = HeaderName::try_from(name.as_str()).map_err(|error| (500, error.to_string()))?;
        let mut value = HeaderValue::try_from(value.as_str()).map_err(|error| (500, error.to_string()))?;
        value.set_sensitive(true);
        head.headers.insert(name, value);
    }
    head.version = hyper::Version::HTTP_11;
    head.extensions.clear();
    let sent = client.request(Request::from_parts(head, body)).await;
    let mut response = sent.map_err(|error| (502, reason(&error, route)))?;
    strip(response.headers_mut());
    if response.status().is_redirection()
        && let Some(location) = response.headers().get(header::LOCATION)
    {
        let inside = location.to_str().ok().and_then(|location| route.redirect(location));
        let Some(inside) = inside else {
            let why = format!("{} redirects to a place that the route {} does not lead to", route.host, route.path);
            return Err((502, why));
        };
        let inside = HeaderValue::try_from(inside).map_err(|error| (502, error.to_string()))?;
        response.headers_mut().insert(header::LOCATION, inside);
    }
    Ok(response.map(Either::Left))
}

/// Why there is no response: the words of egress, if it refused.
fn reason(error: &hyper_util::client::legacy::Error, route: &Route) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    format!("{} cannot be reached by the route {}: {cause}", route.host, route.path)
}

fn refusal(status: u16, why: &str) -> Back {
    let mut response = Response::new(Either::Right(Full::from(format!("cred-proxy: {why}\n"))));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    // An SDK must not repeat what is refused again.
    response.headers_mut().insert("x-should-retry", HeaderValue::from_static("false"));
    response
}
