//! Creates the agent's repository: the user's history without settings, hooks, alternates, credentials or unreachable
//! objects. For a linked worktree it has that worktree's branch.
//!
//! Settings that decide how git reads the tree are copied: sparse checkout, assume-unchanged marks, ignore rules,
//! line endings. Filter programs are not available inside. So that no file is committed unfiltered, files with a
//! filter are marked assume-unchanged, and the agent's git refuses to add them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::git::Git;
use super::listing::{GITLINK, Listing};
use super::name::{Name, last};

/// The clean filter in the agent's repository: refuses to add a file whose real filter is on the user's host only.
const REFUSED: &str = "echo 'this file is committed through a filter that is not available here: leave it uncommitted, bottler fetches it unchanged' >&2; exit 1";
/// Settings that decide how git reads files.
const READING: [&str; 6] = [
    "core.autocrlf",
    "core.eol",
    "core.symlinks",
    "core.sparseCheckout",
    "core.sparseCheckoutCone",
    "core.precomposeUnicode",
];

/// Creates the repository at `to`. `listing` names the files that are copied with it.
pub(super) fn clone(root: &Path, to: &Path, listing: &Listing) -> io::Result<()> {
    let here = Git::at(root);
    let url = format!("file://{}", text(&root.canonicalize()?)?);
    let partial = is_partial(&here);
    let clean = || {
        Git::alone(Path::new("/"))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
    };
    let mut arguments = vec!["clone", "--quiet", "--bare", "--template=", "--no-local"];
    if partial {
        // The user's repository is a partial clone as well.
        arguments.extend(["--filter=blob:none", "--upload-pack=git -c uploadpack.allowFilter=true upload-pack"]);
    }
    arguments.extend(["--", &url, text(to)?]);
    clean().run(&arguments).map_err(|error| {
        if !partial {
            return error;
        }
        io::Error::other(format!(
            "the repository is a partial clone that lacks more than files' contents: {error}; `git fetch --refetch` completes it"
        ))
    })?;
    let git = Git::alone(to);
    // A bare clone remembers where it came from.
    let _ = git.run(&["remote", "remove", "origin"]);
    tracking(&here, &git, &url, partial)?;
    if partial {
        contents(&here, to)?;
        git.run(&["config", "remote.origin.promisor", "true"])?;
        git.run(&["config", "remote.origin.partialclonefilter", "blob:none"])?;
    }
    // Only now, because a non-bare repository writes reflogs for fetches, which contain the host's name.
    git.run(&["config", "core.bare", "false"])?;
    reading(&here, &git, root, to)?;
    let filters = filtered(&here, listing)?;
    // Include filters that match no file yet: the agent may create one.
    let named: BTreeSet<String> = ruled(&here, root, listing).into_iter().chain(filters.values().cloned()).collect();
    refuse(&git, &named)?;
    // The index is that of a fresh checkout, so that the user's changes show as changes. An empty history has none.
    if git.line(&["rev-parse", "--verify", "--quiet", "HEAD"]).is_some() {
        let tree = Git::alone(to).env("GIT_DIR", text(to)?).env("GIT_WORK_TREE", text(to)?);
        tree.run(&["read-tree", "HEAD"])?;
        marks(&git, &tree, listing, &filters)?;
    }
    Ok(())
}

fn text(path: &Path) -> io::Result<&str> {
    path.to_str().ok_or_else(|| io::Error::other(format!("the name {} is not UTF-8", path.display())))
}

/// Whether a repository is a partial clone.
pub(super) fn is_partial(git: &Git<'_>) -> bool {
    git.line(&["config", "--get-regexp", r"^(remote\..*\.promisor|extensions\.partialclone)$"]).is_some()
}

/// Copies remote-tracking branches, notes, and the remotes' URLs without credentials.
fn tracking(here: &Git<'_>, git: &Git<'_>, url: &str, partial: bool) -> io::Result<()> {
    let mut arguments = vec!["fetch", "--quiet", "--no-tags", "--no-write-fetch-head", "--update-shallow"];
    if partial {
        arguments.extend(["--filter=blob:none", "--upload-pack=git -c uploadpack.allowFilter=true upload-pack"]);
    }
    arguments.extend(["--", url, "+refs/remotes/*:refs/remotes/*", "+refs/notes/*:refs/notes/*"]);
    git.run(&arguments)?;
    if partial {
        // git stores the filter under the source's URL, which is a path on this host.
        git.run(&["config", "--remove-section", &format!("remote.{url}")])?;
    }
    for (name, value) in settings(here, r"^remote\..*\.url$") {
        let remote = &name["remote.".len()..name.len() - ".url".len()];
        if let Some(url) = without_credentials(&value) {
            git.run(&["config", &name, &url])?;
        }
        let fetched = format!("+refs/heads/*:refs/remotes/{remote}/*");
        git.run(&["config", &format!("remote.{remote}.fetch"), &fetched])?;
        // It was fetched as a plain branch; make it symbolic again.
        let head = format!("refs/remotes/{remote}/HEAD");
        if let Some(target) = here.line(&["symbolic-ref", "--quiet", &head]) {
            git.run(&["symbolic-ref", &head, &target])?;
        }
    }
    for (name, value) in settings(here, r"^branch\..*\.(remote|merge)$") {
        git.run(&["config", &name, &value])?;
    }
    Ok(())
}

