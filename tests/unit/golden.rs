//! The exact error messages for authors' mistakes. `BLESS=1 tests/run unit` rewrites them.

use std::path::{Path, PathBuf};
use std::process::Command;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mistakes")
}

/// The output of `bottler lua run` for a recipe, on an engine in memory.
fn said(name: &str) -> String {
    let state = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bottler"))
        .current_dir(folder())
        .args(["lua", "run", "--no-project", name])
        .env("XDG_STATE_HOME", state.path())
        .env("XDG_CONFIG_HOME", state.path())
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    // Errors of the teardown are rows of its table.
    let undone: String =
        stdout.split("UNDOES").nth(1).unwrap_or_default().lines().filter(|l| l.contains("defer")).collect();
    if undone.is_empty() { stderr } else { format!("{stderr}{undone}\n") }
}

#[test]
fn every_mistake_is_told_with_its_line_its_cause_and_what_to_do() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|extension| extension == "lua"));
    names.sort();
    assert!(names.len() >= 40, "{}", names.len());
    let mut wrong = Vec::new();
    for path in names {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let said = said(&name);
        let golden = path.with_extension("txt");
        if bless {
            std::fs::write(&golden, &said).unwrap();
        }
        let expected = std::fs::read_to_string(&golden).unwrap_or_default();
        if said != expected {
            wrong.push(format!("{name}\nexpected:\n{expected}\nsaid:\n{said}"));
        }
        for word in [
            "traceback",
            "::",
            "mlua",
            "userdata",
            "RuntimeError",
            "CallbackError",
            "panicked",
            "u16",
            "usize",
            "struct ",
        ] {
            assert!(!said.contains(word), "{name}: {word}: {said}");
        }
        assert!(
            said.contains(&name) || said.contains("recipe returned") || said.contains("scripts/launch.lua:"),
            "{name} is not named: {said}"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
