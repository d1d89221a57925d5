//! A development certificate authority, made at run time. Never for production: its key lives in memory only,
//! is gone with the process, and nobody guards it.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};

/// An authority and the folder its certificates go to.
#[derive(Debug)]
pub struct Pki {
    dir: PathBuf,
    authority: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its private key, as PEM files of mode 0600, with the authority to trust beside them.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The certificate authority that both ends trust.
    pub ca: PathBuf,
    /// The certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl Pki {
    /// Makes an authority that writes to `dir`.
    pub fn create(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
        let authority = authority("cofferdam development CA")?;
        write_private(&dir.join("ca.pem"), &authority.pem())?;
        Ok(Self { dir: dir.to_owned(), authority })
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    /// Makes a server's certificate, for `localhost`, 127.0.0.1 and `name`.
    pub fn server(&self, name: &str) -> Result<Credential> {
        let names = vec![name.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        self.write(name, &self.authority, names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Makes a client's certificate whose single DNS name is `name`.
    pub fn client(&self, name: &str) -> Result<Credential> {
        self.write(
            name,
            &self.authority,
            vec![name.to_owned()],
            ExtendedKeyUsagePurpose::ClientAuth,
        )
    }

    /// Makes a client's certificate that claims to be `name`, signed by an authority nobody trusts.
    /// It is written to `stranger.pem`, apart from the real one's.
    pub fn stranger(&self, name: &str) -> Result<Credential> {
        let other = authority("an authority nobody trusts")?;
        self.write("stranger", &other, vec![name.to_owned()], ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn write(
        &self,
        file: &str,
        by: &CertifiedIssuer<'static, KeyPair>,
        names: Vec<String>,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Credential> {
        let key = KeyPair::generate()?;
        let mut params = parameters(file)?;
        params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let cert = params.signed_by(&key, by)?;
        let credential = Credential {
            ca: self.ca(),
            cert: self.dir.join(format!("{file}.pem")),
            key: self.dir.join(format!("{file}.key")),
        };
        write_private(&credential.cert, &cert.pem())?;
        write_private(&credential.key, &key.serialize_pem())?;
        Ok(credential)
    }
}

impl Credential {
    /// The TLS settings of a client that shows this certificate to a server named `localhost`.
    pub fn client_tls(&self) -> Result<ClientTlsConfig> {
        Ok(ClientTlsConfig::new()
            .domain_name("localhost")
            .ca_certificate(Certificate::from_pem(fs::read(&self.ca)?))
            .identity(Identity::from_pem(fs::read(&self.cert)?, fs::read(&self.key)?)))
    }
}

fn authority(name: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = parameters(name)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

/// Valid from the start of last year to the start of the year after next: a demo's lifetime, whatever the clock does.
fn parameters(common_name: &str) -> Result<CertificateParams> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let year = i32::try_from(seconds / 31_556_952)?.saturating_add(1970);
    params.not_before = date_time_ymd(year.saturating_sub(1), 1, 1);
    params.not_after = date_time_ymd(year.saturating_add(2), 1, 1);
    Ok(params)
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("could not write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
