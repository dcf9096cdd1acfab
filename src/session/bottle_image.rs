//! The images that were built for one bottle, written down in its directory: they are removed with it.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::{Engine, ErrorKind};
use crate::host::replace;

/// The file.
const FILE: &str = "image.json";

/// The images of a bottle.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BottleImages {
    /// The references of all that may exist: each is written down before it is made.
    pub references: Vec<String>,
    /// The one that the bottle has from its next launch on.
    #[serde(default)]
    pub current: Option<BuiltImage>,
}

/// An image that was built for a bottle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// Its reference.
    pub reference: String,
    /// Its id, which names its content.
    pub id: String,
    /// The id of the image that its steps began with.
    pub base: String,
    /// Its steps, as text.
    pub steps: Vec<String>,
}

impl BottleImages {
    /// Reads those of a bottle; none if nothing was built for it.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        let named = |why: &dyn std::fmt::Display| io::Error::other(format!("read {}: {why}", path.display()));
        match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(named(&error)),
            Ok(text) => serde_json::from_slice(&text).map_err(|error| named(&error)),
        }
    }

    /// Writes them.
    ///
    /// # Errors
    /// They cannot be written.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let path = directory.join(FILE);
        let written = serde_json::to_vec(self).map_err(io::Error::other).and_then(|text| replace(&path, &text));
        written.map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", path.display())))
    }

    /// Adds a reference, and writes it down.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn note(&mut self, reference: &str, directory: &Path) -> io::Result<()> {
        if self.references.iter().any(|known| known == reference) {
            return Ok(());
        }
        self.references.push(reference.to_owned());
        self.write(directory)
    }

    /// Removes all images of a bottle whose containers are gone, the latest first, and forgets them.
    ///
    /// # Errors
    /// The file cannot be read or written, or the engine does not remove one.
    pub async fn remove(engine: &dyn Engine, directory: &Path) -> anyhow::Result<()> {
        let images = Self::read(directory)?;
        if images == Self::default() {
            return Ok(());
        }
        for reference in images.references.iter().rev() {
            match engine.image_remove(reference).await {
                // Somebody else has made a container of it, and keeps it.
                Err(error) if error.kind == ErrorKind::InUse => {}
                removed => drop(removed?),
            }
        }
        Self::default().write(directory)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_exist_is_known_and_what_is_damaged_is_said() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(BottleImages::read(folder.path()).unwrap(), BottleImages::default());
        let mut images = BottleImages::default();
        images.note("bottler-kept/a:1", folder.path()).unwrap();
        images.note("bottler-kept/a:1", folder.path()).unwrap();
        assert_eq!(BottleImages::read(folder.path()).unwrap().references, ["bottler-kept/a:1"]);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(BottleImages::read(folder.path()).unwrap_err().to_string().contains("image.json"));
    }
}
