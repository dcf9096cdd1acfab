//! Merges bottles for `extends`, as YAML: tables are merged key by key, lists are appended, any other value of the child
//! replaces the parent's. `null` removes the parent's value. `image` and `build` replace each other. Of `credentials` and `git`, those of the
//! same name are merged, and what the child says of one replaces what the parent said, its hosts, too: a credential never goes
//! further than the last one that names it says.

use std::path::Path;

use serde_yaml::{Mapping, Value};

use super::credential::written_name;
use super::expand;

/// Keys that replace each other.
const EXCLUSIVE: [(&str, &str); 2] = [("image", "build"), ("build", "image")];

/// The lists whose entries have names.
const CREDENTIALS: &str = "credentials";
const GIT: &str = "git";

/// Merges a child into its parent.
pub(super) fn merge(parent: Value, child: Value) -> Value {
    match (parent, child) {
        (Value::Mapping(mut parent), Value::Mapping(child)) => {
            for (here, there) in EXCLUSIVE {
                if child.contains_key(here) && !child.contains_key(there) {
                    parent.remove(there);
                }
            }
            for (key, value) in child {
                if value.is_null() {
                    parent.remove(&key);
                    continue;
                }
                let merged = match (parent.remove(&key), value) {
                    (Some(Value::Sequence(before)), Value::Sequence(value)) if key == CREDENTIALS || key == GIT => {
                        Value::Sequence(merge_named(before, value))
                    }
                    (Some(before), value) => merge(before, value),
                    (None, value) => value,
                };
                parent.insert(key, merged);
            }
            Value::Mapping(parent)
        }
        (Value::Sequence(mut parent), Value::Sequence(child)) => {
            for value in child {
                if !parent.contains(&value) {
                    parent.push(value);
                }
            }
            Value::Sequence(parent)
        }
        (_, child) => child,
    }
}

/// Merges a list of tables with names into another one.
fn merge_named(mut parent: Vec<Value>, child: Vec<Value>) -> Vec<Value> {
    for entry in child {
        let name = written_name(&entry);
        let same = |other: &&mut Value| name.is_some() && written_name(other) == name;
        match (parent.iter_mut().find(same), entry) {
            (Some(Value::Mapping(known)), Value::Mapping(entry)) => {
                for (key, value) in entry {
                    if value.is_null() {
                        known.remove(&key);
                    } else {
                        known.insert(key, value);
                    }
                }
            }
            (_, entry) => parent.push(entry),
        }
    }
    parent
}

/// Keys whose value is a path, or a list of them.
const PATHS: [&str; 6] = ["ca", "context", "env_file", "prompt_file", "roots", "rules"];

/// Makes the host paths in a section absolute: `~` is the home, relative paths are below the file's folder. Request paths, the
/// workspace's path inside, and values of variables are not host paths.
pub(super) fn anchor(section: &mut Value, folder: &Path) {
    let Value::Mapping(section) = section else { return };
    for (key, value) in section.iter_mut() {
        let Some(key) = key.as_str() else { continue };
        match key {
            "env" | "args" | "allow" | "deny" | "mcp" => {}
            "workspace" => {
                if let Some(source) = value.get_mut("source") {
                    anchor_path(source, folder);
                }
            }
            CREDENTIALS => {
                for source in value.as_sequence_mut().into_iter().flatten().filter_map(|entry| entry.get_mut("source"))
                {
                    anchor_source(source, folder);
                }
            }
            GIT => {
                for entry in value.as_sequence_mut().into_iter().flatten() {
                    if let Some(file) = entry.get_mut("identity_file") {
                        anchor_path(file, folder);
                    }
                }
            }
            _ if PATHS.contains(&key) => anchor_path(value, folder),
            _ => anchor(value, folder),
        }
    }
}

fn anchor_path(value: &mut Value, folder: &Path) {
    match value {
        Value::String(path) => *path = expand(folder, Path::new(path)).to_string_lossy().into_owned(),
        Value::Sequence(paths) => paths.iter_mut().for_each(|path| anchor_path(path, folder)),
        _ => {}
    }
}

/// A source of a credential that is a file.
fn anchor_source(source: &mut Value, folder: &Path) {
    if let Value::String(text) = source
        && let Some(path) = text.strip_prefix("file:")
    {
        *text = format!("file:{}", expand(folder, Path::new(path)).to_string_lossy());
    }
}

/// A section without a key.
pub(super) fn without(section: Value, key: &str) -> Value {
    match section {
        Value::Mapping(mut section) => {
            section.remove(key);
            Value::Mapping(section)
        }
        other => other,
    }
}

/// An empty section.
pub(super) fn nothing() -> Value {
    Value::Mapping(Mapping::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn yaml(text: &str) -> Value {
        serde_yaml::from_str(text).unwrap()
    }

    #[test]
    fn tables_are_merged_lists_appended_and_null_takes_away() {
        let parent = yaml("{build: {context: .}, env: {A: 1, B: 2}, egress: {mode: audit, allow: [a, b]}, user: x}");
        let child = yaml("{image: i, env: {B: 3}, egress: {mode: enforce, allow: [b, c]}, user: null}");
        let expected = yaml("{env: {A: 1, B: 3}, egress: {mode: enforce, allow: [a, b, c]}, image: i}");
        assert_eq!(merge(parent, child), expected);
    }

    #[test]
    fn paths_are_anchored_and_what_only_looks_like_one_is_not() {
        let mut section = yaml(
            "{env: {ca: x}, env_file: [a.env], egress: {allow: [{host: h, paths: [/p]}], roots: [/r.pem, c.pem]}, \
             workspace: {path: /w, source: src}}",
        );
        anchor(&mut section, Path::new("/etc/b"));
        let expected = yaml(
            "{env: {ca: x}, env_file: [/etc/b/a.env], egress: {allow: [{host: h, paths: [/p]}], \
             roots: [/r.pem, /etc/b/c.pem]}, workspace: {path: /w, source: /etc/b/src}}",
        );
        assert_eq!(section, expected);
        let mut section = yaml("{credentials: [{name: a, source: 'file:k'}, {name: b, source: 'env:K'}, {name: c}]}");
        anchor(&mut section, Path::new("/etc/b"));
        let expected =
            yaml("{credentials: [{name: a, source: 'file:/etc/b/k'}, {name: b, source: 'env:K'}, {name: c}]}");
        assert_eq!(section, expected);
    }

    #[test]
    fn a_credential_is_what_the_last_one_says_of_it() {
        let parent =
            yaml("{credentials: [{name: a, source: 'env:A', env: A, hosts: [a.com, b.com]}, {name: b, env: B}]}");
        let child = yaml("{credentials: [{name: c, env: C}, {name: a, hosts: [c.com], env: null, file: f}]}");
        let expected = yaml(
            "{credentials: [{name: a, source: 'env:A', hosts: [c.com], file: f}, {name: b, env: B}, {name: c, env: C}]}",
        );
        assert_eq!(merge(parent, child), expected);
        // Some have their names from their variables.
        let parent = || yaml("{credentials: [{env: MY_KEY, hosts: [a.com]}]}");
        for (child, expected) in [
            ("{name: my-key, hosts: [b.com]}", "{env: MY_KEY, hosts: [b.com], name: my-key}"),
            ("{env: MY_KEY, hosts: [b.com]}", "{env: MY_KEY, hosts: [b.com]}"),
        ] {
            let list = |entry: &str| yaml(&format!("{{credentials: [{entry}]}}"));
            assert_eq!(merge(parent(), list(child)), list(expected), "{child}");
        }
    }
}
