//! Attacks on the git gate: by an agent that speaks git's protocol itself, and by an upstream.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use bottler::policy::GitTerms;

use crate::git_gate_lab::{By, SECRET, Wish, World, token};
use crate::git_gate_packs::bomb;
use crate::lab::in_namespace;

const ZERO: &str = "0000000000000000000000000000000000000000";

/// A pack of these objects, as git makes it.
fn pack(world: &World, repository: &Path, ids: &[&str]) -> Vec<u8> {
    world.git_with(repository, &["pack-objects", "--stdout", "-q"], (ids.join("\n") + "\n").as_bytes())
}

/// Writes an object as it is, without any check.
fn object(world: &World, repository: &Path, kind: &str, content: &[u8]) -> String {
    let id = world.git_with(repository, &["hash-object", "-t", kind, "--literally", "-w", "--stdin"], content);
    String::from_utf8(id).unwrap().trim().to_owned()
}

/// A commit of a tree, on top of a parent.
fn commit(world: &World, repository: &Path, tree: &str, parent: &str) -> String {
    world.git(repository, &["commit-tree", "-m", "x", "-p", parent, tree]).expect(true, &[]).text.trim().to_owned()
}

fn create(id: &str) -> String {
    format!("{ZERO} {id} refs/heads/agent/x")
}

const EVIL: &[u8] = b"\x1b]0;owned\x07\x1b[2J\x9b31m\xe2\x80\xaeend\r";

#[test]
fn promise_10_what_git_would_not_write_is_refused() {
    if !in_namespace("git_gate_hostile::promise_10_what_git_would_not_write_is_refused") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let parent = world.id(&clone, "HEAD");
    let blob = object(&world, &clone, "blob", b"content\n");
    let raw: Vec<u8> = (0..40).step_by(2).map(|at| u8::from_str_radix(&blob[at..at + 2], 16).unwrap()).collect();
    let tree = |mode: &str, name: &str, raw: &[u8]| {
        let entry = [mode.as_bytes(), b" ", name.as_bytes(), b"\0", raw].concat();
        object(&world, &clone, "tree", &entry)
    };
    let modules = |text: &str| {
        let id = object(&world, &clone, "blob", text.as_bytes());
        let raw: Vec<u8> = (0..40).step_by(2).map(|at| u8::from_str_radix(&id[at..at + 2], 16).unwrap()).collect();
        (tree("100644", ".gitmodules", &raw), id)
    };
    let option = modules("[submodule \"x\"]\n\tpath = x\n\turl = --upload-pack=touch${IFS}/tmp/x\n");
    let dots = modules("[submodule \"../../x\"]\n\tpath = x\n\turl = https://example.com/x\n");
    for ((tree, blob), words) in [
        ((tree("100644", ".git", &raw), blob.clone()), "hasDotgit"),
        ((tree("100644", ".GIT", &raw), blob.clone()), "hasDotgit"),
        ((tree("100644", "..", &raw), blob.clone()), "hasDotdot"),
        ((tree("100644", "a/b", &raw), blob.clone()), "fullPathname"),
        (option, "disallowed submodule url"),
        (dots, "submodule name"),
    ] {
        let id = commit(&world, &clone, &tree, &parent);
        let response = world.post(&[create(&id)], &pack(&world, &clone, &[&id, &tree, &blob]));
        assert!(response.contains("ng refs/heads/agent/x git does not accept the pack"), "{response}");
        assert!(response.contains(words), "{words}: {response}");
    }
    // A link to the outside is content, and nothing follows it.
    let target = object(&world, &clone, "blob", b"/etc/passwd");
    let raw: Vec<u8> = (0..40).step_by(2).map(|at| u8::from_str_radix(&target[at..at + 2], 16).unwrap()).collect();
    let link = tree("120000", "link", &raw);
    let id = commit(&world, &clone, &link, &parent);
    let whole = pack(&world, &clone, &[&id, &link, &target]);
    for (body, words) in [
        ([&whole[..], b"more"].concat(), "bytes follow the pack"),
        (whole[..whole.len() - 1].to_vec(), "git does not accept the pack"),
        (Vec::new(), "git does not accept the pack"),
        (pack(&world, &clone, &[&link, &target]), "which a reference is to have"),
        (pack(&world, &clone, &[&id, &target]), "not complete"),
        (pack(&world, &clone, &[&id, &link]), "missing"),
    ] {
        let response = world.post(&[create(&id)], &body);
        assert!(response.contains("ng refs/heads/agent/x") && response.contains(words), "{words}: {response}");
    }
    for (commands, words) in [
        (vec![create(&id), create(&id)], "in more than one command"),
        (vec![create(&id), format!("{id} {ZERO} refs/heads/agent/x")], "in more than one command"),
        (vec![format!("{ZERO} {id} refs/meta/config")], "only branches and tags"),
        (vec![format!("{ZERO} {id} refs/replace/{id}")], "only branches and tags"),
        (vec![format!("{ZERO} {id} refs/heads/agent/../main")], "not a valid name"),
        (vec![format!("{parent} {ZERO} refs/heads/main")], "may not be pushed"),
        (vec![format!("{ZERO} {link} refs/heads/agent/tree")], "is not a commit"),
    ] {
        let response = world.post(&commands, &whole);
        assert!(response.contains(words), "{words}: {response}");
    }
    assert_eq!(world.upstream("agent/x"), "");
    let response = world.post(&[create(&id)], &whole);
    assert!(response.contains("ok refs/heads/agent/x"), "{response}");
    assert_eq!(world.upstream("agent/x"), id);
}

