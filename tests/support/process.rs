//! bottler as users run it: as a process, on a real engine.
//!
//! The engine is Docker. In the tests of the native engine, or where `BOTTLER_ENGINE` is `native`, it is that one, and
//! `BOTTLER_TEST_AS` says who launches: `root`, `user` (with control groups of its own), `range` (and subordinate users) or `bare`
//! (without).

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::native::{self, Who};

/// How long a test waits for anything.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A separate state directory, and the commands that run with it.
pub struct World {
    pub state: tempfile::TempDir,
    /// Another engine than the machine's, as for `DOCKER_HOST`.
    pub engine: Option<String>,
    /// The prefix of the command line that runs bottler, if any.
    pub through: Vec<String>,
    /// Further environment variables of bottler.
    pub env: Vec<(String, String)>,
    /// Who uses the native engine, where that is the engine.
    native: Option<native::World>,
}

/// Who launches, where the engine is the native one.
fn on_native() -> Option<Who> {
    let named = std::env::var("BOTTLER_ENGINE").is_ok_and(|engine| engine == "native");
    if !named && env!("CARGO_CRATE_NAME") != "native" {
        return None;
    }
    Some(match std::env::var("BOTTLER_TEST_AS").as_deref() {
        Ok("user") => Who::User,
        Ok("range") => Who::Range,
        Ok("bare") => Who::Bare,
        Ok("root") | Err(_) => Who::Root,
        Ok(other) => panic!("BOTTLER_TEST_AS={other}: it is root, user, range or bare"),
    })
}

/// The result of a finished run.
pub struct Done {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { status: output.status, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

impl Done {
    pub fn code(&self) -> i32 {
        self.status.code().unwrap_or(-1)
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}\n{}", self.stdout, self.stderr))
    }
}

pub fn bottler() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_bottler"))
}

pub fn recipe(name: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recipes").join(name).to_string_lossy().into_owned()
}

/// The built-in probe's targets: these addresses, as for a bottle's agent, and no counterpart.
pub fn targets(direct: &[String]) -> serde_json::Value {
    let target = |address: &String| serde_json::json!({ "name": "them", "address": address, "port": 7007 });
    let direct: Vec<_> = direct.iter().map(target).collect();
    let resources = serde_json::json!({ "cpus": 1.0, "memory": 1, "pids": 1 });
    serde_json::json!({ "proxy": "127.0.0.2:8888", "direct": direct, "counterpart": null, "resources": resources })
}

impl World {
    /// Fails, and does not skip, if there is no engine.
    pub fn new() -> Self {
        if let Some(who) = on_native() {
            return Self::on_native(who);
        }
        let docker = Command::new("docker").arg("version").output();
        let alive = docker.is_ok_and(|output| output.status.success());
        assert!(alive, "these tests need Docker Engine: `docker version` fails");
        Self::with(None, None)
    }

    fn with(engine: Option<String>, native: Option<native::World>) -> Self {
        let state = tempfile::tempdir().unwrap();
        Self { state, engine, through: Vec::new(), env: Vec::new(), native }
    }

    fn on_native(who: Who) -> Self {
        let world = Self::with(None, Some(native::World::new(who)));
        if who == Who::Bare {
            // Nobody launches without bounds by accident.
            let folder = world.state.path().join("bottler");
            std::fs::create_dir(&folder).unwrap();
            std::fs::set_permissions(&folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            let manifest =
                "bottles: {loose: {bounds: best-effort}}\nagents: {probe: {bottle: loose, template: probe}}\n";
            std::fs::write(folder.join("bottler.yaml"), manifest).unwrap();
        }
        world
    }

    /// What a manifest says about bounds: without a daemon, this user may have no control groups.
    pub fn bounds() -> &'static str {
        if std::env::var("BOTTLER_TEST_AS").is_ok_and(|who| who == "bare") { "best-effort" } else { "required" }
    }

