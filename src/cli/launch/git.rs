//! The repositories of a launch: finds the host keys that the user's ssh knows, checks the keys of repositories, finds the ssh
//! agent that has one, and says in the summary what may be pushed where.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use data_encoding::{BASE64, BASE64_NOPAD};
use sha2::{Digest, Sha256};

use crate::cli::failure::input;
use crate::host::{Limits, ask_agent, output};
use crate::net::RepositoryUrl;
use crate::plan::{LaunchPlan, RepositoryPlan};
use crate::session::Failure;
use crate::sidecar::git_gate::ssh_agent::{ask_identities, lists, public_key};

/// Limits of `ssh-keygen -F`.
const LIMITS: Limits = Limits { time: Duration::from_secs(10), bytes: 1 << 20 };
/// Maximum size of a private key's file, in bytes.
const MAX_KEY: usize = 64 << 10;

/// The variable that names the ssh agent's socket (ssh-agent(1)), and how long the agent may take to list its keys.
const AGENT: &str = "SSH_AUTH_SOCK";
const LISTED: Duration = Duration::from_secs(10);

/// Fills in host keys that the manifest leaves to the user's `known_hosts`, and the ssh agent of public keys; checks the keys.
///
/// # Errors
/// A host is not known, or a key cannot be read, has a passphrase, or is in no agent.
pub(in crate::cli) fn settle(plan: &mut LaunchPlan) -> Result<(), Failure> {
    for repository in plan.git.iter_mut().flat_map(|git| &mut git.repositories) {
        let Ok(RepositoryUrl::Ssh(url)) = RepositoryUrl::parse(&repository.url) else { continue };
        let bad = |why: String| input(format!("git: {}: {why}", repository.name));
        if let Some(file) = &repository.identity_file {
            let found = identity(file)
                .map_err(|(why, hint)| bad(format!("identity_file: {}: {why}", file.display())).hint(hint))?;
            repository.agent = found;
        }
        if repository.known_host_key.is_none() {
            let name = if url.port == 22 { url.host.clone() } else { format!("[{}]:{}", url.host, url.port) };
            let found = known(&name).map_err(|why| {
                bad(why).hint(format!("compare the host's key with what it publishes, and add it: known_host_key: \"$(ssh-keyscan -p {} -t ed25519 {} | cut -d' ' -f2-)\"", url.port, url.host))
            })?;
            repository.known_host_key = Some(found);
        }
    }
    Ok(())
}

/// Checks that a key can be used by a program that nobody answers: a private one, or a public one of which an ssh agent has the
/// private one; returns that agent's socket. An error has what to do.
fn identity(file: &Path) -> Result<Option<PathBuf>, (String, &'static str)> {
    const MAKE: &str = "ssh-keygen -t ed25519 -N '' -f FILE, and add FILE.pub to the repository as a deploy key";
    let content = std::fs::read(file).map_err(|error| (error.to_string(), MAKE))?;
    if content.len() > MAX_KEY {
        return Err(("it is too large for a key".to_owned(), MAKE));
    }
    let text = String::from_utf8_lossy(&content);
    let Some(key) = public_key(&text) else {
        return usable(&text).map(|()| None).map_err(|why| (why.to_owned(), MAKE));
    };
    let socket = std::env::var_os(AGENT).filter(|socket| !socket.is_empty()).map(PathBuf::from);
    in_agent(socket, &key)
        .map(Some)
        .map_err(|why| (why, "ssh-add FILE, without .pub; or name a private key without a passphrase"))
}

/// The socket of the agent, if it has the private key of a public one.
fn in_agent(socket: Option<PathBuf>, key: &[u8]) -> Result<PathBuf, String> {
    let socket = socket.ok_or_else(|| format!("it is a public key, and no ssh agent runs ({AGENT} is not set)"))?;
    let answer = ask_agent(&socket, &ask_identities(), LISTED)
        .map_err(|error| format!("it is a public key; ask the ssh agent at {}: {error}", socket.display()))?;
    if lists(&answer, key) {
        Ok(socket)
    } else {
        Err("it is a public key, and your ssh agent does not have the private one".to_owned())
    }
}

/// Whether the text of a key is a private one without a passphrase (OpenSSH's PROTOCOL.key; RFC 7468, RFC 1421).
fn usable(text: &str) -> Result<(), &'static str> {
    const PASSPHRASE: &str = "it has a passphrase, and the gate could not ask for it";
    let mut lines = text.trim().lines();
    let first = lines.next().unwrap_or_default();
    if !first.starts_with("-----BEGIN ") || !first.ends_with("PRIVATE KEY-----") {
        return Err("it is neither a private nor a public key");
    }
    let encrypted = first.contains("ENCRYPTED") || text.contains("\nProc-Type: 4,ENCRYPTED");
    if encrypted {
        return Err(PASSPHRASE);
    }
    if first.contains("OPENSSH") {
        let body: String = lines.take_while(|line| !line.starts_with('-')).collect();
        let bytes = BASE64.decode(body.as_bytes()).map_err(|_| "it is damaged")?;
        // `openssh-key-v1\0`, then the cipher's name with its length.
        if bytes.get(15..23) != Some(b"\0\0\0\x04none") {
            return Err(PASSPHRASE);
        }
    }
    Ok(())
}

