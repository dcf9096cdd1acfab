//! Engines as users have them: over TLS, over ssh, from a context, Podman's; and a newer Docker on request.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::engine::PrivateEngine;
use crate::support::process::{World, recipe, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

/// The bound of promise 12.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// The probe passes, a holder's death is noticed, and nothing is left.
fn works(world: &World) {
    let done = world.run(&["run", "probe", "--format", "json"]);
    assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
    assert!(done.json()["lines"].as_array().unwrap().iter().all(|line| line["ok"] == true));
    world.assert_clean();

    let done = world.run(&["run", "probe", "--recipe", &recipe("idle.lua"), "--detach"]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    for pid in world.processes("holder") {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    world.wait_gone(TEN_SECONDS);
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
}

/// Creates an authority with certificates for the engine at 127.0.0.1 and for a client.
fn certify(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    write(&folder.join("ca.pem"), &params.self_signed(&key).unwrap().pem());
    let authority = Issuer::new(params, key);
    for (name, usage) in
        [("server", ExtendedKeyUsagePurpose::ServerAuth), ("client", ExtendedKeyUsagePurpose::ClientAuth)]
    {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        write(&folder.join(format!("{name}.pem")), &params.signed_by(&key, &authority).unwrap().pem());
        write(&folder.join(format!("{name}-key.pem")), &key.serialize_pem());
    }
    // The file names that the docker command expects.
    std::fs::copy(folder.join("client.pem"), folder.join("cert.pem")).unwrap();
    std::fs::copy(folder.join("client-key.pem"), folder.join("key.pem")).unwrap();
}

#[test]
fn an_engine_is_reached_by_tls_with_certificates_and_by_a_context() {
    let made = tempfile::tempdir().unwrap();
    certify(made.path());
    let engine = PrivateEngine::with_tls(&format!("cp {}/* $1", made.path().display()), 2376);
    let certificates = engine.folder().to_string_lossy().into_owned();
    let mut world = World::on(&engine.endpoint());
    // The test's own commands use the engine's socket; bottler runs in the engine's network and uses its port.
    world.through = engine.through();
    let remote = |variables: &[(&str, &str)]| -> Vec<(String, String)> {
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let host = ("DOCKER_HOST", "tcp://127.0.0.1:2376");
    world.env = remote(&[host, ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &certificates)]);
    works(&world);

    // Another authority, and no client certificate.
    let strange = tempfile::tempdir().unwrap();
    certify(strange.path());
    for (folder, without, words) in
        [(strange.path(), "", "invalid peer certificate"), (made.path(), "cert.pem", "Certificate")]
    {
        let _ = std::fs::remove_file(folder.join(if without.is_empty() { "none" } else { without }));
        world.env = remote(&[host, ("DOCKER_TLS_VERIFY", "1"), ("DOCKER_CERT_PATH", &folder.to_string_lossy())]);
        let done = world.run(&["ps"]);
        assert_eq!(done.code(), 121, "{}", done.stderr);
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }

    // A context, created by the docker command itself.
    let config = tempfile::tempdir().unwrap();
    let file = |name: &str| engine.folder().join(name).display().to_string();
    let place =
        format!("host=tcp://127.0.0.1:2376,ca={},cert={},key={}", file("ca.pem"), file("cert.pem"), file("key.pem"));
    let mut docker = Command::new("docker");
    docker.env("DOCKER_CONFIG", config.path()).args(["context", "create", "far", "--docker", &place]);
    assert!(docker.output().unwrap().status.success());
    world.env =
        remote(&[("DOCKER_HOST", ""), ("DOCKER_CONTEXT", "far"), ("DOCKER_CONFIG", &config.path().to_string_lossy())]);
    let done = world.run(&["run", "probe"]);
    assert_eq!(done.code(), 0, "{}", done.stderr);
}

/// sshd on a loopback port, for the user that runs the test; ended when dropped.
struct Sshd {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Sshd {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).display().to_string();
        for name in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            assert!(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &file(name)]).status().unwrap().success());
        }
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             PermitRootLogin yes\nUsePAM no\nPasswordAuthentication no\n",
            file("host"),
            file("user.pub")
        );
        std::fs::write(file("sshd_config"), config).unwrap();
        let host = std::fs::read_to_string(file("host.pub")).unwrap();
        std::fs::write(file("known_hosts"), format!("[127.0.0.1]:{port} {host}")).unwrap();
        // ssh takes the home from /etc/passwd for its configuration; this one belongs to the test.
        let own =
            format!("IdentityFile {}\nIdentitiesOnly yes\nUserKnownHostsFile {}\n", file("user"), file("known_hosts"));
        std::fs::write(file("ssh_config"), own).unwrap();
        let ssh = format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", file("ssh_config"));
        std::fs::write(file("ssh"), ssh).unwrap();
        std::fs::set_permissions(file("ssh"), PermissionsExt::from_mode(0o755)).unwrap();
        // sshd's privilege separation directory (sshd(8)).
        let _ = std::fs::create_dir_all("/run/sshd");
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", &file("sshd_config")]);
        sshd.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = sshd.spawn().expect("openssh-server is installed");
        wait_for("sshd", || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        Self { child, folder, port }
    }

    fn path(&self) -> String {
        format!("{}:{}", self.folder.path().display(), std::env::var("PATH").unwrap())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn an_engine_is_reached_by_ssh() {
    let sshd = Sshd::start();
    let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
    let address = format!("ssh://{user}@127.0.0.1:{}", sshd.port);
    let mut world = World::new();
    world.env = vec![("DOCKER_HOST".into(), address), ("PATH".into(), sshd.path())];
    works(&world);

    // The error contains ssh's own message; here, that the key is unknown.
    std::fs::write(sshd.folder.path().join("user.pub"), "").unwrap();
    let done = world.run(&["ps"]);
    assert_eq!(done.code(), 121, "{}", done.stderr);
    assert!(done.stderr.contains("Permission denied"), "{}", done.stderr);
}

#[test]
fn podman_is_an_engine() {
    let engine = PrivateEngine::podman();
    let world = World::on(&engine.endpoint());
    works(&world);
    let done = world.run(&["run", "probe", "--isolation", "bridge"]);
    assert_eq!(done.code(), 120, "{}", done.stderr);
    assert!(done.stderr.contains("cannot be proved on Podman"), "{}", done.stderr);
}

/// Debian's newest Docker, 28.5 when this was written. Its root file system is a download of several hundred
/// megabytes.
#[test]
#[ignore = "downloads a Debian: tests/run all"]
fn a_newer_docker_is_an_engine_sealed_and_on_a_network() {
    let engine = PrivateEngine::newest();
    let world = World::on(&engine.endpoint());
    works(&world);
    let done = world.run(&["run", "probe", "--isolation", "bridge", "--set-rp-filter", "--format", "json"]);
    assert_eq!(done.code(), 0, "{}{}", done.stdout, done.stderr);
    let data = done.json();
    let lines = data["lines"].as_array().unwrap();
    let line =
        |attempt: &str| lines.iter().find(|line| line["attempt"].as_str().unwrap().starts_with(attempt)).unwrap();
    assert_eq!(line("received on the host")["happened"], "nothing");
    println!(
        "{}",
        world
            .docker()
            .args(["version", "--format", "{{.Server.Version}}"])
            .output()
            .map(|it| String::from_utf8_lossy(&it.stdout).into_owned())
            .unwrap()
    );
    println!("{lines:#?}\n{}", data["times"]);
}
