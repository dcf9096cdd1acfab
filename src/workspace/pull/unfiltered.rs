//! Refuses commits with unfiltered files. The user's filters are not available to the agent, so a new object of a
//! file with a filter contains the plain text: an unencrypted secret, or a large file in place of an LFS pointer. It
//! would stay in the history.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};

use super::options::PullOptions;
use super::staging;
use super::tree::{AttributeSource, filters};
use crate::workspace::git::Git;
use crate::workspace::name::{Name, quoted};

/// The filter of git-lfs. The form of its output is known (git-lfs' docs/spec.md), so committed pointers are
/// accepted.
const LFS: &str = "lfs";
const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
/// How many files the error names.
const SHOWN: usize = 3;

/// Refuses commits that contain unfiltered files.
///
/// # Errors
/// There are such files, or git cannot compare them.
pub(super) fn check<'a>(
    options: &PullOptions<'_>,
    here: &Git<'_>,
    git: &Git<'_>,
    tips: impl Iterator<Item = &'a String>,
    known: &[String],
) -> io::Result<()> {
    let tips: BTreeSet<&String> = tips.collect();
    let configured = configured(here);
    if tips.is_empty() || configured.is_empty() {
        return Ok(());
    }
    let written = written(git, &tips, known)?;
    let names: Vec<&Name> = written.keys().collect();
    let mut found = filters(options, here, &options.staging.join("import"), AttributeSource::Before, &names)?;
    found.retain(|_, filter| configured.contains(filter));
    if found.is_empty() {
        return Ok(());
    }
    let objects: BTreeSet<String> = found.keys().flat_map(|name| written[name].iter().cloned()).collect();
    let users = staging::present(here, objects.iter())?;
    let mut raw = Vec::new();
    for (name, filter) in &found {
        for object in written[name].iter().filter(|object| !users.contains(*object)) {
            if !is_clean(git, filter, object)? {
                raw.push(format!("{} ({filter})", quoted(name)));
            }
        }
    }
    raw.dedup();
    if raw.is_empty() {
        return Ok(());
    }
    let more = if raw.len() > SHOWN { format!(" and {} more", raw.len() - SHOWN) } else { String::new() };
    raw.truncate(SHOWN);
    Err(io::Error::other(format!(
        "the agent has committed files without your filter: {}{more}; fetch the changes with --patch",
        raw.join(", ")
    )))
}

/// The filters that the user's git runs on committed files.
fn configured(here: &Git<'_>) -> BTreeSet<String> {
    let said = here
        .run(&["config", "-z", "--name-only", "--get-regexp", r"^filter\..*\.(clean|process)$"])
        .unwrap_or_default();
    let names =
        said.split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok()?.strip_prefix("filter."));
    names.filter_map(|name| Some(name.rsplit_once('.')?.0.to_owned())).collect()
}

/// The objects that new commits have written, by path.
fn written(git: &Git<'_>, tips: &BTreeSet<&String>, known: &[String]) -> io::Result<BTreeMap<Name, BTreeSet<String>>> {
    let arguments = ["log", "--format=", "--raw", "-z", "-m", "--root", "--no-renames", "--no-abbrev", "--stdin"];
    let said = git.feed(&arguments, |input| {
        let mut input = io::BufWriter::new(input);
        tips.iter().try_for_each(|tip| writeln!(input, "{tip}"))?;
        known.iter().try_for_each(|commit| writeln!(input, "^{commit}"))?;
        input.flush()
    })?;
    let mut written: BTreeMap<Name, BTreeSet<String>> = BTreeMap::new();
    let mut words = said.split(|byte| *byte == 0);
    // The format is `:MODE MODE OBJECT OBJECT STATUS`, then the path.
    while let Some(word) = words.next() {
        let Some(at) = word.iter().position(|byte| *byte == b':') else { continue };
        let Some(name) = words.next() else { break };
        let Ok(text) = std::str::from_utf8(&word[at + 1..]) else { continue };
        let parts: Vec<&str> = text.split(' ').collect();
        if let [_, mode, _, object, _] = parts.as_slice()
            && mode.starts_with("100")
        {
            written.entry(name.to_vec()).or_default().insert((*object).to_owned());
        }
    }
    Ok(written)
}

/// Whether an object is a filter's output, as far as this can be decided without running it.
fn is_clean(git: &Git<'_>, filter: &str, object: &str) -> io::Result<bool> {
    const MAX_POINTER: u64 = 1024;
    let size = git.line(&["cat-file", "-s", object]).and_then(|size| size.parse::<u64>().ok()).unwrap_or(u64::MAX);
    if size == 0 || filter != LFS || size > MAX_POINTER {
        return Ok(size == 0);
    }
    Ok(git.run(&["cat-file", "blob", object])?.starts_with(POINTER))
}
