//! Random ids and seeds.

use std::io;

/// Random characters of 0–9a–z, without bias.
///
/// # Errors
/// The system returns no random bytes.
pub fn random_base36(count: usize) -> io::Result<String> {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    /// The largest multiple of 36 that fits a byte. Larger values would make the first digits more likely.
    const FAIR: u8 = 252;
    let mut text = String::new();
    while text.len() < count {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        let fair = bytes.into_iter().filter(|&byte| byte < FAIR);
        text.extend(fair.map(|byte| char::from(DIGITS[usize::from(byte % 36)])).take(count - text.len()));
    }
    Ok(text)
}

/// Random bytes: a seed that nobody can guess.
///
/// # Errors
/// The system gives no random bytes.
pub fn random_seed() -> io::Result<[u8; 32]> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(io::Error::other)?;
    Ok(seed)
}
