//! Images for tests, built from Debian's packages, and removed from the engine afterwards.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::registry;

/// The newest image with only bottler's executable. An agent's image has the same repository, and an account label;
/// another test may be building one.
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

/// A Debian with HTTP clients in several languages, git, databases and the real Claude Code: see
/// `tests/support/root`. It stays on the engine until the run of all tests ends, so that it is imported once.
pub struct Debian;

/// Its name on the engine.
pub const DEBIAN: &str = "bottler-test:debian";
/// The version of what `tests/support/root` builds.
const VERSION: u32 = 3;
/// The version of what `tests/support/root-aider` builds.
const AIDER_VERSION: u32 = 1;

/// One test imports it while the others wait.
static IMPORTING: Mutex<()> = Mutex::new(());

impl Debian {
    /// Imports the image, unless the engine has it.
    pub fn import() -> Self {
        let _turn = IMPORTING.lock().unwrap_or_else(PoisonError::into_inner);
        // An earlier run may have left an older version.
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

    /// Imports the Debian with aider, under a name; see `tests/support/root-aider`.
    pub fn import_aider(name: &str) {
        let root = File::open(made("root-aider", AIDER_VERSION)).unwrap();
        let mut import = Command::new("docker");
        assert!(import.args(["import", "-", name]).stdin(root).stdout(Stdio::null()).status().unwrap().success());
    }

    /// Its root as an archive; built only if no earlier run did.
    pub fn archive() -> PathBuf {
        made("root", VERSION)
    }
}

/// The root that a script beside this file makes, as an archive.
fn made(script: &str, version: u32) -> PathBuf {
    let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let archive = here.join(format!("target/debian/{script}-{version}.tar"));
    if !archive.exists() {
        registry::fetch(Command::new(here.join("tests/support").join(script)).arg(&archive));
    }
    archive
}

/// The files of git in that root.
const GIT: [&str; 6] = [
    "./usr/bin/git",
    "./usr/lib/git-core",
    "./usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so*",
    "./usr/lib/x86_64-linux-gnu/libc.so*",
    "./usr/lib/x86_64-linux-gnu/libpcre2-8.so*",
    "./usr/lib/x86_64-linux-gnu/libz.so*",
];
/// Names under which git is started, each with git's own subcommand for it.
const PROGRAMS: [(&str, &str); 3] =
    [("git", ""), ("git-upload-pack", "upload-pack"), ("git-receive-pack", "receive-pack")];

/// A folder with a git that supports reftables (2.45): this machine's own, or that of the tests' Debian, which runs
/// unpacked, with its own loader. `None` if there is neither.
pub fn newer_git() -> Option<PathBuf> {
    let _turn = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let knows = |git: &Path| {
        let said = Command::new(git).arg("version").output().ok()?.stdout;
        let text = String::from_utf8_lossy(&said).into_owned();
        let mut numbers = text.split([' ', '.']).skip(2).map_while(|word| word.trim().parse::<u32>().ok());
        Some((numbers.next()?, numbers.next()?) >= (2, 45))
    };
    let path = std::env::var_os("PATH")?;
    let own = std::env::split_paths(&path).find(|folder| folder.join("git").exists())?;
    if knows(&own.join("git")) == Some(true) {
        return Some(own);
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian");
    let (archive, made) = (folder.join(format!("root-{VERSION}.tar")), folder.join(format!("git-{VERSION}")));
    if !archive.exists() {
        return None;
    }
    let programs = made.join("bin");
    if knows(&programs.join("git")) != Some(true) {
        let _ = std::fs::remove_dir_all(&made);
        std::fs::create_dir_all(&programs).unwrap();
        let mut tar = Command::new("tar");
        let unpacked = tar.arg("-C").arg(&made).arg("-xf").arg(&archive).arg("--wildcards").args(GIT).status().unwrap();
        assert!(unpacked.success());
        // Scripts such as `git submodule` start programs of this folder.
        for entry in std::fs::read_dir(made.join("usr/lib/git-core")).unwrap() {
            let entry = entry.unwrap();
            let is_part = entry.file_name().to_string_lossy().starts_with("git-sh-");
            if is_part || std::fs::read(entry.path()).is_ok_and(|text| text.starts_with(b"#!")) {
                std::fs::copy(entry.path(), programs.join(entry.file_name())).unwrap();
            }
        }
        let (libraries, git) = (made.join("usr/lib/x86_64-linux-gnu"), made.join("usr/bin/git"));
        for (name, word) in PROGRAMS {
            let script = format!(
                "#!/bin/sh\nexec '{}/ld-linux-x86-64.so.2' --argv0 git --library-path '{}' '{}' --exec-path='{}' {word} \"$@\"\n",
                libraries.display(),
                libraries.display(),
                git.display(),
                programs.display()
            );
            std::fs::write(programs.join(name), script).unwrap();
            std::fs::set_permissions(programs.join(name), PermissionsExt::from_mode(0o755)).unwrap();
        }
        assert_eq!(knows(&programs.join("git")), Some(true), "{}", programs.display());
    }
    Some(programs)
}

static MAKING: Mutex<()> = Mutex::new(());

/// The name of an image with Debian's static busybox.
pub const BUSYBOX: &str = "bottler-test:busybox";

/// That image, with nothing else in it and hostile metadata; removed when dropped. Tests of one file run in parallel
/// and share the image, so they take turns.
pub struct Busybox(#[expect(dead_code, reason = "held")] MutexGuard<'static, ()>);

static TURN: Mutex<()> = Mutex::new(());

impl Busybox {
    pub fn import() -> Self {
        Self::hostile(&[])
    }

    /// The same, with further metadata.
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
