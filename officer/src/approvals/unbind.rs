//! `officer unbind`: what was signed for an order is decoded and shown here, and an officer says that it can never confirm. It never
//! names what was not shown, by a hash of its own of what was shown, with signatures or without them; and it cannot tell itself whether anything may confirm: that is on the chain, for people to look at.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

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
use statement::{Says, Unbinding, VersionName};

use super::commands::{Saying, bytes, say, to_people};
use super::desk::{Desk, refusal};
use super::{decode, exhibit, show};
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
    let versions = chosen(&named, &found)?;
    writeln!(to_people(&args.saying, out), "\n{WARNING}")?;
    if let Some(over) = over(&shown, now_unix()) {
        writeln!(to_people(&args.saying, out), "\n{over}")?;
    }
    let unbinding = Unbinding { order, versions: versions.into_iter().collect() };
    let says = Says::Unbind { unbinding, reason: args.reason.clone().context("say why")? };
    say(&desk, &args.saying, says, u64::MAX, out).await
}

fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Why nothing is paid under the order any more, by the signer's word or by the clock here.
fn over(shown: &ShowOrderReply, now_unix: u64) -> Option<String> {
    let anew = "What is ordered anew binds to none of these";
    let (end, no) = (time(shown.ends_unix), words(&shown.called_off));
    if !no.is_empty() {
        return Some(format!(
            "THE ORDER WAS CALLED OFF by {no}, for good. Nothing is paid under it any more, whatever it is bound to. {anew}."
        ));
    }
    let ended = shown.ended || now_unix > shown.ends_unix;
    let rest = "Nothing is paid under it any more but what takes the place of a transaction that stays bound: \
                one that is left out here can still be replaced, and then by what confirms beside those that are named";
    ended.then(|| format!("THE ORDER HAS ENDED, at {end}. {rest}. {anew}."))
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
    /// Its second hash is computed here.
    name: VersionName,
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
        let name = VersionName { signed: digest, bare: ledger::bare_digest(&transaction) };
        // Of what is given to nobody the signatures are not shown: the signer takes no statement whose two hashes are not of one
        // and the same transaction of its log, nor does whoever verifies that.
        let is_signed = shown.withheld || <[u8; 32]>::from(Sha256::digest(bytes)) == digest;
        ensure!(
            is_signed && shown.bare == name.bare,
            "WHAT IS SHOWN AS VERSION {} IS ANOTHER TRANSACTION. Sign nothing, and tell the others.",
            hex::encode(digest)
        );
        Ok(Self { name, transaction, shown })
    }
}

