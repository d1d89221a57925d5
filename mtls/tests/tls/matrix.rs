//! Every way not to be a client: each is turned away for its own reason, with a line of its own, and nothing is served.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use mtls::Turned;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, KeyPair,
    PKCS_RSA_SHA256, PublicKeyData, SanType, SerialNumber, date_time_ymd,
};
use rsa::pkcs1::EncodeRsaPublicKey as _;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, SignatureAlgorithm, SignatureScheme, SupportedProtocolVersion};

use crate::house::{Anybody, House, PLACES};
use crate::pki::{Authority, Shown, authority, client, put};
use crate::said;

const REVOKED: u64 = 666;

/// One way to come, and why it fails.
struct Cell {
    name: &'static str,
    config: ClientConfig,
    reason: Turned,
}

fn cell(name: &'static str, reason: Turned, shown: &Shown) -> Cell {
    Cell { name, config: showing(shown), reason }
}

fn showing(shown: &Shown) -> ClientConfig {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(shown.key.clone()));
    let key = rustls::crypto::ring::sign::any_supported_type(&key).unwrap();
    signing(&shown.chain, key)
}

/// Shows the chain whatever the server asks for, and signs with any key.
fn signing(chain: &[Vec<u8>], key: Arc<dyn SigningKey>) -> ClientConfig {
    let chain = chain.iter().map(|one| CertificateDer::from(one.clone())).collect();
    let resolver = Resolver(Arc::new(CertifiedKey::new(chain, key)));
    with_alpn(builder(&TLS13).with_client_cert_resolver(Arc::new(resolver)))
}

fn builder(
    version: &'static SupportedProtocolVersion,
) -> rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(ring);
    let builder = builder.with_protocol_versions(&[version]).unwrap();
    builder.dangerous().with_custom_certificate_verifier(Arc::new(Anybody))
}

