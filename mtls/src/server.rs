//! A server's TLS settings, read from files and read again when those change, without losing a connection that is still
//! good. It never puts files into force that do not work: then the ones before stay, and that is said loudly.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use webpki::EndEntityCert;

use crate::der::{self, Validity};
use crate::files::{TlsError, TlsFiles, read};
use crate::incoming::{Incoming, Places};
use crate::judge::Judge;
use crate::peers::Peers;
use crate::pushed::{self, Offer, OfferError};
use crate::turned::Counts;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Connected certificates are looked at again after so many looks: they expire, and so do lists.
const LOOKS_BETWEEN: u32 = 10;

/// One service's side of TLS.
#[derive(Debug)]
pub struct Server {
    files: TlsFiles,
    /// Where lists lie that were handed in.
    handed_in: Option<PathBuf>,
    current: watch::Sender<Arc<Terms>>,
    seen: Mutex<Vec<Stamp>>,
    peers: Arc<Peers>,
    counts: Arc<Counts>,
}

/// What the files said at one moment.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) config: Arc<ServerConfig>,
    pub(crate) judge: Arc<Judge>,
    pub(crate) authorities: Vec<CertificateDer<'static>>,
    /// Those in force; `None` when none are used.
    lists: Option<Vec<CertificateRevocationListDer<'static>>>,
    pub(crate) facts: Facts,
}

/// How old everything is, for those who watch it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Facts {
    /// Our own certificate.
    pub certificate: Validity,
    /// Each authority.
    pub authorities: Vec<Validity>,
    /// Each revocation list; `None` when none are used.
    pub lists: Option<Vec<ListFacts>>,
}

/// About one revocation list.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListFacts {
    /// Its issuer's name, as bytes.
    pub issuer: Vec<u8>,
    /// When it was made, and when the next is due.
    pub validity: Validity,
    /// Its number, without zeros before it; `None` where it has none.
    pub number: Option<Vec<u8>>,
}

/// What the file system says about a file without reading it.
type Stamp = Option<(u64, u64, u64, i64, i64, i64, i64)>;

impl Server {
    /// Reads the files. Revocation lists that are missing or broken do not stop a start: everybody's revocation is
    /// unknown then, and whoever may come in all the same can.
    ///
    /// # Errors
    /// [`TlsError`] when the others cannot be used.
    pub fn load(files: &TlsFiles) -> Result<Arc<Self>, TlsError> {
        Self::load_with(files, None)
    }

