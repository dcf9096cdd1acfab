//! The bottle's certificate authority, and the certificates that it issues for hosts. The holder makes the key and
//! sends it over standard input, which no engine logs; the key is only in the memory of these two processes. So a
//! restarted egress is the same authority, which the agent trusts already.
//!
//! Certificates satisfy strict clients (RFC 5280, sections 4.2.1.1 to 4.2.1.3 and 4.2.1.12; Python from 3.13 on sets
//! `VERIFY_X509_STRICT`): they have key identifiers of subject and authority, key usages, and a unique serial number.

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

/// How long a host's certificate is valid; it is renewed before that.
const VALID: Duration = Duration::hours(24);
/// How much a client's clock may be slow.
const SKEW: Duration = Duration::hours(1);
/// How long the CA's certificate is valid: longer than bottles live.
const AUTHORITY_VALID: Duration = Duration::days(30);
/// Length of a serial number, in bytes (RFC 5280, section 4.1.2.2: at most 20, and positive).
const SERIAL: usize = 16;
/// Maximum number of cached certificates; when it is reached, the cache is cleared.
const MAX_LEAVES: usize = 1024;

/// The certificate and the key of a CA.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CaKeyPair {
    /// The certificate, in PEM.
    certificate: String,
    /// The key, in PEM.
    key: String,
}

impl CaKeyPair {
    /// Generates a CA for one bottle: ECDSA on P-256.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn new(bottle: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        Ok(Self { certificate: certified(bottle, &key)?, key: key.serialize_pem() })
    }
}

/// The certificate of a CA with this name and key, in PEM.
pub(super) fn certified(name: &str, key: &KeyPair) -> anyhow::Result<String> {
    let mut params = params(name);
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - SKEW, now + AUTHORITY_VALID);
    params.serial_number = Some(serial()?);
    Ok(params.self_signed(key)?.pem())
}

/// The parameters of the CA's certificate, which the certificates of hosts refer to.
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
    /// One key for the certificates of all hosts; it never leaves this process.
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

    /// The TLS configuration that impersonates a host.
    ///
    /// # Errors
    /// No certificate can be made for the host.
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
        // Renewed early, so that no connection gets a certificate that is about to expire.
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

    /// Issues a certificate for a host.
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
        // The default serial number derives from the key, which all hosts share; NSS rejects two certificates with one
        // number.
        params.serial_number = Some(serial()?);
        let certificate = params.signed_by(&self.key, &self.issuer)?;
        Ok(CertificateDer::from(certificate.der().to_vec()))
    }
}

/// A random serial number.
fn serial() -> anyhow::Result<SerialNumber> {
    let mut bytes = [0; SERIAL];
    getrandom::fill(&mut bytes).context("make a serial number")?;
    // Positive, and without a leading zero.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls::pki_types::pem::PemObject;

    use super::*;

    /// When a certificate ends, in seconds from now.
    fn ends_in(der: &[u8]) -> i64 {
        // RFC 5280, section 4.1.2.5: the second time of the validity.
        let is_time = |bytes: &&[u8]| {
            bytes[..2] == [0x17, 13] && bytes[2..14].iter().all(u8::is_ascii_digit) && bytes[14] == b'Z'
        };
        let time = der.windows(15).filter(is_time).nth(1).unwrap();
        let text = format!("20{}", std::str::from_utf8(&time[2..14]).unwrap());
        let part = |from: usize, to: usize| text[from..to].parse::<u8>().unwrap();
        let month = time::Month::try_from(part(4, 6)).unwrap();
        let date = time::Date::from_calendar_date(text[..4].parse().unwrap(), month, part(6, 8)).unwrap();
        let end = date.with_hms(part(8, 10), part(10, 12), part(12, 14)).unwrap().assume_utc();
        (end - OffsetDateTime::now_utc()).whole_seconds()
    }

    #[test]
    fn a_certificate_is_valid_for_so_long_and_renewed_before() {
        let founded = CaKeyPair::new("test").unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority = Authority::new("test", founded, provider).unwrap();
        let (host, now) = (Host::parse("api.example.com").unwrap(), OffsetDateTime::now_utc());
        let is_about = |seconds: i64, expected: Duration| (0..=60).contains(&(expected.whole_seconds() - seconds));
        let leaf = authority.certify(&host, now).unwrap();
        assert!(is_about(ends_in(&leaf), VALID), "{}", ends_in(&leaf));
        let root = CertificateDer::from_pem_slice(authority.certificate.as_bytes()).unwrap();
        assert!(is_about(ends_in(&root), AUTHORITY_VALID), "{}", ends_in(&root));
        // The same one until half of its time is over.
        let first = authority.config(&host).unwrap();
        assert!(Arc::ptr_eq(&first, &authority.config(&host).unwrap()));
        let until = crate::sync::lock(&authority.leaves)[&host].0;
        assert!(is_about((until - OffsetDateTime::now_utc()).whole_seconds(), VALID / 2));
        crate::sync::lock(&authority.leaves).get_mut(&host).unwrap().0 = now;
        assert!(!Arc::ptr_eq(&first, &authority.config(&host).unwrap()));
    }

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
            let printed = openssl(&strict);
            assert!(printed.ends_with(": OK\n"), "{host}: {printed}");
            serials.insert(openssl(&["x509", "-noout", "-serial", "-inform", "der", "-in"]));
        }
        assert_eq!(serials.len(), 5, "{serials:?}");
        std::fs::write(&leaf, &authority.certificate).unwrap();
        let printed = openssl(&["verify", "-x509_strict", "-CAfile", root.to_str().unwrap()]);
        assert!(printed.ends_with(": OK\n"), "{printed}");
    }
}
