//! The upstream's side of Git LFS: asks where objects are, sends them there, and gets them from there. Only targets below
//! the repository itself are used, with the repository's credential; headers that an upstream wants sent are not.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use hyper::{Method, Response};
use tokio::io::AsyncReadExt;

use super::body::{Body, full, reader};
use super::git::DEADLINE;
use super::lfs::{Batch, KIND, Object, Operation, Step, Steps};
use super::request::Http;
use super::upstream::Target;
use super::visible;

/// How long an upstream may take to say where objects are, or that one has arrived.
const PATIENCE: Duration = Duration::from_mins(1);
/// Maximum size of an answer, in bytes.
const MAX_ANSWER: u64 = 4 << 20;

/// Asks the upstream where objects are.
///
/// # Errors
/// It cannot be asked, or its answer cannot be read.
pub(super) async fn steps(target: &Target, batch: &Batch) -> anyhow::Result<Steps> {
    let ask = async {
        let mut http = target.http().await?;
        let path = http.url.path().trim_end_matches(".git").to_owned();
        let path = format!("{path}.git/info/lfs/objects/batch");
        let answer = text(send(&mut http, Method::POST, &path, full(batch.write())).await?).await?;
        batch.steps(&answer, &http.url).map_err(anyhow::Error::msg)
    };
    tokio::time::timeout(PATIENCE, ask).await.context("it does not answer")?
}

/// What is to be done for one object.
async fn step(target: &Target, operation: Operation, object: &Object) -> anyhow::Result<Step> {
    let batch = Batch::new(operation, vec![object.clone()]);
    let (_, step) = steps(target, &batch).await?.pop().context("its answer is empty")?;
    step.map_err(|wrong| anyhow::anyhow!("{} ({})", wrong.message, wrong.code))
}

/// Sends an object, unless it is there.
///
/// # Errors
/// The upstream does not take it.
pub(super) async fn upload(target: &Target, object: &Object, content: Bytes) -> anyhow::Result<()> {
    let Step::Transfer(to, verify) = step(target, Operation::Upload, object).await? else { return Ok(()) };
    let transfer = async {
        let mut http = target.http().await?;
        text(send(&mut http, Method::PUT, &to, full(content)).await?).await?;
        if let Some(verify) = verify {
            http.reconnect().await?;
            let object = serde_json::to_vec(object)?;
            text(send(&mut http, Method::POST, &verify, full(object)).await?).await.context("verify it")?;
        }
        Ok(())
    };
    let late = || format!("it did not take the object within {} s", DEADLINE.as_secs());
    tokio::time::timeout(DEADLINE, transfer).await.with_context(late)?
}

/// Gets an object: the response, whose body is its content.
///
/// # Errors
/// The upstream does not have it.
pub(super) async fn download(target: &Target, object: &Object) -> anyhow::Result<Response<Incoming>> {
    let Step::Transfer(from, _) = step(target, Operation::Download, object).await? else { bail!("it has none") };
    let mut http = target.http().await?;
    let sent = tokio::time::timeout(PATIENCE, send(&mut http, Method::GET, &from, full(Bytes::new()))).await;
    succeeded(sent.context("it does not answer")??).await
}

async fn send(http: &mut Http, method: Method, path: &str, body: Body) -> anyhow::Result<Response<Incoming>> {
    let kind = if method == Method::PUT { "application/octet-stream" } else { KIND };
    let mut headers = vec![(USER_AGENT, "git-lfs/3 (bottler)"), (ACCEPT, KIND)];
    if method != Method::GET {
        headers.push((CONTENT_TYPE, kind));
    }
    http.send(method, path, &headers, body).await
}

/// The text of a response that says that all is well.
async fn text(response: Response<Incoming>) -> anyhow::Result<Vec<u8>> {
    let mut text = Vec::new();
    let mut from = reader(succeeded(response).await?.into_body()).take(MAX_ANSWER + 1);
    from.read_to_end(&mut text).await.context("read its answer")?;
    ensure!(text.len() as u64 <= MAX_ANSWER, "its answer has more than {MAX_ANSWER} bytes");
    Ok(text)
}

/// The response, if it says that all is well; otherwise the reason that it has.
async fn succeeded(response: Response<Incoming>) -> anyhow::Result<Response<Incoming>> {
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let mut text = Vec::new();
    let _ = reader(response.into_body()).take(MAX_ANSWER).read_to_end(&mut text).await;
    let said = serde_json::from_slice::<serde_json::Value>(&text).ok();
    let said = said.as_ref().and_then(|said| said.get("message")?.as_str()).unwrap_or_default();
    bail!("it responds {status} {}", visible::reason(said))
}
