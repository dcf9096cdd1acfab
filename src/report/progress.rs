//! Shows the steps of a launch: as a live list on a terminal, otherwise one line each.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::open_line::end_of_open_line;
use super::printable;
use crate::audit::LogSummary;
use crate::holder::Times;
use crate::primitive::StepState;
use crate::session::KeptWorkspace;

/// Shows steps on standard error.
pub struct Progress {
    live: Option<MultiProgress>,
    running: BTreeMap<String, (u64, Option<ProgressBar>)>,
    working: Option<ProgressBar>,
    paused: Arc<AtomicBool>,
    /// Lines that wait until the agent releases the terminal.
    silent: Mutex<Option<Vec<String>>>,
}

impl Progress {
    /// Live if standard error is a terminal.
    pub fn new() -> Self {
        let live = std::io::stderr().is_terminal().then(MultiProgress::new);
        Self { live, running: BTreeMap::new(), working: None, paused: Arc::default(), silent: Mutex::default() }
    }

    /// Shows the state of a step, `at` milliseconds after the launch.
    pub fn step(&mut self, name: &str, state: StepState, at: u64) {
        let name = printable(name);
        if state == StepState::Started {
            let live = self.live.as_ref().filter(|_| crate::sync::lock(&self.silent).is_none());
            let bar = live.map(|live| spinner(live, &name));
            self.running.insert(name, (at, bar));
            return;
        }
        let (began, bar) = self.running.remove(&name).unwrap_or((at, None));
        if let Some(bar) = bar {
            bar.finish_and_clear();
        }
        if state == StepState::Abandoned {
            return;
        }
        let mark = if state == StepState::Done { "✓" } else { "✗" };
        self.line(&format!("{mark} {:>6}  {name}", seconds(at.saturating_sub(began))));
    }

    /// Shows a line of text.
    pub fn line(&self, text: &str) {
        let text = printable(text);
        if let Some(waiting) = &mut *crate::sync::lock(&self.silent) {
            waiting.push(text);
            return;
        }
        // The list is off the screen meanwhile, and every line has its end: whoever writes next, the agent or this,
        // begins at the left. A terminal that is gone has nobody to tell.
        let write = || drop(writeln!(std::io::stderr(), "{}{text}", end_of_open_line()));
        match &self.live {
            Some(live) if !self.paused.load(Ordering::Relaxed) => live.suspend(write),
            _ => write(),
        }
    }

    /// Shows the current work: in place on a terminal, otherwise as a line.
    pub fn working(&mut self, text: &str) {
        let text = printable(text);
        match &self.live {
            Some(live) => {
                let bar = self.working.get_or_insert_with(|| spinner(live, ""));
                bar.set_message(text);
            }
            None => self.line(&format!("  {text}")),
        }
    }

    /// Pauses the live list for a question at the terminal; lines are still shown. The returned function resumes it.
    pub fn pause(&self) -> impl FnOnce() + Send + 'static {
        let (live, paused) = (self.live.clone(), self.paused.clone());
        paused.store(true, Ordering::Relaxed);
        if let Some(live) = &live {
            live.set_draw_target(ProgressDrawTarget::hidden());
        }
        move || {
            paused.store(false, Ordering::Relaxed);
            if let Some(live) = &live {
                live.set_draw_target(ProgressDrawTarget::stderr());
            }
        }
    }

    /// Shows an urgent message at once, even while the agent has the terminal in raw mode.
    pub fn alarm(&self, text: &str) {
        if crate::sync::lock(&self.silent).is_none() {
            return self.line(text);
        }
        let text = printable(text).replace('\n', "\r\n");
        let _ = write!(std::io::stderr(), "\r\n{text}\r\n");
    }

    /// Holds lines back while the agent has the terminal, and shows them afterwards.
    pub fn silence(&self, silent: bool) {
        let waiting = std::mem::replace(&mut *crate::sync::lock(&self.silent), silent.then(Vec::new));
        for line in waiting.into_iter().flatten() {
            self.line(&line);
        }
    }

    /// Removes the current work from the screen.
    pub fn rest(&mut self) {
        if let Some(bar) = self.working.take() {
            bar.finish_and_clear();
        }
    }

    /// Removes running steps from the screen.
    pub fn clear(&mut self) {
        self.rest();
        for (_, bar) in std::mem::take(&mut self.running).into_values() {
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

fn spinner(live: &MultiProgress, name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {elapsed:>6}  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = live.add(ProgressBar::new_spinner().with_style(style).with_message(name.to_owned()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

/// Formats milliseconds: `640 ms`, `1.28 s`.
fn seconds(millis: u64) -> String {
    if millis < 1000 { format!("{millis} ms") } else { format!("{}.{:02} s", millis / 1000, millis % 1000 / 10) }
}

/// The durations of a launch, in one line.
pub fn times(times: &Times) -> String {
    let since = |later: Option<u64>, earlier: Option<u64>| Some(later?.saturating_sub(earlier?));
    let parts = [
        ("sidecars up", times.sidecars_up),
        ("agent released", times.released),
        ("agent ran", since(times.ended, times.released)),
        ("teardown", since(times.gone, times.ended)),
    ];
    let shown = parts.iter().filter_map(|(name, time)| Some(format!("{name} {}", seconds((*time)?))));
    shown.collect::<Vec<_>>().join(", ")
}

/// What is kept, and the commands for it.
pub fn kept(bottle: &str, kept: &KeptWorkspace) -> String {
    let changed = match kept.changed {
        None => String::new(),
        Some(0) => ", commits and no files".to_owned(),
        Some(1) => ", 1 file".to_owned(),
        Some(files) => format!(", {files} files"),
    };
    let missing: Vec<String> = kept.outstanding.iter().map(|line| printable(&format!("\n  {line}"))).collect();
    let missing = missing.concat();
    format!(
        "kept: the workspace of {bottle} ({}{changed}); `bottler diff {bottle}`, `bottler pull {bottle}`, \
         `bottler resume {bottle}`, `bottler rm {bottle}`{missing}",
        kept.why
    )
}

/// The number of decisions and the head hash of the audit log; a second line if the log is incomplete.
pub fn evidence(bottle: &str, closed: &LogSummary) -> String {
    let LogSummary { head, decisions, refused, left_out, incomplete } = closed;
    let line =
        format!("audit: {decisions} decisions, {refused} refused; `bottler audit verify {bottle} --head {head}`");
    match incomplete {
        None => line,
        Some(why) => {
            let counted =
                if *left_out > 0 { format!(", {left_out} decisions were only counted") } else { String::new() };
            format!(
                "{line}\nerror: the audit log is incomplete: write it: {why}{counted}\n\
                 hint: free space on the disk of the state directory ($XDG_STATE_HOME/bottler)"
            )
        }
    }
}
