//! Git LFS for a repository with `lfs: scan`. Clients ask the gate where objects are, and the answer leads them to the
//! gate. What they send is compared with its id, inspected as a file of a push is, and only then sent to the upstream; what
//! they get is passed on.
//!
//! Attacks that this stops: content that goes past the inspection of a push, because git itself sees only a pointer to it;
//! an object under the id or size of another one; more than what a file may have.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use sha2::{Digest, Sha256};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

use super::body::{PIPE, Response, reader, streamed, text};
use super::gate::{Gate, Operation as Logged, Served};
use super::judge;
use super::lfs::{Batch, KIND, Object, Operation, Wrong};
use super::lfs_store;
use super::report::QUEUE;

/// Maximum size of a request for where objects are, in bytes.
const MAX_BATCH: usize = 1 << 20;
/// The status of what is refused for what it is; what fails otherwise, the client may repeat.
const REFUSED: u16 = 403;
/// How long a client may send nothing.
const IDLE: Duration = Duration::from_mins(1);

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// Where objects are.
    Batch,
    /// Takes an object.
    Upload(Object),
    /// Gives an object.
    Download(Object),
    /// Locks of files, which are not served.
    Other,
}

impl Asked {
    /// Reads a method, and what follows `/info/lfs` in a path.
    pub(super) fn read(method: &hyper::Method, rest: &str) -> Self {
        let object = || Object::read(rest.strip_prefix("/objects/")?);
        match method.as_str() {
            "POST" if rest == "/objects/batch" => Self::Batch,
            "PUT" => object().map_or(Self::Other, Self::Upload),
            "GET" => object().map_or(Self::Other, Self::Download),
            _ => Self::Other,
        }
    }
}

/// Responds to a request. `base` is the repository's URL, as the client reaches it.
pub(super) async fn respond(
    gate: &Arc<Gate>,
    served: &Arc<Served>,
    asked: Asked,
    base: &str,
    request: Request<Incoming>,
) -> Response {
    if served.terms.refuses_lfs {
        return refuse(&Wrong::new(REFUSED, "refused by bottler: Git LFS is off for this repository"));
    }
    let done = match asked {
        Asked::Batch => batch(gate, served, base, request).await,
        Asked::Upload(object) => upload(gate, served, object, request).await,
        Asked::Download(object) => download(gate, served, &object).await,
        Asked::Other => Err(Wrong::new(404, "the git gate does not serve locks of Git LFS")),
    };
    done.unwrap_or_else(|wrong| refuse(&wrong))
}

