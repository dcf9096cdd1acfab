//! Bounds of a container: its control groups, of either version. The own group is where this process is, by `/proc`, and the
//! controllers are those that are there: nothing is at a fixed path (WSL#41492, WSL#6662).

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::engine::{Bounds, Resources};

/// How often removing groups is tried while their processes end, and the pause between.
const TRIES: usize = 500;
const PAUSE: std::time::Duration = std::time::Duration::from_millis(2);
/// The period in which processor time is counted, in microseconds.
const PERIOD: f64 = 100_000.0;
/// Controllers that a container needs, and one to pause it by, in the first version.
const FIRST: [&str; 4] = ["memory", "pids", "cpu", "freezer"];

/// What the name of a group begins with that is made to see whether it can be; the process' number follows.
const TRIAL: &str = "trial-";

/// What a refusal to make groups begins with.
pub(super) const REFUSED: &str = "bound memory and processes";
/// What lets a group of the second version have groups with bounds below it: what is written, and to which file.
const PASS_ON: &str = "+memory +pids +cpu";
const CONTROLLERS: &str = "cgroup.subtree_control";
/// How often processes are moved out of a group that shall pass controllers on, while they start others there.
const MOVES: usize = 50;
/// The group that bottler's own processes move into, in the second version.
const BESIDE: &str = "bottler-own";

/// Where containers' groups are made on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Groups {
    /// One tree for each controller: the folder of this process' own group in each.
    First(Vec<(String, PathBuf)>),
    /// One tree.
    Second(PathBuf),
}

impl Groups {
    /// Finds them.
    ///
    /// # Errors
    /// Why a container cannot be bounded here.
    pub(super) fn find() -> Result<Self, String> {
        let read = |path: &str| std::fs::read_to_string(path).map_err(|error| format!("read {path}: {error}"));
        find(&read("/proc/self/cgroup")?, &read("/proc/self/mountinfo")?)
    }

    /// Whether this user may make groups with bounds: tried.
    pub(super) fn may_be_made(&self) -> bool {
        self.remove_old_trials();
        let groups = self.of(&format!("{TRIAL}{}", std::process::id()));
        let made = create(&groups, &Resources { cpus: 1.0, memory: 64 << 20, pids: 16 });
        // Of a refusal, some may be there.
        let removed = remove(&groups);
        made.is_ok() && removed.is_ok()
    }

    /// The command that lets this user make groups with bounds.
    pub(super) fn remedy(&self) -> String {
        remedy(&self.of(TRIAL))
    }

