//! The `devnet` command: plays the demo, or runs a lone regtest node. Never for anything of value.

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Result;
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
        /// Where everything goes; emptied first.
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
async fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Quickstart { dir, stay } => {
            std::fs::create_dir_all(&dir)?;
            story::play(&dir.canonicalize()?, stay).await
        }
        Command::Node => run_node().await,
    }
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
