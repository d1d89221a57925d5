//! What an operator asks a running watcher by hand: `watcher evacuate`. It never reads the watcher's database or configuration, and
//! asks for nothing that the watcher's `[[clients]]` do not grant to the operator's certificate.

pub mod show;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use mtls::TlsFiles;
use proto::watcher_client::WatcherClient;
use proto::{EvacuateMode, EvacuateRequest, Evacuation, Sweep};
use serde::Deserialize;
use tonic::transport::Channel;

/// Planning reads the node's estimate, the signer's status and the wallet's coins, sixteen times.
const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between looks.
const PAUSE: Duration = Duration::from_secs(1);

/// `watcher evacuate`.
#[derive(Debug, Args)]
pub struct Evacuate {
    /// Whose coins: a wallet of the watcher's that is not cold.
    #[arg(long)]
    pub wallet: String,
    /// By which lane: of `[[evacuate]]` in the policy, and `[[spend.evacuations]]` in the watcher's configuration.
    #[arg(long)]
    pub lane: String,
    /// Plan everything, keep nothing, and ask the signer for no more than its status: what would move, in how many transactions,
    /// for which fee, and what would stay and why.
    #[arg(long)]
    pub rehearse: bool,
    /// Feerate, for example "50 sat/vB"; without it, the node's estimate. The lane's cap holds for both.
    #[arg(long, default_value = "")]
    pub feerate: String,
    /// Go on until every transaction is settled in a block or refused, however long officers take.
    #[arg(long, conflicts_with = "rehearse")]
    pub follow: bool,
    /// How long to wait for the signer's answers otherwise, in seconds.
    #[arg(long, default_value_t = 60)]
    pub wait: u64,
    /// Print JSON, once, at the end.
    #[arg(long)]
    pub json: bool,
    /// Your settings: where the watcher is, and your certificate.
    #[arg(long, default_value = "operator.toml")]
    pub config: PathBuf,
}

/// An operator's settings file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// `https://host:port` of the watcher.
    pub watcher: String,
    /// The name in its certificate, when it is not the host's.
    pub server_name: Option<String>,
    /// Certificate, key and authority for the connection.
    pub tls: TlsFiles,
}

/// How an evacuation, or a rehearsal of one, stands when the command ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Everything that can move is sent; a rehearsal found nothing against it.
    Done,
    /// Something was refused, or speaks against it.
    Failed,
    /// It waits for officers, the signer or the chain: run it again.
    Unfinished,
}

impl Ending {
    /// What the program exits with.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Unfinished => 3,
        }
    }

    /// Its word in JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unfinished => "unfinished",
        }
    }
}

impl Settings {
    /// Reads the file; paths in it are from its own folder.
    ///
    /// # Errors
    /// When it is not there, or says what is not known.
    pub fn load(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read your settings, {shown}: name them with --config; deploy/operator.toml is an example")
        })?;
        let mut settings: Self = toml::from_str(&text).map_err(|error| {
            anyhow!("{shown}: {}", asset::setting_error(&text, error.span(), error.message()))
        })?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let tls = &mut settings.tls;
        for file in [&mut tls.certificate, &mut tls.key, &mut tls.ca] {
            *file = folder.join(&*file);
        }
        Ok(settings)
    }

    async fn connect(&self) -> Result<WatcherClient<Channel>> {
        let endpoint = self.tls.endpoint(&self.watcher, self.server_name.as_deref())?;
        let channel = endpoint.timeout(PATIENCE).connect().await;
        let channel =
            channel.with_context(|| format!("cannot reach the watcher at {}", self.watcher))?;
        Ok(WatcherClient::new(channel).max_decoding_message_size(16 << 20))
    }
}

/// Evacuates a wallet, or rehearses it, and tells how that goes.
///
/// # Errors
/// When the watcher cannot be asked, or refuses to plan: the text begins with its reason.
pub async fn evacuate(asked: &Evacuate, out: &mut impl Write) -> Result<Ending> {
    let mut client = Settings::load(&asked.config)?.connect().await?;
    if asked.rehearse {
        let found = ask(&mut client, asked, EvacuateMode::Rehearse).await?;
        let ending = if found.problems.is_empty() { Ending::Done } else { Ending::Failed };
        show::rehearsed(asked, &found, ending, out)?;
        return Ok(ending);
    }
    let mut now = ask(&mut client, asked, EvacuateMode::Evacuate).await?;
    while now.more {
        now = ask(&mut client, asked, EvacuateMode::Evacuate).await?;
    }
    let mut told = BTreeMap::new();
    let begun = Instant::now();
    loop {
        if !asked.json {
            show::news(&now, &mut told, out)?;
        }
        let late = begun.elapsed() >= Duration::from_secs(asked.wait);
        let over = if asked.follow { is_settled } else { is_answered };
        if now.sweeps.iter().all(over) || (late && !asked.follow) {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        match ask(&mut client, asked, EvacuateMode::Look).await {
            Ok(seen) => now = seen,
            // It goes on without us; whoever follows asks until it is back.
            Err(error) => tracing::warn!("the watcher does not answer now: {error:#}"),
        }
    }
    let ending = ending(&now);
    show::stands(asked, &now, ending, out)?;
    Ok(ending)
}

async fn ask(
    client: &mut WatcherClient<Channel>,
    asked: &Evacuate,
    mode: EvacuateMode,
) -> Result<Evacuation> {
    let request = EvacuateRequest {
        wallet: asked.wallet.clone(),
        lane: asked.lane.clone(),
        feerate: asked.feerate.clone(),
        mode: mode.into(),
    };
    let reply = client.evacuate(request).await;
    Ok(reply.map_err(|status| anyhow!("{}", status.message()))?.into_inner())
}

/// Nothing more is to come, but for a reorganisation.
fn is_settled(sweep: &Sweep) -> bool {
    matches!(sweep.state.as_str(), "final" | "refused")
}

/// The signer has answered, if only that officers have to.
fn is_answered(sweep: &Sweep) -> bool {
    let sent = matches!(sweep.state.as_str(), "broadcast" | "confirming");
    sent || is_settled(sweep) || !sweep.reasons.is_empty()
}

fn ending(now: &Evacuation) -> Ending {
    let refused = now.sweeps.iter().any(|sweep| sweep.state == "refused");
    let open = |sweep: &Sweep| matches!(sweep.state.as_str(), "planned" | "signed");
    let later = now.staying.iter().any(|staying| show::may_move_later(&staying.reason));
    if refused || !now.problems.is_empty() {
        Ending::Failed
    } else if now.sweeps.iter().any(open) || later {
        Ending::Unfinished
    } else {
        Ending::Done
    }
}
