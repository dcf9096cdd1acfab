//! Reftables (`extensions.refStorage = reftable`), which this machine's git may not support: the agent's are read
//! without git, the user's by git.

use std::path::Path;
use std::process::Command;

use bottler::workspace::{Fetched, outstanding};

use super::{World, commit, git, newer_git, write};

/// Whether there is a git that creates such repositories; prints a message if not.
fn is_there() -> bool {
    let there = newer_git().is_some();
    if !there {
        println!("not tried: there is no git that knows references in tables");
    }
    there
}

/// Converts a repository's references to reftables.
pub(super) fn migrate(folder: &Path) {
    let program = newer_git().unwrap().join("git");
    let mut command = Command::new(program);
    let done = command.args(["refs", "migrate", "--ref-format=reftable"]).current_dir(folder).output().unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(folder.join(".git/reftable/tables.list").exists());
}

/// What is only in the bottle.
fn missing(world: &World, fetched: &Fetched) -> Vec<String> {
    outstanding(&world.before(), &world.left(), fetched).lines()
}

/// A user's repository with one commit, with one of git's hashes, and a bottle of it.
fn begun(format: &str) -> World {
    let world = World::new();
    let user = world.user();
    std::fs::remove_dir_all(user.join(".git")).unwrap();
    git(&user, &["init", "-q", &format!("--object-format={format}")]);
    write(&user, "a", "a\n");
    commit(&user, "one");
    git(&user, &["branch", "removed"]);
    git(&user, &["tag", "-a", "-m", "t", "users"]);
    world.launch();
    world
}

/// Work of all kinds that only references and reflogs lead to.
fn work(agents: &Path) {
    for text in ["1\n", "2\n", "3\n"] {
        write(agents, "a", text);
        git(agents, &["stash", "-q"]);
    }
    git(agents, &["stash", "drop", "-q", "stash@{1}"]);
    git(agents, &["branch", "-q", "-D", "removed"]);
    git(agents, &["checkout", "-q", "-b", "topic"]);
    write(agents, "topic", "t\n");
    commit(agents, "topic");
    git(agents, &["symbolic-ref", "refs/heads/alias", "refs/heads/topic"]);
    git(agents, &["tag", "-a", "-m", "t", "annotated"]);
    git(agents, &["tag", "-a", "-m", "t", "of-a-tag", "annotated"]);
    git(agents, &["tag", "of-a-blob", "HEAD:topic"]);
    git(agents, &["notes", "add", "-m", "note"]);
    commit(agents, "lost");
    git(agents, &["reset", "-q", "--hard", "HEAD~1"]);
    git(agents, &["checkout", "-q", "--orphan", "island"]);
    commit(agents, "island");
    git(agents, &["worktree", "add", "-q", "--detach", "../tree", "main"]);
    write(&agents.join("../tree"), "w", "w\n");
    commit(&agents.join("../tree"), "in a worktree");
    git(&agents.join("../tree"), &["update-ref", "refs/worktree/own", "HEAD"]);
    commit(&agents.join("../tree"), "lost in a worktree");
    git(&agents.join("../tree"), &["reset", "-q", "--hard", "HEAD~1"]);
    for number in 0..40 {
        git(agents, &["update-ref", &format!("refs/heads/many/{number}"), "topic"]);
    }
    // On no branch.
    git(agents, &["checkout", "-q", "--detach", "topic"]);
    commit(agents, "detached");
    write(agents, "a", "not committed\n");
}

/// The same work is reported and fetched in the same way, however git stores the references.
#[test]
fn references_in_tables_come_back_as_those_in_files_do() {
    if !is_there() {
        return;
    }
    for format in ["sha1", "sha256"] {
        let (files, tables) = (begun(format), begun(format));
        migrate(&tables.agents());
        work(&files.agents());
        work(&tables.agents());
        assert!(tables.agents().join(".git/worktrees/tree/reftable").exists());
        let told = |world: &World| outstanding(&world.before(), &world.left(), &Fetched::default());
        assert!(told(&tables).references.contains(&"refs/stash".to_owned()), "{:?}", told(&tables));
        assert_eq!(told(&tables), told(&files), "{format}");
        let (one, two) = (files.pull(), tables.pull());
        assert_eq!((&two.references, &two.tips, &two.logged), (&one.references, &one.tips, &one.logged), "{format}");
        assert_eq!(two.broken, Vec::<String>::new());
        for name in
            ["stash", "tags/of-a-tag", "heads/island", "worktrees/tree/HEAD", "worktrees/tree/refs/worktree/own"]
        {
            assert!(two.references.contains_key(&format!("refs/bottler/b/{name}")), "{name}: {two:?}");
        }
        let user = tables.user();
        assert_eq!(git(&user, &["show", "p:a"]), "not committed");
        assert_eq!(git(&user, &["log", "-1", "--format=%s", "p~1"]), "detached");
        git(&user, &["fsck", "--strict"]);
        let mut known = Fetched::default();
        known.note_branch(&tables.before(), &tables.left(), &two, "r", "p");
        assert_eq!(missing(&tables, &known), Vec::<String>::new());
    }
}

