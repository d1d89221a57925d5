//! What those state who are no officers: a sanctions list, or that the books balance, signed by their own key. It never
//! says whether the signer counts it, and signs nothing that it could not read again.

use std::fs::{self, OpenOptions};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use asset::Network;
use bitcoin::Address;
use clap::{Args, Subcommand};
use ed25519_dalek::Signer as _;
use proto::SubmitRequest;
use statement::Signed;
use statement::fact::{Fact, States};
use statement::said::SIGNED_BYTES_MAX;
use statement::sanctions::{self, Listed, SANCTIONS_BYTES_MAX};

use crate::approvals::desk::{Desk, refusal};
use crate::key::Key;
use crate::policies::bitcoin_network;
use crate::text::{time, words};

/// `officer fact`.
#[derive(Debug, Subcommand)]
pub enum Stating {
    /// Sign a sanctions list, as a screener of the policy: one address, `script HEX` or `coin TXID:VOUT` a line. Put it where
    /// the signer's configuration says, by renaming it.
    Sanctions(SignSanctions),
    /// State that the books balance up to a block, as a reconciler of the policy.
    Balanced(StateBalanced),
    /// Bring a signer what such a file states. It can also lie in the inbox of the signer's state folder.
    Send(Send),
}

/// Whose key, and where the file goes.
#[derive(Debug, Args)]
pub struct Signing {
    /// The key file.
    #[arg(long)]
    pub key: PathBuf,
    /// The name in the policy; without it, the name in the key file.
    #[arg(long)]
    pub name: Option<String>,
    /// `bitcoin`, `testnet4`, `signet` or `regtest`.
    #[arg(long)]
    pub network: String,
    /// Where to write it; an existing file is never overwritten.
    #[arg(long)]
    pub out: PathBuf,
}

/// `officer fact sanctions`.
#[derive(Debug, Args)]
pub struct SignSanctions {
    /// The list, not signed yet. What follows # on a line is left out.
    list: PathBuf,
    #[command(flatten)]
    signing: Signing,
}

/// `officer fact balanced`.
#[derive(Debug, Args)]
pub struct StateBalanced {
    /// Up to the block of this height.
    #[arg(long)]
    height: u64,
    /// That block's hash.
    #[arg(long)]
    block: String,
    /// Origin of the signer's log, the first line of its checkpoints.
    #[arg(long)]
    log: String,
    #[command(flatten)]
    signing: Signing,
}

/// `officer fact send`.
#[derive(Debug, Args)]
pub struct Send {
    /// The statement.
    file: PathBuf,
    /// Settings that name the signer and a certificate which it lets serve officers.
    #[arg(long, default_value = "officer.toml")]
    config: PathBuf,
}

/// Runs one of them.
///
/// # Errors
/// When something cannot be read, signed, written or brought to the signer.
pub async fn run(stating: Stating, out: &mut impl Write) -> Result<()> {
    match stating {
        Stating::Sanctions(args) => sign_sanctions(&args, out),
        Stating::Balanced(args) => {
            let mut block = [0; 32];
            let read = hex::decode_to_slice(&args.block, &mut block);
            ensure!(read.is_ok(), "a block's hash is 64 hex digits");
            let states = States::Balanced { height: args.height, block };
            state(states, args.log, &args.signing, out)
        }
        Stating::Send(args) => send(&args, out).await,
    }
}

/// Signs a fact and writes it down.
///
/// # Errors
/// When a value cannot stand in its line, the key cannot be used, or the file is there already.
pub fn state(states: States, log: String, signing: &Signing, out: &mut impl Write) -> Result<()> {
    let key = Key::load(&signing.key)?;
    let network = Network::parse(&signing.network)?.chain_id().to_string();
    let by = key.named(signing.name.as_deref())?;
    let fact = Fact { states, log, network, by, made_unix: now()? };
    let bytes = fact.encode();
    Fact::parse(&bytes)?;
    write!(out, "{}", String::from_utf8_lossy(&bytes))?;
    let signature = key.into_ed25519()?.sign(&bytes).to_bytes();
    let signed = Signed { signature, statement: bytes };
    write(&signing.out, &signed.to_file())?;
    writeln!(out, "written to  {}", signing.out.display())?;
    Ok(())
}

