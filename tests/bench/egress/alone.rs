//! The scanner without egress around it, on the same bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bottler::scan::{Actions, Dlp, Rules, Scanner};

/// Bytes that egress looks at together, in a body that is too long to be looked at whole, and how many of them it has looked at
/// before (`WINDOW` and `HELD` of `src/scan/windows.rs`).
const WINDOW: usize = 256 << 10;
const AGAIN: usize = 16 << 10;
/// Bytes of the text.
const LENGTH: usize = 1 << 20;
/// How often it is scanned.
const TIMES: u32 = 50;

fn scanner() -> Scanner {
    Scanner::new(&[], Arc::new(Rules::providers().unwrap()), Arc::new(Actions::new(&Dlp::default())))
}

/// This program's source, without what the scanner would refuse: examples of tokens.
pub fn text() -> Vec<u8> {
    let mut all = Vec::new();
    add(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut all);
    let scanner = scanner();
    let clean = |piece: &&[u8]| scanner.scan_unbounded(piece).is_none();
    let text: Vec<u8> = all.chunks(AGAIN).filter(clean).flatten().copied().take(LENGTH).collect();
    assert!(text.len() == LENGTH && scanner.scan_unbounded(&text.repeat(2)).is_none());
    text
}

fn add(folder: &Path, all: &mut Vec<u8>) {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add(&path, all);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            all.extend(std::fs::read(path).unwrap());
        }
    }
}

/// Megabytes per second.
pub fn rate(text: &[u8]) -> f64 {
    let scanner = scanner();
    // The text again and again, as it is sent.
    let windows: Vec<Vec<u8>> = (0..LENGTH / WINDOW)
        .map(|number| {
            text.iter().cycle().skip(LENGTH + number * WINDOW - AGAIN).take(AGAIN + WINDOW).copied().collect()
        })
        .collect();
    let began = Instant::now();
    for _ in 0..TIMES {
        for window in &windows {
            assert!(std::hint::black_box(scanner.scan_unbounded(window)).is_none());
        }
    }
    f64::from(u32::try_from(text.len()).unwrap()) * f64::from(TIMES) / 1e6 / began.elapsed().as_secs_f64()
}
