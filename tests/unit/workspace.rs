//! A workspace is copied, changed and fetched, with the real git and without an engine: the test unpacks and packs
//! the archives as a bottle's container does.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bottler::workspace::{
    Fetched, Name, PullOptions, PullReport, Seed, Snapshot, changes, copy, list, outstanding, patch, pull, read_at,
    shown,
};
use tempfile::TempDir;

use crate::support::images::newer_git;

mod killed;
mod names;
mod shapes;
mod tables;

/// git without the machine's settings, hooks or editor; a newer one if the repository needs that.
fn git_command(folder: &Path) -> Command {
    let newer = if has_tables(folder) { newer_git() } else { None };
    let mut command = Command::new(newer.map_or_else(|| "git".into(), |programs| programs.join("git")));
    command.current_dir(folder).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    for (name, value) in [("AUTHOR", "2026-01-01T00:00:00Z"), ("COMMITTER", "2026-01-01T00:00:00Z")] {
        command.env(format!("GIT_{name}_NAME"), "a").env(format!("GIT_{name}_EMAIL"), "a@b.example");
        command.env(format!("GIT_{name}_DATE"), value);
    }
    command.args(["-c", "protocol.file.allow=always", "-c", "init.defaultBranch=main", "-c", "gc.auto=0"]);
    command
}

/// Whether a repository may have reftables. A worktree does not tell.
fn has_tables(folder: &Path) -> bool {
    let dots = folder.ancestors().map(|folder| folder.join(".git"));
    let dot = dots.into_iter().find(|dot| dot.exists());
    dot.is_some_and(|dot| dot.is_file() || dot.join("reftable").exists())
}

