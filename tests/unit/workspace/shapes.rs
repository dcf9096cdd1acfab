//! Repositories and agents of every kind: each must be fetched as if the work had been done by hand, or be reported.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use bottler::workspace::{Fetched, outstanding, shown};

use super::{World, commit, git, try_git, write};

/// What is still only in the bottle after a pull.
fn missing(world: &World, pulled: &bottler::workspace::PullReport) -> Vec<String> {
    let mut known = Fetched::default();
    known.note_branch(&world.before(), &world.left(), pulled, "r", "p");
    outstanding(&world.before(), &world.left(), &known).lines()
}

fn skipped(pulled: &bottler::workspace::PullReport) -> Vec<String> {
    pulled.skipped.iter().map(|(name, _)| shown(name)).collect()
}

/// A user's repository with one commit of these files.
fn with(files: &[(&str, &str)]) -> World {
    let world = World::new();
    for (path, text) in files {
        write(&world.user(), path, text);
    }
    commit(&world.user(), "one");
    world
}

#[test]
fn a_branch_without_a_commit_comes_back_as_its_first() {
    let world = with(&[("a", "a\n"), ("b", "b\n")]);
    world.launch();
    let agents = world.agents();
    git(&agents, &["checkout", "-q", "--orphan", "fresh"]);
    write(&agents, "a", "changed\n");
    std::fs::remove_file(agents.join("b")).unwrap();
    let pulled = world.pull();
    assert_eq!(world.changed(&pulled), "M\ta\nD\tb");
    assert_eq!(git(&world.user(), &["rev-list", "--count", "p"]), "1");
    assert_eq!(missing(&world, &pulled), Vec::<String>::new());
    // The user has none, either.
    let world = World::new();
    write(&world.user(), "mine", "m\n");
    world.launch();
    write(&world.agents(), "new", "n\n");
    let pulled = world.pull();
    assert_eq!(git(&world.user(), &["ls-tree", "--name-only", "p"]), "new");
    assert_eq!(skipped(&pulled), Vec::<String>::new());
}

#[test]
fn what_is_under_way_comes_back() {
    // A rebase that stopped at a conflict keeps uncommitted changes in a commit without a reference.
    let world = with(&[("a", "a\n"), ("b", "b\n")]);
    world.launch();
    let agents = world.agents();
    git(&agents, &["checkout", "-q", "-b", "topic"]);
    write(&agents, "a", "topic\n");
    commit(&agents, "topic");
    git(&agents, &["checkout", "-q", "main"]);
    write(&agents, "a", "main\n");
    commit(&agents, "main");
    git(&agents, &["checkout", "-q", "topic"]);
    write(&agents, "b", "not committed\n");
    assert!(try_git(&agents, &["rebase", "--autostash", "main"]).is_err());
    let held = std::fs::read_to_string(agents.join(".git/rebase-merge/autostash")).unwrap();
    let pulled = world.pull();
    assert_eq!(git(&world.user(), &["show", &format!("{}:b", held.trim())]), "not committed");
    assert!(git(&world.user(), &["show", "p:a"]).contains("<<<<<<<"));
    assert_eq!(git(&world.user(), &["log", "-1", "--format=%s", "refs/bottler/b/heads/topic"]), "topic");
    assert_eq!(missing(&world, &pulled), Vec::<String>::new());
    // A merge, a cherry-pick and a bisect.
    git(&agents, &["rebase", "--abort"]);
    git(&agents, &["checkout", "-q", "--", "b"]);
    for (begin, end) in
        [(&["merge", "main"][..], &["merge", "--abort"]), (&["cherry-pick", "main"], &["cherry-pick", "--abort"])]
    {
        assert!(try_git(&agents, begin).is_err());
        let pulled = world.pull_as(begin[0], None, false).unwrap();
        assert!(git(&world.user(), &["show", &format!("{}:a", pulled.commit)]).contains("<<<<<<<"));
        git(&agents, end);
    }
    git(&agents, &["bisect", "start", "main", "main~1"]);
    let pulled = world.pull_as("bisect", None, false).unwrap();
    assert_eq!(missing(&world, &pulled), Vec::<String>::new());
    git(&world.user(), &["fsck", "--strict"]);
}

