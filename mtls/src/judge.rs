//! What a client's certificate is worth now: who it names, and whether revocation lists say anything about it. It never
//! takes a certificate that an authority revoked, and never calls one checked that no fresh list covers.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore,
    SignatureScheme,
};

use crate::der::{AltName, alt_names};
use crate::turned::Turned;

/// Certificates between a client's and the authority's.
const INTERMEDIATES_MAX: usize = 3;
/// Longest name.
const NAME_BYTES_MAX: usize = 64;

/// What is known of a certificate's revocation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// A fresh list of its issuer does not name it, or no lists are used here.
    Checked,
    /// Its issuer's list is missing, expired or unusable.
    Unknown,
}

/// A certificate that may be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Judged {
    pub(crate) name: String,
    pub(crate) standing: Standing,
}

/// Authorities and lists of one moment.
#[derive(Debug)]
pub(crate) struct Judge {
    /// Without any list.
    bare: Arc<dyn ClientCertVerifier>,
    lists: Lists,
}

#[derive(Debug)]
enum Lists {
    /// None are used.
    Unused,
    /// They are used, and there are none.
    Missing,
    There {
        /// Each certificate but the authority's must be covered by a fresh list.
        strict: Arc<dyn ClientCertVerifier>,
        /// Expired lists still revoke, and what none covers passes.
        lenient: Arc<dyn ClientCertVerifier>,
    },
}

impl Judge {
    /// With these authorities, and these lists unless none are used.
    pub(crate) fn new(
        roots: RootCertStore,
        lists: Option<&[CertificateRevocationListDer<'static>]>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, String> {
        let roots = Arc::new(roots);
        let builder = || {
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
        };
        let text = |error: rustls::server::VerifierBuilderError| error.to_string();
        let lists = match lists {
            None => Lists::Unused,
            Some([]) => Lists::Missing,
            Some(lists) => Lists::There {
                strict: builder()
                    .with_crls(lists.iter().cloned())
                    .enforce_revocation_expiration()
                    .build()
                    .map_err(text)?,
                lenient: builder()
                    .with_crls(lists.iter().cloned())
                    .allow_unknown_revocation_status()
                    .build()
                    .map_err(text)?,
            },
        };
        Ok(Self { bare: builder().build().map_err(text)?, lists })
    }

    /// Looks at a chain, leaf first.
    pub(crate) fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Judged, Error> {
        if between.len() > INTERMEDIATES_MAX {
            return Err(other(Turned::LongChain));
        }
        let standing = self.standing(leaf, between, now)?;
        Ok(Judged { name: single_name(leaf)?, standing })
    }

    fn standing(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Standing, Error> {
        let bare = || self.bare.verify_client_cert(leaf, between, now);
        match &self.lists {
            Lists::Unused => bare().map(|_| Standing::Checked),
            Lists::Missing => bare().map(|_| Standing::Unknown),
            Lists::There { strict, lenient } => {
                match strict.verify_client_cert(leaf, between, now) {
                    Ok(_) => return Ok(Standing::Checked),
                    Err(error) if !says_nothing(&error) => return Err(error),
                    Err(_) => {}
                }
                match lenient.verify_client_cert(leaf, between, now) {
                    Ok(_) => Ok(Standing::Unknown),
                    // A list that its issuer did not sign revokes nobody.
                    Err(error) if says_nothing(&error) => bare().map(|_| Standing::Unknown),
                    Err(error) => Err(error),
                }
            }
        }
    }
}

/// Whether this is about the lists alone and not about the certificate.
fn says_nothing(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidCertRevocationList(_)
            | Error::InvalidCertificate(
                CertificateError::UnknownRevocationStatus
                    | CertificateError::ExpiredRevocationList
                    | CertificateError::ExpiredRevocationListContext { .. }
            )
    )
}

/// The one name, if all alternative names together are one plain DNS name. DNS names compare without case, grants
/// compare with it: only lower case is let in, so that two spellings never are two callers. With two names, it would
/// be the server's guess whose request this is.
fn single_name(leaf: &CertificateDer<'_>) -> Result<String, Error> {
    let names = alt_names(leaf).unwrap_or_default();
    let &[AltName::Dns(name)] = names.as_slice() else { return Err(other(Turned::BadName)) };
    let name = std::str::from_utf8(name).map_err(|_| other(Turned::BadName))?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let labels = name.split('.').all(|label| !label.is_empty() && label.bytes().all(plain));
    if name.len() > NAME_BYTES_MAX || !labels {
        return Err(other(Turned::BadName));
    }
    Ok(name.to_owned())
}

fn other(reason: Turned) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(reason))))
}

impl ClientCertVerifier for Judge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.bare.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.judge(leaf, between, now).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.bare.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.bare.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.bare.supported_verify_schemes()
    }
}
