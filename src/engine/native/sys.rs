//! System calls of a container's processes: those that have no safe wrapper, each in a function that cannot be called wrongly, and
//! what is called by such a function.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::libc;
use nix::sched::CloneFlags;

/// Raises the loopback interface of this network namespace (netdevice(7)).
pub(super) fn raise_loopback() -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: `ifreq` is plain data, for which zeros are valid.
    #[expect(unsafe_code, reason = "netdevice(7) has no safe wrapper")]
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        i16::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(|_| io::Error::from(Errno::EINVAL))?;
    // SAFETY: the call reads one `ifreq`, which outlives it.
    #[expect(unsafe_code, reason = "netdevice(7) has no safe wrapper")]
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    Ok(Errno::result(result).map(drop)?)
}

/// Gives the loopback interface a range of addresses, of which this one is the source of connections to the others
/// (netdevice(7)). A range that it has already stays.
pub(super) fn add_addresses(source: Ipv4Addr, mask: Ipv4Addr) -> io::Result<()> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
    for (call, address) in [(libc::SIOCSIFADDR, source), (libc::SIOCSIFNETMASK, mask)] {
        // SAFETY: `ifreq` is plain data, for which zeros are valid.
        #[expect(unsafe_code, reason = "netdevice(7) has no safe wrapper")]
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // An alias of its own for each range.
        let name = format!("lo:{:x}", u32::from(source));
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
            *to = from.cast_signed();
        }
        // A `sockaddr_in` (ip(7)): a port, the address, zeros.
        let mut data = [0; 14];
        for (to, from) in data[2..].iter_mut().zip(address.octets()) {
            *to = from.cast_signed();
        }
        let family = libc::sa_family_t::try_from(libc::AF_INET).map_err(|_| io::Error::from(Errno::EINVAL))?;
        request.ifr_ifru.ifru_addr = libc::sockaddr { sa_family: family, sa_data: data };
        // SAFETY: the call reads one `ifreq`, which outlives it.
        #[expect(unsafe_code, reason = "see above")]
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), call, &raw const request) };
        match Errno::result(result) {
            Ok(_) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// Joins a new, empty session keyring, so that the keys of whoever started this process stay outside (keyctl(2)).
pub(super) fn new_keyring() -> io::Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    // SAFETY: integers and a null pointer, which asks for an anonymous keyring.
    #[expect(unsafe_code, reason = "keyctl(2) has no wrapper")]
    let result = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, 0, 0, 0, 0) };
    match Errno::result(result) {
        // A kernel without keyrings has no keys either.
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// The version of Landlock's interface, where the kernel has it switched on (`landlock_create_ruleset(2)`).
pub(super) fn landlock() -> Option<i64> {
    const VERSION: libc::c_long = 1;
    // SAFETY: a null pointer of no length, which asks for the version.
    #[expect(unsafe_code, reason = "the crate for it keeps the version to itself")]
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0, 0, VERSION) };
    (version > 0).then_some(version)
}

/// Makes the terminal on standard input this session's controlling one (`TIOCSCTTY`, `ioctl_tty(2)`).
pub(super) fn control_terminal() -> io::Result<()> {
    // SAFETY: integers only.
    #[expect(unsafe_code, reason = "ioctl_tty(2) has no safe wrapper")]
    let result = unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) };
    Ok(Errno::result(result).map(drop)?)
}

