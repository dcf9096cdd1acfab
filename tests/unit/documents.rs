//! Checks the READMEs: what they show is executed, the main page stays short, and links have targets.
//! `tests/README.md` says which test executes which block.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::support::documents::{Block, Readme, root};

/// Blocks of commands that no test executes: the README, the first command, and the reason.
const NOT_EXECUTED: [(&str, &str, &str); 5] = [
    ("src/manifest/README.md", "bottler git requests", "wants a refused push: `tests/docker/git_gate.rs` runs it"),
    ("README.md", "cargo run --release", "an optimized build, which takes minutes, and these tests"),
    ("README.md", "bottler init", "wants a key, a terminal, and the agent's program from a registry"),
    ("stdlib/README.md", "bottler run shell --image IMAGE", "the images redis:7 and IMAGE are in a registry"),
    ("tests/README.md", "tests/run", "these are the tests"),
];

/// A folder with a README's files for executing its commands, without anybody's settings.
struct Place(tempfile::TempDir);

impl Place {
    fn new(readme: &Readme) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for block in readme.blocks() {
            let Some(name) = block.file() else { continue };
            let folder = if name == "bottler.yaml" { ".config/bottler" } else { "here" };
            std::fs::create_dir_all(place.0.path().join(folder)).unwrap();
            std::fs::write(place.0.path().join(folder).join(name), block.text).unwrap();
        }
        std::fs::create_dir_all(place.0.path().join("here")).unwrap();
        place
    }

    /// Runs a shell command; returns its output, standard output first, and whether it succeeded.
    fn run(&self, command: &str) -> (String, bool) {
        let home = self.0.path();
        let own = Path::new(env!("CARGO_BIN_EXE_bottler")).parent().unwrap();
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(home.join("here")).env_clear();
        shell.env("PATH", format!("{}:/usr/bin:/bin", own.display())).env("HOME", home);
        let output = shell.env("DOCKER_HOST", "unix:///nonexistent/docker.sock").output().unwrap();
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (said.replace(&home.display().to_string(), "~"), output.status.success())
    }
}

