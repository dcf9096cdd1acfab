//! Descriptors that a process in the background was started with: of the user's shell, of the process that started it. None but
//! the first three is its own, and one that stays open keeps a file, a terminal or a connection of somebody else alive.

use std::os::fd::RawFd;

/// Closes every descriptor beyond standard error. Called first of all, while this process has opened nothing itself.
///
/// # Errors
/// `/proc` cannot be read.
pub fn close_inherited() -> std::io::Result<()> {
    let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok();
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?.filter_map(number).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // That of the listing itself is closed by now.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
