//! References that are neither branches nor tags: who asks for one gets it, and nobody gets what the upstream has no
//! more.

use crate::git_gate_lab::{By, Wish, World};
use crate::lab::in_namespace;

/// A commit that only `refs/pull/1/head` of the upstream has.
fn pull_request(world: &World, number: u32) -> String {
    let seed = world.path("seed");
    world.git(&seed, &["checkout", "-q", "--detach", "main"]).expect(true, &[]);
    world.write(&format!("seed/proposal-{number}"), format!("{number}\n"));
    let id = world.commit("seed", "a proposal");
    let upstream = world.path("upstream.git").display().to_string();
    world.git(&seed, &["push", "-q", &upstream, &format!("+HEAD:refs/pull/{number}/head")]).expect(true, &[]);
    world.git(&seed, &["checkout", "-q", "main"]).expect(true, &[]);
    id
}

#[test]
fn a_reference_is_brought_when_it_is_asked_for_by_every_door() {
    if !in_namespace("git_gate_refs::a_reference_is_brought_when_it_is_asked_for_by_every_door") {
        return;
    }
    for by in [By::Http, By::Ssh] {
        let world = World::new(Wish { by, ..Wish::default() });
        let first = pull_request(&world, 1);
        let doors = [world.url(), format!("git://{}/app.git", world.gate)];
        for (number, url) in doors.iter().enumerate() {
            let name = format!("clone-{number}");
            world.git(world.folder.path(), &["clone", "-q", url, &name]).expect(true, &[]);
            let clone = world.path(&name);
            // It is not among what everybody gets.
            let listed = world.git(&clone, &["ls-remote", "origin", "refs/heads/*", "refs/tags/*"]).text;
            assert!(!listed.contains("refs/pull"), "{listed}");
            for spec in ["refs/pull/1/head", "pull/1/head", "refs/pull/*/head:refs/remotes/origin/pr/*"] {
                world.git(&clone, &["fetch", "-q", "origin", spec]).expect(true, &[]);
                assert_eq!(world.id(&clone, "FETCH_HEAD"), first, "{by:?} {url} {spec}");
            }
            world.git(&clone, &["fetch", "origin", "refs/pull/7/head"]).expect(false, &["find remote ref"]);
            // One that is asked for while the gate already has others, and by its id alone.
            let other = pull_request(&world, 10 + u32::try_from(number).unwrap());
            world.git(&clone, &["fetch", "-q", "origin", &other]).expect(true, &[]);
            assert_eq!(world.id(&clone, "FETCH_HEAD"), other);
            // The gate's upstream decides; nobody has this one.
            let nobody = "5".repeat(40);
            world.git(&clone, &["fetch", "origin", &nobody]).expect(false, &["not our ref"]);
        }
    }
}

#[test]
fn a_reference_that_the_upstream_changes_or_removes_is_served_as_it_is_now() {
    if !in_namespace("git_gate_refs::a_reference_that_the_upstream_changes_or_removes_is_served_as_it_is_now") {
        return;
    }
    let world = World::new(Wish::default());
    let first = pull_request(&world, 1);
    let clone = world.clone_to("clone");
    let fetch = || world.git(&clone, &["fetch", "origin", "refs/pull/1/head"]);
    fetch().expect(true, &[]);
    assert_eq!(world.id(&clone, "FETCH_HEAD"), first);
    world.git(&world.path("seed"), &["commit", "-q", "--allow-empty", "-m", "more"]).expect(true, &[]);
    let second = pull_request(&world, 1);
    assert_ne!(first, second);
    fetch().expect(true, &[]);
    assert_eq!(world.id(&clone, "FETCH_HEAD"), second);
    let upstream = world.path("upstream.git");
    world.git(&upstream, &["update-ref", "-d", "refs/pull/1/head"]).expect(true, &[]);
    fetch().expect(false, &["find remote ref"]);
    let listed = world.git(&clone, &["-c", "protocol.version=0", "ls-remote", "origin"]).expect(true, &[]).text;
    assert!(!listed.contains("refs/pull"), "{listed}");
    // Names that stand in each other's way come after each other.
    world.git(&upstream, &["update-ref", "refs/pull/1/head/x", &first]).expect(true, &[]);
    world.git(&clone, &["fetch", "-q", "origin", "refs/pull/1/head/x"]).expect(true, &[]);
    assert_eq!(world.id(&clone, "FETCH_HEAD"), first);
}

#[test]
fn too_many_references_at_once_are_refused_with_their_number() {
    if !in_namespace("git_gate_refs::too_many_references_at_once_are_refused_with_their_number") {
        return;
    }
    let world = World::new(Wish::default());
    let upstream = world.path("upstream.git");
    let main = world.upstream("main");
    let lines: String = (0..1001)
        .flat_map(|number| ["create refs/pull/".to_owned(), number.to_string(), format!("/head {main}\n")])
        .collect();
    world.git_with(&upstream, &["update-ref", "--stdin"], lines.as_bytes());
    let clone = world.clone_to("clone");
    let all = ["fetch", "origin", "refs/pull/*:refs/remotes/origin/pr/*"];
    for url in [world.url(), format!("git://{}/app.git", world.gate)] {
        world.git(&clone, &["remote", "set-url", "origin", &url]).expect(true, &[]);
        world.git(&clone, &all).expect(false, &["1001 references", "at most 1000"]);
        world.git(&clone, &["fetch", "-q", "origin", "refs/pull/77/head"]).expect(true, &[]);
    }
    world.git(&upstream, &["update-ref", "-d", "refs/pull/1000/head"]).expect(true, &[]);
    world.git(&clone, &all).expect(true, &[]);
}
