//! What an upstream lists beside its branches and tags is not what it has published: proposals of strangers, and objects that it
//! borrows from forks. A push that would make a branch of them is inspected as if all of it were new.

use crate::git_gate_lab::{Wish, World, token};
use crate::lab::in_namespace;

/// Commits something on a head of its own, and makes it a reference of a repository; returns the commit.
fn propose(world: &World, repository: &str, name: &str, files: &[(&str, &str)]) -> String {
    let seed = world.path("seed");
    world.git(&seed, &["checkout", "-q", "--detach", "main"]).expect(true, &[]);
    for (file, content) in files {
        world.write(&format!("seed/{file}"), content);
    }
    let id = world.commit("seed", "a proposal");
    let to = world.path(repository).display().to_string();
    world.git(&seed, &["push", "-q", &to, &format!("+HEAD:{name}")]).expect(true, &[]);
    world.git(&seed, &["checkout", "-q", "main"]).expect(true, &[]);
    id
}

#[test]
fn promise_10_a_proposal_that_becomes_a_branch_is_inspected() {
    if !in_namespace("git_gate_borrowed::promise_10_a_proposal_that_becomes_a_branch_is_inspected") {
        return;
    }
    let world = World::new(Wish::default());
    let key = format!("key = {}\n", token());
    for (number, (file, content, words)) in [
        ("config", key.as_str(), "a secret (github-token"),
        (".github/workflows/ci.yml", "on: push\n", "which is protected"),
        ("harmless", "nothing\n", ""),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("refs/pull/{number}/head");
        let id = propose(&world, "upstream.git", &name, &[(file, content)]);
        let clone = world.clone_to(&format!("clone-{number}"));
        world.git(&clone, &["fetch", "-q", "origin", &name]).expect(true, &[]);
        // The commit itself, and a tag of it that names no commit of the agent's own.
        let branch = format!("agent/x-{number}");
        let done = world.git(&clone, &["push", "origin", &format!("FETCH_HEAD:refs/heads/{branch}")]);
        if words.is_empty() {
            done.expect(true, &[]);
            assert_eq!(world.upstream(&branch), id);
        } else {
            done.expect(false, &[words]);
            assert_eq!(world.upstream(&branch), "");
        }
    }
    world.git(&world.path("upstream.git"), &["fsck", "--strict"]).expect(true, &[]);
}

#[test]
fn promise_10_an_object_that_the_upstream_borrows_from_a_fork_is_inspected_or_missing() {
    if !in_namespace(
        "git_gate_borrowed::promise_10_an_object_that_the_upstream_borrows_from_a_fork_is_inspected_or_missing",
    ) {
        return;
    }
    let world = World::new(Wish::default());
    let (upstream, fork) = (world.path("upstream.git"), world.path("fork.git"));
    let [from, to] = [&upstream, &fork].map(|path| path.display().to_string());
    world.git(world.folder.path(), &["clone", "-q", "--bare", &from, &to]).expect(true, &[]);
    let secret = format!("key = {}\n", token());
    let id = propose(&world, "fork.git", "refs/heads/work", &[("config", &secret)]);
    let clean = propose(&world, "fork.git", "refs/heads/clean", &[("config", "nothing\n")]);
    world.write("upstream.git/objects/info/alternates", format!("{}/objects\n", fork.display()));
    let listed = world.git(&upstream, &["receive-pack", "--http-backend-info-refs", "."]).text;
    assert!(listed.contains(&format!("{id} .have")), "the upstream says that it has it: {listed:?}");
    world.git(&upstream, &["cat-file", "-e", &id]).expect(true, &[]);
    // The agent has the fork's commit, and sends it.
    let clone = world.clone_to("clone");
    world.git(&clone, &["fetch", "-q", &to, "work", "clean"]).expect(true, &[]);
    let push = |id: &str, name: &str| world.git(&clone, &["push", "origin", &format!("{id}:refs/heads/agent/{name}")]);
    push(&id, "work").expect(false, &["a secret (github-token"]);
    push(&clean, "clean").expect(true, &[]);
    assert_eq!(world.upstream("agent/clean"), clean);
    // It sends a commit that names the fork's file, and not the file: the gate has none to inspect.
    let raw = |arguments: &[&str], input: &str| {
        String::from_utf8(world.git_with(&clone, arguments, input.as_bytes())).unwrap().trim().to_owned()
    };
    let blob = world.id(&clone, &format!("{id}:config"));
    let tree = raw(&["mktree"], &format!("100644 blob {blob}\tagain\n"));
    let commit = raw(&["commit-tree", "-m", "x", "-p", "origin/main", &tree], "");
    let pack = world.git_with(&clone, &["pack-objects", "--stdout", "-q"], format!("{commit}\n{tree}\n").as_bytes());
    let response = world.post(&[format!("{} {commit} refs/heads/agent/x", "0".repeat(40))], &pack);
    assert!(response.contains("ng refs/heads/agent/x") && response.contains("missing"), "{response}");
    // Nor a reference without anything.
    let response = world.post(
        &[format!("{} {id} refs/heads/agent/x", "0".repeat(40))],
        &world.git_with(&clone, &["pack-objects", "--stdout", "-q"], b""),
    );
    assert!(response.contains("ng refs/heads/agent/x"), "{response}");
    assert_eq!(world.upstream("agent/x") + &world.upstream("agent/work"), "");
}
