//! A witness: a machine elsewhere that remembers how long a signer's log was, and cosigns a checkpoint only when the log
//! grew into it from the one before. It never forgets: one that lost its memory is retired, and never begun anew.
//!
//! Reading order: [`memory`] (what it remembers and when it cosigns), [`visit`] (its visits to the signer).

pub mod memory;
pub mod visit;

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use audit::checkpoint::origin;
use audit::note::name_is_valid;
use clap::{Args, Subcommand};

use crate::key;
use memory::Memory;

/// What a witness is told to do.
#[derive(Debug, Subcommand)]
pub enum Witness {
    /// Make a witness: a new key and an empty memory, in a new folder. Its public key goes into the signer's policy.
    Init(Init),
    /// Visit the signer and cosign its checkpoints, until told to end. Comes again when the signer was away.
    Run(Run),
    /// Show what a witness remembers.
    Show {
        /// Its folder.
        #[arg(long)]
        dir: PathBuf,
    },
}

/// Arguments of `officer witness init`.
#[derive(Debug, Args)]
pub struct Init {
    /// A new folder for its key and its memory. Never copy it back from a backup: an old memory vouches for an old log.
    #[arg(long)]
    dir: PathBuf,
    /// Its name: that of its certificate and of the policy's `[[witness]]`.
    #[arg(long)]
    name: String,
    /// The signer's checkpoint key in hex, as you wrote it down when the token was made.
    #[arg(long)]
    log_key: String,
}

/// Arguments of `officer witness run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Its folder.
    #[arg(long)]
    dir: PathBuf,
    /// The signer, e.g. `https://signer:7400`; once for each of two that serve one log in turn.
    #[arg(long, required = true)]
    signer: Vec<String>,
    /// The name in the signers' certificates, when the addresses have others.
    #[arg(long)]
    server_name: Option<String>,
    /// Our certificate, PEM.
    #[arg(long)]
    certificate: PathBuf,
    /// Its private key, PEM.
    #[arg(long)]
    certificate_key: PathBuf,
    /// The authority that certifies the signer, PEM.
    #[arg(long)]
    ca: PathBuf,
}

/// Runs one command.
///
/// # Errors
/// Whatever went wrong; above all a memory that is lost, and a log that did not grow from what was seen before.
pub fn run(command: Witness, out: &mut impl Write) -> Result<()> {
    match command {
        Witness::Init(args) => init(&args, out),
        Witness::Run(args) => {
            let tls = mtls::TlsFiles {
                certificate: args.certificate,
                key: args.certificate_key,
                ca: args.ca,
                crl: None,
            };
            let name = args.server_name.as_deref();
            let endpoints = args.signer.iter().map(|signer| tls.endpoint(signer, name));
            let endpoints = endpoints.collect::<Result<Vec<_>, _>>()?;
            let mut memory = Memory::open(&args.dir)?;
            let _alone = memory.alone()?;
            crate::cli::block_on(async {
                tokio::select! {
                    done = visit::again_and_again(&mut memory, &endpoints, &mut *out) => done,
                    ended = tokio::signal::ctrl_c() => Ok(ended?),
                }
            })
        }
        Witness::Show { dir } => {
            let memory = Memory::open(&dir)?;
            writeln!(out, "witness     {}", memory.name())?;
            writeln!(out, "public key  {}", hex::encode(memory.public()))?;
            writeln!(out, "log         {}", memory.origin())?;
            writeln!(out, "entries     {}", memory.size())?;
            write!(out, "{}", memory.note())?;
            Ok(())
        }
    }
}

fn init(args: &Init, out: &mut impl Write) -> Result<()> {
    ensure!(name_is_valid(&args.name), "a witness's name has no spaces and no plus sign");
    let log_key = key::public_key(&args.log_key)?;
    let public = Memory::make(&args.dir, &args.name, log_key)?;
    writeln!(out, "folder      {}", args.dir.display())?;
    writeln!(out, "log         {}", origin(&log_key))?;
    writeln!(out, "[[witness]]\nname = \"{}\"\ned25519 = \"{}\"", args.name, hex::encode(public))?;
    Ok(())
}
