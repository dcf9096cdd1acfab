//! A bottle whose agent sleeps, so that a test can run programs in it, and a destination beside it.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::images::{DEBIAN, Debian};
use super::origin::{Origin, certificates};
use super::process::{World, finish, wait_for};

/// A running bottle.
pub struct Sleeper {
    /// The name of the agent's container.
    pub agent: String,
    pub origin: Origin,
    child: Child,
}

impl Sleeper {
    /// Launches it with these allowed hosts and further arguments. All hosts lead to the destination, which runs
    /// `/origin/start` from the folder `origin` in `folder`, with a certificate.
    pub fn launch(world: &World, folder: &Path, hosts: &[&str], more: &[&str], start: &str) -> Self {
        Self::allowing(world, folder, hosts, hosts, more, start)
    }

    /// The same, with other entries of the allowlist than the hosts.
    pub fn allowing(
        world: &World,
        folder: &Path,
        hosts: &[&str],
        allowed: &[&str],
        more: &[&str],
        start: &str,
    ) -> Self {
        Debian::import();
        let origin = folder.join("origin");
        std::fs::create_dir(&origin).unwrap();
        certificates(&origin, hosts);
        std::fs::write(origin.join("start"), start).unwrap();
        let mut command = world.command(&["run", "shell", "--image", DEBIAN]);
        command.arg("--upstream-ca").arg(origin.join("root.pem"));
        for entry in allowed {
            command.args(["--allow", entry]);
        }
        for range in ["10.213.0.0/16", "172.29.0.0/16"] {
            command.args(["--allow-ip", range]);
        }
        command.args(more).args(["--", "sleep", "1000"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let agent = wait_for("the agent", || world.agent_running("sleep 1000"));
        let origin = Origin::start(&agent, hosts, DEBIAN, &origin, &["sh", "/origin/start"]);
        Self { agent, origin, child }
    }

    /// Runs a shell command beside the agent, for at most so many seconds; returns its output.
    pub fn exec(&self, seconds: u32, variables: &[(&str, &str)], command: &str) -> String {
        let mut exec = Command::new("docker");
        exec.arg("exec");
        for (name, value) in variables {
            exec.args(["-e", &format!("{name}={value}")]);
        }
        exec.args([&self.agent, "timeout", &seconds.to_string(), "sh", "-c", command]);
        let output = exec.output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Ends it as Ctrl-C does.
    pub fn end(self) {
        let Self { origin, child, .. } = self;
        drop(origin);
        interrupt(child);
    }

    /// The same, but returns the destination, which is still running.
    pub fn end_before_origin(self) -> Origin {
        interrupt(self.child);
        self.origin
    }
}

fn interrupt(child: Child) {
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    assert_eq!(done.code(), 126, "{}", done.stderr);
}
