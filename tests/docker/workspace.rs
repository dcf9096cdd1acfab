//! An agent's workspace on the real engine: what is copied, what is fetched and how, what is kept and resumed, and
//! what of a mounted folder cannot be changed.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::support::images::{DEBIAN, Debian};
use crate::support::process::{Done, World, finish, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

pub(super) fn git(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("git");
    command.current_dir(folder).args([
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b.example",
        "-c",
        "core.fsmonitor=false",
        "-c",
        "core.hooksPath=/dev/null",
    ]);
    let output = command.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub(super) fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

/// A repository with a history, an uncommitted change, and one of everything that must not be copied.
fn repository(folder: &Path) {
    git(folder, &["init", "-q", "-b", "main"]);
    write(folder, ".gitignore", "target/\n*.log\n");
    write(folder, "README", "one\ntwo\nthree\n");
    write(folder, "src/run.sh", "#!/bin/sh\n");
    std::fs::set_permissions(folder.join("src/run.sh"), PermissionsExt::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", folder.join("out")).unwrap();
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "first"]);
    write(folder, "README", "one\nTWO\nthree\n");
    write(folder, "untracked", "u\n");
    write(folder, "target/junk", "junk\n");
    write(folder, ".env.local", "SECRET=1\n");
    nix::unistd::mkfifo(&folder.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    git(folder, &["config", "remote.origin.url", "https://me:hunter2hunter2@example.com/a.git"]);
    git(folder, &["config", "core.fsmonitor", "touch /tmp/bottler-evil-fsmonitor"]);
    git(folder, &["config", "credential.helper", "store --file hunter2hunter2"]);
    write(folder, ".git/hooks/post-checkout", "#!/bin/sh\ntouch /tmp/bottler-evil-hook\n");
    std::fs::set_permissions(folder.join(".git/hooks/post-checkout"), PermissionsExt::from_mode(0o755)).unwrap();
}

/// Runs a shell script on a copy of a folder.
pub(super) fn shell(world: &World, folder: &Path, arguments: &[&str], script: &str) -> Done {
    let mut command = world.command(&["run", "shell", "--image", DEBIAN, "--workspace", "."]);
    command.args(arguments).args(["--", "sh", "-c", script]).current_dir(folder);
    command.output().unwrap().into()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story")]
fn a_copy_has_what_git_knows_and_nothing_of_its_settings_and_comes_back_as_a_branch() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    repository(folder);
    // A worktree's repository is elsewhere.
    let tree = tempfile::tempdir().unwrap();
    let tree = tree.path().join("tree");
    git(folder, &["worktree", "add", "-q", "-b", "side", tree.to_str().unwrap()]);
    let seen = shell(
        &world,
        &tree,
        &["--keep", "never"],
        "git branch --show-current; git status --short; git log --format=%s",
    );
    assert_eq!((seen.code(), seen.stdout.as_str()), (0, "side\nfirst\n"), "{}", seen.stderr);

    let look = "find . -path ./.git -prune -o -not -type d -print | sort; readlink out; git status --short; \
        git log --format=%s; cat .git/config; ls .git/hooks .git/objects/info 2>&1; stat -c '%a %u' src/run.sh README";
    let excluded = folder.join("bottler.yaml");
    std::fs::write(
        &excluded,
        format!("bottles: {{b: {{image: '{DEBIAN}', workspace: {{exclude: ['.env*', bottler.yaml]}}, keep: never}}}}\nagents: {{a: {{bottle: b, template: shell, command: [sh, -c, \"{look}\"]}}}}\n"),
    )
    .unwrap();
    let mut command = world.command(&["run", "a", "--manifest", "bottler.yaml"]);
    let seen: Done = command.current_dir(folder).output().unwrap().into();
    assert_eq!(seen.code(), 0, "{}", seen.stderr);
    let expected =
        "./.gitignore\n./README\n./out\n./src/run.sh\n./untracked\n/etc/passwd\n M README\n?? untracked\nfirst\n";
    assert!(seen.stdout.starts_with(expected), "{}", seen.stdout);
    assert!(seen.stdout.contains("url = https://example.com/a.git"), "{}", seen.stdout);
    assert!(seen.stdout.contains("755 1000\n644 1000\n"), "{}", seen.stdout);
    for word in ["hunter2", "fsmonitor", "helper", "post-checkout", "alternates"] {
        assert!(!seen.stdout.contains(word), "{word}: {}", seen.stdout);
    }
    std::fs::remove_file(excluded).unwrap();

    // While it runs, and after its end.
    let work = "git commit -qam mine; echo four >> README; rm src/run.sh; mkdir -p .vscode; echo x > .vscode/tasks.json; \
        echo i > ignored.log; printf '\\000\\001' > binary; ln -sf /etc/shadow untracked; exit 3";
    let done = shell(
        &world,
        folder,
        &["--name", "work"],
        &format!("git config user.name a; git config user.email a@b; {work}"),
    );
    assert_eq!(done.code(), 3, "{}", done.stderr);
    assert!(done.stderr.contains("kept: the workspace of work (the agent failed"), "{}", done.stderr);
    let all = world.run(&["ps", "--all", "--format", "json"]).json();
    assert_eq!((&all[0]["bottle"], &all[0]["state"]), (&"work".into(), &"kept".into()));
    assert!(all[0]["size"].as_u64().unwrap() > 0);
    assert_eq!(world.run(&["gc"]).code(), 0, "what is kept is not collected");
    let diff = world.run(&["diff", "work"]);
    for words in [
        "+four\n",
        "deleted file mode 100755\n--- a/src/run.sh",
        "new file mode 120000",
        "+/etc/shadow",
        "GIT binary patch\nliteral 2\n",
    ] {
        assert!(diff.stdout.contains(words), "{words}: {}", diff.stdout);
    }
    assert!(!diff.stdout.contains("ignored.log"), "{}", diff.stdout);
    assert!(
        diff.stderr.contains("executed or obeyed by tools on this host")
            && diff.stderr.contains("  .vscode/tasks.json")
    );
    let before = git(folder, &["status", "--short"]);
    let pulled = world.run(&["pull", "work", "--branch", "theirs"]);
    assert_eq!(pulled.code(), 0, "{}", pulled.stderr);
    assert_eq!(git(folder, &["log", "--format=%s", "theirs"]), "What the agent had not committed\nmine\nfirst\n");
    let tree = git(folder, &["ls-tree", "-r", "theirs"]);
    assert!(tree.contains("120000 blob") && tree.contains("\tbinary") && !tree.contains("run.sh"), "{tree}");
    assert_eq!(git(folder, &["show", "theirs:README"]), "one\nTWO\nthree\nfour\n");
    assert_eq!(git(folder, &["status", "--short"]), before, "the tree is as it was");
    assert!(
        pulled.stderr.contains("only in the bottle, ignored by git, new or changed: ignored.log"),
        "{}",
        pulled.stderr
    );
    git(folder, &["branch", "mine"]);
    assert_eq!(world.run(&["pull", "work", "--branch", "mine"]).code(), 120, "a branch that is there is not touched");
    assert_eq!(world.run(&["pull", "work", "--branch", "theirs"]).code(), 0, "but its own, which has it already");
    let patch = folder.join("work.patch");
    assert_eq!(world.run(&["pull", "work", "--patch", patch.to_str().unwrap()]).code(), 0);
    assert!(git(folder, &["apply", "--numstat", "work.patch"]).contains("README"));
    for path in ["/tmp/bottler-evil-hook", "/tmp/bottler-evil-fsmonitor"] {
        assert!(!Path::new(path).exists(), "{path}");
    }
    // Commits alone are work, too: the files are unchanged.
    let only = shell(&world, folder, &["--name", "commits"], "git -c user.name=a -c user.email=a@b commit -qam yours");
    assert!(only.stderr.contains("kept: the workspace of commits (its changes were not pulled"), "{}", only.stderr);
    let refused = world.run(&["rm", "commits"]);
    assert!(refused.code() == 120 && refused.stderr.contains("references: refs/heads/main"), "{}", refused.stderr);
    assert_eq!(world.run(&["pull", "commits"]).code(), 0);
    assert_eq!(world.run(&["rm", "commits"]).code(), 0, "nothing is left that only it has");
    // It cannot be launched over, and is resumed with its content.
    let over = shell(&world, folder, &["--name", "work"], "true");
    assert!(over.code() == 123 && over.stderr.contains("bottler resume work"), "{}", over.stderr);
    let resumed = world.run(&["resume", "work"]);
    assert_eq!(resumed.code(), 3, "{}", resumed.stderr);
    assert!(git(folder, &["branch"]).contains("theirs"));
    let refused = world.run(&["rm", "work"]);
    assert!(refused.code() == 120 && refused.stderr.contains("ignored.log"), "{}", refused.stderr);
    let archive = folder.join("work.tar");
    assert_eq!(world.run(&["pull", "work", "--archive", archive.to_str().unwrap()]).code(), 0);
    assert_eq!(world.run(&["rm", "work"]).code(), 0, "the archive has everything");
    world.assert_clean();
}

/// Creates a commit whose tree contains a `.git` with settings, and moves the branch there.
const EVIL: &str = r#"
import subprocess
def git(*words, data=None):
    return subprocess.run(["git", *words], input=data, capture_output=True, check=True).stdout
def tree(mode, name, object):
    data = mode + b" " + name + b"\0" + bytes.fromhex(object.decode())
    return git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=data).strip()
git("config", "core.fsmonitor", "touch /tmp/bottler-evil")
blob = git("hash-object", "-w", "--stdin", data=b"[core]\nfsmonitor = touch /tmp/bottler-evil\n").strip()
top = tree(b"40000", b".git", tree(b"100644", b"config", blob))
who = ["-c", "user.name=a", "-c", "user.email=a@b"]
commit = git(*who, "commit-tree", top.decode(), "-p", "HEAD", "-m", "evil").strip()
git("update-ref", "refs/heads/main", commit.decode())
print(git("cat-file", "-p", top.decode()).decode())
"#;

#[test]
fn what_is_pulled_is_checked_by_git_and_settings_of_the_agents_count_for_nothing() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(folder, &["init", "-q", "-b", "main"]);
    write(folder, "a", "a\n");
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "first"]);
    // A commit that contains `.git`; a checkout would write it over a repository's own.
    write(folder, "evil.py", EVIL);
    let done = shell(&world, folder, &["--name", "evil"], "python3 evil.py; echo x >> a");
    assert!(done.stdout.contains("\t.git\n"), "the attack can fail: {} {}", done.stdout, done.stderr);
    let pulled = world.run(&["pull", "evil"]);
    assert_eq!(pulled.code(), 120, "{}", pulled.stderr);
    assert!(!git(folder, &["branch", "-a"]).contains("bottler"), "nothing was brought");
    assert!(!Path::new("/tmp/bottler-evil").exists());
    assert_eq!(world.run(&["diff", "evil", "--stat"]).stdout, "M a\n");
    assert_eq!(world.run(&["rm", "evil", "--discard"]).code(), 0);
    world.assert_clean();
}

