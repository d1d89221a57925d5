//! The whole system on one machine, from the built programs: token, ceremony, signed policy, node, signer, watcher.
//! Never shares anything with another stack: own folder, own ports, own token, own chain.

mod calls;
mod host;
mod keys;
mod people;
mod service;
mod stage;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use proto::signer_client::SignerClient;
use proto::watcher_client::WatcherClient;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

pub use host::{Host, Reply, Wallet};
pub use keys::{Account, Children, Descriptors, Script, Tier, cold_descriptor, with_checksum};
use keys::{fill, text};
pub use people::{Wish, address_json};
pub use service::Service;
pub use stage::{Stage, TokenFacts};

use crate::process::Process;
use crate::{Credential, Node, ports, wait};

/// Everybody with a certificate of ours.
pub const CLIENTS: [&str; 6] = ["watcher-1", "shop", "payout-desk", "operator", "officer", WITNESS];
/// The witness, where the policy requires one.
const WITNESS: &str = "witness-ada";
/// How long a service may take until it is ready; the token and the proofs of all children are part of it.
pub const READY_DEADLINE: Duration = Duration::from_secs(120);

/// How large a system to make.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Children of each wallet.
    pub children: Children,
    /// Confirmations after which a deposit counts.
    pub depth: u32,
    /// Tier of the wallets that the token signs for.
    pub tier: Tier,
    /// What their addresses are.
    pub script: Script,
    /// Whether the policy requires a witness, which runs beside.
    pub witness: bool,
}

impl Default for Options {
    fn default() -> Self {
        let children = Children { external: 100, change: 50 };
        Self { children, depth: 3, tier: Tier::TokenHd, script: Script::Wpkh, witness: false }
    }
}

/// A running system. Dropping it kills every process; a temporary folder goes too.
#[derive(Debug)]
pub struct Stack {
    /// The bitcoin node.
    pub node: Node,
    /// The signing service.
    pub signer: Service,
    /// The watch-only service.
    pub watcher: Service,
    stage: Stage,
    witness: Option<Process>,
    signer_port: u16,
    watcher_port: u16,
    _temporary: Option<TempDir>,
}

impl Stack {
    /// Makes and starts a system in a temporary folder and waits until it is ready.
    pub async fn start(options: Options) -> Result<Self> {
        let mut stack = Self::start_without_watcher(options).await?;
        stack.start_watcher().await?;
        Ok(stack)
    }