/// Settings whose names match a pattern, with the first value of each.
fn settings(git: &Git<'_>, pattern: &str) -> BTreeMap<String, String> {
    let found = git.run(&["config", "-z", "--get-regexp", pattern]).unwrap_or_default();
    let found = String::from_utf8_lossy(&found).into_owned();
    let mut settings = BTreeMap::new();
    for (name, value) in found.split('\0').filter_map(|setting| setting.split_once('\n')) {
        settings.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }
    settings
}

/// Copies the blobs of the checked-out commit, as far as the user has them.
fn contents(here: &Git<'_>, to: &Path) -> io::Result<()> {
    if here.line(&["rev-parse", "--verify", "--quiet", "HEAD"]).is_none() {
        return Ok(());
    }
    let arguments = ["rev-list", "--objects", "--no-object-names", "--missing=print", "--no-walk", "HEAD"];
    let listed = here.run(&arguments)?;
    let pack = to.join("objects/pack/pack");
    here.feed(&["pack-objects", "--quiet", text(&pack)?], |input| {
        listed
            .split_inclusive(|byte| *byte == b'\n')
            .filter(|line| line[0] != b'?')
            .try_for_each(|line| input.write_all(line))
    })?;
    Ok(())
}

/// Copies the settings and files that decide how git reads the tree: excludes, attributes, sparse patterns.
fn reading(here: &Git<'_>, git: &Git<'_>, root: &Path, to: &Path) -> io::Result<()> {
    for name in READING {
        if let Some(value) = here.line(&["config", name]) {
            git.run(&["config", name, &value])?;
        }
    }
    std::fs::create_dir_all(to.join("info"))?;
    // The user's global patterns come first, so that the repository's override them.
    for (setting, file) in [("core.excludesFile", "info/exclude"), ("core.attributesFile", "info/attributes")] {
        let mut content = user_file(here, setting).and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
        if !content.is_empty() && !content.ends_with(b"\n") {
            content.push(b'\n');
        }
        content.extend(own_file(here, root, file).unwrap_or_default());
        if !content.is_empty() {
            std::fs::write(to.join(file), content)?;
        }
    }
    if let Some(content) = own_file(here, root, "info/sparse-checkout") {
        std::fs::write(to.join("info/sparse-checkout"), content)?;
    }
    Ok(())
}

/// A file of the user that a setting names, or git's default path for it (git-config(1)).
pub(super) fn user_file(here: &Git<'_>, setting: &str) -> Option<PathBuf> {
    let default = || {
        let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let name = if setting == "core.excludesFile" { "git/ignore" } else { "git/attributes" };
        Some(var("XDG_CONFIG_HOME").or_else(|| Some(var("HOME")?.join(".config")))?.join(name))
    };
    here.line(&["config", "--type=path", setting]).map(PathBuf::from).or_else(default)
}

pub(super) fn own_file(here: &Git<'_>, root: &Path, name: &str) -> Option<Vec<u8>> {
    std::fs::read(root.join(here.line(&["rev-parse", "--git-path", name])?)).ok()
}

/// Configures the agent's git to refuse files with these filters.
fn refuse(git: &Git<'_>, filters: &BTreeSet<String>) -> io::Result<()> {
    for filter in filters {
        git.run(&["config", &format!("filter.{filter}.clean"), REFUSED])?;
        git.run(&["config", &format!("filter.{filter}.smudge"), "cat"])?;
        git.run(&["config", &format!("filter.{filter}.required"), "true"])?;
    }
    Ok(())
}

/// Copies the marks of the user's index, and marks files with a filter assume-unchanged.
fn marks(git: &Git<'_>, tree: &Git<'_>, listing: &Listing, filters: &BTreeMap<Name, String>) -> io::Result<()> {
    let there = git.run(&["ls-files", "-z"])?;
    let there: BTreeSet<&[u8]> = there.split(|byte| *byte == 0).collect();
    let marked = |is: &dyn Fn(&Name) -> bool| -> Vec<&Name> {
        listing.index.keys().filter(|name| there.contains(name.as_slice()) && is(name)).collect()
    };
    let absent = marked(&|name| listing.index[name].skip_worktree);
    let assumed = marked(&|name| listing.index[name].assume_unchanged || filters.contains_key(name));
    for (option, names) in [("--skip-worktree", absent), ("--assume-unchanged", assumed)] {
        if !names.is_empty() {
            tree.feed(&["update-index", option, "-z", "--stdin"], |input| zeroed(input, names.iter().copied()))?;
        }
    }
    Ok(())
}

