//! The file system of a container, made in a mount namespace of its own.
//!
//! Attacks: links in an image, or exchanged under the engine, that lead a mount elsewhere (CVE-2021-30465, CVE-2019-16884,
//! CVE-2025-31133): every target is resolved inside the new root by openat2(2), without magic links, and mounted by its
//! descriptor; `/proc`, `/sys` and `/dev` may be no links at all (CVE-2019-19921). What is masked in `/proc` and `/sys` is masked only after their file systems are known to be their own. No mount is
//! made once the container's command runs.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use anyhow::Context;
use rustix::fs::{Mode, OFlags, ResolveFlags, mkdirat, openat, openat2};
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, mount_remount, unmount,
};

use super::image::Account;
use super::plan::{Memory, Mount, Plan};
use super::users::{self, Mapping};

/// Nodes of the host's `/dev` that every program expects (mknod(2) fails in a user namespace).
const DEVICES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
/// Links in `/dev`.
const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];
/// What says too much of the host, or changes it (the masks of moby, `oci/defaults.go`).
const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Where the new root is made, and parts of it come from, below the container's folder.
const ROOT: &str = "root";
/// Where the container's folder and its image are mounted once more with mapped owners, beside that one.
const OWN: &str = "own";
/// See [`OWN`].
const BASE: &str = "base";
/// Folders that a container's folder has for its mounts.
pub(super) const PLACES: [&str; 3] = [ROOT, OWN, BASE];

/// What sysfs says that it is (linux/magic.h).
const SYSFS_MAGIC: rustix::fs::FsWord = 0x6265_6572;

const PLAIN: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV);
/// Of a device's node.
const DEVICE: MountFlags = MountFlags::NOSUID.union(MountFlags::NOEXEC);
const DATA: MountFlags = PLAIN.union(MountFlags::NOEXEC);

/// Makes the container's tree and makes it the root. The working directory is the container's folder; `groups` are this
/// container's control groups by controller, and `users` the user namespace that owners are mapped by. Where a container that has
/// ended is copied, what it wrote is below, and read only: what is made here lands in a layer that is thrown away.
///
/// # Errors
/// The kernel refuses a mount: which.
pub(super) fn enter(
    plan: &Plan,
    groups: &[(String, std::path::PathBuf)],
    users: Option<&OwnedFd>,
    copying: bool,
) -> anyhow::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).context("make mounts private")?;
    if let Some(users) = users {
        for (source, layer) in [(".", OWN), ("image", BASE)] {
            let mapped = users::mapped(Path::new(source), users).and_then(|mount| {
                let at =
                    openat(rustix::fs::CWD, layer, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
                users::attach(&mount, &at)
            });
            mapped.with_context(|| format!("map the owners of {source}"))?;
        }
    }
    let overlay = match (plan.mapping, copying) {
        (Mapping::Host, false) => c"lowerdir=image,upperdir=upper,workdir=work",
        (Mapping::Host, true) => c"lowerdir=upper:image,upperdir=copy/upper,workdir=copy/work",
        (Mapping::Range { .. }, false) => c"lowerdir=base,upperdir=own/upper,workdir=own/work",
        (Mapping::Range { .. }, true) => c"lowerdir=own/upper:base,upperdir=own/copy/upper,workdir=own/copy/work",
        // In a user namespace, overlay keeps its notes in attributes that every user may set (kernel 5.11).
        (Mapping::One(_) | Mapping::Delegated { .. }, false) => c"lowerdir=image,upperdir=upper,workdir=work,userxattr",
        (Mapping::One(_) | Mapping::Delegated { .. }, true) => {
            c"lowerdir=upper:image,upperdir=copy/upper,workdir=copy/work,userxattr"
        }
    };
    mount("overlay", ROOT, "overlay", PLAIN, overlay).context("mount the image by overlay (needs Linux 5.11)")?;
    let root = openat(rustix::fs::CWD, ROOT, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    ["/proc", "/sys", "/dev"].iter().try_for_each(|path| no_link(&root, path))?;
    // What has run has them.
    for folder in plan.owned.iter().filter(|_| !copying) {
        own(&target(&root, &folder.path, Shape::Folder)?, folder.account, &folder.path)?;
    }
    for path in &plan.writable {
        // A mount of its own stays writable when the tree around it is made read-only.
        let at = target(&root, path, Shape::Folder)?;
        let place = by_descriptor(&at);
        mount_bind(&place, &place).with_context(|| format!("keep {path} writable"))?;
    }
    // Afterwards, or what is mounted within those would be hidden.
    for mount in &plan.mounts {
        bind(&root, mount, users)?;
    }
    kernel(&root, plan.host_network).context("mount the kernel's file systems")?;
    devices(&root).context("fill /dev")?;
    if !plan.host_network {
        control_groups(&root, groups).context("mount the control groups")?;
    }
    for Memory { target, options } in &plan.memory {
        memory(&root, target, options)?;
    }
    for (file, target) in [("hosts", "/etc/hosts"), ("resolv.conf", "/etc/resolv.conf"), ("hostname", "/etc/hostname")]
    {
        bind(&root, &Mount { source: file.into(), target: target.into(), read_only: true, owner: None }, users)?;
    }
    for path in &plan.fixed {
        fix(&root, path)?;
    }
    mask(&root)?;
    if plan.read_only {
        remount_read_only(Path::new(ROOT), PLAIN).context("make the image read-only")?;
    }
    std::env::set_current_dir(ROOT)?;
    rustix::process::pivot_root(".", ".").context("change the root")?;
    unmount(".", UnmountFlags::DETACH).context("leave the host's root")?;
    std::env::set_current_dir("/")?;
    Ok(())
}

/// Refuses an image in which the place of a kernel's file system is a link.
fn no_link(root: &OwnedFd, path: &str) -> anyhow::Result<()> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match openat2(root, path, flags, Mode::empty(), resolve) {
        Ok(_) | Err(rustix::io::Errno::NOENT) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{path} must be a folder in the image, or not be there")),
    }
}

