//! The bottle's own certificate authority, and the certificates that it makes for hosts. Its key is in the memory of this process and
//! of the bottle's holder, which makes it, and nowhere else: what is started again after an end is the same authority, which the
//! agent trusts already. It comes over standard input, which no engine logs.
//!
//! Certificates have all that strict clients want (RFC 5280, sections 4.2.1.1 to 4.2.1.3 and 4.2.1.12; Python from 3.13 on
//! sets `VERIFY_X509_STRICT`): key identifiers of subject and authority, key usages, and a serial number of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SerialNumber,
};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::net::Host;

/// How long a certificate is valid; a bottle that lives longer gets new ones.
const VALID: Duration = Duration::hours(24);
/// How much a client's clock may be behind.
const SKEW: Duration = Duration::hours(1);
/// The authority's own: longer than bottles live.
const AUTHORITY_VALID: Duration = Duration::days(30);
/// Bytes of a serial number (RFC 5280, section 4.1.2.2: at most 20, and positive).
const SERIAL: usize = 16;
/// Hosts whose certificates are kept; with more, all are made anew.
const MAX_LEAVES: usize = 1024;

/// What an authority is founded on.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaKeyPair {
    /// The certificate, in PEM.
    certificate: String,
    /// The key, in PEM.
    key: String,
}

impl CaKeyPair {
    /// A fresh one: ECDSA on P-256, for one bottle.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(bottle: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = params(bottle);
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - SKEW, now + AUTHORITY_VALID);
        params.serial_number = Some(serial()?);
        Ok(Self { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
    }
}

/// What the certificates of hosts repeat of the authority's own.
fn params(bottle: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("bottler {bottle}"));
    params
}

pub(super) struct Authority {
    /// The certificate, in PEM.
    pub(super) certificate: String,
    issuer: Issuer<'static, KeyPair>,
    /// One key for all hosts: what is certified is the host, and the key never leaves.
    key: KeyPair,
    provider: Arc<CryptoProvider>,
    leaves: Mutex<HashMap<Host, (OffsetDateTime, Arc<ServerConfig>)>>,
}

impl Authority {
    /// The authority of a bottle.
    pub(super) fn new(bottle: &str, founded: CaKeyPair, provider: Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let key = KeyPair::from_pem(&founded.key).context("read the key of the bottle's CA")?;
        let (issuer, leaves) = (Issuer::new(params(bottle), key), Mutex::default());
        Ok(Self { certificate: founded.certificate, issuer, key: KeyPair::generate()?, provider, leaves })
    }

    /// How TLS is spoken as a host.
    ///
    /// # Errors
    /// No certificate can be made for it.
    pub(super) fn config(&self, host: &Host) -> anyhow::Result<Arc<ServerConfig>> {
        let now = OffsetDateTime::now_utc();
        if let Some((until, config)) = crate::sync::lock(&self.leaves).get(host)
            && *until > now
        {
            return Ok(config.clone());
        }
        let config = Arc::new(self.make(host, now)?);
        let mut leaves = crate::sync::lock(&self.leaves);
        if leaves.len() >= MAX_LEAVES {
            leaves.clear();
        }
        // Renewed before it ends, so that nobody meets one that is about to.
        leaves.insert(host.clone(), (now + VALID / 2, config.clone()));
        Ok(config)
    }

    fn make(&self, host: &Host, now: OffsetDateTime) -> anyhow::Result<ServerConfig> {
        let chain = vec![self.certify(host, now)?];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let builder =
            ServerConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// A host's certificate.
    fn certify(&self, host: &Host, now: OffsetDateTime) -> anyhow::Result<CertificateDer<'static>> {
        let name = match host {
            Host::V6(address) => address.to_string(),
            other => other.to_string(),
        };
        let mut params = CertificateParams::new(vec![name]).context("name the certificate")?;
        params.distinguished_name = DistinguishedName::new();
        (params.not_before, params.not_after) = (now - SKEW, now + VALID);
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // All hosts have one key, from which the number would be made: two certificates of one number are no two (NSS).
        params.serial_number = Some(serial()?);
        let certificate = params.signed_by(&self.key, &self.issuer)?;
        Ok(CertificateDer::from(certificate.der().to_vec()))
    }
}

/// A random serial number.
fn serial() -> anyhow::Result<SerialNumber> {
    let mut bytes = [0; SERIAL];
    getrandom::fill(&mut bytes).context("make a serial number")?;
    // Positive, and without a zero in front.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn strict_clients_take_the_certificate_of_every_kind_of_host() {
        let authority =
            Authority::new("test", CaKeyPair::new("test").unwrap(), Arc::new(rustls::crypto::ring::default_provider()))
                .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (root, leaf) = (folder.path().join("root.pem"), folder.path().join("leaf.der"));
        std::fs::write(&root, &authority.certificate).unwrap();
        let openssl = |arguments: &[&str]| {
            let output = Command::new("openssl").args(arguments).arg(&leaf).output().expect("openssl is installed");
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
        };
        let long = format!("{}.{}.example.com", "a".repeat(63), "b".repeat(63));
        let mut serials = std::collections::BTreeSet::new();
        for (host, named) in [
            ("api.example.com", "-verify_hostname"),
            ("my_bucket.example.com", "-verify_hostname"),
            (&long, "-verify_hostname"),
            ("93.184.215.14", "-verify_ip"),
            ("[2606:2800:21f::14]", "-verify_ip"),
        ] {
            let parsed = Host::parse(host).unwrap();
            let certificate = authority.certify(&parsed, OffsetDateTime::now_utc()).unwrap();
            std::fs::write(&leaf, &certificate).unwrap();
            let name = host.trim_matches(['[', ']']);
            let root = root.to_str().unwrap();
            let strict = ["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", root, named, name];
            let said = openssl(&strict);
            assert!(said.ends_with(": OK\n"), "{host}: {said}");
            serials.insert(openssl(&["x509", "-noout", "-serial", "-inform", "der", "-in"]));
        }
        assert_eq!(serials.len(), 5, "{serials:?}");
        std::fs::write(&leaf, &authority.certificate).unwrap();
        let said = openssl(&["verify", "-x509_strict", "-CAfile", root.to_str().unwrap()]);
        assert!(said.ends_with(": OK\n"), "{said}");
    }
}
