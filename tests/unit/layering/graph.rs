//! Which file uses which, and the cycles among them.
//!
//! A `use` of a re-export counts as a use of the file that defines the item. A `mod.rs` that only declares and
//! re-exports has no edges of its own. Tests are ignored, because they may use everything around them.

use std::collections::{BTreeMap, BTreeSet};

use super::code::{Import, bare, declared, imports, named, without_tests};

/// A module's path, without `crate`.
pub(super) type Module = Vec<String>;

struct Source {
    /// The code with its tests, without comments and literals.
    all: String,
    code: String,
    imports: Vec<Import>,
    children: BTreeSet<String>,
    test: bool,
}

/// The sources, by module.
pub(super) struct Sources(BTreeMap<Module, Source>);

impl Sources {
    /// Takes `(path below src, text)` of each source. Entry points are skipped: they use everything, and nothing uses
    /// them.
    pub(super) fn new<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let mut sources = BTreeMap::new();
        let mut tests = BTreeSet::new();
        for (path, text) in files.into_iter().filter(|(path, _)| !matches!(*path, "lib.rs" | "main.rs" | "dispatch.rs"))
        {
            let all = bare(text);
            let (code, for_tests) = without_tests(&all);
            let module = module(path);
            tests.extend(for_tests.into_iter().map(|name| joined(&module, name)));
            let children = declared(&code).into_iter().collect();
            let (imports, code) = imports(&code);
            sources.insert(module, Source { all, code, imports, children, test: false });
        }
        for (module, source) in &mut sources {
            source.test = (1..=module.len()).any(|length| tests.contains(&module[..length]));
        }
        Self(sources)
    }

    /// All top-level modules of the crate that a file's paths start with, including its tests.
    pub(super) fn rooms(&self, module: &Module) -> BTreeSet<String> {
        let source = &self.0[module];
        let (imports, code) = imports(&source.all);
        let imported = imports.into_iter().map(|import| import.path);
        let paths = imported.chain(named(&code, &BTreeSet::new())).filter(|path| path[0] == "crate");
        paths.filter_map(|path| path.get(1).cloned()).collect()
    }

    /// All modules.
    pub(super) fn modules(&self) -> impl Iterator<Item = &Module> {
        self.0.keys()
    }

    /// The files that each file uses.
    pub(super) fn uses(&self) -> BTreeMap<Module, BTreeSet<Module>> {
        let real = self.0.iter().filter(|(_, source)| !source.test);
        real.map(|(module, source)| (module.clone(), self.used_by(module, source))).collect()
    }

    fn used_by(&self, module: &Module, source: &Source) -> BTreeSet<Module> {
        let mut found = BTreeSet::new();
        let mut names = source.children.clone();
        let mut places = BTreeMap::new();
        for import in &source.imports {
            let Some(path) = absolute(module, source, &import.path) else { continue };
            if self.0.contains_key(&path) {
                // A module: what counts are the paths through it.
                names.insert(import.name.clone());
                places.insert(import.name.clone(), path);
            } else if !import.public || mentions(&source.code, &import.name) {
                found.extend(self.owner(&path));
            }
        }
        for path in named(&source.code, &names) {
            let absolute = match places.get(&path[0]) {
                Some(place) => Some(place.iter().chain(&path[1..]).cloned().collect()),
                None => absolute(module, source, &path),
            };
            found.extend(absolute.and_then(|path| self.owner(&path)));
        }
        found.remove(module);
        found
    }

    /// The file that defines what a path refers to, through re-exports.
    fn owner(&self, path: &[String]) -> Option<Module> {
        let length = (1..=path.len()).rev().find(|&length| self.0.contains_key(&path[..length]))?;
        let (module, rest) = path.split_at(length);
        let (module, source) = self.0.get_key_value(module)?;
        let Some(name) = rest.first() else { return Some(module.clone()) };
        for import in &source.imports {
            let Some(target) = absolute(module, source, &import.path) else { continue };
            if import.name == "*" {
                let place = &target[..target.len() - 1];
                if self.0.get(place).is_some_and(|source| defines(&source.code, name)) {
                    return Some(place.to_vec());
                }
            } else if import.name == *name {
                return self.owner(&target.iter().chain(&rest[1..]).cloned().collect::<Module>());
            }
        }
        Some(module.clone())
    }
}

/// The path from the crate's root; `None` for another crate.
fn absolute(module: &Module, source: &Source, path: &[String]) -> Option<Module> {
    let above = path.iter().take_while(|step| *step == "super").count();
    match &*path[0] {
        "crate" => Some(path[1..].to_vec()),
        "self" => Some(module.iter().chain(&path[1..]).cloned().collect()),
        "super" => Some(module[..module.len().checked_sub(above)?].iter().chain(&path[above..]).cloned().collect()),
        name => source.children.contains(name).then(|| module.iter().chain(path).cloned().collect()),
    }
}

