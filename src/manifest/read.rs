//! Reads the files that a manifest names.

use std::path::{Path, PathBuf};

/// Largest manifest, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Reads a file of text, of a bounded size. `what` is for messages.
///
/// # Errors
/// It cannot be read, is no regular file, or too large.
pub fn text(what: &str, path: &Path) -> Result<String, String> {
    let failed = |why: &dyn std::fmt::Display| format!("read {what} {}: {why}", path.display());
    let seen = std::fs::metadata(path).map_err(|error| failed(&error))?;
    if !seen.is_file() || seen.len() > MAX_BYTES {
        return Err(failed(&format!("it is not a regular file of at most {MAX_BYTES} bytes")));
    }
    std::fs::read_to_string(path).map_err(|error| failed(&error))
}

/// A path as it is written in a file of a folder; `~` is the home.
pub fn expand(folder: &Path, path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => folder.join(path),
    }
}
