//! Programs from npm, installed once and kept in `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use super::registry;

static INSTALLING: Mutex<()> = Mutex::new(());

/// The folder with the `node_modules` of a package, given as `NAME@VERSION`. Installing it executes none of its
/// scripts.
pub fn install(package: &str) -> PathBuf {
    install_with(package, "{}")
}

/// The same, with other versions of what it depends on: `overrides` as in `package.json`.
pub fn install_with(package: &str, overrides: &str) -> PathBuf {
    let _turn = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
    let name: String = package.chars().map(|letter| if letter == '/' { '-' } else { letter }).collect();
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/npm");
    let folder = all.join(name.trim_start_matches('@'));
    if !folder.exists() {
        std::fs::create_dir_all(&all).unwrap();
        let work = tempfile::tempdir_in(&all).unwrap();
        std::fs::write(work.path().join("package.json"), format!("{{\"overrides\": {overrides}}}")).unwrap();
        let mut npm = Command::new("timeout");
        npm.args([
            "300",
            "npm",
            "install",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--loglevel=error",
            "--prefix",
        ]);
        registry::fetch(npm.arg(work.path()).arg(package));
        std::fs::rename(work.path(), &folder).unwrap();
    }
    folder
}
