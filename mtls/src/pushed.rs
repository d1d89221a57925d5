//! Revocation lists that somebody hands in while a service runs: held against the authorities and the lists in force, and put
//! beside those of the file. It never writes anything, and never takes a list that is not newer than the one in force.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use crate::der;
use crate::files::{TlsError, read};
use crate::judge::Judge;
use crate::server::{ListFacts, Terms, content, is_signed, unix_now};

/// No list that is handed in is longer: it travels in one message.
pub const LIST_BYTES_MAX: usize = 128 << 10;
/// A list may be made so many seconds ahead of our clock, and no further.
const AHEAD_SECONDS_MAX: u64 = 300;
const TAG: &str = "X509 CRL";

/// Why a list is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OfferError {
    /// No lists are used here.
    #[error("this service uses no revocation lists (tls.crl in its configuration)")]
    Unused,
    /// It is none.
    #[error("it is no revocation list: {0}")]
    Unreadable(String),
    /// Nobody of ours signed it.
    #[error("it is not signed by an authority of this service's tls.ca that it names")]
    Issuer,
    /// It does not say which it is.
    #[error("it has no number (CRLNumber), so that nobody can tell whether it is the newest")]
    Unnumbered,
    /// It is not newer.
    #[error(
        "its number is {found}, and the one in force has {in_force}: only a higher one takes its place"
    )]
    NotNewer {
        /// In hex.
        found: String,
        /// In hex, or `none`.
        in_force: String,
    },
    /// It was made before the one in force, whatever its number.
    #[error("it was made before the one in force")]
    Older,
    /// Its time is over.
    #[error("it is expired: the next one was due at {0} (Unix seconds)")]
    Expired(u64),
    /// It is from the future.
    #[error("it was made at {0} (Unix seconds), which is ahead of this service's clock")]
    Ahead(u64),
}

/// A list that may come into force.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Offer {
    /// Its bytes (DER), whose SHA-256 names it.
    pub list: Vec<u8>,
    /// What it says of itself.
    pub facts: ListFacts,
    /// The file of all lists that were handed in, with this one in the place of its authority's.
    pub file: String,
}

/// A list out of PEM text or DER bytes, exactly one.
///
/// # Errors
/// A sentence for people.
pub fn one(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if bytes.len() > LIST_BYTES_MAX {
        return Err(format!("it has {} bytes, at most {LIST_BYTES_MAX} are taken", bytes.len()));
    }
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(bytes).collect();
    let list = match found.map_err(|error| error.to_string())?.as_slice() {
        [] => bytes.to_vec(),
        [one] => one.as_ref().to_vec(),
        several => {
            return Err(format!(
                "there are {} lists in it: hand them in one by one",
                several.len()
            ));
        }
    };
    match der::list(&list) {
        Some(_) => Ok(list),
        None => Err("it cannot be read, or does not say when the next is due".to_owned()),
    }
}

