//! Interrupts `diff` and `pull` at any moment, and makes writes fail: what arrived is complete, nothing else is left,
//! and the bottle is kept.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::workspace::{git, shell, write};
use crate::support::images::Debian;
use crate::support::process::{World, finish, wait_for};

/// How many interruptions are tried.
const MOMENTS: usize = 30;

/// A pseudo-random generator with a fixed seed (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % end.max(1)
    }
}

fn names(folder: &Path) -> Vec<OsString> {
    let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    names
}

/// A repository with one commit.
fn repository(folder: &Path) {
    git(folder, &["init", "-q", "-b", "main"]);
    write(folder, "a", "a\n");
    git(folder, &["add", "."]);
    git(folder, &["commit", "-qm", "first"]);
}

#[test]
fn a_diff_or_pull_that_is_ended_at_any_moment_leaves_what_is_whole_or_nothing() {
    let (world, _image) = (World::new(), Debian::import());
    let (folder, patches) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    repository(folder);
    let script = "git config user.name a; git config user.email a@b; for i in 1 2 3; do head -c 1000000 /dev/urandom > f$i; \
        git add .; git commit -qm $i; done; echo b >> a; echo c > c";
    let done = shell(&world, folder, &["--name", "moments"], script);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    let directory = world.state.path().join("bottler/bottles/moments");
    // The result of a complete run, and its duration.
    let patch = |name: &str| patches.path().join(name).to_str().unwrap().to_owned();
    let (first, branch) = (patch("whole"), ["pull", "moments", "--branch", "whole"]);
    let mut whole = Vec::new();
    for words in [&["diff", "moments"][..], &["pull", "moments", "--patch", &first], &branch] {
        let began = Instant::now();
        let done = world.run(words);
        assert_eq!(done.code(), 0, "{}", done.stderr);
        whole.push((done.stdout, began.elapsed()));
    }
    let tree = git(folder, &["rev-parse", "whole^{tree}"]);
    let text = std::fs::read(&first).unwrap();
    let (files, objects) = (names(&directory), world.objects());
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut arrived = 0;
    for round in 0..MOMENTS {
        let name = format!("r{round}");
        let file = patch(&name);
        let commands = [
            vec!["diff", "moments"],
            vec!["pull", "moments", "--patch", &file],
            vec!["pull", "moments", "--branch", &name],
        ];
        let words = &commands[round % 3];
        let time = u64::try_from(whole[round % 3].1.as_millis()).unwrap();
        let after = Duration::from_millis(random.below(time * 11 / 10));
        let signal = if random.below(2) == 0 { Signal::SIGKILL } else { Signal::SIGINT };
        let child = world.start(words);
        let began = Instant::now();
        wait_for("a moment", || (began.elapsed() >= after).then_some(()));
        let _ = kill(Pid::from_raw(child.id().cast_signed()), signal);
        let done = finish(child);
        wait_for("the sweeper", || world.processes("sweeper").is_empty().then_some(()));
        let what = format!("round {round}: {words:?}, {signal} after {after:?}: {}", done.stderr);
        assert_eq!(names(&directory), files, "{what}");
        assert_eq!(world.objects(), objects, "{what}");
        match round % 3 {
            0 => assert!(done.code() != 0 || done.stdout == whole[0].0, "{what}"),
            1 => {
                let got = std::fs::read(&file).ok();
                assert!(got.is_none() || got.as_ref() == Some(&text), "{what}");
                assert!(done.code() != 0 || got.is_some(), "{what}");
                arrived += usize::from(got.is_some());
            }
            _ => {
                let refs = git(folder, &["for-each-ref", "--format=%(refname)", &format!("refs/heads/{name}")]);
                assert!(done.code() != 0 || !refs.is_empty(), "{what}");
                if !refs.is_empty() {
                    assert_eq!(git(folder, &["rev-parse", &format!("{name}^{{tree}}")]), tree, "{what}");
                    arrived += 1;
                }
            }
        }
    }
    println!("{arrived} arrived");
    let known = |name: &OsString| {
        let name = name.to_string_lossy();
        name == "whole" || name.starts_with('r') && name[1..].bytes().all(|byte| byte.is_ascii_digit())
    };
    assert!(names(patches.path()).iter().all(known), "{:?}", names(patches.path()));
    let counted = git(folder, &["count-objects", "-v"]);
    assert!(counted.contains("garbage: 0"), "{counted}");
    git(folder, &["fsck", "--strict"]);
    assert_eq!(world.run(&["gc"]).code(), 0);
    let all = world.run(&["ps", "--all", "--format", "json"]).json();
    assert_eq!((&all[0]["bottle"], &all[0]["state"]), (&"moments".into(), &"kept".into()));
    assert_eq!(world.run(&["rm", "moments"]).code(), 0, "the whole pull at the beginning counts");
    world.assert_clean();
}