fn module(path: &str) -> Module {
    let path = path.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').map(str::to_owned).collect()
}

fn joined(module: &[String], name: String) -> Module {
    module.iter().cloned().chain([name]).collect()
}

fn mentions(code: &str, name: &str) -> bool {
    code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name)
}

fn defines(code: &str, name: &str) -> bool {
    let words: Vec<_> = code.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
    let kinds = ["struct", "enum", "fn", "trait", "type", "const", "static"];
    words.windows(2).any(|pair| kinds.contains(&pair[0]) && pair[1] == name)
}

/// The same for the entries of one folder: files in a subfolder count as that subfolder. The folder's own `mod.rs` is
/// ignored.
pub(super) fn between(
    uses: &BTreeMap<Module, BTreeSet<Module>>,
    folder: &[String],
) -> BTreeMap<Module, BTreeSet<Module>> {
    let below = |module: &Module| {
        (module.starts_with(folder) && module.len() > folder.len()).then(|| module[..=folder.len()].to_vec())
    };
    let mut found: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, used) in uses {
        let Some(from) = below(module) else { continue };
        let beside = used.iter().filter_map(below).filter(|to| *to != from);
        found.entry(from.clone()).or_default().extend(beside);
    }
    found
}

/// The cycles, each as a set.
pub(super) fn circles(uses: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeSet<BTreeSet<Module>> {
    let reached: BTreeMap<_, _> = uses.keys().map(|from| (from, reach(uses, from))).collect();
    let both = |from: &Module| {
        let back = reached[from].iter().filter(|to| reached.get(to).is_some_and(|reached| reached.contains(from)));
        back.cloned().collect::<BTreeSet<_>>()
    };
    uses.keys().map(both).filter(|circle| !circle.is_empty()).collect()
}

fn reach(uses: &BTreeMap<Module, BTreeSet<Module>>, from: &Module) -> BTreeSet<Module> {
    let mut found = BTreeSet::new();
    let mut ahead = vec![from];
    while let Some(module) = ahead.pop() {
        ahead.extend(uses.get(module).into_iter().flatten().filter(|to| found.insert((*to).clone())));
    }
    found
}

#[cfg(test)]
fn found(files: &[(&str, &str)]) -> Vec<String> {
    let uses = Sources::new(files.iter().copied()).uses();
    circles(&uses)
        .iter()
        .map(|circle| circle.iter().map(|module| module.join("::")).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn a_circle_is_found_whatever_its_form() {
    let b = ("a/b.rs", "use super::c::C; pub struct B;");
    for (what, other) in [
        ("a nested import", "use crate::{x::Y, a::{b::{B as D}}};"),
        ("a path in the code", "fn f(_: &crate::a::b::B) {}"),
        ("a module's name", "use super::b; fn f(_: b::B) {}"),
        ("through the signpost", "use super::B;"),
        ("through a module's name and the signpost", "use crate::a; fn f(_: a::B) {}"),
    ] {
        let files = [("a/mod.rs", "mod b; mod c;\npub use b::B;"), b, ("a/c.rs", other), ("x.rs", "")];
        assert_eq!(found(&files), ["a::b a::c"], "{what}");
    }
    let parent = [("a/mod.rs", "mod b;\npub struct A; fn f(_: b::B) {}"), ("a/b.rs", "use super::A; pub struct B;")];
    assert_eq!(found(&parent), ["a a::b"]);
    let three = [("a.rs", "use crate::b::B;"), ("b.rs", "use crate::c::C;"), ("c.rs", "use crate::a::A;")];
    assert_eq!(found(&three), ["a b c"]);
}

#[test]
fn what_is_no_circle_is_not_taken_for_one() {
    for other in [
        "// use super::b::B;",
        "const X: &str = \"crate::a::b::B\";",
        "#[cfg(test)]\nmod tests {\n    use crate::a::b::B;\n}",
        "use super::D; pub struct C;",
    ] {
        let files = [
            ("a/mod.rs", "mod b;\nmod c;\nmod d;\npub use b::B;\npub use d::*;"),
            ("a/b.rs", "use super::c::C;"),
            ("a/c.rs", other),
            ("a/d.rs", "pub struct D;"),
        ];
        assert_eq!(found(&files), [""; 0], "{other}");
    }
}

#[test]
fn folders_have_circles_that_files_have_not() {
    let files = [("a/x.rs", "use crate::b::y::Y;"), ("a/z.rs", ""), ("b/y.rs", ""), ("b/v.rs", "use crate::a::z::Z;")];
    let uses = Sources::new(files).uses();
    assert!(circles(&uses).is_empty());
    assert_eq!(circles(&between(&uses, &[])).len(), 1);
}
