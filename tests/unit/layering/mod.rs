//! Checks the dependencies between the sources: what a folder may use, that there are no cycles, and that each engine
//! and language is named in one place only.

mod code;
mod graph;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use graph::{Sources, between, circles};

/// What each folder of `src` may use, besides [`COMMON`].
const MAY_USE: &[(&str, &[&str])] = &[
    ("audit", &["policy"]),
    (
        "cli",
        &[
            "audit",
            "credential",
            "engine",
            "holder",
            "host",
            "init",
            "lua",
            "manifest",
            "net",
            "plan",
            "policy",
            "primitive",
            "probe",
            "project",
            "rehearsal",
            "report",
            "session",
            "sidecar",
            "workspace",
        ],
    ),
    ("credential", &["net", "scan"]),
    ("engine", &["host"]),
    (
        "holder",
        &[
            "audit",
            "credential",
            "engine",
            "host",
            "lua",
            "plan",
            "policy",
            "primitive",
            "session",
            "sidecar",
            "workspace",
        ],
    ),
    ("host", &[]),
    ("init", &["policy", "probe", "sidecar"]),
    ("lua", &["engine", "plan", "primitive", "session", "workspace"]),
    ("manifest", &["credential", "net", "policy", "scan"]),
    ("net", &[]),
    ("plan", &["credential", "engine", "manifest", "net", "policy"]),
    ("policy", &["credential", "net", "scan"]),
    (
        "primitive",
        &[
            "audit",
            "credential",
            "engine",
            "host",
            "init",
            "net",
            "plan",
            "policy",
            "probe",
            "scan",
            "session",
            "sidecar",
            "workspace",
        ],
    ),
    ("probe", &["engine", "host", "init", "policy", "sidecar"]),
    ("project", &["host", "workspace"]),
    ("rehearsal", &["engine", "holder", "lua", "plan", "policy", "primitive", "session", "workspace"]),
    ("report", &["audit", "credential", "holder", "primitive", "probe", "session"]),
    ("scan", &[]),
    ("session", &["engine", "host"]),
    ("sidecar", &["audit", "credential", "host", "net", "policy", "scan"]),
    ("workspace", &["host"]),
];

/// Modules that everything may use, and that use nothing.
const COMMON: &[&str] = &["git_ref", "layout", "splice", "suggest", "sync", "task", "wire"];

/// Known cycles between files. None may be added.
const FILES: &[&[&str]] = &[];

/// Known cycles between folders, or a folder and a file beside it. None may be added.
const FOLDERS: &[&[&str]] = &[];

/// Crates that only these places may name.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("bollard", &["src/engine/docker"]),
    ("rustix", &["src/engine/native", "src/sidecar/git_gate"]),
    ("seccompiler", &["src/engine/native", "src/sidecar/dialer"]),
    ("landlock", &["src/engine/native", "src/sidecar/dialer"]),
    ("mlua", &["src/lua"]),
    ("indicatif", &["src/report"]),
    ("clap", &["src/cli"]),
    ("full_moon", &["src/lua"]),
    ("imara_diff", &["src/workspace"]),
    ("vte", &["src/report"]),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn code(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The sources below `src`.
fn all() -> Sources {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let files: Vec<(String, String)> = sources(&src)
        .iter()
        .map(|path| {
            let below = path.strip_prefix(&src).unwrap().to_str().unwrap().to_owned();
            (below, std::fs::read_to_string(path).unwrap())
        })
        .collect();
    Sources::new(files.iter().map(|(path, text)| (&**path, &**text)))
}

#[test]
fn nothing_points_back() {
    let sources = all();
    let rooms: BTreeSet<&str> = sources.modules().map(|module| &*module[0]).collect();
    let common = COMMON.iter().map(|&room| (room, &[][..]));
    let may_use: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().chain(common).collect();
    assert_eq!(rooms, may_use.keys().copied().collect(), "everything in src has its line here");
    for (room, allowed) in may_use {
        for module in sources.modules().filter(|module| module[0] == room) {
            for other in sources.rooms(module) {
                assert!(
                    other == room || allowed.contains(&&*other) || COMMON.contains(&&*other),
                    "{} uses {other}",
                    module.join("::")
                );
            }
        }
    }
}

#[test]
fn the_code_map_says_the_same() {
    let map = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/README.md")).unwrap();
    let rows = map.lines().filter_map(|line| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.strip_suffix('|')?.split('|').map(str::trim).collect();
        let [room, _, uses] = cells[..] else { return None };
        let uses: Vec<&str> = uses.split(", ").filter(|room| !room.is_empty()).collect();
        Some((room.trim_end_matches('`'), uses))
    });
    let held = MAY_USE.iter().map(|(room, uses)| (*room, uses.to_vec()));
    let held: BTreeMap<_, _> = held.chain(COMMON.iter().map(|&room| (room, Vec::new()))).collect();
    assert_eq!(rows.collect::<BTreeMap<_, _>>(), held);
}

