//! Deposit addresses, checked with the pinned attestation key. It never asks the watcher or the signer.

use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use audit::attestation::{Leaf, verify_address};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use serde::Deserialize;

use crate::key::public_key;
use crate::text::{time, words};

/// Longest JSON that is read.
const JSON_BYTES_MAX: u64 = 256 << 10;

/// What to check.
#[derive(Debug, Args)]
pub struct VerifyAddress {
    /// The signer's attestation key in hex, as you wrote it down when the token was made.
    #[arg(long)]
    pub key: String,
    /// The customer reference it must be for.
    #[arg(long)]
    pub reference: Option<String>,
    /// The address it must be.
    #[arg(long)]
    pub address: Option<String>,
    /// The wallet it must belong to.
    #[arg(long)]
    pub wallet: Option<String>,
    /// The JSON of an Address, as grpcurl prints the watcher's answer; without it, standard input.
    pub file: Option<PathBuf>,
}

/// The watcher's answer in protobuf's JSON, which leaves out zeros and empty texts.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Issued {
    wallet: String,
    index: u32,
    address: String,
    #[serde(alias = "customer_reference")]
    customer_reference: String,
    proof: Option<Proof>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Proof {
    leaf: String,
    position: u32,
    #[serde(alias = "tree_size")]
    tree_size: u32,
    path: Vec<String>,
    root: String,
    signature: String,
}

/// `officer address verify`.
///
/// # Errors
/// When anything about it does not hold.
pub fn verify(args: &VerifyAddress, out: &mut impl Write) -> Result<()> {
    let key = public_key(&args.key)?;
    let text = match &args.file {
        Some(path) => {
            let file =
                File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            read(file)?
        }
        None => read(std::io::stdin().lock())?,
    };
    let issued: Issued =
        serde_json::from_str(&text).context("this is not the JSON of an Address")?;
    let leaf = proven(&issued, &key)?;
    // What stands around the proof is the watcher's word; the leaf is the token's.
    same("address", &issued.address, &leaf.address)?;
    same("wallet", &issued.wallet, &leaf.wallet)?;
    same("customer reference", &issued.customer_reference, &leaf.reference)?;
    same("index", &issued.index.to_string(), &leaf.index.to_string())?;
    expect("--address", args.address.as_deref(), &leaf.address)?;
    expect("--wallet", args.wallet.as_deref(), &leaf.wallet)?;
    expect("--reference", args.reference.as_deref(), &leaf.reference)?;
    if leaf.expires_unix > 0 {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
        ensure!(now.as_secs() < leaf.expires_unix, "it expired at {}", time(leaf.expires_unix));
    }
    show(&leaf, out)
}

fn proven(issued: &Issued, key: &[u8; 32]) -> Result<Leaf> {
    let Some(proof) = &issued.proof else { bail!("it has no proof: nothing can be said about it") };
    let bytes = |field: &str, text: &str| {
        STANDARD.decode(text).map_err(|_| anyhow!("the proof's {field} is not base64"))
    };
    let path = proof.path.iter().map(|hash| bytes("path", hash)).collect::<Result<Vec<_>>>()?;
    let (leaf, root) = (bytes("leaf", &proof.leaf)?, bytes("root", &proof.root)?);
    let signature = bytes("signature", &proof.signature)?;
    Ok(verify_address(&leaf, proof.position, proof.tree_size, &path, &root, &signature, key)?)
}

fn read(source: impl Read) -> Result<String> {
    let mut text = String::new();
    source.take(JSON_BYTES_MAX).read_to_string(&mut text).context("cannot read the JSON")?;
    Ok(text)
}

fn same(what: &str, said: &str, attested: &str) -> Result<()> {
    let (said_shown, attested_shown) = (words(said), words(attested));
    ensure!(
        said == attested,
        "the answer says {what} \"{said_shown}\", the token attested \"{attested_shown}\""
    );
    Ok(())
}

fn expect(flag: &str, wanted: Option<&str>, attested: &str) -> Result<()> {
    let shown = words(attested);
    ensure!(
        wanted.is_none_or(|wanted| wanted == attested),
        "{flag}: the token attested \"{shown}\""
    );
    Ok(())
}

fn show(leaf: &Leaf, out: &mut impl Write) -> Result<()> {
    writeln!(out, "address     {}", leaf.address)?;
    writeln!(out, "reference   {}", words(&leaf.reference))?;
    writeln!(out, "wallet      {}, index {}", leaf.wallet, leaf.index)?;
    writeln!(out, "network     {}", leaf.network)?;
    let expiry = leaf.expires_unix;
    let until = if expiry == 0 { "does not expire".to_owned() } else { time(expiry) };
    writeln!(out, "valid until {until}")?;
    writeln!(out, "The token attested this address for this reference.")?;
    Ok(())
}