fn try_git(folder: &Path, arguments: &[&str]) -> Result<Vec<u8>, String> {
    let output = git_command(folder).args(arguments).stdin(Stdio::null()).output().unwrap();
    if output.status.success() { Ok(output.stdout) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

fn git(folder: &Path, arguments: &[&str]) -> String {
    let said =
        try_git(folder, arguments).unwrap_or_else(|why| panic!("git {arguments:?} in {}: {why}", folder.display()));
    String::from_utf8_lossy(&said).trim_end().to_owned()
}

fn write(folder: &Path, path: impl AsRef<OsStr>, content: impl AsRef<[u8]>) {
    let path = folder.join(Path::new(path.as_ref()));
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

fn commit(folder: &Path, message: &str) {
    git(folder, &["add", "-A"]);
    git(folder, &["commit", "-q", "--allow-empty", "-m", message]);
}

/// A user's folder, and a bottle created from it.
struct World {
    folder: PathBuf,
    /// Removes the folder, if this world owns it.
    _made: Option<TempDir>,
}

impl World {
    fn new() -> Self {
        let made = tempfile::tempdir().unwrap();
        let world = Self { folder: made.path().to_owned(), _made: Some(made) };
        std::fs::create_dir(world.user()).unwrap();
        git(&world.user(), &["init", "-q"]);
        world
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn user(&self) -> PathBuf {
        self.at("user")
    }

    /// The agent's workspace.
    fn agents(&self) -> PathBuf {
        self.at("workspace")
    }

    /// Copies the user's folder, as a launch does.
    fn launch(&self) {
        self.launch_of(&self.user()).unwrap();
    }

    fn launch_of(&self, folder: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(self.at("staging"))?;
        copy(folder, &[], &self.at("staging"), &self.at("seed.tar"))?;
        assert_eq!(std::fs::read_dir(self.at("staging")).unwrap().count(), 0, "nothing is left in between");
        std::fs::create_dir_all(self.agents())?;
        let mut tar = tar::Archive::new(std::fs::File::open(self.at("seed.tar"))?);
        tar.set_preserve_mtime(true);
        tar.unpack(self.agents())
    }

    fn before(&self) -> Snapshot {
        Seed::Archive(self.at("seed.tar")).read().unwrap()
    }

    /// Packs the agent's workspace, as an engine does.
    fn left(&self) -> Snapshot {
        let path = self.at("left.tar");
        let done = Command::new("tar")
            .args(["--format=pax", "-cf"])
            .arg(&path)
            .arg("-C")
            .arg(&self.folder)
            .arg("workspace")
            .output()
            .unwrap();
        assert!(done.status.success(), "{done:?}");
        read_at(&path, "/workspace", Some(&self.before())).unwrap()
    }

    fn pull_as(&self, branch: &str, earlier: Option<&str>, filters: bool) -> Result<PullReport, String> {
        let staging = tempfile::tempdir_in(&self.folder).unwrap();
        let (before, left, user) = (self.before(), self.left(), self.user());
        let order = PullOptions {
            bottle: "b",
            before: &before,
            after: &left,
            repository: &user,
            branch,
            earlier,
            staging: staging.path(),
            filters,
            cancelled: &|| false,
        };
        pull(&order).map_err(|error| error.to_string())
    }

    fn pull(&self) -> PullReport {
        self.pull_as("p", None, false).unwrap()
    }

    /// The difference between the user's commit and the fetched one, by path: `M a`.
    fn changed(&self, pulled: &PullReport) -> String {
        git(&self.user(), &["diff-tree", "-r", "--name-status", "--no-renames", "HEAD", &pulled.commit])
    }
}

#[test]
fn a_submodule_a_sparse_checkout_and_names_of_any_bytes_stay_as_they_are() {
    let world = World::new();
    let (user, lib) = (world.user(), world.at("lib"));
    std::fs::create_dir(&lib).unwrap();
    git(&lib, &["init", "-q"]);
    write(&lib, "l", "l\n");
    commit(&lib, "lib");
    for path in ["main.txt", "a/f", "b/f", "c/f"] {
        write(&user, path, "1\n");
    }
    write(&user, OsStr::from_bytes(b"name \xff\xfe"), "1\n");
    git(&user, &["submodule", "--quiet", "add", lib.to_str().unwrap(), "vendor/lib"]);
    commit(&user, "one");
    git(&user, &["sparse-checkout", "set", "--cone", "a", "vendor"]);
    assert!(!user.join("b").exists());
    let inside = world.at("user/nested");
    std::fs::create_dir(&inside).unwrap();
    git(&inside, &["init", "-q"]);
    commit(&inside, "nested");
    let omitted = list(&user, &[]).unwrap().omitted;
    let omitted: Vec<_> = omitted.iter().map(|(name, what)| (shown(name), *what)).collect();
    assert_eq!(omitted, [("nested".to_owned(), "a repository of its own"), ("vendor/lib".to_owned(), "a submodule")]);
    world.launch();
    let agents = world.agents();
    assert_eq!(git(&agents, &["status", "--short"]), "", "the agent's git sees no change");
    write(&agents, "main.txt", "1\n2\n");
    write(&agents, OsStr::from_bytes(b"name \xff\xfe"), "2\n");
    write(&agents, "a/f", "2\n");
    write(&agents, "a/temporary", "x\n");
    write(&agents, "c/elsewhere", "kept\n");
    git(&agents, &["add", "--sparse", "a/temporary", "c/elsewhere"]);
    git(&agents, &["commit", "-qam", "mine"]);
    std::fs::remove_file(agents.join("a/f")).unwrap();
    std::fs::remove_file(agents.join("a/temporary")).unwrap();
    std::fs::remove_dir_all(agents.join("c")).unwrap();
    write(&agents, OsStr::from_bytes(b"new\n\xfe"), "new\n");
    write(&agents, "vendor/lib/mine", "x\n");
    let before = git(&user, &["status", "--short"]);
    let pulled = world.pull();
    let skipped: Vec<String> = pulled.skipped.iter().map(|(name, _)| shown(name)).collect();
    assert_eq!(skipped, ["vendor/lib/mine"], "and it is said");
    assert_eq!(
        world.changed(&pulled),
        "D\ta/f\nA\tc/elsewhere\nM\tmain.txt\nM\t\"name \\377\\376\"\nA\t\"new\\n\\376\""
    );
    assert_eq!(git(&user, &["status", "--short"]), before);
    git(&user, &["fsck", "--strict"]);
}

#[test]
fn filters_line_ends_and_modes_that_the_agent_did_not_touch_stay_and_the_rest_goes_through_the_rules() {
    let world = World::new();
    let user = world.user();
    write(
        &user,
        ".gitattributes",
        "*.key filter=secret\n*.bin filter=lfs\n*.first filter=other\n*.txt text eol=crlf\n",
    );
    git(&user, &["config", "filter.secret.clean", "tr a-z n-za-m"]);
    git(&user, &["config", "filter.secret.smudge", "tr a-z n-za-m"]);
    git(&user, &["config", "filter.secret.required", "true"]);
    git(&user, &["config", "core.fileMode", "false"]);
    for name in ["a.key", "b.key"] {
        write(&user, name, "secret\n");
    }
    write(&user, "big.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n");
    write(&user, "crlf.txt", "one\r\n");
    write(&user, "edited.txt", "one\r\n");
    write(&user, "plain", "x\n");
    write(&user, "run", "#!/bin/sh\n");
    git(&user, &["add", "."]);
    git(&user, &["update-index", "--chmod=+x", "run"]);
    git(&user, &["commit", "-qm", "one"]);
    assert_eq!(git(&user, &["show", "HEAD:a.key"]), "frperg");
    // LFS has replaced the pointer in the working tree, and git was told that the file is unchanged.
    write(&user, "big.bin", "big");
    for name in ["plain", "crlf.txt"] {
        std::fs::set_permissions(user.join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    world.launch();
    let agents = world.agents();
    assert_eq!(std::fs::read_to_string(agents.join("a.key")).unwrap(), "secret\n");
    assert_eq!(git(&agents, &["status", "--short"]), "");
    // A commit of everything contains no unfiltered file, and a new file that would be one is refused.
    write(&agents, "edited.txt", "one\r\ntwo\r\n");
    write(&agents, "a.key", "changed\n");
    write(&agents, "run", "#!/bin/sh\n# x\n");
    git(&agents, &["commit", "-qam", "mine"]);
    write(&agents, "new.key", "new\n");
    assert!(try_git(&agents, &["add", "new.key"]).unwrap_err().contains("leave it uncommitted"));
    // So is the first file that a rule matches.
    write(&agents, "a.first", "new\n");
    assert!(try_git(&agents, &["add", "a.first"]).unwrap_err().contains("leave it uncommitted"));
    std::fs::remove_file(agents.join("a.first")).unwrap();
    let pulled = world.pull();
    assert_eq!(world.changed(&pulled), "M\tedited.txt\nM\trun");
    assert_eq!(git(&user, &["show", "p:edited.txt"]), "one\ntwo");
    assert!(git(&user, &["ls-tree", "p", "run"]).starts_with("100755"));
    let skipped: Vec<String> = pulled.skipped.iter().map(|(name, why)| format!("{}: {why}", shown(name))).collect();
    assert_eq!(skipped.len(), 2, "{skipped:?}");
    assert!(skipped[0].starts_with("a.key: your filter \"secret\""), "{skipped:?}");
    // With the user's permission, through the user's own filter.
    let pulled = world.pull_as("q", None, true).unwrap();
    assert_eq!(world.changed(&pulled), "M\ta.key\nM\tedited.txt\nA\tnew.key\nM\trun");
    assert_eq!(git(&user, &["show", "q:a.key"]), "punatrq");
    // The agent's attributes can neither remove a filter nor make one run.
    write(&agents, ".gitattributes", "*.key -filter\nplain filter=secret\n");
    write(&agents, "plain", "y\n");
    let pulled = world.pull_as("r", None, false).unwrap();
    assert_eq!(world.changed(&pulled), "M\t.gitattributes\nM\tedited.txt\nM\trun");
}

#[test]
fn what_is_old_is_not_judged_and_a_failure_leaves_nothing() {
    let world = World::new();
    let user = world.user();
    write(&user, "a", "a\n");
    commit(&user, "one");
    // A time zone that git no longer writes, deep in the history.
    let tree = git(&user, &["rev-parse", "HEAD^{tree}"]);
    let text = format!("tree {tree}\nauthor a <a@b> 1000000000 -700\ncommitter a <a@b> 1000000000 -700\n\nold\n");
    let mut child = git_command(&user)
        .args(["hash-object", "-t", "commit", "-w", "--literally", "--stdin"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let old = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned();
    git(&user, &["reset", "-q", "--hard", &old]);
    write(&user, "b", "b\n");
    commit(&user, "two");
    world.launch();
    let agents = world.agents();
    write(&agents, "a", "changed\n");
    git(&agents, &["commit", "-qam", "three"]);
    // The agent has the whole history in one pack, too.
    git(&agents, &["repack", "-qad"]);
    let objects = || {
        let mut names: Vec<String> = walk(&user.join(".git/objects"));
        names.sort();
        names
    };
    // A user's branch is not changed, and a commit that git rejects is not fetched.
    let before = objects();
    git(&user, &["branch", "taken"]);
    assert!(world.pull_as("taken", None, false).unwrap_err().contains("already"));
    let seed = std::fs::read(agents.join(".git/refs/heads/main")).unwrap();
    let bad = git_command(&agents).args(["mktree"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let blob = git(&agents, &["rev-parse", "HEAD:a"]);
    let bad = feed(bad, &format!("100644 blob {blob}\t.git\n"));
    let bad = git(&agents, &["commit-tree", &bad, "-p", "HEAD", "-m", "bad"]);
    git(&agents, &["update-ref", "refs/heads/main", &bad]);
    let why = world.pull_as("p", None, false).unwrap_err();
    assert!(why.contains("does not accept what the agent committed"), "{why}");
    assert_eq!(objects(), before, "no tmp_pack, no object");
    write(&agents, ".git/refs/heads/main", seed);
    // It is still in the reflogs, and does not block anything else.
    let pulled = world.pull();
    assert_eq!(pulled.broken.len(), 1, "{pulled:?}");
    assert_eq!(git(&user, &["log", "--format=%s", &pulled.commit]), "three\ntwo\nold");
    assert!(!objects().iter().any(|name| name.contains("tmp_")));
}

fn feed(mut child: std::process::Child, text: &str) -> String {
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

fn walk(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path.display().to_string()) }
    }
    found
}

#[test]
fn a_blobless_clone_a_shallow_one_and_one_of_another_hash_are_copied_and_come_back() {
    for how in [&["--filter=blob:none"][..], &["--depth=1"], &["--object-format=sha256"]] {
        let world = World::new();
        let user = world.user();
        std::fs::remove_dir_all(&user).unwrap();
        let origin = world.at("origin");
        std::fs::create_dir(&origin).unwrap();
        let format = if how[0].starts_with("--object-format") { how } else { &[] };
        git(&origin, &[&["init", "-q"], format].concat());
        git(&origin, &["config", "uploadpack.allowFilter", "true"]);
        for text in ["one\n", "two\n"] {
            write(&origin, "a", text);
            write(&origin, "gone", text);
            commit(&origin, text.trim());
        }
        git(&origin, &["rm", "-q", "gone"]);
        commit(&origin, "three");
        let url = format!("file://{}", origin.display());
        let options = if format.is_empty() { how } else { &[] };
        git(&world.folder, &[&["clone", "-q"], options, &[&url, "user"]].concat());
        world.launch();
        let agents = world.agents();
        assert_eq!(git(&agents, &["status", "--short", "--branch"]), "## main...origin/main", "{how:?}");
        assert_eq!(git(&agents, &["diff", "--stat", "origin/main...HEAD"]), "");
        write(&agents, "a", "four\n");
        git(&agents, &["commit", "-qam", "four"]);
        write(&agents, "b", "new\n");
        let pulled = world.pull();
        assert_eq!(world.changed(&pulled), "M\ta\nA\tb", "{how:?}");
        assert_eq!(git(&user, &["show", "p:a"]), "four");
        git(&user, &["status"]);
    }
}

#[test]
fn every_reference_stash_and_log_comes_back_and_counts() {
    let world = World::new();
    let user = world.user();
    write(&user, ".gitignore", "*.log\n{curly}\n");
    write(&user, "a", "a\n");
    commit(&user, "one");
    git(&user, &["branch", "bottler-is-free"]);
    world.launch();
    let agents = world.agents();
    write(&agents, "a", "stashed\n");
    git(&agents, &["stash", "-q"]);
    git(&agents, &["checkout", "-q", "--detach"]);
    git(&agents, &["commit", "-q", "--allow-empty", "-m", "tagged"]);
    git(&agents, &["tag", "t"]);
    git(&agents, &["checkout", "-q", "main"]);
    git(&agents, &["commit", "-q", "--allow-empty", "-m", "lost"]);
    git(&agents, &["reset", "-q", "--hard", "HEAD~1"]);
    git(&agents, &["notes", "add", "-m", "note"]);
    write(&agents, "curly", "seen\n");
    write(&agents, "x.log", "ignored\n");
    let lost = git(&agents, &["rev-parse", "main@{1}"]);
    let missing = outstanding(&world.before(), &world.left(), &Fetched::default());
    assert_eq!(missing.files, ["curly"]);
    assert_eq!(missing.ignored.keys().collect::<Vec<_>>(), ["x.log"]);
    assert_eq!(missing.references, ["refs/notes/commits", "refs/stash", "refs/tags/t"]);
    assert!(missing.logged.contains(&lost[..12].to_owned()), "{missing:?}");
    let pulled = world.pull();
    let fetched: Vec<&str> = pulled.references.keys().map(String::as_str).collect();
    let log = format!("refs/bottler/b/log/{lost}");
    assert_eq!(fetched, [&log, "refs/bottler/b/notes/commits", "refs/bottler/b/stash", "refs/bottler/b/tags/t"]);
    assert_eq!(git(&user, &["show", "refs/bottler/b/stash:a"]), "stashed");
    let mut known = Fetched::default();
    known.note_branch(&world.before(), &world.left(), &pulled, "r", "p");
    let missing = outstanding(&world.before(), &world.left(), &known);
    assert_eq!(missing.lines(), ["ignored by git, new or changed: x.log (1)"]);
    // Again, after more work: the branch moves on, and its former commit is kept.
    write(&agents, "curly", "again\n");
    git(&agents, &["commit", "-q", "--allow-empty", "-m", "two"]);
    assert!(world.pull_as("p", None, false).is_err(), "it could be anybody's");
    let again = world.pull_as("p", Some(&pulled.commit), false).unwrap();
    assert_eq!(git(&user, &["show", "p:curly"]), "again");
    assert!(again.references.contains_key(&format!("refs/bottler/b/earlier/{}", pulled.commit)), "{again:?}");
    git(&user, &["checkout", "-q", "p"]);
    assert!(world.pull_as("p", Some(&again.commit), false).unwrap_err().contains("checked out"));
}

#[test]
fn a_name_that_git_does_not_take_is_named_and_blocks_nothing() {
    let world = World::new();
    let user = world.user();
    write(&user, "a", "a\n");
    commit(&user, "one");
    git(&user, &["branch", "bottler"]);
    assert_eq!(bottler::workspace::default_branch(&user, "b"), "bottler-b");
    world.launch();
    let agents = world.agents();
    write(&agents, ".GIT", "x\n");
    write(&agents, "sub/git~1/x", "x\n");
    write(&agents, "a", "b\n");
    std::fs::hard_link(agents.join("a"), agents.join("0 first")).unwrap();
    let pulled = world.pull();
    assert_eq!(pulled.skipped.iter().map(|(name, _)| shown(name)).collect::<Vec<_>>(), [".GIT", "sub/git~1/x"]);
    assert_eq!(world.changed(&pulled), "A\t0 first\nM\ta", "a second name of a file is that file");
    let mut known = Fetched::default();
    known.note_branch(&world.before(), &world.left(), &pulled, "r", "p");
    assert_eq!(outstanding(&world.before(), &world.left(), &known).files, [".GIT", "sub/git~1/x"]);
}

/// A pseudo-random generator with a fixed seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % end
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    fn content(&mut self) -> Vec<u8> {
        let end = *self.of(&["\n", "\r\n", "", "\0"]);
        let lines = self.below(6);
        (0..lines).flat_map(|_| format!("line {}{end}", self.below(9)).into_bytes()).collect()
    }
}

const NAMES: [&[u8]; 12] = [
    b"a",
    b"b.txt",
    b"sub/c",
    b"sub/d.txt",
    b"deep/er/e",
    b"sp ace",
    b"quo\"te",
    b"\xc3\xa4",
    b"b\xff",
    b"tab\t",
    b"-dash",
    b"x.key",
];

/// Creates a repository with some of everything, partly uncommitted.
fn random_repository(world: &World, random: &mut Random) {
    let user = world.user();
    if random.below(3) == 0 {
        git(&user, &["config", "core.fileMode", "false"]);
    }
    if random.below(3) == 0 {
        git(&user, &["config", "core.autocrlf", random.of::<&str>(&["input", "true"])]);
    }
    if random.below(2) == 0 {
        write(
            &user,
            ".gitattributes",
            random.of(&["*.txt text eol=crlf\n", "* text=auto\n", "*.key filter=x\n", "*.txt ident\n"]),
        );
        git(&user, &["config", "filter.x.clean", "tr a-z n-za-m"]);
        git(&user, &["config", "filter.x.smudge", "tr a-z n-za-m"]);
    }
    for _ in 0..8 {
        let name = *random.of(&NAMES);
        write(&user, OsStr::from_bytes(name), random.content());
    }
    let _ = symlink(OsStr::from_bytes(random.of::<&[u8]>(&NAMES)), user.join("link"));
    write(&user, "outside/f", "f\n");
    if random.below(4) == 0 {
        git(&user, &["config", "core.symlinks", "false"]);
    }
    if random.below(2) == 0 {
        let lib = world.at("lib");
        std::fs::create_dir(&lib).unwrap();
        let format = git(&user, &["rev-parse", "--show-object-format"]);
        git(&lib, &["init", "-q", &format!("--object-format={format}")]);
        commit(&lib, "lib");
        git(&user, &["submodule", "--quiet", "add", lib.to_str().unwrap(), "vendor"]);
    }
    commit(&user, "one");
    if random.below(3) == 0 {
        git(&user, &["sparse-checkout", "set", "--no-cone", "/*", "!/outside"]);
    }
}

/// Makes an edit; the same numbers give the same edit in every copy of a repository. `links`: whether it may create a
/// symbolic link. If git stores links as files, the result depends on what was added in between.
fn edit(folder: &Path, random: &mut Random, links: bool) {
    let name = OsStr::from_bytes(random.of::<&[u8]>(&NAMES));
    let path = folder.join(name);
    let content = random.content();
    let _ = match random.below(9) {
        0..=3 => {
            let _ = std::fs::remove_file(&path);
            path.parent().map(std::fs::create_dir_all).unwrap().and_then(|()| std::fs::write(&path, content))
        }
        4 => std::fs::remove_file(&path),
        5 if links => std::fs::remove_file(&path).and_then(|()| symlink("no/where", &path)),
        6 => std::fs::rename(&path, folder.join("renamed")),
        5 => Ok(()),
        7 => std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)),
        _ => {
            // Commits everything that git sees.
            let _ = try_git(folder, &["add", "-A"]).and_then(|_| try_git(folder, &["commit", "-qm", "edit"]));
            Ok(())
        }
    };
}

/// The same edits by hand and in a bottle give the same tree, untouched files keep their objects, and the user's
/// repository is unchanged.
#[test]
fn what_comes_back_is_what_the_same_edits_by_hand_give() {
    same_edits(1);
}

/// The other half of the rounds, on another processor.
#[test]
fn what_comes_back_is_what_the_same_edits_by_hand_give_in_even_rounds() {
    same_edits(0);
}

fn same_edits(parity: u64) {
    let rounds = std::env::var("BOTTLER_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(25);
    let first = std::env::var("BOTTLER_FIRST").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for round in (first..=rounds).filter(|round| round % 2 == parity) {
        let mut random = Random(u64::wrapping_mul(round, 0x9e37_79b9_7f4a_7c15));
        let world = World::new();
        if random.below(4) == 0 {
            std::fs::remove_dir_all(world.user().join(".git")).unwrap();
            git(&world.user(), &["init", "-q", "--object-format=sha256"]);
        }
        random_repository(&world, &mut random);
        let user = world.user();
        world.launch();
        // The agent converts its references to reftables, if there is a git that supports them.
        if random.below(3) == 0 && newer_git().is_some() {
            tables::migrate(&world.agents());
        }
        let status = || (git(&user, &["status", "--porcelain", "-z"]), git(&user, &["write-tree"]));
        let before = status();
        let seed = random.0;
        let links = try_git(&user, &["config", "core.symlinks"]).is_err();
        let edits = |folder: &Path| {
            let mut random = Random(seed);
            (0..20).for_each(|_| edit(folder, &mut random, links));
        };
        edits(&world.agents());
        let pulled = world.pull_as("p", None, true).unwrap_or_else(|why| panic!("round {round}: {why}"));
        assert_eq!(status(), before, "round {round}: the user's folder is as it was");
        // By hand, in a copy of the user's folder with its settings.
        let hand = world.at("hand");
        let done = Command::new("cp").arg("-a").arg(&user).arg(&hand).status().unwrap();
        assert!(done.success());
        git(&hand, &["config", "core.fileMode", "true"]);
        for (mode, path) in modes(&hand) {
            let _ = std::fs::set_permissions(hand.join(OsStr::from_bytes(&path)), PermissionsExt::from_mode(mode));
        }
        edits(&hand);
        git(&hand, &["add", "-A"]);
        let tree = git(&hand, &["write-tree"]);
        let fetched = git(&user, &["rev-parse", &format!("{}^{{tree}}", pulled.commit)]);
        if tree != fetched {
            // Fetch the other objects, to show the difference.
            let differs = git(&hand, &["diff-tree", "-r", "-p", &tree, &fetched]);
            panic!("round {round}: by hand, and what came back:\n{differs}\nskipped: {:?}", pulled.skipped);
        }
    }
}

/// The modes of regular files in the index.
fn modes(folder: &Path) -> Vec<(u32, Name)> {
    let said = try_git(folder, &["ls-files", "-s", "-z"]).unwrap();
    let lines = said.split(|byte| *byte == 0).filter(|line| line.starts_with(b"100"));
    lines
        .map(|line| {
            let at = line.iter().position(|byte| *byte == b'\t').unwrap();
            (if line.starts_with(b"100755") { 0o755 } else { 0o644 }, line[at + 1..].to_vec())
        })
        .collect()
}

/// A patch contains the same changes, and `git apply` accepts it.
#[test]
fn a_patch_is_complete() {
    let world = World::new();
    let user = world.user();
    write(&user, "a", "a\n");
    write(&user, "run", "x\n");
    commit(&user, "one");
    world.launch();
    let agents = world.agents();
    write(&agents, "a", b"\0\x01\xff");
    write(&agents, OsStr::from_bytes(b"new \xff"), "new\n");
    symlink("/etc/passwd", agents.join("link")).unwrap();
    std::fs::set_permissions(agents.join("run"), PermissionsExt::from_mode(0o755)).unwrap();
    let (before, left) = (world.before(), world.left());
    let mut text = Vec::new();
    assert_eq!(patch(&before, &left, &mut text).unwrap(), []);
    write(&world.folder, "x.patch", &text);
    git(&user, &["apply", "../x.patch"]);
    let names: Vec<String> = changes(&before, &left).keys().map(|name| shown(name)).collect();
    assert_eq!(git(&user, &["status", "--short"]).lines().count(), names.len());
    let mut read = Vec::new();
    std::fs::File::open(user.join("a")).unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, b"\0\x01\xff");
    let _: BTreeMap<Name, bottler::workspace::Change> = changes(&before, &left);
}
