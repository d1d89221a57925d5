//! Real connections: who gets in, under which name, and who does not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use mtls::{Caller, TlsError, TlsFiles};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::Request;
use tonic::transport::Server;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::health_server::{Health, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

struct Authority(Issuer<'static, KeyPair>, String);

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    Authority(Issuer::new(params, key), pem)
}

fn files(
    dir: &Path,
    ca: &Authority,
    trusted: &Authority,
    label: &str,
    names: &[&str],
    server: bool,
) -> TlsFiles {
    let mut params =
        CertificateParams::new(names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    params.extended_key_usages = vec![if server {
        ExtendedKeyUsagePurpose::ServerAuth
    } else {
        ExtendedKeyUsagePurpose::ClientAuth
    }];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &ca.0).unwrap();
    let path = |suffix: &str| dir.join(format!("{label}{suffix}"));
    std::fs::write(path(".pem"), certificate.pem()).unwrap();
    std::fs::write(path("-ca.pem"), &trusted.1).unwrap();
    std::fs::write(path(".key"), key.serialize_pem()).unwrap();
    std::fs::set_permissions(path(".key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    TlsFiles { certificate: path(".pem"), key: path(".key"), ca: path("-ca.pem") }
}

/// A health service that writes down who called.
struct Door(Arc<Mutex<Vec<String>>>);

#[tonic::async_trait]
impl Health for Door {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
        let caller = Caller::from_request(&request)?;
        self.0.lock().unwrap().push(caller.name().to_owned());
        Ok(tonic::Response::new(HealthCheckResponse { status: 1 }))
    }

    type WatchStream = tokio_stream::Empty<Result<HealthCheckResponse, tonic::Status>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, tonic::Status> {
        Ok(tonic::Response::new(tokio_stream::empty()))
    }
}

async fn call(url: &str, client: &TlsFiles) -> Result<(), String> {
    let channel = client
        .endpoint(url, Some("signer"))
        .unwrap()
        .connect()
        .await
        .map_err(|e| format!("{e:?}"))?;
    HealthClient::new(channel)
        .check(HealthCheckRequest::default())
        .await
        .map(|_| ())
        .map_err(|e| format!("{:?}: {}", e.code(), e.message()))
}

#[tokio::test]
async fn only_one_name_from_our_authority_gets_in() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (authority(), authority());
    let server = files(dir.path(), &ours, &ours, "server", &["signer"], true);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let router = Server::builder()
        .tls_config(server.server().unwrap())
        .unwrap()
        .add_service(HealthServer::new(Door(seen.clone())));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));

    let good = files(dir.path(), &ours, &ours, "good", &["watcher-1"], false);
    call(&url, &good).await.unwrap();
    assert_eq!(*seen.lock().unwrap(), ["watcher-1"]);

    let two = files(dir.path(), &ours, &ours, "two", &["watcher-1", "officer"], false);
    assert!(call(&url, &two).await.unwrap_err().contains("exactly one DNS name"));

    // A stranger's certificate, a server's certificate used as a client's, and a client that trusts
    // another authority all fail before any handler runs.
    let foreign = files(dir.path(), &theirs, &ours, "foreign", &["watcher-1"], false);
    call(&url, &foreign).await.unwrap_err();
    let wrong_use = files(dir.path(), &ours, &ours, "wrong-use", &["watcher-1"], true);
    call(&url, &wrong_use).await.unwrap_err();
    let misled = files(dir.path(), &ours, &theirs, "misled", &["watcher-1"], false);
    call(&url, &misled).await.unwrap_err();
    assert_eq!(seen.lock().unwrap().len(), 1);

    let bare = tonic::transport::ClientTlsConfig::new()
        .ca_certificate(tonic::transport::Certificate::from_pem(&ours.1))
        .domain_name("signer");
    let channel = tonic::transport::Endpoint::from_shared(url)
        .unwrap()
        .tls_config(bare)
        .unwrap()
        .connect_lazy();
    HealthClient::new(channel).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[test]
fn a_key_open_to_everybody_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority();
    let files = files(dir.path(), &ca, &ca, "open", &["a"], false);
    std::fs::set_permissions(&files.key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(files.server(), Err(TlsError::OpenKey { .. })));
    assert!(matches!(files.endpoint("http://x:1", None), Err(TlsError::Address { .. })));
}