/// Launches a shell in the background on a copy of a folder, and waits until its script sleeps.
fn start(world: &World, folder: &Path, name: &str, script: &str) {
    let mut command = world.command(&["run", "shell", "--image", DEBIAN, "--workspace", ".", "--name", name, "-d"]);
    let done: Done = command.args(["--", "sh", "-c", script]).current_dir(folder).output().unwrap().into();
    assert_eq!((done.code(), done.stdout), (0, format!("{name}\n")), "{}", done.stderr);
    wait_for("the agent", || world.agent_running("sleep 1000"));
}

#[test]
fn what_a_killed_holder_leaves_lives_again() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "a\n");
    start(&world, folder.path(), "killed", "echo more >> a; cat a; sleep 1000");
    for pid in world.processes("holder") {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    wait_for("the reaper", || world.processes("reaper").is_empty().then_some(()));
    assert_eq!(world.objects(), ["killed-home", "killed-workspace"]);
    // Its output is kept outside of its container.
    let logs = world.run(&["logs", "killed"]);
    assert_eq!((logs.code(), logs.stdout.as_str()), (0, "a\r\nmore\r\n"), "{}", logs.stderr);
    assert!(logs.stderr.contains("the holder of killed died"), "{}", logs.stderr);
    assert_eq!(world.run(&["wait", "killed"]).stdout, "125\n");
    assert_eq!(world.run(&["diff", "killed", "--stat"]).stdout, "M a\n");
    let patch = world.run(&["pull", "killed", "--patch", "-"]);
    assert!(patch.stdout.contains("+more"), "{}", patch.stdout);
    let resumed = world.run(&["resume", "killed", "-d"]);
    assert_eq!(resumed.code(), 0, "{}", resumed.stderr);
    wait_for("the agent", || world.agent_running("sleep 1000"));
    assert_eq!(world.run(&["exec", "killed", "--", "cat", "a"]).stdout, "a\nmore\nmore\n");
    assert_eq!(world.run(&["rm", "killed"]).code(), 120, "it is_alive");
    let refused = world.run(&["rm", "--force", "killed"]);
    assert!(
        refused.code() == 120 && refused.stderr.contains("changed: a"),
        "what was shown is not brought: {}",
        refused.stderr
    );
    assert_eq!(world.objects(), ["killed-home", "killed-workspace"]);
    assert_eq!(world.run(&["rm", "--discard", "killed"]).code(), 0);
    world.assert_clean();
}

