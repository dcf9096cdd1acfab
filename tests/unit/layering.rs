//! The direction of dependencies, held by reading the sources.

use std::path::{Path, PathBuf};

/// What a folder of `src` may use of the others.
const MAY_USE: &[(&str, &[&str])] = &[
    ("audit", &["policy"]),
    (
        "cli",
        &[
            "audit",
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
    ("engine", &[]),
    ("holder", &["audit", "engine", "host", "lua", "plan", "policy", "primitive", "session", "sidecar", "workspace"]),
    ("host", &[]),
    ("init", &["policy", "probe", "sidecar"]),
    ("lua", &["engine", "plan", "primitive", "session", "workspace"]),
    ("manifest", &["policy", "scan"]),
    ("net", &[]),
    ("plan", &["engine", "manifest", "policy"]),
    ("policy", &["net", "scan"]),
    (
        "primitive",
        &["audit", "engine", "host", "init", "net", "plan", "policy", "probe", "scan", "session", "sidecar", "workspace"],
    ),
    ("probe", &["engine", "init", "policy", "sidecar"]),
    ("project", &["host", "workspace"]),
    ("rehearsal", &["engine", "holder", "lua", "plan", "policy", "primitive", "session", "workspace"]),
    ("report", &["audit", "holder", "primitive", "probe", "session"]),
    ("scan", &[]),
    ("session", &["engine", "host"]),
    ("sidecar", &["audit", "net", "policy", "scan"]),
    ("workspace", &["host"]),
];

/// Crates that only one place names.
const ONLY_IN: &[(&str, &str)] = &[
    ("bollard", "src/engine/docker"),
    ("mlua", "src/lua"),
    ("indicatif", "src/report"),
    ("clap", "src/cli"),
    ("full_moon", "src/lua"),
    ("similar", "src/workspace"),
    ("vte", "src/report"),
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

#[test]
fn nothing_points_back() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut folders: Vec<String> = std::fs::read_dir(&src)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let listed: Vec<&str> = MAY_USE.iter().map(|(folder, _)| *folder).collect();
    assert_eq!(folders, listed, "every folder of src has its line here");
    for (folder, allowed) in MAY_USE {
        for path in sources(&src.join(folder)) {
            let code = code(&path);
            for (other, _) in MAY_USE {
                let used = code.contains(&format!("crate::{other}::")) || code.contains(&format!("crate::{other};"));
                assert!(!used || other == folder || allowed.contains(other), "{} uses {other}", path.display());
            }
        }
    }
}

#[test]
fn each_engine_and_language_is_named_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in sources(&root.join("src")) {
        let code = code(&path);
        for (name, place) in ONLY_IN {
            let named = code.contains(&format!("{name}::"));
            assert!(!named || path.starts_with(root.join(place)), "{} names {name}", path.display());
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