/// The keys of a host in the user's `known_hosts`, as ssh finds them, names that are hashed included.
fn known(host: &str) -> Result<String, String> {
    let mut command = Command::new("ssh-keygen");
    command.args(["-F", host]);
    let found = output(&mut command, LIMITS).map_err(|error| format!("run ssh-keygen -F {host}: {error}"))?;
    let keys = keys(&String::from_utf8_lossy(&found.stdout));
    if keys.is_empty() { Err(format!("your known_hosts does not have {host}")) } else { Ok(keys.join("\n")) }
}

/// The keys in lines of `known_hosts` (sshd(8)). Those that are revoked, wherever it says so, are left out, and so are
/// authorities.
fn keys(lines: &str) -> Vec<String> {
    fn key(line: &str) -> Option<String> {
        let mut words = line.split_whitespace();
        let (_, kind, key) = (words.next()?, words.next()?, words.next()?);
        Some(format!("{kind} {key}"))
    }
    let revoked: Vec<String> = lines.lines().filter_map(|line| key(line.strip_prefix("@revoked ")?)).collect();
    let plain = lines.lines().filter(|line| !line.starts_with(['#', '@'])).filter_map(key);
    plain.filter(|key| !revoked.contains(key)).collect()
}

/// The fingerprint of a public key, as ssh-keygen(1) shows it.
fn fingerprint(key: &str) -> String {
    let body = key.split_whitespace().nth(1).unwrap_or_default();
    let bytes = BASE64.decode(body.as_bytes()).unwrap_or_default();
    format!("SHA256:{}", BASE64_NOPAD.encode(&Sha256::digest(&bytes)))
}

/// The lines of the summary, each with its label.
pub(in crate::cli) fn lines(plan: &LaunchPlan) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    for repository in plan.git.iter().flat_map(|git| &git.repositories) {
        lines.push(("git", format!("{}: {}{}", repository.name, repository.url, with(repository))));
        let terms = &repository.terms;
        let list = |words: &[String]| if words.is_empty() { "none".to_owned() } else { words.join(", ") };
        let force = if terms.force { ", which MAY BE REWRITTEN" } else { "" };
        let tags = if terms.tags.is_empty() { String::new() } else { format!("; tags {}", list(&terms.tags)) };
        let free = if terms.protected.is_empty() { "; NO PATH IS PROTECTED" } else { "" };
        lines.push(("", format!("  may be pushed: branches {}{force}{tags}{free}", list(&terms.branches))));
        for key in repository.known_host_key.iter().flat_map(|keys| keys.lines()) {
            let kind = key.split_whitespace().next().unwrap_or_default();
            lines.push(("", format!("  host key {kind} {}", fingerprint(key))));
        }
    }
    lines
}

fn with(repository: &RepositoryPlan) -> String {
    match (&repository.credential, &repository.identity_file) {
        (Some(name), _) => format!(", with the credential {name}"),
        (None, Some(file)) if repository.agent.is_some() => {
            format!(", with the key {} of your ssh agent, which signs the gate's logins", file.display())
        }
        (None, Some(file)) => format!(", with {}, which only the gate has", file.display()),
        (None, None) => ", without a credential".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_from_known_hosts() {
        let text = "# Host a.example found: line 1\n|1|x=|y= ssh-ed25519 AAAAC3\n@revoked a.example ssh-rsa AAAAB3\na.example ssh-rsa AAAAB4 comment\na.example ssh-rsa AAAAB3\n";
        assert_eq!(keys(text), ["ssh-ed25519 AAAAC3", "ssh-rsa AAAAB4"]);
    }

    #[test]
    fn a_key_that_needs_an_answer_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, more: &[&str]| {
            let file = folder.path().join(name);
            let mut command = Command::new("ssh-keygen");
            command.args(["-q", "-t", "ed25519", "-f"]).arg(&file).args(more);
            assert!(output(&mut command, LIMITS).unwrap().status.success());
            std::fs::read_to_string(file).unwrap()
        };
        assert_eq!(usable(&make("free", &["-N", ""])), Ok(()));
        assert!(usable(&make("locked", &["-N", "a passphrase"])).unwrap_err().contains("passphrase"));
        let legacy = folder.path().join("legacy");
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "rsa", "-m", "PEM", "-N", "a passphrase", "-f"]).arg(&legacy);
        assert!(output(&mut command, LIMITS).unwrap().status.success());
        assert!(usable(&std::fs::read_to_string(legacy).unwrap()).unwrap_err().contains("passphrase"));
        assert!(usable("ssh-ed25519 AAAA").unwrap_err().contains("neither"));
    }

    #[test]
    fn a_public_key_needs_an_agent_that_has_the_private_one() {
        let folder = tempfile::tempdir().unwrap();
        assert!(in_agent(None, b"key").unwrap_err().contains("no ssh agent runs"));
        let why = in_agent(Some(folder.path().join("none")), b"key").unwrap_err();
        assert!(why.contains("ask the ssh agent at"), "{why}");
    }
}