/// The path of a descriptor, for calls that take paths only.
fn by_descriptor(descriptor: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", descriptor.as_fd().as_raw_fd())
}

/// Whether a target is a folder or a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Folder,
    File,
}

/// Opens a path inside the root, and makes what of it is missing.
fn target(root: &OwnedFd, path: &str, shape: Shape) -> anyhow::Result<OwnedFd> {
    let opened = || -> io::Result<OwnedFd> {
        let inside = |path: &str, flags: OFlags| {
            let path = if path.is_empty() { "." } else { path };
            openat2(
                root,
                path,
                flags | OFlags::PATH | OFlags::CLOEXEC,
                Mode::empty(),
                ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
            )
        };
        let path = path.trim_matches('/');
        let flags = if shape == Shape::Folder { OFlags::DIRECTORY } else { OFlags::empty() };
        match inside(path, flags) {
            Err(rustix::io::Errno::NOENT) => {}
            opened => return Ok(opened?),
        }
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut made = String::new();
        for step in above.split('/').filter(|step| !step.is_empty()) {
            let folder = inside(&made, OFlags::DIRECTORY)?;
            match mkdirat(&folder, step, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            made = format!("{made}/{step}");
        }
        let folder = inside(&made, OFlags::DIRECTORY)?;
        match shape {
            Shape::Folder => mkdirat(&folder, name, Mode::from_raw_mode(0o755))?,
            Shape::File => {
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                // An overlay's file is made through a descriptor that can write.
                let folder = openat(&folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
                drop(openat(&folder, name, flags, Mode::from_raw_mode(0o644))?);
            }
        }
        Ok(inside(path, flags)?)
    };
    opened().with_context(|| format!("find {path} in the container"))
}

/// An existing path inside the root, where there is one.
fn existing(root: &OwnedFd, path: &str) -> Option<(OwnedFd, Shape)> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = openat2(root, path, flags, Mode::empty(), resolve).ok()?;
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(&found).ok()?.st_mode);
    let shape = if kind == rustix::fs::FileType::Directory { Shape::Folder } else { Shape::File };
    Some((found, shape))
}

