//! The git gate with an agent's real git: clones, fetches, pushes that pass and pushes that do not.

use bottler::policy::GitTerms;

use crate::git_gate_lab::{By, SECRET, Wish, World, token};
use crate::lab::in_namespace;

#[test]
fn an_agent_clones_fetches_and_pushes_by_every_door() {
    if !in_namespace("git_gate::an_agent_clones_fetches_and_pushes_by_every_door") {
        return;
    }
    for by in [By::Ssh, By::Http] {
        let world = World::new(Wish { by, ..Wish::default() });
        let doors = [world.url(), format!("git://{}/app.git", world.gate)];
        for (number, (url, version)) in doors.iter().flat_map(|url| [(url, 0), (url, 2)]).enumerate() {
            let (name, branch) = (format!("clone-{number}"), format!("agent/work-{number}"));
            let version = format!("protocol.version={version}");
            world.git(world.folder.path(), &["-c", &version, "clone", "-q", url, &name]).expect(true, &[]);
            let clone = world.path(&name);
            assert_eq!(world.id(&clone, "HEAD"), world.upstream("main"), "{by:?} {url}");
            // Somebody else pushes: the next fetch has it.
            world.write(&format!("seed/{number}"), "new\n");
            let newest = world.commit("seed", "more");
            let upstream = world.path("upstream.git").display().to_string();
            world.git(&world.path("seed"), &["push", "-q", &upstream, "main"]).expect(true, &[]);
            world.git(&clone, &["-c", &version, "pull", "-q"]).expect(true, &[]);
            assert_eq!(world.id(&clone, "HEAD"), newest);
            world.write(&format!("{name}/work"), format!("{number}\n"));
            let commit = world.commit(&name, "work");
            let push = format!("HEAD:refs/heads/{branch}");
            world.git(&clone, &["-c", &version, "push", "origin", &push]).expect(true, &["new branch"]);
            assert_eq!(world.upstream(&branch), commit);
            // Only branches that match may be pushed, and the client is told which.
            let refused = world.git(&clone, &["-c", &version, "push", "origin", "HEAD:main"]);
            refused.expect(false, &["! [remote rejected]", "agent/*"]);
            assert_eq!(world.upstream("main"), newest);
        }
        world.git(&world.path("upstream.git"), &["fsck", "--strict"]).expect(true, &[]);
    }
}

#[test]
fn promise_10_a_secret_is_refused_wherever_it_is_and_nothing_is_sent() {
    if !in_namespace("git_gate::promise_10_a_secret_is_refused_wherever_it_is_and_nothing_is_sent") {
        return;
    }
    let mut world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let start = world.id(&clone, "HEAD");
    let wide: Vec<u8> = format!("key = {}\n", token()).encode_utf16().flat_map(u16::to_le_bytes).collect();
    let (first, second) = ("clean\n".repeat(40), format!("{}key = {}\n", "clean\n".repeat(6), token()));
    let files: [(&str, Vec<u8>, &str); 6] = [
        ("src/config.py", second.into(), "a secret (github-token:"),
        ("known", format!("x{SECRET}x").into(), "a secret (known-secret) in known line 1"),
        ("wide.txt", wide, "in wide.txt line 1, commit"),
        (SECRET, b"x".to_vec(), "in a file name in the root folder"),
        ("big.json", format!("{first}{{\"a\": [\"correct-horse-\", \"battery-staple\"]}}").into(), "known-secret"),
        (".gitattributes", format!("* x={SECRET}\n").into(), "known-secret"),
    ];
    let push = |world: &World| world.git(&world.path("clone"), &["push", "origin", "HEAD:refs/heads/agent/x"]);
    for (name, content, words) in &files {
        world.write(&format!("clone/{name}"), content);
        world.commit("clone", "add");
        // A later commit takes it out again: the history still has it.
        world.git(&clone, &["rm", "-q", "--cached", name]).expect(true, &[]);
        world.git(&clone, &["commit", "-q", "-m", "take it out"]).expect(true, &[]);
        std::fs::remove_file(world.path(&format!("clone/{name}"))).unwrap();
        let done = push(&world).expect(false, &["! [remote rejected]", words, "every commit"]);
        assert!(!done.text.contains(SECRET) && !done.text.contains(&token()), "{}", done.text);
        world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    }
    let place = push_with(&world, "src/config.py", &files[0].1);
    assert!(place.contains("src/config.py line 7, commit "), "{place}");
    world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    // Messages, authors, unknown headers, tags, names of references, targets of links.
    world.commit("clone", &format!("message {}", token()));
    push(&world).expect(false, &["its message, authors or headers"]);
    world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    std::os::unix::fs::symlink(format!("/{SECRET}"), world.path("clone/link")).unwrap();
    world.commit("clone", "link");
    push(&world).expect(false, &["known-secret", "link"]);
    world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    let name = format!("HEAD:refs/heads/agent/{}", token());
    world.git(&clone, &["push", "origin", &name]).expect(false, &["the name contains a secret"]);
    let branches = world.git(&world.path("upstream.git"), &["for-each-ref"]).text;
    assert_eq!(branches.lines().count(), 1, "{branches}");
    let objects = world.git(&world.path("upstream.git"), &["count-objects", "-v"]).text;
    assert!(objects.contains("count: 5\n"), "nothing was sent: {objects}");
    // Every refusal is in the log, which holds no secret.
    let events = world.decisions();
    assert!(events.iter().filter(|event| event.kind.decision == "refuse").count() >= 5, "{events:?}");
    let told = serde_json::to_string(&events).unwrap();
    assert!(!told.contains(SECRET) && !told.contains(&token()), "{told}");
}

