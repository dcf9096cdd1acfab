//! A terminal as people have it: tmux, with a server of its own.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use super::process::wait_for;

/// A terminal with a shell in it; gone with the value.
pub struct Tmux {
    server: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Tmux {
    /// One whose shell is in a folder.
    pub fn new(folder: &Path) -> Self {
        // A wide one: what is looked for is not to be broken.
        Self::of_size(folder, 180, 50)
    }

    /// One of another size.
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

    /// Types keys by their names.
    pub fn keys(&self, keys: &[&str]) {
        self.run(&[&["send-keys", "-t", "t"], keys].concat());
    }

    /// Makes it another size.
    pub fn resize(&self, width: u16, height: u16) {
        self.run(&["resize-window", "-t", "t", "-x", &width.to_string(), "-y", &height.to_string()]);
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        let screen = self.run(&["capture-pane", "-t", "t", "-p", "-J"]);
        screen.lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
    }

    /// Waits until something is on the screen; the screen.
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
