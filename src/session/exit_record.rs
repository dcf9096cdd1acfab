//! Exit records of bottles that have ended: exit code, failure, and the end of the agent's output. The newest are
//! kept for a week.

use std::io;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{StateDir, valid_name};
use crate::engine::Output;
use crate::host::{make_private, replace};

/// Most records that are kept.
const MOST: usize = 100;
/// How long a record is kept, in seconds.
const LONGEST: u64 = 7 * 24 * 60 * 60;
/// Most bytes of output that are kept, from the end, both streams together.
const MAX_OUTPUT: usize = 1 << 20;

/// How a bottle ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// The bottle's id.
    pub id: String,
    /// The agent's name.
    pub agent: String,
    /// The exit code of the agent's command, if it ran to its end.
    pub exit_code: Option<i64>,
    /// Why the launch failed, if it did.
    pub failure: Option<String>,
    /// The exit code of `bottler run` for that failure.
    pub failure_code: Option<u8>,
    /// When it was launched, in seconds since 1970.
    pub launched: u64,
    /// When it ended, in seconds since 1970.
    pub ended: u64,
}

/// A chunk of an agent's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputChunk {
    /// Whether it was written to standard error.
    pub error: bool,
    /// Its bytes; base64 in the file.
    #[serde(with = "base64")]
    pub bytes: Vec<u8>,
}

mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(from)?.as_bytes()).map_err(serde::de::Error::custom)
    }
}

#[derive(Serialize, Deserialize)]
struct StoredRecord {
    #[serde(flatten)]
    ended: ExitRecord,
    output: Vec<OutputChunk>,
}

impl ExitRecord {
    /// The exit code of `bottler run` for this bottle.
    pub fn code(&self) -> u8 {
        let own = self.exit_code.map(|code| u8::try_from(code & 0xff).unwrap_or(u8::MAX));
        self.failure_code.or(own).unwrap_or_default()
    }
}

/// Writes the record of a bottle and removes the oldest records.
///
/// # Errors
/// It cannot be written.
pub fn write(state: &StateDir, ended: &ExitRecord, output: Vec<OutputChunk>) -> io::Result<()> {
    make_private(&folder(state))?;
    let file = StoredRecord { ended: ended.clone(), output };
    replace(&path(state, &ended.id), &serde_json::to_vec(&file)?)?;
    for old in to_forget(all(state), now()) {
        forget(state, &old);
    }
    Ok(())
}

/// Reads the record and the output of a bottle; `None` if there is none.
pub fn read(state: &StateDir, id: &str) -> Option<(ExitRecord, Vec<OutputChunk>)> {
    let text = valid_name(id).then(|| std::fs::read(path(state, id)).ok())??;
    let file: StoredRecord = serde_json::from_slice(&text).ok()?;
    Some((file.ended, file.output))
}

/// All records, the oldest first.
pub fn all(state: &StateDir) -> Vec<ExitRecord> {
    let entries = std::fs::read_dir(folder(state)).into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let ids = names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned));
    let mut all: Vec<ExitRecord> = ids.filter_map(|id| read(state, &id)).map(|(ended, _)| ended).collect();
    all.sort_by(|one, two| (one.ended, &one.id).cmp(&(two.ended, &two.id)));
    all
}

/// Removes the record of a bottle, as when a bottle of the same name is launched.
pub fn forget(state: &StateDir, id: &str) {
    if valid_name(id) {
        let _ = std::fs::remove_file(path(state, id));
    }
}

/// The end of a continuing output, in bounded memory.
#[derive(Default)]
pub struct OutputTail {
    pieces: Vec<OutputChunk>,
    size: usize,
}

impl OutputTail {
    /// Appends output.
    pub fn push(&mut self, output: Output) {
        let (error, bytes) = match output {
            Output::Stdout(bytes) => (false, bytes),
            Output::Stderr(bytes) => (true, bytes),
        };
        self.size += bytes.len();
        self.pieces.push(OutputChunk { error, bytes: bytes.to_vec() });
        if self.size > 2 * MAX_OUTPUT {
            self.pieces = self.take();
            self.size = self.pieces.iter().map(|piece| piece.bytes.len()).sum();
        }
    }

    /// Takes the kept chunks.
    pub fn take(&mut self) -> Vec<OutputChunk> {
        last(std::mem::take(&mut self.pieces))
    }
}

/// The last chunks of an output, of a bounded size.
fn last(mut pieces: Vec<OutputChunk>) -> Vec<OutputChunk> {
    let mut size: usize = pieces.iter().map(|piece| piece.bytes.len()).sum();
    let first = pieces.iter().position(|piece| {
        let whole = size <= MAX_OUTPUT;
        size -= if whole { 0 } else { piece.bytes.len() };
        whole
    });
    pieces.drain(..first.unwrap_or(pieces.len()));
    pieces
}

fn to_forget(all: Vec<ExitRecord>, now: u64) -> Vec<String> {
    let surplus = all.len().saturating_sub(MOST);
    let old = |at: usize, ended: &ExitRecord| at < surplus || ended.ended + LONGEST < now;
    all.into_iter().enumerate().filter(|(at, ended)| old(*at, ended)).map(|(_, ended)| ended.id).collect()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The folder of the records.
pub(super) fn folder(state: &StateDir) -> PathBuf {
    state.path().join("ended")
}

fn path(state: &StateDir, id: &str) -> PathBuf {
    folder(state).join(format!("{id}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(id: &str, at: u64) -> ExitRecord {
        let (id, agent) = (id.to_owned(), "a".to_owned());
        ExitRecord { id, agent, exit_code: Some(3), failure: None, failure_code: None, launched: 0, ended: at }
    }

    #[test]
    fn the_newest_are_remembered_for_some_days() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::at(folder.path()).unwrap();
        let output = vec![OutputChunk { error: false, bytes: b"RESULT\n".to_vec() }];
        write(&state, &ended("a", now()), output.clone()).unwrap();
        assert_eq!(read(&state, "a").unwrap().1, output);
        assert_eq!((read(&state, "a").unwrap().0.code(), read(&state, "../a")), (3, None));
        forget(&state, "a");
        assert_eq!(all(&state), []);
        let many: Vec<ExitRecord> = (0..102).map(|at| ended(&format!("b{at}"), at)).collect();
        assert_eq!(to_forget(many.clone(), 50), ["b0", "b1"]);
        assert_eq!(to_forget(many, LONGEST + 5).len(), 5);
    }

    #[test]
    fn the_last_of_an_output_is_kept() {
        let piece = |size| OutputChunk { error: false, bytes: vec![0; size] };
        assert_eq!(last(vec![piece(MAX_OUTPUT), piece(1), piece(2)]), [piece(1), piece(2)]);
        assert_eq!(last(vec![piece(1)]), [piece(1)]);
        assert_eq!(last(vec![piece(MAX_OUTPUT + 1)]), []);
    }
}