    /// The same, with the file in which lists lie that were handed in while it ran. Where both have a list of one authority,
    /// the newer one counts. That file is looked at only where lists are used.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with(files: &TlsFiles, handed_in: Option<&Path>) -> Result<Arc<Self>, TlsError> {
        let handed_in = handed_in.filter(|_| files.crl.is_some());
        let seen = stamps(files, handed_in);
        let terms = match Terms::load(files, handed_in) {
            Err(error) if is_about_lists(files, handed_in, &error) => {
                tracing::error!("revocation lists cannot be used: {error}");
                // Those that were handed in may do; without any nobody's revocation is known, and nobody is served.
                let kept = handed_in.and_then(|path| pushed::kept(path).ok()).unwrap_or_default();
                Terms::with_lists(files, Some(Vec::new()), kept)
                    .or_else(|_| Terms::with_lists(files, Some(Vec::new()), Vec::new()))?
            }
            loaded => loaded?,
        };
        let lists = terms.facts.lists.as_ref();
        if lists.is_some_and(|lists| lists.iter().any(|list| list.validity.until < unix_now())) {
            tracing::error!("a revocation list is expired: nobody whom it covers is served");
        }
        if lists.is_none() {
            tracing::warn!(
                "no revocation lists are configured (tls.crl): no certificate can be revoked"
            );
        }
        Ok(Arc::new(Self {
            files: files.clone(),
            handed_in: handed_in.map(Path::to_owned),
            current: watch::Sender::new(Arc::new(terms)),
            seen: Mutex::new(seen),
            peers: Arc::default(),
            counts: Arc::default(),
        }))
    }

    /// Connections of this listener, by the terms that are in force when each comes.
    #[must_use]
    pub fn incoming(&self, listener: TcpListener, places: Places) -> Incoming {
        let (peers, counts) = (Arc::clone(&self.peers), Arc::clone(&self.counts));
        Incoming::new(listener, self.current.subscribe(), peers, counts, places)
    }

    /// Ends every connection that is left: one over which somebody listens would never end by itself.
    pub fn end_all(&self) {
        self.peers.end_all();
    }

    /// Looks at the files every few seconds, for ever.
    pub async fn watch(self: Arc<Self>) {
        let mut looks = 0_u32;
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            looks = looks.saturating_add(1);
            let server = Arc::clone(&self);
            let again = looks >= LOOKS_BETWEEN;
            // Reading and verifying would hold up others.
            let looked = tokio::task::spawn_blocking(move || {
                let changed = server.look();
                if again && !changed {
                    server.look_at_peers();
                }
                changed
            });
            if again || looked.await.unwrap_or(false) {
                looks = 0;
            }
        }
    }

    /// Puts changed files into force, if they work. Returns whether it did.
    pub fn look(&self) -> bool {
        // Whoever looks waits for whoever looks already: what was there before this call is in force after it.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files, self.handed_in.as_deref());
        if *seen == now {
            return false;
        }
        // Files that change while they are read have another stamp at the next look.
        *seen = now;
        let before = Arc::clone(&self.current.borrow());
        let handed_in = self.handed_in.as_deref();
        match Terms::load(&self.files, handed_in)
            .and_then(|terms| terms.follows(&before, &self.files))
        {
            Ok(terms) => {
                tracing::info!("certificates, authorities and revocation lists were read again");
                self.current.send_replace(Arc::new(terms));
                self.look_at_peers();
                true
            }
            Err(error) => {
                tracing::error!(
                    "the TLS files changed and do not work; those before stay in force: {error}"
                );
                self.take_handed_in(&before)
            }
        }
    }

    /// Puts newer lists that were handed in beside what is in force: no file of somebody else's holds them up.
    fn take_handed_in(&self, before: &Terms) -> bool {
        let Some(path) = &self.handed_in else { return false };
        match pushed::kept(path).and_then(|kept| before.with_newer(path, kept)) {
            Ok(None) => false,
            Ok(Some(terms)) => {
                tracing::warn!(
                    "revocation lists that were handed in came into force without the other files"
                );
                self.current.send_replace(Arc::new(terms));
                self.look_at_peers();
                true
            }
            Err(error) => {
                tracing::error!("lists that were handed in do not work: {error}");
                false
            }
        }
    }

    /// Where lists lie that were handed in, if lists are used.
    #[must_use]
    pub fn handed_in(&self) -> Option<&Path> {
        self.handed_in.as_deref()
    }

    /// A list that somebody hands in, held against the authorities and lists in force. It is not in force yet.
    ///
    /// # Errors
    /// [`OfferError`] saying why it will not be.
    pub fn offered(&self, bytes: &[u8]) -> Result<Offer, OfferError> {
        let terms = Arc::clone(&self.current.borrow());
        pushed::offer(bytes, &terms, self.handed_in.as_deref())
    }

    /// Ends connections whose certificate is not worth anything any more.
    fn look_at_peers(&self) {
        let judge = Arc::clone(&self.current.borrow().judge);
        for (client, reason) in self.peers.look_again(&judge) {
            tracing::warn!(
                client,
                reason = reason.code(),
                "connection ended: its certificate is not good any more"
            );
        }
    }

    /// How old everything is.
    #[must_use]
    pub fn facts(&self) -> Facts {
        self.current.borrow().facts.clone()
    }

    /// Who was turned away, and how many were not.
    #[must_use]
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// How many clients are connected.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.peers.count()
    }
}

impl Terms {
    fn load(files: &TlsFiles, handed_in: Option<&Path>) -> Result<Self, TlsError> {
        let lists = files.crl.as_deref().map(lists).transpose()?;
        let kept = handed_in.map(pushed::kept).transpose()?.unwrap_or_default();
        Self::with_lists(files, lists, kept)
    }