fn with_alpn(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

#[derive(Debug)]
struct Resolver(Arc<CertifiedKey>);

impl ResolvesClientCert for Resolver {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// An RSA key of any length; the TLS library refuses to sign with short ones.
#[derive(Clone, Debug)]
struct RsaKey {
    key: rsa::RsaPrivateKey,
    public: Vec<u8>,
}

impl RsaKey {
    fn new(bits: usize) -> Self {
        let key = rsa::RsaPrivateKey::new(&mut rand::thread_rng(), bits).unwrap();
        let public = key.to_public_key().to_pkcs1_der().unwrap().as_bytes().to_vec();
        Self { key, public }
    }
}

impl PublicKeyData for RsaKey {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &PKCS_RSA_SHA256
    }
}

impl SigningKey for RsaKey {
    fn choose_scheme(&self, _: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        Some(Box::new(self.clone()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
}

impl Signer for RsaKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let key = rsa::pss::SigningKey::<sha2::Sha256>::new(self.key.clone());
        Ok(key.sign_with_rng(&mut rand::thread_rng(), message).to_vec())
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::RSA_PSS_SHA256
    }
}

fn named(names: Vec<SanType>) -> CertificateParams {
    let mut params = client(&[]);
    params.subject_alt_names = names;
    params
}

fn changed(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = client(&["watcher-1"]);
    change(&mut params);
    params
}

fn about_names(ours: &Authority) -> Vec<Cell> {
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let address = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let uri = SanType::URI("spiffe://shop/watcher-1".try_into().unwrap());
    let mail = SanType::Rfc822Name("watcher-1@shop".try_into().unwrap());
    let long = "a".repeat(65);
    let tricks: Vec<(&'static str, Vec<SanType>)> = vec![
        ("wildcard", vec![dns("*.shop")]),
        ("bare wildcard", vec![dns("*")]),
        ("common name only", vec![]),
        ("two names", vec![dns("watcher-1"), dns("officer-1")]),
        ("one name twice", vec![dns("watcher-1"), dns("watcher-1")]),
        ("name and address", vec![dns("watcher-1"), address.clone()]),
        ("name and URI", vec![dns("watcher-1"), uri.clone()]),
        ("mail box and name", vec![mail, dns("watcher-1")]),
        ("address only", vec![address]),
        ("URI only", vec![uri]),
        ("capitals", vec![dns("Watcher-1")]),
        ("trailing dot", vec![dns("watcher-1.")]),
        ("leading dot", vec![dns(".watcher-1")]),
        ("empty label", vec![dns("watcher..1")]),
        ("underscore", vec![dns("watcher_1")]),
        ("a name that ends early", vec![dns("watcher-1\0.evil")]),
        ("empty name", vec![dns("")]),
        ("long name", vec![dns(&long)]),
    ];
    let cells = tricks.into_iter().map(|(name, names)| {
        let mut params = named(names);
        params.distinguished_name.push(DnType::CommonName, "watcher-1");
        cell(name, Turned::BadName, &ours.issue(&params))
    });
    cells.collect()
}

fn about_chains(ours: &Authority) -> Vec<Cell> {
    let good = client(&["watcher-1"]);
    let unconstrained = BasicConstraints::Unconstrained;
    let mut long = ours.below("between 1", unconstrained);
    for number in 2..=4 {
        long = long.below(&format!("between {number}"), unconstrained);
    }
    let narrow = ours.below("no others below", BasicConstraints::Constrained(0));
    let below_narrow = narrow.below("one below all the same", unconstrained);
    let mut missing = ours.below("not shown", unconstrained);
    missing.chain.clear();
    let mut revoked = crate::pki::authority_params("revoked", unconstrained);
    revoked.serial_number = Some(SerialNumber::from(REVOKED));
    let revoked = ours.below_with(revoked);
    // A client's certificate that plays authority.
    let mut leaf = client(&["watcher-1"]);
    leaf.distinguished_name.push(DnType::CommonName, "a client");
    let leaf = ours.below_with(leaf);
    let self_signed = KeyPair::generate().unwrap();
    let chain = vec![good.self_signed(&self_signed).unwrap().der().to_vec()];
    let self_signed = Shown { chain, key: self_signed.serialize_der() };
    // The same name and key identifier, another key.
    let impostor = authority("cofferdam test CA");
    let mut wrong_key = ours.issue(&good);
    wrong_key.key = KeyPair::generate().unwrap().serialize_der();
    vec![
        cell("another authority", Turned::UnknownAuthority, &authority("other").issue(&good)),
        cell("another of the same name", Turned::BadCertificate, &impostor.issue(&good)),
        cell("self-signed", Turned::UnknownAuthority, &self_signed),
        cell("a chain too long", Turned::LongChain, &long.issue(&good)),
        cell("an authority too deep", Turned::BadCertificate, &below_narrow.issue(&good)),
        cell("an intermediate not shown", Turned::UnknownAuthority, &missing.issue(&good)),
        cell("an intermediate revoked", Turned::Revoked, &revoked.issue(&good)),
        cell("certified by a client", Turned::BadCertificate, &leaf.issue(&good)),
        cell("another's certificate", Turned::BadCertificate, &wrong_key),
    ]
}

fn about_certificates(ours: &Authority) -> Vec<Cell> {
    let expired = changed(|p| p.not_after = date_time_ymd(2024, 1, 1));
    let early = changed(|p| p.not_before = date_time_ymd(2999, 1, 1));
    let revoked = changed(|p| p.serial_number = Some(SerialNumber::from(REVOKED)));
    let server = changed(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let mail = changed(|p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::EmailProtection]);
    let critical = changed(|p| {
        let mut unknown =
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99999, 1], vec![5, 0]);
        unknown.set_criticality(true);
        p.custom_extensions = vec![unknown];
    });
    let short = RsaKey::new(1024);
    let weak = ours.certify(&client(&["watcher-1"]), &short);
    vec![
        cell("expired", Turned::Expired, &ours.issue(&expired)),
        cell("not valid yet", Turned::NotYetValid, &ours.issue(&early)),
        cell("revoked", Turned::Revoked, &ours.issue(&revoked)),
        cell("a server's certificate", Turned::WrongPurpose, &ours.issue(&server)),
        cell("a mail certificate", Turned::WrongPurpose, &ours.issue(&mail)),
        cell("an unknown critical extension", Turned::BadCertificate, &ours.issue(&critical)),
        Cell {
            name: "RSA of 1024 bits",
            config: signing(&weak, Arc::new(short)),
            reason: Turned::BadCertificate,
        },
    ]
}

fn about_protocols(good: &Shown) -> Vec<Cell> {
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(good.key.clone()));
    let chain = good.chain.iter().map(|one| CertificateDer::from(one.clone())).collect();
    let old = builder(&TLS12).with_client_auth_cert(chain, key).unwrap();
    let mut older_http = showing(good);
    older_http.alpn_protocols = vec![b"http/1.1".to_vec()];
    let mut no_protocol = showing(good);
    no_protocol.alpn_protocols.clear();
    let nobody = with_alpn(builder(&TLS13).with_no_client_auth());
    vec![
        Cell { name: "no certificate", config: nobody, reason: Turned::NoCertificate },
        Cell { name: "TLS 1.2", config: with_alpn(old), reason: Turned::Protocol },
        Cell { name: "HTTP/1.1", config: older_http, reason: Turned::Protocol },
        Cell { name: "no protocol named", config: no_protocol, reason: Turned::Protocol },
    ]
}

