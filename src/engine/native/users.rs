//! Users of a container's own: a user namespace in which the agent's number is nobody's on the host, or one of the numbers that
//! subuid(5) reserves. Whoever breaks out of the container is that one there, and owns nothing.
//!
//! *Where the engine is root's*, each container has a range of its own, also for its root. On the disk, files have the owners that
//! they have inside: every mount is mapped, too (`mount_setattr(2)`, `MOUNT_ATTR_IDMAP`). So volumes and images do not depend on a
//! range, and a mounted folder of the host keeps its owners. Where the kernel or a file system cannot do that, the container has the
//! host's numbers, without any capability, as on Docker. The namespace is joined last, with the privileges given up in it: what made
//! the container's other namespaces is the host's root, and nothing inside ever had a capability over them.
//!
//! *Where it is an ordinary user's*, newuidmap(1) maps that one's range. Its root is the user (so is an agent with `user: "0:0"`);
//! the files of others have numbers of the range on the disk, which only somebody in such a namespace can remove or give back. A
//! folder of the host that is mounted would be nobody's: that container has one user, as where there is no newuidmap.
//!
//! `bottler doctor` says which of these there are.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::CapabilitiesSecureBits;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::image::Account;
use super::sys;

/// Users, and groups, of a container: their numbers are below.
pub(super) const COUNT: u32 = 1 << 16;
/// The first number of the first range: beyond those of login.defs(5) (`SUB_UID_MAX`), systemd's containers (UIDS-GIDS.md) and sssd's
/// defaults (`ldap_idmap_range_max`).
const BASE: u32 = 0x7800_0000;
/// Ranges. Containers that share one are not told apart by the kernel's bounds for a user; nothing else depends on it.
const RANGES: u32 = 1024;
/// The first kernel whose overlay takes mapped layers.
const KERNEL: (u32, u32) = (5, 19);

/// How users inside map to users of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Mapping {
    /// The host's own numbers: the engine runs as root, and the container without any capability.
    Host,
    /// A range of numbers that are nobody's on the host; `first` is root's.
    Range { first: u32 },
    /// A user namespace with one user and one group: the container's own, which are this one outside.
    One(Account),
    /// A user namespace in which `root` is the user who runs the engine, and the others are that one's range of subordinate users
    /// and groups (subuid(5)), which begins with `first`.
    Delegated { root: Account, first: Account },
}

impl Mapping {
    /// Whether there are other users than one.
    pub(super) fn has_users(self) -> bool {
        !matches!(self, Self::One(_))
    }

    /// Whether it is the host's root who makes the container, outside of its users.
    pub(super) fn is_by_root(self) -> bool {
        matches!(self, Self::Host | Self::Range { .. })
    }

    /// Whether a user of the host is one of a range.
    pub(super) fn has_outside(self, user: u32) -> bool {
        let of = |first: u32| (first..first.saturating_add(COUNT - 1)).contains(&user);
        matches!(self, Self::Delegated { first, .. } if of(first.user))
    }

    /// The number of a user or group inside, as whoever makes the container sees it.
    pub(super) fn outside(self, number: u32) -> u32 {
        if let Self::Range { first } = self { first.saturating_add(number) } else { number }
    }
}

/// The host's number of a container's root.
pub(super) fn first_of(container: &str) -> u32 {
    let digest = Sha256::digest(container);
    BASE + (u32::from(digest[0]) << 8 | u32::from(digest[1])) % RANGES * COUNT
}

/// Whether an account has numbers in a container with users of its own.
pub(super) fn has(account: Account) -> bool {
    account.user < COUNT && account.group < COUNT
}

/// Makes the user namespace of a mapping with several users. It lives as long as the file is open, or somebody is in it.
///
/// # Errors
/// The kernel, or newuidmap, refuses.
pub(super) fn namespace(mapping: Mapping) -> io::Result<File> {
    // Who is in it while it is mapped is a program that waits: a copy of this process, which has secrets, would be anybody's of
    // this user's to read.
    let mut waits = Command::new("cat");
    waits.env_clear().env("PATH", PATH).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut waits = sys::in_new_user_namespace(waits).spawn()?;
    let process = waits.id();
    let made = map(process, mapping).and_then(|()| File::open(format!("/proc/{process}/ns/user")));
    drop(waits.stdin.take());
    waits.wait()?;
    made
}

