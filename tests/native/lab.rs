//! The engine itself, without a bottle: containers of a test's own image, whose programs are tests of this binary.
//!
//! A test here has three parts, by name: `x`, which runs `lab_x` as root and as an ordinary user; that one, which drives the engine;
//! and `inside::y`, which runs in a container and says what it could do. The last two are ignored otherwise.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bottler::engine::labels::{Identity, Kind};
use bottler::engine::native::NativeEngine;
use bottler::engine::{ContainerSpec, Engine, ExecSpec, ImageLayer, Output, Resources, Streams};
use futures_util::StreamExt;

use crate::world::{Who, World};

/// The attackers' executable in a container.
pub const ATTACKER: &str = "/attacker";
/// The container's user.
pub const USER: u32 = 1000;
/// How long a call may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a lab's test as root and as an ordinary user, each with a store of its own; nothing is left.
pub fn as_everybody(test: &str) {
    for who in Who::BOUNDED {
        run_as(who, test);
    }
}

/// Runs a lab's test as one of them.
pub fn run_as(who: Who, test: &str) {
    let world = World::new(who);
    let done = world.test(test);
    assert_eq!(done.code, 0, "{who:?} {}{}", done.stdout, done.stderr);
    assert!(done.stdout.contains("1 passed"), "{who:?}: there is no test {test}: {}", done.stdout);
    world.wait_clean();
}

/// An entry of an image's archive.
pub enum Entry<'a> {
    Folder(&'a str, u32),
    File(&'a str, &'a [u8]),
    Link(&'a str, &'a str),
    /// A file with an extended attribute, as PAX archives have them.
    Attribute(&'a str, &'a str, &'a str),
}

/// An engine with its store in the world's folder.
pub struct Lab {
    pub engine: NativeEngine,
    pub folder: PathBuf,
}

impl Lab {
    /// None where nobody asked for one.
    pub fn new() -> Option<Self> {
        let Some(folder) = std::env::var_os("BOTTLER_TEST_WORLD").map(PathBuf::from) else {
            println!("run by another test");
            return None;
        };
        let store = folder.join(".local/share/bottler/native");
        let engine = NativeEngine::open(&format!("native:{}", store.display())).unwrap();
        Some(Self { engine: engine.with_executable(folder.join("bottler")), folder })
    }

    /// Makes an image with this binary, a home and what else is said.
    pub async fn image(&self, tag: &str, more: &[Entry<'_>]) -> Result<(), bottler::engine::EngineError> {
        let mut tar = tar::Builder::new(Vec::new());
        let own = std::fs::read("/proc/self/exe").unwrap();
        add(&mut tar, &Entry::File(ATTACKER.trim_start_matches('/'), &own));
        for entry in [Entry::Folder("home", USER), Entry::Folder("tmp", USER)].iter().chain(more) {
            add(&mut tar, entry);
        }
        let tar = tar.into_inner().unwrap().into();
        self.engine.image_layer(&ImageLayer { tag: tag.into(), base: None, tar, labels: BTreeMap::new() }).await
    }

    /// A container whose command is an attacker.
    pub fn container(name: &str, image: &str, attack: &str) -> ContainerSpec {
        let identity = Identity {
            session: "lab-00000".into(),
            owner: "lab".into(),
            seq: 1,
            kind: Kind::Agent,
            role: None,
            uses: [].into(),
        };
        let resources = Resources { cpus: 1.0, memory: 512 << 20, pids: 64 };
        let user = format!("{USER}:{USER}");
        ContainerSpec {
            read_only: false,
            workdir: "/home".into(),
            stdin: true,
            ..ContainerSpec::closed(name.into(), image.into(), words(attack), user, resources, identity)
        }
    }

    /// Runs a container to its end: what it said.
    pub async fn run(&self, spec: &ContainerSpec) -> String {
        let id = self.engine.container_create(spec).await.unwrap();
        let streams = self.engine.container_attach(&id).await.unwrap();
        self.engine.container_start(&id).await.unwrap();
        let said = said(streams).await;
        tokio::time::timeout(PATIENCE, self.engine.container_wait(&id, true)).await.unwrap().unwrap();
        said
    }

    /// Runs an attacker beside a container's command: what it said.
    pub async fn exec(&self, id: &str, attack: &str, tty: bool) -> String {
        let spec = ExecSpec { tty, ..ExecSpec::plain(words(attack)) };
        let (_, streams) = tokio::time::timeout(PATIENCE, self.engine.exec(id, &spec)).await.unwrap().unwrap();
        said(streams).await
    }

    /// A file or folder of a container, as the names in the archive with their contents.
    pub async fn download(&self, id: &str, path: &str) -> Result<BTreeMap<String, String>, String> {
        let mut tar = Vec::new();
        let why = |error: bottler::engine::EngineError| format!("{:?}: {error}", error.kind);
        let mut pieces = self.engine.container_download(id, path).await.map_err(why)?;
        while let Some(piece) = pieces.next().await {
            tar.extend_from_slice(&piece.map_err(why)?);
        }
        let mut archive = tar::Archive::new(tar.as_slice());
        let read = |entry: std::io::Result<tar::Entry<'_, _>>| {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().display().to_string();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut entry, &mut content).unwrap();
            let content = match entry.link_name().unwrap() {
                Some(target) => format!("-> {}", target.display()),
                None => String::from_utf8_lossy(&content).into_owned(),
            };
            (name, content)
        };
        Ok(archive.entries().unwrap().map(read).collect())
    }

    /// A container's first process, and its shim, of which that is a child.
    pub fn processes(&self, id: &str) -> (i32, i32) {
        let file = self.folder.join(format!(".local/share/bottler/native/containers/{id}/first.json"));
        let first: i32 = std::fs::read_to_string(file).unwrap().trim().parse().unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{first}/stat")).unwrap();
        (first, stat.rsplit(") ").next().unwrap().split(' ').nth(1).unwrap().parse().unwrap())
    }

    pub async fn remove(&self, id: &str) {
        tokio::time::timeout(PATIENCE, self.engine.container_remove(id)).await.unwrap().unwrap();
    }
}

/// Waits until something is so.
pub async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited too long for {what}"));
}

