//! A workspace in its first form: files that go into a volume before the agent starts, and what it made of them,
//! read after its end, in this process, as a patch. Nothing of it is ever unpacked on the host.

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use similar::TextDiff;

use super::image::self_image;
use super::self_image::EXECUTABLE;
use super::{Agent, Bottle};
use crate::engine::labels::Kind;
use crate::engine::{ContainerSpec, Resources, VolumeMount};
use crate::plan::WORKSPACE;
use crate::session::{Class, Failure};

/// Most that a workspace may hold, in bytes.
pub const MAX_BYTES: usize = 64 << 20;
/// Most files that it may hold.
pub const MAX_FILES: usize = 20_000;
/// Lines around a change in a patch.
const CONTEXT: usize = 3;

/// Files by their paths below the workspace.
pub type Files = BTreeMap<String, WorkspaceFile>;

/// A file of a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum WorkspaceFile {
    /// A regular file.
    Regular {
        /// What is in it, in base64 where it is written down.
        #[serde(with = "base64")]
        content: Vec<u8>,
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link to this.
    Link(String),
}

mod base64 {
    use data_encoding::BASE64;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&BASE64.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(from)?.as_bytes()).map_err(serde::de::Error::custom)
    }
}

/// An archive of the files, the agent's own, for a container that has never run.
pub(super) fn pack(files: &Files, (user, group): (u64, u64)) -> std::io::Result<Bytes> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, file) in files {
        let mut header = tar::Header::new_gnu();
        header.set_uid(user);
        header.set_gid(group);
        header.set_mtime(0);
        let path = format!("{}/{path}", WORKSPACE.trim_start_matches('/'));
        for (end, _) in path.match_indices('/').skip(1) {
            let mut folder = header.clone();
            folder.set_entry_type(tar::EntryType::Directory);
            folder.set_size(0);
            folder.set_mode(0o755);
            tar.append_data(&mut folder, &path[..=end], std::io::empty())?;
        }
        match file {
            WorkspaceFile::Regular { content, executable } => {
                header.set_size(content.len() as u64);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                tar.append_data(&mut header, &path, content.as_slice())?;
            }
            WorkspaceFile::Link(target) => {
                header.set_size(0);
                header.set_entry_type(tar::EntryType::Symlink);
                tar.append_link(&mut header, &path, target)?;
            }
        }
    }
    tar.into_inner().map(Bytes::from)
}

/// Reads an archive of the workspace: regular files and links; everything else, and `.git`, is passed over.
fn unpack(archive: &[u8]) -> std::io::Result<Files> {
    let mut files = Files::new();
    let root = WORKSPACE.trim_start_matches('/');
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().into_owned();
        let Some(path) = path.strip_prefix(root).and_then(|path| path.strip_prefix('/')) else { continue };
        let path = path.trim_matches('/').to_owned();
        if path.is_empty() || path.split('/').any(|part| part == ".git" || part == "..") {
            continue;
        }
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let executable = entry.header().mode()? & 0o111 != 0;
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            files.insert(path, WorkspaceFile::Regular { content, executable });
        } else if kind.is_symlink() {
            let target = entry.link_name()?.unwrap_or_default().to_string_lossy().into_owned();
            files.insert(path, WorkspaceFile::Link(target));
        }
        if files.len() > MAX_FILES {
            return Err(std::io::Error::other(format!("there are more than {MAX_FILES} files")));
        }
    }
    Ok(files)
}

