//! Smart HTTP (git, `gitprotocol-http(5)`): which request is for which repository and service. The pure part decides;
//! the rest streams.

use std::convert::Infallible;
use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::body::{Body, PIPE, Response, full, reader, streamed, text};
use super::conversation::Service;
use super::fetch::{self, FetchError, MAX_REQUEST, Version};
use super::gate::{Gate, Operation, Served};
use super::lfs_serve::{self, Asked};
use super::report::{Answer, QUEUE};
use super::{pkt, push, receive};
use crate::policy::GitRepository;

/// How long the request of a fetch may take to arrive.
const PATIENCE: Duration = Duration::from_mins(2);

/// Which way requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// The gate's own, under its name.
    Own,
    /// egress, which hands over what is for the repository's own URL.
    Egress,
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// The list of references.
    Refs(Service),
    /// A request of a service.
    Post(Service),
    /// Git LFS.
    Lfs(Asked),
}

/// Reads a target: the repository's path, and the action. Escapes, empty and dotted components are in no URL of git's.
fn route<'a>(method: &Method, path: &'a str, query: Option<&str>) -> Option<(&'a str, Action)> {
    if path.contains(['%', '\\']) || path.split('/').skip(1).any(|part| matches!(part, "" | "." | "..")) {
        return None;
    }
    if let Some((repository, rest)) = path.split_once("/info/lfs") {
        return Some((repository, Action::Lfs(Asked::read(method, rest))));
    }
    if let Some(repository) = path.strip_suffix("/info/refs") {
        let service = Service::of_name(query?.strip_prefix("service=")?)?;
        return (method == Method::GET).then_some((repository, Action::Refs(service)));
    }
    let (repository, name) = path.rsplit_once('/')?;
    (method == Method::POST).then_some((repository, Action::Post(Service::of_name(name)?)))
}

/// The repository of a request: by its name at the gate, or by the host and path that egress handed over.
fn find(gate: &Gate, host: &str, path: &str) -> Option<Arc<Served>> {
    let host = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let name = path.trim_start_matches('/');
    gate.named(name.strip_suffix(".git").unwrap_or(name)).or_else(|| gate.at(host, path))
}

/// Responds to a request.
pub(super) async fn respond(gate: Arc<Gate>, door: Door, request: Request<Incoming>) -> Result<Response, Infallible> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
    let (path, query) = (request.uri().path().to_owned(), request.uri().query().map(str::to_owned));
    let routed = route(request.method(), &path, query.as_deref());
    let routed = routed.and_then(|(repository, action)| Some((find(&gate, &host, repository)?, action)));
    Ok(match routed {
        None => text(StatusCode::NOT_FOUND, "text/plain", "the git gate serves no such repository\n"),
        Some((served, Action::Lfs(asked))) => {
            let base = base(&served, door, &host);
            lfs_serve::respond(&gate, &served, asked, &base, request).await
        }
        Some((served, Action::Refs(service))) => refs(&gate, &served, service, &request).await,
        Some((served, Action::Post(Service::UploadPack))) => upload(&gate, &served, request).await,
        Some((served, Action::Post(Service::ReceivePack))) => receive_pack(&gate, &served, request).await,
    })
}

/// The URL of a repository, as this client reaches it.
fn base(served: &Served, door: Door, host: &str) -> String {
    match door {
        Door::Own => format!("http://{host}/{}.git", served.name),
        Door::Egress => format!("{}.git", GitRepository::of(&served.name, &served.target.upstream).url),
    }
}

fn version(request: &Request<Incoming>) -> Version {
    Version::read(request.headers().get("git-protocol").and_then(|value| value.to_str().ok()).unwrap_or_default())
}

async fn refs(gate: &Gate, served: &Arc<Served>, service: Service, request: &Request<Incoming>) -> Response {
    let listed = match service {
        Service::UploadPack => {
            fetch::advertisement(&served.mirror, version(request)).await.map_err(|error| error.to_string())
        }
        Service::ReceivePack => receive::advertisement(served)
            .await
            .map_err(|error| error.to_string())
            .map(|list| [&pkt::line("# service=git-receive-pack\n"), pkt::FLUSH, &list].concat()),
    };
    let body = listed.unwrap_or_else(|why| {
        [pkt::line(format!("# service={}\n", service.name())), pkt::FLUSH.to_vec(), failed(gate, served, service, &why)]
            .concat()
    });
    git(&format!("application/x-{}-advertisement", service.name()), full(body))
}

/// A failed operation, as every client shows it.
fn failed(gate: &Gate, served: &Served, service: Service, why: &str) -> Vec<u8> {
    let (method, decision, code) = (service.operation(), "refuse", "git_upstream_failed");
    gate.record(served, &Operation { method, decision, code, reason: why.to_owned() });
    pkt::line(format!("ERR bottler: {}", super::visible::reason(why)))
}

fn too_large() -> Response {
    let why = format!("{}\n", FetchError::Large);
    text(StatusCode::PAYLOAD_TOO_LARGE, "text/plain", why)
}

