//! Images for tests, made of Debian's packages; the engine is left without them.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

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

/// A Debian with clients of HTTP in several languages, git, databases and the real Claude Code: see `tests/support/root`. It
/// stays on the engine until the run of all tests ends, so that each of them need not import it.
pub struct Debian;

/// Its name on the engine.
pub const DEBIAN: &str = "bottler-test:debian";
/// Of what `tests/support/root` makes.
const VERSION: u32 = 2;

/// One test imports it, and those beside it wait.
static IMPORTING: Mutex<()> = Mutex::new(());

impl Debian {
    /// Sees to it that the engine has the image.
    pub fn import() -> Self {
        let _turn = IMPORTING.lock().unwrap_or_else(PoisonError::into_inner);
        // One that an earlier run left may be older than this file.
        let version = ["image", "inspect", "--format", "{{.Config.Labels.version}}", DEBIAN];
        let here = Command::new("docker").args(version).output().unwrap();
        if String::from_utf8_lossy(&here.stdout).trim() != VERSION.to_string() {
            let mut import = Command::new("docker");
            import.args(["import", "--change", "CMD [\"/usr/local/bin/start-postgres\"]", "--change"]);
            import.args([&format!("LABEL version={VERSION}"), "-", DEBIAN]);
            let root = File::open(Self::archive()).unwrap();
            assert!(import.stdin(root).stdout(Stdio::null()).status().unwrap().success());
        }
        Self
    }

    /// Its root, as an archive; made where no run before has made it.
    pub fn archive() -> PathBuf {
        let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let archive = here.join(format!("target/debian/root-{VERSION}.tar"));
        if !archive.exists() {
            let made = Command::new(here.join("tests/support/root")).arg(&archive).output().unwrap();
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        }
        archive
    }
}

static MAKING: Mutex<()> = Mutex::new(());

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
