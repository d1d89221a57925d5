//! Attested token keys, checked with the pinned attestation key. It never asks the signer.

use std::fs::File;
use std::io::{Read as _, Write};
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use audit::token_key::TokenKey;
use clap::Args;

use crate::key::public_key;
use crate::text::words;

/// Longest document that is read.
const BYTES_MAX: u64 = 64 << 10;

/// What to check.
#[derive(Debug, Args)]
pub struct VerifyTokenKey {
    /// The signer's attestation key in hex, as you wrote it down when the token was made.
    #[arg(long)]
    pub key: String,
    /// The public key it must be about, as your descriptor has it.
    #[arg(long)]
    pub public_key: Option<String>,
    /// What `signer token-key attest` wrote.
    pub file: PathBuf,
}

/// `officer token-key verify`.
///
/// # Errors
/// When anything about it does not hold.
pub fn verify(args: &VerifyTokenKey, out: &mut impl Write) -> Result<()> {
    let key = public_key(&args.key)?;
    let path = args.file.display();
    let file = File::open(&args.file).with_context(|| format!("cannot read {path}"))?;
    let mut document = String::new();
    file.take(BYTES_MAX)
        .read_to_string(&mut document)
        .with_context(|| format!("cannot read {path}"))?;
    let attested = TokenKey::verify(&document, &key)?;
    let found = hex::encode(attested.public_key);
    let wanted = args.public_key.as_deref();
    ensure!(wanted.is_none_or(|key| key == found), "--public-key: the token attested {found}");
    writeln!(out, "token key   {} (tier token)", words(&attested.name))?;
    writeln!(out, "public key  {found}")?;
    writeln!(out, "network     {}", words(&attested.network))?;
    writeln!(out, "token       {}", words(&attested.serial))?;
    for attribute in &attested.attributes {
        writeln!(out, "            {}", words(attribute))?;
    }
    writeln!(out, "The token attested this key as its own.")?;
    Ok(())
}