fn map(process: u32, mapping: Mapping) -> io::Result<()> {
    match mapping {
        Mapping::Range { first } => ["uid_map", "gid_map"]
            .iter()
            .try_for_each(|file| std::fs::write(format!("/proc/{process}/{file}"), format!("0 {first} {COUNT}\n"))),
        Mapping::Delegated { root, first } => {
            by_tool("newuidmap", process, root.user, first.user)?;
            by_tool("newgidmap", process, root.group, first.group)
        }
        Mapping::Host | Mapping::One(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
}

fn by_tool(tool: &str, process: u32, root: u32, first: u32) -> io::Result<()> {
    let path = find(tool).ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("there is no {tool}")))?;
    let numbers = [process, 0, root, 1, 1, first, COUNT - 1].map(|number| number.to_string());
    let output = Command::new(path).args(numbers).env_clear().stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Where ordinary programs are.
const PATH: &str = "/usr/local/bin:/usr/bin:/bin:/run/current-system/sw/bin";

/// Where systems have tools that gain privileges. `PATH` is not asked: a shim has none.
const TOOLS: [&str; 5] = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/run/wrappers/bin"];

fn find(tool: &str) -> Option<PathBuf> {
    TOOLS.iter().map(|folder| Path::new(folder).join(tool)).find(|path| path.is_file())
}

/// The mapping of an ordinary user's containers by that one's ranges.
///
/// # Errors
/// There is none: why, and the command that changes it.
pub(super) fn delegated() -> Result<Mapping, (String, String)> {
    if find("newuidmap").is_none() || find("newgidmap").is_none() {
        return Err(("there is no newuidmap".into(), "sudo apt-get install uidmap".into()));
    }
    let root = Account { user: nix::unistd::geteuid().as_raw(), group: nix::unistd::getegid().as_raw() };
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = name_of(&accounts, root.user);
    let first = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        range_of(&text, name, root.user).ok_or_else(|| {
            let user = name.map_or_else(|| root.user.to_string(), str::to_owned);
            let found = format!("{file} reserves no {} numbers for {user}", COUNT - 1);
            // Each user's own, beyond what login.defs(5) hands out.
            let first = 1_000_000_000 + root.user % 10_000 * COUNT;
            let range = format!("{first}-{}", first + COUNT - 1);
            (found, format!("sudo usermod --add-subuids {range} --add-subgids {range} {user}"))
        })
    };
    let first = Account { user: first("/etc/subuid")?, group: first("/etc/subgid")? };
    Ok(Mapping::Delegated { root, first })
}

/// A user's name in a file as passwd(5) describes it. The C library would ask other sources, too, by code that a static executable
/// cannot load.
fn name_of(text: &str, user: u32) -> Option<&str> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(user)).then_some(name)
    })
}

/// The first number of a user's range in a file as subuid(5) describes it.
fn range_of(text: &str, name: Option<&str>, user: u32) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        let (first, count): (u32, u32) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let is_theirs = Some(owner) == name || owner.parse() == Ok(user);
        (is_theirs && count >= COUNT - 1).then_some(first)
    })
}

/// Removes a file or folder with what belongs to numbers of this user's range.
///
/// # Errors
/// There is no range, or something stays.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    as_root(&["rm", "-rf", "--"], path)
}

/// Gives a folder with all that is in it to somebody in a container with a range; `None` is the user who runs the engine.
///
/// # Errors
/// There is no range, or something cannot be given.
pub(super) fn give(path: &Path, account: Option<Account>) -> io::Result<()> {
    let Account { user, group } = account.unwrap_or(Account { user: 0, group: 0 });
    as_root(&["chown", "-RhP", &format!("{user}:{group}"), "--"], path)
}

