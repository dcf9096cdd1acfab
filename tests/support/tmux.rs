//! A real terminal: tmux, with a separate server.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::wait_for;

/// A terminal with a shell, closed when dropped.
pub struct Tmux {
    server: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Tmux {
    /// With a shell in a folder.
    pub fn new(folder: &Path) -> Self {
        // Wide, so that the expected text is not broken into lines.
        Self::of_size(folder, 180, 50)
    }

    /// With another size.
    pub fn of_size(folder: &Path, width: u16, height: u16) -> Self {
        let (width, height) = (width.to_string(), height.to_string());
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let tmux = Self { server: format!("bottler-test-{}-{number}", std::process::id()) };
        let folder = folder.display().to_string();
        tmux.run(&[
            "-f",
            "/dev/null",
            "new-session",
            "-d",
            "-s",
            "t",
            "-x",
            &width,
            "-y",
            &height,
            "-c",
            &folder,
            "sh",
        ]);
        tmux.line("PS1='ready$ '");
        tmux.wait("ready$");
        tmux
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = Command::new("tmux").args(["-L", &self.server]).args(arguments).output();
        let output = output.expect("tmux is installed");
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Types a line.
    pub fn line(&self, text: &str) {
        self.run(&["send-keys", "-t", "t", "-l", text]);
        self.keys(&["Enter"]);
    }

    /// Clears the screen at the shell's prompt, so that what is waited for next is new.
    pub fn clear(&self) {
        self.line("clear");
        wait_for("an empty screen", || (self.screen().trim() == "ready$").then_some(()));
    }

    /// Presses keys, by their names.
    pub fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", "t"], keys].concat());
    }

    /// Changes its size.
    pub fn resize(&self, width: u16, height: u16) {
        self.run(&["resize-window", "-t", "t", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// The content of the screen.
    pub fn screen(&self) -> String {
        let screen = self.run(&["capture-pane", "-t", "t", "-p", "-J"]);
        screen.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
    }

    /// Waits until a text is on the screen; returns the screen.
    pub fn wait(&self, words: &str) -> String {
        let last = std::cell::RefCell::new(String::new());
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_for(words, || {
                *last.borrow_mut() = self.screen();
                last.borrow().contains(words).then(|| last.borrow().clone())
            })
        }));
        found.unwrap_or_else(|_| panic!("{words:?} is not on the screen:\n{}", last.borrow()))
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = Command::new("tmux").args(["-L", &self.server, "kill-server"]).output();
    }
}