    /// The same, but the watcher does not run yet.
    pub async fn start_without_watcher(options: Options) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("cofferdam-stack-").tempdir()?;
        let mut stage = Stage::prepare(temporary.path(), options.tier, options.script)?;
        let node = Node::start_in(&temporary.path().join("node")).await?;
        let signer_port = ports::free()?;
        stage.make_token(signer_port)?;
        stage.hold_ceremony(options.children)?;
        if options.witness {
            stage.appoint_witness()?;
        }
        stage.sign_policy()?;
        stage.import()?;
        let mut stack = Self::assemble(stage, node, signer_port, options.depth)?;
        stack._temporary = Some(temporary);
        if options.witness {
            stack.witness = Some(stack.stage.start_witness(&stack.signer_url())?);
        }
        stack.start_signer().await?;
        Ok(stack)
    }

    /// Puts a stage that is set and a node together; the services do not run yet.
    pub fn assemble(stage: Stage, node: Node, signer_port: u16, depth: u32) -> Result<Self> {
        let watcher_port = ports::free()?;
        let Descriptors { deposits, hot, cold } = &stage.descriptors;
        let config = fill(
            include_str!("stack/watcher.toml"),
            &[
                ("port", &watcher_port.to_string()),
                ("signer", &signer_port.to_string()),
                ("depth", &depth.to_string()),
                ("dir", text(&stage.dir)?),
                ("node", &node.rpc_url()),
                ("cookie", text(&node.cookie_file())?),
                ("deposits", deposits),
                ("hot", hot),
                ("cold", cold),
                ("shop", &stage.shop),
            ],
        )?;
        std::fs::write(stage.watcher_config(), config)?;
        let service = |name: &'static str, config: PathBuf| {
            let log = stage.dir.join(name).join(format!("{name}.log"));
            Service::new(name, stage.programs.clone(), config, log)
        };
        let signer = service("signer", stage.signer_config());
        let watcher = service("watcher", stage.watcher_config());
        let (witness, _temporary) = (None, None);
        Ok(Self { node, signer, watcher, stage, witness, signer_port, watcher_port, _temporary })
    }

    /// The wallets, as the policy names them.
    pub fn descriptors(&self) -> &Descriptors {
        &self.stage.descriptors
    }

    /// What the signer says of its token's keys.
    pub fn token(&self) -> &TokenFacts {
        &self.stage.token
    }

    /// The folder that holds all.
    pub fn dir(&self) -> &Path {
        &self.stage.dir
    }

    /// The certificate of one of [`CLIENTS`], or the `stranger`'s.
    pub fn credential(&self, name: &str) -> Result<&Credential> {
        self.stage.credentials.get(name).with_context(|| format!("no certificate for {name}"))
    }

    /// Runs a command of the signer's, which must be down.
    pub fn run_signer(&self, arguments: &[&str]) -> Result<String> {
        self.stage.signer(arguments)
    }

    /// The bundle that the first ceremony made for a wallet.
    pub fn bundle(&self, wallet: &str) -> PathBuf {
        keys::bundle(&self.stage.dir, wallet)
    }

    /// One of the three shares of a wallet's seed, any two of which give it back.
    pub fn share(&self, wallet: &str, number: u8) -> PathBuf {
        keys::share(&self.stage.dir, wallet, number)
    }

    /// Takes the token and all that the signer knows away for good, and gives it a new token and an empty log.
    pub fn lose_token(&mut self) -> Result<()> {
        self.stage.lose_token()
    }

    /// Runs one of the programs and returns what it printed.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        self.stage.programs.run(program, arguments)
    }

    /// Where the signer listens.
    pub fn signer_url(&self) -> String {
        format!("https://localhost:{}", self.signer_port)
    }

    /// Where the watcher listens.
    pub fn watcher_url(&self) -> String {
        format!("https://localhost:{}", self.watcher_port)
    }

    /// A client of the signer with the certificate of `name`. It connects at the first call, and again after a loss.
    pub fn signer_as(&self, name: &str) -> Result<SignerClient<Channel>> {
        Ok(SignerClient::new(channel(&self.signer_url(), self.credential(name)?)?))
    }

    /// The same of a signer that listens elsewhere.
    pub fn signer_at(&self, url: &str, name: &str) -> Result<SignerClient<Channel>> {
        Ok(SignerClient::new(channel(url, self.credential(name)?)?))
    }

    /// A client of the watcher with the certificate of `name`. It connects at the first call, and again after a loss.
    pub fn watcher_as(&self, name: &str) -> Result<WatcherClient<Channel>> {
        Ok(WatcherClient::new(channel(&self.watcher_url(), self.credential(name)?)?))
    }

    /// Starts the signer and waits until its token works and all children are proven.
    pub async fn start_signer(&mut self) -> Result<()> {
        let client = self.signer_as("watcher-1")?;
        start_signer(&mut self.signer, client).await
    }

    /// Starts the watcher and waits until it has caught up with the node and reaches the signer.
    pub async fn start_watcher(&mut self) -> Result<()> {
        self.watcher.start()?;
        let client = self.watcher_as("operator")?;
        let service = &mut self.watcher;
        let ready = wait::until("the watcher to be ready", READY_DEADLINE, || {
            let mut client = client.clone();
            let running = service.check_running();
            async move {
                if let Err(ended) = running {
                    return Ok(Some(Err(ended)));
                }
                let status = client.status(proto::WatcherStatusRequest {}).await?.into_inner();
                let height = status.tip.map(|tip| tip.height);
                let caught_up = status.node_reachable && height == Some(status.node_height);
                Ok((caught_up && status.signer_reachable).then_some(Ok(())))
            }
        })
        .await;
        with_log(ready.flatten(), service)
    }

    /// Kills the signer, starts it again and waits until it is ready.
    pub async fn crash_signer(&mut self) -> Result<()> {
        self.signer.kill()?;
        self.start_signer().await
    }

    /// Kills the watcher, starts it again and waits until it is ready.
    pub async fn crash_watcher(&mut self) -> Result<()> {
        self.watcher.kill()?;
        self.start_watcher().await
    }

    /// Lets node and services outlive this process; returns their names and process ids.
    pub fn leave_running(self) -> Result<Vec<(&'static str, u32)>> {
        ensure!(self._temporary.is_none(), "a temporary system cannot stay");
        Ok(vec![
            ("watcher", self.watcher.leave_running()?),
            ("signer", self.signer.leave_running()?),
            ("bitcoind", self.node.leave_running()?),
        ])
    }
}

/// Starts a signer and waits until its token works and all children are proven.
async fn start_signer(service: &mut Service, client: SignerClient<Channel>) -> Result<()> {
    service.start()?;
    let ready = wait::until("the signer to be ready", READY_DEADLINE, || {
        let mut client = client.clone();
        let running = service.check_running();
        async move {
            if let Err(ended) = running {
                return Ok(Some(Err(ended))); // no use to wait any longer
            }
            let status = client.status(proto::StatusRequest {}).await?.into_inner();
            ensure!(status.token_ready, "token: {}", status.token_problem);
            let proven = status.wallets.iter().all(|wallet| {
                wallet.external_proven == wallet.external_records
                    && wallet.change_proven == wallet.change_records
            });
            Ok(proven.then_some(Ok(())))
        }
    })
    .await;
    with_log(ready.flatten(), service)
}

/// Adds the end of a service's log to what went wrong while it started.
fn with_log(result: Result<()>, service: &mut Service) -> Result<()> {
    result.or_else(|error| {
        service.check_running()?;
        Err(error.context(format!("{} ends:\n{}", service.log().display(), service.log_tail())))
    })
}

/// A connection that is made at the first call, and again after a loss.
fn channel(url: &str, credential: &Credential) -> Result<Channel> {
    Ok(Endpoint::from_shared(url.to_owned())?
        .connect_timeout(Duration::from_secs(5))
        .tls_config(credential.client_tls()?)?
        .connect_lazy())
}