    fn with_lists(
        files: &TlsFiles,
        lists: Option<Vec<CertificateRevocationListDer<'static>>>,
        handed_in: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&files.certificate)?;
        let authorities = certificates(&files.ca)?;
        let lists = lists.map(|lists| pushed::newest(lists, handed_in, &authorities));
        let list_facts = match (&files.crl, &lists) {
            (Some(path), Some(lists)) => Some(list_facts(path, lists, &authorities, &provider)?),
            _ => None,
        };
        let facts = Facts {
            certificate: first_validity(&files.certificate, &chain)?,
            authorities: authorities
                .iter()
                .map(|one| {
                    der::validity(one).ok_or_else(|| content(&files.ca, "not a certificate"))
                })
                .collect::<Result<_, _>>()?,
            lists: list_facts,
        };
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            roots.add(authority.clone()).map_err(|error| content(&files.ca, error.to_string()))?;
        }
        let judge = Judge::new(roots, lists.as_deref(), &provider);
        let judge = Arc::new(
            judge.map_err(|error| content(files.crl.as_deref().unwrap_or(&files.ca), error))?,
        );
        let key = files.private_key()?;
        let key = PrivateKeyDer::from_pem_slice(&key)
            .map_err(|error| content(&files.key, error.to_string()))?;
        let unfit = |error: rustls::Error| content(&files.certificate, error.to_string());
        let certified = CertifiedKey::from_der(chain, key, &provider).map_err(unfit)?;
        let certified = Arc::new(SingleCertAndKey::from(certified));
        let config = settings(certified, &judge, provider).map_err(unfit)?;
        Ok(Self { config: Arc::new(config), judge, authorities, lists, facts })
    }

    /// The same certificate, key and authorities, with what is newer among these lists; `None` when nothing is.
    fn with_newer(
        &self,
        path: &Path,
        handed_in: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Option<Self>, TlsError> {
        let Some(in_force) = &self.lists else { return Ok(None) };
        let lists = pushed::newest(in_force.clone(), handed_in, &self.authorities);
        if lists == *in_force {
            return Ok(None);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let list_facts = list_facts(path, &lists, &self.authorities, &provider)?;
        let is_new = |list: &&ListFacts| !self.facts.lists.iter().flatten().any(|old| old == *list);
        if list_facts.iter().filter(is_new).any(|list| list.validity.until < unix_now()) {
            return Err(content(path, "a list is expired"));
        }
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            roots.add(authority.clone()).map_err(|error| content(path, error.to_string()))?;
        }
        let judge = Judge::new(roots, Some(&lists), &provider);
        let judge = Arc::new(judge.map_err(|error| content(path, error))?);
        let certified = Arc::clone(&self.config.cert_resolver);
        let config = settings(certified, &judge, provider)
            .map_err(|error| content(path, error.to_string()))?;
        let facts = Facts { lists: Some(list_facts), ..self.facts.clone() };
        let authorities = self.authorities.clone();
        Ok(Some(Self { config: Arc::new(config), judge, authorities, lists: Some(lists), facts }))
    }

    /// Whether these may take the place of those before: our certificate is not expired, every authority that had a
    /// list has one, none is expired, and none is older than it was.
    fn follows(self, before: &Self, files: &TlsFiles) -> Result<Self, TlsError> {
        let now = unix_now();
        if self.facts.certificate.until < now {
            return Err(content(&files.certificate, "the certificate is expired"));
        }
        let (Some(path), Some(lists)) = (&files.crl, &self.facts.lists) else { return Ok(self) };
        if lists.is_empty() {
            return Err(content(path, "there is no list in it"));
        }
        for list in lists {
            let of_same = |other: &&ListFacts| other.issuer == list.issuer;
            let older = before.facts.lists.iter().flatten().filter(of_same);
            // One that ended while it was in force holds up nobody else's.
            if list.validity.until < now && !older.clone().any(|other| other == list) {
                return Err(content(path, "a list is expired"));
            }
            if older.clone().any(|other| other.validity.from > list.validity.from) {
                return Err(content(path, "a list is older than the one in force"));
            }
        }
        Ok(self)
    }
}

