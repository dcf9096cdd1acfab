//! Builds the image of the running executable. Its tag is derived from its content.

use std::collections::BTreeSet;
use std::path::Path;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::base::{ACCOUNT, BaseFiles, HOME};
use super::digest::Memory;
use super::programs::{self, ProgramFile};
use crate::engine::labels::CACHE;
use crate::engine::{EngineInfo, ImageLayer};
use crate::host::loadable;
use crate::layout::EXECUTABLE;
use crate::layout::agent::{BUNDLE_FILE, OWN_BUNDLE};
use crate::layout::agent::{DEFAULT_HOME, WORKSPACE};
use crate::layout::sidecar::{SERVICE_DIR, USER};
use crate::layout::supervise::POLICY_DIR;
use crate::layout::{git_gate, pair};
use crate::primitive::account::Account;

/// Hexadecimal digits of the content's digest in the tag.
const DIGITS: usize = 16;
/// The version of [`layer`]'s content; change it with everything else that the layer contains.
const LAYOUT: &[u8] = b"layout 9";
/// The running executable.
const OWN: &str = "/proc/self/exe";
/// The usual user and group of an agent in an image from scratch.
pub(in crate::primitive) const AGENT: Account = Account { user: 1000, group: 1000 };
const SIDECAR: Account = Account { user: USER, group: USER };
const ROOT: Account = Account { user: 0, group: 0 };

/// What an agent's image gets in addition to the executable.
#[derive(Clone, Copy)]
pub(in crate::primitive) struct AgentLayer<'a> {
    /// The agent's account.
    pub(in crate::primitive) account: Account,
    /// The agent's home.
    pub(in crate::primitive) home: &'a str,
    /// Files of the image.
    pub(in crate::primitive) seen: &'a BaseFiles,
}

/// The image below the executable.
pub(in crate::primitive) enum Base {
    /// None: the image of the sidecars and of the agent `probe`.
    Scratch {
        /// The agent's account.
        agent: Account,
    },
    /// None, but with git and ssh of this machine: the image of the git gate.
    Programs,
    /// An agent's own image, or one with git and ssh.
    Image {
        /// Its id.
        id: String,
        /// The agent's user, as in the plan.
        user: String,
    },
}

impl Base {
    /// The image's name in a Dockerfile's `FROM`.
    fn from(&self) -> &str {
        match self {
            Self::Scratch { .. } | Self::Programs => "scratch",
            Self::Image { id, .. } => id,
        }
    }
}

/// The running executable, prepared for an image.
pub(in crate::primitive) struct SelfImage {
    /// Its content, if it had to be read.
    executable: Option<Vec<u8>>,
    mode: u32,
    base: Base,
    programs: Vec<ProgramFile>,
    /// The image's reference.
    pub(in crate::primitive) tag: String,
}

impl SelfImage {
    /// Finds the image's reference. `digest` is that of the running executable, where the engine knows it; `state` is the state
    /// directory, which remembers it otherwise.
    ///
    /// # Errors
    /// The executable cannot be read, or is not for this engine.
    pub(in crate::primitive) fn find(
        engine: &EngineInfo,
        base: Base,
        gvisor: bool,
        digest: Option<String>,
        state: Option<&Path>,
    ) -> anyhow::Result<Self> {
        let ours = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        anyhow::ensure!(
            engine.os == "linux" && engine.arch == ours,
            "this executable is for linux/{ours}, the engine runs {}/{}",
            engine.os,
            engine.arch
        );
        let memory = state.filter(|_| digest.is_none()).and_then(|state| Memory::of(state, Path::new(OWN)));
        let (content, executable) = if let Some(content) = digest.or_else(|| memory.as_ref()?.recall()) {
            (content, None)
        } else {
            let executable = loadable(Path::new(OWN))?;
            let content = HEXLOWER.encode(&Sha256::digest(&executable));
            if let Some(memory) = memory {
                memory.keep(&content);
            }
            (content, Some(executable))
        };
        // Executable but not readable, so that the kernel does not let the agent trace it, even before it disables
        // that itself (prctl(2), PR_SET_DUMPABLE). gVisor must read what it executes, and does so without the
        // capability to override this.
        let mode = if gvisor { 0o555 } else { 0o111 };
        let programs = match base {
            Base::Programs => programs::git_and_ssh()?,
            Base::Scratch { .. } | Base::Image { .. } => Vec::new(),
        };
        let mut digest = Sha256::new();
        digest.update(LAYOUT);
        if let Base::Programs = base {
            digest.update(programs::stamp(&programs)?);
        }
        digest.update(u32::to_le_bytes(mode));
        digest.update(base.from());
        let user = match &base {
            Base::Image { user, .. } => Some(user.clone()),
            Base::Scratch { agent } => Some(agent.to_string()),
            Base::Programs => None,
        };
        if let Some(user) = user {
            digest.update([0]);
            digest.update(user);
            digest.update([0]);
        }
        digest.update(content);
        let hex = HEXLOWER.encode(&digest.finalize());
        Ok(Self { executable, mode, base, programs, tag: format!("bottler:{}", &hex[..DIGITS]) })
    }

