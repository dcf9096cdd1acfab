//! Attempts on files: engine sockets, init's secrets, root's files, mounts, devices, and what is open.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::stat::{Mode, SFlag, major, makedev, minor};

use super::ProbeResult;

/// The sockets of engines and their helpers.
const SOCKETS: [&str; 6] = [
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/containerd/containerd.sock",
    "/run/podman/podman.sock",
    "/run/user/1000/docker.sock",
    "/run/crio/crio.sock",
];

/// Paths of the image that the agent must not write, unless it is root there.
const OF_ROOT: [&str; 4] = ["/probe", "/etc/probe", "/usr/probe", "/run/probe"];

/// Paths that no agent may write.
const FOREIGN: [&str; 11] = [
    "/bottler",
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sys/fs/binfmt_misc/register",
    "/proc/sysrq-trigger",
    "/sys/probe",
    "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/memory.max",
    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    "/sys/fs/cgroup/release_agent",
    "/sys/fs/cgroup/memory/release_agent",
];

/// Files that only init may read.
const INIT: [&str; 3] = ["/proc/1/environ", "/proc/1/mem", "/proc/1/maps"];

/// File systems that an engine mounts into every container, and our own.
const PLAIN: [&str; 10] = [
    "overlay",
    "fuse.fuse-overlayfs",
    "fuse-overlayfs",
    "proc",
    "sysfs",
    "tmpfs",
    "devpts",
    "mqueue",
    "cgroup",
    "cgroup2",
];

pub(super) fn all(gvisor: bool) -> Vec<ProbeResult> {
    let mut lines = vec![engine_socket()];
    if !nix::unistd::geteuid().is_root() {
        lines.extend(OF_ROOT.map(write));
    }
    lines.extend(FOREIGN.map(write));
    // gVisor shows processes of the same user everything but memory; the rest contains no secret.
    lines.extend(INIT.into_iter().filter(|path| !gvisor || path.ends_with("/mem")).map(read));
    lines.extend([service_volumes(), mounts(gvisor), descriptors()]);
    lines.extend(NODES.map(node));
    if !gvisor {
        // Its devices and sockets are its own.
        lines.extend([devices(), abstract_sockets()]);
    }
    lines
}

/// bottler's own executable, which repeats the proof: nobody in the container, not even root, can replace it.
pub(super) fn executable() -> Vec<ProbeResult> {
    let Ok(own) = std::env::current_exe() else {
        return vec![ProbeResult::new("bottler's own executable", "found", false, "not found")];
    };
    let write = OpenOptions::new().write(true).open(&own).map(drop);
    // A busy executable is not a refusal: it does not run for ever.
    let write = match write {
        Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => Ok(()),
        tried => tried,
    };
    let beside = own.with_extension("moved");
    let moved = std::fs::rename(&own, &beside);
    if moved.is_ok() {
        let _ = std::fs::rename(&beside, &own);
    }
    let moved = match moved {
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Err(ErrorKind::PermissionDenied.into()),
        tried => tried,
    };
    vec![
        expect_refusal("write bottler's own executable".into(), write),
        expect_refusal("replace bottler's own executable".into(), moved),
    ]
}

fn engine_socket() -> ProbeResult {
    let found: Vec<&str> = SOCKETS.into_iter().filter(|path| UnixStream::connect(path).is_ok()).collect();
    let happened = if found.is_empty() { "none".to_owned() } else { found.join(", ") };
    ProbeResult::new("engine sockets", "none", found.is_empty(), happened)
}

fn write(path: &str) -> ProbeResult {
    let opened = OpenOptions::new().write(true).create(!path.starts_with("/proc")).truncate(false).open(path);
    expect_refusal(format!("write {path}"), opened.map(drop))
}

fn read(path: &str) -> ProbeResult {
    let opened = std::fs::read(path);
    expect_refusal(format!("read {path}"), opened.map(drop))
}

fn expect_refusal(attempt: String, result: std::io::Result<()>) -> ProbeResult {
    match result {
        Ok(()) => ProbeResult::new(attempt, "refused", false, "done"),
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound
            | ErrorKind::ExecutableFileBusy => ProbeResult::new(attempt, "refused", true, "refused"),
            _ => ProbeResult::new(attempt, "refused", false, error.to_string()),
        },
    }
}

/// The sidecars' volumes allow connections, but no writes.
fn service_volumes() -> ProbeResult {
    let file = format!("{}/egress/probe", crate::layout::agent::SERVICES_DIR);
    expect_refusal("write egress' volume".into(), std::fs::write(file, b"x"))
}