/// The command line of a test of this binary in a container.
pub fn words(attack: &str) -> Vec<String> {
    let words = [ATTACKER, "--exact", attack, "--ignored", "--nocapture", "--test-threads=1"];
    words.map(str::to_owned).into()
}

/// All that comes out of a container.
async fn said(mut streams: Streams) -> String {
    let mut all = Vec::new();
    let read = async {
        while let Some(piece) = streams.output.next().await {
            let (Output::Stdout(bytes) | Output::Stderr(bytes)) = piece.unwrap();
            all.extend_from_slice(&bytes);
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap();
    String::from_utf8_lossy(&all).into_owned()
}

fn add(tar: &mut tar::Builder<Vec<u8>>, entry: &Entry<'_>) {
    let mut header = tar::Header::new_gnu();
    let owner = if let Entry::Folder(_, owner) = entry { *owner } else { 0 };
    header.set_uid(owner.into());
    header.set_gid(owner.into());
    // The container's own are everybody's: some of its users are another one.
    header.set_mode(if owner == 0 { 0o755 } else { 0o777 });
    header.set_size(0);
    match entry {
        Entry::Folder(path, _) => {
            header.set_entry_type(tar::EntryType::Directory);
            tar.append_data(&mut header, format!("{path}/"), std::io::empty()).unwrap();
        }
        Entry::File(path, content) => {
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, *content).unwrap();
        }
        Entry::Link(path, to) => {
            header.set_entry_type(tar::EntryType::Symlink);
            tar.append_link(&mut header, path, to).unwrap();
        }
        Entry::Attribute(path, key, value) => {
            let key = format!("SCHILY.xattr.{key}");
            tar.append_pax_extensions([(key.as_str(), value.as_bytes())]).unwrap();
            tar.append_data(&mut header, path, std::io::empty()).unwrap();
        }
    }
}
