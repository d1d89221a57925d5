//! One signer's host alone: its own token, certificates, officer, policy and log, with as many wallets as one likes.
//! It has no watcher and no node: what it is to sign comes from the test.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use bitcoin::{Transaction, consensus};
use proto::SignRequest;
use proto::signer_client::SignerClient;
use tempfile::TempDir;
use tonic::Status;
use tonic::codegen::tokio_stream;
use tonic::transport::Channel;

use super::keys::{self, Account, Script, Tier, fill};
use super::{Service, Stage, TokenFacts, channel, people, start_signer};
use crate::ports;

/// A signer on a host of its own. Dropping it kills the signer and removes the folder.
#[derive(Debug)]
pub struct Host {
    /// The signing service; not running at first.
    pub signer: Service,
    stage: Stage,
    port: u16,
    temporary: TempDir,
}

/// A wallet in a host's policy.
#[derive(Debug, Clone)]
pub struct Wallet {
    /// Its name; `cold` is where sweeps go.
    pub name: String,
    /// Its tier's name in the policy.
    pub tier: &'static str,
    /// Its descriptor.
    pub descriptor: String,
}

/// What a signer answers.
#[derive(Debug, Clone)]
pub enum Reply {
    /// Every signature is there.
    Complete(Transaction),
    /// Others have to sign as well: the PSBT for them, in the version that was sent.
    Shared(Vec<u8>),
}

impl Host {
    /// Makes folders, certificates, the officer's key, and a token with its keys.
    pub fn prepare() -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("cofferdam-host-").tempdir()?;
        let mut stage = Stage::prepare(temporary.path(), Tier::TokenHd, Script::Wpkh)?;
        let port = ports::free()?;
        stage.make_token(port)?;
        let log = stage.dir.join("signer").join("signer.log");
        let signer = Service::new("signer", stage.programs.clone(), stage.signer_config(), log);
        Ok(Self { signer, stage, port, temporary })
    }

    /// Holds a ceremony for this host's token; returns a descriptor, or a cosigner's key expression.
    pub fn make_account(&self, account: &Account<'_>) -> Result<String> {
        self.stage.make_account(account)
    }

    /// Writes a policy with these wallets, a lane `sweep` to the wallet `cold` and a lane `withdraw` for orders signed
    /// by `shop` (its Ed25519 key in hex), both with a cap on the feerate, and signs it.
    pub fn sign_policy(&self, wallets: &[Wallet], shop: &str, max_feerate: &str) -> Result<()> {
        let entry = |wallet: &Wallet| {
            let Wallet { name, tier, descriptor } = wallet;
            format!(
                "[[wallet]]\nname = \"{name}\"\ntier = \"{tier}\"\ndescriptor = \"{descriptor}\"\nindex_window = 1000\n\n"
            )
        };
        let spendable: Vec<String> = wallets
            .iter()
            .filter(|wallet| wallet.tier != "cold")
            .map(|wallet| format!("\"{}\"", wallet.name))
            .collect();
        let values = [
            ("wallets", wallets.iter().map(entry).collect::<String>()),
            ("names", spendable.join(", ")),
            ("shop", shop.to_owned()),
            ("feerate", max_feerate.to_owned()),
        ];
        let values = values.each_ref().map(|(name, value)| (*name, value.as_str()));
        let policy = self.dir().join("signer").join("policy.toml");
        fs::write(&policy, fill(include_str!("host.toml"), &values)?)?;
        people::sign_policy(&self.stage.programs, self.dir(), "alice", &policy)
    }

    /// Has the signer, which must be down, take a bundle in as this wallet of the policy, and returns what it says.
    pub fn import(&self, wallet: &str, bundle: &Path) -> Result<String> {
        self.stage.signer(&["import", "--wallet", wallet, keys::text(bundle)?])
    }

    /// Where the bundle of a ceremony lies.
    pub fn bundle(&self, wallet: &str) -> PathBuf {
        keys::bundle(self.dir(), wallet)
    }

    /// Starts the signer and waits until all children are proven.
    pub async fn start(&mut self) -> Result<()> {
        let client = self.client()?;
        start_signer(&mut self.signer, client).await
    }

    /// A client that may sign.
    pub fn client(&self) -> Result<SignerClient<Channel>> {
        let credential = self.stage.credentials.get("watcher-1").context("no certificate")?;
        Ok(SignerClient::new(channel(&format!("https://localhost:{}", self.port), credential)?))
    }

    /// Asks for signatures.
    ///
    /// # Errors
    /// The signer's refusal, whose message begins with the reason's code.
    pub async fn sign(
        &self,
        client: &mut SignerClient<Channel>,
        request: Vec<SignRequest>,
    ) -> Result<Reply, Status> {
        let reply = client.sign(tokio_stream::iter(request)).await?.into_inner();
        if reply.transaction.is_empty() {
            return Ok(Reply::Shared(reply.psbt));
        }
        let broken = |error: consensus::encode::Error| Status::internal(error.to_string());
        consensus::deserialize(&reply.transaction).map(Reply::Complete).map_err(broken)
    }

    /// Where one of the three shares of a wallet's seed lies, any two of which give it back.
    pub fn share(&self, wallet: &str, number: u8) -> PathBuf {
        keys::share(self.dir(), wallet, number)
    }

    /// Takes the token, its bundles and all that the signer knows away for good.
    pub fn lose(&self) -> Result<()> {
        for folder in ["token", "signer"] {
            fs::remove_dir_all(self.dir().join(folder))?;
        }
        for file in fs::read_dir(self.dir().join("ceremony"))? {
            let path = file?.path();
            if path.extension().is_some_and(|ending| ending == "bundle") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Runs one of the programs and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.stage.programs.run(program, arguments)
    }

    /// What the signer says of its token's keys.
    pub fn token(&self) -> &TokenFacts {
        &self.stage.token
    }

    /// The folder that holds all.
    pub fn dir(&self) -> &Path {
        self.temporary.path()
    }

    /// The officer's program on this host's log; the signer must be down.
    pub fn verify_log(&self) -> Result<String> {
        people::verify_log(&self.stage.programs, self.dir(), &self.stage.token.checkpoint)
    }
}

impl Reply {
    /// The transaction, when nobody else has to sign.
    pub fn complete(self) -> Result<Transaction> {
        match self {
            Self::Complete(transaction) => Ok(transaction),
            Self::Shared(_) => anyhow::bail!("others have to sign as well"),
        }
    }

    /// The PSBT for the others.
    pub fn shared(self) -> Result<Vec<u8>> {
        match self {
            Self::Shared(psbt) => Ok(psbt),
            Self::Complete(_) => anyhow::bail!("nobody else has to sign"),
        }
    }
}
