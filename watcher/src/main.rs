//! The watcher's command line: serve, check a configuration, or ask a running watcher to evacuate a wallet. It never does the work itself.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;
use watcher::config::Config;
use watcher::operator::{self, Evacuate};
use watcher::{check, serve};

/// The watch-only service of Cofferdam.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Follow the chain and answer calls until stopped.
    Serve {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Check the configuration and whether node and signer answer, then end.
    Check {
        /// The configuration file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Move everything of a wallet to cold storage by a lane of `[[evacuate]]`, or rehearse that; run again, it goes on where it was.
    ///
    /// It asks a running watcher, with your own certificate (grant `evacuate`). The watcher plans as many transactions as the coins
    /// need, largest coins first, and asks the signer, under the same key each time; officers approve each transaction, and what is
    /// signed is sent. What was refused is asked for anew when this is run again. Exits with 0 when everything that can move is
    /// sent (or a rehearsal found nothing against it), 1 when something was refused or speaks against it, 3 when it is not over.
    Evacuate(Evacuate),
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let result = match Arguments::parse().command {
        Command::Serve { config } => run(&config).await,
        Command::Check { config } => look(&config).await,
        Command::Evacuate(asked) => evacuate(&asked).await,
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(path: &std::path::Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(path)?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut running = serve::start(&config).await?;
    tracing::info!(address = %running.address, network = %config.network, "the watcher serves");
    let failure = tokio::select! {
        reason = running.failed() => Some(reason),
        _ = terminate.recv() => None,
        _ = tokio::signal::ctrl_c() => None,
    };
    if let Some(reason) = failure {
        anyhow::bail!("the server failed: {reason}");
    }
    tracing::info!("stopping");
    running.stop().await?;
    Ok(ExitCode::SUCCESS)
}

#[expect(clippy::print_stdout, reason = "what a check found is its output")]
async fn look(path: &std::path::Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(path)?;
    let mut good = true;
    for finding in check::run(&config).await {
        good &= finding.good;
        println!("{} {}", if finding.good { "ok  " } else { "FAIL" }, finding.text);
    }
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn evacuate(asked: &Evacuate) -> anyhow::Result<ExitCode> {
    let ending = operator::evacuate(asked, &mut std::io::stdout()).await?;
    Ok(ExitCode::from(ending.exit_code()))
}
