//! A container's shim: the parent of its first process. It keeps the container's streams, log and end, starts what runs beside
//! the command, and answers clients.
//!
//! Rules: one thread serves; another one only watches the engine ([`lifeline`]), and each child has one that it was started by
//! ([`process`]). It lives as long as its standard input is open: the engine that made the container holds the other end. At its end the shim kills the container, and lets a frozen one thaw, so that it dies.
//! When the shim dies, the kernel kills the first process, and with that every process of the container. The shim serves its
//! clients while it waits for a process of the container: that one may be frozen, or stopped by another.

mod beside;
mod clients;
mod copies;
mod lifeline;
mod process;
mod reply;
mod state;
mod streams;
mod terminals;

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use rustix::thread::{CapabilitySet, CapabilitySets};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::watch;

use super::child::{self, SETUP, Setup};
use super::image::Account;
use super::protocol::SOCKET;
use super::store::{self, End, remove_tree};
use super::users::Mapping;
use super::{cgroup, sys, users};
use lifeline::Lifeline;
use process::{Parent, Started, Users, await_ready, channel, spawn};
use state::Shim;
use terminals::Terminals;

/// The role's name on the command line.
pub const ROLE: &str = "container-shim";
/// The file that says how a container ended.
pub(super) const END: &str = "end.json";
/// The file that says which process is the container's first.
pub(super) const FIRST_PROCESS: &str = "first.json";
/// What the shim says on its standard output when others can join the container's network.
pub(super) const NETWORK: &str = "network\n";
/// What it says when the container is ready; anything else is why it is not.
pub(super) const READY: &str = "ready\n";

/// Runs a shim: `container-shim FOLDER [copy]`.
///
/// # Errors
/// The container cannot be made; standard output says why, too.
pub fn run(words: &[&str]) -> anyhow::Result<()> {
    let (folder, copying) = match words {
        [folder] => (PathBuf::from(folder), false),
        [folder, child::COPY] => (PathBuf::from(folder), true),
        _ => anyhow::bail!("{ROLE}: takes a container's folder"),
    };
    let began = begin(&folder, copying);
    match &began {
        Ok(_) => print!("{READY}"),
        Err(error) => print!("{error:#}"),
    }
    std::io::stdout().flush()?;
    let (runtime, shim, child, listener, _turn) = began?;
    // The engine waits for the end of what it was told.
    let null = std::fs::File::options().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&null)?;
    let served = runtime.block_on(serve(&shim, child, listener));
    let groups = &shim.setup.groups;
    cgroup::kill_all(groups);
    let _ = cgroup::remove(groups);
    if copying {
        remove_tree(Path::new(copies::FOLDER))?;
    } else if shim.setup.plan.auto_remove {
        store::discard(&folder)?;
    }
    served
}

type Began = (tokio::runtime::Runtime, Arc<Shim>, Child, UnixListener, Option<copies::Turn>);

/// Makes the container, up to its command's start.
fn begin(folder: &Path, copying: bool) -> anyhow::Result<Began> {
    let _ = nix::unistd::setsid();
    sys::close_on_exec()?;
    std::env::set_current_dir(folder).with_context(|| format!("work in {}", folder.display()))?;
    let turn = if copying { Some(copies::begin().context("prepare the copy")?) } else { None };
    let setup: Setup = store::read(Path::new(SETUP))?;
    let groups = setup.groups.clone();
    let made = cgroup::create(&groups, &setup.plan.resources).map_err(anyhow::Error::msg);
    let began = made.and_then(|()| begin_in_groups(setup, copying));
    if began.is_err() {
        // Whoever has removed the folder meanwhile has not seen them.
        let _ = cgroup::end(&groups);
    }
    let (runtime, shim, child, listener) = began?;
    Ok((runtime, shim, child, listener, turn))
}

fn begin_in_groups(
    setup: Setup,
    copying: bool,
) -> anyhow::Result<(tokio::runtime::Runtime, Arc<Shim>, Child, UnixListener)> {
    let listener = UnixListener::bind(SOCKET).context("listen for clients")?;
    let Made { runtime, child, parent, users, go, terminal, lifeline } = make(&setup, copying)?;
    let (outputs, input, child) = streams::of(&runtime, child, terminal.as_ref(), &setup.plan)?;
    let first = child.id().and_then(|id| i32::try_from(id).ok()).context("the first process has ended")?;
    let pidfd = rustix::process::Pid::from_raw(first).context("the first process has ended")?;
    let pidfd = rustix::process::pidfd_open(pidfd, rustix::process::PidfdFlags::empty())?;
    let _ = lifeline.first.set(pidfd);
    let shim = Shim {
        first,
        parent,
        users,
        go: Mutex::new(Some(go)),
        started: watch::Sender::new(false),
        ended: watch::Sender::new(None),
        outputs,
        input,
        terminal,
        beside: Terminals::default(),
        waiting: watch::Sender::new(0),
        copying,
        lifeline,
        setup,
    };
    Ok((runtime, Arc::new(shim), child, listener))
}

