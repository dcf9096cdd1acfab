//! The READMEs and their fenced blocks.

use std::path::{Path, PathBuf};

/// The root of the sources.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A README, with its path below the root.
pub struct Readme {
    pub path: String,
    pub text: String,
}

/// A fenced block, with the text after its opening fence.
pub struct Block {
    pub info: String,
    pub text: String,
}

impl Readme {
    /// Reads one, by its path below the root.
    pub fn read(path: &str) -> Self {
        Self { path: path.to_owned(), text: std::fs::read_to_string(root().join(path)).unwrap() }
    }

    /// Reads all of them, in order.
    pub fn all() -> Vec<Self> {
        let mut found = Vec::new();
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                let is_source = !name.starts_with('.') && name != "target" && name != "corpus";
                if entry.file_type().unwrap().is_dir() && is_source {
                    folders.push(folder.join(&name));
                } else if name == "README.md" {
                    found.push(Self::read(folder.join(&name).to_str().unwrap()));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// Its fenced blocks, in order.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if let Some(info) = line.strip_prefix("```") {
                let text = lines.by_ref().take_while(|line| *line != "```").flat_map(|line| [line, "\n"]).collect();
                blocks.push(Block { info: info.to_owned(), text });
            }
        }
        blocks
    }

    /// Its lines outside of fenced blocks.
    pub fn prose(&self) -> impl Iterator<Item = &str> {
        let mut fenced = false;
        self.text.lines().filter(move |line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            !fenced && !fence
        })
    }

    /// The content of a block that is a file of this name.
    pub fn file(&self, name: &str) -> String {
        let block = self.blocks().into_iter().find(|block| block.file() == Some(name));
        block.unwrap_or_else(|| panic!("{} shows no {name}", self.path)).text
    }
}

impl Block {
    /// The name of the file that a block contains, if any.
    pub fn file(&self) -> Option<&str> {
        let (kind, name) = self.info.split_once(' ')?;
        ["lua", "yaml"].contains(&kind).then_some(name)
    }
}
