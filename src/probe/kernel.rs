//! Attempts on the kernel: socket families, system calls, and the limits that it reports.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::ProbeResult;
use crate::engine::Resources;
use crate::splice::GVISOR;

/// Socket families and types that no bottle may open.
pub(super) fn sockets() -> Vec<ProbeResult> {
    let tries = [
        ("raw socket, IPv4", libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        ("raw socket, IPv6", libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6),
        ("packet socket", libc::AF_PACKET, libc::SOCK_DGRAM, 0),
        ("vsock socket", libc::AF_VSOCK, libc::SOCK_STREAM, 0),
        ("kernel crypto socket", libc::AF_ALG, libc::SOCK_SEQPACKET, 0),
        ("netlink socket beyond routing", libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_AUDIT),
    ];
    tries.into_iter().map(|(name, family, kind, protocol)| refused(name, socket(family, kind, protocol))).collect()
}

/// A system call: its number and its first arguments; the others are null.
type Call = (&'static str, libc::c_long, [libc::c_long; 2]);

/// Calls that need a capability on any kernel.
const PRIVILEGED: [Call; 6] = [
    ("bpf", libc::SYS_bpf, [-1, 0]),
    ("mount", libc::SYS_mount, [0, 0]),
    ("mount, by descriptors", libc::SYS_fsopen, [0, 0]),
    ("change of the root", libc::SYS_pivot_root, [0, 0]),
    ("ptrace of init", libc::SYS_ptrace, [libc::PTRACE_ATTACH as libc::c_long, 1]),
    ("userfaultfd", libc::SYS_userfaultfd, [0, 0]),
];

/// Calls that an ordinary process may make, but the seccomp filter forbids, because they reach much of the kernel.
const FILTERED: [Call; 6] = [
    ("clone3", libc::SYS_clone3, [0, 0]),
    ("user namespace", libc::SYS_unshare, [libc::CLONE_NEWUSER as libc::c_long, 0]),
    ("network namespace", libc::SYS_unshare, [libc::CLONE_NEWNET as libc::c_long, 0]),
    ("setns", libc::SYS_setns, [-1, 0]),
    ("io_uring", libc::SYS_io_uring_setup, [0, 0]),
    ("keyctl", libc::SYS_keyctl, [0, -3]),
];

/// System calls that reach more of the kernel. gVisor has its own kernel and namespaces: it needs no filter for calls
/// that stay in them, and engines install none.
pub(super) fn calls(gvisor: bool) -> Vec<ProbeResult> {
    let filtered: &[Call] = if gvisor { &[] } else { &FILTERED };
    let tries = filtered.iter().chain(&PRIVILEGED);
    let mut lines: Vec<_> = tries.map(|&(name, number, arguments)| forbidden(name, call(number, arguments))).collect();
    if !gvisor {
        lines.push(forbidden("user namespace, by clone", clone_user()));
    }
    lines.push(forbidden("descriptors of init", descriptor_of(1)));
    lines
}

/// The limits that the kernel reports for this process, against the plan.
pub(super) fn limits(planned: &Resources, gvisor: bool, unbounded: bool) -> Vec<ProbeResult> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
        line.unwrap_or("(absent)").trim().to_owned()
    };
    let equal = |attempt: &str, expected: &str, happened: String| {
        ProbeResult::new(attempt, expected, expected == happened, happened)
    };
    let mut lines = vec![
        if gvisor { own_kernel() } else { equal("seccomp filter", "2", field("Seccomp")) },
        equal("no new privileges", "true", no_new_privileges()),
        equal("capabilities, effective", "0000000000000000", field("CapEff")),
        equal("capabilities, permitted", "0000000000000000", field("CapPrm")),
        equal("capabilities, inheritable", "0000000000000000", field("CapInh")),
        equal("capabilities, bounding set", "0000000000000000", field("CapBnd")),
        equal("core dumps", "0", core_limit()),
    ];
    if gvisor {
        // Its control groups are on the host; the holder asks the engine for them.
        return lines;
    }
    // An older gVisor has no such line.
    lines.push(equal("capabilities, ambient", "0000000000000000", field("CapAmb")));
    if unbounded {
        return lines;
    }
    lines.push(bound("memory, bytes", &["memory.max", "memory/memory.limit_in_bytes"], &planned.memory.to_string()));
    lines.push(bound("processes", &["pids.max", "pids/pids.max"], &planned.pids.to_string()));
    lines
}

