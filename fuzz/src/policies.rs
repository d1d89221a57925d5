//! The officers' policy and the descriptors in it: what is read gives the scripts that miniscript gives and the
//! watcher too, whichever of them a stranger wrote.

use std::str::FromStr as _;

use asset::Network;
use miniscript::descriptor::checksum;
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::names::KeyName;
use policy::people::OfficerKey;
use policy::rules::LaneKind;
use policy::{Rules, SignedPolicy};
use signer::wallets::{Wallet, Wallets};
use watcher::config::{Purpose, WalletConfig};

use crate::common::{
    Descriptors, Knobs, descriptor as account, officer, policy_signatures, policy_text,
};

pub(crate) fn policy(data: &[u8]) {
    let text = &*String::from_utf8_lossy(data);
    let checked = policy::signed::check(text, Network::Regtest);
    let rules = verified(text);
    // People who check before they sign must see what the signer will see.
    assert_eq!(checked.is_ok(), rules.is_some(), "{checked:?}");
    let Some(rules) = rules else { return };
    assert_eq!(rules.text(), text);
    for lane in rules.lanes() {
        assert!(
            !lane.clients.is_empty() && !lane.wallets.is_empty() && !lane.fee_budget.is_empty()
        );
        assert!(lane.wallets.iter().all(|wallet| rules.wallet(wallet).is_some()));
        for grant in &lane.clients {
            let wallets = grant.wallets.as_ref();
            let part =
                |all: &Vec<_>| !all.is_empty() && all.iter().all(|w| lane.wallets.contains(w));
            assert!(rules.knows(&grant.client) && wallets.is_none_or(part));
            let keys = grant.order_keys.as_ref();
            let payable = |key| match &lane.kind {
                LaneKind::Withdraw { order_keys, .. } => order_keys.contains(key),
                LaneKind::Bump { .. } => rules.order_key(key).is_some(),
                LaneKind::Sweep { .. } | LaneKind::Consolidate | LaneKind::Evacuate { .. } => false,
            };
            assert!(keys.is_none_or(|all| !all.is_empty() && all.iter().all(payable)));
        }
    }
    scripts(&rules);
}

/// The descriptor as it is; a first byte that is odd gives it the checksum it should have.
pub(crate) fn descriptor(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else { return };
    let Ok(body) = core::str::from_utf8(rest) else { return };
    let text = if mode % 2 == 1 { summed(body) } else { body.to_owned() };
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return; // how the policy refuses these is the policy's target
    }
    for tier in ["cold", "token-hd"] {
        let knobs = Knobs::default();
        let written =
            policy_text(&Descriptors { cold: text.clone(), ..Descriptors::fixed() }, &knobs);
        let written = if tier == "cold" {
            written
        } else {
            // One more wallet, that nobody has a lane to.
            let extra = format!(
                "[[wallet]]\nname = \"more\"\ntier = \"token-hd\"\ndescriptor = {text:?}\nindex_window = 20\n"
            );
            policy_text(&Descriptors::fixed(), &knobs) + &extra
        };
        if let Some(rules) = verified(&written) {
            scripts(&rules);
        }
    }
}

fn verified(text: &str) -> Option<Rules> {
    let pinned = [(
        KeyName::parse("alice").unwrap(),
        OfficerKey::Ed25519(officer().verifying_key().to_bytes()),
    )];
    let signatures = policy_signatures(text);
    SignedPolicy { text, signatures: &signatures }.verify(&pinned, 1, Network::Regtest).ok()
}

/// Every script as miniscript derives it, and as the watcher does if it takes the descriptor at all.
fn scripts(rules: &Rules) {
    let Ok(wallets) = Wallets::new(rules) else { return };
    for wallet in wallets.iter() {
        assert!(rules.wallets().iter().any(|pinned| pinned.descriptor == wallet.descriptor()));
        by_miniscript(wallet);
        by_watcher(wallet);
    }
}

const INDEXES: [u32; 3] = [0, 1, (1 << 31) - 1];