#[test]
fn histories_of_every_shape_come_back() {
    let world = with(&[("a", "a\n")]);
    world.launch();
    let agents = world.agents();
    for name in ["x", "y", "z"] {
        git(&agents, &["checkout", "-q", "-b", name, "main"]);
        write(&agents, name, name);
        commit(&agents, name);
    }
    git(&agents, &["checkout", "-q", "main"]);
    git(&agents, &["merge", "-q", "-m", "octopus", "x", "y", "z"]);
    git(&agents, &["checkout", "-q", "--orphan", "island"]);
    write(&agents, "island", "i\n");
    commit(&agents, "island");
    git(&agents, &["tag", "-a", "-m", "t", "annotated"]);
    git(&agents, &["tag", "-a", "-m", "t", "of-a-tag", "annotated"]);
    git(&agents, &["tag", "of-a-blob", "island:island"]);
    git(&agents, &["replace", "main", "x"]);
    git(&agents, &["branch", "-q", "-D", "x"]);
    git(&agents, &["checkout", "-q", "--detach", "main"]);
    git(&agents, &["stash", "list"]);
    for text in ["1\n", "2\n"] {
        write(&agents, "a", text);
        write(&agents, "untracked", text);
        git(&agents, &["stash", "-q", "-u"]);
    }
    // A worktree with a commit that only it has.
    git(&agents, &["worktree", "add", "-q", "--detach", "tree", "main"]);
    write(&agents, "tree/in-a-worktree", "w\n");
    commit(&agents.join("tree"), "in a worktree");
    let pulled = world.pull();
    let user = world.user();
    for (name, expected) in [
        ("refs/bottler/b/tags/of-a-tag", "tag"),
        ("refs/bottler/b/tags/of-a-blob", "blob"),
        ("refs/bottler/b/heads/island", "commit"),
        ("refs/bottler/b/worktrees/tree/HEAD", "commit"),
        ("refs/bottler/b/stash^3", "commit"),
    ] {
        assert_eq!(git(&user, &["cat-file", "-t", name]), expected, "{name}: {pulled:?}");
    }
    let older = git(&agents, &["rev-parse", "stash@{1}"]);
    assert_eq!(git(&user, &["show", &format!("{older}:a")]), "1");
    assert_eq!(missing(&world, &pulled), Vec::<String>::new());
    git(&user, &["fsck", "--strict"]);
}

/// A user's folder with filters that the agent does not have.
fn with_filters() -> World {
    let world = World::new();
    let user = world.user();
    write(&user, ".gitattributes", "*.key filter=secret\n*.bin filter=lfs\n*.none filter=nobodys\n");
    for filter in ["secret", "lfs"] {
        git(&user, &["config", &format!("filter.{filter}.clean"), "tr a-z n-za-m"]);
        git(&user, &["config", &format!("filter.{filter}.smudge"), "tr a-z n-za-m"]);
    }
    write(&user, "a.key", "secret\n");
    commit(&user, "one");
    world.launch();
    world
}

