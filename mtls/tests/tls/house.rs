//! A service behind the acceptor, which writes down who called, and clients of every kind.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mtls::{Caller, Places, Server, TlsFiles, Turned};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

pub(crate) const SOON: Duration = Duration::from_secs(60);

pub(crate) const PLACES: Places = Places {
    strangers: 64,
    strangers_of_each: 16,
    handshake: Duration::from_secs(10),
    clients: 64,
    clients_of_each: 16,
    silence: Duration::from_secs(60),
};

/// A health service that writes down who called.
#[derive(Clone, Default)]
struct Door(Arc<Mutex<Vec<String>>>);

#[tonic::async_trait]
impl Health for Door {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        // What an officer may do when nobody's revocation is known.
        let freeze = request.get_ref().service == "freeze";
        let caller = match freeze {
            true => Caller::despite_unknown_revocation(&request)?,
            false => Caller::from_request(&request)?,
        };
        self.0.lock().unwrap().push(caller.name().to_owned());
        Ok(Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        Ok(Response::new(tokio_stream::empty()))
    }
}

pub(crate) struct House {
    pub(crate) address: SocketAddr,
    pub(crate) server: Arc<Server>,
    seen: Door,
    task: JoinHandle<()>,
}

impl House {
    pub(crate) async fn open(files: &TlsFiles, places: Places) -> Self {
        Self::open_with(files, None, places).await
    }

    /// With a file of lists that were handed in.
    pub(crate) async fn open_with(
        files: &TlsFiles,
        handed_in: Option<&Path>,
        places: Places,
    ) -> Self {
        crate::said::listen();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Server::load_with(files, handed_in).unwrap();
        let seen = Door::default();
        let router =
            tonic::transport::Server::builder().add_service(HealthServer::new(seen.clone()));
        let incoming = server.incoming(listener, places);
        let task = tokio::spawn(async { router.serve_with_incoming(incoming).await.unwrap() });
        Self { address, server, seen, task }
    }

    pub(crate) fn seen(&self) -> Vec<String> {
        self.seen.0.lock().unwrap().clone()
    }

    pub(crate) fn turned(&self, reason: Turned) -> u64 {
        self.server.counts().of(reason)
    }

    pub(crate) async fn client(
        &self,
        files: &TlsFiles,
    ) -> Result<HealthClient<tonic::transport::Channel>, String> {
        let url = format!("https://{}", self.address);
        let channel = files.endpoint(&url, Some("signer")).unwrap().connect().await;
        channel.map(HealthClient::new).map_err(|error| format!("{error:?}"))
    }

    /// A call on a connection of its own.
    pub(crate) async fn call(&self, files: &TlsFiles, service: &str) -> Result<(), String> {
        check(&mut self.client(files).await?, service).await
    }

    /// A handshake with these settings, and then nothing but waiting for the end. Whatever happens is the server's doing.
    pub(crate) async fn knock(&self, config: ClientConfig) {
        let io = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("signer").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let Ok(mut tls) = connector.connect(name, io).await else { return };
        let _ = tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
        let ended = async { while tls.read(&mut [0; 256]).await.is_ok_and(|read| read > 0) {} };
        tokio::time::timeout(SOON, ended).await.expect_none_left();
    }

    /// Bytes as they are.
    pub(crate) async fn shout(&self, bytes: &[u8]) {
        let mut io = TcpStream::connect(self.address).await.unwrap();
        let _ = io.write_all(bytes).await;
        let ended = async { while io.read(&mut [0; 256]).await.is_ok_and(|read| read > 0) {} };
        tokio::time::timeout(SOON, ended).await.expect_none_left();
    }

    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let begun = Instant::now();
        while !condition(self) {
            assert!(begun.elapsed() < SOON, "waited in vain for {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.task.abort();
    }
}

trait ExpectNoneLeft {
    fn expect_none_left(self);
}

impl ExpectNoneLeft for Result<(), tokio::time::error::Elapsed> {
    fn expect_none_left(self) {
        assert!(self.is_ok(), "the server let it in");
    }
}

pub(crate) async fn check(
    client: &mut HealthClient<tonic::transport::Channel>,
    service: &str,
) -> Result<(), String> {
    let asked = HealthCheckRequest { service: service.to_owned() };
    let answer = tokio::time::timeout(SOON, client.check(asked))
        .await
        .map_err(|_| "no answer".to_owned())?;
    answer.map(drop).map_err(|status| format!("{:?}: {}", status.code(), status.message()))
}

/// Takes any server: here only clients are on trial.
#[derive(Debug)]
pub(crate) struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let ring = rustls::crypto::ring::default_provider();
        ring.signature_verification_algorithms.supported_schemes()
    }
}