/// Nobody records it until `gc` does.
#[test]
fn what_an_agent_wrote_is_read_after_the_death_of_holder_and_reaper() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "a\n");
    start(&world, folder.path(), "both", "cat a; sleep 1000");
    for role in ["reaper", "holder"] {
        for pid in world.processes(role) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        }
        wait_for(role, || world.processes(role).is_empty().then_some(()));
    }
    let logs = world.run(&["logs", "both"]);
    assert_eq!((logs.code(), logs.stdout.as_str()), (0, "a\r\n"), "{}", logs.stderr);
    assert_eq!(world.run(&["gc"]).code(), 0);
    assert_eq!(world.objects(), ["both-home", "both-workspace"]);
    let logs = world.run(&["logs", "both"]);
    assert_eq!((logs.code(), logs.stdout.as_str()), (0, "a\r\n"), "{}", logs.stderr);
    assert!(logs.stderr.contains("the holder of both died"), "{}", logs.stderr);
    assert_eq!(world.run(&["rm", "both"]).code(), 0, "nothing was changed");
    world.assert_clean();
}

/// Kept work stays kept, whether a later launch succeeds or has another plan.
#[test]
fn what_was_kept_stays_kept_whatever_its_next_life_is_like() {
    let (world, _image) = (World::new(), Debian::import());
    let folder = tempfile::tempdir().unwrap();
    let manifest = |workspace: &str, keep: &str| {
        let text = format!(
            "bottles: {{b: {{image: '{DEBIAN}', workspace: {{{workspace}}}, keep: {keep}}}}}\nagents: {{again: {{bottle: b, template: shell, command: [sh, -c, 'test -e made && exit 0; echo work > made; exit 3']}}}}\n"
        );
        write(folder.path(), "bottler.yaml", &text);
    };
    let run =
        |arguments: &[&str]| -> Done { world.command(arguments).current_dir(folder.path()).output().unwrap().into() };
    manifest("mode: copy", "on_failure");
    assert_eq!(run(&["run", "again", "--name", "again", "--manifest", "bottler.yaml"]).code(), 3);
    for keep in ["on_failure", "never"] {
        manifest("mode: copy", keep);
        let resumed = run(&["resume", "again", "--yes"]);
        assert_eq!(resumed.code(), 0, "{}", resumed.stderr);
        assert!(resumed.stderr.contains("kept: the workspace of again"), "{keep}: {}", resumed.stderr);
    }
    manifest("mode: mount", "always");
    let refused = run(&["resume", "again", "--yes"]);
    assert!(refused.code() == 120 && refused.stderr.contains("would be lost"), "{}", refused.stderr);
    assert_eq!(world.objects(), ["again-home", "again-workspace"]);
    assert!(run(&["diff", "again", "--stat"]).stdout.contains("A made"));
    let patch = folder.path().join("again.patch");
    assert_eq!(run(&["pull", "again", "--patch", patch.to_str().unwrap()]).code(), 0);
    assert_eq!(run(&["rm", "again"]).code(), 0);
    world.assert_clean();
}

