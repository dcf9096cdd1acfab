//! An engine whose disk is full: a second one, on a memory file system of a few MiB, in namespaces of its own.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use support::process::{World, wait_for};

/// Room for the engine's own files, not for an image.
const SIZE: &str = "8m";

struct SmallEngine {
    folder: tempfile::TempDir,
    process: Child,
}

impl SmallEngine {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display().to_string();
        std::fs::create_dir(folder.path().join("data")).unwrap();
        std::fs::write(folder.path().join("daemon.json"), "{}").unwrap();
        let script = format!(
            "set -e; mount --make-rprivate /; mount -t tmpfs -o size={SIZE} tmpfs {at}/data; ip link set lo up; \
             exec dockerd --config-file {at}/daemon.json -H unix://{at}/docker.sock --data-root {at}/data \
             --exec-root {at}/exec --pidfile {at}/pid --storage-driver vfs --bridge none --iptables=false --ip-forward=false"
        );
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let process = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c", &script])
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let engine = Self { folder, process };
        wait_for("the small engine", || engine.docker(&["version"]).then_some(()));
        engine
    }

    fn endpoint(&self) -> String {
        format!("unix://{}/docker.sock", self.folder.path().display())
    }

    fn docker(&self, arguments: &[&str]) -> bool {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.endpoint()).args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().success()
    }

    fn list(&self, arguments: &[&str]) -> String {
        let output = Command::new("docker").env("DOCKER_HOST", self.endpoint()).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for SmallEngine {
    fn drop(&mut self) {
        let pid = std::fs::read_to_string(self.folder.path().join("pid")).ok().and_then(|pid| pid.trim().parse().ok());
        if let Some(pid) = pid {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        let _ = self.process.wait();
    }
}

#[test]
fn a_full_disk_is_told_with_its_place_and_remedy_and_nothing_is_left() {
    let world = World::new();
    let engine = SmallEngine::start();
    let networks = engine.list(&["network", "ls", "-q"]);
    let output = world.command(&["run", "probe"]).env("DOCKER_HOST", engine.endpoint()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(122), "{said}");
    for words in [
        "error: build image bottler:",
        "no space left on device",
        "scripts/launch.lua:",
        "hint: free space on the engine's disk",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(engine.list(&["ps", "-aq"]), "");
    assert_eq!(engine.list(&["volume", "ls", "-q"]), "");
    assert_eq!(engine.list(&["network", "ls", "-q"]), networks);
    assert!(Path::new(&world.state.path().join("bottler/bottles")).read_dir().unwrap().next().is_none());
}
