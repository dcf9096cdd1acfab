//! Whether the agent's program is in its image: found out before the release, so that a launch fails with the reason, and does
//! not end with a code that the program could have given.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

/// Where programs are looked for if there is no `PATH` (exec(3), as glibc has it).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Looks for a command's program, as exec(3) would. `path` is the command's own `PATH`, `workdir` its working directory.
///
/// # Errors
/// It is not there, or may not be executed: where it was looked for.
pub(super) fn check(program: &str, path: Option<&str>, workdir: &Path) -> Result<(), String> {
    let own = std::env::var("PATH").ok();
    let path = path.or(own.as_deref()).unwrap_or(DEFAULT_PATH);
    let candidates = candidates(program, path, workdir);
    let runs = |file: &PathBuf| file.is_file() && access(file, AccessFlags::X_OK).is_ok();
    if candidates.iter().any(runs) {
        return Ok(());
    }
    let place = if program.contains('/') { String::new() } else { format!(" in {path}") };
    let what = if candidates.iter().any(|file| file.exists()) { "which its user may execute" } else { "of that name" };
    Err(format!("there is no program {program:?}{place} {what}"))
}

/// The files that a program's name may mean. A name without a slash is looked for in `PATH`.
fn candidates(program: &str, path: &str, workdir: &Path) -> Vec<PathBuf> {
    if program.contains('/') {
        return vec![workdir.join(program)];
    }
    // An empty part is the current directory.
    path.split(':').map(|folder| workdir.join(folder).join(program)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_program_is_looked_for_as_exec_does() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, mode) in [("runs", 0o755), ("data", 0o644)] {
            std::fs::write(at(name), "").unwrap();
            std::fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        std::fs::create_dir(at("folder")).unwrap();
        let here = folder.path().display().to_string();
        let checked = |program: &str, path: &str| check(program, Some(path), folder.path());
        for (program, path) in [("runs", &*here), ("runs", "/none:"), ("./runs", "/none"), ("/bin/sh", "/none")] {
            assert_eq!(checked(program, path), Ok(()), "{program} {path}");
        }
        for (program, path, words) in [
            ("none", "/none", "no program \"none\" in /none of that name"),
            ("data", &here, "which its user may execute"),
            ("folder", &here, "which its user may execute"),
            ("./none", &here, "no program \"./none\" of that name"),
            ("runs", "/none", "of that name"),
        ] {
            let why = checked(program, path).unwrap_err();
            assert!(why.contains(words), "{program}: {why}");
        }
    }
}
