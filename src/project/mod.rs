//! A project's `.bottler/` directory, read once, and whether the user trusts it.
//!
//! An agent can edit the project, and its scripts run on the host. So they are used only if the user trusted their content.

mod trust;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::workspace::read_files;
pub use trust::{FileStatus, TrustStore};

/// The directory of a project's own files.
pub const FOLDER: &str = ".bottler";
/// What `bottler lua types` writes there for editors; ignored, and never executed.
const TYPES: &str = "_meta/";
/// Most files, and most bytes in total.
const MAX_FILES: usize = 1000;
const MAX_BYTES: usize = 16 << 20;

/// A project's own files.
#[derive(Debug, Clone)]
pub struct Project {
    /// The project's directory, without links.
    pub root: PathBuf,
    /// The files by their names below `.bottler/`, with their content.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Project {
    /// Reads the files of the project in a directory; `None` if it has none.
    ///
    /// # Errors
    /// A file cannot be read, is a link or no regular file, or there are too many.
    pub fn read(directory: &Path) -> std::io::Result<Option<Self>> {
        let root = directory.canonicalize()?;
        let folder = root.join(FOLDER);
        match std::fs::symlink_metadata(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(seen) if !seen.is_dir() => return Err(std::io::Error::other(format!("{FOLDER} is not a directory"))),
            Ok(_) => {}
        }
        let mut files = read_files(&folder, MAX_FILES, MAX_BYTES)?;
        files.retain(|path, _| !path.starts_with(TYPES));
        Ok((!files.is_empty()).then_some(Self { root, files }))
    }

    /// The Lua files, by their names below `.bottler/`.
    ///
    /// # Errors
    /// One is not text.
    pub fn scripts(&self) -> std::io::Result<BTreeMap<String, String>> {
        let lua = |path: &str| Path::new(path).extension().is_some_and(|extension| extension == "lua");
        let text = |(path, content): (&String, &Vec<u8>)| {
            let text = String::from_utf8(content.clone());
            let text = text.map_err(|_| std::io::Error::other(format!("{FOLDER}/{path} is not UTF-8 text")))?;
            Ok((path.clone(), text))
        };
        self.files.iter().filter(|(path, _)| lua(path)).map(text).collect()
    }
}
