//! A certificate authority for one test run.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use mtls::TlsFiles;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
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
        std::fs::create_dir_all(folder).unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
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
}