/// Paths that the host executes cannot be written, moved or created; placeholders are removed at the end.
#[test]
fn a_mounted_folder_is_the_hosts_but_for_what_the_host_executes() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(folder, &["init", "-q"]);
    write(folder, "a", "a\n");
    write(folder, ".vscode/settings.json", "{}");
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
    let config = std::fs::read_to_string(folder.join(".git/config")).unwrap();
    let attack = "echo mine > made; for place in .git/config .git/hooks/pre-commit .envrc .vscode/tasks.json .claude/settings.json \
        .bottler/hooks.lua .idea/x .husky/x .cursor/x .devcontainer/x; do echo evil 2>/dev/null > $place && echo wrote $place; done; \
        for place in .git .envrc .vscode .claude .bottler; do mv $place gone 2>/dev/null && echo moved $place; \
        rm -rf $place 2>/dev/null && echo removed $place; done; cat a; touch ready; sleep 1000";
    let mut command = world.command(&["run", "shell", "--image", DEBIAN, "--workspace", ".", "--mount"]);
    command.args(["--", "sh", "-c", attack]).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for("the attack", || folder.join("ready").exists().then_some(()));
    assert!(folder.join(".envrc").exists(), "its place is taken while the bottle is_alive");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    assert_eq!(done.stdout, "a\n", "{}", done.stderr);
    assert_eq!(std::fs::read_to_string(folder.join(".git/config")).unwrap(), config);
    let mut left: Vec<String> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    left.sort();
    assert_eq!(left, [".git", ".vscode", "a", "made", "ready"]);
    // A link's target cannot be masked. In a read-only mount nothing is masked and no placeholder is created.
    symlink("/etc", folder.join(".claude")).unwrap();
    let mut command = world.command(&["run", "shell", "--image", DEBIAN, "--workspace", ".", "--mount"]);
    let done: Done = command.args(["--", "true"]).current_dir(folder).output().unwrap().into();
    assert!(done.code() == 120 && done.stderr.contains("it is a symbolic link"), "{}", done.stderr);
    let mut command = world.command(&["run", "shell", "--image", DEBIAN, "--workspace", ".", "--mount", "--read-only"]);
    let done: Done = command.args(["--", "sh", "-c", "cat a; touch b"]).current_dir(folder).output().unwrap().into();
    assert!(done.stdout == "a\n" && done.stderr.contains("Read-only file system"), "{}", done.stderr);
    world.assert_clean();
}

