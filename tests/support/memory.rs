//! What the processes of a container hold: their variables, their command lines, their memory.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::process::Command;

const PAGE: u64 = 4096;
/// Set in an entry of a page map whose page is in memory (`Documentation/admin-guide/mm/pagemap.rst`).
const PRESENT: u64 = 1 << 63;

/// The texts of these that are in the processes of a container: in their variables, their command lines, their memory.
pub fn held(container: &str, texts: &[&str]) -> BTreeSet<String> {
    let top = Command::new("docker").args(["top", container, "-eo", "pid"]).output().unwrap();
    let top = String::from_utf8(top.stdout).unwrap();
    let pids: Vec<u32> = top.lines().filter_map(|line| line.trim().parse().ok()).collect();
    assert!(!pids.is_empty(), "{container} has no process: {top}");
    let finders: Vec<_> = texts.iter().map(memchr::memmem::Finder::new).collect();
    let mut found = BTreeSet::new();
    let mut look = |bytes: &[u8]| {
        for (text, finder) in texts.iter().zip(&finders) {
            if finder.find(bytes).is_some() {
                found.insert((*text).to_owned());
            }
        }
    };
    for pid in pids {
        for file in ["environ", "cmdline"] {
            // A process may have ended meanwhile.
            look(&std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default());
        }
        memory(pid, &mut look);
    }
    found
}

/// Calls a function with every part of a process' writable memory that has pages.
fn memory(pid: u32, look: &mut impl FnMut(&[u8])) {
    let open = |file: &str| File::open(format!("/proc/{pid}/{file}"));
    let (Ok(map), Ok(mem)) = (open("pagemap"), open("mem")) else { return };
    let regions = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut region = None;
    for line in regions.lines() {
        if let Some((range, rest)) = line.split_once(' ')
            && let Some((begin, end)) = range.split_once('-')
            && let (Ok(begin), Ok(end)) = (u64::from_str_radix(begin, 16), u64::from_str_radix(end, 16))
        {
            region = rest.starts_with("rw").then_some((begin, end));
        } else if line.starts_with("Rss:")
            && !line.ends_with(" 0 kB")
            && let Some((begin, end)) = region
        {
            pages(&map, &mem, begin, end, look);
        }
    }
}

fn pages(map: &File, mem: &File, begin: u64, end: u64, look: &mut impl FnMut(&[u8])) {
    const ENTRIES: u64 = 1 << 14;
    let mut at = begin;
    while at < end {
        let count = ((end - at) / PAGE).min(ENTRIES);
        let mut entries = vec![0; usize::try_from(count * 8).unwrap()];
        if count == 0 || map.read_exact_at(&mut entries, at / PAGE * 8).is_err() {
            return;
        }
        let is_present = |entry: &[u8]| u64::from_ne_bytes(entry.try_into().unwrap()) & PRESENT != 0;
        let first = entries.chunks_exact(8).position(is_present);
        let last = entries.chunks_exact(8).rposition(is_present);
        if let (Some(first), Some(last)) = (first, last) {
            let mut bytes = vec![0; (last - first + 1) * usize::try_from(PAGE).unwrap()];
            // Some cannot be read, such as a device's.
            if let Ok(length) = mem.read_at(&mut bytes, at + first as u64 * PAGE) {
                look(&bytes[..length]);
            }
        }
        at += count * PAGE;
    }
}
