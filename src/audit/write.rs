//! Writing: line by line, as it happens, so that a holder that is killed has written what it knew. Where the disk is full, what
//! happens is held, and written when there is room again, after a line that says since when it was missing.

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

/// A line's bytes beside its event's.
const FRAME: u64 = 100;

/// A launch's file: locked as long as it is written.
pub struct Writer {
    file: Appender,
    quota: Quota,
    count: LogSummary,
    /// What came when the file's room was used up.
    over: Backlog,
    /// What could not be written, since when and why.
    missed: Backlog,
    gap: Option<(u64, String)>,
    /// What is counted for good, by decision and code.
    left_out: BTreeMap<String, u64>,
}

/// What a file came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSummary {
    /// The hash of the last line.
    pub head: String,
    /// Decisions in all.
    pub decisions: u64,
    /// Of these, refusals.
    pub refused: u64,
    /// Decisions that are counted and not kept one by one.
    pub left_out: u64,
    /// Why the file does not hold all of that, where it does not: then the head is that of the last line that is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<String>,
}

impl Writer {
    /// Begins the file of a launch. Of launches that have ended, the oldest files go where there are too many; a torn end of a
    /// holder that was killed is repaired. `is_gone` says for certain that there is no bottle of a name any more.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn begin(state: &Path, bottle: &str, is_gone: impl Fn(&str) -> bool) -> io::Result<Self> {
        let folder = state.join(FOLDER);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        let old = files(&folder)?;
        retain::remove_oldest(&old, is_gone);
        for file in &old {
            repair::repair(&file.path);
        }
        // The newest is the last, whatever the clock says.
        let when = u128::from(now()).max(old.last().map_or(0, |file| file.when + 1));
        let path = folder.join(format!("{when}.{bottle}.jsonl"));
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(&path)?;
        // Waits for nobody but a reader that looks whether it is written.
        file.lock()?;
        Self::on(Box::new(file), bottle).inspect_err(|_| {
            // What says nothing is no evidence.
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

    /// Writes an event, or holds it where that cannot be done now.
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

    /// Why not everything is written, while that is so.
    pub fn write_error(&self) -> Option<&str> {
        self.gap.as_ref().map(|(_, why)| why.as_str())
    }

    /// Writes what could not be written before, where it can be now.
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

    /// Ends it: with the last of what found no room, as far as there is some for that.
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
