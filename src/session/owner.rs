//! Who owns a bottle: this machine, this user, this state directory.

use std::path::Path;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// Hexadecimal digits of an owner's digest: enough that two owners on one engine never meet.
const DIGITS: usize = 16;

/// The owner whose bottles are kept under a state directory. The directory's own id is made on first use.
///
/// # Errors
/// The id cannot be read or written.
pub fn of(state: &Path) -> std::io::Result<String> {
    let machine = std::fs::read_to_string("/etc/machine-id").unwrap_or_default();
    let directory = directory_id(state)?;
    let mut digest = Sha256::new();
    for part in [machine.trim(), &nix::unistd::getuid().to_string(), &directory] {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    let hex = HEXLOWER.encode(&digest.finalize());
    Ok(hex[..DIGITS].to_owned())
}

fn directory_id(state: &Path) -> std::io::Result<String> {
    let file = state.join("id");
    loop {
        match std::fs::read_to_string(&file) {
            Ok(id) if !id.is_empty() => return Ok(id),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Two first runs at once: the link is atomic, and the loser reads the winner's id.
        let fresh = state.join(format!("id.{}", std::process::id()));
        std::fs::write(&fresh, super::dir::random_base36(24)?)?;
        let linked = std::fs::hard_link(&fresh, &file);
        std::fs::remove_file(&fresh)?;
        match linked {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
}