/// A descriptor that this process inherited, by the number on its command line.
pub(super) fn inherited(number: &str) -> io::Result<std::os::fd::OwnedFd> {
    use std::os::fd::{FromRawFd, OwnedFd};
    let number: RawFd = number.parse().map_err(|_| io::Error::from(Errno::EBADF))?;
    // SAFETY: borrowed for the check that the descriptor is open.
    #[expect(unsafe_code, reason = "a number is all that an exec leaves of a descriptor")]
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    fcntl(borrowed, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, was inherited for this process, and nothing else here knows it: called once, at the start.
    #[expect(unsafe_code, reason = "see above")]
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Has every descriptor beyond standard error closed by the next exec: none of the host's is open in a container (CVE-2024-21626).
pub(super) fn close_on_exec() -> io::Result<()> {
    // SAFETY: integers only; descriptors stay open in this process.
    #[expect(unsafe_code, reason = "close_range(2) has no safe wrapper")]
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(Errno::result(result).map(drop)?)
}

/// Maps the owners of a mount that is nowhere yet by a user namespace.
pub(super) fn map_mount(mount: &impl AsRawFd, users: RawFd) -> io::Result<()> {
    // `struct mount_attr`: flags to set and to clear, propagation, the namespace.
    let users = u64::try_from(users).map_err(|_| io::Error::from(Errno::EBADF))?;
    let attributes: [u64; 4] = [libc::MOUNT_ATTR_IDMAP, 0, 0, users];
    // SAFETY: the call reads an empty path and so many bytes, which outlive it.
    #[expect(unsafe_code, reason = "mount_setattr(2) has no wrapper")]
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    Ok(Errno::result(result).map(drop)?)
}

/// A copy of this process that is in a user namespace of its own and waits; it ends when this is dropped, or with this process.
pub(super) struct WaitingCopy {
    pub(super) process: nix::unistd::Pid,
    _ends: io::PipeWriter,
}

impl WaitingCopy {
    /// The copy has what this process has in memory: only whoever may look into this one may look into it.
    pub(super) fn in_new_user_namespace() -> io::Result<Self> {
        const STACK: usize = 1 << 14;
        let (mut waits, ends) = io::pipe()?;
        let far = ends.as_raw_fd();
        let wait = Box::new(|| {
            // Its own copy would keep the pipe open.
            let _ = nix::unistd::close(far);
            let _ = io::Read::read(&mut waits, &mut [0]);
            0
        });
        // SAFETY: it has a memory of its own, with this stack in it, and makes system calls, and nothing else: other threads may have
        // held any lock.
        #[expect(unsafe_code, reason = "a fork into a namespace has no safe wrapper")]
        let process =
            unsafe { nix::sched::clone(wait, &mut [0; STACK], CloneFlags::CLONE_NEWUSER, Some(libc::SIGCHLD)) }?;
        Ok(Self { process, _ends: ends })
    }
}

impl Drop for WaitingCopy {
    fn drop(&mut self) {
        // It is this process' child, and nobody else waits for it.
        let _ = nix::sys::signal::kill(self.process, nix::sys::signal::Signal::SIGKILL);
        let _ = nix::sys::wait::waitpid(self.process, None);
    }
}

/// A program in a user namespace of its own, in which it is nobody yet.
pub(super) fn in_new_user_namespace(command: Command) -> Command {
    before_exec(command, || Ok(nix::sched::unshare(CloneFlags::CLONE_NEWUSER)?))
}

/// A program as the root of a user namespace.
pub(super) fn in_user_namespace(command: Command, users: std::fs::File) -> Command {
    before_exec(command, move || become_root_of(&users))
}

/// Joins a user namespace as its root, with every capability over what is its users', and none over anything else.
pub(super) fn become_root_of(users: &impl AsFd) -> io::Result<()> {
    join_users(users)?;
    nix::unistd::setresgid(0.into(), 0.into(), 0.into())?;
    Ok(nix::unistd::setresuid(0.into(), 0.into(), 0.into())?)
}

/// Joins a user namespace.
pub(super) fn join_users(users: &impl AsFd) -> io::Result<()> {
    Ok(nix::sched::setns(users, CloneFlags::CLONE_NEWUSER)?)
}

/// `calls` makes system calls, and nothing else: it runs after a fork, where other threads may have held any lock.
fn before_exec(mut command: Command, calls: impl FnMut() -> io::Result<()> + Send + Sync + 'static) -> Command {
    // SAFETY: see above; both callers are here.
    #[expect(unsafe_code, reason = "what runs between fork and exec may neither allocate nor lock")]
    unsafe {
        command.pre_exec(calls);
    }
    command
}
