//! What the operator has approved hides nothing else.

use bottler::policy::GitTerms;

use crate::git_gate_lab::{SECRET, Wish, World, token};
use crate::lab::in_namespace;

/// Commits files on top of the upstream's branch, and pushes them.
fn push(world: &World, files: &[(String, String)]) -> crate::git_gate_lab::Done {
    let clone = world.path("clone");
    world.git(&clone, &["checkout", "-q", "-B", "work", "origin/main"]).expect(true, &[]);
    for (name, content) in files {
        world.write(&format!("clone/{name}"), content);
    }
    world.commit("clone", "work");
    world.git(&clone, &["push", "-f", "origin", "HEAD:refs/heads/agent/x"])
}

fn files(count: usize, name: impl Fn(usize) -> String, content: impl Fn(usize) -> String) -> Vec<(String, String)> {
    (0..count).map(|number| (name(number), content(number))).collect()
}

/// Tokens of one format, each another one.
fn tokens(number: usize) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut state = 7 + 1_000_003 * number as u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(letters[usize::try_from(state >> 59).unwrap()])
    };
    letter();
    format!("AKIA{}\n", (0..16).map(|_| letter()).collect::<String>())
}

#[test]
fn promise_10_behind_many_approved_findings_another_one_is_found() {
    if !in_namespace("git_gate_approved::promise_10_behind_many_approved_findings_another_one_is_found") {
        return;
    }
    let terms = GitTerms { force: true, ..GitTerms::default() };
    let mut world = World::new(Wish { terms, ..Wish::default() });
    world.clone_to("clone");
    let many = |count| files(count, |number| format!("a{number}"), |number| format!("{number} {}\n", token()));
    let refused = push(&world, &many(1)).expect(false, &["a secret (github-token"]);
    world.approve(&refused.text, false);
    push(&world, &many(60)).expect(true, &[]);
    for more in [SECRET.to_owned(), tokens(1)] {
        let with = [many(60), vec![("z".to_owned(), format!("{more}\n"))]].concat();
        let refused = push(&world, &with).expect(false, &["in z line 1"]);
        assert_eq!(refused.text.contains("git approve"), more != SECRET, "{}", refused.text);
    }
}

#[test]
fn promise_10_a_file_that_is_named_like_an_approved_commit_hides_no_protected_path() {
    if !in_namespace(
        "git_gate_approved::promise_10_a_file_that_is_named_like_an_approved_commit_hides_no_protected_path",
    ) {
        return;
    }
    let terms = GitTerms { protected: vec!["zz".to_owned()], ..GitTerms::default() };
    let mut world = World::new(Wish { terms, ..Wish::default() });
    let clone = world.clone_to("clone");
    // It comes after every name that is like a commit's.
    let build = |content: &str| vec![("zz".to_owned(), content.to_owned())];
    let refused = push(&world, &build("build\n")).expect(false, &["changes zz, which is protected"]);
    world.approve(&refused.text, false);
    let approved = world.id(&clone, "HEAD");
    let file = |name: &str| (name.to_owned(), "x\n".to_owned());
    for name in [approved.clone(), format!("{approved}/a"), format!(":{approved}")] {
        let more = [build("evil\n"), vec![file(&name)]].concat();
        push(&world, &more).expect(false, &["changes zz, which is protected"]);
    }
    // The approved commit itself passes.
    world.git(&clone, &["checkout", "-q", "-f", "-B", "work", &approved]).expect(true, &[]);
    world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/x"]).expect(true, &[]);
}

#[test]
fn promise_10_what_a_cut_list_does_not_show_cannot_be_approved() {
    if !in_namespace("git_gate_approved::promise_10_what_a_cut_list_does_not_show_cannot_be_approved") {
        return;
    }
    let mut world = World::new(Wish::default());
    world.clone_to("clone");
    let workflows =
        |count| files(count, |number| format!(".github/workflows/{number}.yml"), |_| "on: push\n".to_owned());
    let keys = |count| files(count, |number| format!("key-{number:03}"), tokens);
    for (name, many, few) in [("paths", workflows(51), workflows(50)), ("tokens", keys(51), keys(50))] {
        let refused = push(&world, &many).expect(false, &["… and 4"]);
        assert!(!refused.text.contains("git approve"), "{name}: {}", refused.text);
        // With one less, all of it is shown to the operator, and passes once approved.
        let refused = push(&world, &few).expect(false, &["… and 40 more"]);
        world.approve(&refused.text, true);
        let again = world.git(&world.path("clone"), &["push", "-f", "origin", "HEAD:refs/heads/agent/x"]);
        again.expect(true, &[]);
        world.git(&world.path("upstream.git"), &["update-ref", "-d", "refs/heads/agent/x"]).expect(true, &[]);
    }
}