/// If writing fails, nothing counts as fetched, and existing files are unchanged.
#[test]
fn what_cannot_be_written_is_not_brought() {
    let (world, _image) = (World::new(), Debian::import());
    let (folder, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (folder, out) = (folder.path(), out.path());
    repository(folder);
    let script = "echo b >> a; echo new > new; git refs migrate --ref-format=reftable && git -c user.name=a -c user.email=a@b commit -qm x a; \
        for table in .git/reftable/*.ref; do echo damaged >> $table; done";
    let done = shell(&world, folder, &["--name", "places"], script);
    assert_eq!(done.code(), 0, "{}", done.stderr);
    let directory = world.state.path().join("bottler/bottles/places");
    write(out, "there", "mine\n");
    std::os::unix::fs::symlink("/dev/full", out.join("link")).unwrap();
    let before = names(out);
    let at = |name: &str| out.join(name).to_str().unwrap().to_owned();
    let places = [
        "/dev/full".to_owned(),
        at("there"),
        at("link"),
        at("."),
        at("no/such"),
        "/proc/x".to_owned(),
        "/sys/kernel/x".to_owned(),
    ];
    for place in &places {
        for option in ["--patch", "--archive"] {
            let done = world.run(&["pull", "places", option, place]);
            assert_eq!(done.code(), 120, "{option} {place}: {}", done.stderr);
            assert!(done.stderr.contains(place.as_str()), "{place}: {}", done.stderr);
        }
    }
    for words in [
        &["diff", "places"][..],
        &["diff", "places", "--stat"],
        &["diff", "places", "--format", "json"],
        &["pull", "places", "--patch", "-"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let status = world.command(words).stdout(full).stderr(Stdio::null()).status().unwrap();
        assert_ne!(status.code(), Some(0), "{words:?}");
    }
    // References that cannot be read are uncertain, and a branch would lack them.
    let refused = world.run(&["pull", "places"]);
    assert!(refused.code() == 120 && refused.stderr.contains(".git/reftable/0x"), "{}", refused.stderr);
    assert_eq!(git(folder, &["for-each-ref", "--format=%(refname)"]), "refs/heads/main\n");
    assert_eq!(names(out), before);
    assert_eq!(std::fs::read_to_string(out.join("there")).unwrap(), "mine\n");
    assert!(!directory.join("brought.json").exists());
    let refused = world.run(&["rm", "places"]);
    assert!(refused.code() == 120 && refused.stderr.contains("changed: a, new"), "{}", refused.stderr);
    // Into the repository itself, of which the patch is not a part.
    let inside = folder.join("inside.patch");
    assert_eq!(world.run(&["pull", "places", "--patch", inside.to_str().unwrap()]).code(), 0);
    assert_eq!(git(folder, &["apply", "--numstat", "inside.patch"]), "1\t0\ta\n1\t0\tnew\n");
    let archive = at("all.tar");
    assert_eq!(world.run(&["pull", "places", "--archive", &archive]).code(), 0);
    assert_eq!(world.run(&["rm", "places", "--discard"]).code(), 0);
    world.assert_clean();
}