#[tokio::test]
async fn each_is_turned_away_for_its_own_reason_with_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("cofferdam test CA");
    let mut files = ours.files(dir.path(), "signer", true, &ours.pem);
    let crl = dir.path().join("crl.pem");
    put(&crl, &ours.list(&[REVOKED], -1, 7));
    files.crl = Some(crl);
    let house = House::open(&files, PLACES).await;
    let good = ours.issue(&client(&["watcher-1"]));

    let mut cells = about_names(&ours);
    cells.extend(about_chains(&ours));
    cells.extend(about_certificates(&ours));
    cells.extend(about_protocols(&good));
    assert!(cells.len() >= 38, "{}", cells.len());
    let count = cells.len();
    for Cell { name, config, reason } in cells {
        let before = house.turned(reason);
        said::take();
        house.knock(config).await;
        house.until(name, |house| house.turned(reason) > before).await;
        assert_eq!(house.turned(reason), before + 1, "{name}");
        let said = said::take();
        let about = said.lines().filter(|line| line.contains("connection turned away"));
        let about: Vec<&str> = about.collect();
        assert!(about.len() == 1 && about[0].contains(reason.code()), "{name}: {said}");
    }
    // No TLS at all.
    for bytes in [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], b"GET / HTTP/1.1\r\n\r\n", &[0; 600]] {
        let before = house.turned(Turned::Protocol);
        house.shout(bytes).await;
        house.until("bytes", |house| house.turned(Turned::Protocol) > before).await;
    }
    let before = house.turned(Turned::HungUp);
    drop(tokio::net::TcpStream::connect(house.address).await.unwrap());
    house.until("hanging up", |house| house.turned(Turned::HungUp) > before).await;
    assert_eq!(house.seen(), Vec::<String>::new(), "something was served");
    assert_eq!(house.server.counts().taken(), 0, "one of {count} got in");

    // What makes the cells cells: the same without the fault gets in.
    let watcher = ours.files(dir.path(), "watcher-1", false, &ours.pem);
    house.call(&watcher, "").await.unwrap();
    let below = ours.below("between", BasicConstraints::Constrained(0));
    assert_eq!(house.seen(), ["watcher-1"]);
    drop(below);
}

#[tokio::test]
async fn a_strong_rsa_key_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let house = House::open(&ours.files(dir.path(), "signer", true, &ours.pem), PLACES).await;
    let strong = RsaKey::new(2048);
    let chain = ours.certify(&client(&["watcher-1"]), &strong);
    let config = signing(&chain, Arc::new(strong));
    let knocking = house.knock(config);
    tokio::pin!(knocking);
    let in_time =
        async { house.until("it to be taken", |house| house.server.counts().taken() == 1).await };
    tokio::select! { () = &mut knocking => {}, () = in_time => {} }
    assert_eq!(house.server.counts().taken(), 1);
}

/// Nothing is resumed, so there is nothing to send early, and every handshake shows its certificate.
#[tokio::test]
async fn no_session_is_resumed_and_nothing_comes_early() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let house = House::open(&ours.files(dir.path(), "signer", true, &ours.pem), PLACES).await;
    let mut config = showing(&ours.issue(&client(&["watcher-1"])));
    config.enable_early_data = true;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config)).early_data(true);
    for _ in 0..3 {
        let io = tokio::net::TcpStream::connect(house.address).await.unwrap();
        let mut tls = connector.connect("signer".try_into().unwrap(), io).await.unwrap();
        tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        // The server's settings: it is in, and would have sent tickets by now.
        assert!(tls.read(&mut [0; 64]).await.unwrap() > 0);
        let session = tls.get_ref().1;
        assert_eq!(session.handshake_kind(), Some(rustls::HandshakeKind::Full));
        assert_eq!(session.tls13_tickets_received(), 0);
        assert!(!session.is_early_data_accepted());
        // A second hello in the same connection ends it.
        let (mut io, _) = tls.into_inner();
        io.write_all(&[0x16, 3, 1, 0, 4, 1, 0, 0, 0]).await.unwrap();
        let ended = async { while io.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {} };
        tokio::time::timeout(crate::house::SOON, ended).await.unwrap();
    }
}
