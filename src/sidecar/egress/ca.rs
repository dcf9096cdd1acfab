//! The bottle's own certificate authority. Its key is made here and never leaves this process.

use rcgen::{BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose};

pub(super) struct Authority {
    /// The certificate, in PEM.
    pub(super) certificate: String,
}

impl Authority {
    /// A fresh authority: ECDSA on P-256, for one bottle.
    pub(super) fn new(bottle: &str) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("bottler {bottle}"));
        Ok(Self { certificate: params.self_signed(&key)?.pem() })
    }
}
