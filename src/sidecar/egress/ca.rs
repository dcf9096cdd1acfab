//! The bottle's own certificate authority, and the certificates that it makes for hosts. Its key is made here and never
//! leaves this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use anyhow::Context;
use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use time::{Duration, OffsetDateTime};

use crate::policy::Host;

/// How long a certificate is valid; a bottle that lives longer gets new ones.
const VALID: Duration = Duration::hours(24);
/// How much a client's clock may be behind.
const SKEW: Duration = Duration::hours(1);
/// The authority's own: longer than bottles live.
const AUTHORITY_VALID: Duration = Duration::days(30);
/// Hosts whose certificates are kept; with more, all are made anew.
const MAX_LEAVES: usize = 1024;

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
    /// A fresh authority: ECDSA on P-256, for one bottle.
    pub(super) fn new(bottle: &str, provider: Arc<CryptoProvider>) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("bottler {bottle}"));
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - SKEW, now + AUTHORITY_VALID);
        let certificate = params.self_signed(&key)?.pem();
        let (issuer, leaves) = (Issuer::new(params, key), Mutex::default());
        Ok(Self { certificate, issuer, key: KeyPair::generate()?, provider, leaves })
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
        let name = match host {
            Host::V6(address) => address.to_string(),
            other => other.to_string(),
        };
        let mut params = CertificateParams::new(vec![name]).context("name the certificate")?;
        params.distinguished_name = DistinguishedName::new();
        (params.not_before, params.not_after) = (now - SKEW, now + VALID);
        let certificate = params.signed_by(&self.key, &self.issuer)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let builder =
            ServerConfig::builder_with_provider(self.provider.clone()).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}
