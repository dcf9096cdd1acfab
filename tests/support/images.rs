//! Images for tests, made of Debian's packages; the engine is left without them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

/// The newest image that holds bottler's executable and nothing else. An agent's has the same repository, and a label of its
/// account; another test may be making one.
pub fn bottlers_own() -> String {
    let docker = |arguments: &[&str]| {
        let output = Command::new("docker").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let all = docker(&["images", "bottler", "--format", "{{.Repository}}:{{.Tag}}"]);
    let account = "{{index .Config.Labels \"dev.bottler.account\"}}|";
    let own = |image: &&str| docker(&["image", "inspect", "--format", account, image]).trim() == "|";
    all.lines().find(own).expect("a bottle was launched before").to_owned()
}

/// A Debian with `PostgreSQL` and Redis, servers and clients; gone with the value, and with it what was built on it.
pub struct Debian;

/// Its name on the engine.
pub const DEBIAN: &str = "bottler-test:debian";

/// The packages of the images; an archive's name has a number that changes with what is in it.
const PACKAGES: &str = "postgresql-15,postgresql-client-15,redis-server,redis-tools";
const ARCHIVE: &str = "debian-1.tar";
const CLIENTS_PACKAGES: &str = "ca-certificates,curl,git,nginx-light,node-undici,nodejs,python3-h2,python3-httpx,\
    python3-pip,python3-requests,python3-websockets";
const CLIENTS_ARCHIVE: &str = "clients-1.tar";

/// What the official image of `PostgreSQL` does at its start, in short.
const ENTRYPOINT: &str = r#"#!/bin/sh
set -e
PATH="$PATH:/usr/lib/postgresql/15/bin"
if ! [ -s "$PGDATA/PG_VERSION" ]; then
  printf %s "$POSTGRES_PASSWORD" > /tmp/password
  initdb --no-sync --auth scram-sha-256 --pwfile /tmp/password -D "$PGDATA" > /dev/null
  rm /tmp/password
fi
exec postgres -D "$PGDATA" -c listen_addresses=127.0.0.1 -c fsync=off -k /tmp
"#;

impl Debian {
    pub fn import() -> Self {
        let hooks = Path::new(env!("CARGO_TARGET_TMPDIR")).join("start-postgres");
        std::fs::write(&hooks, ENTRYPOINT).unwrap();
        let steps = [
            format!("--customize-hook=copy-in {} /usr/local/bin", hooks.display()),
            "--customize-hook=chmod 755 $1/usr/local/bin/start-postgres".to_owned(),
            "--customize-hook=chroot $1 install -d -o postgres -g postgres -m 700 /var/lib/postgresql/data".to_owned(),
        ];
        import(&archive(ARCHIVE, PACKAGES, &steps), "CMD [\"/usr/local/bin/start-postgres\"]", DEBIAN);
        Self
    }
}

impl Drop for Debian {
    fn drop(&mut self) {
        remove(DEBIAN);
    }
}

/// A Debian with clients of HTTP in several languages, and a server; gone with the value.
pub struct Clients;

/// Its name on the engine.
pub const CLIENTS: &str = "bottler-test:clients";

impl Clients {
    pub fn import() -> Self {
        import(&Self::archive(), "CMD [\"/bin/sh\"]", CLIENTS);
        Self
    }

    /// Its root, as an archive.
    pub fn archive() -> PathBuf {
        archive(CLIENTS_ARCHIVE, CLIENTS_PACKAGES, &[])
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        remove(CLIENTS);
    }
}

/// A Debian with git and Python, and with the real Claude Code, which is in a wheel of Anthropic's on `PyPI`. Tests that run
/// side by side share it; gone with the last of them.
pub struct Agents;

/// Its name on the engine.
pub const AGENTS: &str = "bottler-test:agents";

const AGENTS_PACKAGES: &str = "ca-certificates,curl,git,procps,python3";
const AGENTS_ARCHIVE: &str = "agents-1.tar";
const CLAUDE_WHEEL: &str = "claude-agent-sdk==0.2.189";

static AGENTS_HERE: Mutex<Weak<Agents>> = Mutex::new(Weak::new());

impl Agents {
    pub fn import() -> Arc<Self> {
        let mut here = AGENTS_HERE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agents) = here.upgrade() {
            return agents;
        }
        let claude = claude();
        let steps = [
            format!("--customize-hook=copy-in {} /usr/local/bin", claude.display()),
            "--customize-hook=chmod 755 $1/usr/local/bin/claude".to_owned(),
        ];
        import(&archive(AGENTS_ARCHIVE, AGENTS_PACKAGES, &steps), "CMD [\"/bin/sh\"]", AGENTS);
        let agents = Arc::new(Self);
        *here = Arc::downgrade(&agents);
        agents
    }
}

