//! Authorities, certificates and revocation lists of every kind, made at run time.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mtls::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PublicKeyData,
    RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use time::{Duration, OffsetDateTime};

/// A certificate authority; `chain` are the certificates between it and a root.
pub(crate) struct Authority {
    pub(crate) issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
    pub(crate) chain: Vec<Vec<u8>>,
}

/// What a client shows.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) chain: Vec<Vec<u8>>,
    /// PKCS#8.
    pub(crate) key: Vec<u8>,
}

pub(crate) fn authority(name: &str) -> Authority {
    let params = authority_params(name, BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority { issuer: Issuer::new(params, key), pem, chain: Vec::new() }
}

pub(crate) fn authority_params(name: &str, constraints: BasicConstraints) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// A client's certificate of this name, to be changed.
pub(crate) fn client(names: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    let dns = |name: &&str| SanType::DnsName((*name).try_into().unwrap());
    params.subject_alt_names = names.iter().map(dns).collect();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

impl Authority {
    /// One below this.
    pub(crate) fn below(&self, name: &str, constraints: BasicConstraints) -> Self {
        self.below_with(authority_params(name, constraints))
    }

    pub(crate) fn below_with(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut chain = vec![certificate.der().to_vec()];
        chain.extend(self.chain.iter().cloned());
        Self { issuer: Issuer::new(params, key), pem: certificate.pem(), chain }
    }

    pub(crate) fn issue(&self, params: &CertificateParams) -> Shown {
        let key = KeyPair::generate().unwrap();
        let chain = self.certify(params, &key);
        Shown { chain, key: key.serialize_der() }
    }

    pub(crate) fn certify(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> Vec<Vec<u8>> {
        let mut chain = vec![params.signed_by(key, &self.issuer).unwrap().der().to_vec()];
        chain.extend(self.chain.iter().cloned());
        chain
    }

    /// A list made so many days ago, that revokes these and is due in so many days.
    pub(crate) fn list(&self, revoked: &[u64], made: i64, due: i64) -> String {
        self.numbered_list(1, revoked, made, due)
    }

    /// The same, with a number.
    pub(crate) fn numbered_list(
        &self,
        number: u64,
        revoked: &[u64],
        made: i64,
        due: i64,
    ) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now + Duration::days(made),
            next_update: now + Duration::days(due),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// The files of a server, or of a client.
    pub(crate) fn files(&self, dir: &Path, name: &str, server: bool, trusted: &str) -> TlsFiles {
        let mut params = client(&[name]);
        if server {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        }
        let files = TlsFiles {
            certificate: dir.join(format!("{name}.pem")),
            key: dir.join(format!("{name}.key")),
            ca: dir.join(format!("{name}-ca.pem")),
            crl: None,
        };
        self.write(&files, &params);
        put(&files.ca, trusted);
        files
    }

    /// A new certificate and key in the files' place.
    pub(crate) fn write(&self, files: &TlsFiles, params: &CertificateParams) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        put(&files.certificate, &certificate.pem());
        put(&files.key, &key.serialize_pem());
    }
}

/// Writes a file as operators should: whole or not at all.
pub(crate) fn put(path: &Path, text: &str) {
    let new = PathBuf::from(format!("{}.new", path.display()));
    std::fs::write(&new, text).unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(new, path).unwrap();
}