/// Crates of the tests take rooms by their sources, each with all that it uses.
#[test]
fn crates_of_the_tests_have_every_room_that_theirs_use() {
    let uses = all().uses();
    for file in ["tests/fuzz/src/lib.rs", "tests/bench/instructions/src/main.rs"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
        let paths = text.lines().filter_map(|line| line.strip_prefix("#[path = \"")?.split_once("/src/"));
        let taken: BTreeSet<&str> = paths.filter_map(|(_, path)| path.split(['/', '.']).next()).collect();
        assert!(taken.contains("scan"), "{file}: {taken:?}");
        for (module, others) in uses.iter().filter(|(module, _)| taken.contains(&*module[0])) {
            let missing = others.iter().find(|other| !taken.contains(&*other[0]));
            assert_eq!(missing, None, "{file} takes {}, not what it uses", module.join("::"));
        }
    }
}

/// Explains how to fix a difference between the list and the cycles found.
fn assert_circles(found: &BTreeSet<BTreeSet<Vec<String>>>, listed: &[&[&str]]) {
    let found: BTreeSet<Vec<String>> =
        found.iter().map(|circle| circle.iter().map(|module| module.join("::")).collect()).collect();
    let listed: BTreeSet<Vec<String>> =
        listed.iter().map(|circle| circle.iter().map(|&module| module.to_owned()).collect()).collect();
    let new: Vec<_> = found.difference(&listed).collect();
    let gone: Vec<_> = listed.difference(&found).collect();
    assert!(new.is_empty(), "move what these share to a file of its own: {new:#?}\nlisted and not found: {gone:#?}");
    assert!(gone.is_empty(), "take these off the list, which only shrinks: {gone:#?}");
}

#[test]
fn no_file_uses_itself_through_others() {
    assert_circles(&circles(&all().uses()), FILES);
}

#[test]
fn no_folder_uses_itself_through_others() {
    let sources = all();
    let uses = sources.uses();
    let folders: BTreeSet<Vec<String>> = sources.modules().map(|module| module[..module.len() - 1].to_vec()).collect();
    let found = folders.iter().flat_map(|folder| circles(&between(&uses, folder)));
    // A cycle of files only is reported as such.
    let found = found.filter(|circle| circle.iter().any(|module| folders.contains(module))).collect();
    assert_circles(&found, FOLDERS);
}

#[test]
fn each_engine_and_language_is_named_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in sources(&root.join("src")) {
        let code = code(&path);
        for (name, places) in ONLY_IN {
            let named = code.contains(&format!("{name}::"));
            let here = places.iter().any(|place| path.starts_with(root.join(place)));
            assert!(!named || here, "{} names {name}", path.display());
        }
    }
}

#[test]
fn only_main_ends_the_process_and_one_function_where_that_cannot() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in sources(&root.join("src")).into_iter().filter(|path| !path.ends_with("session/crash.rs")) {
        assert!(!code(&path).contains("process::exit"), "{}", path.display());
    }
}