#[test]
fn promise_15_a_small_pack_that_becomes_large_is_refused_at_once() {
    if !in_namespace("git_gate_hostile::promise_15_a_small_pack_that_becomes_large_is_refused_at_once") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let bomb = bomb();
    assert!(bomb.len() < 2000, "{}", bomb.len());
    let began = std::time::Instant::now();
    let response = world.post(&[create(&world.id(&clone, "HEAD"))], &bomb);
    println!("a bomb of {} bytes is refused in {:?}", bomb.len(), began.elapsed());
    assert!(response.contains("too much memory"), "{response}");
    assert_eq!(world.upstream("agent/x"), "");
    // The gate goes on.
    world.write("clone/a", "a\n");
    world.commit("clone", "a");
    world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/x"]).expect(true, &[]);
}

#[test]
fn promise_10_what_the_upstream_has_no_more_is_inspected_and_sent_again() {
    if !in_namespace("git_gate_hostile::promise_10_what_the_upstream_has_no_more_is_inspected_and_sent_again") {
        return;
    }
    for harmless in [true, false] {
        let world = World::new(Wish::default());
        let seed = world.path("seed");
        let upstream = world.path("upstream.git");
        let content = if harmless { "nothing\n".to_owned() } else { format!("key = {}\n", token()) };
        world.git(&seed, &["checkout", "-q", "-b", "leak"]).expect(true, &[]);
        world.write("seed/leaked", &content);
        world.commit("seed", "leak");
        world.git(&seed, &["push", "-q", &upstream.display().to_string(), "leak"]).expect(true, &[]);
        let clone = world.clone_to("clone");
        let blob = world.id(&clone, "origin/leak:leaked");
        // The upstream's owner purges it; the mirror still has it.
        world.git(&upstream, &["branch", "-q", "-D", "leak"]).expect(true, &[]);
        world.git(&upstream, &["-c", "gc.reflogExpire=now", "gc", "-q", "--prune=now"]).expect(true, &[]);
        world.git(&upstream, &["cat-file", "-e", &blob]).expect(false, &[]);
        let tree = world.git_with(&clone, &["mktree"], format!("100644 blob {blob}\tagain\n").as_bytes());
        let tree = String::from_utf8(tree).unwrap().trim().to_owned();
        let id = commit(&world, &clone, &tree, &world.id(&clone, "HEAD"));
        // A pack without the blob.
        let response = world.post(&[create(&id)], &pack(&world, &clone, &[&id, &tree]));
        if harmless {
            assert!(response.contains("ok refs/heads/agent/x"), "{response}");
            world.git(&upstream, &["cat-file", "-e", &blob]).expect(true, &[]);
            world.git(&upstream, &["fsck", "--connectivity-only"]).expect(true, &[]);
        } else {
            assert!(response.contains("ng refs/heads/agent/x a secret (github-token"), "{response}");
            assert_eq!(world.upstream("agent/x"), "");
        }
    }
}

