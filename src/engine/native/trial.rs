//! What the native engine needs of this host, tried for `doctor`: a process in this executable's role does what a shim and a first
//! process do, piece by piece, and says of each what came of it. Nothing of the user's is named.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use serde::{Deserialize, Serialize};

use super::answer::{broken, failure};
use super::cgroup::Groups;
use super::image::Account;
use super::subordinates::Subordinates;
use super::{NativeEngine, filter, host, shim, store, sys, users};
use crate::engine::{ErrorKind, Result};

/// The role's name on the command line.
pub const ROLE: &str = "container-trial";
/// The word for the process that mounts `/proc`: it must be in the new PID namespace.
const PROC: &str = "proc";
/// How long everything may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The version of Landlock's interface that keeps a process from abstract sockets (Linux 6.12, `landlock.rst`).
const SCOPED: i64 = 6;

/// What was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What.
    pub what: String,
    /// What came of it, in a sentence.
    pub found: String,
    /// Where it failed, the command that mends it.
    pub remedy: Option<String>,
    /// Whether no container is made without it.
    pub needed: bool,
}

impl Trial {
    fn ok(what: &str, found: impl Into<String>) -> Self {
        Self { what: what.into(), found: found.into(), remedy: None, needed: true }
    }

    fn failed(what: &str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { remedy: Some(remedy.into()), ..Self::ok(what, found) }
    }
}

/// Tries everything.
///
/// # Errors
/// The process that tries it cannot be started, or says nothing.
pub async fn all(endpoint: &str) -> Result<Vec<Trial>> {
    let operation = "try the kernel";
    let engine = NativeEngine::open(endpoint)?;
    // From where shims are started: a security module may know that path.
    let executable = engine.executable().map_err(broken(operation, "native"))?;
    let folder = engine.root.join(format!("trial-{}", std::process::id()));
    crate::host::make_private(&folder).map_err(broken(operation, "native"))?;
    let mut command = tokio::process::Command::new(executable);
    command.arg(ROLE).arg(&folder).env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, output).await;
    let _ = store::remove_tree(&folder);
    let output = match output {
        Ok(output) => output.map_err(broken(operation, "native"))?,
        Err(_) => return Err(failure(operation, "native", ErrorKind::Deadline, "it does not end")),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let trials: Vec<Trial> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    if trials.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(failure(operation, "native", ErrorKind::Other, said));
    }
    Ok(trials)
}

/// The process that tries: `container-trial FOLDER`, or `container-trial proc` in its new namespaces.
///
/// # Errors
/// Standard output is closed.
pub fn run(words: &[&str]) -> anyhow::Result<()> {
    if words == [PROC] {
        mount("proc", "root", "proc", MountFlags::empty(), c"")?;
        return Ok(());
    }
    let [folder] = words else { anyhow::bail!("{ROLE}: takes a folder") };
    std::env::set_current_dir(folder)?;
    let say = |trial: &Trial| crate::wire::send_blocking(&mut std::io::stdout().lock(), trial);
    for trial in [control_groups(), own_users(), landlock()] {
        say(&trial)?;
    }
    let root = host::is_privileged();
    // What follows needs what went before.
    for attempt in [user_namespace as fn(bool) -> Trial, namespaces, loopback, overlay, proc, system_calls] {
        let trial = attempt(root);
        say(&trial)?;
        if trial.remedy.is_some() && matches!(trial.what.as_str(), USERS | SPACES) {
            break;
        }
    }
    Ok(())
}

const USERS: &str = "user namespace";
const SPACES: &str = "namespaces";

fn sysctl(path: &str) -> Option<String> {
    Some(std::fs::read_to_string(Path::new("/proc/sys").join(path)).ok()?.trim().to_owned())
}

/// Ubuntu's restriction: an unprivileged user namespace has no capabilities without a profile that says so.
fn is_restricted() -> bool {
    sysctl("kernel/apparmor_restrict_unprivileged_userns").as_deref() == Some("1")
}

