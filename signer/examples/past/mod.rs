//! A long past of payouts and sweeps, and a policy of 500 rules and 1,000 list entries, for measurements. It is never anybody's.
#![allow(dead_code, unreachable_pub, reason = "every measurement uses its own part")]

use std::fmt::Write as _;

use audit::entry::{Admitted, Event, PaidOrder, Spend, SpentSlot};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::{deserialize, serialize};
use bitcoin::transaction::Version;
use bitcoin::{ScriptBuf, Transaction, TxIn, TxOut, Witness};
use policy::Rules;
use rand::Rng as _;
use rand::rngs::StdRng;
use secp256k1::ecdsa::Signature;

use crate::common::{self, Descriptors, FAR, Knobs};

/// Where it ends, Unix seconds.
pub const NOW: u64 = 1_800_000_000;
/// Destinations that are paid again and again.
pub const DESTINATIONS: u64 = 100_000;
const LISTS: u64 = 10;
const ENTRIES: u64 = 100;

/// How a log begins that is only measured.
pub fn opened(checkpoint_key: [u8; 32]) -> Event {
    Event::Opened {
        origin: audit::checkpoint::origin(&checkpoint_key),
        network: "bip122:0f9188f13cb7b2c71f2a335e3a4fc328".to_owned(),
        checkpoint_key,
        attestation_key: [2; 32],
        wrapping_fingerprint: [3; 32],
    }
}

/// The policy comes into force.
pub fn activated(rules: &Rules) -> Event {
    Event::PolicyActivated {
        version: 1,
        digest: *rules.digest(),
        text: rules.text().to_owned(),
        officers: vec!["alice".to_owned()],
    }
}

/// One request that was allowed, and was not answered yet; with `again` 1, over the coin of the one before.
pub fn spend(number: u64, again: u64, key: [u8; 32], random: &mut StdRng) -> [Event; 2] {
    let payout = (number / 2).is_multiple_of(2);
    let output =
        |script, sat| TxOut { value: bitcoin::Amount::from_sat(sat), script_pubkey: script };
    let paid = random.gen_range(1_000..1_000_000_u64);
    let to = if payout { script(random.gen_range(0..DESTINATIONS)) } else { common::stranger(200) };
    let output = vec![output(to, paid), output(common::stranger(201), 77)];
    let wide = |number: u64| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        bytes
    };
    let mut slot = vec![9; 36];
    slot[..8].copy_from_slice(
        &(if again == 1 { number.saturating_sub(1) } else { number }).to_le_bytes(),
    );
    let input = vec![TxIn { previous_output: deserialize(&slot).unwrap(), ..TxIn::default() }];
    let transaction =
        Transaction { version: Version::TWO, lock_time: LockTime::ZERO, input, output };
    let (lane, wallet) = if payout { ("withdraw", "hot") } else { ("sweep", "deposits") };
    let (lane, wallet) = (lane.to_owned(), wallet.to_owned());
    let caller = "watcher-1".to_owned();
    let order = PaidOrder { key, id: format!("past-{number}"), digest: [4; 32], expires_unix: FAR };
    let spend = Spend {
        request: wide(number),
        policy: 1,
        lane: lane.clone(),
        wallet: wallet.clone(),
        caller: caller.clone(),
        fee: 1_000,
        external: if payout { paid.into() } else { 0 },
        slots: vec![SpentSlot { slot, amount: 5_000_000 }],
        orders: if payout { vec![order] } else { vec![] },
        change_index: None,
        cold_index: None,
        transaction: serialize(&transaction),
        trace: vec![],
    };
    let key = number.to_string();
    let admitted = Admitted { request: wide(number), caller, key, lane, wallet, digest: [6; 32] };
    [Event::Admitted(admitted), Event::Spend(spend)]
}

