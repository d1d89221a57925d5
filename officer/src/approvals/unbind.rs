//! `officer unbind`: what was signed for an order is decoded and shown here, and an officer says that it can never confirm. It never
//! names what was not shown, and cannot tell itself whether anything may confirm: that is on the chain, for people to look at.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use bitcoin::consensus::deserialize;
use bitcoin::{Address, Psbt, ScriptBuf, Transaction};
use clap::Args;
use policy::Rules;
use policy::names::OrderId;
use policy::order::OrderRef;
use proto::{ShowOrderReply, ShowOrderRequest, SignedVersion};
use sha2::{Digest as _, Sha256};
use statement::said::VERSIONS_MAX;
use statement::{Says, Unbinding};

use super::commands::{Saying, bytes, say, to_people};
use super::desk::{Desk, refusal};
use super::{decode, exhibit};
use crate::policies::bitcoin_network;
use crate::text::{btc, time, words};

/// So many addresses of a wallet are looked at for change. What is beyond is shown as if it were paid.
const CHANGE_INDEXES: u32 = 5_000;

const WARNING: &str = "\
IF ONE OF THESE EVER CONFIRMS, THE PAYEE IS PAID TWICE: by it and by what is signed next. A transaction is dead only when
another one that spends one of its coins is confirmed, and deep enough that no reorganisation takes it away. Look at each coin
by a node of your own, not by the one that the signer or the watcher asks.";

/// An order that is stuck.
#[derive(Debug, Args)]
pub struct OnOrder {
    /// The order's id.
    pub order: String,
    /// The key that signed it, in hex, where orders of several keys have this id.
    #[arg(long)]
    pub key: Option<String>,
    /// Only this transaction, by the SHA-256 that is shown beside it; may be given several times. Without it: all that bind the order.
    #[arg(long)]
    pub version: Vec<String>,
    /// Why none of them can confirm, e.g. what spent their coins, and in which block.
    #[arg(long, required_unless_present = "export")]
    pub reason: Option<String>,
    /// Look at this file, written with --export, and ask nobody.
    #[arg(long)]
    pub from: Option<PathBuf>,
    /// Only show it, and write what was shown to this file, for an officer without a connection.
    #[arg(long, conflicts_with_all = ["from", "offline"])]
    pub export: Option<PathBuf>,
    /// How it is said.
    #[command(flatten)]
    pub saying: Saying,
}

/// Decodes, shows, asks, signs.
///
/// # Errors
/// When what is shown is not what it is said to be, nobody says yes, or the signer says no.
pub async fn unbind(args: &OnOrder, out: &mut impl Write) -> Result<()> {
    let desk = Desk::load(&args.saying.common.config)?;
    let id = OrderId::parse(&args.order)?;
    let key: Option<[u8; 32]> = args.key.as_deref().map(bytes).transpose()?;
    let (shown, taken) = match &args.from {
        Some(file) => exhibit::read_order(file).map(|(shown, taken)| (shown, Some(taken)))?,
        None => (ask_for(&desk, &id, key).await?, None),
    };
    desk.is_its_log(&shown.log)?;
    let shown_key: [u8; 32] =
        shown.key.as_slice().try_into().ok().context("what is shown has no order key")?;
    ensure!(
        shown.id == id.as_str() && key.is_none_or(|key| key == shown_key),
        "what is shown is another order than the one that was asked for"
    );
    let order = OrderRef { key: shown_key, id };
    let rules = desk.rules()?;
    let found = shown.versions.iter().map(Found::read).collect::<Result<Vec<_>>>()?;
    show(&order, &rules, (&shown, &found, taken), &mut to_people(&args.saying, out))?;
    if let Some(file) = &args.export {
        exhibit::write_order(&shown, file)?;
        writeln!(
            to_people(&args.saying, out),
            "\nwritten to {}: nothing was signed",
            file.display()
        )?;
        return Ok(());
    }
    let named = args.version.iter().map(|text| bytes(text)).collect::<Result<BTreeSet<_>>>()?;
    let versions = chosen(named, args.from.is_some(), &found)?;
    writeln!(to_people(&args.saying, out), "\n{WARNING}")?;
    let unbinding = Unbinding { order, versions: versions.into_iter().collect() };
    let says = Says::Unbind { unbinding, reason: args.reason.clone().context("say why")? };
    say(&desk, &args.saying, says, u64::MAX, out).await
}

