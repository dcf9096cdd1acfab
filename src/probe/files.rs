//! Attempts on files: engine sockets, init's secrets, root's files, and mounts.

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;

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

/// Paths that the agent must not write.
const FOREIGN: [&str; 8] = [
    "/probe",
    "/etc/probe",
    "/usr/probe",
    "/bottler",
    "/run/probe",
    "/proc/sys/kernel/core_pattern",
    "/proc/sysrq-trigger",
    "/sys/probe",
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
    lines.extend(FOREIGN.map(write));
    // gVisor shows processes of the same user everything but memory; the rest contains no secret.
    lines.extend(INIT.into_iter().filter(|path| !gvisor || path.ends_with("/mem")).map(read));
    lines.extend([service_volumes(), mounts(gvisor)]);
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

/// Whether a path is a device that every container has, or one of them put over a file to hide it: `null`, `zero`, `full`,
/// `random`, `urandom`, `tty` (Linux, `admin-guide/devices.txt`). An engine that cannot make nodes mounts those of its host.
fn is_harmless_device(path: &str) -> bool {
    use nix::sys::stat::{major, minor};
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
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
            let device = kind == "devtmpfs" && is_harmless_device(target);
            (!PLAIN.contains(&kind) && !engine_file && !service && !root && !device).then_some(target)
        })
        .collect();
    let happened = if odd.is_empty() { "none".to_owned() } else { odd.join(", ") };
    ProbeResult::new("mounts of the host", "none", odd.is_empty(), happened)
}