/// The answer to it: one signature, which no key made.
pub fn answer(spend: &Event, random: &mut StdRng) -> Event {
    let Event::Spend(Spend { request, transaction, .. }) = spend else { panic!("{spend:?}") };
    let mut transaction: Transaction = deserialize(transaction).unwrap();
    let mut compact = [1; 64];
    random.fill(&mut compact[1..32]);
    random.fill(&mut compact[33..]);
    let made = Signature::from_compact(&compact).unwrap().serialize_der();
    let made = [made.as_ref(), &[1]].concat();
    transaction.input[0].witness = Witness::from_slice(&[made, vec![2; 33]]);
    Event::Signed { request: *request, transaction: serialize(&transaction) }
}

/// The usual lanes, and 500 rules over them: 100 limits, 200 requirements, 200 denials.
pub fn rules(descriptors: &Descriptors) -> Rules {
    let mut more = String::new();
    for person in 0..3 {
        let key = ed25519_dalek::SigningKey::from_bytes(&[30 + person; 32]).verifying_key();
        let key = hex::encode(key.to_bytes());
        writeln!(
            more,
            "[[officer]]\nname = \"o{person}\"\ned25519 = \"{key}\"\ndomain = \"d{person}\""
        )
        .unwrap();
    }
    more.push_str("[[group]]\nname = \"risk\"\nmembers = [\"o0\", \"o1\", \"o2\"]\n");
    for list in 0..LISTS {
        writeln!(more, "[[list]]\nname = \"l{list}\"\nmatures = \"1d\"\nentries = [").unwrap();
        for entry in 0..ENTRIES {
            let script = script(list * ENTRIES + entry).to_hex_string();
            writeln!(more, "{{ label = \"e{entry}\", script = \"{script}\" }},").unwrap();
        }
        more.push_str("]\n");
    }
    let by = ["global", "lane", "client", "wallet", "orderer", "destination"];
    let windows = ["60s", "1h", "1d", "7d", "30d", "90d"];
    for at in 0..100 {
        let (by, window) = (by[at % by.len()], windows[at / by.len() % windows.len()]);
        let what = if at % 2 == 0 { "sum = \"20000000 BTC\"" } else { "count = 4000000000" };
        let lanes = if at % 5 == 0 { "lanes = [\"withdraw\"]\n" } else { "" };
        writeln!(
            more,
            "[[limit]]\nname = \"limit-{at}\"\n{lanes}by = \"{by}\"\nwindow = \"{window}\"\n{what}"
        )
        .unwrap();
    }
    for at in 0..200_usize {
        let list = at as u64 % LISTS;
        let when = match at % 4 {
            0 => format!("unlisted = [\"l{list}\"], above = \"{} BTC\"", 100 + at),
            1 => format!("listed = [\"l{list}\"], above = \"{} BTC\"", 100 + at),
            2 => format!("lanes = [\"withdraw\"], above = \"{} BTC\"", 100 + at),
            _ => {
                let (by, window) = (by[at % by.len()], windows[at % windows.len()]);
                format!("above = \"20000000 BTC\", window = \"{window}\", by = \"{by}\"")
            }
        };
        writeln!(
            more,
            "[[require]]\nname = \"require-{at}\"\nwhen = {{ {when} }}\napprovals = \"1 of risk\""
        )
        .unwrap();
        let when = match at % 2 {
            0 => format!("listed = [\"l{list}\"], clients = [\"payout-desk\"]"),
            _ => format!("lanes = [\"sweep\"], above = \"{} BTC\"", 100 + at),
        };
        writeln!(more, "[[deny]]\nname = \"deny-{at}\"\nwhen = {{ {when} }}").unwrap();
    }
    let limit = 2_000_000_000_000_000;
    let knobs = Knobs { limit, fee_budget: limit, more, ..Knobs::default() };
    common::rules(descriptors, &knobs)
}

pub fn script(number: u64) -> ScriptBuf {
    let mut hash = [5; 20];
    hash[..8].copy_from_slice(&number.to_le_bytes());
    ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array(hash))
}