/// What loads a profile for the executables that shims are started from. The restriction itself stays for everything else.
const PROFILE: &str = "printf '%s\\n' 'abi <abi/4.0>,' 'include <tunables/global>' \
     'profile bottler @{HOME}/.local/share/bottler/native/executables/*/bottler flags=(unconfined) { userns, }' \
     | sudo tee /etc/apparmor.d/bottler && sudo apparmor_parser -r /etc/apparmor.d/bottler";

fn user_namespace(root: bool) -> Trial {
    if root {
        return Trial::ok(USERS, "not needed: the engine is root's");
    }
    let own = Account { user: nix::unistd::geteuid().as_raw(), group: nix::unistd::getegid().as_raw() };
    let made = shim::own_user(own, own).and_then(|()| shim::keep_capabilities());
    let Err(error) = made else { return Trial::ok(USERS, "can be made, with one user") };
    if sysctl("user/max_user_namespaces").as_deref() == Some("0") {
        let found = "user.max_user_namespaces is 0: nobody may make one";
        return Trial::failed(USERS, found, "sudo sysctl -w user.max_user_namespaces=10000");
    }
    if sysctl("kernel/unprivileged_userns_clone").as_deref() == Some("0") {
        let found = "kernel.unprivileged_userns_clone is 0: only root may make one";
        return Trial::failed(USERS, found, "sudo sysctl -w kernel.unprivileged_userns_clone=1");
    }
    if is_restricted() {
        return Trial::failed(USERS, "AppArmor keeps this executable from making one", PROFILE);
    }
    let found = format!("cannot be made: {}", error.root_cause());
    Trial::failed(
        USERS,
        found,
        "allow unshare(2) with CLONE_NEWUSER in whatever bottler runs in (a container, SELinux)",
    )
}

fn namespaces(root: bool) -> Trial {
    let all = CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    let made = unshare(all).and_then(|()| {
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(|error| Errno::from_raw(error.raw_os_error()))
    });
    match made {
        Ok(()) => Trial::ok(SPACES, "for processes, mounts, network, IPC, names and control groups"),
        Err(_) if !root && is_restricted() => {
            Trial::failed(SPACES, "AppArmor takes the capabilities in a user namespace away", PROFILE)
        }
        Err(errno) => {
            let remedy = "allow unshare(2) in whatever bottler runs in: docker run --security-opt seccomp=unconfined";
            Trial::failed(SPACES, format!("cannot be made: {}", errno.desc()), remedy)
        }
    }
}

fn loopback(root: bool) -> Trial {
    let what = "loopback interface";
    match sys::raise_loopback() {
        Ok(()) => Trial::ok(what, "can be raised in a network of its own"),
        Err(_) if !root && is_restricted() => Trial::failed(what, "AppArmor keeps it down", PROFILE),
        Err(error) => Trial::failed(what, format!("stays down: {error}"), "allow CAP_NET_ADMIN in a user namespace"),
    }
}

fn overlay(root: bool) -> Trial {
    let what = "overlay";
    let tried = || -> std::io::Result<()> {
        for folder in ["lower", "upper", "work", "root"] {
            std::fs::create_dir(folder)?;
        }
        std::fs::write("lower/file", "image")?;
        let base = c"lowerdir=lower,upperdir=upper,workdir=work";
        let options = if root { base } else { c"lowerdir=lower,upperdir=upper,workdir=work,userxattr" };
        mount("overlay", "root", "overlay", MountFlags::NOSUID | MountFlags::NODEV, options)?;
        // Both need attributes of files, which not every file system has.
        std::fs::remove_file("root/file")?;
        std::fs::create_dir("root/file")?;
        rustix::mount::unmount("root", rustix::mount::UnmountFlags::DETACH)?;
        Ok(())
    };
    match tried() {
        Ok(()) => {
            Trial::ok(what, if root { "can be mounted" } else { "can be mounted in a user namespace (userxattr)" })
        }
        Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => {
            Trial::failed(what, "the kernel has none", "sudo modprobe overlay")
        }
        Err(_) if !root && is_restricted() => Trial::failed(what, "AppArmor forbids the mount", PROFILE),
        Err(error) => {
            let remedy =
                "use Linux 5.11 or newer, and a folder on ext4, xfs, btrfs or tmpfs: XDG_DATA_HOME=/var/tmp/data";
            Trial::failed(what, format!("cannot be mounted where the store is: {error}"), remedy)
        }
    }
}

