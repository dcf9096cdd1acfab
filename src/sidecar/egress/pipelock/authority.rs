//! The CA that Pipelock intercepts TLS with. Only egress trusts it.

use anyhow::Context;
use data_encoding::BASE64;
use rcgen::KeyPair;

use super::super::ca::certified;

/// The object identifier of P-256, 1.2.840.10045.3.1.7, in DER (RFC 5480, section 2.1.1.1).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Length of a private key of P-256, in bytes.
const SCALAR: u8 = 32;

/// A CA as Pipelock reads it.
pub(super) struct InnerAuthority {
    /// The certificate, in PEM.
    pub(super) certificate: String,
    /// The key, in PEM, in the form of SEC 1: Pipelock reads no other.
    pub(super) key: String,
}

impl InnerAuthority {
    /// # Errors
    /// The system has no randomness.
    pub(super) fn new(bottle: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let certificate = certified(&format!("{bottle}, to Pipelock"), &key)?;
        Ok(Self { certificate, key: sec1(&key)? })
    }
}

/// A key of P-256 as an `ECPrivateKey` (RFC 5915, section 3), with its curve: without that, it means nothing alone.
fn sec1(key: &KeyPair) -> anyhow::Result<String> {
    let pkcs8 = key.serialize_der();
    // `version` 1, then the octet string of the scalar.
    let marker = [0x02, 0x01, 0x01, 0x04, SCALAR];
    let at = pkcs8.windows(marker.len()).position(|window| window == marker).context("find the key in PKCS #8")?;
    let scalar = pkcs8.get(at + marker.len()..at + marker.len() + usize::from(SCALAR)).context("the key is cut")?;
    let public = key.public_key_raw();
    let bits = [&[0x00], public].concat();
    let content = [&marker[..], scalar, &tagged(0xa0, &P256)?, &tagged(0xa1, &tagged(0x03, &bits)?)?].concat();
    let der = tagged(0x30, &content)?;
    let lines: Vec<String> =
        BASE64.encode(&der).as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into()).collect();
    Ok(format!("-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n", lines.join("\n")))
}

/// A value of DER with a tag. All values here are shorter than 128 bytes.
fn tagged(tag: u8, content: &[u8]) -> anyhow::Result<Vec<u8>> {
    let length = u8::try_from(content.len()).ok().filter(|length| *length < 0x80).context("the value is too long")?;
    Ok([&[tag, length], content].concat())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn openssl_reads_the_key_and_finds_the_certificate_to_be_its_own() {
        let authority = InnerAuthority::new("test").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (key, certificate) = (folder.path().join("key"), folder.path().join("certificate"));
        std::fs::write(&key, &authority.key).unwrap();
        std::fs::write(&certificate, &authority.certificate).unwrap();
        let openssl = |arguments: &[&str], file: &std::path::Path| {
            let out = Command::new("openssl").args(arguments).arg("-in").arg(file).output().unwrap();
            assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).unwrap()
        };
        assert_eq!(openssl(&["ec", "-pubout"], &key), openssl(&["x509", "-noout", "-pubkey"], &certificate));
        openssl(&["ec", "-check", "-noout"], &key);
        let text = openssl(&["x509", "-noout", "-text"], &certificate);
        assert!(text.contains("Certificate Sign") && text.contains("CA:TRUE"), "{text}");
    }
}
