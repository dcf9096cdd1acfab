//! Forwards the output of an agent or a sidecar: unchanged to a file or a pipe, filtered to a terminal.

use std::io::{IsTerminal, Write};

use futures_util::StreamExt;

use crate::engine::{Engine, Output};
use crate::holder::{ToHolder, Wire};
use crate::report::{Screen, leave_line_open};

/// Most that is kept of the agent's output, in bytes.
const MAX_OUTPUT: usize = 4 << 20;

/// The agent's output, straight from the engine: kept, or passed on as it comes.
pub(in crate::cli) async fn follow_output(engine: &dyn Engine, container: &str, to: &Wire, capture: bool) -> Vec<u8> {
    let attached = engine.container_attach(container).await;
    to.send(&ToHolder::Attached);
    let Ok(mut streams) = attached else { return Vec::new() };
    let (mut kept, mut out, mut err) = (Vec::new(), Writer::stdout(), Writer::stderr());
    while let Some(Ok(piece)) = streams.output.next().await {
        // A closed pipe does not stop the agent.
        match piece {
            Output::Stdout(bytes) if capture && kept.len() < MAX_OUTPUT => kept.extend_from_slice(&bytes),
            Output::Stdout(bytes) if !capture => crate::cli::print::note_written(out.write(&bytes)),
            Output::Stdout(_) => {}
            Output::Stderr(bytes) => drop(err.write(&bytes)),
        }
    }
    kept
}

/// Where an agent's bytes are written; onto a terminal only text and its colours.
pub(in crate::cli) struct Writer {
    to: Box<dyn Write + Send>,
    screen: Option<Screen>,
}

impl Writer {
    pub(in crate::cli) fn stdout() -> Self {
        let out = std::io::stdout();
        Self { screen: out.is_terminal().then(Screen::text), to: Box::new(out) }
    }

    pub(in crate::cli) fn stderr() -> Self {
        let err = std::io::stderr();
        Self { screen: err.is_terminal().then(Screen::text), to: Box::new(err) }
    }

    pub(in crate::cli) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match &mut self.screen {
            Some(screen) => {
                self.to.write_all(&screen.pass(bytes))?;
                leave_line_open(screen.is_line_open());
            }
            None => self.to.write_all(bytes)?,
        }
        self.to.flush()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.screen.is_some() {
            // Reset colours that the agent left on.
            let _ = self.to.write_all(b"\x1b[0m").and_then(|()| self.to.flush());
        }
    }
}