    /// Removes what processes have left that were killed while they tried.
    fn remove_old_trials(&self) {
        for (_, folder) in self.of(TRIAL) {
            let Some(name) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            for entry in folder.parent().and_then(|own| std::fs::read_dir(own).ok()).into_iter().flatten().flatten() {
                let found = entry.file_name();
                let process = found.to_str().and_then(|found| found.strip_prefix(name));
                if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                    let _ = std::fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// Has the kernel get ready for processes that change their group, while a shim starts: a change waits for a grace period of RCU
    /// (some 8 ms in the first version), unless the one before is as recent. This one leads to where this process is.
    pub(super) fn prepare(&self) {
        let Self::First(trees) = self else { return };
        if let Some((_, own)) = trees.first() {
            let procs = own.join("cgroup.procs");
            drop(crate::task::blocking(move || std::fs::write(procs, "0")));
        }
    }

    /// A container's own groups, by controller: one without a name in the second version.
    pub(super) fn of(&self, name: &str) -> Vec<(String, PathBuf)> {
        match self {
            Self::First(trees) => {
                trees.iter().map(|(tree, folder)| (tree.clone(), folder.join(format!("bottler-{name}")))).collect()
            }
            Self::Second(folder) => vec![(String::new(), folder.join(format!("bottler-{name}")))],
        }
    }
}

/// By the texts of `/proc/self/cgroup` (cgroups(7)) and `/proc/self/mountinfo` (proc(5)).
fn find(own: &str, mounts: &str) -> Result<Groups, String> {
    let mounts: Vec<(&str, &str, &str, &str)> = mounts.lines().filter_map(mount).collect();
    let own: Vec<(&str, &str)> = own.lines().filter_map(|line| line.split_once(':')?.1.split_once(':')).collect();
    let place = |(_, root, target, _): &(&str, &str, &str, &str), path: &str| {
        // Inside a container, the mount's root is a group further down than the path says.
        let below = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
        PathBuf::from(target).join(below)
    };
    let first: Vec<(String, PathBuf)> = FIRST
        .into_iter()
        .filter_map(|controller| {
            let (_, path) = own.iter().find(|(names, _)| names.split(',').any(|name| name == controller))?;
            let mount = mounts.iter().find(|(kind, _, _, options)| {
                *kind == "cgroup" && options.split(',').any(|option| option == controller)
            })?;
            Some((controller.to_owned(), place(mount, path)))
        })
        .collect();
    if first.len() == FIRST.len() {
        return Ok(Groups::First(first));
    }
    let unified = mounts.iter().find(|(kind, ..)| *kind == "cgroup2");
    let path = own.iter().find(|(names, _)| names.is_empty());
    match (unified, path) {
        (Some(mount), Some((_, path))) => {
            Ok(Groups::Second(place(mount, path.strip_suffix(&format!("/{BESIDE}")).unwrap_or(path))))
        }
        _ => Err("no control groups are mounted that bound memory and processes".into()),
    }
}

/// Type, root, target and options of the file system of a line of mountinfo.
fn mount(line: &str) -> Option<(&str, &str, &str, &str)> {
    let (place, file_system) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, target) = (place.next()?, place.next()?);
    let mut file_system = file_system.split(' ');
    Some((file_system.next()?, root, target, file_system.nth(1)?))
}

/// The command that gives this user a place where these groups can be made, of the user's own: who has a group bounds and freezes
/// what is in it. systemd delegates the second version only.
fn remedy(groups: &[(String, PathBuf)]) -> String {
    let second = groups.iter().all(|(controller, _)| controller.is_empty());
    if second && Path::new("/run/systemd/system").exists() {
        return "systemd-run --user --scope -p Delegate=yes bottler …".to_owned();
    }
    let parents = groups.iter().filter_map(|(_, folder)| folder.parent()?.to_str());
    let places = parents.collect::<Vec<_>>().join(" ");
    let more = if second { format!("echo {PASS_ON} > $g/{CONTROLLERS}; ") } else { String::new() };
    format!(
        "sudo sh -c 'for g in {places}; do {more}mkdir -p $g/bottler-$1 && chown -R $1 $g/bottler-$1 && \
         echo $2 > $g/bottler-$1/cgroup.procs; done' sh $(id -u) $$"
    )
}

/// Makes a container's groups with their bounds.
///
/// # Errors
/// They cannot be made: why, and what to do.
pub(super) fn create(groups: &[(String, PathBuf)], resources: &Resources) -> Result<(), String> {
    for (controller, folder) in groups {
        let made = if controller.is_empty() { delegate(folder) } else { std::fs::create_dir_all(folder) };
        let written = made.and_then(|()| bound(controller, folder, resources));
        written.map_err(|error| {
            let remedy = remedy(groups);
            format!(
                "{REFUSED} by {}: {error}; start bottler where this user may make control groups: `{remedy}`",
                folder.display()
            )
        })?;
    }
    Ok(())
}

/// Makes a group of the second version, and has the one above it pass the controllers on. A group that does that holds no
/// processes (cgroups(7), "no internal processes"): those that are there, this one among them, move into one beside.
fn delegate(folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let above = folder.parent().ok_or(ErrorKind::NotFound)?;
    let pass_on = || std::fs::write(above.join(CONTROLLERS), PASS_ON);
    let beside = above.join(BESIDE);
    let mut passed = pass_on();
    for _ in 0..MOVES {
        if !matches!(&passed, Err(error) if error.kind() == ErrorKind::ResourceBusy) {
            break;
        }
        std::fs::create_dir_all(&beside)?;
        for process in std::fs::read_to_string(above.join("cgroup.procs"))?.lines() {
            // What has ended meanwhile needs no move.
            let _ = std::fs::write(beside.join("cgroup.procs"), process);
        }
        // One that was not moved yet may just have started another one there.
        passed = pass_on();
    }
    passed
}

fn bound(controller: &str, folder: &Path, resources: &Resources) -> io::Result<()> {
    #[expect(clippy::cast_possible_truncation, reason = "a million processors at most")]
    let quota = (resources.cpus * PERIOD) as i64;
    let write = |file: &str, text: String| {
        let written = std::fs::write(folder.join(file), text);
        written.map_err(|error| io::Error::new(error.kind(), format!("write {file}: {error}")))
    };
    let optional = |written: io::Result<()>| match written {
        // A kernel that does not count swap has none to bound.
        Err(error) if error.kind() == ErrorKind::NotFound || error.kind() == ErrorKind::PermissionDenied => Ok(()),
        written => written,
    };
    match controller {
        "memory" => {
            write("memory.limit_in_bytes", resources.memory.to_string())?;
            optional(write("memory.memsw.limit_in_bytes", resources.memory.to_string()))
        }
        "pids" => write("pids.max", resources.pids.to_string()),
        "cpu" => {
            write("cpu.cfs_period_us", PERIOD.to_string())?;
            write("cpu.cfs_quota_us", quota.to_string())
        }
        "" => {
            write("memory.max", resources.memory.to_string())?;
            optional(write("memory.swap.max", "0".into()))?;
            write("pids.max", resources.pids.to_string())?;
            write("cpu.max", format!("{quota} {PERIOD}"))
        }
        _ => Ok(()),
    }
}

/// Puts this process into a container's groups.
///
/// # Errors
/// The kernel refuses.
pub(super) fn join(groups: &[(String, PathBuf)]) -> io::Result<()> {
    groups.iter().try_for_each(|(_, folder)| std::fs::write(folder.join("cgroup.procs"), "0"))
}

/// Removes a container's groups, as many as can be; those that have gone are no error.
///
/// # Errors
/// Which ones cannot be removed, and why: somebody is still in them. The kind is that of the first.
pub(super) fn remove(groups: &[(String, PathBuf)]) -> io::Result<()> {
    let failed = groups.iter().filter_map(|(_, folder)| match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Some((folder, error)),
        _ => None,
    });
    let failed: Vec<(&PathBuf, io::Error)> = failed.collect();
    let Some((_, first)) = failed.first() else { return Ok(()) };
    let all: Vec<String> = failed.iter().map(|(folder, error)| format!("{}: {error}", folder.display())).collect();
    Err(io::Error::new(first.kind(), all.join("; ")))
}

/// Kills whatever is left in groups, and removes them once it has ended.
///
/// # Errors
/// Somebody is still in them.
pub(super) fn end(groups: &[(String, PathBuf)]) -> io::Result<()> {
    for _ in 0..TRIES {
        kill_all(groups);
        if remove(groups).is_ok() {
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    remove(groups)
}

/// The processes in a container.
pub(super) fn processes(groups: &[(String, PathBuf)]) -> Vec<i32> {
    let read = |(_, folder): &(String, PathBuf)| std::fs::read_to_string(folder.join("cgroup.procs")).ok();
    groups.iter().find_map(read).unwrap_or_default().lines().filter_map(|line| line.parse().ok()).collect()
}

/// Kills whatever is left in a container's groups. What is frozen dies when it thaws, in the first version of control groups: before
/// it runs again, for the signal comes first.
pub(super) fn kill_all(groups: &[(String, PathBuf)]) {
    for process in processes(groups) {
        // What has ended meanwhile is what was wanted.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(process), nix::sys::signal::Signal::SIGKILL);
    }
    if may_be_frozen(groups) {
        let _ = freeze(groups, false);
    }
}

/// The bounds that the kernel enforces.
///
/// # Errors
/// They cannot be read.
pub(super) fn bounds(groups: &[(String, PathBuf)]) -> io::Result<Bounds> {
    let read = |files: [(&str, &str); 2]| {
        let mut paths = groups.iter().filter_map(|(controller, folder)| {
            files.iter().find(|(of, _)| of == controller).map(|(_, file)| folder.join(file))
        });
        let text = std::fs::read_to_string(paths.next_back().ok_or(ErrorKind::NotFound)?)?;
        // `max` is none.
        Ok::<u64, io::Error>(text.trim().parse().unwrap_or(u64::MAX))
    };
    Ok(Bounds {
        memory: read([("memory", "memory.limit_in_bytes"), ("", "memory.max")])?,
        pids: read([("pids", "pids.max"), ("", "pids.max")])?,
    })
}

/// Whether the kernel has killed a process of the container because its memory was used up.
pub(super) fn out_of_memory(groups: &[(String, PathBuf)]) -> bool {
    groups.iter().any(|(controller, folder)| {
        let file = match controller.as_str() {
            "memory" => "memory.oom_control",
            "" => "memory.events",
            _ => return false,
        };
        let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        text.lines().any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count != "0"))
    })
}

/// Freezes a container's processes, or lets them go on.
///
/// # Errors
/// There is nothing to freeze them by.
pub(super) fn freeze(groups: &[(String, PathBuf)], frozen: bool) -> io::Result<()> {
    for (controller, folder) in groups.iter().filter(|(_, folder)| folder.is_dir()) {
        match controller.as_str() {
            "freezer" => return std::fs::write(folder.join("freezer.state"), if frozen { "FROZEN" } else { "THAWED" }),
            "" => return std::fs::write(folder.join("cgroup.freeze"), if frozen { "1" } else { "0" }),
            _ => {}
        }
    }
    Err(io::Error::new(ErrorKind::Unsupported, "without a control group, a container cannot be paused"))
}

/// Whether a container is frozen.
pub(super) fn is_frozen(groups: &[(String, PathBuf)]) -> bool {
    groups.iter().any(|(controller, folder)| {
        let (file, line) = match controller.as_str() {
            "freezer" => ("freezer.state", "FROZEN"),
            "" => ("cgroup.events", "frozen 1"),
            _ => return false,
        };
        std::fs::read_to_string(folder.join(file)).is_ok_and(|text| text.lines().any(|found| found.trim() == line))
    })
}

/// Whether a container is frozen, or on its way there.
pub(super) fn may_be_frozen(groups: &[(String, PathBuf)]) -> bool {
    groups.iter().any(|(controller, folder)| {
        let (file, no) = match controller.as_str() {
            "freezer" => ("freezer.state", "THAWED"),
            "" => ("cgroup.freeze", "0"),
            _ => return false,
        };
        std::fs::read_to_string(folder.join(file)).is_ok_and(|text| text.trim() != no)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_groups_are_removed_that_can_be_and_all_others_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let groups: Vec<(String, PathBuf)> =
            ["memory", "pids", "cpu", "freezer"].map(|name| (name.to_owned(), folder.path().join(name))).into();
        // Of a real group, the folder cannot be removed while somebody is in it; of these, while something is.
        for name in ["memory/busy", "pids", "freezer/busy"] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        let error = remove(&groups).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DirectoryNotEmpty);
        let said = error.to_string();
        assert!(said.contains("/memory: ") && said.contains("/freezer: ") && !said.contains("/pids"), "{said}");
        assert!(!folder.path().join("pids").exists());
    }

    #[test]
    fn groups_are_found_where_this_process_is_in_either_version() {
        let own = "4:memory:/user\n3:pids:/user\n2:cpu,cpuacct:/\n1:freezer:/\n0::/\n";
        let mounts = "30 1 0:1 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 1 0:2 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                      32 1 0:3 / /cg/cpu rw - cgroup cgroup rw,cpu,cpuacct\n\
                      33 1 0:4 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer\n\
                      34 1 0:5 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let Ok(Groups::First(trees)) = find(own, mounts) else { panic!("the first version") };
        assert_eq!(trees[0], ("memory".into(), "/sys/fs/cgroup/memory/user".into()));
        assert_eq!(trees[2], ("cpu".into(), "/cg/cpu".into()));

        let mounts = "34 1 0:5 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw\n";
        let own = "0::/user.slice/user-1000.slice/run-1.scope\n";
        let expected = "/sys/fs/cgroup/user.slice/user-1000.slice/run-1.scope";
        assert_eq!(find(own, mounts), Ok(Groups::Second(expected.into())));
        assert!(find("", "").is_err());
    }
}
