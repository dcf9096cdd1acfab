//! Answers: what went wrong in the engine's words, and what shims and helpers say.

use std::io::ErrorKind as Io;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;

use super::protocol::Frame;
use crate::engine::{EngineError, ErrorKind, Output, Result};

pub(super) fn failure(
    operation: &'static str,
    object: &str,
    kind: ErrorKind,
    message: impl Into<String>,
) -> EngineError {
    EngineError { operation, object: object.to_owned(), kind, message: message.into() }
}

/// Why a call failed, by what the operating system says.
pub(super) fn broken(operation: &'static str, object: &str) -> impl Fn(std::io::Error) -> EngineError {
    move |error| {
        let kind = match error.kind() {
            Io::NotFound | Io::ConnectionRefused | Io::UnexpectedEof => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::NameTaken,
            Io::StorageFull | Io::QuotaExceeded => ErrorKind::NoSpace,
            Io::TimedOut => ErrorKind::Deadline,
            _ => ErrorKind::Other,
        };
        // With the reasons behind it: an archive's reader names the file alone.
        failure(operation, object, kind, format!("{:#}", anyhow::Error::from(error)))
    }
}

/// A frame as output.
fn output(frame: Frame) -> Option<Output> {
    match frame {
        Frame::Stdout(bytes) => Some(Output::Stdout(bytes)),
        Frame::Stderr(bytes) => Some(Output::Stderr(bytes)),
        Frame::Exit(_) => None,
    }
}

pub(super) fn outputs(
    frames: BoxStream<'static, std::io::Result<Frame>>,
    operation: &'static str,
    id: &str,
) -> BoxStream<'static, Result<Output>> {
    let id = id.to_owned();
    let pieces = frames.filter_map(move |frame| {
        let piece = frame.map(output).map_err(broken(operation, &id)).transpose();
        std::future::ready(piece)
    });
    pieces.boxed()
}

/// What a helper that has ended has said.
pub(super) fn finish(frames: Vec<std::io::Result<Frame>>, operation: &'static str, id: &str) -> Result<()> {
    let mut said = Vec::new();
    for frame in frames {
        match frame.map_err(broken(operation, id))? {
            Frame::Stderr(bytes) => said.extend_from_slice(&bytes),
            Frame::Exit(0) => return Ok(()),
            Frame::Exit(_) => break,
            Frame::Stdout(_) => {}
        }
    }
    Err(helper_failed(&said, operation, id))
}

pub(super) fn helper_failed(said: &[u8], operation: &'static str, id: &str) -> EngineError {
    let why = String::from_utf8_lossy(said).trim().trim_start_matches("bottler: ").to_owned();
    let kind = if why.contains("No such file") { ErrorKind::NotFound } else { ErrorKind::Other };
    failure(operation, id, kind, if why.is_empty() { "the helper ended without a word".into() } else { why })
}
