//! gitleaks' default rules as an oracle: what it finds in texts that are generated from its own expressions, the scanner
//! finds, or `gitleaks.txt` beside this file says why not. `tests/run all` installs gitleaks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use bottler::scan::{Actions, Dlp, Rules, Scanner};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde::Deserialize;

/// How many texts are made for each rule.
const TEXTS: usize = 8;
/// The end of most of gitleaks' expressions: what may follow a token.
const END: &str = r#"(?:[\x60'"\s;]|\\[nr]|$)"#;

#[derive(Deserialize)]
struct Config {
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Rule {
    id: String,
    regex: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    #[serde(rename = "RuleID")]
    rule: String,
    file: PathBuf,
}

/// An expression as a generator takes it: with classes of ASCII only, without anchors, and in lower case where case does
/// not matter.
fn generator(expression: &str) -> String {
    let text = expression.replace(END, "\"").replace("(?i)", "").replace("(?-i)", "");
    let text = text.replace("(?i:", "(?:").replace("(?-i:", "(?:").replace("(?P<", "(?<");
    let (mut made, mut class, mut letters) = (String::new(), false, text.chars().peekable());
    while let Some(letter) = letters.next() {
        let next = |class: &str, inside: bool| if inside { class.to_owned() } else { format!("[{class}]") };
        match letter {
            '\\' => match letters.next().unwrap_or('\\') {
                'w' => made.push_str(&next("0-9A-Za-z_", class)),
                'd' => made.push_str(&next("0-9", class)),
                's' => made.push(' '),
                'S' => made.push_str(&next("!-~", class)),
                'b' | 'B' | 'A' | 'z' if !class => {}
                other => made.extend(['\\', other]),
            },
            '[' if class && letters.peek() == Some(&':') => made.push('['),
            '[' => {
                class = true;
                made.push('[');
            }
            ']' => {
                // The end of a class with a name is not the end of the class.
                class = class && made.ends_with(':');
                made.push(']');
            }
            '^' | '$' if !class => {}
            '.' if !class => made.push_str("[ -~]"),
            other => made.push(other),
        }
    }
    made
}

/// Texts in which a rule may find something, deterministically.
fn texts(rule: &Rule, runner: &mut TestRunner) -> Vec<String> {
    let Some(expression) = &rule.regex else { return Vec::new() };
    let Ok(strategy) = proptest::string::string_regex(&generator(expression)) else { return Vec::new() };
    let mut texts = Vec::new();
    for _ in 0..TEXTS * 20 {
        let Ok(tree) = strategy.new_tree(runner) else { break };
        let text = tree.current();
        if text.is_ascii() && texts.len() < TEXTS {
            texts.push(format!("first line\n {text} \nlast line\n"));
        }
    }
    texts
}

/// Rules of gitleaks that the scanner has no counterpart of, with the reason.
fn excused() -> BTreeMap<String, String> {
    let text =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/egress/gitleaks.txt")).unwrap();
    let (mut reason, mut excused) = (String::new(), BTreeMap::new());
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(words) = line.strip_suffix(':') {
            words.clone_into(&mut reason);
            continue;
        }
        for rule in line.split_whitespace() {
            assert!(!reason.is_empty(), "{rule} has no reason");
            assert!(excused.insert(rule.to_owned(), reason.clone()).is_none(), "{rule} is there twice");
        }
    }
    excused
}

#[test]
#[ignore = "needs gitleaks: tests/run all"]
fn what_gitleaks_finds_is_found_or_listed_with_its_reason() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/gitleaks");
    let rules = std::fs::read_to_string(root.join("gitleaks.toml")).expect("tests/run all installs gitleaks");
    let rules: Config = toml::from_str(&rules).unwrap();
    let corpus = tempfile::tempdir().unwrap();
    let mut runner = TestRunner::deterministic();
    for rule in &rules.rules {
        for (number, text) in texts(rule, &mut runner).into_iter().enumerate() {
            std::fs::write(corpus.path().join(format!("{}-{number}.txt", rule.id)), text).unwrap();
        }
    }
    let report = corpus.path().join("report.json");
    let done = Command::new(root.join("bin/gitleaks"))
        .args(["dir", "--no-banner", "--exit-code", "0", "--report-format", "json", "--report-path"])
        .arg(&report)
        .arg(corpus.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let found: Vec<Found> = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let actions = Arc::new(Actions::new(&Dlp::default()));
    let scanner = Scanner::new(&[], Arc::new(Rules::providers().unwrap()), actions);
    let (mut by_gitleaks, mut missed) = (BTreeSet::new(), BTreeMap::<String, String>::new());
    for found in &found {
        by_gitleaks.insert(found.rule.clone());
        let text = std::fs::read(corpus.path().join(&found.file)).unwrap();
        if scanner.scan_unbounded(&text).is_none() {
            missed.entry(found.rule.clone()).or_insert_with(|| String::from_utf8_lossy(&text).into_owned());
        }
    }
    let excused = excused();
    println!(
        "gitleaks finds something by {} rules, and the scanner by {} of them",
        by_gitleaks.len(),
        by_gitleaks.len() - missed.len()
    );
    assert!(by_gitleaks.len() > 150, "the corpus is poor: {by_gitleaks:?}");
    let unexplained: Vec<_> = missed.iter().filter(|(rule, _)| !excused.contains_key(*rule)).collect();
    assert!(unexplained.is_empty(), "neither found nor listed: {unexplained:#?}");
    let stale: Vec<_> = excused.keys().filter(|rule| !missed.contains_key(*rule)).collect();
    assert!(stale.is_empty(), "listed, and found or not in the corpus: {stale:?}");
}