#[test]
fn an_agent_that_commits_what_a_filter_is_for_is_refused_and_a_pointer_of_lfs_is_not() {
    let world = with_filters();
    let agents = world.agents();
    // Files can be moved; a pointer is the filter's output; a rule without a filter has no effect.
    git(&agents, &["mv", "a.key", "b.key"]);
    git(&agents, &["config", "filter.lfs.clean", "cat"]);
    git(&agents, &["config", "filter.nobodys.clean", "cat"]);
    write(&agents, "p.bin", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 3\n");
    write(&agents, "x.none", "x\n");
    git(&agents, &["add", "p.bin", "x.none"]);
    git(&agents, &["commit", "-qm", "honest"]);
    let pulled = world.pull();
    assert_eq!(world.changed(&pulled), "D\ta.key\nA\tb.key\nA\tp.bin\nA\tx.none", "{pulled:?}");
    // Unfiltered, because of a setting or attributes, and long ago.
    let setting = |agents: &Path| drop(git(agents, &["config", "filter.secret.clean", "cat"]));
    let attributes = |agents: &Path| write(agents, ".gitattributes", "*.key -filter\n");
    for how in [&setting as &dyn Fn(&Path), &attributes] {
        let world = with_filters();
        let (user, agents) = (world.user(), world.agents());
        git(&agents, &["checkout", "-q", "-b", "other"]);
        how(&agents);
        write(&agents, "c.key", "in the clear\n");
        git(&agents, &["add", "-A"]);
        git(&agents, &["commit", "-qm", "raw"]);
        git(&agents, &["rm", "-q", "--cached", "c.key"]);
        git(&agents, &["commit", "-qm", "gone"]);
        let before = git(&user, &["for-each-ref"]);
        let why = world.pull_as("raw", None, true).unwrap_err();
        assert!(why.contains("c.key (secret)") && why.contains("--patch"), "{why}");
        assert_eq!(git(&user, &["for-each-ref"]), before);
        // On another branch, it does not block anything else.
        git(&agents, &["symbolic-ref", "HEAD", "refs/heads/main"]);
        std::fs::remove_file(agents.join("c.key")).unwrap();
        write(&agents, "plain", "x\n");
        let pulled = world.pull();
        assert!(world.changed(&pulled).contains("A\tplain"));
        assert_eq!(pulled.broken[0], "refs/heads/other", "{pulled:?}");
    }
}

#[test]
fn what_attributes_make_impossible_is_named_and_blocks_nothing() {
    let world = with(&[("a", "a\n"), ("b.x", "b\n")]);
    world.launch();
    let agents = world.agents();
    write(&agents, ".gitattributes", "*.x working-tree-encoding=NO-SUCH\n");
    for name in ["a", "b.x", "c.x", "d", "e"] {
        write(&agents, name, "changed\n");
    }
    let pulled = world.pull();
    assert_eq!(world.changed(&pulled), "A\t.gitattributes\nM\ta\nA\td\nA\te");
    assert_eq!(skipped(&pulled), ["b.x", "c.x"]);
    assert_eq!(missing(&world, &pulled), ["changed: b.x, c.x"]);
}

#[test]
fn links_below_git_are_what_they_lead_to_or_in_doubt() {
    let world = with(&[("a", "a\n")]);
    world.launch();
    let agents = world.agents();
    let dot = agents.join(".git");
    git(&agents, &["branch", "other"]);
    git(&agents, &["commit", "-q", "--allow-empty", "-m", "two"]);
    // A hard link to a reference's file, and a symbolic link for a symbolic reference.
    std::fs::remove_file(dot.join("refs/heads/other")).unwrap();
    std::fs::hard_link(dot.join("refs/heads/main"), dot.join("refs/heads/other")).unwrap();
    std::fs::hard_link(dot.join("refs/heads/main"), agents.join("0 first")).unwrap();
    std::fs::remove_file(dot.join("HEAD")).unwrap();
    symlink("refs/heads/main", dot.join("HEAD")).unwrap();
    let two = git(&agents, &["rev-parse", "other"]);
    let told = outstanding(&world.before(), &world.left(), &Fetched::default());
    assert_eq!(told.references, ["refs/heads/main", "refs/heads/other"]);
    let pulled = world.pull();
    assert_eq!(git(&world.user(), &["rev-parse", "p~1"]), two, "{pulled:?}");
    // Submodules' repositories and LFS objects exist nowhere else.
    write(&agents, ".git/modules/lib/HEAD", "x\n");
    write(&agents, ".git/lfs/objects/aa/bb/x", "x\n");
    assert_eq!(missing(&world, &pulled), ["nested repositories: .git/lfs/objects, .git/modules"]);
    // A folder of it outside of the repository is not read.
    std::fs::rename(dot.join("refs"), agents.join("refs")).unwrap();
    symlink("../refs", dot.join("refs")).unwrap();
    assert!(world.pull_as("q", None, false).unwrap_err().contains("it is a symbolic link"));
}

#[test]
fn marks_of_the_index_and_settings_of_the_user_stay_and_count() {
    let world = with(&[("local", "l\n"), ("assumed", "a\n"), ("main.txt", "m\n"), ("kept", "k\n")]);
    let user = world.user();
    for setting in ["core.splitIndex", "core.untrackedCache", "core.ignoreCase"] {
        git(&user, &["config", setting, "true"]);
    }
    git(&user, &["update-index", "--split-index", "--skip-worktree", "local"]);
    git(&user, &["update-index", "--assume-unchanged", "assumed"]);
    write(&user, ".git/info/exclude", "hidden\n");
    for (name, text) in [("local", "mine alone\n"), ("assumed", "mine too\n"), ("hidden", "h\n"), ("added", "x\n")] {
        write(&user, name, text);
    }
    git(&user, &["add", "-N", "added"]);
    let status =
        || (git(&user, &["status", "--porcelain"]), git(&user, &["ls-files", "-v", "-s", "--debug", "--", "local"]));
    let before = status();
    world.launch();
    let agents = world.agents();
    assert!(!agents.join("hidden").exists());
    assert_eq!(std::fs::read_to_string(agents.join("local")).unwrap(), "mine alone\n", "a file that is there is there");
    write(&agents, "hidden", "the agent's\n");
    write(&agents, "MAIN.TXT", "another name\n");
    write(&agents, "main.txt", "changed\n");
    let pulled = world.pull();
    assert_eq!(world.changed(&pulled), "A\tMAIN.TXT\nM\tmain.txt");
    assert_eq!(missing(&world, &pulled), ["ignored by git, new or changed: hidden (1)"]);
    write(&agents, "local", "edited\n");
    write(&agents, "assumed", "edited\n");
    // With the agent's own rules, nobody would see it.
    write(&agents, ".git/info/exclude", "*\n");
    write(&agents, "added", "edited\n");
    let pulled = world.pull_as("q", None, false).unwrap();
    assert_eq!(world.changed(&pulled), "A\tMAIN.TXT\nA\tadded\nM\tassumed\nM\tlocal\nM\tmain.txt");
    assert_eq!(status(), before);
}

#[test]
fn links_that_are_files_stay_links_and_line_ends_stay_what_they_are() {
    let world = with(&[("target", "t\n"), ("text", "one\ntwo\n"), ("mixed", "one\r\ntwo\n")]);
    let user = world.user();
    symlink("target", user.join("link")).unwrap();
    symlink("target", user.join("untouched")).unwrap();
    commit(&user, "two");
    git(&user, &["config", "core.symlinks", "false"]);
    git(&user, &["config", "core.autocrlf", "true"]);
    for name in ["link", "untouched", "text"] {
        std::fs::remove_file(user.join(name)).unwrap();
    }
    git(&user, &["checkout", "-q", "--", "."]);
    assert_eq!(std::fs::read(user.join("text")).unwrap(), b"one\r\ntwo\r\n");
    world.launch();
    let agents = world.agents();
    assert_eq!(git(&agents, &["status", "--short"]), "");
    write(&agents, "link", "elsewhere");
    write(&agents, "text", "one\r\n2\r\n");
    write(&agents, "mixed", "one\r\n2\n");
    let pulled = world.pull();
    assert_eq!(world.changed(&pulled), "M\tlink\nM\tmixed\nM\ttext");
    assert!(git(&user, &["ls-tree", "p", "link"]).starts_with("120000"), "{}", git(&user, &["ls-tree", "p"]));
    assert_eq!(git(&user, &["cat-file", "blob", "p:text"]), "one\n2");
    assert_eq!(git(&user, &["cat-file", "blob", "p:mixed"]), "one\r\n2");
}

#[test]
fn submodules_that_the_agent_moves_renames_or_replaces_are_what_it_committed() {
    let world = with(&[("a", "a\n")]);
    let (user, lib) = (world.user(), world.at("lib"));
    std::fs::create_dir(&lib).unwrap();
    git(&lib, &["init", "-q"]);
    commit(&lib, "one");
    let one = git(&lib, &["rev-parse", "HEAD"]);
    for name in ["moved", "renamed", "replaced", "kept"] {
        git(&user, &["submodule", "--quiet", "add", lib.to_str().unwrap(), name]);
    }
    commit(&user, "submodules");
    commit(&lib, "two");
    let two = git(&lib, &["rev-parse", "HEAD"]);
    world.launch();
    let agents = world.agents();
    git(&agents, &["update-index", "--cacheinfo", &format!("160000,{two},moved")]);
    git(&agents, &["mv", "renamed", "new-name"]);
    git(&agents, &["commit", "-qm", "moved"]);
    git(&agents, &["rm", "-q", "--cached", "replaced"]);
    write(&agents, "replaced/file", "f\n");
    git(&agents, &["add", "replaced"]);
    git(&agents, &["commit", "-qm", "replaced"]);
    // A repository of its own, like a submodule that nobody else has.
    std::fs::create_dir(agents.join("nested")).unwrap();
    git(&agents.join("nested"), &["init", "-q"]);
    commit(&agents.join("nested"), "nested");
    git(&agents, &["add", "nested"]);
    git(&agents, &["commit", "-qm", "nested"]);
    write(&agents, "a", "changed\n");
    let pulled = world.pull();
    let changed = world.changed(&pulled);
    for line in ["M\ta", "M\tmoved", "D\trenamed", "A\tnew-name", "D\treplaced", "A\treplaced/file", "A\tnested"] {
        assert!(changed.lines().any(|found| found == line), "{line}: {changed}");
    }
    assert!(!changed.contains("kept"), "{changed}");
    assert!(git(&user, &["ls-tree", "p", "new-name"]).contains(&one));
    assert_eq!(missing(&world, &pulled), ["nested repositories: nested"]);
}

#[test]
fn a_linked_worktree_and_the_other_hash_come_back() {
    for format in ["sha1", "sha256"] {
        let world = World::new();
        std::fs::remove_dir_all(world.user()).unwrap();
        let main = world.at("main");
        std::fs::create_dir(&main).unwrap();
        git(&main, &["init", "-q", &format!("--object-format={format}")]);
        write(&main, ".gitattributes", "*.txt text eol=crlf\n");
        for name in ["a/f", "b/f", "t.txt"] {
            write(&main, name, "1\n");
        }
        commit(&main, "one");
        git(&main, &["worktree", "add", "-q", "-b", "side", "../user"]);
        let user = world.user();
        git(&user, &["config", "extensions.worktreeConfig", "true"]);
        git(&user, &["sparse-checkout", "set", "--no-cone", "/*", "!/b"]);
        world.launch();
        let agents = world.agents();
        assert_eq!(git(&agents, &["status", "--short", "--branch"]), "## side", "{format}");
        assert!(!agents.join("b").exists());
        write(&agents, "t.txt", "1\r\n2\r\n");
        git(&agents, &["commit", "-qam", "two"]);
        git(&agents, &["repack", "-qad"]);
        write(&agents, "a/f", "2\n");
        let status = || (git(&user, &["status", "--porcelain"]), git(&main, &["status", "--porcelain"]));
        let before = status();
        let pulled = world.pull();
        assert_eq!(world.changed(&pulled), "M\ta/f\nM\tt.txt", "{format}");
        assert_eq!(git(&main, &["cat-file", "blob", "p:t.txt"]), "1\n2");
        assert_eq!(status(), before);
        assert_eq!(missing(&world, &pulled), Vec::<String>::new());
        git(&main, &["fsck", "--strict"]);
        git(&main, &["checkout", "-q", "--detach"]);
        git(&user, &["checkout", "-q", "p"]);
        write(&agents, "a/f", "3\n");
        assert!(world.pull_as("p", Some(&pulled.commit), false).unwrap_err().contains("checked out"));
    }
}

#[test]
fn a_sparse_checkout_that_is_widened_or_narrowed_removes_nothing() {
    let world = with(&[("a/f", "1\n"), ("b/f", "1\n"), ("b/g", "1\n"), ("b/h", "1\n"), ("c/f", "1\n")]);
    git(&world.user(), &["sparse-checkout", "set", "--cone", "a"]);
    world.launch();
    let agents = world.agents();
    git(&agents, &["sparse-checkout", "add", "b"]);
    std::fs::remove_file(agents.join("b/f")).unwrap();
    write(&agents, "b/g", "2\n");
    let pulled = world.pull();
    assert_eq!(world.changed(&pulled), "D\tb/f\nM\tb/g", "gone uncommitted");
    git(&agents, &["rm", "-q", "b/h"]);
    git(&agents, &["commit", "-qam", "all of it"]);
    git(&agents, &["sparse-checkout", "set", "c"]);
    write(&agents, "c/f", "2\n");
    let pulled = world.pull_as("q", None, false).unwrap();
    assert_eq!(world.changed(&pulled), "D\tb/f\nM\tb/g\nD\tb/h\nM\tc/f");
    // By its patterns, if its index cannot be read alone.
    git(&agents, &["update-index", "--split-index"]);
    let pulled = world.pull_as("split", None, false).unwrap();
    assert_eq!(world.changed(&pulled), "D\tb/f\nM\tb/g\nD\tb/h\nM\tc/f", "nothing is removed that may be away");
    git(&agents, &["update-index", "--no-split-index"]);
    git(&agents, &["sparse-checkout", "disable"]);
    std::fs::remove_dir_all(agents.join("a")).unwrap();
    let pulled = world.pull_as("r", None, false).unwrap();
    assert_eq!(world.changed(&pulled), "D\ta/f\nD\tb/f\nM\tb/g\nD\tb/h\nM\tc/f");
}

#[test]
fn files_of_every_kind_come_back_or_are_passed_over() {
    let world = with(&[("a", "a\n"), ("pipe", "p\n"), (".gitignore", "*.log\n")]);
    world.launch();
    let agents = world.agents();
    // Ignored, but committed.
    write(&agents, "kept.log", "k\n");
    git(&agents, &["add", "-f", "kept.log"]);
    git(&agents, &["commit", "-qm", "a log"]);
    std::fs::remove_file(agents.join("pipe")).unwrap();
    nix::unistd::mkfifo(&agents.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(agents.join("socket")).unwrap();
    std::fs::create_dir(agents.join("empty")).unwrap();
    write(&agents, "setuid", "s\n");
    std::fs::set_permissions(agents.join("setuid"), PermissionsExt::from_mode(0o6755)).unwrap();
    write(&agents, "A", "another\n");
    write(&agents, ".git~1", "x\n");
    write(&agents, "long", "l\n");
    let deep = vec!["d".repeat(200); 12].join("/");
    write(&agents, &deep, "deep\n");
    symlink("a", agents.join(".gitmodules")).unwrap();
    let pulled = world.pull();
    let expected = format!("A\t.git~1\nA\tA\nA\t{deep}\nA\tkept.log\nA\tlong\nD\tpipe\nA\tsetuid");
    assert_eq!(world.changed(&pulled), expected);
    assert!(git(&world.user(), &["ls-tree", "p", "setuid"]).starts_with("100755"));
    assert_eq!(skipped(&pulled), [".gitmodules"]);
    assert_eq!(missing(&world, &pulled), ["changed: .gitmodules"]);
    assert!(Path::new(&agents).join("empty").exists());
}

#[test]
fn large_files_of_git_lfs_stay_pointers_and_what_they_stand_for_arrives() {
    let world = World::new();
    let user = world.user();
    git(&user, &["lfs", "install", "--local"]);
    git(&user, &["lfs", "track", "*.bin"]);
    for name in ["a.bin", "b.bin", "c.bin"] {
        write(&user, name, format!("large {name}\n"));
    }
    commit(&user, "one");
    assert!(git(&user, &["cat-file", "blob", "HEAD:a.bin"]).starts_with("version https://git-lfs"));
    world.launch();
    let agents = world.agents();
    assert_eq!(std::fs::read_to_string(agents.join("a.bin")).unwrap(), "large a.bin\n");
    assert_eq!(git(&agents, &["status", "--short"]), "");
    write(&agents, "plain", "x\n");
    assert_eq!(world.changed(&world.pull()), "A\tplain");
    // The agent has git-lfs as well, and commits a pointer; the object is only in its file.
    git(&agents, &["lfs", "install", "--local", "--force"]);
    write(&agents, "a.bin", "another\n");
    git(&agents, &["update-index", "--no-assume-unchanged", "a.bin"]);
    git(&agents, &["add", "a.bin"]);
    git(&agents, &["commit", "-qm", "a pointer"]);
    write(&agents, "b.bin", "not committed\n");
    let pulled = world.pull_as("q", None, false).unwrap();
    assert_eq!(skipped(&pulled), ["a.bin", "b.bin"]);
    assert_eq!(world.changed(&pulled), "M\ta.bin\nA\tplain");
    let missing_now = missing(&world, &pulled);
    assert_eq!(missing_now, ["changed: a.bin, b.bin", "nested repositories: .git/lfs/objects"]);
    let pulled = world.pull_as("r", None, true).unwrap();
    assert_eq!(skipped(&pulled), Vec::<String>::new());
    assert_eq!(world.changed(&pulled), "M\ta.bin\nM\tb.bin\nA\tplain");
    git(&user, &["checkout", "-q", "r"]);
    for (name, content) in [("a.bin", "another\n"), ("b.bin", "not committed\n"), ("c.bin", "large c.bin\n")] {
        assert_eq!(std::fs::read_to_string(user.join(name)).unwrap(), content);
    }
}
