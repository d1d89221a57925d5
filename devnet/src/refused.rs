//! Reads why a call was refused. Never takes another failure for a refusal.

use std::io::Read as _;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use prost::Message as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tonic::{Code, Status};

use crate::Credential;

/// The stable codes and sentences in a refusal; fails when the status carries none.
pub fn reasons(status: &Status) -> Result<Vec<proto::Reason>> {
    let refusal = proto::Refusal::decode(status.details()).context("the details are no refusal")?;
    if refusal.reasons.is_empty() {
        bail!("no reasons came with: {status}");
    }
    Ok(refusal.reasons)
}

/// The sentence of the reason `code`, when the call was denied by policy and that reason is among those given.
pub fn denied_by<T>(outcome: Result<T, Status>, code: &str) -> Result<String> {
    let status = match outcome {
        Ok(_) => bail!("it was NOT refused"),
        Err(status) => status,
    };
    if status.code() != Code::PermissionDenied {
        bail!("it failed for another cause than the policy: {status}");
    }
    let reasons = reasons(&status)?;
    match reasons.iter().find(|reason| reason.code == code) {
        Some(reason) => Ok(reason.text.clone()),
        None => {
            let codes: Vec<&str> = reasons.iter().map(|reason| reason.code.as_str()).collect();
            bail!("it was refused by {}, not by {code}", codes.join(", "))
        }
    }
}

/// The TLS alert with which the server at `url` turned the caller away; fails when it let them in, and when the
/// connection failed for another cause. `None` shows no certificate at all.
pub fn kept_out(url: &str, ca: &Path, shown: Option<&Credential>) -> Result<String> {
    let authority = url.strip_prefix("https://").context("not an https address")?;
    let mut socket = TcpStream::connect(authority).context("nobody listens")?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let name = ServerName::try_from("localhost")?;
    let mut session = ClientConnection::new(Arc::new(client(ca, shown)?), name)?;
    // In TLS 1.3 the server's verdict on the client's certificate comes after the handshake, with the first bytes.
    let said = rustls::Stream::new(&mut session, &mut socket).read(&mut [0; 64]);
    match said {
        Ok(_) => bail!("it was let in"),
        Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(rustls::Error::AlertReceived(alert)) => Ok(format!("{alert:?}")),
            _ => bail!("the connection failed for another cause: {error}"),
        },
    }
}

fn client(ca: &Path, shown: Option<&Credential>) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca)?)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(shown) => {
            let certificate = CertificateDer::from_pem_file(&shown.cert)?;
            builder.with_client_auth_cert(
                vec![certificate],
                PrivateKeyDer::from_pem_file(&shown.key)?,
            )?
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}
