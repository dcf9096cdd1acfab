//! Attackers: what runs in a container of the [lab](crate::lab), and says what it could do, a line each.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Says something at once.
fn say(text: &str) {
    let mut out = std::io::stdout();
    // The test's runner begins a line, and does not end it.
    writeln!(out, "\nsays: {text}").unwrap();
    out.flush().unwrap();
}

/// Whether this process is in a container: these tests do nothing elsewhere.
fn is_inside() -> bool {
    std::env::current_exe().is_ok_and(|own| own.file_name() == std::path::Path::new(crate::lab::ATTACKER).file_name())
}

#[test]
#[ignore = "runs in a container"]
fn nothing() {}

#[test]
#[ignore = "runs in a container"]
fn waits() {
    if is_inside() {
        say("ready");
        loop {
            std::thread::park();
        }
    }
}

/// Every descriptor, and where this process is.
#[test]
#[ignore = "runs in a container"]
fn descriptors() {
    if !is_inside() {
        return;
    }
    let mut found: Vec<(i32, String)> = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let target = std::fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, target.display().to_string()))
        })
        .collect();
    // The folder that is being read.
    found.retain(|(_, target)| !target.starts_with("/proc/"));
    found.sort();
    for (number, target) in found {
        say(&format!("descriptor {number} {target}"));
    }
    say(&format!("works in {}", std::env::current_dir().unwrap().display()));
    let up = std::fs::read_dir("/proc/self/cwd/../../../../../..").unwrap();
    let mut names: Vec<String> = up.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    say(&format!("sees {}", names.join(" ")));
}

/// Stops every process that joins, and tries to look into it while it is stopped; then lets it go on for a moment, and again.
#[test]
#[ignore = "runs in a container"]
fn snoops() {
    if !is_inside() {
        return;
    }
    say("ready");
    let own = std::process::id().cast_signed();
    let mut looks = 0_u32;
    loop {
        for pid in others(own) {
            let process = Pid::from_raw(pid);
            if kill(process, Signal::SIGSTOP).is_err() {
                continue;
            }
            // Once it runs what it was told to, it may be looked into: it has no more than this process.
            let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            // One that has no command has no memory any more: it is ending.
            if !command.is_empty() && !command.starts_with(crate::lab::ATTACKER.as_bytes()) {
                looks += 1;
                let found = look_into(pid);
                // It stops a moment after the signal: what it has become meanwhile may be looked into.
                let now = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                for found in found.iter().filter(|_| now == command) {
                    say(&format!("leak: {found} of {}", String::from_utf8_lossy(&command).replace('\0', " ")));
                }
                if looks.is_multiple_of(20) {
                    say(&format!("looked {looks}"));
                }
            }
            let _ = kill(process, Signal::SIGCONT);
        }
    }
}

fn others(own: i32) -> Vec<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    numbers.filter(|pid| *pid != own).collect()
}

fn look_into(pid: i32) -> Vec<String> {
    let mut found = Vec::new();
    for (file, write) in [("mem", true), ("mem", false), ("maps", false), ("environ", false), ("exe", true)] {
        let opened = OpenOptions::new().read(true).write(write).open(format!("/proc/{pid}/{file}"));
        // An executable that runs cannot be written; it was reached all the same.
        let reached = opened.as_ref().map_or_else(|error| error.raw_os_error() == Some(libc::ETXTBSY), |_| true);
        // These two are opened by anybody, and read by whoever may.
        let reached = match (opened, file) {
            (Ok(mut opened), "environ" | "maps") => {
                std::io::Read::read(&mut opened, &mut [0]).is_ok_and(|length| length > 0)
            }
            _ => reached,
        };
        if reached {
            found.push(file.to_owned());
        }
    }
    for link in ["exe", "cwd", "root"] {
        let path = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(format!("/proc/{pid}/{link}"));
        if path.is_ok() {
            found.push(link.to_owned());
        }
    }
    // Of a process of the same user, their numbers can be listed, but not what they are.
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
        if std::fs::read_link(entry.path()).is_ok() || File::open(entry.path()).is_ok() {
            found.push(format!("fd {}", entry.file_name().display()));
        }
    }
    found
}

/// Stops every process that joins, for good.
#[test]
#[ignore = "runs in a container"]
fn stops_others() {
    if !is_inside() {
        return;
    }
    say("ready");
    let own = std::process::id().cast_signed();
    let mut stopped = std::collections::BTreeSet::new();
    loop {
        for pid in others(own) {
            if kill(Pid::from_raw(pid), Signal::SIGSTOP).is_ok() && stopped.insert(pid) {
                std::fs::write("stopped", pid.to_string()).unwrap();
            }
        }
    }
}

/// Types into its own terminal.
#[test]
#[ignore = "runs in a container"]
fn types_into_its_terminal() {
    if !is_inside() {
        return;
    }
    let terminal = File::open("/dev/tty").unwrap();
    let requests: [(&str, libc::c_ulong); 3] =
        [("TIOCSTI", 0x5412), ("TIOCLINUX", 0x541C), ("TIOCSTI, with upper bits", 0x1_0000_5412)];
    for (name, request) in requests {
        let letter = b'x';
        // SAFETY: the request reads one byte, which outlives the call.
        #[expect(unsafe_code, reason = "ioctl_tty(2) has no safe wrapper")]
        let result = unsafe { libc::syscall(libc::SYS_ioctl, terminal.as_raw_fd(), request, &raw const letter) };
        say(&format!("{name}: {:?}", nix::errno::Errno::result(result).map(drop)));
    }
}