fn push_with(world: &World, name: &str, content: &[u8]) -> String {
    world.write(&format!("clone/{name}"), content);
    world.commit("clone", "add");
    world.git(&world.path("clone"), &["push", "origin", "HEAD:refs/heads/agent/x"]).expect(false, &[]).text
}

#[test]
fn a_token_that_the_upstream_has_at_that_path_passes_and_a_known_secret_never_does() {
    if !in_namespace("git_gate::a_token_that_the_upstream_has_at_that_path_passes_and_a_known_secret_never_does") {
        return;
    }
    let mut world = World::new(Wish::default());
    let clone = world.clone_to("clone");
    let start = world.id(&clone, "HEAD");
    let push = ["push", "origin", "HEAD:refs/heads/agent/x"];
    world.write("clone/fixtures/old.txt", format!("first\ntoken = {}\nlast, edited\n", token()));
    let commit = world.commit("clone", "edit a fixture");
    world.git(&clone, &push).expect(true, &[]);
    assert_eq!(world.upstream("agent/x"), commit);
    let warned = |events: &[bottler::sidecar::Event]| events.iter().any(|event| event.kind.decision == "warn");
    assert!(warned(&world.decisions()));
    // Elsewhere it is new, and so is another token.
    world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    world.write("clone/elsewhere.txt", format!("x\ntoken = {}\n", token()));
    world.commit("clone", "copy");
    world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/y"]).expect(false, &["elsewhere.txt line 2"]);
    world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    world.write("clone/fixtures/old.txt", format!("token = {}\nkey = {SECRET}\n", token()));
    world.commit("clone", "hide behind it");
    world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/y"]).expect(false, &["known-secret"]);
    // Also where the upstream has it already.
    world.write("seed/leaked", format!("{SECRET}\n"));
    world.commit("seed", "leak");
    let upstream = world.path("upstream.git").display().to_string();
    world.git(&world.path("seed"), &["push", "-q", &upstream, "main"]).expect(true, &[]);
    world.git(&clone, &["fetch", "-q"]).expect(true, &[]);
    world.git(&clone, &["reset", "-q", "--hard", "origin/main"]).expect(true, &[]);
    world.write("clone/leaked", format!("{SECRET}\nmore\n"));
    world.commit("clone", "edit the leak");
    world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/z"]).expect(false, &["known-secret"]);
}

