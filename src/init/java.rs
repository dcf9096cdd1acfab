//! Writes a certificate store for Java, which does not read PEM. The format is JKS, version 2, which every JDK reads
//! (documented in `sun.security.provider.JavaKeyStore`): a header, an entry for each certificate, and a hash of the
//! whole that is keyed with the password.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha1::{Digest, Sha1};

use crate::layout::agent::JAVA_PASSWORD;

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
/// The tag of a certificate entry.
const TRUSTED: u32 = 2;

/// A store with the certificates of a PEM bundle. Malformed certificates are skipped, as in OpenSSL.
pub(super) fn store(bundle: &str) -> Vec<u8> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bundle.as_bytes()).filter_map(Result::ok).collect();
    let mut store = Vec::new();
    for number in [MAGIC, VERSION, length(certificates.len())] {
        store.extend_from_slice(&number.to_be_bytes());
    }
    for (index, certificate) in certificates.iter().enumerate() {
        store.extend_from_slice(&TRUSTED.to_be_bytes());
        text(&mut store, &format!("bottler-{index}"));
        // The creation time, in milliseconds since 1970, which no reader uses.
        store.extend_from_slice(&0_u64.to_be_bytes());
        text(&mut store, "X.509");
        store.extend_from_slice(&length(certificate.len()).to_be_bytes());
        store.extend_from_slice(certificate);
    }
    let password = JAVA_PASSWORD.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<_>>();
    let hash = Sha1::new().chain_update(password).chain_update("Mighty Aphrodite").chain_update(&store).finalize();
    store.extend_from_slice(&hash);
    store
}

fn length(length: usize) -> u32 {
    u32::try_from(length).unwrap_or_default()
}

/// A string with a length of two bytes, as Java's `writeUTF` encodes it.
fn text(store: &mut Vec<u8>, text: &str) {
    store.extend_from_slice(&u16::try_from(text.len()).unwrap_or_default().to_be_bytes());
    store.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn java_reads_the_store() {
        let pem = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap().cert.pem();
        let bundle = format!("# a comment\n{}\n{}", pem("one.example.com"), pem("two.example.com"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("store");
        std::fs::write(&path, store(&bundle)).unwrap();
        let list = ["-list", "-storetype", "JKS", "-storepass", JAVA_PASSWORD, "-keystore"];
        let output = std::process::Command::new("keytool").args(list).arg(&path).output();
        let output = output.expect("keytool is installed");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && printed.contains("contains 2 entries"), "{printed}");
        assert_eq!(printed.matches("trustedCertEntry").count(), 2, "{printed}");
    }
}
