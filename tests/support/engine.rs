//! A Docker Engine for one test, in its own namespaces: with other runtimes, on a small disk, or to be killed.

#![allow(dead_code, unreachable_pub, reason = "every test file uses a part of it")]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::process::wait_for;

/// Run in the engine's namespaces before it starts. Its mounts are private, the system's containerd is hidden, and
/// its networks are its own.
const PREPARE: &str = "mount --make-rprivate / && mount -t tmpfs none /run && ip link set lo up && exec sleep infinity";

/// An engine, removed with everything in it when dropped.
pub struct PrivateEngine {
    folder: tempfile::TempDir,
    /// Keeps the namespaces alive.
    space: Child,
    daemon: Option<Child>,
    /// Its containerd outlives it, as on a real system.
    containerd: Option<Child>,
    program: &'static str,
    arguments: Vec<String>,
}

impl PrivateEngine {
    /// Starts one with a configuration file, in which `$FOLDER` is its folder.
    pub fn start(config: &serde_json::Value) -> Self {
        Self::prepared("true", config)
    }

    /// The same, after a command in its namespaces that gets its folder as `$1`.
    pub fn prepared(prepare: &str, config: &serde_json::Value) -> Self {
        Self::with(prepare, config, "dockerd", |path| {
            vec![
                format!("--host=unix://{path}/docker.sock"),
                format!("--data-root={path}/data"),
                format!("--exec-root={path}/exec"),
                format!("--pidfile={path}/pid"),
                format!("--containerd={path}/containerd.sock"),
                format!("--config-file={path}/daemon.json"),
            ]
        })
    }

    /// A Docker that also listens with TLS on a port of its own namespace's loopback.
    pub fn with_tls(prepare: &str, port: u16) -> Self {
        Self::with(prepare, &serde_json::json!({}), "dockerd", |path| {
            vec![
                format!("--host=unix://{path}/docker.sock"),
                format!("--host=tcp://127.0.0.1:{port}"),
                format!("--data-root={path}/data"),
                format!("--exec-root={path}/exec"),
                format!("--pidfile={path}/pid"),
                format!("--containerd={path}/containerd.sock"),
                format!("--config-file={path}/daemon.json"),
                "--tlsverify".to_owned(),
                format!("--tlscacert={path}/ca.pem"),
                format!("--tlscert={path}/server.pem"),
                format!("--tlskey={path}/server-key.pem"),
            ]
        })
    }