    /// Creates the layer.
    ///
    /// # Errors
    /// The executable cannot be read.
    pub(in crate::primitive) fn layer(&self, on: Option<AgentLayer<'_>>) -> anyhow::Result<ImageLayer> {
        let agent = match self.base {
            Base::Scratch { agent } => agent,
            Base::Programs | Base::Image { .. } => AGENT,
        };
        let tar = match &self.executable {
            Some(executable) => layer(executable, self.mode, agent, on, &self.programs)?,
            None => layer(&loadable(Path::new(OWN))?, self.mode, agent, on, &self.programs)?,
        };
        let account = on.map(|on| (ACCOUNT.to_owned(), on.account.to_string()));
        let home = on.map(|on| (HOME.to_owned(), on.home.to_owned()));
        let labels = [(CACHE.to_owned(), "self".to_owned())].into_iter().chain(account).chain(home);
        let base = match &self.base {
            Base::Scratch { .. } | Base::Programs => None,
            Base::Image { id, .. } => Some(id.clone()),
        };
        Ok(ImageLayer { tag: self.tag.clone(), base, tar: Bytes::from(tar), labels: labels.collect() })
    }
}

/// Creates the layer's archive. An agent's own image keeps its users and their homes. It gets the executable, a home
/// or a link to it, an account for the agent if there is none, and a link from its certificate bundle to the one that
/// includes the bottle's CA.
fn layer(
    executable: &[u8],
    mode: u32,
    agent: Account,
    on: Option<AgentLayer<'_>>,
    programs: &[ProgramFile],
) -> anyhow::Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::with_capacity(executable.len() + (64 << 10)));
    append(&mut tar, EXECUTABLE.trim_start_matches('/'), executable, mode)?;
    folder(&mut tar, "home", ROOT, 0o755)?;
    let owner = on.map_or(agent, |on| on.account);
    match on.map(|on| on.home).filter(|home| *home != DEFAULT_HOME) {
        None => folder(&mut tar, DEFAULT_HOME.trim_start_matches('/'), owner, 0o700)?,
        Some(home) => {
            folder(&mut tar, home.trim_start_matches('/'), owner, 0o755)?;
            // Plans are made before the image is known, so their files go to the default home.
            link(&mut tar, DEFAULT_HOME, home)?;
        }
    }
    folder(&mut tar, WORKSPACE.trim_start_matches('/'), owner, 0o755)?;
    match on {
        None => scratch(&mut tar, agent, programs)?,
        Some(AgentLayer { account, seen, .. }) => {
            // The image may run as any user, which must be able to create its sockets here. The folder is the
            // sidecar's own volume.
            folder(&mut tar, SERVICE_DIR.trim_start_matches('/'), ROOT, 0o777)?;
            let (passwd, groups) = account.in_files(&seen.passwd, &seen.groups);
            append(&mut tar, "etc/passwd", passwd.as_bytes(), 0o644)?;
            append(&mut tar, "etc/group", groups.as_bytes(), 0o644)?;
            let (place, own) = &seen.bundle;
            append(&mut tar, OWN_BUNDLE.trim_start_matches('/'), own.as_bytes(), 0o644)?;
            link(&mut tar, place, BUNDLE_FILE)?;
        }
    }
    Ok(tar.into_inner()?)
}

fn scratch(tar: &mut tar::Builder<Vec<u8>>, agent: Account, programs: &[ProgramFile]) -> std::io::Result<()> {
    let others = [(0, "root"), (USER, "sidecar")].into_iter().filter(|(id, _)| *id != agent.user);
    let lines: Vec<String> = others.map(|(id, name)| format!("{name}:x:{id}:{id}:{name}:/:/sbin/nologin\n")).collect();
    let (passwd, group) = agent.in_files(&lines.concat(), &format!("root:x:0:\nsidecar:x:{USER}:\n"));
    for (path, owner, mode) in [
        ("etc", ROOT, 0o755),
        ("run", ROOT, 0o755),
        ("tmp", ROOT, 0o1777),
        ("usr", ROOT, 0o755),
        (SERVICE_DIR.trim_start_matches('/'), SIDECAR, 0o755),
        (POLICY_DIR.trim_start_matches('/'), SIDECAR, 0o755),
    ] {
        folder(tar, path, owner, mode)?;
    }
    folder(tar, pair::DIR.trim_start_matches('/'), ROOT, 0o755)?;
    for number in 1..=pair::MAX {
        folder(tar, pair::folder(number).trim_start_matches('/'), SIDECAR, 0o700)?;
    }
    append(tar, "etc/passwd", passwd.as_bytes(), 0o644)?;
    append(tar, "etc/group", group.as_bytes(), 0o644)?;
    for path in [git_gate::KEYS, git_gate::STATE] {
        folder(tar, path.trim_start_matches('/'), SIDECAR, 0o700)?;
    }
    let mut folders = BTreeSet::new();
    for file in programs {
        let parents: Vec<&Path> = file.to.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
        for parent in parents.into_iter().rev() {
            if folders.insert(parent) {
                folder(tar, &parent.to_string_lossy(), ROOT, 0o755)?;
            }
        }
        append(tar, &file.to.to_string_lossy(), &std::fs::read(&file.from)?, 0o755)?;
    }
    Ok(())
}

fn link(tar: &mut tar::Builder<Vec<u8>>, path: &str, to: &str) -> std::io::Result<()> {
    let mut link = header(0, ROOT, 0o777);
    link.set_entry_type(tar::EntryType::Symlink);
    tar.append_link(&mut link, path.trim_start_matches('/'), to)
}

fn folder(tar: &mut tar::Builder<Vec<u8>>, path: &str, owner: Account, mode: u32) -> std::io::Result<()> {
    let mut header = header(0, owner, mode);
    header.set_entry_type(tar::EntryType::Directory);
    tar.append_data(&mut header, format!("{path}/"), std::io::empty())
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
    tar.append_data(&mut header(content.len() as u64, ROOT, mode), path, content)
}

fn header(size: u64, owner: Account, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_uid(owner.user.into());
    header.set_gid(owner.group.into());
    header.set_mode(mode);
    // A fixed date, so that the same executable makes the same image.
    header.set_mtime(0);
    header
}