/// What the agent left in its workspace, once it has ended; `None` where it has none.
///
/// # Errors
/// The engine refuses, or there is more than the bounds allow.
pub async fn collect(bottle: &Arc<Bottle>, agent: &Agent) -> Result<Option<Files>, Failure> {
    let Some(volume) = agent.workspace.clone() else { return Ok(None) };
    // A container that never starts: nothing runs while the files are read.
    let identity = bottle.intend(Kind::Sidecar, &bottle.name("workspace-reader"), None)?;
    let engine = &bottle.session.engine;
    let spec = ContainerSpec {
        name: bottle.name("workspace-reader"),
        image: self_image(bottle, None).get().await?.tag.clone(),
        command: vec![EXECUTABLE.into(), "idle".into()],
        env: BTreeMap::new(),
        user: agent.config.user.clone(),
        workdir: "/".into(),
        hostname: "workspace-reader".into(),
        hosts: Vec::new(),
        networks: Vec::new(),
        mounts: vec![VolumeMount { volume, target: WORKSPACE.into(), read_only: true }],
        tmpfs: BTreeMap::new(),
        read_only: true,
        tty: false,
        stdin: false,
        auto_remove: false,
        resources: Resources { cpus: 1.0, memory: 64 << 20, pids: 8 },
        identity,
    };
    let id = engine.container_create(&spec).await?;
    let mut pieces = engine.container_download(&id, WORKSPACE).await?;
    let mut archive = Vec::new();
    while let Some(piece) = pieces.next().await {
        archive.extend_from_slice(&piece?);
        if archive.len() > MAX_BYTES {
            let message = format!("read the workspace of {}: it is larger than {MAX_BYTES} bytes", bottle.session.id);
            return Err(Failure::new(Class::Operation, message));
        }
    }
    engine.container_remove(&id).await?;
    let files = unpack(&archive);
    files.map(Some).map_err(|error| {
        Failure::new(Class::Operation, format!("read the workspace of {}: {error}", bottle.session.id))
    })
}

/// The changes from one state to another, in git's form of a unified diff. What cannot be written so, binary files
/// and names with control characters, is named in lines before the first change, which `git apply` passes over.
pub fn patch(before: &Files, after: &Files) -> String {
    let (mut not_written, mut text) = (String::new(), String::new());
    let mut paths: Vec<&String> = before.keys().chain(after.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    for path in paths {
        let (old, new) = (before.get(path), after.get(path));
        if old == new {
            continue;
        }
        match change(path, old, new) {
            Some(change) => text.push_str(&change),
            None => not_written.push_str(&format!("# not in this patch: {path:?}, which is no text\n")),
        }
    }
    not_written + &text
}

fn change(path: &str, old: Option<&WorkspaceFile>, new: Option<&WorkspaceFile>) -> Option<String> {
    if path.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
        return None;
    }
    // A file that becomes a link, or the other way round, is removed and made anew, as git has it.
    if let (Some(from), Some(to)) = (old, new)
        && mode(from)[..3] != mode(to)[..3]
    {
        return Some(change(path, old, None)? + &change(path, None, new)?);
    }
    let mut text = format!("diff --git a/{path} b/{path}\n");
    match (old.map(mode), new.map(mode)) {
        (None, Some(mode)) => text.push_str(&format!("new file mode {mode}\n")),
        (Some(mode), None) => text.push_str(&format!("deleted file mode {mode}\n")),
        (Some(from), Some(to)) if from != to => text.push_str(&format!("old mode {from}\nnew mode {to}\n")),
        _ => {}
    }
    let (before, after) = (lines(old)?, lines(new)?);
    if before != after {
        // A name with a space ends at the tab.
        let tab = if path.contains(' ') { "\t" } else { "" };
        let side = |there: bool, letter: char| {
            if there { format!("{letter}/{path}{tab}") } else { "/dev/null".to_owned() }
        };
        let (from, to) = (side(old.is_some(), 'a'), side(new.is_some(), 'b'));
        let diff = TextDiff::from_lines(before, after);
        text.push_str(&diff.unified_diff().context_radius(CONTEXT).header(&from, &to).to_string());
    }
    Some(text)
}

fn mode(file: &WorkspaceFile) -> &'static str {
    match file {
        WorkspaceFile::Regular { executable: false, .. } => "100644",
        WorkspaceFile::Regular { executable: true, .. } => "100755",
        WorkspaceFile::Link(_) => "120000",
    }
}

fn lines(file: Option<&WorkspaceFile>) -> Option<&str> {
    match file {
        None => Some(""),
        Some(WorkspaceFile::Link(target)) => Some(target),
        Some(WorkspaceFile::Regular { content, .. }) => std::str::from_utf8(content).ok().filter(|t| !t.contains('\0')),
    }
}
