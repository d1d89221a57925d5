//! Frees a client that a signer locked out: what an officer signs, and the file for the signer's host. It never asks the
//! signer; which entry locked the client is in the log.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use audit::freeing::Freeing;
use clap::Args;

use crate::key::Key;

/// `officer client free`.
#[derive(Debug, Args)]
pub struct Free {
    /// The client's name.
    client: String,
    /// Origin of the signer's log, the first line of its checkpoints.
    #[arg(long)]
    log: String,
    /// Number of the log's entry that locked it.
    #[arg(long)]
    lock: u64,
    /// Why it may come in again.
    #[arg(long)]
    reason: String,
    /// Your key file, or the `pkcs11:` URI of your key in a token.
    #[arg(long)]
    key: PathBuf,
    /// Your name in the signer's configuration; without it, the name in the key file.
    #[arg(long)]
    name: Option<String>,
    /// Where to write it; an existing file is never overwritten.
    #[arg(long)]
    out: PathBuf,
}

/// Signs it and writes the file.
///
/// # Errors
/// When a value cannot stand in one line, the key cannot be used, or the file is there already.
pub fn free(args: &Free, out: &mut impl Write) -> Result<()> {
    let key = Key::load(&args.key)?;
    let name = key.named(args.name.as_deref())?;
    let freeing = Freeing {
        log: args.log.clone(),
        client: args.client.clone(),
        lock: args.lock,
        reason: args.reason.clone(),
    };
    let text =
        freeing.text().context("each value is one line of at most 200 visible characters")?;
    let file = Freeing::file(&text, name.as_str(), &key.sign(text.as_bytes())?);
    let mut written = OpenOptions::new().write(true).create_new(true).open(&args.out)?;
    written.write_all(file.as_bytes())?;
    write!(out, "{text}\nsigned by   {name}\nwritten to  {}\n", args.out.display())?;
    Ok(())
}