    /// How many objects a bottle has that has so many on Docker: on the native engine, egress has a dialer, and a volume with it.
    pub fn count(&self, on_docker: usize) -> usize {
        on_docker + if self.native.is_some() { 2 } else { 0 }
    }

    /// The first process of a container.
    pub fn pid(&self, container: &str) -> i32 {
        match &self.native {
            Some(native) => native.first_process(container),
            None => self.inspect(container, "{{.State.Pid}}").parse().unwrap(),
        }
    }

    /// What a container is doing: `running`, `paused` …
    pub fn status(&self, container: &str) -> String {
        match &self.native {
            Some(native) => native.status(container).to_owned(),
            None => self.inspect(container, "{{.State.Status}}"),
        }
    }

    fn inspect(&self, container: &str, format: &str) -> String {
        let output = self.docker().args(["inspect", "--format", format, container]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Kills a container's first process.
    pub fn kill(&self, container: &str) {
        kill(Pid::from_raw(self.pid(container)), Signal::SIGKILL).unwrap();
    }

    /// Pauses a container, or lets it go on: not by bottler.
    pub fn pause(&self, container: &str, paused: bool) {
        if let Some(native) = &self.native {
            return native.pause(container, paused);
        }
        let word = if paused { "pause" } else { "unpause" };
        assert!(self.docker().args([word, container]).output().unwrap().status.success());
    }

    /// With a test's own engine.
    pub fn on(engine: &str) -> Self {
        Self::with(Some(engine.to_owned()), None)
    }

    /// The docker command for this world's engine.
    pub fn docker(&self) -> Command {
        assert!(self.native.is_none(), "there is no Docker here");
        let mut command = Command::new("docker");
        command.envs(self.engine.as_ref().map(|engine| ("DOCKER_HOST", engine)));
        command
    }

    /// The executable that this world's user runs.
    pub fn bottler(&self) -> PathBuf {
        self.native.as_ref().map_or_else(bottler, |native| native.folder().join("bottler"))
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let own = self.bottler().to_string_lossy().into_owned();
        let words: Vec<&str> = self.through.iter().map(String::as_str).chain([own.as_str()]).collect();
        self.program(words[0], &[&words[1..], arguments].concat())
    }

    /// Launches the agent `dev` of a folder's manifest in the background, from its folder `project`.
    pub fn launching(&self, folder: &Path, id: &str, more: &[&str]) -> Command {
        let manifest = folder.join("bottler.yaml");
        let mut command =
            self.command(&["run", "dev", "--manifest", manifest.to_str().unwrap(), "--name", id, "--yes", "-d"]);
        command.args(more).current_dir(folder.join("project"));
        command
    }

    /// Runs a script beside an agent; returns both its outputs.
    pub fn inside(&self, id: &str, script: &str) -> String {
        let done = self.run(&["exec", id, "--", "sh", "-c", script]);
        format!("{}{}", done.stdout, done.stderr)
    }

    /// Any program, run by this world's user as bottler is.
    pub fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = match &self.native {
            Some(native) => {
                native.hand_over(self.state.path());
                let arguments: Vec<String> = arguments.iter().map(|word| native.readable(word)).collect();
                native.start(program.as_ref(), &arguments.iter().map(String::as_str).collect::<Vec<_>>())
            }
            None => Command::new(program),
        };
        if self.native.is_none() {
            command.args(arguments).stdin(Stdio::null());
        }
        // The user's own manifest must not affect tests.
        command.env("XDG_STATE_HOME", self.state.path()).env("XDG_CONFIG_HOME", self.state.path());
        command.envs(self.engine.as_ref().map(|engine| ("DOCKER_HOST", engine)));
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Done {
        self.command(arguments).output().unwrap().into()
    }

    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The ids of this state directory's bottles.
    pub fn bottles(&self) -> Vec<String> {
        let folder = self.state.path().join("bottler/bottles");
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    /// Objects on the engine with the label of one of this world's bottles.
    pub fn objects(&self) -> Vec<String> {
        let Ok(id) = std::fs::read_to_string(self.state.path().join("bottler/id")) else { return Vec::new() };
        assert!(!id.is_empty());
        self.objects_of(&self.owner())
    }

    fn runs(&self, container: &str, words: &str) -> bool {
        if let Some(native) = &self.native {
            return native.runs(container, words);
        }
        // Docker accepts arguments of `ps`; Podman, whose containers may lack `ps`, accepts column names.
        let tops = [&["-eo", "pid,args"][..], &["pid,args"]];
        let shows = |columns| {
            let top = self.docker().args(["top", container]).args(columns).output().unwrap();
            String::from_utf8_lossy(&top.stdout).contains(words)
        };
        tops.into_iter().any(shows)
    }

    /// The agent's container, once one of its processes has these words in its command line.
    pub fn agent_running(&self, words: &str) -> Option<String> {
        let others = [
            "-egress",
            "-egress-dialer",
            "-git-gate",
            "-home",
            "-inside",
            "-outside",
            "-pair",
            "-prover",
            "-receiver",
            "-socket",
            "-state",
            "-workspace",
        ];
        let agent = self.objects().into_iter().find(|name| !others.iter().any(|end| name.ends_with(end)))?;
        self.runs(&agent, words).then_some(agent)
    }

    /// All objects on the engine with the label of one owner.
    pub fn objects_of(&self, owner: &str) -> Vec<String> {
        if let Some(native) = &self.native {
            // A store of its own.
            return native.objects();
        }
        let filter = format!("label=dev.bottler.owner={owner}");
        let mut found = Vec::new();
        for arguments in [
            &["ps", "-a", "--format", "{{.Names}}"][..],
            &["network", "ls", "--format", "{{.Name}}"],
            &["volume", "ls", "--format", "{{.Name}}"],
        ] {
            let output = self.docker().args(arguments).args(["--filter", &filter]).output().unwrap();
            assert!(output.status.success());
            found.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        }
        found
    }

    fn owner(&self) -> String {
        bottler::session::StateDir::at(&self.state.path().join("bottler")).unwrap().owner
    }

    /// This world's processes of a role, found by command line and environment.
    pub fn processes(&self, role: &str) -> Vec<i32> {
        let state = self.state.path().to_string_lossy().into_owned();
        let has = |pid: &i32, file: &str, word: &str| {
            let text = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            text.split(|byte| *byte == 0).any(|part| String::from_utf8_lossy(part).ends_with(word))
        };
        let all =
            std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
        all.filter(|pid| has(pid, "cmdline", role) && has(pid, "environ", &state)).collect()
    }

    /// Waits until nothing of this world is left on the engine and in its state directory.
    pub fn wait_gone(&self, limit: Duration) {
        let began = Instant::now();
        loop {
            let (objects, bottles) = (self.objects(), self.bottles());
            if objects.is_empty() && bottles.is_empty() {
                return;
            }
            assert!(began.elapsed() < limit, "left after {limit:?}: {objects:?} {bottles:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub fn assert_clean(&self) {
        assert_eq!(self.objects(), Vec::<String>::new());
        assert_eq!(self.bottles(), Vec::<String>::new());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_clean();
            return;
        }
        // Also after a failed test, leave the engine as it was.
        for pid in self.processes("holder") {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        // No assertion here: a second panic would hide the first.
        let began = Instant::now();
        while !self.processes("holder").is_empty() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(50));
        }
        for bottle in self.bottles() {
            self.run(&["rm", "--force", "--discard", &bottle]);
        }
        self.run(&["gc"]);
    }
}

/// Waits for a condition that other processes bring about; returns its value.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(value) = look() {
            return value;
        }
        assert!(began.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits for a child's end; returns its output.
pub fn finish(child: Child) -> Done {
    child.wait_with_output().unwrap().into()
}
