//! Inherited file descriptors of a background process. Only the first three are its own; any other would keep a file, a
//! terminal or a connection of another process open.

use std::os::fd::RawFd;

/// Closes every descriptor above standard error. Call it first, before this process opens anything.
///
/// # Errors
/// `/proc` cannot be read.
pub fn close_inherited() -> std::io::Result<()> {
    let number = |entry: std::io::Result<std::fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<RawFd>().ok();
    let open: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")?.filter_map(number).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The descriptor of the directory listing is already closed.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