impl Drop for Agents {
    fn drop(&mut self) {
        remove(AGENTS);
    }
}

/// The program, out of its wheel.
fn claude() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wheel");
    let program = folder.join("claude_agent_sdk/_bundled/claude");
    if !program.exists() {
        std::fs::create_dir_all(&folder).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).current_dir(&folder).output().unwrap();
            assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        run("python3", &["-m", "pip", "download", "--quiet", "--no-deps", CLAUDE_WHEEL]);
        let unpack =
            "import glob, zipfile\nzipfile.ZipFile(glob.glob('*.whl')[0]).extract('claude_agent_sdk/_bundled/claude')";
        run("python3", &["-c", unpack]);
        run("sh", &["-c", "rm *.whl"]);
    }
    program
}

fn import(archive: &Path, change: &str, name: &str) {
    let mut import = Command::new("docker");
    import.args(["import", "--change", change, "-", name]);
    let status = import.stdin(File::open(archive).unwrap()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success());
}

fn remove(name: &str) {
    let _ = Command::new(super::process::bottler()).args(["gc", "--cache"]).output();
    let _ = Command::new("docker").args(["rmi", "-f", name]).output();
}

/// The name on the engine of an image with Debian's static busybox.
pub const BUSYBOX: &str = "bottler-test:busybox";

/// That image, with nothing else in it, hostile in its metadata; gone with the value.
/// Tests of one file run side by side, and the image is one: they take turns.
pub struct Busybox(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

static TURN: Mutex<()> = Mutex::new(());

impl Busybox {
    pub fn import() -> Self {
        Self::hostile(&[])
    }

    /// The same, with more to say of itself.
    pub fn hostile(more: &[&str]) -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let root = tempfile::tempdir().unwrap();
        let bin = root.path().join("bin");
        for folder in ["bin", "etc", "tmp", "proc", "sys", "dev"] {
            std::fs::create_dir(root.path().join(folder)).unwrap();
        }
        std::fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for applet in ["sh", "cat", "env", "id", "sleep", "stat", "test", "touch", "echo", "grep", "wget", "base64"] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let tar = Command::new("tar").arg("-C").arg(root.path()).args(["-c", "."]).output().unwrap();
        let changes = [
            "ENTRYPOINT [\"/bin/false\"]",
            "CMD [\"--never\"]",
            "USER 0",
            "WORKDIR /proc",
            "ENV LD_PRELOAD=/evil.so HTTP_PROXY=http://evil:1",
            "LABEL dev.bottler.session=another",
            "HEALTHCHECK --interval=1s CMD touch /healthcheck-ran",
        ];
        let mut import = Command::new("docker");
        import.arg("import");
        for change in changes.iter().chain(more) {
            import.args(["--change", change]);
        }
        let mut child = import.args(["-", BUSYBOX]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
        assert!(child.wait().unwrap().success());
        Self(turn)
    }
}

impl Drop for Busybox {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rmi", "-f", BUSYBOX]).output();
    }
}

/// Tests of several files may make the same archive at once.
static MAKING: Mutex<()> = Mutex::new(());

/// A root of Debian's packages as an archive, made once and kept with what cargo builds.
fn archive(name: &str, packages: &str, steps: &[String]) -> PathBuf {
    let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let path = folder.join(name);
    if path.exists() {
        return path;
    }
    let unfinished = folder.join(format!("unfinished-{}-{name}", std::process::id()));
    let made = Command::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase"])
        .arg(format!("--include={packages}"))
        .args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"])
        .args(["--dpkgopt=path-exclude=/usr/share/locale/*"])
        .args(steps)
        .arg("bookworm")
        .arg(&unfinished)
        .output()
        .expect("mmdebstrap is installed");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::rename(unfinished, &path).unwrap();
    path
}
