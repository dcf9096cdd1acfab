//! The processes of a container before their exec. [`run`] is the first process: it makes the namespaces and the file system,
//! says that it is ready, waits for the start, and becomes the container's command. [`enter`] is one that joins it later.
//!
//! Rules: one thread; nothing of the container runs before every privilege is gone, or, for whoever joins, sees a process that
//! still has one (CVE-2016-9962): these processes are not dumpable until their exec. The executable that they start from is in the
//! store, which no container can write (CVE-2019-5736).

use std::io::{Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use nix::sys::signal::Signal;
use rustix::fs::FileType;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use serde::{Deserialize, Serialize};

use super::plan::{Plan, Process};
use super::protocol::{MAX_LINE, Task};
use super::users::Mapping;
use super::{cgroup, filter, mounts, privileges, sys, users};
use crate::wire::BlockingReader;

/// The roles' names on the command line.
pub const FIRST: &str = "container-first";
/// See [`FIRST`].
pub const ENTER: &str = "container-enter";

/// What the shim says to let the command start.
pub(super) const GO: u8 = b'g';
/// What the first process says when others can join its network.
pub(super) const NETWORK: u8 = b'n';
/// What it says when its container is ready.
pub(super) const READY: u8 = b'r';

/// What the shim tells both, in a file of the container's folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Setup {
    pub(super) plan: Plan,
    pub(super) groups: Vec<(String, PathBuf)>,
    pub(super) filters: Vec<filter::Program>,
    /// The first process of the container whose network this one is in, and its user namespace where it has one.
    pub(super) beside: Option<i32>,
    /// Addresses on the container's networks: the source of connections there, and the range's mask.
    pub(super) addresses: Vec<(Ipv4Addr, Ipv4Addr)>,
}

/// The part of it that says where a container's control groups are.
#[derive(Debug, Deserialize)]
pub(super) struct Grouped {
    pub(super) groups: Vec<(String, PathBuf)>,
}

/// The file.
pub(super) const SETUP: &str = "setup.json";

/// The word after a role for a container that has ended, and of which files are copied: nothing of it runs.
pub(super) const COPY: &str = "copy";

/// The word after a role in place of a descriptor of the container's users, where it has none of its own.
pub(super) const NO_USERS: &str = "-";

/// The first process: `container-first DESCRIPTOR USERS [copy]`, in the container's folder. Returns only if it cannot become the
/// command.
///
/// # Errors
/// What could not be set up; the shim has been told.
pub fn run(words: &[&str]) -> anyhow::Result<()> {
    prepare()?;
    let (number, users, copying) = match words {
        [number, users] => (number, users, false),
        [number, users, COPY] => (number, users, true),
        _ => anyhow::bail!("{FIRST}: takes two descriptors"),
    };
    let mut shim = UnixStream::from(sys::inherited(number)?);
    let started = inherited_users(users).and_then(|users| first(&mut shim, users.as_ref(), copying));
    let Err(error) = started;
    // The shim may be gone.
    let _ = shim.write_all(format!("{error:#}").as_bytes());
    Err(error)
}

/// The user namespace that the shim has made.
fn inherited_users(word: &str) -> anyhow::Result<Option<OwnedFd>> {
    if word == NO_USERS { Ok(None) } else { sys::inherited(word).map(Some).context("take the container's users") }
}

fn prepare() -> anyhow::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    nix::sys::prctl::set_dumpable(false)?;
    // While /proc is the host's: the container's may be what its user makes of it. Lower than that of whoever started it is for
    // root alone.
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
    Ok(())
}

