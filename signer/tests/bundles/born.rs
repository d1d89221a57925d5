//! Which descriptors may have keys of the tier `token`, and that such wallets have no bundles.

use std::str::FromStr as _;

use bitcoin::NetworkKind;
use bitcoin::bip32::{Xpriv, Xpub};
use miniscript::{Descriptor, DescriptorPublicKey};
use secp256k1::{SECP256K1, SecretKey};
use signer::import::ImportError;
use signer::wallets::{ScriptKind, WalletError, Wallets};
use tempfile::TempDir;

use crate::support::{House, PEM, ceremony, signed, wallet};

fn plain(byte: u8) -> String {
    SecretKey::from_slice(&[byte; 32]).unwrap().public_key(SECP256K1).to_string()
}

fn extended(byte: u8) -> String {
    let master = Xpriv::new_master(NetworkKind::Test, &[byte; 32]).unwrap();
    format!("{}/<0;1>/*", Xpub::from_priv(SECP256K1, &master))
}

fn read(tier: &str, descriptor: &str) -> Result<Wallets, WalletError> {
    let descriptor = Descriptor::<DescriptorPublicKey>::from_str(descriptor).unwrap().to_string();
    let name = if tier == "cold" { "cold" } else { "deposits" };
    Wallets::new(&signed(name, &[("descriptor", &descriptor), ("tier", tier)]))
}

#[test]
fn a_plain_key_stands_in_a_multisig_of_this_tier_alone() {
    let (one, two, other) = (plain(1), plain(2), extended(3));
    let mixed = format!("wsh(sortedmulti(2,{one},{other}))");
    let wallets = read("token", &mixed).unwrap();
    let deposits = wallets.wallet(&wallet("deposits")).unwrap();
    assert_eq!(deposits.kind(), ScriptKind::P2wshSortedMulti { needed: 2, keys: 2 });
    assert!(deposits.is_ranged() && deposits.own().is_empty());
    let parsed = Descriptor::<DescriptorPublicKey>::from_str(&mixed).unwrap();
    for (change, branch) in parsed.into_single_descriptors().unwrap().into_iter().enumerate() {
        for index in [0, 1, 70_000, (1 << 31) - 1] {
            let derived = branch.at_derivation_index(index).unwrap().script_pubkey();
            assert_eq!(deposits.script(change == 1, index), Some(derived));
        }
    }
    // Nothing but plain keys is one address.
    let wallets = read("token", &format!("wsh(sortedmulti(1,{one},{two}))")).unwrap();
    let deposits = wallets.wallet(&wallet("deposits")).unwrap();
    assert!(!deposits.is_ranged());
    assert_eq!(deposits.script(false, 0), deposits.script(true, 0));
    assert_eq!((deposits.script(false, 1), deposits.script(true, 1)), (None, None));

    for (tier, descriptor, why) in [
        ("token-hd", mixed.clone(), "every key must be"),
        ("sealed-hd", format!("wpkh({one})"), "every key must be"),
        ("cold", mixed, "every key must be"),
        ("token", format!("wsh(sortedmulti(2,{},{other}))", extended(4)), "plain public key"),
        ("token", format!("wpkh({other})"), "plain public key"),
        ("token", format!("tr({one})"), "plain public key"),
        ("token", format!("wsh(and_v(v:pk({one}),pk({other})))"), "plain public key"),
        ("token", format!("wpkh({one})"), "cloning_proof"),
        ("token", format!("sh(wpkh({one}))"), "cloning_proof"),
        ("token", format!("pkh({one})"), "cloning_proof"),
        ("token", format!("wsh(sortedmulti(1,{one}))"), "cloning_proof"),
    ] {
        match read(tier, &descriptor) {
            Err(WalletError::Descriptor { reason, .. }) => {
                assert!(reason.contains(why), "{tier} {descriptor}: {reason}");
            }
            other => panic!("{tier} {descriptor}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn such_a_wallet_has_no_bundle() {
    let (house, offline) = (House::new(&PEM).await, TempDir::new().unwrap());
    let made = ceremony(offline.path(), bundle::Network::Regtest, &PEM, [2, 2]);
    let text = format!("wsh(sortedmulti(2,{},{}))", plain(1), extended(3));
    let descriptor = Descriptor::<DescriptorPublicKey>::from_str(&text).unwrap().to_string();
    let rules = signed("deposits", &[("descriptor", &descriptor), ("tier", "token")]);
    let log = house.open().await;
    let refused = house.import(&log, &rules, "deposits", &made.path).await;
    assert!(matches!(refused, Err(ImportError::Tier { .. })), "{refused:?}");
}
