//! A user of the native engine, with folders of its own, and what is left of its bottles.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The ordinary user: no account is needed.
pub const USER: u32 = 64_123;
/// The first of that one's subordinate users and groups.
pub const RANGE: u32 = 1_700_000_000;
/// Controllers of the first version that a container needs.
const CONTROLLERS: [&str; 4] = ["memory", "pids", "cpu", "freezer"];
/// How long anything may take before a test gives up waiting for it.
const PATIENCE: Duration = Duration::from_mins(1);

/// Who launches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Root,
    /// With control groups of its own.
    User,
    /// The same with a range of subordinate users and groups: newuidmap maps it.
    Range,
    /// Without either.
    Bare,
}

impl Who {
    /// Those whose bottles have bounds.
    pub const BOUNDED: [Self; 3] = [Self::Root, Self::User, Self::Range];
}

/// A user's world.
pub struct World {
    pub who: Who,
    folder: tempfile::TempDir,
    /// This user's control groups.
    groups: Vec<PathBuf>,
    /// Processes that were killed.
    pub struck: Mutex<Vec<i32>>,
}

impl World {
    pub fn new(who: Who) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests become other users: run them as root");
        let folder = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open.clone()).unwrap();
        // A checkout may be where only its owner may go.
        let own = folder.path().join("bottler");
        // By a process of its own: while this one writes it, a child of another test's thread may hold it open, and nobody could run it.
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_bottler")).arg(&own).status().unwrap();
        assert!(copied.success());
        std::fs::set_permissions(&own, open).unwrap();
        let name = format!("bottler-test-{}", folder.path().file_name().unwrap().to_str().unwrap());
        // As root, too: what runs in them is this world's.
        let groups = if who == Who::Bare { Vec::new() } else { delegate(&name, who != Who::Root) };
        if who != Who::Root {
            chown(folder.path(), Some(USER), Some(USER)).unwrap();
        }
        for (name, text) in [
            ("passwd", format!("root:x:0:0::/root:/bin/sh\nranger:x:{USER}:{USER}::/:/bin/sh\n")),
            ("subuid", format!("ranger:{RANGE}:65536\n")),
            ("subgid", format!("ranger:{RANGE}:65536\n")),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        Self { who, folder, groups, struck: Mutex::default() }
    }

    /// bottler, run by this user.
    pub fn command(&self, arguments: &[&str]) -> Command {
        self.start(&self.folder.path().join("bottler"), arguments)
    }

    /// A test of this binary, run by this user: one that is ignored otherwise.
    pub fn test(&self, name: &str) -> Done {
        let own = self.folder.path().join("tests");
        // In a process of its own: another test's fork would hold the copy open for writing when it is executed.
        let running = std::env::current_exe().unwrap();
        assert!(Command::new("cp").arg(running).arg(&own).status().unwrap().success());
        std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o755)).unwrap();
        let arguments = ["--exact", name, "--ignored", "--nocapture", "--test-threads=1"];
        self.start(&own, &arguments).output().unwrap().into()
    }

    /// A program, run by this user.
    pub fn start(&self, program: &Path, arguments: &[&str]) -> Command {
        // The shell moves itself into the groups before it becomes the user.
        let mut script = String::new();
        for group in &self.groups {
            script += &format!("echo $$ > {}/cgroup.procs; ", group.display());
        }
        let become_user = format!("setpriv --reuid {USER} --regid {USER} --clear-groups ");
        let exec = format!("exec {}\"$0\" \"$@\"", if self.who == Who::Root { "" } else { &become_user });
        if self.who == Who::Range {
            // It has an account here, and nowhere else.
            let own = self.folder.path().display();
            let accounts = format!(
                "touch /etc/subuid /etc/subgid; mount --bind {own}/passwd /etc/passwd; \
                 mount --bind {own}/subuid /etc/subuid; mount --bind {own}/subgid /etc/subgid"
            );
            script += &format!("exec unshare --mount sh -ec '{accounts}; {exec}' \"$0\" \"$@\"");
        } else {
            script += &exec;
        }
        let mut command = Command::new("sh");
        command.args(["-ec", &script]).arg(program).args(arguments);
        command.current_dir(self.folder.path()).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.folder.path());
        command.env("BOTTLER_ENGINE", "native").env("BOTTLER_TEST_WORLD", self.folder.path());
        command
    }

    /// The same, run by root with this user's home.
    pub fn command_as_root(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.folder.path().join("bottler"));
        let own = self.command(&[]);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null()).env_clear();
        command.envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    /// The same, started by another program: its command line, which bottler's follows.
    pub fn command_by(&self, program: &str, words: &[&str], arguments: &[&str]) -> Command {
        let own = self.command(arguments);
        let mut command = Command::new(program);
        command.args(words).arg(own.get_program()).args(own.get_args()).current_dir(self.folder.path());
        command.env_clear().envs(own.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        self.command(arguments).output().unwrap().into()
    }

    /// Launches an agent that idles; its bottle.
    pub fn idle(&self) -> String {
        self.idle_with(&[])
    }

    /// The same with further options of `run`.
    pub fn idle_with(&self, options: &[&str]) -> String {
        let done = Done::from(self.idling().args(options).output().unwrap());
        assert_eq!(done.code, 0, "{}", done.stderr);
        done.stdout.trim().to_owned()
    }

    /// Writes a file of this user's, below the home.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A copy of a recipe of the tests, which this user may read.
    pub fn recipe(&self, name: &str) -> String {
        let copy = self.folder.path().join(name);
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes").join(name), &copy).unwrap();
        copy.to_str().unwrap().to_owned()
    }

    /// What launches an agent that idles.
    pub fn idling(&self) -> Command {
        self.command(&["run", "probe", "--recipe", &self.recipe("idle.lua"), "--detach", "--yes"])
    }

    /// Every process of this world's that can still do something: in its control groups, and no zombie.
    pub fn alive(&self) -> Vec<i32> {
        let Some(group) = self.groups.first() else { return Vec::new() };
        let mut found = Vec::new();
        processes_in(group, &mut found);
        found
    }

    /// Gives a folder, with what is in it by now, to this user.
    pub fn hand_over(&self, folder: &Path) {
        if self.who == Who::Root {
            return;
        }
        // What bottler removes meanwhile needs no owner.
        let _ = std::os::unix::fs::lchown(folder, Some(USER), Some(USER));
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                self.hand_over(&entry.path());
            } else {
                let _ = std::os::unix::fs::lchown(entry.path(), Some(USER), Some(USER));
            }
        }
    }

    /// A word of a command line; where it is the path of a recipe of the tests, that of a copy which this user may read.
    pub fn readable(&self, word: &str) -> String {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes");
        match Path::new(word).strip_prefix(recipes) {
            Ok(name) => self.recipe(name.to_str().unwrap()),
            Err(_) => word.to_owned(),
        }
    }

    /// Whether one of a container's processes has these words in its command line.
    pub fn runs(&self, container: &str, words: &str) -> bool {
        let file = self.store().join("containers").join(container).join("first.json");
        let Ok(first) = std::fs::read_to_string(file) else { return false };
        let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(inside) = space(first.trim()) else { return false };
        let all =
            std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let says = |pid: &String| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).replace('\0', " ").contains(words)
        };
        all.filter(|pid| space(pid).as_ref() == Some(&inside)).any(|pid| says(&pid))
    }

    /// What a container is doing, in Docker's words.
    pub fn status(&self, container: &str) -> &'static str {
        let folder = self.store().join("containers").join(container);
        match std::fs::read_to_string(self.freezer(container)) {
            _ if !folder.exists() => "",
            _ if folder.join("end.json").exists() => "exited",
            Ok(state) if state.trim() == "FROZEN" => "paused",
            _ => "running",
        }
    }

    /// Freezes a container, or lets it go on: from outside, as no bottle does.
    pub fn pause(&self, container: &str, paused: bool) {
        std::fs::write(self.freezer(container), if paused { "FROZEN" } else { "THAWED" }).unwrap();
    }

    fn freezer(&self, container: &str) -> PathBuf {
        let group = self.groups.iter().find(|group| group.starts_with("/sys/fs/cgroup/freezer"));
        group.map(|group| group.join(format!("bottler-{container}/freezer.state"))).unwrap_or_default()
    }

    /// The names of all containers, volumes and networks.
    pub fn objects(&self) -> Vec<String> {
        let names = |folder: &str| std::fs::read_dir(self.store().join(folder)).into_iter().flatten().flatten();
        let all = ["containers", "volumes", "networks"].into_iter().flat_map(names);
        let all = all.filter_map(|entry| entry.file_name().into_string().ok());
        all.filter(|name| !name.starts_with('.')).collect()
    }

    /// This world's processes of a role.
    pub fn processes(&self, role: &str) -> Vec<i32> {
        let world = self.folder.path().to_str().unwrap();
        let all =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        let read = |pid: i32, file: &str| {
            String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned()
        };
        let is = |pid: &i32| {
            let words = read(*pid, "cmdline");
            let mut words = words.split('\0');
            let is_role = words.nth(1).is_some_and(|word| word == role);
            is_role && (read(*pid, "environ").contains(world) || words.any(|word| word.contains(world)))
        };
        all.filter(is).collect()
    }

    /// Waits until what was killed has let go of its files and locks. Until then, its bottle counts as alive.
    pub fn wait_struck(&self) {
        wait_for("the killed processes to end", || {
            let left: Vec<i32> = self.struck.lock().unwrap().iter().copied().filter(|pid| !has_ended(*pid)).collect();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// Those of them that are in a container.
    pub fn contained(&self) -> Vec<i32> {
        let Some(group) = self.groups.first() else { return Vec::new() };
        let mut found = Vec::new();
        for entry in std::fs::read_dir(group).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
            processes_in(&entry.path(), &mut found);
        }
        found
    }

    /// The first process of a container.
    pub fn first_process(&self, container: &str) -> i32 {
        let file = self.store().join("containers").join(container).join("first.json");
        std::fs::read_to_string(&file)
            .unwrap_or_else(|error| panic!("{}: {error}", file.display()))
            .trim()
            .parse()
            .unwrap()
    }

    /// This user's home.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// This user's control groups, one for each controller.
    pub fn groups(&self) -> &[PathBuf] {
        &self.groups
    }

    /// The folder of a volume on the host.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.store().join("volumes").join(name).join("data")
    }

    pub fn store(&self) -> PathBuf {
        self.folder.path().join(".local/share/bottler/native")
    }

    /// What is left: containers, volumes, networks, half-made things, control groups, mounts.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        for folder in ["containers", "volumes", "networks", "new"] {
            let entries = std::fs::read_dir(self.store().join(folder)).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let store = self.store().display().to_string();
        left.extend(mounts.lines().filter(|line| line.contains(&store)).map(str::to_owned));
        for group in &self.groups {
            let entries = std::fs::read_dir(group).unwrap().flatten().filter(|entry| entry.path().is_dir());
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        left
    }

    /// Waits until nothing is left.
    pub fn wait_clean(&self) {
        wait_for("the bottle's things to go", || {
            self.left().is_empty().then_some(()).ok_or_else(|| format!("{:?}", self.left()))
        });
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Of a failed test: what a holder has paused ends only when somebody lets it go on.
        self.run(&["gc"]);
        for role in ["holder", "reaper", "container-shim"] {
            for pid in self.processes(role) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
            }
        }
        // The kernel takes a moment to end what was killed.
        let began = Instant::now();
        while began.elapsed() < PATIENCE && self.groups.iter().any(|group| remove_groups(group).is_err()) {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// What a finished run said.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

/// Makes a control group in each tree, and may give it to the ordinary user.
fn delegate(name: &str, away: bool) -> Vec<PathBuf> {
    let make = |controller: &str| {
        let group = Path::new("/sys/fs/cgroup").join(controller).join(name);
        std::fs::create_dir(&group).unwrap();
        if away {
            for file in std::fs::read_dir(&group).unwrap().flatten() {
                chown(file.path(), Some(USER), Some(USER)).unwrap();
            }
            chown(&group, Some(USER), Some(USER)).unwrap();
        }
        group
    };
    CONTROLLERS.into_iter().map(make).collect()
}

/// The processes of a control group and those in it, zombies aside.
fn processes_in(group: &Path, found: &mut Vec<i32>) {
    let processes = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let lives = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("State:") && !line.contains("Z (") && !line.contains("X ("))
    };
    found.extend(processes.lines().filter_map(|line| line.parse().ok()).filter(lives));
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        processes_in(&entry.path(), found);
    }
}

/// Removes a control group with those in it.
fn remove_groups(group: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_groups(&entry.path())?;
    }
    match std::fs::remove_dir(group) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Every control group whose name begins like that.
fn group_folders(prefix: &str) -> Vec<PathBuf> {
    fn look(folder: &Path, prefix: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                found.push(entry.path());
            }
            look(&entry.path(), prefix, found);
        }
    }
    let mut found = Vec::new();
    look(Path::new("/sys/fs/cgroup"), prefix, &mut found);
    found
}

/// Whether a process has let go of its files and locks: one has, once it is a zombie.
pub fn has_ended(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, None | Some('Z' | 'X'))
}

/// Waits until something is so; otherwise says what is in its way.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let began = Instant::now();
    loop {
        match look() {
            Ok(value) => return value,
            Err(why) => assert!(began.elapsed() < PATIENCE, "waited too long for {what}: {why}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The control groups of a bottle's containers.
pub fn groups_of(bottle: &str) -> Vec<PathBuf> {
    group_folders(&format!("bottler-{bottle}"))
}