fn first(shim: &mut UnixStream, users: Option<&OwnedFd>, copying: bool) -> anyhow::Result<std::convert::Infallible> {
    let Setup { plan, groups, filters, beside, addresses } = super::store::read(Path::new(SETUP))?;
    let (beside, addresses) = if copying { (None, Vec::new()) } else { (beside, addresses) };
    cgroup::join(&groups).context("join the control groups")?;
    let mut spaces = UnshareFlags::NEWNS | UnshareFlags::NEWIPC | UnshareFlags::NEWUTS | UnshareFlags::NEWCGROUP;
    match beside {
        Some(other) => join_one(other, "net", LinkNameSpaceType::Network).context("join the network beside")?,
        None if plan.host_network => {}
        None => spaces |= UnshareFlags::NEWNET,
    }
    unshare(spaces).context("make namespaces")?;
    if spaces.contains(UnshareFlags::NEWNET) {
        sys::raise_loopback().context("raise the loopback interface")?;
        quiet_network();
    }
    for (source, mask) in addresses {
        sys::add_addresses(source, mask).with_context(|| format!("add address {source}"))?;
    }
    shim.write_all(&[NETWORK]).context("say that the network is there")?;
    if !plan.hostname.is_empty() {
        nix::unistd::sethostname(&plan.hostname).context("set the host name")?;
    }
    if let Mapping::Range { first } = plan.mapping {
        users::make_files_as_root_of(first).context("make files as the container's root")?;
    }
    mounts::enter(&plan, &groups, users, copying)?;
    let process = plan.process.clone();
    let terminal = if process.tty { Some(open_terminal()?) } else { None };
    announce(shim, terminal.as_ref())?;
    let mut go = [0];
    // Without a shim, there is nobody to run for.
    shim.read_exact(&mut go).context("wait for the start")?;
    start(&process, plan.mapping, users, shim, &filters)
}

/// `unshare`, of everything but descriptors, which stay this process' own.
#[expect(unsafe_code, reason = "unshare(2) is unsafe for the descriptor table alone")]
fn unshare(spaces: UnshareFlags) -> std::io::Result<()> {
    // SAFETY: `FILES` is not among the flags, so descriptors are not touched.
    Ok(unsafe { rustix::thread::unshare_unsafe(spaces) }?)
}

/// No forwarding and no IPv6, as on other engines; what is not there cannot be on.
fn quiet_network() {
    for (setting, value) in [
        ("ipv4/ip_forward", "0"),
        ("ipv4/conf/all/arp_ignore", "1"),
        ("ipv6/conf/all/disable_ipv6", "1"),
        ("ipv6/conf/default/disable_ipv6", "1"),
    ] {
        let _ = std::fs::write(format!("/proc/sys/net/{setting}"), value);
    }
}

/// Opens a terminal of the container's own, puts its near end on the standard streams, and gives the far end back.
fn open_terminal() -> anyhow::Result<OwnedFd> {
    use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, unlockpt};
    let far = rustix::fs::open(
        "/dev/ptmx",
        rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .context("open /dev/ptmx")?;
    grantpt(&far)?;
    unlockpt(&far)?;
    let near = ioctl_tiocgptpeer(&far, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    rustix::stdio::dup2_stdin(&near)?;
    rustix::stdio::dup2_stdout(&near)?;
    rustix::stdio::dup2_stderr(&near)?;
    Ok(far)
}

/// Says that all is ready, with a terminal's far end where there is one.
fn announce(shim: &UnixStream, terminal: Option<&OwnedFd>) -> anyhow::Result<()> {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::AsRawFd;
    let descriptors: Vec<i32> = terminal.into_iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&descriptors)];
    let rights = if descriptors.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(shim.as_raw_fd(), &[std::io::IoSlice::new(&[READY])], rights, MsgFlags::empty(), None)
        .context("say that the container is ready")?;
    Ok(())
}

/// Gives up every privilege and becomes the command.
fn start(
    process: &Process,
    mapping: Mapping,
    users: Option<&OwnedFd>,
    shim: &UnixStream,
    filters: &[filter::Program],
) -> anyhow::Result<std::convert::Infallible> {
    let (program, arguments) = process.command.split_first().context("there is no command")?;
    // A session of its own: no signal of a terminal outside, and no keystroke into one.
    let _ = nix::unistd::setsid();
    if process.tty {
        sys::control_terminal().context("take the terminal")?;
    }
    own_streams(process, mapping);
    std::env::set_current_dir(&process.workdir).with_context(|| format!("work in {}", process.workdir))?;
    let here = std::env::current_dir().context("find the working directory")?;
    anyhow::ensure!(here.is_absolute() && !here.starts_with("(unreachable)"), "the working directory is outside");
    privileges::drop_all(process, mapping, users, shim, filters)?;
    let error = Command::new(program).args(arguments).env_clear().envs(&process.env).exec();
    Err(error).with_context(|| format!("start {program}"))
}

