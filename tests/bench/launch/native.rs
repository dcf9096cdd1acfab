//! Bottles of the native engine, as root and as an ordinary user, who has control groups of its own.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use crate::world::{USER, Who, World};

/// A user whose control groups this process is in, and thereby all that it starts.
pub struct Room {
    pub world: World,
}

impl Room {
    pub fn enter(who: Who) -> Self {
        let world = World::new(who);
        for group in world.groups() {
            std::fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        }
        Self { world }
    }

    /// A program, run by this user: by nothing in between, which would take time.
    pub fn program(&self, program: impl Into<PathBuf>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program.into());
        command.args(arguments).current_dir(self.world.folder()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.world.folder());
        command.env("BOTTLER_ENGINE", "native");
        if self.world.who != Who::Root {
            command.uid(USER).gid(USER);
        }
        command
    }

    pub fn bottler(&self, arguments: &[&str]) -> Command {
        self.program(self.world.folder().join("bottler"), arguments)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        for group in self.world.groups() {
            let above = group.parent().unwrap().join("cgroup.procs");
            std::fs::write(above, std::process::id().to_string()).unwrap();
        }
    }
}

/// What one process has in memory, in KiB: its share of what it shares, of which not backed by files.
pub struct Memory {
    pub what: String,
    pub all: u64,
    pub anonymous: u64,
}

/// The memory of every process of a world's bottles (proc(5), `smaps_rollup`).
pub fn memory(room: &Room) -> Vec<Memory> {
    let own = std::process::id().cast_signed();
    let mut found: Vec<Memory> =
        room.world.alive().into_iter().filter(|pid| *pid != own).filter_map(memory_of).collect();
    found.sort_by(|one, other| one.what.cmp(&other.what));
    found
}

fn memory_of(pid: i32) -> Option<Memory> {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let words = String::from_utf8_lossy(&words).into_owned();
    let mut words = words.split('\0').skip(1).map(|word| word.rsplit('/').next().unwrap_or(word));
    let (role, of) = (words.next()?.to_owned(), words.next().unwrap_or_default());
    // Of a shim: its container, without the bottle's name.
    let of = if role == "container-shim" { of.splitn(3, '-').nth(2).unwrap_or("agent") } else { "" };
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let field = |name: &str| -> Option<u64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB")?.trim().parse().ok())
    };
    Some(Memory { what: format!("{role} {of}").trim().to_owned(), all: field("Pss:")?, anonymous: field("Pss_Anon:")? })
}