/// A folder that is not a repository does not become one, even if git would take the folder itself for one; what is
/// created in subfolders is reported.
#[test]
fn git_on_the_host_executes_nothing_that_an_agent_has_made_in_a_mounted_folder_unseen() {
    let (world, _image) = (World::new(), Debian::import());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    write(folder, "a", "a\n");
    std::fs::set_permissions(folder, PermissionsExt::from_mode(0o777)).unwrap();
    let marks = tempfile::tempdir().unwrap();
    std::fs::set_permissions(marks.path(), PermissionsExt::from_mode(0o777)).unwrap();
    let mark = |name: &str| marks.path().join(name);
    let repository = |at: &str, worktree: &str, mark: &str| {
        format!(
            "mkdir -p {at}; rm -rf {at}/HEAD; echo 'ref: refs/heads/main' > {at}/HEAD; mkdir -p {at}/objects {at}/refs; \
             printf '[core]\\nrepositoryformatversion = 0\\nbare = false\\nworktree = {worktree}\\nfsmonitor = \"touch {}/{mark}; false\"\\n' > {at}/config; ",
            marks.path().display()
        )
    };
    let attack = [
        repository(".", ".", "root"),
        repository(".git", "..", "folder"),
        "echo 'gitdir: inner' > .git; mv .git gone; ".to_owned(),
        repository("inner", "..", "bare"),
        repository("sub/.git", "..", "nested"),
        "touch ready; sleep 1000".to_owned(),
    ]
    .concat();
    let mut command = world.command(&["run", "shell", "--image", DEBIAN, "--workspace", ".", "--mount"]);
    command.args(["--", "sh", "-c", &attack]).current_dir(folder).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    wait_for("the attack", || folder.join("ready").exists().then_some(()));
    let status = |at: &str| {
        let mut command = Command::new("git");
        command.current_dir(folder.join(at)).args(["-c", "safe.directory=*", "status"]);
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CEILING_DIRECTORIES", folder.parent().unwrap());
        command.output().unwrap()
    };
    status(".");
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let done = finish(child);
    status(".");
    assert!(!mark("root").exists() && !mark("folder").exists(), "{}", done.stderr);
    for words in ["sub/.git", "inner", "safe.bareRepository=explicit"] {
        assert!(done.stderr.contains(words), "{words}: {}", done.stderr);
    }
    // git would run exactly what is reported.
    for (at, name) in [("sub", "nested"), ("inner", "bare")] {
        let said = status(at);
        assert!(mark(name).exists(), "{at}: {}", String::from_utf8_lossy(&said.stderr));
    }
    world.assert_clean();
}