/// A container that is ready to start.
struct Made {
    runtime: tokio::runtime::Runtime,
    child: Child,
    parent: Parent,
    users: Users,
    go: UnixStream,
    terminal: Option<OwnedFd>,
    lifeline: Arc<Lifeline>,
}

fn make(setup: &Setup, copying: bool) -> anyhow::Result<Made> {
    let mapping = setup.plan.mapping;
    match (setup.beside.filter(|_| !copying), mapping) {
        (Some(other), Mapping::One(_) | Mapping::Delegated { .. }) => {
            join_user(other).context("join the user namespace beside")?;
        }
        (None, Mapping::One(outside)) => {
            own_user(setup.plan.process.account, outside).context("make a user namespace")?;
        }
        (None, Mapping::Delegated { .. }) => {
            users::namespace(mapping).and_then(|users| sys::join_users(&users)).context("make a user namespace")?;
        }
        (_, Mapping::Host | Mapping::Range { .. }) => {}
    }
    let users = match mapping {
        Mapping::Range { .. } => Users::new(mapping).context("make the container's users")?,
        Mapping::Host => Users::default(),
        Mapping::One(_) | Mapping::Delegated { .. } => {
            keep_capabilities()?;
            Users::default()
        }
    };
    // Not earlier: of a process that is not dumpable, nobody but root may write the maps.
    nix::sys::prctl::set_dumpable(false)?;
    let lifeline = lifeline::watch(setup.groups.clone()).context("watch the engine")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (child, parent, go, terminal) = runtime.block_on(async {
        let (near, far) = channel()?;
        let streams = if setup.plan.process.tty { Stdio::null } else { Stdio::piped };
        let input = if setup.plan.stdin { streams() } else { Stdio::null() };
        let (number, users) = (far.as_raw_fd().to_string(), users.word());
        let words = [child::FIRST, &number, &users, child::COPY];
        let words = &words[..if copying { 4 } else { 3 }];
        let started = spawn(words, far, [input, streams(), streams()], None).await;
        let Started { child, parent } = started.context("make a process namespace and its first process")?;
        let first = child.id();
        let network = || {
            // Nobody joins the network of a copy.
            if let Some(first) = first.filter(|_| !copying) {
                store::note(Path::new(FIRST_PROCESS), &first)?;
                print!("{NETWORK}");
                std::io::stdout().flush()?;
            }
            Ok(())
        };
        let terminal = await_ready(&near, network).await.context("start the container's first process")?;
        anyhow::Ok((child, parent, near, terminal))
    })?;
    Ok(Made { runtime, child, parent, users, go, terminal, lifeline })
}

/// A user namespace in which this process' user is `inside`, and nobody else exists (`user_namespaces(7)`).
pub(super) fn own_user(inside: Account, outside: Account) -> anyhow::Result<()> {
    // An executable that its user may not read makes a process that is not dumpable, of which nobody but root may write the maps.
    nix::sys::prctl::set_dumpable(true)?;
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER)
        .context("unshare (where AppArmor or a sysctl restricts user namespaces, `bottler doctor` names the remedy)")?;
    let write = |file: &str, text: String| {
        std::fs::write(format!("/proc/self/{file}"), text).with_context(|| format!("write /proc/self/{file}"))
    };
    write("setgroups", "deny".into())?;
    write("uid_map", format!("{} {} 1\n", inside.user, outside.user))?;
    write("gid_map", format!("{} {} 1\n", inside.group, outside.group))
}

/// The user namespace of another container of this user's.
fn join_user(first: i32) -> anyhow::Result<()> {
    let file = std::fs::File::open(format!("/proc/{first}/ns/user"))?;
    Ok(sys::join_users(&file)?)
}

/// Has children of any user keep the capabilities of this namespace through their exec, until they give them up.
pub(super) fn keep_capabilities() -> anyhow::Result<()> {
    let sets = rustix::thread::capabilities(None)?;
    let all = CapabilitySets { inheritable: sets.permitted, ..sets };
    rustix::thread::set_capabilities(None, all)?;
    for capability in (0..64).filter_map(|number| CapabilitySet::from_bits(1 << number)) {
        if sets.permitted.contains(capability) {
            rustix::thread::configure_capability_in_ambient_set(capability, true)?;
        }
    }
    Ok(())
}

/// Serves clients until the container has ended, and all who wait for that have been told.
async fn serve(shim: &Arc<Shim>, mut child: Child, listener: UnixListener) -> anyhow::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            () = shim.lifeline.stop.notified() => child.start_kill()?,
            accepted = listener.accept() => {
                // A client more than there are descriptors for is none.
                if let Ok((stream, _)) = accepted {
                    crate::task::spawn(clients::serve(shim.clone(), stream));
                }
            }
        }
    };
    shim.outputs.drained().await;
    let code = streams::exit_code(status);
    let end = End { code, out_of_memory: code == 137 && cgroup::out_of_memory(&shim.setup.groups) };
    // A full disk does not keep anybody from being told.
    if !shim.copying {
        let _ = store::note(Path::new(END), &end);
    }
    shim.ended.send_replace(Some(end));
    let mut waiting = shim.waiting.subscribe();
    waiting.wait_for(|count| *count == 0).await?;
    Ok(())
}
