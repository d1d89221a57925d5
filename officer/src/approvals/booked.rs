//! What the address book says of who is paid: each statement verified here, by the policy's book keys, against the very
//! address. That it was not taken back, and how long the log has had it, is the signer's word alone.

use anyhow::{Context as _, Result, ensure};
use bitcoin::Address;
use policy::Rules;
use policy::conditions::List;
use policy::facts::Stated;
use proto::ShowReply;
use statement::Signed;
use statement::fact::{Entry, Fact, States};

use crate::policies::{bitcoin_network, scripts};
use crate::text::{time, words};

/// An entry of the address book that stands for an address.
#[derive(Clone, Debug)]
pub struct Named {
    /// The address, as the canonical intent has it.
    pub address: String,
    /// What it is called, and by whom.
    pub entry: Entry,
    /// The name of the key that attested it.
    pub by: String,
    /// From when it counts, if nothing holds time; by the log's word on since when it has it.
    pub counts_unix: u64,
}

/// Verifies every entry that the service shows.
///
/// # Errors
/// When nobody attested one, or not for this address, log and policy.
pub(super) fn verify(shown: &ShowReply, rules: &Rules) -> Result<Vec<Named>> {
    let named = shown.booked.iter().map(|booked| {
        one(booked, &shown.log, rules).with_context(|| {
            let address = crate::text::words(&booked.address);
            format!("THE SERVICE SHOWS A NAME FOR {address} THAT DOES NOT HOLD. Sign nothing, and tell the others")
        })
    });
    named.collect()
}

fn one(booked: &proto::Booked, log: &str, rules: &Rules) -> Result<Named> {
    let signature = booked.signature.as_slice().try_into();
    let signature = signature.context("a signature is not 64 bytes")?;
    let signed = Signed { statement: booked.statement.clone(), signature };
    let claimed = Fact::parse(&signed.statement)?;
    let mut keys = rules.fact_keys(Stated::Book).iter();
    let key = keys.find(|key| key.name == claimed.by);
    let key = key.with_context(|| format!("the policy has no book key \"{}\"", claimed.by))?;
    let fact = signed.verify_fact(&key.public_key)?;
    let network = rules.network().chain_id().to_string();
    ensure!(fact.log == log && fact.network == network, "it is for another signer");
    let States::Listed(entry) = fact.states else { anyhow::bail!("it is no entry") };
    let list = rules.list(&entry.list).filter(|list| list.book_keys.contains(&fact.by));
    let list = list.context("its key adds nothing to that list")?;
    let network = bitcoin_network(rules.network());
    let wanted = match booked.address.strip_prefix("script:") {
        Some(script) => hex::decode(script)?,
        None => {
            let address = booked.address.parse::<Address<_>>()?.require_network(network)?;
            address.script_pubkey().into_bytes()
        }
    };
    ledger::count_scripts(&entry.target).map_err(anyhow::Error::msg)?;
    let scripts = scripts(&entry.target, network).map_err(anyhow::Error::msg)?;
    ensure!(scripts.contains(&wanted), "it stands for another destination");
    let counts_unix = counts(booked.since_unix, entry.from_unix, list);
    Ok(Named { address: booked.address.clone(), entry, by: fact.by.to_string(), counts_unix })
}

/// An entry in a line. Its label is one key's word: it comes last, between quotes, which it has none of, so that it passes
/// for nothing else of the line.
pub(super) fn line(named: &Named, now_unix: u64) -> String {
    let Named { entry: Entry { list, label, expires_unix, .. }, by, .. } = named;
    let state = state(named.counts_unix, *expires_unix, now_unix, now_unix);
    format!("for list {list}, attested by {by}; {state}, by the log's word: \"{}\"", words(label))
}

/// From when an entry counts that the log has since then.
pub(crate) fn counts(since_unix: u64, from_unix: u64, list: &List) -> u64 {
    since_unix.saturating_add(list.matures_seconds).max(from_unix)
}

/// Since when an entry counts, or that it does not, in words.
pub(crate) fn state(
    counts_unix: u64,
    expires_unix: Option<u64>,
    waited_unix: u64,
    now_unix: u64,
) -> String {
    match expires_unix {
        Some(end) if now_unix > end => format!("ENDED on {}", time(end)),
        _ if waited_unix < counts_unix => format!("DOES NOT COUNT before {}", time(counts_unix)),
        Some(end) => format!("counts since {}, until {}", time(counts_unix), time(end)),
        None => format!("counts since {}", time(counts_unix)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use policy::conditions::Target;
    use policy::names::ListName;

    use super::*;

    #[test]
    fn a_label_passes_for_nothing_but_a_label() {
        let label = "Acme, for list banks, attested by treasury; counts since ever";
        let entry = Entry {
            list: ListName::parse("customers").unwrap(),
            label: label.to_owned(),
            target: Target::Script(vec![1]),
            from_unix: 0,
            expires_unix: None,
        };
        let named = Named { address: String::new(), entry, by: "desk".to_owned(), counts_unix: 0 };
        let line = line(&named, 1);
        let (ours, theirs) = line.split_once('"').unwrap();
        assert_eq!(ours.matches("attested by").count(), 1, "{line}");
        assert!(ours.starts_with("for list customers, attested by desk; counts since "), "{line}");
        assert_eq!(theirs.strip_suffix('"'), Some(label));
    }
}
