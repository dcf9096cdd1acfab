//! How fast the scanner is, and what it finds in ordinary text: `cargo bench --bench scan [-- FOLDER]…`. Without folders
//! it reads this repository; with them up to 10 MB of text files of each, whose findings it lists.

#![expect(clippy::unwrap_used, reason = "a bench may panic")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bottler::scan::{Actions, Dlp, Rules, Scanner};

/// Bytes that are looked at together, as of a request.
const PIECE: usize = 64 << 10;
const MOST: usize = 10 << 20;

fn texts(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>, left: &mut usize) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_symlink() || name == "target" || name == ".git" || *left == 0 {
            continue;
        }
        if path.is_dir() {
            texts(&path, found, left);
        } else if let Ok(text) = std::fs::read(&path)
            && text.len() < 1 << 20
            && std::str::from_utf8(&text).is_ok()
        {
            *left = left.saturating_sub(text.len());
            found.push((path, text));
        }
    }
}

fn rate(scanner: &Scanner, text: &[u8]) -> f64 {
    let mut rates: Vec<f64> = (0..5)
        .map(|_| {
            let began = Instant::now();
            for piece in text.chunks(PIECE) {
                std::hint::black_box(scanner.scan_unbounded(piece));
            }
            f64::from(u32::try_from(text.len()).unwrap()) / 1e6 / began.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    rates[2]
}

fn main() {
    let secrets: Vec<String> = (0..20).map(|i| format!("a-secret-of-this-bottle-number-{i}")).collect();
    let actions = Arc::new(Actions::new(&Dlp::default()));
    let all = Scanner::new(&secrets, Arc::new(Rules::providers().unwrap()), actions.clone());
    let known = Scanner::new(&secrets, Arc::new(Rules::none()), actions);
    let mut folders: Vec<PathBuf> =
        std::env::args().skip(1).filter(|word| !word.starts_with('-')).map(Into::into).collect();
    if folders.is_empty() {
        folders.push(env!("CARGO_MANIFEST_DIR").into());
    }
    println!("| text | MB | all rules, MB/s | known secrets only, MB/s | findings |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for folder in folders {
        let (mut found, mut left) = (Vec::new(), MOST);
        texts(&folder, &mut found, &mut left);
        let text: Vec<u8> = found.iter().flat_map(|(_, text)| text.iter().copied()).collect();
        let findings: Vec<(&PathBuf, String)> =
            found.iter().filter_map(|(path, text)| Some((path, all.scan_unbounded(text)?.rule))).collect();
        let (fast, slow) = (rate(&known, &text), rate(&all, &text));
        println!(
            "| {} | {:.1} | {slow:.0} | {fast:.0} | {} |",
            folder.display(),
            f64::from(u32::try_from(text.len()).unwrap()) / 1e6,
            findings.len()
        );
        for (path, rule) in findings {
            eprintln!("{}: {rule}", path.display());
        }
    }
}
