//! The bottle's configuration as files, in a volume that the agent mounts read-only: `policy.json` has all of it, and the others a
//! part each. Every file is replaced by a rename, so a reader sees the old or the new one; `policy.json` is the last.

use std::io;
use std::path::Path;

use super::protocol::View;

/// The mode of the files: other users read them.
const MODE: u32 = 0o644;

/// Writes the files of a view.
///
/// # Errors
/// One cannot be written.
pub(super) fn write(folder: &Path, view: &View) -> io::Result<()> {
    let json = |value: &serde_json::Value| {
        serde_json::to_vec_pretty(value).map(|mut text| {
            text.push(b'\n');
            text
        })
    };
    let allowlist = serde_json::json!({
        "mode": view.mode, "allow": view.allow, "deny": view.deny, "tcp": view.tcp, "grants": view.grants,
    });
    replace(folder, "allowlist.json", &json(&allowlist)?)?;
    replace(folder, "routes.json", &json(&serde_json::to_value(&view.routes)?)?)?;
    replace(folder, "git.json", &json(&serde_json::to_value(&view.git)?)?)?;
    replace(folder, "Dockerfile", view.dockerfile.as_bytes())?;
    replace(folder, "generation", format!("{}\n", view.generation).as_bytes())?;
    replace(folder, "policy.json", &json(&serde_json::to_value(view)?)?)
}

fn replace(folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    let (path, beside) = (folder.join(name), folder.join(format!(".{name}.new")));
    std::fs::write(&beside, content)?;
    std::fs::set_permissions(&beside, PermissionsExt::from_mode(MODE))?;
    std::fs::rename(&beside, &path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_finds_whole_files() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        for generation in [1, 2] {
            let view = View { generation, dockerfile: "FROM x\n".into(), ..View::default() };
            write(folder, &view).unwrap();
            let read: View = serde_json::from_slice(&std::fs::read(folder.join("policy.json")).unwrap()).unwrap();
            assert_eq!(read, view);
            assert_eq!(std::fs::read_to_string(folder.join("generation")).unwrap(), format!("{generation}\n"));
        }
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["Dockerfile", "allowlist.json", "generation", "git.json", "policy.json", "routes.json"]);
    }
}
