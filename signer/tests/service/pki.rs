//! A certificate authority for one test run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mtls::TlsFiles;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
    date_time_ymd,
};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Files for one name; `trusted` certifies the other side.
    pub(crate) fn issue(
        &self,
        folder: &Path,
        name: &str,
        server: bool,
        trusted: &Self,
    ) -> TlsFiles {
        self.issue_numbered(folder, name, server, trusted, None)
    }

    /// The same with a serial number, by which a list can name it.
    pub(crate) fn issue_numbered(
        &self,
        folder: &Path,
        name: &str,
        server: bool,
        trusted: &Self,
        serial: Option<u64>,
    ) -> TlsFiles {
        std::fs::create_dir_all(folder).unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.serial_number = serial.map(SerialNumber::from);
        params.extended_key_usages = vec![if server {
            ExtendedKeyUsagePurpose::ServerAuth
        } else {
            ExtendedKeyUsagePurpose::ClientAuth
        }];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = |end: &str| folder.join(format!("{name}{end}"));
        std::fs::write(path(".pem"), certificate.pem()).unwrap();
        std::fs::write(path("-ca.pem"), &trusted.pem).unwrap();
        std::fs::write(path(".key"), key.serialize_pem()).unwrap();
        std::fs::set_permissions(path(".key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        TlsFiles { certificate: path(".pem"), key: path(".key"), ca: path("-ca.pem"), crl: None }
    }

    /// List of this number, made so many seconds ago, that revokes these and is due in so many seconds (or was).
    pub(crate) fn list(&self, number: u64, revoked: &[u64], made: u64, due: i64) -> String {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
        let now = since.as_secs();
        let revoked = revoked.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: date_time_ymd(2024, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: at(now - made),
            next_update: at(now.saturating_add_signed(due)),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}