/// Different tokens of one format, in lines.
fn many_tokens(count: u64) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut state: u64 = 7;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(letters[usize::try_from(state >> 59).unwrap()])
    };
    let mut text = String::new();
    for _ in 0..count {
        text.push_str("AKIA");
        text.extend((0..16).map(|_| letter()));
        text.push('\n');
    }
    text
}

#[test]
fn promise_10_behind_many_old_tokens_a_new_one_is_still_found() {
    if !in_namespace("git_gate::promise_10_behind_many_old_tokens_a_new_one_is_still_found") {
        return;
    }
    let world = World::new(Wish::default());
    world.write("seed/fixtures/many.txt", many_tokens(80));
    world.commit("seed", "fixtures");
    let upstream = world.path("upstream.git").display().to_string();
    world.git(&world.path("seed"), &["push", "-q", &upstream, "main"]).expect(true, &[]);
    let clone = world.clone_to("clone");
    let push = ["push", "origin", "HEAD:refs/heads/agent/x"];
    world.write("clone/fixtures/many.txt", format!("{}edited\n", many_tokens(80)));
    world.commit("clone", "edit");
    world.git(&clone, &push).expect(true, &[]);
    world.write("clone/fixtures/many.txt", format!("{}edited again\n", many_tokens(80)));
    world.write("clone/zz.txt", format!("{}\n", token()));
    world.commit("clone", "edit, and more");
    world.git(&clone, &push).expect(false, &["zz.txt line 1"]);
}

