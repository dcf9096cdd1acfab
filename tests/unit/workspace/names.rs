//! References with names of every kind.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use bottler::workspace::{Fetched, outstanding};

use super::{World, commit, git, write};

#[test]
fn references_of_any_bytes_come_back_and_one_that_git_does_not_take_holds_back_nothing() {
    let world = World::new();
    let user = world.user();
    write(&user, "a", "a\n");
    commit(&user, "one");
    world.launch();
    let agents = world.agents();
    let made = |name: &str| {
        git(&agents, &["checkout", "-q", "--detach", "main"]);
        write(&agents, "a", name);
        commit(&agents, name);
        git(&agents, &["rev-parse", "HEAD"])
    };
    let commits = ["loose", "packed", "spaced", "long", "out", "head"].map(made);
    let [loose, packed, spaced, long, out, head] = &commits;
    let place = |name: &[u8]| [b".git/refs/", name].concat();
    for (name, commit) in [
        (&b"heads/\xff loose"[..], spaced),
        (b"heads/\xffloose", loose),
        (b"heads/\xfehead", head),
        (b"log/1", out),
        (&[b"tags/", &b"l"[..].repeat(251)[..]].concat(), long),
    ] {
        write(&agents, OsStr::from_bytes(&place(name)), format!("{commit}\n"));
    }
    let line = [packed.as_bytes(), b" refs/tags/\xfd\n"].concat();
    write(&agents, ".git/packed-refs", line);
    write(&agents, ".git/HEAD", b"ref: refs/heads/\xfehead\n");
    write(&agents, "a", "not committed\n");
    let told = outstanding(&world.before(), &world.left(), &Fetched::default());
    assert_eq!(told.uncertain, Vec::<String>::new());
    assert!(told.references.contains(&r#""refs/heads/\377loose""#.to_owned()), "{told:?}");
    let pulled = world.pull();
    let mut expected = vec![
        r#""refs/bottler/b/heads/\377loose""#.to_owned(),
        r#""refs/bottler/b/tags/\375""#.to_owned(),
        format!(r#"refs/bottler/b/other/{spaced}, the agent's "refs/heads/\377 loose""#),
        format!("refs/bottler/b/other/{out}, the agent's refs/log/1"),
        format!("refs/bottler/b/other/{long}, the agent's refs/tags/{}", "l".repeat(251)),
    ];
    let mut fetched: Vec<String> =
        pulled.references.keys().filter(|name| !name.contains("/log/") || name.contains("other")).cloned().collect();
    expected.sort();
    fetched.sort();
    assert_eq!(fetched, expected);
    for commit in &commits {
        git(&user, &["cat-file", "-e", commit]);
    }
    assert_eq!(git(&user, &["show", "p:a"]), "not committed");
    assert_eq!(git(&user, &["log", "-1", "--format=%s", "p~1"]), "head");
    let mut known = Fetched::default();
    known.note_branch(&world.before(), &world.left(), &pulled, "r", "p");
    assert_eq!(outstanding(&world.before(), &world.left(), &known).lines(), Vec::<String>::new());
    // Pulling again finds nothing new.
    let again = world.pull_as("p", Some(&pulled.commit), false).unwrap();
    assert_eq!(again.references.len(), 0, "{again:?}");
}

/// A crash may leave a reference's file empty; git skips it.
#[test]
fn a_reference_that_names_nothing_holds_back_itself_alone() {
    let world = World::new();
    write(&world.user(), "a", "a\n");
    commit(&world.user(), "one");
    world.launch();
    let agents = world.agents();
    write(&agents, "a", "b\n");
    git(&agents, &["branch", "good"]);
    git(&agents, &["commit", "-qam", "two"]);
    write(&agents, ".git/refs/heads/empty", "");
    write(&agents, ".git/refs/tags/junk", "junk\n");
    let pulled = world.pull();
    assert_eq!(pulled.broken, ["refs/heads/empty", "refs/tags/junk"]);
    assert_eq!(git(&world.user(), &["show", "p:a"]), "b");
    let (before, left) = (world.before(), world.left());
    let mut known = Fetched::default();
    known.note_branch(&before, &left, &pulled, "r", "p");
    let lines = outstanding(&before, &left, &known).lines();
    assert_eq!(lines, ["references: refs/heads/empty (has no value), refs/tags/junk (has no value)"]);
    known.note_all(&before, &left);
    assert!(outstanding(&before, &left, &known).is_empty());
    // A checked-out branch is different.
    write(&agents, ".git/HEAD", "ref: refs/heads/empty\n");
    assert!(world.pull_as("q", None, false).unwrap_err().contains("has no commit"));
}

/// A branch becomes a folder of branches, and the reverse.
#[test]
fn a_name_in_the_way_of_an_earlier_one_does_not_block() {
    let world = World::new();
    write(&world.user(), "a", "a\n");
    commit(&world.user(), "one");
    world.launch();
    let agents = world.agents();
    let mut earlier: Option<String> = None;
    for (number, name) in ["x", "x/y", "x", "x/y/z"].iter().enumerate() {
        git(&agents, &["checkout", "-q", "--detach", "main"]);
        write(&agents, "a", format!("{number}\n"));
        commit(&agents, name);
        git(&agents, &["branch", name]);
        git(&agents, &["checkout", "-q", "main"]);
        let tip = git(&agents, &["rev-parse", name]);
        let pulled = world.pull_as("p", earlier.as_deref(), false).unwrap_or_else(|why| panic!("{name}: {why}"));
        earlier = Some(pulled.commit);
        git(&world.user(), &["cat-file", "-e", &tip]);
        let reachable = git(&world.user(), &["for-each-ref", "--contains", &tip, "--format=%(refname)"]);
        assert!(!reachable.is_empty(), "{name}");
        git(&agents, &["branch", "-q", "-D", name]);
    }
}

/// The user's files keep theirs, the agent's copy has none, and the agent's do not count as changes: git does not
/// store them.
#[test]
fn extended_attributes_stay_where_they_are() {
    let world = World::new();
    let user = world.user();
    write(&user, "a", "a\n");
    write(&user, "b", "b\n");
    commit(&user, "one");
    let python = |script: &str, path: &std::path::Path| {
        let done = std::process::Command::new("python3").args(["-c", script]).arg(path).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let set = "import os, sys; os.setxattr(sys.argv[1], 'user.where', b'https://me:secret@example.com')";
    let get = "import os, sys; print(os.listxattr(sys.argv[1]))";
    python(set, &user.join("a"));
    world.launch();
    let seed = std::fs::read(world.at("seed.tar")).unwrap();
    assert!(!String::from_utf8_lossy(&seed).contains("user.where"));
    let agents = world.agents();
    assert_eq!(python(get, &agents.join("a")), "[]\n");
    python(set, &agents.join("b"));
    let done = std::process::Command::new("tar")
        .args(["--format=pax", "--xattrs", "-cf"])
        .arg(world.at("left.tar"))
        .arg("-C")
        .arg(&world.folder)
        .arg("workspace")
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    let before = world.before();
    let left = bottler::workspace::read_at(&world.at("left.tar"), "/workspace", Some(&before)).unwrap();
    assert!(bottler::workspace::changes(&before, &left).is_empty());
    assert_eq!(outstanding(&before, &left, &Fetched::default()).lines(), Vec::<String>::new());
    assert_eq!(python(get, &user.join("a")), "['user.where']\n");
}