/// If the user's history is shallow, so is the agent's; its additions can be fetched nevertheless.
#[test]
fn a_shallow_history_is_copied_and_comes_back() {
    let world = World::new();
    Debian::import();
    let whole = tempfile::tempdir().unwrap();
    git(whole.path(), &["init", "-q", "-b", "main"]);
    for text in ["one\n", "two\n"] {
        write(whole.path(), "a", text);
        git(whole.path(), &["add", "."]);
        git(whole.path(), &["commit", "-qm", text.trim()]);
    }
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", whole.path().display());
    git(folder.path(), &["clone", "-q", "--depth", "1", &url, "shallow"]);
    let shallow = folder.path().join("shallow");
    let work = "echo three > a; git -c user.name=a -c user.email=a@b commit -qam three; git log --format=%s";
    let done = shell(&world, &shallow, &["--name", "shallow"], work);
    assert_eq!(done.stdout, "three\ntwo\n", "{}", done.stderr);
    let pulled = world.run(&["pull", "shallow"]);
    assert_eq!(pulled.code(), 0, "{}", pulled.stderr);
    assert_eq!(git(&shallow, &["log", "--format=%s", "bottler/shallow"]), "three\ntwo\n");
    assert_eq!(world.run(&["rm", "shallow"]).code(), 0);
    world.assert_clean();
}

/// References in reftables, which this machine's git may not support, are fetched like those in files.
#[test]
fn an_agent_that_keeps_its_references_in_tables_loses_none() {
    let (world, _image) = (World::new(), Debian::import());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(folder, &["init", "-q", "-b", "main"]);
    write(folder, "a", "a\n");
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "first"]);
    let script = "git refs migrate --ref-format=reftable; git config user.name a; git config user.email a@b; echo s >> a; git stash -q; \
        git checkout -q --detach; git commit -q --allow-empty -m lost; git checkout -q -b topic main; echo b >> a; git commit -qam mine; \
        git tag -m t mine; echo c >> a; cat .git/HEAD; ls .git/reftable | tail -n 1";
    let done = shell(&world, folder, &["--name", "tables"], script);
    assert_eq!(done.stdout, "ref: refs/heads/.invalid\ntables.list\n", "{}", done.stderr);
    let pulled = world.run(&["pull", "tables"]);
    assert_eq!(pulled.code(), 0, "{}", pulled.stderr);
    assert_eq!(git(folder, &["show", "bottler/tables:a"]), "a\nb\nc\n");
    for (name, subject) in [("stash", "WIP on main"), ("tags/mine", "mine")] {
        let said = git(folder, &["log", "-1", "--format=%s", &format!("refs/bottler/tables/{name}")]);
        assert!(said.starts_with(subject), "{name}: {said}");
    }
    assert!(git(folder, &["log", "--all", "--format=%s"]).contains("lost\n"));
    git(folder, &["fsck", "--strict"]);
    assert_eq!(world.run(&["rm", "tables"]).code(), 0, "all of it has arrived");
    world.assert_clean();
}