/// Unreadable tables are reported, and nothing is changed, not even by what was read before.
#[test]
fn tables_that_cannot_be_read_are_named_and_nothing_is_brought() {
    if !is_there() {
        return;
    }
    let world = begun("sha1");
    let agents = world.agents();
    migrate(&agents);
    write(&agents, "a", "b\n");
    git(&agents, &["stash", "-q"]);
    let folder = agents.join(".git/reftable");
    let list = std::fs::read_to_string(folder.join("tables.list")).unwrap();
    let name = list.lines().last().unwrap().to_owned();
    let table = std::fs::read(folder.join(&name)).unwrap();
    let (user, place) = (world.user(), format!(".git/reftable/{name}: "));
    let before = git(&user, &["for-each-ref"]);
    let refused = |what: &str| {
        let why = world.pull_as("p", None, false).unwrap_err();
        assert!(why.contains(what), "{what}: {why}");
        assert!(missing(&world, &Fetched::default()).iter().any(|line| line.contains(what)), "{what}");
        assert_eq!(git(&user, &["for-each-ref"]), before);
    };
    let damage = |table: &[u8]| std::fs::write(folder.join(&name), table).unwrap();
    for at in [0, 4, 24, table.len() - 50, table.len() - 1] {
        let mut damaged = table.clone();
        damaged[at] ^= 0xff;
        damage(&damaged);
        refused(&place);
    }
    damage(&table[..table.len() - 1]);
    refused(&place);
    std::fs::remove_file(folder.join(&name)).unwrap();
    refused(&place);
    // Links in that folder are not followed; a hard link counts as the file.
    std::fs::write(agents.join("elsewhere"), &table).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", folder.join(&name)).unwrap();
    refused(&format!(".git/reftable/{name}: it is a symbolic link"));
    std::fs::remove_file(folder.join(&name)).unwrap();
    std::fs::hard_link(agents.join("elsewhere"), folder.join(&name)).unwrap();
    assert!(world.pull().references.contains_key("refs/bottler/b/stash"));
    git(&user, &["update-ref", "-d", "refs/heads/p"]);
    git(&user, &["update-ref", "-d", "refs/bottler/b/stash"]);
    // In both forms, or in neither.
    std::fs::write(agents.join(".git/HEAD"), "ref: refs/heads/main\n").unwrap();
    refused(".git/HEAD: it exists beside references in tables");
    std::fs::write(agents.join(".git/HEAD"), "ref: refs/heads/.invalid\n").unwrap();
    std::fs::write(folder.join("tables.list"), format!("{list}{name}\n")).unwrap();
    refused(".git/reftable/tables.list: ");
    std::fs::write(folder.join("tables.list"), "").unwrap();
    refused(".git/HEAD: its value is in no table");
    std::fs::remove_dir_all(&folder).unwrap();
    refused(".git/refs/heads: it is a file");
}

/// The user's references are in reftables: all tests of this folder again, with the git that created them.
#[test]
fn all_of_it_holds_where_the_users_references_are_in_tables() {
    if !is_there() {
        return;
    }
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(newer_git().into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.args(["workspace::", "--skip", "all_of_it_holds", "--skip", "workspace::killed"]);
    again.env("PATH", path).env("GIT_DEFAULT_REF_FORMAT", "reftable").env("BOTTLER_ROUNDS", "6");
    let done = again.output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success() && said.contains("a_copy_has_files"), "{said}");
}

/// The agent's git may be older than the user's, so its copy has references in files, which every git reads. If the
/// user's git is too old, the error says so.
#[test]
fn a_copy_has_files_where_the_users_has_tables() {
    if !is_there() {
        return;
    }
    let world = begun("sha1");
    let user = world.user();
    if !user.join(".git/reftable").exists() {
        // This machine's git is older.
        std::fs::remove_dir_all(user.join(".git/logs")).unwrap();
        migrate(&user);
        let why = world.launch_of(&user).unwrap_err().to_string();
        assert!(why.contains("git 2.45"), "{why}");
        return;
    }
    let agents = world.agents();
    assert!(!agents.join(".git/reftable").exists());
    assert!(!std::fs::read_to_string(agents.join(".git/config")).unwrap().to_lowercase().contains("refstorage"));
    work(&agents);
    let pulled = world.pull();
    assert!(user.join(".git/reftable").exists());
    assert!(git(&user, &["for-each-ref"]).contains("refs/bottler/b/stash"));
    assert!(git(&user, &["reflog", "show", "p"]).contains("bottler: pull b"), "{pulled:?}");
    git(&user, &["fsck", "--strict"]);
}