/// gVisor identifies itself in its kernel log, which other kernels do not show to ordinary users here.
fn own_kernel() -> ProbeResult {
    let version = std::fs::read_to_string("/proc/version").unwrap_or_default();
    let ok = version.contains(GVISOR);
    ProbeResult::new("the kernel", "gVisor's", ok, if ok { "gVisor's".to_owned() } else { version.trim().to_owned() })
}

fn no_new_privileges() -> String {
    nix::sys::prctl::get_no_new_privs().map_or_else(|error| error.to_string(), |set| set.to_string())
}

fn core_limit() -> String {
    use nix::sys::resource::{Resource, getrlimit};
    getrlimit(Resource::RLIMIT_CORE).map_or_else(|error| error.to_string(), |(_, hard)| hard.to_string())
}

/// A limit of the control group, in either of its two layouts.
fn bound(attempt: &str, files: &[&str], expected: &str) -> ProbeResult {
    let read = files.iter().find_map(|file| std::fs::read_to_string(format!("/sys/fs/cgroup/{file}")).ok());
    let happened = read.map_or_else(|| "cannot be read".to_owned(), |text| text.trim().to_owned());
    ProbeResult::new(format!("bound: {attempt}"), expected, happened == expected, happened)
}

fn refused(name: &str, result: Result<(), Errno>) -> ProbeResult {
    let ok = matches!(result, Err(Errno::EPERM | Errno::EACCES | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT));
    ProbeResult::new(name, "refused", ok, words(result))
}

/// A filtered call fails with EPERM or ENOSYS, whatever its arguments.
fn forbidden(name: &str, result: Result<(), Errno>) -> ProbeResult {
    ProbeResult::new(name, "refused", matches!(result, Err(Errno::EPERM | Errno::ENOSYS)), words(result))
}

fn words(result: Result<(), Errno>) -> String {
    match result {
        Ok(()) => "allowed".into(),
        Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT) => {
            "refused".into()
        }
        Err(errno) => format!("reached the kernel: {}", errno.desc()),
    }
}

#[expect(unsafe_code, reason = "the wrappers know only families that work")]
fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> Result<(), Errno> {
    // SAFETY: three integers; a descriptor that comes back is closed at once and known to nobody else.
    let fd = Errno::result(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: as above.
    unsafe { libc::close(fd) };
    Ok(())
}

/// Makes a process in a user namespace of its own, in which it has every capability (CVE-2022-0492 began like that).
#[expect(unsafe_code, reason = "the wrappers take a function, and this is here to fail")]
fn clone_user() -> Result<(), Errno> {
    let flags = libc::c_long::from(libc::CLONE_NEWUSER | libc::SIGCHLD);
    // SAFETY: without a stack of its own the process goes on here as after a fork; it ends at once and touches nothing.
    let child = Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })?;
    if child == 0 {
        // SAFETY: it returns never, and runs nothing that was registered for an end.
        unsafe { libc::_exit(0) }
    }
    let _ = nix::sys::wait::waitpid(i32::try_from(child).ok().map(nix::unistd::Pid::from_raw), None);
    Ok(())
}

/// Takes standard input from another process.
fn descriptor_of(process: libc::c_long) -> Result<(), Errno> {
    let pidfd = take(libc::SYS_pidfd_open, [process, 0])?;
    take(libc::SYS_pidfd_getfd, [pidfd.as_raw_fd().into(), 0]).map(drop)
}

/// A call that gives a descriptor.
#[expect(unsafe_code, reason = "these calls have no wrappers")]
fn take(number: libc::c_long, arguments: [libc::c_long; 2]) -> Result<OwnedFd, Errno> {
    // SAFETY: integers only.
    let descriptor = Errno::result(unsafe { libc::syscall(number, arguments[0], arguments[1], 0) })?;
    let descriptor = i32::try_from(descriptor).map_err(|_| Errno::EBADF)?;
    // SAFETY: it has just been made, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[expect(unsafe_code, reason = "these calls have no wrappers, and are here to fail")]
fn call(number: libc::c_long, arguments: [libc::c_long; 2]) -> Result<(), Errno> {
    // SAFETY: where a call takes pointers it gets null or an impossible value and can only fail; namespaces that were
    // left by success are this process' own, which ends after the probe.
    Errno::result(unsafe { libc::syscall(number, arguments[0], arguments[1], 0, 0, 0) }).map(drop)
}