#[test]
fn the_policy_decides_about_force_deletion_tags_paths_authors_and_sizes() {
    if !in_namespace("git_gate::the_policy_decides_about_force_deletion_tags_paths_authors_and_sizes") {
        return;
    }
    let terms = GitTerms {
        branches: vec!["agent/{id}/*".to_owned(), "main".to_owned()],
        tags: vec!["v*".to_owned()],
        author: vec!["agent@example.com".to_owned()],
        max_file: 100_000,
        max_push: 1_000_000,
        ..GitTerms::default()
    };
    let world = World::new(Wish { terms, ..Wish::default() });
    let clone = world.clone_to("clone");
    let start = world.id(&clone, "HEAD");
    let branch = "agent/demo-1a2b3/x";
    let push = |force: bool, what: &str| {
        let name = format!("{}{what}:refs/heads/{branch}", if force { "+" } else { "" });
        world.git(&clone, &["push", "origin", &name])
    };
    world.write("clone/a", "a\n");
    let first = world.commit("clone", "a");
    push(false, "HEAD").expect(true, &[]);
    world.git(&clone, &["commit", "-q", "--amend", "-m", "other"]).expect(true, &[]);
    push(true, "HEAD").expect(false, &["non-fast-forward", "force is off"]);
    assert_eq!(world.upstream(branch), first);
    // Only what this bottle has made is deleted; `main` is not.
    world.git(&clone, &["push", "origin", ":main"]).expect(false, &["that this bottle created"]);
    world.git(&clone, &["push", "origin", &format!(":refs/heads/{branch}")]).expect(true, &["deleted"]);
    assert_eq!(world.upstream(branch), "");
    // All or nothing.
    let both = [&format!("HEAD:refs/heads/{branch}"), "HEAD:refs/heads/other"];
    world.git(&clone, &["push", "origin", both[0], both[1]]).expect(false, &["another reference of this push"]);
    assert_eq!(world.upstream(branch), "");
    world.git(&clone, &["tag", "-a", "-m", "release", "v1"]).expect(true, &[]);
    world.git(&clone, &["push", "origin", "v1"]).expect(true, &["new tag"]);
    world.git(&clone, &["tag", "-f", "-a", "-m", "again", "v1"]).expect(true, &[]);
    world.git(&clone, &["push", "-f", "origin", "v1"]).expect(false, &["an existing tag"]);
    for (name, content, words) in [
        (".github/workflows/ci.yml", b"on: push\n".to_vec(), ".github/workflows/ci.yml, which is protected"),
        ("CODEOWNERS", b"* @x\n".to_vec(), "CODEOWNERS, which is protected"),
        ("large", vec![b'x'; 100_001], "a file may have at most 100000"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n".to_vec(), "Git LFS"),
    ] {
        world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
        world.write(&format!("clone/{name}"), content);
        world.commit("clone", "add");
        world.git(&clone, &["rm", "-q", name]).expect(true, &[]);
        world.git(&clone, &["commit", "-q", "-m", "take it out"]).expect(true, &[]);
        push(false, "HEAD").expect(false, &[words]);
    }
    world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    world.write("clone/b", "b\n");
    world.git(&clone, &["add", "-A"]).expect(true, &[]);
    world.git(&clone, &["commit", "-q", "-m", "b", "--author", "Else <else@example.com>"]).expect(true, &[]);
    push(false, "HEAD").expect(false, &["<else@example.com> is not allowed"]);
    world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    let random: Vec<u8> = (0..30).flat_map(|_| bottler_random(50_000)).collect();
    for (number, part) in random.chunks(50_000).enumerate() {
        world.write(&format!("clone/part-{number}"), part);
    }
    world.commit("clone", "much");
    push(false, "HEAD").expect(false, &["larger than 1000000 bytes"]);
    // What other branches bring in by a merge was changed elsewhere.
    world.write("seed/.github/workflows/ci.yml", "on: push\n");
    world.commit("seed", "a workflow");
    let upstream = world.path("upstream.git").display().to_string();
    world.git(&world.path("seed"), &["push", "-q", &upstream, "main"]).expect(true, &[]);
    world.git(&clone, &["reset", "-q", "--hard", &start]).expect(true, &[]);
    world.write("clone/c", "c\n");
    world.commit("clone", "c");
    world.git(&clone, &["pull", "-q", "--no-rebase", "--no-edit", "origin", "main"]).expect(true, &[]);
    push(false, "HEAD").expect(true, &[]);
    // A merge that changes it itself is refused.
    world.git(&clone, &["checkout", "-q", "-b", "side", &start]).expect(true, &[]);
    world.write("clone/d", "d\n");
    world.commit("clone", "d");
    world.git(&clone, &["merge", "-q", "--no-commit", "origin/main"]).expect(true, &[]);
    world.write("clone/.github/workflows/ci.yml", "on: everything\n");
    world.commit("clone", "an evil merge");
    world.git(&clone, &["push", "origin", "HEAD:refs/heads/agent/demo-1a2b3/side"]).expect(false, &["protected"]);
}

fn bottler_random(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom").unwrap(), &mut bytes).unwrap();
    bytes
}

#[test]
fn without_its_upstream_or_its_secrets_the_gate_serves_nothing_and_says_why() {
    if !in_namespace("git_gate::without_its_upstream_or_its_secrets_the_gate_serves_nothing_and_says_why") {
        return;
    }
    let mut world = World::new(Wish { released: false, ..Wish::default() });
    let clone = world.clone_to("clone");
    world.write("clone/a", "a\n");
    world.commit("clone", "a");
    let push = ["push", "origin", "HEAD:refs/heads/agent/x"];
    world.git(&clone, &push).expect(false, &["not been released"]);
    std::fs::rename(world.path("upstream.git"), world.path("gone.git")).unwrap();
    world.git(&clone, &["fetch"]).expect(false, &["the upstream of \"app\" cannot be asked", "404"]);
    world.git(&clone, &push).expect(false, &["cannot be asked", "404"]);
    let git = format!("git://{}/app.git", world.gate);
    world.git(&clone, &["push", &git, "HEAD:refs/heads/agent/x"]).expect(false, &["cannot be asked", "404"]);
    let failed = world.decisions().into_iter().filter(|event| event.kind.code == "git_upstream_failed");
    let mut methods: Vec<_> = failed.map(|event| event.kind.method).collect();
    methods.dedup();
    assert_eq!(methods, ["fetch", "push"]);
    world.git(&clone, &["ls-remote", &format!("http://{}/other.git", world.gate)]).expect(false, &["not found"]);
    world
        .git(&clone, &["ls-remote", &format!("git://{}/other.git", world.gate)])
        .expect(false, &["no such repository"]);
}