/// Runs a program of the host's on a path, as the root of this user's range: it may do with files of its numbers what it wants,
/// and what this user may with others.
fn as_root(program: &[&str], path: &Path) -> io::Result<()> {
    let failed = |why: String| {
        let what = format!("{} has files of this user's subordinate users, and they stay: {why}", path.display());
        io::Error::new(io::ErrorKind::PermissionDenied, what)
    };
    let mapping = delegated().map_err(|(why, remedy)| failed(format!("{why}: {remedy}")))?;
    let [program, arguments @ ..] = program else { return Ok(()) };
    let mut command = Command::new(program);
    command.args(arguments).arg(path).env_clear().env("PATH", PATH).stdin(Stdio::null());
    let output = sys::in_user_namespace(command, namespace(mapping)?).output()?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// What is at a path, as a mount in which the owners are a user namespace's. It is nowhere yet.
///
/// # Errors
/// It is not there, or its file system cannot be mapped.
pub(super) fn mapped(path: &Path, users: &impl AsFd) -> io::Result<OwnedFd> {
    use rustix::mount::{OpenTreeFlags, open_tree};
    let mount = open_tree(rustix::fs::CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    sys::map_mount(&mount, users.as_fd().as_raw_fd())?;
    Ok(mount)
}

/// Attaches a mount to an open folder or file.
///
/// # Errors
/// The kernel refuses.
pub(super) fn attach(mount: &OwnedFd, at: &OwnedFd) -> io::Result<()> {
    use rustix::mount::{MoveMountFlags, move_mount};
    let by_descriptors = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(mount, "", at, "", by_descriptors)?)
}

/// Why containers cannot have users of their own, where these folders and files are mounted in them.
///
/// # Errors
/// The reason.
pub(super) fn can_be_mapped<'a>(paths: impl IntoIterator<Item = &'a Path>) -> Result<(), String> {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|byte: char| !byte.is_ascii_digit()).map(|number| number.parse().unwrap_or(0));
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if kernel < KERNEL {
        return Err(format!("Linux {}.{} or newer is needed, this is {release}", KERNEL.0, KERNEL.1));
    }
    let users = namespace(Mapping::Range { first: BASE })
        .map_err(|error| format!("a user namespace cannot be made: {error}"))?;
    for path in paths {
        mapped(path, &users)
            .map_err(|error| format!("the file system of {} cannot be mapped: {error}", path.display()))?;
    }
    Ok(())
}

/// Has this process make files as a container's root, and keep its capabilities.
///
/// # Errors
/// The kernel refuses.
pub(super) fn make_files_as_root_of(first: u32) -> io::Result<()> {
    rustix::thread::set_capabilities_secure_bits(CapabilitiesSecureBits::NO_SETUID_FIXUP)?;
    // They return what was before, even where they fail.
    setfsuid(Uid::from_raw(first));
    setfsgid(Gid::from_raw(first));
    if setfsuid(Uid::from_raw(first)).as_raw() != first || setfsgid(Gid::from_raw(first)).as_raw() != first {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_users_range_is_found_by_name_and_by_number() {
        let text = "# none\nother:100000:65536\nagent:1:10\n1000:300000:65535\nagent:200000:65536:\n\nbroken:x:65536\n";
        assert_eq!(range_of(text, Some("agent"), 7), Some(200_000));
        assert_eq!(range_of(text, Some("nobody"), 1000), Some(300_000));
        assert_eq!(range_of(text, None, 7), None);
        assert_eq!(range_of(text, Some("broken"), 7), None);
        let accounts = "root:x:0:0::/root:/bin/sh\n+::::::\nagent:x:1000:1:,,,:/home/agent:\n";
        assert_eq!((name_of(accounts, 1000), name_of(accounts, 1)), (Some("agent"), None));
    }

    #[test]
    fn ranges_are_apart_and_end_before_the_numbers_that_mean_nothing() {
        let firsts: std::collections::BTreeSet<u32> =
            (0..5000).map(|n| first_of(&format!("bottle-{n}-agent"))).collect();
        assert!(firsts.iter().all(|first| *first >= BASE && (first - BASE).is_multiple_of(COUNT)));
        assert!(
            firsts.last().unwrap() + COUNT <= i32::MAX.unsigned_abs(),
            "some programs take more for a negative number"
        );
        assert!(firsts.len() > 900);
    }
}
