//! Opens a conversation with an upstream's `git-upload-pack` or `git-receive-pack`. This is the only place that uses a
//! repository's key; git itself has neither key nor network.
//!
//! Attacks that this stops: a host with another key than the pinned one; a control socket, a configuration of ssh's or an
//! agent that brings in other keys (the gate's own has one); a server that asks for a password.

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::io::BufReader;
use tokio::process::Command;

use super::config::{Config, Repository};
use super::conversation::{Conversation, PIPE, Service, Task, Trouble};
use super::git::read_message;
use super::key_agent::{KeyAgent, Signatures};
use super::request::Http;
use super::{tunnel, upstream_http};
use crate::net::{RepositoryUrl, SshUrl};
use crate::sidecar::place::Uplink;

/// The name under which the pinned key is known to ssh, whatever address it connects to.
const ALIAS: &str = "upstream";
/// How long ssh may take to connect, in seconds.
const CONNECT: u8 = 20;

/// How an upstream is reached.
pub(super) struct Target {
    /// Its address.
    pub(super) upstream: RepositoryUrl,
    /// The value of `Authorization`, for HTTP.
    authorization: Option<String>,
    /// The way out, if it is egress.
    outward: Option<Uplink>,
    ssh: PathBuf,
    identity: Option<PathBuf>,
    /// Signs with the identity, where the private key is not here.
    agent: Option<Arc<KeyAgent>>,
    known_hosts: PathBuf,
}

impl Target {
    /// Reads how a repository is reached; writes its key and the host's into a folder.
    ///
    /// # Errors
    /// The address is malformed, or something that it needs is missing.
    pub(super) fn new(
        config: &Config,
        repository: &Repository,
        folder: &Path,
        signatures: &Arc<Signatures>,
    ) -> anyhow::Result<Self> {
        let upstream = RepositoryUrl::parse(&repository.url)?;
        let known_hosts = folder.join("known_hosts");
        let (mut identity, mut agent) = (None, None);
        if let RepositoryUrl::Ssh(_) = upstream {
            let keys = repository.known_host_key.as_deref().context("an ssh upstream needs its host's key")?;
            let lines = keys.lines().filter(|line| !line.trim().is_empty());
            private(&known_hosts, &lines.flat_map(|line| [ALIAS, " ", line.trim(), "\n"]).collect::<String>())?;
            let (name, key) = match (&repository.identity, &repository.public) {
                (Some(key), None) => ("identity", key),
                (None, Some(key)) => {
                    agent = Some(Arc::new(KeyAgent::listen(folder, &repository.name, key, signatures)?));
                    ("identity.pub", key)
                }
                _ => bail!("an ssh upstream needs an identity: a private key, or a public one"),
            };
            let file = folder.join(name);
            private(&file, &format!("{}\n", key.trim_end()))?;
            identity = Some(file);
        }
        let (ssh, outward) = (config.programs.ssh.clone(), config.outward.clone());
        let authorization = repository.authorization.clone();
        Ok(Self { upstream, authorization, outward, ssh, identity, agent, known_hosts })
    }

    /// Opens a conversation, in protocol v2 where a service has one.
    ///
    /// # Errors
    /// The upstream cannot be reached.
    pub(super) async fn open(&self, service: Service) -> anyhow::Result<Conversation> {
        match &self.upstream {
            RepositoryUrl::Ssh(address) => self.open_ssh(address, service).await,
            RepositoryUrl::Http(url) => {
                upstream_http::open(url, self.authorization.clone(), self.outward.as_ref(), service).await
            }
        }
    }

    /// Opens a connection for requests beside git's own.
    ///
    /// # Errors
    /// The upstream cannot be reached, or not over HTTP.
    pub(super) async fn http(&self) -> anyhow::Result<Http> {
        match &self.upstream {
            RepositoryUrl::Http(url) => Http::open(url, self.authorization.clone(), self.outward.as_ref()).await,
            RepositoryUrl::Ssh(_) => bail!("it is reached over ssh only"),
        }
    }

