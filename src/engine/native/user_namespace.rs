//! Makes user namespaces (`user_namespaces(7)`): by root with one range, by an ordinary user with newuidmap(1).

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::sys;

/// Makes the user namespace in which `count` numbers from `first` on are those from 0 on: for root, whose processes nobody else looks
/// into.
///
/// # Errors
/// The kernel refuses.
pub(super) fn made_by_root(first: u32, count: u32) -> io::Result<File> {
    let waits = sys::WaitingCopy::in_new_user_namespace()?;
    let process = waits.process;
    for file in ["uid_map", "gid_map"] {
        std::fs::write(format!("/proc/{process}/{file}"), format!("0 {first} {count}\n"))?;
    }
    File::open(format!("/proc/{process}/ns/user"))
}

/// Makes the user namespace in which these users and groups are: a root, and ranges for the numbers that follow.
///
/// # Errors
/// The kernel, or a tool, refuses.
pub(super) fn made_by_tools(users: (u32, &[Reserved]), groups: (u32, &[Reserved])) -> io::Result<File> {
    // Who is in it while it is mapped is a program that waits: a copy of this process, which has secrets, would be anybody's of
    // this user's to read.
    let mut waits = Command::new("cat");
    waits.env_clear().env("PATH", PATH).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut waits = sys::in_new_user_namespace(waits).spawn()?;
    let process = waits.id();
    let mapped = by_tool("newuidmap", process, users).and_then(|()| by_tool("newgidmap", process, groups));
    let made = mapped.and_then(|()| File::open(format!("/proc/{process}/ns/user")));
    drop(waits.stdin.take());
    waits.wait()?;
    made
}

/// Maps `root` to a namespace's root, and ranges to the numbers that follow, one range after the other.
fn by_tool(tool: &str, process: u32, (root, ranges): (u32, &[Reserved])) -> io::Result<()> {
    let path = find(tool).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {tool}")))?;
    let (mut numbers, mut inside) = (vec![process, 0, root, 1], 1_u32);
    for Reserved { first, count } in ranges {
        numbers.extend([inside, *first, *count]);
        inside = inside.saturating_add(*count);
    }
    let numbers = numbers.iter().map(u32::to_string);
    let output = Command::new(path).args(numbers).env_clear().stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Where ordinary programs are.
pub(super) const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin";

/// Where systems have tools that gain privileges. `PATH` is not asked: a shim has none.
const TOOLS: [&str; 5] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"];

pub(super) fn find(tool: &str) -> Option<PathBuf> {
    TOOLS.iter().map(|folder| Path::new(folder).join(tool)).find(|path| path.is_file())
}

/// Numbers that subuid(5) or subgid(5) reserves for a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reserved {
    pub(super) first: u32,
    pub(super) count: u32,
}

impl Reserved {
    fn end(self) -> u32 {
        self.first.saturating_add(self.count)
    }

    /// Whether a number is in both.
    pub(super) fn meets(self, other: Self) -> bool {
        self.first < other.end() && other.first < self.end()
    }

    /// What is left of it without another one.
    pub(super) fn without(self, other: Self) -> Vec<Self> {
        let part = |first: u32, end: u32| Self { first, count: end.saturating_sub(first) };
        let parts = [part(self.first, self.end().min(other.first)), part(self.first.max(other.end()), self.end())];
        parts.into_iter().filter(|part| part.count > 0).collect()
    }
}
