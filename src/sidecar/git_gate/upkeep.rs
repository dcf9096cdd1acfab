//! Keeps a mirror fast and small: an index of commits and paths, bitmaps of what is reachable, few packs, and no
//! objects that nothing has led to for an hour. Nobody waits for it, and nothing depends on it.

use super::git::{Git, GitError};

/// After how many fetches packs are joined, and objects without a way to them are removed.
pub(super) const EVERY: u64 = 16;
/// How old an object must be to be removed.
const AGE: &str = "1.hour.ago";
/// Maximum size of what git says, in bytes.
const MAX_OUTPUT: u64 = 1 << 20;

/// Indexes what has been fetched; `join` says that packs are joined and old objects removed as well.
///
/// # Errors
/// git fails. The mirror is as it was, or better.
pub(super) async fn run(git: &Git, join: bool) -> Result<(), GitError> {
    let old = [format!("--unpack-unreachable={AGE}"), format!("--expire={AGE}")];
    let graph: &[&str] = &["commit-graph", "write", "--reachable", "--changed-paths", "--split", "--no-progress"];
    let index: &[&str] = &["multi-pack-index", "write", "--no-progress", "--bitmap"];
    let repack: &[&str] = &["repack", "-q", "-A", "-d", "--write-midx", "--write-bitmap-index", &old[0]];
    let prune: &[&str] = &["prune", "--no-progress", &old[1]];
    let steps = if join { [repack, prune, graph].to_vec() } else { [graph, index].to_vec() };
    for arguments in steps {
        git.run(arguments, Vec::new(), MAX_OUTPUT).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::mirror::create_bare;
    use super::*;
    use std::path::Path;

    #[tokio::test]
    async fn a_mirror_is_indexed_and_loses_what_is_old_and_unreachable() {
        let folder = tempfile::tempdir().unwrap();
        let git = Git::new(Path::new("/usr/bin/git"), &create_bare(folder.path().join("mirror.git")).unwrap());
        let run = async |arguments: &[&str], input: &str| {
            let output = git.run(arguments, input.into(), 1 << 20).await.unwrap();
            String::from_utf8(output).unwrap().trim().to_owned()
        };
        let blob = run(&["hash-object", "-w", "--stdin"], "kept\n").await;
        let tree = run(&["mktree"], &format!("100644 blob {blob}\tfile\n")).await;
        let commit = format!("tree {tree}\nauthor a <a> 1 +0000\ncommitter a <a> 1 +0000\n\nx\n");
        let commit = run(&["hash-object", "-t", "commit", "-w", "--stdin"], &commit).await;
        run(&["update-ref", "refs/heads/main", &commit], "").await;
        let [old, new] = [
            run(&["hash-object", "-w", "--stdin"], "old\n").await,
            run(&["hash-object", "-w", "--stdin"], "new\n").await,
        ];
        let path = git.repository().join(format!("objects/{}/{}", &old[..2], &old[2..]));
        let file = std::fs::File::options().read(true).open(&path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        super::run(&git, true).await.unwrap();
        super::run(&git, false).await.unwrap();
        let there = run(&["cat-file", "--batch-check"], &format!("{blob}\n{old}\n{new}\n")).await;
        let there: Vec<_> = there.lines().map(|line| line.ends_with(" missing")).collect();
        assert_eq!(there, [false, true, false]);
        let names = run(&["count-objects", "-v"], "").await;
        assert!(names.contains("packs: 1"), "{names}");
        let objects = git.repository().join("objects");
        assert!(objects.join("info/commit-graphs/commit-graph-chain").exists());
        let bitmap = |entry: std::io::Result<std::fs::DirEntry>| {
            entry.unwrap().path().extension().is_some_and(|end| end == "bitmap")
        };
        assert!(std::fs::read_dir(objects.join("pack")).unwrap().any(bitmap));
    }
}