/// TLS 1.3 alone, HTTP/2 alone. No session is resumed: a certificate is looked at in every handshake.
fn settings(
    certified: Arc<dyn ResolvesServerCert>,
    judge: &Arc<Judge>,
    provider: Arc<CryptoProvider>,
) -> Result<ServerConfig, rustls::Error> {
    let verifier: Arc<dyn ClientCertVerifier> = Arc::<Judge>::clone(judge);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certified);
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err(content(path, "there is no certificate in it (PEM)")),
        Ok(found) => Ok(found),
        Err(error) => Err(content(path, error.to_string())),
    }
}

pub(crate) fn lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let pem = read(path)?;
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(&pem).collect();
    match found {
        Ok(found) if found.is_empty() => {
            Err(content(path, "there is no revocation list in it (PEM, X509 CRL)"))
        }
        Ok(found) => Ok(found),
        Err(error) => Err(content(path, error.to_string())),
    }
}

/// What the lists say of themselves. Those of our authorities must be signed by them; others may be an intermediate's.
fn list_facts(
    path: &Path,
    lists: &[CertificateRevocationListDer<'static>],
    authorities: &[CertificateDer<'static>],
    provider: &CryptoProvider,
) -> Result<Vec<ListFacts>, TlsError> {
    let mut facts = Vec::new();
    for list in lists {
        let list = der::list(list).ok_or_else(|| {
            content(path, "a list cannot be read, or does not say when the next is due")
        })?;
        if is_signed(&list, authorities, provider) == Some(false) {
            return Err(content(path, "a list is not signed by the authority that it names"));
        }
        facts.push(ListFacts::of(&list));
    }
    Ok(facts)
}

impl ListFacts {
    pub(crate) fn of(list: &der::List<'_>) -> Self {
        let (issuer, number) = (list.issuer.to_vec(), list.number.map(<[u8]>::to_vec));
        Self { issuer, validity: list.validity, number }
    }
}

/// Whether the authority that a list names signed it; `None` when it is none of these.
pub(crate) fn is_signed(
    list: &der::List<'_>,
    authorities: &[CertificateDer<'static>],
    provider: &CryptoProvider,
) -> Option<bool> {
    let parsed = authorities.iter().filter_map(|one| EndEntityCert::try_from(one).ok());
    let mut issuers = parsed.filter(|one| one.subject() == list.issuer).peekable();
    issuers.peek()?;
    let algorithms = provider.signature_verification_algorithms.all;
    Some(issuers.any(|issuer| {
        algorithms.iter().any(|algorithm| {
            issuer.verify_signature(*algorithm, list.signed, list.signature).is_ok()
        })
    }))
}

fn first_validity(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Validity, TlsError> {
    let leaf = chain.first().and_then(|leaf| der::validity(leaf));
    leaf.ok_or_else(|| content(path, "not a certificate"))
}

fn is_about_lists(files: &TlsFiles, handed_in: Option<&Path>, error: &TlsError) -> bool {
    let about = match error {
        TlsError::Read { path, .. } | TlsError::Content { path, .. } => Some(path),
        _ => None,
    };
    about.is_some_and(|about| {
        Some(about) == files.crl.as_ref() || Some(about.as_path()) == handed_in
    })
}

fn stamps(files: &TlsFiles, handed_in: Option<&Path>) -> Vec<Stamp> {
    let all = [Some(&files.certificate), Some(&files.key), Some(&files.ca), files.crl.as_ref()];
    let all = all.map(|path| path.map(PathBuf::as_path)).into_iter().chain([handed_in]);
    let stamp = |path: Option<&Path>| {
        let found = std::fs::metadata(path?).ok()?;
        let changed = (found.mtime(), found.mtime_nsec(), found.ctime(), found.ctime_nsec());
        Some((found.dev(), found.ino(), found.size(), changed.0, changed.1, changed.2, changed.3))
    };
    all.map(stamp).collect()
}

pub(crate) fn content(path: &Path, reason: impl Into<String>) -> TlsError {
    TlsError::Content { path: path.to_owned(), reason: reason.into() }
}

pub(crate) fn unix_now() -> u64 {
    UnixTime::now().as_secs()
}
