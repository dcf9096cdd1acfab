//! A destination for one test: a container on a bottle's outside network, under host names that egress resolves.

use std::path::Path;
use std::process::Command;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

/// A running destination, removed when dropped.
pub struct Origin(String);

impl Drop for Origin {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", "-v", &self.0]).output();
    }
}

pub fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

impl Origin {
    /// Runs a command in an image, with a folder at `/origin`, beside a bottle whose egress has started.
    pub fn start(bottle: &str, hosts: &[&str], image: &str, folder: &Path, command: &[&str]) -> Self {
        let name = format!("{bottle}-origin");
        let network = format!("{bottle}-outside");
        let mut create = vec!["create", "--name", &name, "--network", &network];
        for host in hosts {
            create.extend(["--network-alias", host]);
        }
        create.push(image);
        docker(&[&create, command].concat());
        let origin = Self(name);
        docker(&["cp", &folder.display().to_string(), &format!("{}:/origin", origin.0)]);
        docker(&["start", &origin.0]);
        origin
    }

    /// A script that starts one beside a bottle while that is launched, and ends when its output has `ready`; with the
    /// origin to be, which is removed when dropped.
    pub fn script(
        bottle: &str,
        hosts: &[&str],
        image: &str,
        folder: &Path,
        command: &str,
        ready: &str,
    ) -> (Self, String) {
        let name = format!("{bottle}-origin");
        let aliases: Vec<String> = hosts.iter().map(|host| format!("--network-alias {host}")).collect();
        let script = format!(
            "#!/bin/sh -e
wait_until() {{ until \"$@\" > /dev/null 2>&1; do sleep 0.02; done; }}
is_up() {{ [ \"$(docker inspect -f '{{{{.State.Running}}}}' {bottle}-egress)\" = true ]; }}
is_ready() {{ docker logs {name} 2>&1 | grep -q {ready}; }}
# An address can only be given once egress has its own.
wait_until is_up
docker create --name {name} --network {bottle}-outside {} {image} {command}
docker cp {} {name}:/origin
docker start {name}
wait_until is_ready
",
            aliases.join(" "),
            folder.display()
        );
        (Self(name), script)
    }

    /// Runs a shell command in it; returns its output.
    pub fn exec(&self, command: &str) -> String {
        docker(&["exec", &self.0, "sh", "-c", command])
    }

    /// Its output so far.
    pub fn log(&self) -> String {
        let output = Command::new("docker").args(["logs", &self.0]).output().unwrap();
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}

/// Creates a CA with the certificate `root.pem`, and a certificate for some hosts: `leaf.pem`, `leaf.key`.
pub fn certificates(folder: &Path, hosts: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(folder.join("root.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let leaf = CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
    std::fs::write(folder.join("leaf.pem"), leaf.pem()).unwrap();
    std::fs::write(folder.join("leaf.key"), key.serialize_pem()).unwrap();
}
