//! The pack of a push as it arrived, if it has exactly the objects that are published: then it is sent as it is, and no
//! other one is made. Which objects it has is read from the index that git made of it.

use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;

use super::publish::Published;

/// The index of a pack, version 2 (git, `gitformat-pack(5)`): its beginning, the length of the table behind it, of an id
/// and of what else is there for each object, and of the two hashes at the end.
const BEGINNING: &[u8] = b"\xfftOc\0\0\0\x02";
const TABLE: usize = 256 * 4;
const ID: usize = 20;
const EACH: usize = ID + 4 + 4;
const END: usize = 2 * ID;

/// The pack of a repository that has one, if it has exactly these objects.
pub(super) fn whole(repository: &Path, published: &Published) -> Option<PathBuf> {
    let folder = repository.join("objects/pack");
    let mut names = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let indexes: Vec<PathBuf> =
        names.by_ref().filter(|path| path.extension().is_some_and(|end| end == "idx")).collect();
    let [index] = &indexes[..] else { return None };
    let count = published.objects.len();
    // One of another size has other objects, or so many bytes that it has a table of large offsets.
    let size = BEGINNING.len() + TABLE + count * EACH + END;
    if std::fs::metadata(index).ok()?.len() != u64::try_from(size).ok()? {
        return None;
    }
    let content = std::fs::read(index).ok()?;
    holds(&content, published).then(|| index.with_extension("pack"))
}

/// Whether an index lists exactly these objects.
fn holds(index: &[u8], published: &Published) -> bool {
    let count = published.objects.len();
    let ids = index.strip_prefix(BEGINNING).and_then(|rest| rest.get(TABLE..TABLE + count * ID));
    let total = index.get(BEGINNING.len() + TABLE - 4..BEGINNING.len() + TABLE);
    let is_all = total.and_then(|total| total.try_into().ok()).map(u32::from_be_bytes) == u32::try_from(count).ok();
    let mut wanted: Vec<&str> = published.objects.iter().map(|(id, _)| id.as_str()).collect();
    wanted.sort_unstable();
    is_all && ids.is_some_and(|ids| ids.chunks(ID).map(|id| HEXLOWER.encode(id)).eq(wanted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    fn git(folder: &Path, arguments: &[&str], input: &str) -> String {
        let mut child = Command::new("git");
        let mut child =
            child.arg("-C").arg(folder).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    #[test]
    fn promise_10_a_pack_is_whole_if_it_has_the_published_objects_and_no_other_one() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path();
        git(at, &["init", "-q", "--bare"], "");
        let write = |text: &str| git(at, &["hash-object", "-w", "--stdin"], text);
        let [a, b, c] = ["a", "b", "c"].map(write);
        let published = |ids: &[&String]| {
            let objects = ids.iter().map(|id| ((*id).clone(), String::new())).collect();
            Published { objects, ..Published::default() }
        };
        assert_eq!(whole(at, &published(&[&a])), None, "there is no pack");
        git(at, &["pack-objects", "-q", "objects/pack/pack"], &format!("{a}\n{b}\n"));
        let path = whole(at, &published(&[&a, &b])).unwrap();
        assert_eq!(path.extension().unwrap(), "pack");
        assert_eq!(std::fs::read(&path).unwrap()[..4], *b"PACK");
        assert_eq!(whole(at, &published(&[&b, &a])), Some(path.clone()));
        for other in [&[&a][..], &[&a, &c], &[&a, &a], &[&a, &b, &c], &[]] {
            assert_eq!(whole(at, &published(other)), None, "{other:?}");
        }
        // An index that has more than these ids, such as a table of large offsets.
        let index = path.with_extension("idx");
        let content = std::fs::read(&index).unwrap();
        for (more, is_whole) in [(&b"x"[..], false), (b"", true)] {
            std::fs::remove_file(&index).unwrap();
            std::fs::write(&index, [&content, more].concat()).unwrap();
            assert_eq!(whole(at, &published(&[&a, &b])).is_some(), is_whole);
        }
        git(at, &["pack-objects", "-q", "objects/pack/pack"], &format!("{c}\n"));
        assert_eq!(whole(at, &published(&[&a, &b])), None, "there are two packs");
    }
}
