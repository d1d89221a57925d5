//! The `devnet` command: plays the demo, or runs a lone regtest node. Never for anything of value.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use devnet::{Node, story};

/// A whole development system on regtest.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Plays the story. `./quickstart` builds what it needs and calls this.
    Quickstart {
        /// Where everything goes. What an earlier story left there is removed; any other folder must be empty.
        #[arg(long)]
        dir: PathBuf,
        /// Leaves everything running and prints how to call it.
        #[arg(long)]
        stay: bool,
    },
    /// Runs a regtest node with a funded wallet until it is interrupted.
    Node,
}

#[tokio::main]
async fn main() -> ExitCode {
    let told = match Arguments::parse().command {
        Command::Quickstart { dir, stay } => play(&dir, stay).await,
        Command::Node => run_node().await,
    };
    match told {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "\nFAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn play(dir: &Path, stay: bool) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("could not make {}", dir.display()))?;
    let dir = dir.canonicalize()?;
    let logs = || format!("the story stopped (logs: {}/*/*.log)", dir.display());
    story::play(&dir, stay).await.with_context(logs)
}

async fn run_node() -> Result<()> {
    let node = Node::start().await?;
    writeln!(
        std::io::stdout(),
        "rpc     {}\ncookie  {}",
        node.rpc_url(),
        node.cookie_file().display()
    )?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
