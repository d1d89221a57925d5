//! The address book: entries attested and taken back, and what is in it by a signer's log. It attests what it is told, and never
//! knows whose an address is.

use std::io::Write;

use ::audit::entry::Entry as LogEntry;
use anyhow::Result;
use asset::Network;
use clap::{Args, Subcommand};
use policy::conditions::Target;
use policy::names::ListName;
use serde_json::{Value, json};
use statement::fact::{self, Entry, States};
use statement::sanctions::Listed;

use crate::approvals::booked::{counts, state};
use crate::approvals::commands::{self, OnEntry};
use crate::audit;
use crate::audit::source::Source;
use crate::facts::{self, Signing, is_of};
use crate::replay::Replay;
use crate::text::words;

/// `officer book`.
#[derive(Debug, Subcommand)]
pub enum Book {
    /// Attest an entry of the address book, as a book key of the policy. It counts from when the signer takes it in, and
    /// matures as its list says.
    Sign(SignEntry),
    /// Take an entry back that this key attested.
    Revoke(RevokeEntry),
    /// Take an entry back as an officer, whoever attested it.
    Unlist(OnEntry),
}

/// `officer book sign`.
#[derive(Debug, Args)]
pub struct SignEntry {
    /// The list of the policy that it is for.
    #[arg(long)]
    list: String,
    /// What people call it.
    #[arg(long)]
    label: String,
    /// `address A`, `script HEX`, or `descriptor N D` for the first N indexes of D.
    #[arg(long)]
    target: String,
    /// Unix seconds before which it does not count.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Unix seconds after which it does not count.
    #[arg(long)]
    expires: Option<u64>,
    /// Origin of the signer's log, the first line of its checkpoints.
    #[arg(long)]
    log: String,
    #[command(flatten)]
    signing: Signing,
}

/// `officer book revoke`.
#[derive(Debug, Args)]
pub struct RevokeEntry {
    /// The entry's list.
    #[arg(long)]
    list: String,
    /// Its label.
    #[arg(long)]
    label: String,
    /// Origin of the signer's log.
    #[arg(long)]
    log: String,
    #[command(flatten)]
    signing: Signing,
}

/// Runs one of them.
///
/// # Errors
/// When something cannot be read, signed, written or brought to the signer.
pub async fn run(book: Book, out: &mut impl Write) -> Result<()> {
    match book {
        Book::Sign(args) => {
            let target = fact::target(&args.target).map_err(anyhow::Error::msg)?;
            ledger::count_scripts(&target).map_err(anyhow::Error::msg)?;
            if let Target::Address(address) = &target {
                is_of(Listed::Address(address.clone()), Network::parse(&args.signing.network)?)?;
            }
            let entry = Entry {
                list: ListName::parse(&args.list)?,
                label: args.label,
                target,
                from_unix: args.from,
                expires_unix: args.expires,
            };
            facts::state(States::Listed(entry), args.log, &args.signing, out)
        }
        Book::Revoke(args) => {
            let (list, label) = (ListName::parse(&args.list)?, args.label);
            facts::state(States::Unlisted { list, label }, args.log, &args.signing, out)
        }
        Book::Unlist(args) => commands::unlist(&args, out).await,
    }
}

/// `officer log book`: every entry that nobody took back, at the end of a log that is verified.
///
/// # Errors
/// When the log does not hold, or its policy cannot be read here.
pub async fn show(
    source: &mut Source,
    key: [u8; 32],
    kept: &[String],
    as_json: bool,
    out: &mut impl Write,
) -> Result<()> {
    let mut replay = Replay::default();
    let mut look = |seq: u64, entry: &LogEntry| replay.take(seq, entry, &mut |_, _, _| Ok(()));
    audit::read(source, key, kept, &mut look).await?;
    let rules = &replay.active.as_ref().map_err(|why| anyhow::Error::msg(why.clone()))?.rules;
    let now = replay.ledger.latest_unix();
    let waited = replay.ledger.waited_until(now);
    let mut all: Vec<Value> = Vec::new();
    for ((list, label), entry) in replay.ledger.facts().book().entries() {
        let Some(known) = rules.list(list) else { continue };
        let counts_unix = counts(entry.since_unix, entry.from_unix, known);
        let (target, by) = (fact::target_text(&entry.target), &entry.by);
        if as_json {
            all.push(json!({
                "list": list.as_str(), "label": label, "target": target, "by": by.as_str(),
                "since_unix": entry.since_unix, "counts_unix": counts_unix,
                "expires_unix": entry.expires_unix, "entry": entry.seq,
            }));
            continue;
        }
        let state = state(counts_unix, entry.expires_unix, waited, now);
        let (label, target) = (words(label), words(&target));
        writeln!(
            out,
            "{:<11} {label}\n  {target}\n  attested by {by}, entry {}; {state}",
            list.as_str(),
            entry.seq
        )?;
    }
    if as_json {
        writeln!(out, "{}", Value::from(all))?;
    }
    Ok(())
}