    async fn open_ssh(&self, address: &SshUrl, service: Service) -> anyhow::Result<Conversation> {
        let (host, port, tunnel) = match &self.outward {
            Some(outward) => {
                let (local, task) = tunnel::listen(&outward.proxy, &address.host, address.port).await?;
                (local.ip().to_string(), local.port(), Some(task))
            }
            None => (address.host.clone(), address.port, None),
        };
        let mut command = Command::new(&self.ssh);
        command.env_clear().env("GIT_PROTOCOL", "version=2").env("LC_ALL", "C").kill_on_drop(true).process_group(0);
        command.args(["-F", "/dev/null", "-T", "-x", "-a", "-p", &port.to_string(), "-l", &address.user]);
        for option in [
            "BatchMode=yes",
            "IdentitiesOnly=yes",
            "PreferredAuthentications=publickey",
            "StrictHostKeyChecking=yes",
            "GlobalKnownHostsFile=/dev/null",
            "UpdateHostKeys=no",
            "CheckHostIP=no",
            "ClearAllForwardings=yes",
            "ControlMaster=no",
            "ControlPath=none",
            "PermitLocalCommand=no",
            "EscapeChar=none",
            "ServerAliveInterval=15",
            "SendEnv=GIT_PROTOCOL",
            "LogLevel=ERROR",
        ] {
            command.args(["-o", option]);
        }
        command.args(["-o", &format!("ConnectTimeout={CONNECT}"), "-o", &format!("HostKeyAlias={ALIAS}")]);
        command.args(["-o", &format!("UserKnownHostsFile={}", self.known_hosts.display())]);
        let agent = self.agent.as_ref().map_or_else(|| "none".to_owned(), |agent| agent.socket.display().to_string());
        command.args(["-o", &format!("IdentityAgent={agent}")]);
        if let Some(identity) = &self.identity {
            command.args(["-o", &format!("IdentityFile={}", identity.display())]);
        }
        // The path has no quotes; the server's shell reads it as one word.
        command.args(["--", &host, &format!("{} '{}'", service.name(), address.path)]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("run {}", self.ssh.display()))?;
        let (stdin, stdout) = (child.stdin.take().context("no pipe")?, child.stdout.take().context("no pipe")?);
        let trouble = Trouble::default();
        let (told, errors, place) = (trouble.clone(), child.stderr.take(), address.host.clone());
        let agent = self.agent.clone();
        let task = crate::task::spawn(async move {
            let message = read_message(errors).await;
            let ended = child.wait().await.is_ok_and(|status| status.success());
            let unsigned = agent.map(|agent| agent.trouble()).unwrap_or_default();
            told.set(match (ended, unsigned.as_str()) {
                (true, _) => String::new(),
                (false, "") => explain(&place, &message),
                (false, why) => format!("{place}: this repository's key did not sign: {why}"),
            });
            drop(tunnel);
        });
        let reader = Box::new(BufReader::with_capacity(PIPE, stdout));
        Ok(Conversation { reader, writer: Box::new(stdin), trouble, _task: Task(task) })
    }
}

/// What ssh's message means for who pushes.
fn explain(host: &str, message: &str) -> String {
    let last = message.lines().last().unwrap_or_default();
    if message.contains("Host key verification failed") {
        return format!("{host} has another key than the pinned one; the operator must check known_host_key");
    }
    if message.contains("Permission denied") {
        return format!("{host} does not accept this repository's key ({last})");
    }
    format!("{host}: {last}")
}

/// Writes a file that only this user can read.
fn private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::io::Write;
    let what = || format!("write {}", path.display());
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let file = file.as_mut().map_err(|error| anyhow::anyhow!("{}: {error}", what()))?;
    file.set_permissions(PermissionsExt::from_mode(0o600))?;
    file.write_all(text.as_bytes()).with_context(what)
}