/// All filters that attribute rules name, whether a file matches or not (gitattributes(5)).
fn ruled(here: &Git<'_>, root: &Path, listing: &Listing) -> BTreeSet<String> {
    let in_tree = listing.paths.iter().filter(|name| last(name) == b".gitattributes").filter_map(|name| {
        let path = root.join(OsStr::from_bytes(name));
        // git does not follow a link there.
        std::fs::symlink_metadata(&path).ok()?.is_file().then(|| std::fs::read(path).ok())?
    });
    let users = user_file(here, "core.attributesFile").and_then(|path| std::fs::read(path).ok());
    let all = in_tree.chain(users).chain(own_file(here, root, "info/attributes"));
    all.flat_map(|text| filters_named(&text)).collect()
}

/// The filters named in the text of an attributes file.
fn filters_named(text: &[u8]) -> Vec<String> {
    let words = text.split(u8::is_ascii_whitespace).filter_map(|word| word.strip_prefix(b"filter="));
    words
        .filter(|name| !name.is_empty() && !name.contains(&0))
        .filter_map(|name| String::from_utf8(name.to_vec()).ok())
        .collect()
}

/// The tracked files with a filter, and its name.
fn filtered(here: &Git<'_>, listing: &Listing) -> io::Result<BTreeMap<Name, String>> {
    let has_attributes = listing.index.keys().any(|name| last(name) == b".gitattributes")
        || here.line(&["rev-parse", "--git-path", "info/attributes"]).is_some()
        || user_file(here, "core.attributesFile").is_some();
    if !has_attributes {
        return Ok(BTreeMap::new());
    }
    let names = listing.index.iter().filter(|(_, indexed)| indexed.mode != GITLINK).map(|(name, _)| name);
    attribute(here, "filter", names)
}

/// The values of an attribute for the files that have one.
pub(super) fn attribute<'a>(
    git: &Git<'_>,
    attribute: &str,
    names: impl Iterator<Item = &'a Name> + Send,
) -> io::Result<BTreeMap<Name, String>> {
    let said = git.feed(&["check-attr", "-z", "--stdin", attribute], |input| zeroed(input, names))?;
    let words: Vec<&[u8]> = said.split(|byte| *byte == 0).collect();
    let found = words.chunks_exact(3).filter_map(|words| {
        let value = String::from_utf8_lossy(words[2]).into_owned();
        let is_set = !matches!(value.as_str(), "unspecified" | "unset" | "set" | "");
        is_set.then(|| (words[0].to_vec(), value))
    });
    Ok(found.collect())
}

/// Writes names, each terminated by a NUL byte.
pub(super) fn zeroed<'a>(to: &mut dyn Write, names: impl Iterator<Item = &'a Name>) -> io::Result<()> {
    let mut to = io::BufWriter::new(to);
    for name in names {
        to.write_all(name)?;
        to.write_all(&[0])?;
    }
    to.flush()
}

/// A remote's URL without credentials; `None` if it cannot be parsed or is a local path.
fn without_credentials(url: &str) -> Option<String> {
    match url::Url::parse(url) {
        Ok(mut parsed) if parsed.has_host() => {
            let _ = parsed.set_password(None);
            if parsed.scheme().starts_with("http") {
                let _ = parsed.set_username("");
            }
            parsed.set_query(None);
            Some(parsed.to_string())
        }
        // git@host:path, as scp(1) has it.
        _ if url.contains('@') && url.contains(':') && !url.contains("://") => Some(url.to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_that_a_rule_names_is_found() {
        let text =
            b"# x\n*.key filter=a -text\r\n[attr]m\tfilter=b\n*.x -filter !filter filter= xfilter=c filter=\xff\n";
        assert_eq!(filters_named(text), ["a", "b"]);
    }

    #[test]
    fn a_remote_loses_its_credentials_and_keeps_its_place() {
        for (url, expected) in [
            ("https://me:token@example.com/a.git", Some("https://example.com/a.git")),
            ("https://token@example.com/a.git?x=y", Some("https://example.com/a.git")),
            ("ssh://git@example.com:22/a.git", Some("ssh://git@example.com:22/a.git")),
            ("git@example.com:a.git", Some("git@example.com:a.git")),
            ("/home/me/a", None),
            ("file:///home/me/a", None),
        ] {
            assert_eq!(without_credentials(url).as_deref(), expected, "{url}");
        }
    }
}
