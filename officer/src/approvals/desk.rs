//! An officer's settings, read strictly, and the line to the signer. What decides is kept here and not asked for: which
//! log, which policy, whose key.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use mtls::TlsFiles;
use policy::Rules;
use prost::Message as _;
use proto::officers_client::OfficersClient;
use serde::Deserialize;
use tonic::Status;
use tonic::transport::Channel;

use crate::key::Key;
use crate::policies;
use crate::token;

/// Longer than a signer takes to look into its log; shorter than a person waits.
const PATIENCE: Duration = Duration::from_secs(30);
/// One waiting request with its parents.
const REPLY_BYTES_MAX: usize = 4 << 20;

/// The settings file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desk {
    /// `https://host:port` of the signer.
    pub signer: String,
    /// The name in its certificate, when it is not the host's.
    pub server_name: Option<String>,
    /// Certificate, key and authority for the connection.
    pub tls: Option<TlsFiles>,
    /// Origin of the signer's log, as it was told to you: statements are for this one alone.
    pub log: String,
    /// The policy as you signed it, or know it.
    pub policy: PathBuf,
    /// Your key file, or the `pkcs11:` URI of your key in a token.
    pub key: PathBuf,
    /// Your name in the policy; without it, the name in the key file.
    pub name: Option<String>,
    /// A file with the passphrase of the key file, for scripts.
    pub passphrase_file: Option<PathBuf>,
}

impl Desk {
    /// Reads the file; paths in it are from its own folder.
    ///
    /// # Errors
    /// When it is not there, or says what is not known.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
        // Never the line itself: somebody may have put a passphrase or a PIN there.
        let mut desk: Self = toml::from_str(&text).map_err(|error| {
            let said = asset::setting_error(&text, error.span(), error.message());
            anyhow!("{shown}: {said}")
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        desk.policy = folder.join(&desk.policy);
        if !token::is_place(&desk.key) {
            desk.key = folder.join(&desk.key);
        }
        desk.passphrase_file = desk.passphrase_file.map(|file| folder.join(file));
        if let Some(tls) = &mut desk.tls {
            for file in [&mut tls.certificate, &mut tls.key, &mut tls.ca] {
                *file = folder.join(&*file);
            }
        }
        Ok(desk)
    }

    /// The policy, read as the signer reads it.
    ///
    /// # Errors
    /// When the signer would refuse it.
    pub fn rules(&self) -> Result<Rules> {
        policies::view(&policies::read(&self.policy)?, None)
    }

    /// The officer's key.
    ///
    /// # Errors
    /// When it cannot be read, or opened.
    pub fn key(&self) -> Result<Key> {
        Key::open(&self.key, self.passphrase_file.as_deref())
    }

    /// A line to the signer.
    ///
    /// # Errors
    /// When nobody answers there who can show the right certificate.
    pub async fn connect(&self) -> Result<OfficersClient<Channel>> {
        let channel = self.channel().await?;
        Ok(OfficersClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX))
    }

    /// The line itself, for whatever this client may ask.
    ///
    /// # Errors
    /// As above.
    pub async fn channel(&self) -> Result<Channel> {
        let Some(tls) = &self.tls else {
            bail!(
                "the settings name no [tls] files: without a connection, write statements with --offline"
            );
        };
        let endpoint = tls.endpoint(&self.signer, self.server_name.as_deref())?.timeout(PATIENCE);
        endpoint.connect().await.with_context(|| {
            format!(
                "cannot reach the signer at {}: if certificates or the network are gone, write the statement with --offline FILE and hand it to the signer's host",
                self.signer
            )
        })
    }

    /// What the signer says it is must be what it was told to be.
    ///
    /// # Errors
    /// When it is another one.
    pub fn is_its_log(&self, log: &str) -> Result<()> {
        ensure!(
            log == self.log,
            "this signer's log is {log}, and the settings say {}: it is another signer, or it was begun anew",
            self.log
        );
        Ok(())
    }
}

/// What the signer answered when it said no.
pub(crate) fn refusal(status: &Status) -> anyhow::Error {
    let said = proto::Refusal::decode(status.details()).unwrap_or_default();
    let reasons: Vec<String> = said
        .reasons
        .iter()
        .map(|reason| crate::text::words(&format!("{}: {}", reason.code, reason.text)))
        .collect();
    if reasons.is_empty() {
        return anyhow::anyhow!(
            "the signer could not answer: {}",
            crate::text::words(status.message())
        );
    }
    anyhow::anyhow!("the signer said no: {}", reasons.join("; "))
}