/// Clients show the message of a response with a status that is an error.
fn refuse(wrong: &Wrong) -> Response {
    let status = StatusCode::from_u16(wrong.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    text(status, KIND, serde_json::json!({ "message": wrong.message }).to_string())
}

fn log(gate: &Gate, served: &Served, method: &'static str, decision: &'static str, code: &str, reason: String) {
    gate.record(served, &Logged { method, decision, code, reason });
}

async fn batch(
    gate: &Arc<Gate>,
    served: &Arc<Served>,
    base: &str,
    request: Request<Incoming>,
) -> Result<Response, Wrong> {
    let _permit = gate.fetches.acquire().await;
    let body = read(request.into_body(), MAX_BATCH).await?;
    let batch = Batch::read(&body).map_err(|why| Wrong::new(422, why))?;
    let written = batch.write();
    let inspector = gate.inspector().ok_or_else(not_ready)?;
    // Ids are chosen by who asks: they could be something else than hashes.
    if !matches!(inspector.known(&written), Ok(None)) {
        let reason = "the ids of objects hold a secret of the bottle".to_owned();
        log(gate, served, "push", "refuse", "secret_found", reason.clone());
        return Err(Wrong::new(422, reason));
    }
    let mut steps = lfs_store::steps(&served.target, &batch).await.map_err(|error| failed(gate, served, &error))?;
    for (object, step) in &mut steps {
        if batch.operation == Operation::Upload && object.size > served.terms.max_file {
            *step = Err(too_large(served, object));
        } else if batch.operation == Operation::Upload
            && step.is_ok()
            && let Some(wrong) = gate.refused.take(object)
        {
            *step = Err(wrong);
        }
    }
    Ok(text(StatusCode::OK, KIND, batch.answer(&steps, base)))
}

async fn upload(
    gate: &Arc<Gate>,
    served: &Arc<Served>,
    object: Object,
    request: Request<Incoming>,
) -> Result<Response, Wrong> {
    if object.size > served.terms.max_file {
        return Err(too_large(served, &object));
    }
    let most = usize::try_from(object.size).map_err(|_| too_large(served, &object))?;
    let permit = gate.pushes.clone().acquire_owned().await;
    let content = read(request.into_body(), most).await?;
    let (gate, served) = (gate.clone(), served.clone());
    // What has arrived is judged and sent, also if the client gives up: it asks again, and finds it there.
    let work = crate::task::spawn(async move {
        let _permit = permit;
        let done = send_on(&gate, &served, &object, content).await;
        if let Err(wrong) = &done
            && wrong.code == REFUSED
        {
            gate.refused.note(&object, wrong);
        }
        done
    });
    work.await.unwrap_or_else(|error| Err(Wrong::new(500, error.to_string())))?;
    Ok(text(StatusCode::OK, KIND, Bytes::new()))
}

/// Sends an object to the upstream, if it is what its id says and nothing is found in it.
async fn send_on(gate: &Arc<Gate>, served: &Arc<Served>, object: &Object, content: Bytes) -> Result<(), Wrong> {
    let inspector = gate.inspector().ok_or_else(not_ready)?;
    let name = format!("the LFS object {}", object.short());
    let hashed = content.clone();
    let digest = crate::task::blocking(move || HEXLOWER.encode(&Sha256::digest(&hashed))).await;
    if content.len() as u64 != object.size || digest.ok().as_ref() != Some(&object.oid) {
        let reason = format!("{name}: what was sent has another size or hash");
        log(gate, served, "push", "refuse", "git_lfs_refused", reason.clone());
        return Err(Wrong::new(REFUSED, reason));
    }
    let released = judge::lfs(gate, served, &inspector, object, &content).await.map_err(|denied| {
        let refusal = denied.all.unwrap_or_else(|| super::terms::Refusal::new("git_gate_failed", "it was not judged"));
        log(gate, served, "push", "refuse", refusal.code, refusal.reason);
        let lines = ["bottler refused this object; it was not sent.".to_owned()].into_iter().chain(denied.lines);
        // git-lfs puts a colon behind it, which is not part of the command in the last line.
        Wrong::new(REFUSED, lines.collect::<Vec<_>>().join("\n") + "\n")
    })?;
    let spent = gate.approvals.spend(&released).map_err(|why| Wrong::new(REFUSED, why))?;
    if let Err(error) = lfs_store::upload(&served.target, object, content).await {
        gate.approvals.give_back(spent);
        return Err(failed(gate, served, &error));
    }
    log(gate, served, "push", "allow", "allowed", format!("{name}, {} bytes", object.size));
    Ok(())
}

async fn download(gate: &Arc<Gate>, served: &Arc<Served>, object: &Object) -> Result<Response, Wrong> {
    let permit = gate.fetches.clone().acquire_owned().await;
    let batch = Batch::new(Operation::Download, vec![object.clone()]);
    let inspector = gate.inspector().ok_or_else(not_ready)?;
    if !matches!(inspector.known(&batch.write()), Ok(None)) {
        return Err(Wrong::new(REFUSED, "the id of the object holds a secret of the bottle"));
    }
    let found = lfs_store::download(&served.target, object).await.map_err(|error| failed(gate, served, &error))?;
    let mut from = reader(found.into_body());
    let (to, pieces) = mpsc::channel(QUEUE);
    crate::task::spawn(async move {
        let _permit = permit;
        let mut piece = vec![0; PIPE];
        // One that ends early is noticed by its hash.
        while let Ok(length @ 1..) = from.read(&mut piece).await {
            if to.send(Ok(Bytes::copy_from_slice(&piece[..length]))).await.is_err() {
                return;
            }
        }
    });
    let response = hyper::Response::builder().header(hyper::header::CONTENT_TYPE, "application/octet-stream");
    Ok(response.body(streamed(pieces)).unwrap_or_default())
}

/// Reads a body of at most so many bytes.
async fn read(mut body: Incoming, most: usize) -> Result<Bytes, Wrong> {
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(IDLE, body.frame()).await;
        match frame.map_err(|_| Wrong::new(408, format!("nothing was sent for {} s", IDLE.as_secs())))? {
            None => return Ok(whole.freeze()),
            Some(Err(error)) => return Err(Wrong::new(400, format!("the request ended: {error}"))),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                if whole.len() + data.len() > most {
                    return Err(Wrong::new(413, format!("the request has more than {most} bytes")));
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

fn not_ready() -> Wrong {
    Wrong::new(REFUSED, "the bottle has not been released yet: nothing is transferred before its secrets are known")
}

fn too_large(served: &Served, object: &Object) -> Wrong {
    let most = served.terms.max_file;
    Wrong::new(REFUSED, format!("the object has {} bytes; a file may have at most {most}", object.size))
}

fn failed(gate: &Gate, served: &Served, error: &anyhow::Error) -> Wrong {
    let reason = super::visible::reason(&format!("Git LFS at the upstream of {:?}: {error:#}", served.name));
    log(gate, served, "fetch", "refuse", "git_upstream_failed", reason.clone());
    Wrong::new(502, reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::Method;

    #[test]
    fn requests_of_lfs_are_told_apart() {
        let oid = "a".repeat(64);
        let object = Object { oid: oid.clone(), size: 7 };
        for (method, rest, expected) in [
            (Method::POST, "/objects/batch".to_owned(), Asked::Batch),
            (Method::PUT, format!("/objects/{oid}/7"), Asked::Upload(object.clone())),
            (Method::GET, format!("/objects/{oid}/7"), Asked::Download(object)),
            (Method::POST, format!("/objects/{oid}/7"), Asked::Other),
            (Method::PUT, format!("/objects/{oid}"), Asked::Other),
            (Method::GET, "/objects/batch".to_owned(), Asked::Other),
            (Method::POST, "/locks/verify".to_owned(), Asked::Other),
        ] {
            assert_eq!(Asked::read(&method, &rest), expected, "{method} {rest}");
        }
    }
}
