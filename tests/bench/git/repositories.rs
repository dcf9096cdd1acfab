//! The repositories of the bench.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::git_gate_lab::World;

/// Words that look like source code, and compress like it.
const WORDS: [&str; 24] = [
    "let", "value", "=", "compute(", ")", ";", "if", "{", "}", "return", "self.", "name", "for", "in", "items", "//",
    "the", "result", "of", "match", "=>", "Some(", "None", "index",
];

/// Adds commits to the branch of a work tree, each with a new file of so many bytes.
pub fn commits(world: &World, tree: &Path, count: usize, size: usize) {
    let (mut stream, mut state) = (String::new(), 7_u64);
    let mut next = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % most
    };
    let head = world.id(tree, "HEAD");
    for number in 0..count {
        let mut text = String::new();
        while text.len() < size {
            let end = if next(9) == 0 { "\n" } else { " " };
            let _ = write!(
                text,
                "{}{}{end}",
                WORDS[next(WORDS.len())],
                if next(4) == 0 { next(9999).to_string() } else { String::new() }
            );
        }
        let message = format!("Change file {number}\n");
        let _ =
            write!(stream, "commit refs/heads/bench\ncommitter A <a@example.com> {} +0000\n", 1_700_000_000 + number);
        let _ = write!(stream, "data {}\n{message}", message.len());
        if number == 0 {
            let _ = writeln!(stream, "from {head}");
        }
        let _ = write!(stream, "M 100644 inline src/{}/{number}.rs\ndata {}\n{text}\n", number % 37, text.len());
    }
    world.git_with(tree, &["fast-import", "--quiet"], stream.as_bytes());
    world.git(tree, &["checkout", "-q", "bench"]).expect(true, &[]);
}

/// Gives the upstream so many references: branches, tags and pull requests.
pub fn references(world: &World, count: usize) {
    let seed = world.path("seed");
    commits(world, &seed, 2000, 500);
    let upstream = world.path("upstream.git");
    let url = upstream.display().to_string();
    world.git(&seed, &["push", "-q", &url, "HEAD:main"]).expect(true, &[]);
    let ids = world.git(&seed, &["rev-list", "HEAD"]).text;
    let ids: Vec<&str> = ids.lines().collect();
    let mut lines = String::new();
    for number in 0..count {
        let name = match number % 10 {
            0 => format!("heads/topic/{number}"),
            1 => format!("tags/v{number}"),
            _ => format!("pull/{number}/head"),
        };
        let _ = writeln!(lines, "create refs/{name} {}", ids[number % ids.len()]);
    }
    world.git_with(&upstream, &["update-ref", "--stdin"], lines.as_bytes());
    world.git(&upstream, &["pack-refs", "--all"]).expect(true, &[]);
}

/// A commit with a file of a gibibyte.
pub fn huge(world: &World, tree: &Path) -> String {
    std::fs::File::create(tree.join("huge")).unwrap().set_len(1 << 30).unwrap();
    for (name, value) in [("core.bigFileThreshold", "1m"), ("core.compression", "1")] {
        world.git(tree, &["config", name, value]).expect(true, &[]);
    }
    world.commit("clone", "huge")
}

/// Writes a hook.
pub fn hook(tree: &Path, name: &str, text: &str) {
    let path = tree.join(".git/hooks").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