fn by_miniscript(wallet: &Wallet) {
    let whole = Descriptor::<DescriptorPublicKey>::from_str(wallet.descriptor()).unwrap();
    let branches = whole.into_single_descriptors().unwrap();
    for (branch, change) in branches.iter().zip([false, true]) {
        for index in INDEXES {
            let theirs = branch.at_derivation_index(index).ok().map(|at| at.script_pubkey());
            assert_eq!(wallet.script(change, index), theirs);
        }
    }
    assert_eq!(wallet.script(false, 1 << 31), None, "no hardened child of a public key");
}

fn by_watcher(wallet: &Wallet) {
    let config = WalletConfig {
        name: wallet.name().to_string(),
        descriptor: wallet.descriptor().to_owned(),
        purpose: Purpose::Deposits,
        tenant: "main".to_owned(),
        lookahead: 1,
        birthday: 0,
    };
    let read = watcher::wallets::Wallets::parse(&[config], bitcoin::Network::Regtest);
    let Ok(read) = read else { return };
    let theirs = read.find(wallet.name().as_str()).unwrap();
    for (branch, change) in
        [(watcher::scan::Branch::External, false), (watcher::scan::Branch::Change, true)]
    {
        for index in INDEXES {
            assert_eq!(wallet.script(change, index), theirs.script(branch, index).ok());
        }
    }
}

fn summed(body: &str) -> String {
    let mut engine = checksum::Engine::new();
    match engine.input(body) {
        Ok(()) => format!("{body}#{}", engine.checksum()),
        Err(_) => body.to_owned(),
    }
}

pub(crate) fn policy_seeds() -> Vec<Vec<u8>> {
    let log = Some("cofferdam/0123456789abcdef".to_owned());
    let ours = policy_text(&Descriptors { log, ..Descriptors::fixed() }, &Knobs::default());
    let example = include_str!("../../policy/examples/policy.toml");
    let narrow = "clients = [{ name = \"watcher-1\", wallets = [\"hot\"], order_keys = [\"shop\"], expires_unix = 1798761600 }]\nwallets = [\"hot\"]";
    let narrowed = ours.replacen("clients = [\"watcher-1\"]\nwallets = [\"hot\"]", narrow, 1);
    assert!(narrowed.contains(narrow));
    vec![ours.into(), example.replace("testnet4", "regtest").into(), narrowed.into()]
}

pub(crate) fn descriptor_seeds() -> Vec<Vec<u8>> {
    let whole = account(9);
    let body = whole.split_once('#').unwrap().0;
    let key = body.strip_prefix("wpkh(").and_then(|rest| rest.strip_suffix(')')).unwrap();
    let other = account(8);
    let other = other.strip_prefix("wpkh(").and_then(|rest| rest.split_once(')')).unwrap().0;
    let mut seeds = vec![[b"\0", whole.as_bytes()].concat()];
    let shapes = [
        body.to_owned(),
        format!("sh(wpkh({key}))"),
        format!("pkh({key})"),
        format!("tr({key})"),
        format!("wsh(sortedmulti(2,{key},{other}))"),
        format!("wsh(and_v(v:pk({key}),older(144)))"),
        format!("wpkh({})", key.replace("<0;1>/*", "*")),
    ];
    seeds.extend(shapes.iter().map(|shape| [b"\x01", shape.as_bytes()].concat()));
    // BIP-32's extended keys, those that must be refused among them, where ours stands.
    let file = include_str!("../../ceremony/tests/vectors/bip32.json");
    let vectors: serde_json::Value = serde_json::from_str(file).unwrap();
    let valid = vectors["valid"].as_array().unwrap().iter().map(|node| &node["xpub"]);
    let invalid = vectors["invalid"].as_array().unwrap().iter().map(|case| &case["key"]);
    for key in valid.chain(invalid).filter_map(serde_json::Value::as_str) {
        seeds.push(format!("\x01wpkh({key}/<0;1>/*)").into());
    }
    seeds
}
