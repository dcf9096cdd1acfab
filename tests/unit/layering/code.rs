//! The code of a source file without comments and literals, and the paths that it contains. Supports only the syntax
//! that the sources use.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

/// A path in a `use`, and the name that it introduces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Import {
    pub path: Vec<String>,
    pub name: String,
    pub public: bool,
}

/// Replaces comments, strings and characters by spaces, and removes the paths of visibilities, which are not a use.
pub(super) fn bare(text: &str) -> String {
    static PLACE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"pub\(in [^)]*\)").unwrap());
    let text: Vec<char> = text.chars().collect();
    let mut bare = String::new();
    let mut at = 0;
    while at < text.len() {
        let end = text.len().min(at + skipped(&text[at..], at.checked_sub(1).map(|before| text[before])));
        if end == at {
            bare.push(text[at]);
            at += 1;
        } else {
            bare.extend(text[at..end].iter().map(|&letter| if letter == '\n' { '\n' } else { ' ' }));
            at = end;
        }
    }
    PLACE.replace_all(&bare, "pub").into_owned()
}

/// The length of a comment, string or character that starts here; 0 if there is none.
fn skipped(text: &[char], before: Option<char>) -> usize {
    let find = |from: usize, end: &str| {
        let end: Vec<char> = end.chars().collect();
        (from..text.len()).find(|&at| text[at..].starts_with(&end)).map_or(text.len(), |at| at + end.len())
    };
    let quoted = |from: usize, quote: char| {
        let mut at = from;
        while at < text.len() && text[at] != quote {
            at += if text[at] == '\\' { 2 } else { 1 };
        }
        at + 1
    };
    let in_name = before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_');
    match text {
        ['/', '/', ..] => find(2, "\n"),
        ['/', '*', ..] => find(2, "*/"),
        ['"', ..] => quoted(1, '"'),
        ['r', '"' | '#', ..] if !in_name => {
            let marks = text[1..].iter().take_while(|&&letter| letter == '#').count();
            if text.get(1 + marks) == Some(&'"') { find(2 + marks, &format!("\"{}", "#".repeat(marks))) } else { 0 }
        }
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(1, '\''),
        _ => 0,
    }
}

/// Code without items for tests, and the modules declared for tests.
pub(super) fn without_tests(code: &str) -> (String, BTreeSet<String>) {
    const MARK: &str = "#[cfg(test)]";
    let mut modules = BTreeSet::new();
    let mut rest = code;
    let mut kept = String::new();
    while let Some(at) = rest.find(MARK) {
        kept.push_str(&rest[..at]);
        let item = &rest[at + MARK.len()..];
        let end = item.find(['{', ';']).unwrap_or(item.len());
        let head = item[..end].trim();
        if let Some((_, name)) = head.rsplit_once("mod ").filter(|_| item[end..].starts_with(';')) {
            modules.insert(name.trim().to_owned());
        }
        rest =
            &item[if item[end..].starts_with('{') { end + block(&item[end..]) } else { (end + 1).min(item.len()) }..];
    }
    (kept + rest, modules)
}

/// The length of a block, including both braces.
fn block(code: &str) -> usize {
    let mut depth = 0;
    for (at, letter) in code.char_indices() {
        match letter {
            '{' => depth += 1,
            '}' if depth == 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

/// Modules that the code declares in separate files.
pub(super) fn declared(code: &str) -> Vec<String> {
    static MOD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(?m)^(?:pub(?:\([^)]*\))?\s+)?mod\s+(\w+);").unwrap());
    MOD.captures_iter(code).map(|found| found[1].to_owned()).collect()
}

/// The imports, and the code without them.
pub(super) fn imports(code: &str) -> (Vec<Import>, String) {
    static USE: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"(?m)^[ \t]*(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);").unwrap());
    let mut found = Vec::new();
    for one in USE.captures_iter(code) {
        for (path, name) in leaves(&[], &one[2]) {
            found.push(Import { path, name, public: one.get(1).is_some() });
        }
    }
    (found, USE.replace_all(code, "").into_owned())
}

/// The paths in an import tree, each with the name that it introduces.
fn leaves(before: &[String], tree: &str) -> Vec<(Vec<String>, String)> {
    let (head, group) = match tree.split_once('{') {
        Some((head, group)) => (head, Some(group.trim_end().trim_end_matches('}'))),
        None => (tree, None),
    };
    let (head, renamed) = head.split_once(" as ").unwrap_or((head, ""));
    let steps = head.split("::").map(str::trim).filter(|step| !step.is_empty()).map(str::to_owned);
    let mut path: Vec<String> = before.iter().cloned().chain(steps).collect();
    let Some(group) = group else {
        if path.last().is_some_and(|step| step == "self") && path.len() > 1 {
            path.pop();
        }
        let name =
            if renamed.is_empty() { path.last().cloned().unwrap_or_default() } else { renamed.trim().to_owned() };
        return vec![(path, name)];
    };
    let mut depth = 0;
    let parts = group.split(|letter: char| {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        letter == ',' && depth == 0
    });
    parts.filter(|part| !part.trim().is_empty()).flat_map(|part| leaves(&path, part)).collect()
}

/// Paths in code that start with the crate, with this module or a parent, or with one of these names.
pub(super) fn named(code: &str, names: &BTreeSet<String>) -> BTreeSet<Vec<String>> {
    static PATH: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\w+(?:::\w+)+").unwrap());
    let paths = PATH.find_iter(code).filter(|found| !code[..found.start()].ends_with("::"));
    let paths = paths.map(|found| found.as_str().split("::").map(str::to_owned).collect::<Vec<_>>());
    paths.filter(|path| matches!(&*path[0], "crate" | "super" | "self") || names.contains(&path[0])).collect()
}

#[test]
fn code_is_told_from_what_is_none() {
    let text =
        "a /* crate::x */ \"crate::y\" 'c' '\\'' '\"' r#\"crate::\"z\"# 'long: for // crate::v\npub(in crate::w) b";
    let bare = bare(text);
    assert!(!bare.contains("crate"), "{bare}");
    assert_eq!(bare.split_whitespace().collect::<Vec<_>>(), ["a", "'long:", "for", "pub", "b"]);
    let (kept, modules) =
        without_tests("mod a;\n#[cfg(test)]\nmod b;\nfn c() {}\n#[cfg(test)]\nmod d { fn e() { {} } }\nfn f() {}");
    assert_eq!(kept.split_whitespace().collect::<Vec<_>>().join(" "), "mod a; fn c() {} fn f() {}");
    assert_eq!(modules, BTreeSet::from(["b".to_owned()]));
}

#[test]
fn imports_are_read_in_every_form() {
    let (found, rest) =
        imports("pub use crate::a;\n    use crate::{b::{self, C as D}, e::*};\nuse super::f::{G,\n H};\nrest");
    let found: Vec<_> =
        found.iter().map(|found| format!("{} {} {}", found.path.join("::"), found.name, found.public)).collect();
    let expected = [
        "crate::a a true",
        "crate::b b false",
        "crate::b::C D false",
        "crate::e::* * false",
        "super::f::G G false",
        "super::f::H H false",
    ];
    assert_eq!(found, expected);
    assert_eq!(rest.trim(), "rest");
}