/// Holds a list against what is in force.
pub(crate) fn offer(
    bytes: &[u8],
    terms: &Terms,
    handed_in: Option<&Path>,
) -> Result<Offer, OfferError> {
    let (Some(in_force), Some(path)) = (&terms.facts.lists, handed_in) else {
        return Err(OfferError::Unused);
    };
    let bytes = one(bytes).map_err(OfferError::Unreadable)?;
    let unreadable = || OfferError::Unreadable("it cannot be read".to_owned());
    let list = der::list(&bytes).ok_or_else(unreadable)?;
    let provider = rustls::crypto::ring::default_provider();
    if is_signed(&list, &terms.authorities, &provider) != Some(true) {
        return Err(OfferError::Issuer);
    }
    let (facts, now) = (ListFacts::of(&list), unix_now());
    if facts.validity.until < now {
        return Err(OfferError::Expired(facts.validity.until));
    }
    if facts.validity.from > now.saturating_add(AHEAD_SECONDS_MAX) {
        return Err(OfferError::Ahead(facts.validity.from));
    }
    let number = facts.number.as_deref().ok_or(OfferError::Unnumbered)?;
    for before in in_force.iter().filter(|before| before.issuer == facts.issuer) {
        if before.number.as_deref().is_some_and(|before| !is_higher(number, before)) {
            let (found, in_force) =
                (hex(number), before.number.as_deref().map_or("none".to_owned(), hex));
            return Err(OfferError::NotNewer { found, in_force });
        }
        if facts.validity.from < before.validity.from {
            return Err(OfferError::Older);
        }
    }
    // As it will be used: what the library cannot read must not lie in a file that is read at every start.
    let mut roots = RootCertStore::empty();
    for authority in &terms.authorities {
        roots.add(authority.clone()).map_err(|error| OfferError::Unreadable(error.to_string()))?;
    }
    let usable = [CertificateRevocationListDer::from(bytes.clone())];
    Judge::new(roots, Some(&usable), &Arc::new(provider)).map_err(OfferError::Unreadable)?;
    let kept = kept(path).unwrap_or_default();
    let others = kept.into_iter().filter(|other| {
        let other = der::list(other);
        other.is_some_and(|other| other.issuer != list.issuer && is_of(&other, &terms.authorities))
    });
    let file = others.map(|other| pem(&other)).chain([pem(&bytes)]).collect();
    Ok(Offer { file, facts, list: bytes.clone() })
}

/// The lists that were handed in; none where none ever was.
pub(crate) fn kept(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let pem = match read(path) {
        Ok(pem) => pem,
        Err(TlsError::Read { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    found.map_err(|error| content(path, error.to_string()))
}

/// The lists in this file of those that were handed in, each as bytes (DER).
///
/// # Errors
/// [`TlsError`] when there is one and it cannot be read.
pub fn handed_in(path: &Path) -> Result<Vec<Vec<u8>>, TlsError> {
    Ok(kept(path)?.into_iter().map(|list| list.to_vec()).collect())
}

/// Of both: one that was handed in takes the place of its authority's in the file if it is newer, and is left away if it is not, or
/// if its authority is none of ours any more.
pub(crate) fn newest(
    mut lists: Vec<CertificateRevocationListDer<'static>>,
    handed_in: Vec<CertificateRevocationListDer<'static>>,
    authorities: &[CertificateDer<'static>],
) -> Vec<CertificateRevocationListDer<'static>> {
    for offered in handed_in {
        let Some(new) = der::list(&offered).filter(|list| is_of(list, authorities)) else {
            continue;
        };
        let of_same = |other: &CertificateRevocationListDer<'_>| {
            der::list(other).is_some_and(|other| other.issuer == new.issuer)
        };
        let newer = |other: &CertificateRevocationListDer<'_>| {
            der::list(other).is_none_or(|other| is_newer(&new, &other))
        };
        if lists.iter().filter(|other| of_same(other)).all(newer) {
            lists.retain(|other| !of_same(other));
            lists.push(offered.clone());
        }
    }
    lists
}

fn is_newer(one: &der::List<'_>, other: &der::List<'_>) -> bool {
    match (one.number, other.number) {
        (Some(one), Some(other)) if one != other => is_higher(one, other),
        _ => one.validity.from > other.validity.from,
    }
}

fn is_of(list: &der::List<'_>, authorities: &[CertificateDer<'static>]) -> bool {
    let mut issuers =
        authorities.iter().filter_map(|one| webpki::EndEntityCert::try_from(one).ok());
    issuers.any(|issuer| issuer.subject() == list.issuer)
}

/// Both without zeros before them.
fn is_higher(one: &[u8], other: &[u8]) -> bool {
    (one.len(), one) > (other.len(), other)
}

fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    if digits.is_empty() { "00".to_owned() } else { digits }
}

fn pem(list: &[u8]) -> String {
    let text = STANDARD.encode(list);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: String = lines.flat_map(|line| [line.into_owned(), "\n".to_owned()]).collect();
    format!("-----BEGIN {TAG}-----\n{lines}-----END {TAG}-----\n")
}
