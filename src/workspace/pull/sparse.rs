//! Finds the paths outside a sparse checkout. git decides: it checks out a tree of empty files at these paths, with
//! the given patterns, into a temporary folder.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

use super::options::refused;
use crate::workspace::git::{Git, line, path};
use crate::workspace::name::Name;

/// Returns the paths that git does not check out with these patterns (the content of `info/sparse-checkout`).
/// `staging` contains the repository `import`.
///
/// # Errors
/// git rejects one of the paths, or nothing can be written.
pub(super) fn outside(staging: &Path, patterns: &[u8], names: &BTreeSet<&Name>) -> io::Result<BTreeSet<Name>> {
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    let (folder, tree) = (staging.join("import"), staging.join("sparse"));
    std::fs::create_dir_all(folder.join("info"))?;
    std::fs::create_dir_all(&tree)?;
    std::fs::write(folder.join("info/sparse-checkout"), patterns)?;
    let git = |index: &str| {
        Git::alone(&tree)
            .env("GIT_DIR", path(&folder))
            .env("GIT_WORK_TREE", path(&tree))
            .env("GIT_INDEX_FILE", path(&staging.join(index)))
    };
    let empty = line(&git("sparse-index").run(&["hash-object", "-t", "blob", "-w", "/dev/null"])?)?;
    let arguments = ["update-index", "--add", "-z", "--index-info"];
    let made = git("sparse-names").feed(&arguments, |input| {
        let mut input = io::BufWriter::new(input);
        for name in names {
            write!(input, "100644 {empty}\t")?;
            input.write_all(name)?;
            input.write_all(&[0])?;
        }
        input.flush()
    });
    made.map_err(|error| refused(&error))?;
    let listed = line(&git("sparse-names").run(&["write-tree"])?)?;
    // Patterns of cone mode mean the same in the other mode.
    let settings = ["-c", "core.sparseCheckout=true", "-c", "core.sparseCheckoutCone=false"];
    git("sparse-index").run(&[&settings[..], &["read-tree", "-m", "-u", &listed]].concat())?;
    let said = git("sparse-index").run(&[&settings[..], &["ls-files", "-t", "-z"]].concat())?;
    Ok(said.split(|byte| *byte == 0).filter_map(|entry| Some(entry.strip_prefix(b"S ")?.to_vec())).collect())
}
