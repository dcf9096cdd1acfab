//! Base58 with a checksum, as keys of Bitcoin have it (`Base58Check` in Bitcoin's documentation): a version, a payload, and the
//! first four bytes of the SHA-256 of the SHA-256 of both.

use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 58] = b"123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
/// The length of the checksum, in bytes.
const CHECKSUM: usize = 4;
/// Longer texts are no keys, in characters.
const MAX_TEXT: usize = 128;

/// The bytes before the checksum; `None` if it is wrong.
pub(super) fn decode_checked(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    // The lowest byte first.
    let mut number: Vec<u8> = Vec::new();
    for letter in text {
        let mut carry = ALPHABET.iter().position(|other| other == letter)?;
        for byte in &mut number {
            carry += usize::from(*byte) * ALPHABET.len();
            *byte = u8::try_from(carry & 0xff).ok()?;
            carry >>= 8;
        }
        while carry > 0 {
            number.push(u8::try_from(carry & 0xff).ok()?);
            carry >>= 8;
        }
    }
    let zeros = text.iter().take_while(|letter| **letter == ALPHABET[0]).count();
    let bytes: Vec<u8> = std::iter::repeat_n(0, zeros).chain(number.into_iter().rev()).collect();
    let (content, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    let hash = Sha256::digest(Sha256::digest(content));
    (hash[..CHECKSUM] == *checksum).then(|| content.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_decoded_and_checked() {
        // An address and a key of Bitcoin's wiki.
        assert_eq!(decode_checked(b"16UwLL9Risc3QfPqBUvKofHmBQ7wMtjvM").unwrap()[..3], [0, 1, 9]);
        let key = ["5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ"].concat();
        let bytes = decode_checked(key.as_bytes()).unwrap();
        assert_eq!((bytes.len(), bytes[..3].to_vec()), (33, vec![0x80, 0x0c, 0x28]));
        for wrong in ["", "1", "5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTK", "0OIl", &"z".repeat(200)] {
            assert_eq!(decode_checked(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