    /// The newest Docker in Debian, in its own root file system.
    pub fn newest() -> Self {
        let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("newest-docker");
        if !root.join("usr/sbin/dockerd").exists() {
            // An incomplete root would be taken for a complete one.
            let _ = std::fs::remove_dir_all(&root);
            let made = Command::new("mmdebstrap")
                .args(["--aptopt=Acquire::Check-Valid-Until \"false\"", "--variant=minbase"])
                .args(["--include=docker.io,iptables,iproute2,ca-certificates,procps", "sid"])
                .arg(&root)
                .output()
                .expect("mmdebstrap is installed");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        // Bind-mounted, because a command in a container would not enter a root that is only changed to with chroot.
        let root = root.display();
        let prepare = format!(
            "mount --make-rprivate /; mount --bind {root} {root}
             for it in proc sys dev; do mount --rbind /$it {root}/$it; done
             mkdir -p {root}/$1 {root}/old; mount --bind $1 {root}/$1; cd {root}; pivot_root . old; umount -l /old"
        );
        Self::prepared(&prepare, &serde_json::json!({}))
    }

    /// Podman's service.
    pub fn podman() -> Self {
        Self::with("true", &serde_json::json!({}), "podman", |path| {
            let service = ["system", "service", "--time=0"].map(str::to_owned);
            let folders = [format!("--root={path}/data"), format!("--runroot={path}/exec")];
            folders.into_iter().chain(service).chain([format!("unix://{path}/docker.sock")]).collect()
        })
    }

    fn with(
        prepare: &str,
        config: &serde_json::Value,
        program: &'static str,
        arguments: impl FnOnce(&str) -> Vec<String>,
    ) -> Self {
        // Not on a memory file system, which overlay does not support. A short path, because sockets are below it.
        let folder = tempfile::Builder::new().prefix("bottler-engine-").tempdir_in("/var/tmp").unwrap();
        let config = config.to_string().replace("$FOLDER", &folder.path().to_string_lossy());
        std::fs::write(folder.path().join("daemon.json"), config).unwrap();
        let script = format!("set -e; {prepare}; {PREPARE}");
        let space = Command::new("unshare")
            .args(["--mount", "--net", "sh", "-c", &script, "sh"])
            .arg(folder.path())
            .stdin(Stdio::null())
            .spawn()
            .expect("unshare is installed");
        let path = folder.path().to_string_lossy().into_owned();
        let arguments = arguments(&path);
        let mut engine = Self { folder, space, daemon: None, containerd: None, program, arguments };
        wait_for("the engine's namespaces", || {
            let comm = std::fs::read_to_string(format!("/proc/{}/comm", engine.space.id())).ok()?;
            (comm.trim() == "sleep").then_some(())
        });
        if program == "dockerd" {
            engine.start_containerd();
        }
        engine.resume();
        engine
    }

    fn start_containerd(&mut self) {
        let path = self.folder.path().display();
        let config = format!(
            "version = 2\nroot = \"{path}/containerd\"\nstate = \"{path}/containerd-state\"\n\
             disabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = \"{path}/containerd.sock\"\n"
        );
        let file = self.folder.path().join("containerd.toml");
        std::fs::write(&file, config).unwrap();
        let mut containerd = self.inside("containerd");
        containerd.arg("--config").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        self.containerd = Some(containerd.spawn().expect("containerd is installed"));
        wait_for("containerd", || self.folder.path().join("containerd.sock").exists().then_some(()));
    }

    /// Its address, as for `DOCKER_HOST`.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A command in its namespaces.
    pub fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.space.id().to_string(), "--mount", "--net", program]);
        command
    }

    /// The prefix of a command line that runs a program in its network namespace.
    pub fn through(&self) -> Vec<String> {
        ["nsenter", "--target", &self.space.id().to_string(), "--net"].map(str::to_owned).to_vec()
    }

    /// The docker command for it.
    pub fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", self.endpoint());
        command
    }

    /// Kills it without warning. Its containers continue.
    pub fn kill(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGKILL).unwrap();
            daemon.wait().unwrap();
        }
    }

    /// Stops it as a service manager does, which also ends its containers.
    pub fn stop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            // It may have exited already.
            let _ = kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGTERM);
            daemon.wait().unwrap();
        }
    }

    /// Stops or continues its process: meanwhile it hangs.
    pub fn freeze(&self, frozen: bool) {
        let daemon = self.daemon.as_ref().unwrap();
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        kill(Pid::from_raw(daemon.id().cast_signed()), signal).unwrap();
    }

    /// Ends Podman's monitor of every container, and what a monitor starts when it ends: it would later create files
    /// in a removed folder.
    fn end_monitors(&self) {
        let folder = self.folder.path().to_string_lossy().into_owned();
        wait_for("the end of Podman's monitors", || {
            let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
            let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line);
                (line.contains("conmon") || line.contains("podman")) && line.contains(&folder)
            });
            let mut none = true;
            for pid in pids {
                // It may have exited already.
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                none = false;
            }
            none.then_some(())
        });
    }

    /// Starts it again after its end.
    pub fn resume(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap();
        // The pid file of a killed process prevents the start.
        let _ = std::fs::remove_file(self.folder.path().join("pid"));
        let daemon = self
            .inside(self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nsenter, docker and podman are installed");
        self.daemon = Some(daemon);
        wait_for("the engine", || {
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "{}", std::fs::read_to_string(self.folder.path().join("log")).unwrap());
            self.docker().arg("version").output().unwrap().status.success().then_some(())
        });
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        if let Some(daemon) = &self.daemon {
            let _ = kill(Pid::from_raw(daemon.id().cast_signed()), Signal::SIGCONT);
        }
        if self.program == "podman" {
            // Its containers are not child processes.
            let _ =
                self.inside("podman").args(&self.arguments[..2]).args(["rm", "--all", "--force", "-t", "0"]).output();
        }
        self.stop();
        if self.program == "podman" {
            self.end_monitors();
        }
        if let Some(containerd) = &mut self.containerd {
            let _ = kill(Pid::from_raw(containerd.id().cast_signed()), Signal::SIGTERM);
            let _ = containerd.wait();
        }
        let _ = self.space.kill();
        let _ = self.space.wait();
    }
}
