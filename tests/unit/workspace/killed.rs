//! A pull that is killed between the two files of the pack that it installs.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bottler::workspace::{PullOptions, pull, sweep};

use super::{World, commit, git, write};

/// The folder of the world, for the pull in another process.
const PLACE: &str = "BOTTLER_TEST_WORLD";

/// A world that another process owns.
fn at(folder: &Path) -> World {
    World { folder: folder.to_owned(), _made: None }
}

fn pull_into(world: &World, staging: &Path) {
    let (before, left, user) = (world.before(), world.left(), world.user());
    let order = PullOptions {
        bottle: "b",
        before: &before,
        after: &left,
        repository: &user,
        branch: "p",
        earlier: None,
        staging,
        filters: false,
        cancelled: &|| false,
    };
    pull(&order).unwrap();
}

/// The number of the user's packs, and of those without an index.
fn packs(world: &World) -> (usize, usize) {
    let folder = world.user().join(".git/objects/pack");
    let names: Vec<PathBuf> =
        std::fs::read_dir(folder).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
    let packs: Vec<&PathBuf> = names.iter().filter(|name| name.extension().is_some_and(|it| it == "pack")).collect();
    let halves = packs.iter().filter(|pack| !pack.with_extension("idx").exists()).count();
    (packs.len(), halves)
}

/// The other process' part.
#[test]
#[ignore = "run by the test beside it, in a process of its own"]
fn a_pull_in_a_process_of_its_own() {
    let world = at(Path::new(&std::env::var_os(PLACE).expect("the test beside it says where")));
    pull_into(&world, &world.at("pull"));
}

#[test]
fn a_pull_that_is_killed_between_the_parts_of_a_pack_leaves_nothing() {
    let world = World::new();
    write(&world.user(), "a", "a\n");
    commit(&world.user(), "one");
    world.launch();
    write(&world.agents(), "a", "b\n");
    std::fs::create_dir(world.at("pull")).unwrap();
    // The second file gets its name with the thread's second call of this kind.
    let mut traced = Command::new("strace");
    traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=linkat", "-e", "inject=linkat:signal=KILL:when=2"]);
    traced.arg(std::env::current_exe().unwrap()).args(["--ignored", "--exact"]);
    traced.arg("workspace::killed::a_pull_in_a_process_of_its_own").env(PLACE, &world.folder);
    let done = traced.stdin(Stdio::null()).output().expect("strace is installed");
    assert_eq!(packs(&world), (1, 1), "it was killed in between: {done:?}");
    assert!(git(&world.user(), &["count-objects", "-v"]).contains("garbage: 1"));
    sweep(&world.at("pull"));
    assert_eq!(packs(&world), (0, 0));
    std::fs::remove_dir_all(world.at("pull")).unwrap();
    // A complete pack stays, whoever sweeps.
    std::fs::create_dir(world.at("pull")).unwrap();
    pull_into(&world, &world.at("pull"));
    sweep(&world.at("pull"));
    assert_eq!(packs(&world), (1, 0));
    git(&world.user(), &["fsck", "--strict"]);
}
