//! What the scanner costs, in instructions for each byte: the same on every machine and under every load, so that a change
//! that makes it slower is seen at once. Without arguments it runs itself under valgrind's callgrind, twice for each
//! scanner, and what the second run has more is the cost of the text that it has more.

#![allow(dead_code, unused_imports, reason = "the sources are those of the product, which uses all of them")]

#[path = "../../../../src/scan/mod.rs"]
mod scan;

use std::process::Command;
use std::sync::Arc;

use scan::{Actions, Dlp, Rules, Scanner};

/// Bytes that are looked at together, as of a request.
const PIECE: usize = 64 << 10;
/// Pieces of the two runs.
const PIECES: [usize; 2] = [4, 12];
/// Instructions for each byte that there may be: what was measured, and a tenth.
const BOUNDS: [(&str, f64); 2] = [("all", 83.0), ("known", 51.0)];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [which, count] => {
            let found = scan(which, count.parse().expect("it is a number"), &text(PIECE * PIECES[1]));
            assert_eq!(found, 0, "it has nothing that is found");
            return;
        }
        // A text of one's own, which may have anything.
        [which, count, path] => {
            let text = std::fs::read(path).expect("it can be read");
            println!("{}", scan(which, count.parse().expect("it is a number"), &text));
            return;
        }
        _ => {}
    }
    let mut dear = false;
    for (which, bound) in BOUNDS {
        let [few, many] = PIECES.map(|count| instructions(which, count));
        #[expect(clippy::cast_precision_loss, reason = "millions")]
        let each = (many - few) as f64 / ((PIECES[1] - PIECES[0]) * PIECE) as f64;
        println!("{which}: {each:.2} instructions for each byte, at most {bound:.2}");
        dear |= each > bound;
    }
    assert!(!dear, "the scanner has become dearer");
}

/// Scans so many pieces; returns in how many of them something was found.
fn scan(which: &str, count: usize, text: &[u8]) -> usize {
    let secrets: Vec<String> = (0..20).map(|number| format!("a-secret-of-this-bottle-number-{number}")).collect();
    let rules = if which == "all" { Rules::providers().expect("they are compiled in") } else { Rules::none() };
    let scanner = Scanner::new(&secrets, Arc::new(rules), Arc::new(Actions::new(&Dlp::default())));
    text.chunks(PIECE).take(count).filter(|piece| scanner.scan_unbounded(piece).is_some()).count()
}

fn instructions(which: &str, count: usize) -> u64 {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().expect("this is a program"))
        .args([which, &count.to_string()])
        .output()
        .expect("valgrind is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let collected = said.lines().find_map(|line| line.split_once("Collected :")).expect("callgrind says how many");
    collected.1.trim().parse().expect("it is a number")
}

/// Text like source, prose and data, the same every time.
fn text(length: usize) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "let",
        "return",
        "self.value",
        "the",
        "of",
        "function",
        "token",
        "{\n",
        "}\n",
        "\"name\":",
        "src/main.rs",
        "42,",
        "// a comment\n",
        "key",
        "https://example.com/a%20b",
        "\\n",
        "sk",
        "data",
        "0x7fff",
        "aGVsbG8gd29ybGQsIHRoaXMgaXMgaXQ=",
        "2fd4e1c67a2d28fced849ee1bb76e7391b93eb12",
        "if",
        "<div class=\"x\">",
        "password",
    ];
    let (mut text, mut state) = (Vec::new(), 1_u32);
    while text.len() < length {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        text.extend_from_slice(WORDS[(state >> 16) as usize % WORDS.len()].as_bytes());
        text.push(b' ');
    }
    text.truncate(length);
    text
}