/// Printed work does not count as fetched, a failed write is an error, and an interrupted pull leaves nothing.
#[test]
fn a_pull_that_does_not_arrive_counts_for_nothing_and_leaves_nothing() {
    let (world, _image) = (World::new(), Debian::import());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(folder, &["init", "-q", "-b", "main"]);
    write(folder, "a", "a\n");
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "first"]);
    let script = "echo b >> a; git stash -q; echo c >> a; truncate -s 3G sparse; exec sleep 1000";
    start(&world, folder, "slow", script);
    // Printed, but written nowhere.
    assert_eq!(world.run(&["pull", "slow", "--patch", "-"]).code(), 0);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let status = world.command(&["pull", "slow", "--patch", "-"]).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(125));
    let directory = world.state.path().join("bottler/bottles/slow");
    assert!(!directory.join("brought.json").exists());
    let files = || {
        let mut names: Vec<_> =
            std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = (files(), world.objects(), git(folder, &["for-each-ref"]));
    for (signal, after) in
        [(Signal::SIGINT, 120), (Signal::SIGTERM, 700), (Signal::SIGKILL, 80), (Signal::SIGKILL, 900)]
    {
        let child = world.start(&["pull", "slow"]);
        let began = Instant::now();
        wait_for("a moment", || (began.elapsed().as_millis() >= after).then_some(()));
        let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        finish(child);
        wait_for("the sweeper", || world.processes("sweeper").is_empty().then_some(()));
        assert_eq!((files(), world.objects(), git(folder, &["for-each-ref"])), before, "{signal} after {after} ms");
    }
    assert!(!format!("{:?}", git(folder, &["count-objects", "-v"])).contains("garbage: 1"));
    let stopped = world.run(&["stop", "slow"]);
    assert!(stopped.stderr.contains("kept"), "{}", stopped.stderr);
    assert_eq!(world.run(&["rm", "slow", "--discard"]).code(), 0);
    world.assert_clean();
}

/// Ten thousand files with history. The time is printed, not asserted, except for a very large bound.
#[test]
fn ten_thousand_files_are_copied() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(folder, &["init", "-q"]);
    for number in 0..10_000 {
        write(folder, &format!("d{}/f{number}", number % 100), &format!("{number}\n").repeat(100));
    }
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "many"]);
    // The first launch builds the image.
    shell(&world, folder, &["--keep", "never"], "true");
    let began = Instant::now();
    let done = shell(
        &world,
        folder,
        &["--keep", "never"],
        "find . -name 'f*' -type f -path './d*' | wc -l; git status --short",
    );
    assert_eq!(done.stdout, "10000\n", "{}", done.stderr);
    println!("a whole launch with 10,000 files: {} ms; {}", began.elapsed().as_millis(), done.stderr);
    shell(&world, folder, &["--name", "many"], "echo x >> d1/f1; git -c user.name=a -c user.email=a@b commit -qam x");
    for command in ["diff", "pull"] {
        let began = Instant::now();
        assert_eq!(world.run(&[command, "many"]).code(), 0);
        println!("{command}: {} ms", began.elapsed().as_millis());
    }
    assert_eq!(world.run(&["rm", "many"]).code(), 0);
    world.assert_clean();
}