async fn ask_for(desk: &Desk, id: &OrderId, key: Option<[u8; 32]>) -> Result<ShowOrderReply> {
    let mut client = desk.connect().await?;
    let key = key.map(|key| key.to_vec()).unwrap_or_default();
    let asked = ShowOrderRequest { id: id.to_string(), key };
    let shown = client.show_order(asked).await;
    Ok(shown.map_err(|status| refusal(&status))?.into_inner())
}

/// What was signed, as it was decoded here.
struct Found<'a> {
    digest: [u8; 32],
    transaction: Transaction,
    shown: &'a SignedVersion,
}

impl<'a> Found<'a> {
    fn read(shown: &'a SignedVersion) -> Result<Self> {
        let digest: [u8; 32] =
            shown.version.as_slice().try_into().ok().context("a version is not 32 bytes")?;
        let (transaction, bytes) = match shown.psbt.as_slice() {
            [] => (deserialize(&shown.transaction).ok(), &shown.transaction),
            psbt => (Psbt::deserialize(psbt).ok().map(|psbt| psbt.unsigned_tx), &shown.psbt),
        };
        let transaction: Transaction = transaction.context("a version cannot be read")?;
        // Of what is given to nobody the signatures are not shown, and their SHA-256 is the service's word.
        ensure!(
            shown.withheld || <[u8; 32]>::from(Sha256::digest(bytes)) == digest,
            "WHAT IS SHOWN AS VERSION {} IS ANOTHER TRANSACTION. Sign nothing, and tell the others.",
            hex::encode(digest)
        );
        Ok(Self { digest, transaction, shown })
    }
}

