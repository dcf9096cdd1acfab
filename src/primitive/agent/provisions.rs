//! What an agent has been provided with so far; it is sent at the release.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::init;
use crate::primitive::handle::Sidecar;
use crate::session::{Class, Failure};

/// What has been provided so far.
#[derive(Default)]
pub(in crate::primitive) struct Provisions {
    pub(super) files: Vec<init::File>,
    /// The paths of files in which `{NAME:-N}` is replaced.
    pub(super) filled: BTreeSet<String>,
    /// Files of other owners, which are uploaded as an archive before the container's first start.
    pub(super) foreign: Vec<(init::File, (u64, u64))>,
    pub(in crate::primitive) env: BTreeMap<String, String>,
    pub(in crate::primitive) probe: Option<Arc<Sidecar>>,
    pub(in crate::primitive) prompt_path: Option<String>,
}

impl Provisions {
    /// The agent's own files, with `{NAME:-N}` replaced.
    pub(in crate::primitive) fn files(&self, env: &BTreeMap<String, String>) -> Vec<init::File> {
        let mut files = self.files.clone();
        for file in files.iter_mut().filter(|file| self.filled.contains(&file.path)) {
            file.content = fill(&file.content, env);
        }
        files
    }

    /// The paths of the files of other owners.
    pub(super) fn unpacked(&self) -> impl Iterator<Item = &str> {
        self.foreign.iter().map(|(file, _)| file.path.as_str())
    }

    /// The archive of the files of other owners, if there are any.
    pub(in crate::primitive) fn upload(&mut self) -> Option<Result<Bytes, Failure>> {
        if self.foreign.is_empty() {
            return None;
        }
        let mut tar = tar::Builder::new(Vec::new());
        for (file, (user, group)) in std::mem::take(&mut self.foreign) {
            let mut header = tar::Header::new_gnu();
            header.set_size(file.content.len() as u64);
            header.set_mode(file.mode);
            header.set_uid(user);
            header.set_gid(group);
            header.set_mtime(0);
            let path = file.path.trim_start_matches('/');
            if let Err(error) = tar.append_data(&mut header, path, file.content.as_bytes()) {
                return Some(Err(Failure::new(Class::Input, format!("provision {}: {error}", file.path))));
            }
        }
        Some(
            tar.into_inner()
                .map(Bytes::from)
                .map_err(|error| Failure::new(Class::Internal, format!("provision: {error}"))),
        )
    }
}

/// Replaces `{NAME:-N}` by the last N characters of a variable; by nothing if it does not exist.
fn fill(text: &str, env: &BTreeMap<String, String>) -> String {
    let (mut filled, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('{') {
        let word = rest[at + 1..].split_once('}').map(|(word, _)| word);
        let parts = word.and_then(|word| word.split_once(":-")).and_then(|(name, end)| Some((name, end.parse().ok()?)));
        filled.push_str(&rest[..at]);
        rest = &rest[at..];
        match (word, parts) {
            (Some(word), Some((name, end))) if name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') => {
                let value = env.get(name).map_or("", String::as_str);
                let skipped = value.chars().count().saturating_sub(end);
                filled.extend(value.chars().skip(skipped));
                rest = &rest[word.len() + 2..];
            }
            _ => {
                filled.push('{');
                rest = &rest[1..];
            }
        }
    }
    filled + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_variable_is_put_in_and_nothing_else() {
        let env = BTreeMap::from([("KEY".to_owned(), "0123456789".to_owned())]);
        assert_eq!(fill("{\"a\": [\"{KEY:-3}\", \"{NONE:-3}\"], {KEY}}", &env), "{\"a\": [\"789\", \"\"], {KEY}}");
    }
}