fn sign_sanctions(args: &SignSanctions, out: &mut impl Write) -> Result<()> {
    let signing = &args.signing;
    let key = Key::load(&signing.key)?;
    let (network, by) = (Network::parse(&signing.network)?, key.named(signing.name.as_deref())?);
    let text = read(&args.list, SANCTIONS_BYTES_MAX)?;
    let mut entries = Vec::new();
    for (line, number) in text.lines().zip(1_u32..) {
        let line = line.split_once('#').map_or(line, |(line, _)| line).trim();
        if line.is_empty() {
            continue;
        }
        let whole = if line.contains(' ') { line.to_owned() } else { format!("address {line}") };
        let entry = sanctions::listed(&whole).map_err(anyhow::Error::msg);
        let entry = entry.and_then(|entry| is_of(entry, network));
        entries.push(entry.with_context(|| format!("line {number}: {}", words(line)))?);
    }
    ensure!(!entries.is_empty(), "{} lists nobody", args.list.display());
    let made = now()?;
    let text = sanctions::text(&network.chain_id().to_string(), &by, made, &entries);
    let key = key.into_ed25519()?;
    let file = sanctions::to_file(&text, &key.sign(text.as_bytes()).to_bytes());
    let list = sanctions::verify(&file, &key.verifying_key().to_bytes())?;
    write(&signing.out, file.as_bytes())?;
    let (count, made) = (list.entries.len(), time(made));
    writeln!(
        out,
        "{count} entries, by {by}, made {made}\nsha256      {}",
        hex::encode(list.digest)
    )?;
    writeln!(out, "written to  {}", signing.out.display())?;
    Ok(())
}

/// What is no address of another network.
pub(crate) fn is_of(entry: Listed, network: Network) -> Result<Listed> {
    if let Listed::Address(text) = &entry {
        let address = Address::from_str(text).context("this is no address")?;
        let ours = address.is_valid_for_network(bitcoin_network(network));
        ensure!(ours, "this is an address of another network");
    }
    Ok(entry)
}

async fn send(args: &Send, out: &mut impl Write) -> Result<()> {
    let signed = Signed::from_file(read(&args.file, SIGNED_BYTES_MAX)?.as_bytes())?;
    let desk = Desk::load(&args.config)?;
    let Signed { statement, signature } = signed;
    let request = SubmitRequest { statement, signature: signature.to_vec() };
    let reply = desk.connect().await?.submit(request).await;
    let said = words(&reply.map_err(|status| refusal(&status))?.into_inner().said);
    writeln!(out, "{said}")?;
    Ok(())
}

fn read(file: &Path, most: usize) -> Result<String> {
    let shown = file.display();
    let opened = fs::File::open(file).with_context(|| format!("cannot read {shown}"))?;
    let most = u64::try_from(most).unwrap_or(u64::MAX);
    let mut text = String::new();
    let length = opened.take(most.saturating_add(1)).read_to_string(&mut text);
    let length = length.with_context(|| format!("cannot read {shown}"))?;
    let fits = u64::try_from(length).is_ok_and(|length| length <= most);
    ensure!(fits, "{shown} is longer than {most} bytes");
    Ok(text)
}

fn write(file: &Path, bytes: &[u8]) -> Result<()> {
    let written = OpenOptions::new().write(true).create_new(true).open(file);
    let mut written = written.with_context(|| format!("cannot make {}", file.display()))?;
    written.write_all(bytes)?;
    written.sync_all()?;
    Ok(())
}

fn now() -> Result<u64> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(since.context("the clock is before 1970")?.as_secs())
}