/// Nothing that the launch opened is open in the agent's command, beyond its standard streams (CVE-2024-21626).
fn descriptors() -> ProbeResult {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let open = entries.filter(|entry| entry.file_name().to_str().is_none_or(|name| !matches!(name, "0" | "1" | "2")));
    let mut targets: Vec<String> =
        open.filter_map(|entry| Some(std::fs::read_link(entry.path()).ok()?.display().to_string())).collect();
    // The folder that is read here.
    targets.retain(|target| !(target.starts_with("/proc/") && target.ends_with("/fd")));
    let happened = if targets.is_empty() { "none".to_owned() } else { targets.join(", ") };
    ProbeResult::new("descriptors beyond the standard streams", "none", targets.is_empty(), happened)
}

/// Nodes of devices that read what is the host's: its memory, its first disk.
const NODES: [(&str, SFlag, u64, u64); 2] = [("memory", SFlag::S_IFCHR, 1, 1), ("a disk", SFlag::S_IFBLK, 8, 0)];

fn node((name, kind, major, minor): (&str, SFlag, u64, u64)) -> ProbeResult {
    let path = format!("/tmp/probe-{}", name.replace(' ', "-"));
    let made = nix::sys::stat::mknod(path.as_str(), kind, Mode::from_bits_truncate(0o600), makedev(major, minor));
    // A kernel of its own, as gVisor's, may let it be made: it leads to no device.
    let opened = made.map_err(std::io::Error::from).and_then(|()| std::fs::File::open(&path));
    let _ = std::fs::remove_file(&path);
    let happened = opened.map(drop).map_err(|error| match error.raw_os_error() {
        Some(nix::libc::ENXIO | nix::libc::ENODEV) => ErrorKind::NotFound.into(),
        _ => error,
    });
    expect_refusal(format!("make and open a node of {name}"), happened)
}

/// Every node in `/dev` is harmless, or a terminal of the container's own.
fn devices() -> ProbeResult {
    let mut folders = vec![std::path::PathBuf::from("/dev")];
    let mut odd = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let path = entry.path();
            if kind.is_dir() {
                folders.push(path);
            } else if (kind.is_char_device() || kind.is_block_device()) && !is_harmless(&path) {
                odd.push(path.display().to_string());
            }
        }
    }
    let happened = if odd.is_empty() { "none".to_owned() } else { odd.join(", ") };
    ProbeResult::new("devices of the host", "none", odd.is_empty(), happened)
}

/// Also a terminal of this container's: `console`, `ptmx`, those in `pts` (Linux, `admin-guide/devices.txt`).
fn is_harmless(path: &Path) -> bool {
    let number = std::fs::symlink_metadata(path).map(|found| (major(found.rdev()), minor(found.rdev())));
    is_harmless_device(path) || matches!(number, Ok((5, 1 | 2) | (136..=143, _)))
}

/// Sockets without a file are in a network namespace: in this one are none that somebody else made.
fn abstract_sockets() -> ProbeResult {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names: Vec<&str> = table.lines().filter_map(|line| line.split(' ').next_back()?.strip_prefix('@')).collect();
    let happened = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    ProbeResult::new("abstract sockets", "none", names.is_empty(), happened)
}

/// Whether a path is a device that every container has, or one of them put over a file to hide it: `null`, `zero`, `full`,
/// `random`, `urandom`, `tty` (Linux, `admin-guide/devices.txt`). An engine that cannot make nodes mounts those of its host.
fn is_harmless_device(path: &Path) -> bool {
    let Ok(found) = std::fs::metadata(path) else { return false };
    let number = (major(found.rdev()), minor(found.rdev()));
    found.file_type().is_char_device() && matches!(number, (1, 3 | 5 | 7 | 8 | 9) | (5, 0))
}

/// No host path is mounted, except the three files that every engine writes for a container, and our volumes.
fn mounts(gvisor: bool) -> ProbeResult {
    let table = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let odd: Vec<&str> = table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ');
            let (_, target, kind) = (fields.next()?, fields.next()?, fields.next()?);
            let options = fields.next()?;
            // The last one is Podman's, and empty.
            let files = ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts", "/run/.containerenv"];
            let engine_file = files.contains(&target);
            let service = target.starts_with(crate::layout::agent::SERVICES_DIR)
                && options.split(',').any(|option| option == "ro");
            // gVisor reports even its own root as files of the host.
            let root = gvisor && target == "/" && kind == "9p";
            let device = kind == "devtmpfs" && is_harmless_device(Path::new(target));
            (!PLAIN.contains(&kind) && !engine_file && !service && !root && !device).then_some(target)
        })
        .collect();
    let happened = if odd.is_empty() { "none".to_owned() } else { odd.join(", ") };
    ProbeResult::new("mounts of the host", "none", odd.is_empty(), happened)
}