/// Mounts a file or folder of the host, with its owners mapped where there are `users`.
fn bind(
    root: &OwnedFd,
    Mount { source, target: path, read_only, owner }: &Mount,
    users: Option<&OwnedFd>,
) -> anyhow::Result<()> {
    let shape = match std::fs::metadata(source) {
        Ok(found) if found.is_dir() => Shape::Folder,
        Ok(_) => Shape::File,
        Err(error) => return Err(error).with_context(|| format!("mount {} on {path}", source.display())),
    };
    let at = target(root, path, shape)?;
    let mounted = match users {
        Some(users) => users::mapped(source, users).and_then(|mount| users::attach(&mount, &at)),
        None => mount_bind(source.as_path(), by_descriptor(&at)).map_err(io::Error::from),
    };
    mounted.with_context(|| format!("mount {} on {path}", source.display()))?;
    // The descriptor is of what is below now; the mount is what the path leads to.
    let at = target(root, path, shape)?;
    if let Some(account) = owner {
        own(&at, *account, path)?;
    }
    if *read_only {
        remount_read_only(Path::new(&by_descriptor(&at)), PLAIN).with_context(|| format!("make {path} read-only"))
    } else {
        mount_remount(by_descriptor(&at), MountFlags::BIND | PLAIN | locked(&at), c"")
            .with_context(|| format!("restrict {path}"))
    }
}

/// Gives an open folder or file to somebody.
fn own(at: &OwnedFd, account: Account, path: &str) -> anyhow::Result<()> {
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    let (user, group) = (rustix::fs::Uid::from_raw(account.user), rustix::fs::Gid::from_raw(account.group));
    rustix::fs::chownat(at, "", Some(user), Some(group), flags)
        .with_context(|| format!("give {path} to user {} and group {}", account.user, account.group))
}

/// Flags of a mount that a user namespace may not take away (`mount_namespaces(7)`).
fn locked(at: &impl AsFd) -> MountFlags {
    use rustix::fs::StatVfsMountFlags as Has;
    let Ok(has) = rustix::fs::fstatvfs(at) else { return MountFlags::empty() };
    let pairs = [
        (Has::NOEXEC, MountFlags::NOEXEC),
        (Has::NOSUID, MountFlags::NOSUID),
        (Has::NODEV, MountFlags::NODEV),
        (Has::NOATIME, MountFlags::NOATIME),
        (Has::NODIRATIME, MountFlags::NODIRATIME),
        (Has::RELATIME, MountFlags::RELATIME),
        (Has::RDONLY, MountFlags::RDONLY),
    ];
    pairs.into_iter().filter(|(bit, _)| has.f_flag.contains(*bit)).map(|(_, flag)| flag).collect()
}