/// What the statement names.
fn chosen(named: &BTreeSet<[u8; 32]>, found: &[Found<'_>]) -> Result<BTreeSet<VersionName>> {
    let bound: BTreeSet<VersionName> =
        found.iter().filter(|one| one.shown.binds).map(|one| one.name).collect();
    ensure!(
        !bound.is_empty(),
        "nothing that was signed binds this order: it may be asked for again"
    );
    let is_bound = |version: &&[u8; 32]| bound.iter().any(|bound| bound.signed == **version);
    if let Some(strange) = named.iter().find(|version| !is_bound(version)) {
        bail!("the order is not bound to version {}", hex::encode(strange));
    }
    let is_named = |version: &VersionName| named.is_empty() || named.contains(&version.signed);
    let chosen: BTreeSet<VersionName> = bound.into_iter().filter(is_named).collect();
    ensure!(
        chosen.len() <= VERSIONS_MAX,
        "one statement has room for {VERSIONS_MAX} versions, and these are {}: say which with --version, the same as the other officers, and the rest in another statement",
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
    writeln!(out, "ends        at {}", time(shown.ends_unix))?;
    if let Some(taken) = taken {
        writeln!(
            out,
            "as it was   at {}, out of a file; what was signed since is not in it",
            time(taken)
        )?;
    }
    if let Some(over) = over(shown, now_unix()) {
        writeln!(out, "{over}")?;
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
    let Found { name, transaction, shown } = one;
    let binds = if shown.binds { "binds the order" } else { "unbound already" };
    writeln!(out, "\nVERSION     {}, {binds}", hex::encode(name.signed))?;
    writeln!(out, "  bare        {}, its SHA-256 without signatures", hex::encode(name.bare))?;
    writeln!(out, "  txid        {}", txid(one))?;
    if shown.withheld {
        writeln!(
            out,
            "  held back   by officers, and shown without signatures: the statement names by the hash above what you see here"
        )?;
    }
    let wallet = show::wallet(&shown.wallet, &shown.tier);
    for input in &transaction.input {
        writeln!(out, "  spends      {} of {wallet}", input.previous_output)?;
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
    // What its coins are worth stands in no transaction.
    if let Ok(fee) = shown.fee.parse() {
        writeln!(out, "  fee         {}, by the service's word", btc(fee))?;
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
        let coin = bitcoin::OutPoint::new(bitcoin::hashes::Hash::all_zeros(), lock_time);
        let mut transaction = Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::from_consensus(lock_time),
            input: vec![bitcoin::TxIn {
                previous_output: coin,
                script_sig: ScriptBuf::from_bytes(vec![1, 7]),
                witness: bitcoin::Witness::from_slice(&[[9; 3]]),
                ..bitcoin::TxIn::default()
            }],
            output: Vec::new(),
        };
        let signed = bitcoin::consensus::serialize(&transaction);
        let version = Sha256::digest(&signed).to_vec();
        transaction.input[0].witness.clear();
        transaction.input[0].script_sig = ScriptBuf::new();
        let unsigned = bitcoin::consensus::serialize(&transaction);
        let bare = Sha256::digest(&unsigned).to_vec();
        let transaction = if withheld { unsigned } else { signed };
        let (psbt, binds, fee) = (Vec::new(), true, "7".to_owned());
        let (wallet, tier) = ("hot".to_owned(), "token-hd".to_owned());
        SignedVersion { version, transaction, psbt, withheld, binds, wallet, bare, fee, tier }
    }

    fn psbt(of: &SignedVersion) -> SignedVersion {
        let made: Transaction = deserialize(&of.transaction).unwrap();
        let mut made = Psbt::from_unsigned_tx(ledger::bare(&made)).unwrap();
        made.inputs[0].final_script_witness = Some(bitcoin::Witness::from_slice(&[[9; 3]]));
        let psbt = made.serialize();
        let version = Sha256::digest(&psbt).to_vec();
        SignedVersion { version, psbt, transaction: Vec::new(), ..of.clone() }
    }

    #[test]
    fn what_is_shown_without_signatures_is_named_like_what_is_shown_with_them() {
        let (seen, unseen) = (version(1, false), version(2, true));
        let found = [Found::read(&seen).unwrap(), Found::read(&unseen).unwrap()];
        let [a, b] = [found[0].name, found[1].name];
        let ask = |named: &[[u8; 32]], found: &[Found<'_>]| {
            chosen(&named.iter().copied().collect(), found)
        };
        assert_eq!(ask(&[], &found).unwrap(), BTreeSet::from([a, b]));
        assert_eq!(ask(&[b.signed], &found).unwrap(), BTreeSet::from([b]));
        assert!(ask(&[b.bare], &found).is_err(), "by what the log knows it by");
        // With its signatures, without them and of others who have yet to sign it is one transaction.
        let whole = version(2, false);
        assert_eq!(Found::read(&whole).unwrap().name, b);
        assert_eq!(Found::read(&psbt(&whole)).unwrap().name.bare, b.bare);
    }

    #[test]
    fn another_transaction_than_the_one_that_is_named_is_found_with_signatures_and_without() {
        for withheld in [false, true] {
            let good = version(1, withheld);
            assert!(Found::read(&good).is_ok());
            let other = version(3, withheld);
            let (transaction, bare) = (other.transaction.clone(), other.bare.clone());
            assert!(Found::read(&SignedVersion { transaction, ..good.clone() }).is_err());
            assert!(Found::read(&SignedVersion { bare, ..good.clone() }).is_err());
            assert!(Found::read(&SignedVersion { bare: Vec::new(), ..good }).is_err());
        }
        let (good, other) = (psbt(&version(1, false)), psbt(&version(3, false)));
        assert!(Found::read(&SignedVersion { psbt: other.psbt, ..good.clone() }).is_err());
        assert!(Found::read(&SignedVersion { bare: other.bare, ..good }).is_err());
    }

    #[test]
    fn an_order_that_has_ended_or_was_called_off_is_said_to_be_over() {
        let open = ShowOrderReply { ends_unix: 1_000, ..ShowOrderReply::default() };
        assert_eq!(over(&open, 1_000), None);
        let ended = ShowOrderReply { ended: true, ..open.clone() };
        let called_off = ShowOrderReply { called_off: "dan".to_owned(), ..open.clone() };
        // By the signer's time, or by the clock of whoever looks at a file of yesterday's.
        for (shown, now, why) in [
            (&open, 1_001, "HAS ENDED, at 1970-01-01"),
            (&ended, 5, "HAS ENDED, at 1970-01-01"),
            (&called_off, 5, "CALLED OFF by dan"),
        ] {
            let said = over(shown, now).unwrap();
            assert!(said.contains(why) && said.contains("ordered anew"), "{said}");
        }
    }

    #[test]
    fn one_statement_names_as_many_versions_as_it_has_room_for() {
        let many: Vec<SignedVersion> =
            (0..=u32::try_from(VERSIONS_MAX).unwrap()).map(|n| version(n, false)).collect();
        let found: Vec<Found<'_>> = many.iter().map(|one| Found::read(one).unwrap()).collect();
        assert_eq!(chosen(&BTreeSet::new(), &found[1..]).unwrap().len(), VERSIONS_MAX);
        let error = chosen(&BTreeSet::new(), &found).unwrap_err().to_string();
        assert!(error.contains("--version") && error.contains("room for 9"), "{error}");
    }
}
