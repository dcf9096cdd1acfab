//! What a process in a container gives up before its command starts: the host's keys and descriptors, other groups, every
//! capability in all five sets (CVE-2022-27649), new privileges, and most system calls.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::plan::Process;
use super::users::Mapping;
use super::{filter, sys};

/// Descriptors that a process may have.
const DESCRIPTORS: u64 = 16_384;
/// The last capability of Linux 6.18 is 40; the kernel says where they end.
const CAPABILITIES: u32 = 63;

/// Gives everything up; what follows is the exec. `users` is the user namespace of a container with a range; `shim` is the channel
/// to the parent, with which this process ends; `filters` are compiled seccomp programs, installed in their order.
///
/// # Errors
/// The kernel refuses: then nothing is started.
pub(super) fn drop_all(
    process: &Process,
    mapping: Mapping,
    users: Option<&OwnedFd>,
    shim: &UnixStream,
    filters: &[filter::Program],
) -> anyhow::Result<()> {
    sys::new_keyring().context("join a new keyring")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("forbid core dumps")?;
    // Only root may raise what this user is given.
    let (_, given) = getrlimit(Resource::RLIMIT_NOFILE).context("read the bound of descriptors")?;
    let most = if mapping.is_by_root() { DESCRIPTORS } else { DESCRIPTORS.min(given) };
    setrlimit(Resource::RLIMIT_NOFILE, most, most).context("bound descriptors")?;
    if let Some(users) = users {
        // Whoever joins has every capability there, so they are given up afterwards.
        sys::join_users(users).context("join the container's users")?;
    }
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    for capability in (0..=CAPABILITIES).filter_map(|number| CapabilitySet::from_bits(1 << number)) {
        // Those that the kernel does not know are in no set.
        if rustix::thread::capability_is_in_bounding_set(capability).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(capability).context("empty the bounding set")?;
        }
    }
    rustix::thread::clear_ambient_capability_set().context("empty the ambient set")?;
    let (user, group) = (Uid::from_raw(process.account.user), Gid::from_raw(process.account.group));
    if mapping.has_users() {
        setgroups(&[]).context("leave all groups")?;
    }
    setresgid(group, group, group).with_context(|| format!("become group {group}"))?;
    setresuid(user, user, user).with_context(|| format!("become user {user}"))?;
    end_with(shim)?;
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, none).context("give up every capability")?;
    rustix::thread::set_no_new_privs(true).context("forbid new privileges")?;
    sys::close_on_exec().context("close descriptors")?;
    filters.iter().try_for_each(filter::install).context("install the system call filter")
}

/// Has the kernel kill this process when its shim ends. The kernel forgets that when the user changes (prctl(2),
/// `PR_SET_PDEATHSIG`), so this follows the change. A shim that has ended before has closed the channel: no number says it, for the
/// shim is not in this PID namespace.
fn end_with(shim: &UnixStream) -> anyhow::Result<()> {
    use nix::sys::socket::{MsgFlags, recv};
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
    // The change makes this process what `fs.suid_dumpable` says: on some hosts, one that others of its user look into.
    nix::sys::prctl::set_dumpable(false)?;
    match recv(shim.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) {
        Err(Errno::EAGAIN) => Ok(()),
        Ok(_) => anyhow::bail!("the shim has ended"),
        Err(errno) => Err(errno).context("ask whether the shim lives"),
    }
}
