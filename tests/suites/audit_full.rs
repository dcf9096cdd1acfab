//! A full disk below the state directory: the audit log reports the gap, and its head covers what was written.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::process::{World, recipe, wait_for};

/// A tiny memory file system for the state directory, removed with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn under(world: &World) -> Self {
        let path = world.state.path().join("bottler");
        std::fs::create_dir(&path).unwrap();
        run(&["mount", "-t", "tmpfs", "-o", "size=16m,mode=0700", "tmpfs", &path.to_string_lossy()]);
        Self(path)
    }

    /// Uses up all free space.
    fn fill(&self) -> PathBuf {
        let file = self.0.join("fill");
        let _ = Command::new("dd").arg("if=/dev/zero").arg(format!("of={}", file.display())).arg("bs=4k").output();
        file
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

fn run(words: &[&str]) {
    assert!(Command::new(words[0]).args(&words[1..]).status().unwrap().success(), "{words:?}");
}

fn audit_of(disk: &Path) -> PathBuf {
    let mut files = std::fs::read_dir(disk.join("audit")).unwrap().map(|entry| entry.unwrap().path());
    files.next().unwrap()
}

/// Requests refused hosts from the agent's network.
fn ask(world: &World, agent: &str, hosts: &str) {
    let pid = world.pid(agent).to_string();
    let curl = ["curl", "--silent", "--proxy", "http://127.0.0.2:8888"];
    let mut nsenter = Command::new("nsenter");
    nsenter.args(["--target", &pid, "--net"]).args(curl).arg(format!("http://h{hosts}.example/"));
    assert!(nsenter.output().unwrap().status.success());
}

#[test]
fn promise_18_a_full_disk_tears_no_evidence_and_is_told() {
    for room_again in [true, false] {
        let world = World::new();
        let disk = SmallDisk::under(&world);
        let told = tempfile::NamedTempFile::new().unwrap();
        let mut command = world.command(&["run", "probe", "--recipe", &recipe("idle.lua")]);
        let mut child = command.stdout(Stdio::null()).stderr(told.reopen().unwrap()).spawn().unwrap();
        let told = || std::fs::read_to_string(&told).unwrap();
        let agent = wait_for("the idle agent", || world.agent_running("bottler idle"));
        ask(&world, &agent, "0");
        wait_for("its event", || {
            std::fs::read_to_string(audit_of(&disk.0)).unwrap().contains("h0.example").then_some(())
        });
        let fill = disk.fill();
        ask(&world, &agent, "[1-59]");
        if room_again {
            // Earlier, there may have been nothing to write yet.
            wait_for("the alarm", || told().contains("the audit log cannot be written").then_some(()));
            std::fs::remove_file(fill).unwrap();
            wait_for("what was held", || {
                std::fs::read_to_string(audit_of(&disk.0)).unwrap().contains("h59.example").then_some(())
            });
        }
        let stopped = world.run(&["stop", &agent]);
        child.wait().unwrap();
        let told = told();
        let head = told.split("--head ").nth(1).unwrap_or_else(|| panic!("{told}"));
        let head = head.split('`').next().unwrap().to_owned();
        let verified = world.run(&["audit", "verify", &agent, "--head", &head]);
        assert!(verified.code() == 0 && verified.stdout.starts_with("intact: "), "{}", verified.stdout);
        let incomplete = told.contains("error: the audit log is incomplete");
        assert_eq!(incomplete, !room_again, "{}{told}", stopped.stderr);
        if room_again {
            assert!(
                verified.stdout.contains("decisions could not be written when they were made"),
                "{}",
                verified.stdout
            );
        }
        drop(disk);
    }
}