/// An engine returns an existing volume as if it had created it; another owner's content would become the agent's.
#[test]
fn a_volume_that_is_somebody_elses_is_not_taken_for_the_workspace() {
    let world = World::new();
    Debian::import();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a", "a\n");
    let docker =
        |arguments: &[&str]| assert!(Command::new("docker").args(arguments).output().unwrap().status.success());
    docker(&["volume", "create", "--label", "dev.bottler.session=theirs", "taken-workspace"]);
    let done = shell(&world, folder.path(), &["--name", "taken"], "ls -a");
    docker(&["volume", "rm", "taken-workspace"]);
    assert!(done.code() == 123 && done.stderr.contains("belongs to somebody else"), "{}", done.stderr);
    assert_eq!(done.stdout, "");
    world.assert_clean();
}

/// `run --patch` writes what a patch can contain, and keeps the workspace otherwise. For a subfolder, the printed
/// command applies it.
#[test]
fn a_run_that_writes_a_patch_loses_nothing_that_the_patch_cannot_hold() {
    let (world, _image) = (World::new(), Debian::import());
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    git(folder, &["init", "-q", "-b", "main"]);
    write(folder, "src/a", "one\n");
    write(folder, "b", "b\n");
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "first"]);
    // If all of it fits into a patch, nothing is kept.
    let done = shell(&world, folder, &["--name", "whole", "--patch", "whole.patch"], "echo two >> src/a");
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(std::fs::read_to_string(folder.join("whole.patch")).unwrap().contains("+two"), "{}", done.stderr);
    assert!(world.bottles().is_empty() && world.objects().is_empty(), "{}", done.stderr);
    // A tag does not fit.
    let script = "echo three >> src/a; git tag mine";
    let done = shell(&world, folder, &["--name", "tagged", "--patch", "tagged.patch"], script);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert!(done.stderr.contains("only in the bottle, ") && done.stderr.contains("refs/tags/mine"), "{}", done.stderr);
    assert!(std::fs::read_to_string(folder.join("tagged.patch")).unwrap().contains("+three"));
    assert_eq!(world.objects(), ["tagged-home", "tagged-workspace"]);
    assert_eq!(world.run(&["rm", "--discard", "tagged"]).code(), 0);
    // If the patch cannot be written, the work is kept, and an existing file is not overwritten.
    let done = shell(&world, folder, &["--patch", "b"], "true");
    assert!(done.code() == 120 && done.stderr.contains("already"), "{}", done.stderr);
    let done = shell(&world, folder, &["--name", "nowhere", "--patch", "no/such/folder"], "echo four >> src/a");
    assert!(done.code() == 120 && done.stderr.contains("no/such/folder"), "{}", done.stderr);
    assert_eq!(world.objects(), ["nowhere-home", "nowhere-workspace"]);
    assert_eq!(world.run(&["rm", "--discard", "nowhere"]).code(), 0);
    // A subfolder.
    let done = shell(&world, &folder.join("src"), &["--name", "below"], "echo five >> a");
    assert_eq!(done.code(), 0, "{}", done.stderr);
    let pulled = world.command(&["pull", "below"]).current_dir(folder.join("src")).output().unwrap();
    let said = String::from_utf8(pulled.stderr).unwrap();
    let command = said.split('`').nth(1).unwrap_or_else(|| panic!("{said}"));
    let applied = Command::new("sh").args(["-c", command]).current_dir(folder.join("src")).output().unwrap();
    assert!(applied.status.success(), "{command}: {}", String::from_utf8_lossy(&applied.stderr));
    assert_eq!(std::fs::read_to_string(folder.join("src/a")).unwrap(), "one\nfive\n");
    // Pulling again changes nothing.
    let branch = |name: &str| git(folder, &["rev-parse", name]);
    let done = shell(&world, folder, &["--name", "twice"], "echo six >> b");
    assert_eq!(done.code(), 0, "{}", done.stderr);
    assert_eq!(world.run(&["pull", "twice", "--branch", "twice"]).code(), 0);
    let first = branch("twice");
    assert_eq!(world.run(&["pull", "twice", "--branch", "twice"]).code(), 0);
    assert_eq!(branch("twice"), first, "a second pull of the same moves nothing");
    for bottle in ["below", "twice"] {
        assert_eq!(world.run(&["rm", bottle]).code(), 0);
    }
    world.assert_clean();
}
