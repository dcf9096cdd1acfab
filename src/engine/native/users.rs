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
use std::path::Path;

use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::thread::CapabilitiesSecureBits;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::image::Account;
use super::sys;
use super::user_namespace::{Reserved, made_by_root, made_by_tools};

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

    /// An account's owner of files on the disk.
    pub(super) fn on_disk(self, account: Account) -> Account {
        let of = |root: u32, first: u32, number: u32| if number == 0 { root } else { first.saturating_add(number - 1) };
        match self {
            Self::Host | Self::Range { .. } => account,
            Self::One(this) => this,
            Self::Delegated { root, first } => Account {
                user: of(root.user, first.user, account.user),
                group: of(root.group, first.group, account.group),
            },
        }
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
    match mapping {
        Mapping::Range { first } => made_by_root(first, COUNT),
        Mapping::Delegated { root, first } => {
            let range = |first| [Reserved { first, count: COUNT - 1 }];
            made_by_tools((root.user, &range(first.user)), (root.group, &range(first.group)))
        }
        Mapping::Host | Mapping::One(_) => Err(io::ErrorKind::InvalidInput.into()),
    }
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