/// Connects to an abstract socket.
#[test]
#[ignore = "runs in a container"]
fn calls_the_host() {
    use std::os::linux::net::SocketAddrExt;
    if !is_inside() {
        return;
    }
    let name = std::env::var("NAME").unwrap();
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let called = std::os::unix::net::UnixStream::connect_addr(&address);
    say(&format!("called: {:?}", called.map(drop).map_err(|error| error.kind())));
}

/// Leaves work in its home, with everything that could mean something to whoever mounts or reads it afterwards.
#[test]
#[ignore = "runs in a container"]
fn leaves_work() {
    use std::os::unix::fs::symlink;
    use std::path::Path;
    if !is_inside() {
        return;
    }
    let home = Path::new("/home");
    let before = home.join("kept").exists();
    say(&format!("found {}", if before { "something" } else { "nothing" }));
    std::fs::create_dir_all(home.join("kept/deep")).unwrap();
    std::fs::write(home.join("kept/file"), "work").unwrap();
    std::fs::write(home.join("kept/deep/file"), "more work").unwrap();
    let attributes =
        ["opaque", "redirect", "metacopy", "origin", "upper", "whiteout", "overlay.opaque", "overlay.redirect"];
    for prefix in ["user", "trusted"] {
        for name in attributes {
            let value: &[u8] = if name.contains("redirect") { b"/etc" } else { b"y" };
            for path in ["kept", "kept/deep", "kept/file", ""] {
                let name = format!("{prefix}.overlay.{name}");
                let set = rustix::fs::setxattr(home.join(path), &*name, value, rustix::fs::XattrFlags::empty());
                if prefix == "trusted" {
                    assert!(set.is_err(), "{name}");
                }
            }
        }
    }
    // What an overlay takes for a removed file.
    let node = nix::sys::stat::mknod(
        &home.join("kept/gone"),
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::Mode::from_bits_truncate(0o666),
        0,
    );
    say(&format!("whiteout: {node:?}"));
    std::fs::remove_file(home.join("given")).unwrap();
    for (name, to) in [
        ("up", "../../../../../../../../etc/shadow"),
        ("absolute", "/etc/shadow"),
        ("init", "/proc/1/root/etc/shadow"),
        ("descriptor", "/proc/self/fd/3"),
        ("executable", "/proc/1/exe"),
        ("loop", "loop"),
        ("folder", "/proc/1/root"),
    ] {
        symlink(to, home.join("kept").join(name)).unwrap();
    }
    let _socket = std::os::unix::net::UnixListener::bind(home.join("kept/socket")).unwrap();
    nix::unistd::mkfifo(&home.join("kept/pipe"), nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let secret = home.join("kept/unreadable");
    std::fs::write(&secret, "own").unwrap();
    std::fs::set_permissions(&secret, PermissionsExt::from_mode(0o000)).unwrap();
    say("left");
}

/// Writes without end.
#[test]
#[ignore = "runs in a container"]
fn writes() {
    if is_inside() {
        loop {
            say("something");
        }
    }
}

/// Reads a file.
#[test]
#[ignore = "runs in a container"]
fn reads() {
    if !is_inside() {
        return;
    }
    let path = std::env::var("NAME").unwrap();
    match std::fs::read_to_string(&path) {
        Ok(text) => say(&format!("read {text:?}")),
        Err(error) => say(&format!("read: {error}")),
    }
}

/// Changes the modes of device nodes and of masks, which are the host's own, and uses them.
#[test]
#[ignore = "run in a container"]
fn changes_devices() {
    if !is_inside() {
        return;
    }
    for path in ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty", "/proc/interrupts"] {
        let mode = std::fs::metadata(path).map_or(0o666, |found| found.permissions().mode() & 0o777);
        let changed = std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode));
        say(&format!("{path}: {:?}", changed.map_err(|error| error.raw_os_error())));
    }
    say(&format!("written: {:?}", std::fs::write("/dev/null", "x").is_ok()));
}

/// Says who it is, and whose files are; makes files where it may, and stays.
#[test]
#[ignore = "runs in a container"]
fn owns_files() {
    use std::os::unix::fs::MetadataExt;
    if !is_inside() {
        return;
    }
    let owner = |path: &str| std::fs::metadata(path).map_or("none".into(), |found| found.uid().to_string());
    let owners = ["/", "/opt", "/home", "/shared", "/memory"].map(|path| format!("{path}:{}", owner(path)));
    say(&format!("is {}:{}, owners {}", nix::unistd::getuid(), nix::unistd::getgid(), owners.join(" ")));
    let opened = OpenOptions::new().write(true).open("/dev/stdout");
    say(&format!("opens its output: {}", opened.is_ok()));
    for folder in ["/shared", "/memory", "/home"] {
        let path = format!("{folder}/made");
        if std::fs::write(&path, "x").is_ok() {
            say(&format!("made {folder}:{}", owner(&path)));
            // Only its owner, and who is root where that one is known, can remove it.
            let deep = std::path::Path::new(folder).join("deep");
            std::fs::create_dir_all(&deep).unwrap();
            std::fs::write(deep.join("file"), "x").unwrap();
        }
    }
    // The first process stays.
    while std::process::id() == 1 {
        std::thread::park();
    }
}
