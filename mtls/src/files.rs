//! One certificate, its key, and the authority the other side must be certified by, read from PEM files, and a client's
//! settings from them. It never accepts a key that everybody on the machine can read, and never falls back to public roots.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use zeroize::Zeroizing;

/// A peer that has not finished its handshake by then is not going to.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a TCP connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the PEM files are. The first three serve a server and a client.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsFiles {
    /// Our certificate (chain), leaf first.
    pub certificate: PathBuf,
    /// Its private key, readable by nobody else.
    pub key: PathBuf,
    /// The authority that certifies the other side; the only one trusted. Several while one takes another's place.
    pub ca: PathBuf,
    /// For a server: the authorities' revocation lists. Without this, nobody's certificate is ever revoked.
    #[serde(default)]
    pub crl: Option<PathBuf>,
}

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key is open to everybody.
    #[error("{path} is a private key that every user can read; run: chmod 600 {path}")]
    OpenKey {
        /// Which.
        path: PathBuf,
    },
    /// The address is not an https URL.
    #[error("\"{url}\" is not an address like https://host:port")]
    Address {
        /// The text.
        url: String,
    },
    /// What is in a file cannot be used.
    #[error("{path}: {reason}")]
    Content {
        /// Which.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// The PEM files do not fit together.
    #[error("the TLS files do not work: {0}")]
    Unusable(#[from] tonic::transport::Error),
}

impl TlsFiles {
    /// A client endpoint for `url` (`https://host:port`) that shows our certificate and takes only a server
    /// certified by `ca` for `server_name` (or for the URL's host when `None`).
    ///
    /// # Errors
    /// When a file or the address cannot be used.
    pub fn endpoint(&self, url: &str, server_name: Option<&str>) -> Result<Endpoint, TlsError> {
        let address = || TlsError::Address { url: url.to_owned() };
        if !url.starts_with("https://") {
            return Err(address());
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|_| address())?;
        let mut tls = ClientTlsConfig::new()
            .identity(self.identity()?)
            .ca_certificate(self.authority()?)
            .timeout(HANDSHAKE_TIMEOUT);
        if let Some(name) = server_name {
            tls = tls.domain_name(name);
        }
        Ok(endpoint.connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true).tls_config(tls)?)
    }

    fn identity(&self) -> Result<Identity, TlsError> {
        let key = self.private_key()?;
        Ok(Identity::from_pem(read(&self.certificate)?, key.as_slice()))
    }

    /// The private key's PEM, unless everybody can read it.
    pub(crate) fn private_key(&self) -> Result<Zeroizing<Vec<u8>>, TlsError> {
        let mode =
            std::fs::metadata(&self.key).map_err(|e| unreadable(&self.key, e))?.permissions();
        if mode.mode() & 0o007 != 0 {
            return Err(TlsError::OpenKey { path: self.key.clone() });
        }
        read(&self.key).map(Zeroizing::new)
    }

    fn authority(&self) -> Result<Certificate, TlsError> {
        Ok(Certificate::from_pem(read(&self.ca)?))
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|e| unreadable(path, e))
}

fn unreadable(path: &Path, source: std::io::Error) -> TlsError {
    TlsError::Read { path: path.to_owned(), source }
}