/// What the statement names. What is shown without its signatures is whatever it is said to be: only who names it means it, and
/// only the signer is asked.
fn chosen(
    named: BTreeSet<[u8; 32]>,
    from_file: bool,
    found: &[Found<'_>],
) -> Result<BTreeSet<[u8; 32]>> {
    let bound: BTreeSet<[u8; 32]> =
        found.iter().filter(|one| one.shown.binds).map(|one| one.digest).collect();
    ensure!(
        !bound.is_empty(),
        "nothing that was signed binds this order: it may be asked for again"
    );
    if let Some(strange) = named.iter().find(|version| !bound.contains(*version)) {
        bail!("the order is not bound to version {}", hex::encode(strange));
    }
    let unseen = found.iter().filter(|one| one.shown.withheld).map(|one| one.digest);
    let unseen: BTreeSet<[u8; 32]> = unseen.collect();
    if let Some(unseen) = named.intersection(&unseen).next().filter(|_| from_file) {
        bail!(
            "version {} is shown without its signatures, and nobody but the signer says that it is this transaction: a file is not enough for it, ask the signer",
            hex::encode(unseen)
        );
    }
    let chosen =
        if named.is_empty() { bound.difference(&unseen).copied().collect() } else { named };
    ensure!(
        !chosen.is_empty(),
        "all that binds this order is shown without its signatures, because of a freeze or of officers who took it back: lift the freeze, or name it with --version if you know it otherwise"
    );
    ensure!(
        chosen.len() <= VERSIONS_MAX,
        "one statement names {VERSIONS_MAX} versions at most, and {} bind the order: say which with --version, and the rest in another",
        chosen.len()
    );
    Ok(chosen)
}

fn show(
    order: &OrderRef,
    rules: &Rules,
    (shown, found, taken): (&ShowOrderReply, &[Found<'_>], Option<u64>),
    out: &mut impl Write,
) -> Result<()> {
    let signer = rules.order_keys().iter().find(|key| key.public_key == order.key);
    let signer = signer.map_or("NOBODY in your policy".to_owned(), |key| key.name.to_string());
    writeln!(out, "order       {}", order.id)?;
    writeln!(out, "signed by   {signer}, key {}", hex::encode(order.key))?;
    if let Some(taken) = taken {
        writeln!(
            out,
            "as it was   at {}, out of a file; what was signed since is not in it",
            time(taken)
        )?;
    }
    for one in found {
        version(one, rules, out)?;
    }
    if shown.more {
        writeln!(out, "\nAND OLDER ONES, for which one answer has no room")?;
    }
    if shown.unsigned > 0 {
        writeln!(
            out,
            "\nallowed     {} more that were not signed: they bind the order until it ends, and nobody unbinds it from them",
            shown.unsigned
        )?;
    }
    Ok(())
}

fn version(one: &Found<'_>, rules: &Rules, out: &mut impl Write) -> Result<()> {
    let Found { digest, transaction, shown } = one;
    let binds = if shown.binds { "binds the order" } else { "unbound already" };
    writeln!(out, "\nVERSION     {}, {binds}", hex::encode(digest))?;
    writeln!(out, "  txid        {}", txid(one))?;
    if shown.withheld {
        writeln!(
            out,
            "  held back   by officers, and shown without signatures: that it has this SHA-256 is the service's word"
        )?;
    }
    for input in &transaction.input {
        writeln!(out, "  spends      {} of {}", input.previous_output, words(&shown.wallet))?;
    }
    let scripts: BTreeSet<&ScriptBuf> =
        transaction.output.iter().map(|output| &output.script_pubkey).collect();
    let change = decode::change(rules, &shown.wallet, &scripts, CHANGE_INDEXES)?;
    let network = bitcoin_network(rules.network());
    for output in &transaction.output {
        let script = &output.script_pubkey;
        let amount = btc(output.value.to_sat().into());
        if change.contains(script) {
            writeln!(out, "  change      {amount}")?;
            continue;
        }
        let address = Address::from_script(script, network).map(|address| address.to_string());
        let to = address.unwrap_or_else(|_| format!("script:{}", hex::encode(script.as_bytes())));
        let label = decode::label(script, rules, network);
        let label = label.map_or("NO NAME in the policy's lists".to_owned(), |label| words(&label));
        writeln!(out, "  PAYS        {amount} to {to}\n  who is      {label}")?;
    }
    Ok(())
}

/// Of what others have to sign as well, or is shown without its signatures, the id is right where every coin has a witness.
fn txid(one: &Found<'_>) -> String {
    let id = one.transaction.compute_txid();
    match one.shown.withheld || !one.shown.psbt.is_empty() {
        true => format!("{id}, where every coin has a witness"),
        false => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(lock_time: u32, withheld: bool) -> SignedVersion {
        let transaction = Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::from_consensus(lock_time),
            input: Vec::new(),
            output: Vec::new(),
        };
        let transaction = bitcoin::consensus::serialize(&transaction);
        let version = Sha256::digest(&transaction).to_vec();
        let wallet = "hot".to_owned();
        SignedVersion { version, transaction, psbt: Vec::new(), withheld, binds: true, wallet }
    }

    #[test]
    fn what_is_shown_without_signatures_is_named_or_not_meant_and_never_out_of_a_file() {
        let (seen, unseen) = (version(1, false), version(2, true));
        let found = [Found::read(&seen).unwrap(), Found::read(&unseen).unwrap()];
        let [a, b] = [found[0].digest, found[1].digest];
        let ask = |named: &[[u8; 32]], from_file, found: &[Found<'_>]| {
            chosen(named.iter().copied().collect(), from_file, found)
        };
        for from_file in [false, true] {
            assert_eq!(ask(&[], from_file, &found).unwrap(), BTreeSet::from([a]));
            assert_eq!(ask(&[a], from_file, &found).unwrap(), BTreeSet::from([a]));
            let error = ask(&[], from_file, &found[1..]).unwrap_err().to_string();
            assert!(error.contains("without its signatures"), "{error}");
        }
        assert_eq!(ask(&[a, b], false, &found).unwrap(), BTreeSet::from([a, b]));
        let error = ask(&[a, b], true, &found).unwrap_err().to_string();
        assert!(error.contains("a file is not enough"), "{error}");

        // Bytes that are another transaction's are refused; without signatures nobody can tell.
        let mut other = version(1, false);
        other.transaction = version(3, false).transaction;
        assert!(Found::read(&other).is_err());
        other.withheld = true;
        assert!(Found::read(&other).is_ok());
    }
}
