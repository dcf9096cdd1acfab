//! The temporary repository between the agent's and the user's. It contains the agent's objects and borrows the
//! user's. Only objects are taken from the agent's repository.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::workspace::git::Git;
use crate::workspace::name::Name;
use crate::workspace::snapshot::Snapshot;

/// Maximum size of a loose object, in bytes.
const MAX_LOOSE: u64 = 1 << 30;

/// Creates an empty repository that borrows the objects of the user's repository.
pub(super) fn borrow(here: &Git<'_>, repository: &Path, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let format = here.line(&["rev-parse", "--show-object-format"]).unwrap_or_else(|| "sha1".to_owned());
    let format = format!("--object-format={format}");
    Git::alone(folder).run(&["init", "--quiet", "--bare", "--template=", &format, "."])?;
    let place = |name: &str| {
        let path = here.line(&["rev-parse", "--git-path", name]);
        path.map(|path| repository.join(path))
            .ok_or_else(|| io::Error::other("git does not report the path of its objects"))
    };
    let objects = place("objects")?.canonicalize()?;
    let objects = objects.to_str().filter(|path| !path.contains(['\n', '"']));
    let objects = objects.ok_or_else(|| io::Error::other("the repository's path cannot be written for git"))?;
    std::fs::create_dir_all(folder.join("objects/info"))?;
    std::fs::write(folder.join("objects/info/alternates"), format!("{objects}\n"))?;
    // The user's history is shallow, and so is the agent's.
    let shallow = place("shallow")?;
    if shallow.is_file() {
        std::fs::copy(shallow, folder.join("shallow"))?;
    }
    Ok(())
}

/// Imports the agent's objects into the repository at `folder`, without those that came from the user (`known`: the
/// user still has all of them). Objects are checked later, and only new ones.
pub(in crate::workspace) fn import(before: &Snapshot, after: &Snapshot, known: bool, folder: &Path) -> io::Result<()> {
    let is_known = |name: &Name| {
        known && before.repository.objects.get(name).is_some_and(|file| *file == after.repository.objects[name])
    };
    for (name, file) in after.repository.objects.iter().filter(|(name, _)| !is_known(name)) {
        let Ok(name) = std::str::from_utf8(name) else { continue };
        if let Some(pack) = name.strip_prefix("pack/pack-").and_then(|name| name.strip_suffix(".pack")) {
            if is_hex(pack) {
                let mut pack = after.reader(file)?;
                Git::alone(folder).feed(&["index-pack", "--stdin"], |input| io::copy(&mut pack, input).map(drop))?;
            }
            continue;
        }
        let Some((start, rest)) = name.split_once('/') else { continue };
        if start.len() == 2 && matches!(rest.len(), 38 | 62) && is_hex(start) && is_hex(rest) && file.size <= MAX_LOOSE
        {
            let place: PathBuf = folder.join("objects").join(start);
            std::fs::create_dir_all(&place)?;
            let mut to = std::fs::File::create(place.join(rest))?;
            io::copy(&mut after.reader(file)?, &mut to)?;
        }
    }
    Ok(())
}

fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Returns those of the given objects that a repository has.
pub(in crate::workspace) fn present<'a>(
    git: &Git<'_>,
    objects: impl Iterator<Item = &'a String> + Send,
) -> io::Result<BTreeSet<String>> {
    let said = git.feed(&["cat-file", "--batch-check=%(objectname) %(objecttype)"], |input| {
        let mut input = io::BufWriter::new(input);
        for object in objects {
            writeln!(input, "{object}")?;
        }
        input.flush()
    })?;
    let said = String::from_utf8_lossy(&said).into_owned();
    let there = said.lines().filter_map(|line| line.split_once(' ')).filter(|(_, kind)| *kind != "missing");
    Ok(there.map(|(object, _)| object.to_owned()).collect())
}