fn proc(root: bool) -> Trial {
    let what = "/proc";
    let mut command = Command::new("/proc/self/exe");
    command.args([ROLE, PROC]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    match command.output() {
        Ok(output) if output.status.success() => Trial::ok(what, "can be mounted for a container's processes"),
        Ok(_) if !root && is_restricted() => Trial::failed(what, "AppArmor forbids the mount", PROFILE),
        Ok(_) => {
            let found = "cannot be mounted: this is a container, and parts of its own are hidden";
            Trial::failed(what, found, "docker run --security-opt systempaths=unconfined")
        }
        Err(error) => Trial::failed(what, format!("nobody could be started to mount it: {error}"), "ulimit -u"),
    }
}

fn system_calls(_: bool) -> Trial {
    let what = "system call filter";
    let store = PathBuf::from("..");
    let tried = filter::programs(&store).and_then(|programs| {
        rustix::thread::set_no_new_privs(true)?;
        Ok(programs.iter().try_for_each(filter::install)?)
    });
    match tried {
        Ok(()) => Trial::ok(what, "can be installed"),
        Err(error) => {
            let found = format!("cannot be installed: {}", error.root_cause());
            Trial::failed(what, found, "use a kernel with CONFIG_SECCOMP_FILTER")
        }
    }
}

/// Makes a group with bounds, and removes it.
fn control_groups() -> Trial {
    let what = "bounds";
    let groups = match Groups::find() {
        Ok(groups) => groups,
        Err(why) => return Trial::failed(what, why, "sudo mount -t cgroup2 none /sys/fs/cgroup"),
    };
    let version = if matches!(groups, Groups::Second(_)) { "2" } else { "1" };
    if groups.may_be_made() {
        return Trial::ok(what, format!("memory, processes and processors, by control groups, version {version}"));
    }
    let found =
        format!("this user may make no control groups (version {version}), so memory and processes have no bounds");
    Trial::failed(what, found, groups.remedy())
}

/// Whether containers have users of their own. They do without.
fn own_users() -> Trial {
    let what = "own users";
    if host::is_privileged() {
        return match users::can_be_mapped([Path::new(".")]) {
            Ok(()) => Trial::ok(what, "can be mapped: who breaks out is nobody on this host"),
            Err(why) => {
                let found = format!("{why}. A container's users have this host's numbers");
                let remedy =
                    "use Linux 5.19 or newer, and a folder on ext4, xfs, btrfs or tmpfs: XDG_DATA_HOME=/var/tmp/data";
                Trial { needed: false, ..Trial::failed(what, found, remedy) }
            }
        };
    }
    let one = |why: String, remedy: String| {
        let found = format!("{why}. A container has one user, who is you outside");
        Trial { needed: false, ..Trial::failed(what, found, remedy) }
    };
    match Subordinates::find().map(|theirs| users::namespace(theirs.mapping())) {
        Ok(Ok(_)) => Trial::ok(what, "can be mapped by newuidmap: who breaks out is not you"),
        Ok(Err(error)) => one(format!("newuidmap fails: {error}"), "sudo apt-get install --reinstall uidmap".into()),
        Err((why, remedy)) => one(why, remedy),
    }
}

fn landlock() -> Trial {
    let what = "Landlock";
    let remedy = "use Linux 6.12 or newer, with landlock in its lsm= list: until then, seccomp alone keeps sidecars from the host's abstract sockets";
    let weaker = |found: String| Trial { needed: false, ..Trial::failed(what, found, remedy) };
    match sys::landlock() {
        Some(version) if version >= SCOPED => Trial::ok(what, format!("version {version} of its interface")),
        Some(version) => weaker(format!("version {version} of its interface, of {SCOPED} that are needed")),
        None => weaker("not there".into()),
    }
}
