//! Writes a log, line by line, so that a killed holder has written what it knew. On a full disk, events are kept in
//! memory, and written when there is space again, after an entry about the gap.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::append::{Appender, Medium};
use super::backlog::{Backlog, count};
use super::format::FOLDER;
use super::quota::{CLOSING, Quota};
use super::read::{Entry, files};
use super::{Event, now, repair, retain};

/// The bytes of a line beside its event.
const FRAME: u64 = 100;

/// The log of a launch; locked while it is written.
pub struct Writer {
    file: Appender,
    quota: Quota,
    count: LogSummary,
    /// Events beyond the log's quota.
    over: Backlog,
    /// Events that could not be written; `gap` says since when, and why.
    missed: Backlog,
    gap: Option<(u64, String)>,
    /// Events that are only counted, by decision and code.
    left_out: BTreeMap<String, u64>,
}

/// The summary of a closed log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSummary {
    /// The hash of the last line.
    pub head: String,
    /// All decisions.
    pub decisions: u64,
    /// Refusals among them.
    pub refused: u64,
    /// Decisions that are only counted.
    pub left_out: u64,
    /// Why the log is incomplete, if it is; `head` is then that of the last line that was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

impl Writer {
    /// Starts the log of a launch: removes the oldest logs of ended launches if there are too many, and repairs torn
    /// ones. `is_gone` says whether a bottle certainly no longer exists.
    ///
    /// # Errors
    /// The log cannot be created.
    pub fn begin(state: &Path, bottle: &str, is_gone: impl Fn(&str) -> bool) -> io::Result<Self> {
        let folder = state.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let old = files(&folder)?;
        retain::remove_oldest(&old, is_gone);
        for file in &old {
            repair::repair(&file.path);
        }
        // The newest log sorts last, whatever the clock says.
        let when = u128::from(now()).max(old.last().map_or(0, |file| file.when + 1));
        let path = folder.join(format!("{when}.{bottle}.jsonl"));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        // Only a reader that tests the lock can delay this.
        file.lock()?;
        Self::on(Box::new(file), bottle).inspect_err(|_| {
            // A log without its first entry is not evidence.
            let _ = std::fs::remove_file(&path);
        })
    }

    pub(super) fn on(medium: Box<dyn Medium>, bottle: &str) -> io::Result<Self> {
        let mut file = Appender::new(medium);
        file.append(Entry::Began { bottle: bottle.to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })?;
        Ok(Self {
            file,
            quota: Quota::new(),
            count: LogSummary::default(),
            over: Backlog::default(),
            missed: Backlog::default(),
            gap: None,
            left_out: BTreeMap::new(),
        })
    }

    /// Writes an event, or keeps it in memory if that fails.
    pub fn event(&mut self, event: Event) {
        self.count.decisions += event.count;
        if event.kind.decision == "refuse" {
            self.count.refused += event.count;
        }
        self.retry();
        if self.gap.is_some() {
            self.missed.add(event);
        } else {
            self.write(event);
        }
    }

    /// Why events cannot be written at the moment.
    pub fn write_error(&self) -> Option<&str> {
        self.gap.as_ref().map(|(_, why)| why.as_str())
    }

    /// Writes the events that could not be written before, if possible.
    pub fn retry(&mut self) {
        let Some((since, why)) = self.gap.clone() else { return };
        let (events, until) = (self.missed.decisions(), now());
        if self.file.append(Entry::Missed { since, until, events, why }).is_err() {
            return;
        }
        self.gap = None;
        let mut missed = std::mem::take(&mut self.missed);
        missed.take().into_iter().for_each(|event| match self.gap {
            None => self.write(event),
            Some(_) => self.missed.add(event),
        });
        for (name, count) in missed.counted {
            *self.left_out.entry(name).or_default() += count;
            self.count.left_out += count;
        }
    }

    fn write(&mut self, event: Event) {
        let size = serde_json::to_vec(&event).map_or(0, |text| text.len() as u64) + FRAME;
        if !self.quota.take(&event, size) {
            self.over.add(event);
        } else if let Err(error) = self.file.append(Entry::Event(Box::new(event.clone()))) {
            self.gap = Some((now(), error.to_string()));
            self.missed.add(event);
        }
    }

    /// Closes the log: writes the last events beyond the quota, as far as there is space.
    pub fn close(mut self) -> LogSummary {
        self.retry();
        let mut left = CLOSING;
        let mut over = std::mem::take(&mut self.over);
        for event in over.take() {
            let before = self.file.length;
            let written = left > 0 && self.gap.is_none() && {
                let line = Entry::Event(Box::new(event.clone()));
                self.file.append(line).map_err(|error| self.gap = Some((now(), error.to_string()))).is_ok()
            };
            left = left.saturating_sub(self.file.length - before);
            if !written {
                self.leave_out(&event);
            }
        }
        let mut missed = std::mem::take(&mut self.missed);
        missed.take().iter().for_each(|event| self.leave_out(event));
        for (name, count) in over.counted.into_iter().chain(missed.counted) {
            *self.left_out.entry(name).or_default() += count;
            self.count.left_out += count;
        }
        let (decisions, left_out) = (self.count.decisions, std::mem::take(&mut self.left_out));
        let ended = self.file.append(Entry::Ended { decisions, left_out }).and_then(|()| self.file.sync());
        let why = ended.err().map(|error| error.to_string()).or(self.gap.map(|(_, why)| why));
        LogSummary { head: self.file.head, incomplete: why, ..self.count }
    }

    fn leave_out(&mut self, event: &Event) {
        count(&mut self.left_out, event);
        self.count.left_out += event.count;
    }
}
