//! Ordinary source code and prose, ten megabytes from Debian's packages: what the rules find there, each with a
//! reason.

use std::io::Read;
use std::sync::Arc;

use crate::support::images::Debian;
use bottler::scan::{Actions, Dlp, Rules, Scanner};

/// How much text is scanned, in bytes, in the archive's order, which is alphabetical.
const MOST: usize = 10 << 20;
/// Larger files are data.
const MAX_FILE: u64 = 1 << 20;
/// Folders with source code and prose.
const FOLDERS: [&str; 3] = ["./usr/lib/python3", "./usr/share/nodejs/", "./usr/share/perl"];
/// Known findings, by the end of the path, and why they are right.
const KNOWN: [(&str, &str); 0] = [];

#[test]
fn ordinary_text_passes() {
    let archive = std::fs::File::open(Debian::archive()).unwrap();
    let mut archive = tar::Archive::new(std::io::BufReader::new(archive));
    let actions = Arc::new(Actions::new(&Dlp::default()));
    let secrets: Vec<String> = (0..20).map(|number| format!("a-secret-of-this-bottle-number-{number}")).collect();
    let scanner = Scanner::new(&secrets, Arc::new(Rules::providers().unwrap()), actions);
    let (mut looked, mut found) = (0, Vec::new());
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_string_lossy().into_owned();
        if looked >= MOST || entry.size() > MAX_FILE || !FOLDERS.iter().any(|folder| path.starts_with(folder)) {
            continue;
        }
        let mut text = Vec::new();
        entry.read_to_end(&mut text).unwrap();
        if std::str::from_utf8(&text).is_err() {
            continue;
        }
        looked += text.len();
        if let Some(finding) = scanner.scan_unbounded(&text)
            && !KNOWN.iter().any(|(end, _)| path.ends_with(end))
        {
            found.push(format!("{path}: {finding}"));
        }
    }
    assert!(looked >= MOST, "only {looked} bytes of text");
    assert_eq!(found, Vec::<String>::new());
}