/// Whether a text matches the expected one, in which a line `…` stands for anything.
fn is_as_expected(said: &str, expected: &str) -> bool {
    let (expected, said) = (format!("\n{expected}"), format!("\n{said}"));
    let mut parts: Vec<&str> = expected.split("\n…").collect();
    let Some(mut rest) = said.strip_prefix(parts.remove(0)) else { return false };
    let Some(last) = parts.pop() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn what_is_expected_may_leave_something_out() {
    for (said, expected, fits) in [
        ("a\nb\n", "a\nb\n", true),
        ("a\nb\n", "a\n", false),
        ("a\nb\nc\n", "a\n…\n", true),
        ("a\nb\nc\n", "…\nc\n", true),
        ("a\nb\nc\n", "a\n…\nc\n", true),
        ("a\nb\nc\n", "…\nb\n", false),
        ("a\nb\nc\n", "b\n…\n", false),
        ("a\nb\nc\nd\n", "…\nb\n…\nd\n", true),
        ("a\nb\nc\nd\n", "…\nc\n…\nb\n…\n", false),
    ] {
        assert_eq!(is_as_expected(said, expected), fits, "{said:?} {expected:?}");
    }
}

#[test]
fn commands_do_what_the_readmes_say() {
    let mut executed = 0;
    for readme in Readme::all() {
        let place = Place::new(&readme);
        for block in readme.blocks().iter().filter(|block| block.info == "console") {
            for example in format!("\n{}", block.text).split("\n$ ").skip(1) {
                let (command, expected) = example.split_once('\n').unwrap_or((example, ""));
                // An example in the middle has lost its final newline.
                let expected = if expected.is_empty() || expected.ends_with('\n') {
                    expected.to_owned()
                } else {
                    format!("{expected}\n")
                };
                let (said, _) = place.run(command);
                assert!(
                    is_as_expected(&said, &expected),
                    "{}: {command}\nexpected:\n{expected}\nsaid:\n{said}",
                    readme.path
                );
                executed += 1;
            }
        }
        let shown: String =
            readme.blocks().into_iter().filter(|b| b.info == "console").map(|block| block.text).collect();
        for block in readme.blocks() {
            let Some(name) = block.file() else { continue };
            if shown.contains(name) {
                continue;
            }
            // Examples whose output is not shown must be correct as well.
            let check = match block.info.split_once(' ').unwrap().0 {
                "lua" => format!("bottler lua check {name}"),
                _ if name == "bottler.yaml" => "bottler manifest check".to_owned(),
                _ => panic!("{}: no command uses {name}", readme.path),
            };
            let (said, succeeds) = place.run(&check);
            assert!(succeeds, "{}: {check}: {said}", readme.path);
            executed += 1;
        }
    }
    assert!(executed >= 10, "{executed}");
}

/// The first command of a block.
fn first_command(block: &Block) -> &str {
    block.text.lines().next().unwrap_or_default()
}

#[test]
fn every_block_of_commands_is_executed_by_a_test() {
    let recipes: Vec<String> = std::fs::read_dir(root().join("scripts"))
        .unwrap()
        .map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect();
    let mut unused: BTreeSet<(&str, &str)> = NOT_EXECUTED.iter().map(|(path, first, _)| (*path, *first)).collect();
    for readme in Readme::all() {
        let mut blank = true;
        for line in readme.prose() {
            assert!(!(blank && line.starts_with("    ")), "{}: a block without a fence: {line}", readme.path);
            blank = line.is_empty();
        }
        for block in readme.blocks() {
            let path = &readme.path;
            match &*block.info {
                "console" => assert!(block.text.starts_with("$ "), "{path}: {}", block.text),
                // `docker/documents.rs` executes all of these.
                "sh engine" => {
                    assert!(block.text.lines().all(|line| line.starts_with("bottler ")), "{path}: {}", block.text);
                }
                "sh" => {
                    let listed =
                        |(of, first, _): &&(&str, &str, &str)| of == path && first_command(&block).starts_with(first);
                    let listed = NOT_EXECUTED.iter().find(listed);
                    let (of, first, _) = listed.unwrap_or_else(|| panic!("{path}: no test executes\n{}", block.text));
                    unused.remove(&(*of, *first));
                }
                // A recipe in a README must be part of a real one.
                "lua" => assert!(recipes.iter().any(|recipe| recipe.contains(&block.text)), "{path}: {}", block.text),
                "text" | "json" => {
                    let command =
                        block.text.lines().find(|line| line.starts_with("$ ") || line.starts_with("bottler "));
                    assert_eq!(command, None, "{path}");
                }
                _ => assert!(block.file().is_some(), "{path}: what is a block of {:?}?", block.info),
            }
        }
    }
    assert_eq!(unused, BTreeSet::new(), "listed, and not there");
}

#[test]
fn the_front_page_is_one_page() {
    let front = Readme::read("README.md");
    let lines = front.text.lines().count();
    assert!(lines <= 150, "README.md has {lines} lines; what is deeper goes to the README of its room");
    for readme in Readme::all() {
        for line in readme.prose().filter(|line| !line.starts_with('|')) {
            assert!(line.chars().count() <= 130, "{}: wrap this line:\n{line}", readme.path);
        }
        // A page must start with a sentence about its purpose.
        let begins = readme.text.lines().nth(2).unwrap_or_default();
        let is_prose = begins.chars().next().is_some_and(|c| c.is_alphabetic() || c == '`' || c == '[');
        assert!(readme.text.starts_with("# ") && is_prose, "{} begins with its title, and what it is for", readme.path);
    }
}

/// The anchor that GitHub creates for a heading.
fn anchor(heading: &str) -> String {
    let plain = |c: &char| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_');
    heading.trim_start_matches('#').trim().to_lowercase().chars().filter(plain).collect::<String>().replace(' ', "-")
}

/// The text between `](` and `)`.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut followed = 0;
    for readme in Readme::all() {
        let prose: Vec<&str> = readme.prose().collect();
        for link in links(&prose.join("\n")).filter(|link| !link.contains("://")) {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let at = root().join(&readme.path);
            let at = if file.is_empty() { at } else { at.parent().unwrap().join(file) };
            assert!(at.is_file(), "{}: {link} leads to no file", readme.path);
            let text = if heading.is_empty() { String::new() } else { std::fs::read_to_string(&at).unwrap() };
            let there = heading.is_empty() || text.lines().any(|line| line.starts_with('#') && anchor(line) == heading);
            assert!(there, "{}: {link} leads to no heading", readme.path);
            followed += 1;
        }
    }
    assert!(followed >= 30, "{followed}");
}

#[test]
fn every_readme_is_found_from_the_front_page() {
    let mut found = BTreeSet::new();
    let mut pages = vec![root().join("README.md")];
    while let Some(page) = pages.pop() {
        if found.insert(page.clone()) {
            let text = std::fs::read_to_string(&page).unwrap();
            let files =
                links(&text).map(|link| link.split('#').next().unwrap()).filter(|file| file.ends_with("README.md"));
            pages.extend(files.filter_map(|file| page.parent().unwrap().join(file).canonicalize().ok()));
        }
    }
    for readme in Readme::all() {
        assert!(found.contains(&root().join(&readme.path).canonicalize().unwrap()), "nothing leads to {}", readme.path);
    }
}

#[test]
fn the_manifests_readme_has_every_key_of_the_schema() {
    let text = Readme::read("src/manifest/README.md").text;
    let schema: serde_json::Value = serde_json::from_str(&bottler::manifest::schema()).unwrap();
    let mut keys = BTreeSet::new();
    let mut values = vec![&schema];
    while let Some(value) = values.pop() {
        if let Some(properties) = value["properties"].as_object() {
            keys.extend(properties.keys().cloned());
        }
        values.extend(value.as_object().into_iter().flat_map(|object| object.values()));
        values.extend(value.as_array().into_iter().flatten());
    }
    assert!(keys.len() > 40, "{keys:?}");
    let missing: Vec<&String> = keys.iter().filter(|key| !text.contains(&format!("`{key}`"))).collect();
    assert_eq!(missing, Vec::<&String>::new());
}