fn remount_read_only(path: &Path, flags: MountFlags) -> io::Result<()> {
    let at = openat(rustix::fs::CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    Ok(mount_remount(path, MountFlags::BIND | MountFlags::RDONLY | flags | locked(&at), c"")?)
}

fn fix(root: &OwnedFd, path: &str) -> anyhow::Result<()> {
    let (at, shape) = existing(root, path).with_context(|| format!("keep {path}: the image has no such file"))?;
    let source = by_descriptor(&at);
    mount_bind(&source, &source).with_context(|| format!("keep {path}"))?;
    let at = target(root, path, shape)?;
    remount_read_only(Path::new(&by_descriptor(&at)), PLAIN).with_context(|| format!("make {path} read-only"))
}

/// `/proc` and `/sys`. The latter shows the devices of a network namespace, so the host's is left out (and cannot be mounted in a user
/// namespace).
fn kernel(root: &OwnedFd, host_network: bool) -> anyhow::Result<()> {
    let proc = target(root, "/proc", Shape::Folder)?;
    mount("proc", by_descriptor(&proc), "proc", DATA, c"").context(
        "mount /proc (inside another container, that one's /proc is masked: give it --security-opt systempaths=unconfined)",
    )?;
    let proc_only = [("/proc", rustix::fs::PROC_SUPER_MAGIC)];
    let both = [proc_only[0], ("/sys", SYSFS_MAGIC)];
    let mounted: &[_] = if host_network { &proc_only } else { &both };
    if !host_network {
        let sys = target(root, "/sys", Shape::Folder)?;
        mount("sysfs", by_descriptor(&sys), "sysfs", DATA | MountFlags::RDONLY, c"").context("mount /sys")?;
    }
    for (path, magic) in mounted {
        let kind = rustix::fs::fstatfs(target(root, path, Shape::Folder)?)?.f_type;
        anyhow::ensure!(kind == *magic, "{path} is not the kernel's own");
    }
    Ok(())
}

fn devices(root: &OwnedFd) -> anyhow::Result<()> {
    memory(root, "/dev", "mode=755,size=64k,nosuid,noexec")?;
    for name in DEVICES {
        let path = format!("/dev/{name}");
        let at = target(root, &path, Shape::File)?;
        mount_bind(&path, by_descriptor(&at)).with_context(|| format!("mount {path}"))?;
        // It is the host's own: read-only, it can be written to, and its mode and owner cannot be changed.
        let at = target(root, &path, Shape::File)?;
        remount_read_only(Path::new(&by_descriptor(&at)), DEVICE).with_context(|| format!("restrict {path}"))?;
    }
    let folder = target(root, "/dev", Shape::Folder)?;
    for (to, path) in LINKS {
        rustix::fs::symlinkat(to, &folder, path.trim_start_matches("/dev/"))?;
    }
    let pts = target(root, "/dev/pts", Shape::Folder)?;
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", by_descriptor(&pts), "devpts", flags, c"newinstance,ptmxmode=0666,mode=0620")
        .context("mount /dev/pts")?;
    memory(root, "/dev/shm", "mode=1777,size=64m,nosuid,nodev,noexec")?;
    let queues = target(root, "/dev/mqueue", Shape::Folder)?;
    mount("mqueue", by_descriptor(&queues), "mqueue", DATA, c"").context("mount /dev/mqueue")?;
    // With one user, /dev is the container's user's own.
    remount_read_only(
        Path::new(&by_descriptor(&target(root, "/dev", Shape::Folder)?)),
        MountFlags::NOSUID | MountFlags::NOEXEC,
    )
    .context("make /dev read-only")
}

/// This container's own control groups, to be read.
fn control_groups(root: &OwnedFd, groups: &[(String, std::path::PathBuf)]) -> anyhow::Result<()> {
    let base = "/sys/fs/cgroup";
    match groups {
        [] => Ok(()),
        [(controller, group)] if controller.is_empty() => {
            bind(root, &Mount { source: group.clone(), target: base.into(), read_only: true, owner: None }, None)
        }
        _ => {
            memory(root, base, "mode=755,size=64k,nosuid,nodev,noexec")?;
            for (controller, group) in groups {
                let target = format!("{base}/{controller}");
                bind(root, &Mount { source: group.clone(), target, read_only: true, owner: None }, None)?;
            }
            Ok(remount_read_only(Path::new(&by_descriptor(&target(root, base, Shape::Folder)?)), DATA)?)
        }
    }
}

fn memory(root: &OwnedFd, path: &str, options: &str) -> anyhow::Result<()> {
    let at = target(root, path, Shape::Folder)?;
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    for option in options.split(',') {
        match option {
            "rw" | "" => {}
            "ro" => flags |= MountFlags::RDONLY,
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            other => data.push(other),
        }
    }
    let data = std::ffi::CString::new(data.join(","))?;
    mount("tmpfs", by_descriptor(&at), "tmpfs", flags, data.as_c_str())
        .with_context(|| format!("mount memory on {path}"))
}

fn mask(root: &OwnedFd) -> anyhow::Result<()> {
    for path in MASKED {
        match existing(root, path) {
            Some((at, Shape::Folder)) => {
                mount("tmpfs", by_descriptor(&at), "tmpfs", DATA | MountFlags::RDONLY, c"size=0")
                    .with_context(|| format!("mask {path}"))?;
            }
            Some((at, Shape::File)) => {
                mount_bind("/dev/null", by_descriptor(&at)).with_context(|| format!("mask {path}"))?;
                let at = target(root, path, Shape::File)?;
                remount_read_only(Path::new(&by_descriptor(&at)), DEVICE).with_context(|| format!("mask {path}"))?;
            }
            None => {}
        }
    }
    for path in READ_ONLY {
        if existing(root, path).is_some() {
            fix(root, path)?;
        }
    }
    Ok(())
}