async fn upload(gate: &Arc<Gate>, served: &Arc<Served>, request: Request<Incoming>) -> Response {
    let kind = "application/x-git-upload-pack-result";
    let version = version(&request);
    let is_gzip = request.headers().get(CONTENT_ENCODING).is_some_and(|value| value == "gzip");
    let Ok(permit) = gate.fetches.clone().acquire_owned().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "text/plain", "the git gate is ending\n");
    };
    let mut body = Vec::new();
    let mut from = reader(request.into_body()).take(MAX_REQUEST + 1);
    let read = tokio::time::timeout(PATIENCE, from.read_to_end(&mut body)).await;
    if !matches!(read, Ok(Ok(_))) {
        return text(StatusCode::REQUEST_TIMEOUT, "text/plain", "the request of a fetch did not arrive in time\n");
    }
    if body.len() as u64 > MAX_REQUEST {
        return too_large();
    }
    if is_gzip {
        let mut plain = Vec::new();
        let read = flate2::read::GzDecoder::new(&body[..]).take(MAX_REQUEST + 1).read_to_end(&mut plain);
        if plain.len() as u64 > MAX_REQUEST {
            return too_large();
        }
        if read.is_err() {
            return text(StatusCode::BAD_REQUEST, "text/plain", "the request of a fetch cannot be decompressed\n");
        }
        body = plain;
    }
    let gate = gate.clone();
    let served = served.clone();
    let (to, from) = mpsc::channel::<std::io::Result<Bytes>>(QUEUE);
    crate::task::spawn(async move {
        let _permit = permit;
        let mut running = match fetch::rpc(&served.mirror, version, body).await {
            Ok(running) => running,
            Err(error) => {
                let _ = to.send(Ok(failed(&gate, &served, Service::UploadPack, &error.to_string()).into())).await;
                return;
            }
        };
        let Some(mut stdout) = running.child.stdout.take() else { return };
        let (mut piece, mut said) = (vec![0; PIPE], false);
        while let Ok(length @ 1..) = stdout.read(&mut piece).await {
            said = true;
            if to.send(Ok(Bytes::copy_from_slice(&piece[..length]))).await.is_err() {
                return;
            }
        }
        // `upload-pack` says itself why it fails, and clients see that a pack is not complete.
        if let Err(error) = running.end().await
            && !said
        {
            let _ = to.send(Ok(failed(&gate, &served, Service::UploadPack, &error.to_string()).into())).await;
        }
    });
    git(kind, streamed(from))
}

async fn receive_pack(gate: &Arc<Gate>, served: &Arc<Served>, request: Request<Incoming>) -> Response {
    let kind = "application/x-git-receive-pack-result";
    if request.headers().contains_key(CONTENT_ENCODING) {
        return text(StatusCode::UNSUPPORTED_MEDIA_TYPE, "text/plain", "a push has no content encoding\n");
    }
    let mut from = reader(request.into_body());
    let push = match receive::receive(gate, served, &mut from, true).await {
        Ok(push) => push,
        Err(error) => {
            let reason = error.to_string();
            let (decision, code) = ("refuse", "git_push_malformed");
            gate.record(served, &Operation { method: "push", decision, code, reason: reason.clone() });
            let _ = tokio::io::copy(&mut from.take(served.terms.max_push), &mut tokio::io::sink()).await;
            return git(kind, full(pkt::line(format!("ERR bottler: {}", super::visible::reason(&reason)))));
        }
    };
    let (to, from) = mpsc::channel(QUEUE);
    let (gate, served) = (gate.clone(), served.clone());
    crate::task::spawn(async move {
        let answer = Answer::new(to, &push.request);
        push::decide(&gate, &served, push, &answer).await;
    });
    let from = futures_util::stream::unfold(from, |mut from| async {
        from.recv().await.map(|piece| (Ok(Frame::data(piece)), from))
    });
    git(kind, BodyExt::boxed(StreamBody::new(from)))
}

fn git(kind: &str, body: Body) -> Response {
    let response = hyper::Response::builder().header(CONTENT_TYPE, kind).header(CACHE_CONTROL, "no-cache");
    response.body(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_requests_of_git_are_routed() {
        let (get, post) = (Method::GET, Method::POST);
        for (method, path, query, expected) in [
            (
                &get,
                "/app.git/info/refs",
                Some("service=git-upload-pack"),
                Some(("/app.git", Action::Refs(Service::UploadPack))),
            ),
            (
                &get,
                "/a/app/info/refs",
                Some("service=git-receive-pack"),
                Some(("/a/app", Action::Refs(Service::ReceivePack))),
            ),
            (&post, "/app.git/git-upload-pack", None, Some(("/app.git", Action::Post(Service::UploadPack)))),
            (&post, "/app.git/git-receive-pack", None, Some(("/app.git", Action::Post(Service::ReceivePack)))),
            (&post, "/app.git/info/lfs/objects/batch", None, Some(("/app.git", Action::Lfs(Asked::Batch)))),
            (&get, "/app.git/info/refs", None, None),
            (&get, "/app.git/info/refs", Some("service=git-upload-archive"), None),
            (&get, "/app.git/info/refs", Some("service=git-upload-pack&x"), None),
            (&post, "/app.git/info/refs", Some("service=git-upload-pack"), None),
            (&get, "/app.git/git-upload-pack", None, None),
            (&get, "/app.git/HEAD", None, None),
            (&get, "/x/../app.git/info/refs", Some("service=git-upload-pack"), None),
            (&get, "/x//app.git/info/refs", Some("service=git-upload-pack"), None),
            (&get, "/%61pp.git/info/refs", Some("service=git-upload-pack"), None),
        ] {
            assert_eq!(route(method, path, query), expected, "{path}");
        }
    }
}