#[test]
fn promise_10_of_a_pack_only_what_is_published_is_sent() {
    if !in_namespace("git_gate_hostile::promise_10_of_a_pack_only_what_is_published_is_sent") {
        return;
    }
    for by in [By::Http, By::Ssh] {
        let world = World::new(Wish { by, ..Wish::default() });
        let clone = world.clone_to("clone");
        let upstream = world.path("upstream.git");
        // Objects that no reference leads to: one holds a secret, and nobody would look at it.
        let secret = object(&world, &clone, "blob", SECRET.as_bytes());
        let other = object(&world, &clone, "blob", b"nothing\n");
        for (number, more) in [vec![], vec![&secret], vec![&other], vec![&secret, &other]].iter().enumerate() {
            world.write("clone/a", format!("{number}\n"));
            let id = world.commit("clone", "a");
            let own = [id.clone(), world.id(&clone, "HEAD^{tree}"), world.id(&clone, "HEAD:a")];
            let all: Vec<&str> = own.iter().chain(more.iter().copied()).map(String::as_str).collect();
            // The mirror has what the upstream has, as before any push.
            world.git(&clone, &["fetch", "-q", "origin"]).expect(true, &[]);
            let before = world.upstream("agent/x");
            let before = if before.is_empty() { ZERO } else { &before };
            let command = format!("{before} {id} refs/heads/agent/x");
            let response = world.post(&[command], &pack(&world, &clone, &all));
            assert!(response.contains("ok refs/heads/agent/x"), "{response}");
            world.git(&upstream, &["fsck", "--strict"]).expect(true, &[]);
            let there = world.git(&upstream, &["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]).text;
            assert!(own.iter().all(|id| there.contains(id)), "{there}");
            assert!(!there.contains(&secret) && !there.contains(&other), "{there}");
        }
    }
}

#[test]
fn promise_17_what_an_upstream_prints_controls_no_terminal() {
    if !in_namespace("git_gate_hostile::promise_17_what_an_upstream_prints_controls_no_terminal") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    world.write("clone/a", "a\n");
    world.commit("clone", "a");
    let hook = |text: &str| {
        let path = world.path("upstream.git/hooks/pre-receive");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    };
    hook("#!/bin/sh\nprintf 'see \\033]0;owned\\007 \\033[31mhttps://example.com/pr\\233\\n' >&2\nexit 1\n");
    let push = ["-c", "color.ui=false", "push", "origin", "HEAD:refs/heads/agent/x"];
    let done = world.git(&clone, &push).expect(false, &["https://example.com/pr", "pre-receive hook declined"]);
    assert!(!done.text.contains('\x1b') && !done.text.contains('\x07'), "{:?}", done.text);
    hook("#!/bin/sh\nprintf 'thanks \\033[31m\\n' >&2\n");
    let done = world.git(&clone, &push).expect(true, &["thanks ?[31m"]);
    assert!(!done.text.contains('\x1b'), "{:?}", done.text);
}

/// A line of git's protocol.
fn line(text: &[u8]) -> Vec<u8> {
    [format!("{:04x}", text.len() + 4).as_bytes(), text].concat()
}

#[test]
fn promise_17_what_an_upstream_says_in_any_band_controls_no_terminal() {
    if !in_namespace("git_gate_hostile::promise_17_what_an_upstream_says_in_any_band_controls_no_terminal") {
        return;
    }
    let world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    world.write("clone/a", "a\n");
    world.commit("clone", "a");
    let name = b"refs/heads/agent/x";
    let refused = [line(b"unpack ok\n"), line(&[b"ng ", &name[..], b" no ", EVIL, b"\n"].concat()), b"0000".to_vec()];
    let broken = [line(&[b"unpack ", EVIL].concat()), b"0000".to_vec()].concat();
    let band = |number: u8, data: &[u8]| line(&[&[number], data].concat());
    let long = EVIL.repeat(3000);
    for (what, response) in [
        ("a message", [band(2, EVIL), band(1, &refused.concat()), b"0000".to_vec()].concat()),
        ("a message in pieces", [band(2, &EVIL[..1]), band(2, &EVIL[1..]), band(3, b"end")].concat()),
        ("a fatal error", band(3, EVIL)),
        ("a long fatal error", band(3, &long)),
        ("the unpacking", [band(1, &broken), b"0000".to_vec()].concat()),
        ("an error instead of bands", line(&[b"ERR ", EVIL].concat())),
        ("a band that nobody knows", band(7, EVIL)),
        ("no packets", EVIL.to_vec()),
    ] {
        *world.http.scripted.lock().unwrap() = Some(response);
        for url in [world.url(), format!("git://{}/app.git", world.gate)] {
            world.git(&clone, &["remote", "set-url", "origin", &url]).expect(true, &[]);
            let push = ["-c", "color.ui=false", "push", "origin", "HEAD:refs/heads/agent/x"];
            let done = world.git(&clone, &push).expect(false, &["[remote rejected]"]);
            // git itself erases the end of a line of the remote's: nothing else comes through.
            let text = done.text.replace("\x1b[K", "");
            let control = |letter: char| letter.is_control() && !matches!(letter, '\n' | '\t');
            assert!(!text.contains(control) && !text.contains('\u{202e}'), "{what}: {:?}", done.text);
        }
    }
    assert_eq!(world.upstream("agent/x"), "");
}

#[test]
fn a_host_with_another_key_is_not_talked_to() {
    if !in_namespace("git_gate_hostile::a_host_with_another_key_is_not_talked_to") {
        return;
    }
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let world = World::new(Wish { by: By::Ssh, host_key: Some(other.to_owned()), ..Wish::default() });
    for url in [world.url(), format!("git://{}/app.git", world.gate)] {
        let done = world.git(world.folder.path(), &["clone", "-q", &url, "clone"]);
        done.expect(false, &["has another key than the pinned one"]);
    }
}

#[test]
fn of_pushes_that_race_one_wins_and_the_others_are_told_to_fetch() {
    if !in_namespace("git_gate_hostile::of_pushes_that_race_one_wins_and_the_others_are_told_to_fetch") {
        return;
    }
    for by in [By::Http, By::Ssh] {
        let terms = GitTerms { force: true, ..GitTerms::default() };
        let world = World::new(Wish { by, terms, ..Wish::default() });
        let commits: Vec<String> = (0..4)
            .map(|number| {
                let name = format!("clone-{number}");
                world.clone_to(&name);
                world.write(&format!("{name}/a"), format!("{number}\n"));
                world.commit(&name, "a")
            })
            .collect();
        let done: Vec<_> = std::thread::scope(|scope| {
            let push = |number: usize| {
                let clone = world.path(&format!("clone-{number}"));
                let world = &world;
                scope.spawn(move || world.git(&clone, &["push", "--force", "origin", "HEAD:refs/heads/agent/x"]))
            };
            let all: Vec<_> = (0..4).map(push).collect();
            all.into_iter().map(|push| push.join().unwrap()).collect()
        });
        // Each saw a value and replaces that one: who comes later has seen the winner's, or is refused.
        let last = world.upstream("agent/x");
        assert!(commits.contains(&last));
        assert!(done.iter().any(|done| done.ok), "{done:#?}");
        for (done, commit) in done.iter().zip(&commits) {
            assert!(done.ok || done.text.contains("[remote rejected]"), "{by:?}: {}", done.text);
            assert!(*commit != last || done.ok, "{by:?}: {}", done.text);
        }
        // Against an old value nothing is replaced.
        let [old, new] = [&commits[0], &commits[1]];
        let clone = world.path("clone-1");
        let pack = pack(&world, &clone, &[new]);
        let stale = if *old == last { &commits[2] } else { old };
        let response = world.post(&[format!("{stale} {new} refs/heads/agent/x")], &pack);
        assert!(response.contains("ng refs/heads/agent/x fetch first"), "{response}");
        assert_eq!(world.upstream("agent/x"), last);
    }
}