/// Pipes and a terminal belong to whoever uses them: `/dev/stdout` is opened by its owner alone.
fn own_streams(process: &Process, mapping: Mapping) {
    let (user, group) = (mapping.outside(process.account.user), mapping.outside(process.account.group));
    let own = |stream: BorrowedFd<'_>| {
        let is_the_hosts = rustix::fs::fstat(stream)
            .is_ok_and(|found| FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice && !process.tty);
        if !is_the_hosts {
            // Where there is one user, it is that one's already.
            let _ = nix::unistd::fchown(stream, Some(user.into()), Some(group.into()));
        }
    };
    own(std::io::stdin().as_fd());
    own(std::io::stdout().as_fd());
    own(std::io::stderr().as_fd());
}

/// Joins one namespace of a process.
fn join_one(process: i32, name: &str, kind: LinkNameSpaceType) -> anyhow::Result<()> {
    let file = std::fs::File::open(format!("/proc/{process}/ns/{name}"))?;
    Ok(move_into_link_name_space(file.as_fd(), Some(kind))?)
}

/// What [`enter`] is told by its channel, as a line: a command line is everybody's to read, and this has variables.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    /// The container's first process, as the shim numbers it.
    pub(super) first: i32,
    pub(super) task: Task,
}

/// A process beside a container's command: `container-enter DESCRIPTOR USERS`, in the container's folder. Returns where there is
/// nothing to become.
///
/// # Errors
/// It cannot join, or cannot do what it is for.
pub fn enter(words: &[&str]) -> anyhow::Result<()> {
    prepare()?;
    let [number, users] = words else { anyhow::bail!("{ENTER}: takes two descriptors") };
    let shim = UnixStream::from(sys::inherited(number)?);
    let users = inherited_users(users)?;
    let entry: Option<Entry> = BlockingReader::new(&shim, MAX_LINE).value()?;
    let Entry { first, task } = entry.context("there is no task")?;
    let Setup { plan, groups, filters, .. } = super::store::read(Path::new(SETUP))?;
    let open = |name: &str| std::fs::File::open(format!("/proc/{first}/ns/{name}"));
    let spaces = [
        (open("cgroup")?, LinkNameSpaceType::ControlGroup),
        (open("ipc")?, LinkNameSpaceType::InterProcessCommunication),
        (open("uts")?, LinkNameSpaceType::HostNameAndNISDomainName),
        (open("net")?, LinkNameSpaceType::Network),
        (open("mnt")?, LinkNameSpaceType::Mount),
    ];
    cgroup::join(&groups).context("join the control groups")?;
    for (file, kind) in &spaces {
        move_into_link_name_space(file.as_fd(), Some(*kind)).context("join the container")?;
    }
    drop(spaces);
    match task {
        Task::Command(process) => {
            let terminal = if process.tty { Some(open_terminal()?) } else { None };
            announce(&shim, terminal.as_ref())?;
            match start(&process, plan.mapping, users.as_ref(), &shim, &filters)? {}
        }
        Task::Unpack => {
            become_root(users.as_ref())?;
            announce(&shim, None)?;
            let owners = plan.mapping.has_users();
            super::image::unpack(std::io::stdin().lock(), Path::new("/"), owners)
                .context("unpack into the container")?;
            Ok(())
        }
        Task::Pack(path) => {
            become_root(users.as_ref())?;
            announce(&shim, None)?;
            super::image::pack(Path::new(&path), std::io::stdout().lock()).with_context(|| format!("pack {path}"))
        }
    }
}

/// Becomes the root of a container with users of its own, and has the kernel kill this process with its parent as before.
fn become_root(users: Option<&OwnedFd>) -> anyhow::Result<()> {
    let Some(users) = users else { return Ok(()) };
    sys::become_root_of(users).context("become the container's root")?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    Ok(nix::sys::prctl::set_dumpable(false)?)
}
