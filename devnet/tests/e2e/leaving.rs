//! The way out of every kind of wallet: the token, its bundles and everything of ours are gone, and shares, descriptors and
//! the node's own wallet give every coin back.

use std::path::{Path, PathBuf};

use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, NetworkKind};
use devnet::Node;
use devnet::forge;
use devnet::stack::{Account, Children, Host, Script, Tier, with_checksum};
use serde_json::{Value, json};
use slip39::{Mnemonic, Passphrase, Recovery};

const COIN: Amount = Amount::from_sat(5_000_000);
/// Where coins are: the first address, one that a wallet scans only when told how far, and change.
const PLACES: [(usize, u32); 3] = [(0, 0), (0, 150), (1, 2)];

/// What people have: two shares, and a descriptor.
pub(crate) struct Keys {
    pub(crate) shares: [PathBuf; 2],
    pub(crate) descriptor: PathBuf,
}

/// `ceremony exit`.
pub(crate) fn by_program(
    ceremony: impl Fn(&[&str]) -> anyhow::Result<String>,
    keys: &Keys,
    (account, script): (u32, Script),
) -> String {
    let out = keys.descriptor.with_extension("private");
    let ([one, two], account) = (&keys.shares, account.to_string());
    let mut arguments = vec!["exit", "--network=regtest", "--wallet-account", &account];
    arguments.extend(["--script", script.name(), "--share", text(one), "--share", text(two)]);
    arguments.extend(["--descriptor", text(&keys.descriptor), "--out", text(&out)]);
    ceremony(&arguments).unwrap();
    std::fs::read_to_string(&out).unwrap().trim().to_owned()
}

/// The private descriptor without our program: seed from shares, BIP-32 by another library, checksum by the node.
pub(crate) async fn by_hand(node: &Node, keys: &Keys, path: &str) -> String {
    let mut recovery = Recovery::new();
    for share in &keys.shares {
        let words = std::fs::read_to_string(share).unwrap();
        recovery.add(Mnemonic::parse(words.trim()).unwrap()).unwrap();
    }
    let seed = recovery.recover(&Passphrase::none()).unwrap();
    let path: DerivationPath = path.parse().unwrap();
    let secp = Secp256k1::new();
    let master = Xpriv::new_master(NetworkKind::Test, &seed).unwrap();
    let key = master.derive_priv(&secp, &path).unwrap();
    let descriptor = std::fs::read_to_string(&keys.descriptor).unwrap();
    let (body, _) = descriptor.split_once('#').unwrap();
    let private = body.replace(&Xpub::from_priv(&secp, &key).to_string(), &key.to_string());
    assert_ne!(private, body, "the shares give the descriptor's key");
    let info: Value = node.rpc("getdescriptorinfo", json!([private])).await.unwrap();
    format!("{private}#{}", info["checksum"].as_str().unwrap())
}

/// Imports a private descriptor into a new wallet of the node's, scans the chain and spends all it finds.
pub(crate) async fn spent(node: &Node, name: &str, private: &str) -> Amount {
    let (wallet, balance) = imported(node, name, private).await;
    let out = node.new_address().await.unwrap();
    let sent: Value = node.wallet_rpc(&wallet, "sendall", json!([[out]])).await.unwrap();
    assert_eq!(sent["complete"], json!(true), "{sent}");
    settled(node, &wallet, sent["txid"].as_str().unwrap()).await;
    balance
}

/// A new wallet with the descriptor, and what it has.
async fn imported(node: &Node, name: &str, private: &str) -> (String, Amount) {
    let wallet = format!("exit-{name}");
    let _: Value = node.rpc("createwallet", json!([wallet, false, true])).await.unwrap();
    let import = json!([[{ "desc": private, "timestamp": 0, "range": [0, 1000], "active": true }]]);
    let done: Value = node.wallet_rpc(&wallet, "importdescriptors", import).await.unwrap();
    assert_eq!(done[0]["success"], json!(true), "{name}: {done}");
    let balance: f64 = node.wallet_rpc(&wallet, "getbalance", json!([])).await.unwrap();
    (wallet, Amount::from_btc(balance).unwrap())
}

/// Mined, and nothing is left in the wallet.
async fn settled(node: &Node, wallet: &str, txid: &str) {
    node.mine(1).await.unwrap();
    assert_eq!(node.confirmations(txid.parse().unwrap()).await.unwrap(), Some(1));
    let left: f64 = node.wallet_rpc(wallet, "getbalance", json!([])).await.unwrap();
    assert_eq!(Amount::from_btc(left).unwrap(), Amount::ZERO, "{wallet}");
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The wallets with one key, and its place in the tree.
const ALONE: [(&str, Tier, Script, &str); 4] = [
    ("nested", Tier::TokenHd, Script::ShWpkh, "m/49h/1h/0h"),
    ("legacy", Tier::TokenHd, Script::Pkh, "m/44h/1h/1h"),
    ("taproot", Tier::SealedHd, Script::Tr, "m/86h/1h/2h"),
    ("sealed", Tier::SealedHd, Script::Wpkh, "m/84h/1h/3h"),
];
/// The keys of the multisig.
const TOGETHER: [(&str, u32); 2] = [("one", 4), ("two", 5)];

/// The only thing from before the loss that is used: shares and descriptors.
fn keys(host: &Host, wallet: &str, shares: [u8; 2], descriptor: &str) -> Keys {
    Keys {
        shares: shares.map(|number| host.share(wallet, number)),
        descriptor: host.dir().join("ceremony").join(format!("{descriptor}.descriptor")),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn coins_of_every_script_are_had_without_token_and_bundles() {
    let host = Host::prepare().unwrap();
    let make = |wallet, number, tier, script| {
        // How many were wrapped does not matter any more: the way out has every index.
        let children = Children { external: 1, change: 1 };
        host.make_account(&Account { wallet, number, tier, script, children }).unwrap()
    };
    let mut descriptors = Vec::new();
    for (number, (wallet, tier, script, _)) in (0..).zip(ALONE) {
        descriptors.push(make(wallet, number, tier, script));
    }
    let two = TOGETHER.map(|(name, number)| make(name, number, Tier::TokenHd, Script::Cosigner));
    let vault = with_checksum(&format!("wsh(sortedmulti(2,{}))", two.join(","))).unwrap();
    for (name, _) in TOGETHER {
        let file = host.dir().join("ceremony").join(format!("vault-{name}.descriptor"));
        std::fs::write(file, &vault).unwrap();
    }
    descriptors.push(vault);

    let node = Node::start().await.unwrap();
    let mut payments = Vec::new();
    for descriptor in &descriptors {
        for (branch, index) in PLACES {
            let address = forge::address(descriptor, branch, index).unwrap();
            payments.push((address.to_string(), COIN));
        }
    }
    node.pay_many(&payments).await.unwrap();
    node.mine(1).await.unwrap();
    host.lose().unwrap();

    let all = COIN * u64::try_from(PLACES.len()).unwrap();
    for (number, (wallet, _, script, path)) in (0..).zip(ALONE) {
        let keys = keys(&host, wallet, [3, 1], wallet);
        let run = |arguments: &[&str]| host.run("ceremony", arguments);
        let private = by_program(run, &keys, (number, script));
        assert_eq!(private, by_hand(&node, &keys, path).await, "{wallet}");
        assert_eq!(spent(&node, wallet, &private).await, all, "{wallet}");
    }
    let_the_cosigners_leave(&host, &node, all).await;
}

/// Each imports the whole wallet with its own key private; one begins a PSBT, the other completes it.
async fn let_the_cosigners_leave(host: &Host, node: &Node, all: Amount) {
    let mut wallets = Vec::new();
    for (name, number) in TOGETHER {
        let keys = keys(host, name, [1, 2], &format!("vault-{name}"));
        let run = |arguments: &[&str]| host.run("ceremony", arguments);
        let private = by_program(run, &keys, (number, Script::Cosigner));
        let path = format!("m/48h/1h/{number}h/2h");
        assert_eq!(private, by_hand(node, &keys, &path).await, "{name}");
        let (wallet, balance) = imported(node, name, &private).await;
        assert_eq!(balance, all, "{name}");
        wallets.push(wallet);
    }
    let out = node.new_address().await.unwrap();
    let options = json!([[out], null, "unset", null, { "psbt": true }]);
    let begun: Value = node.wallet_rpc(&wallets[0], "sendall", options).await.unwrap();
    assert_eq!(begun["complete"], json!(false), "one key alone moves nothing: {begun}");
    let begun = json!([begun["psbt"]]);
    let both: Value = node.wallet_rpc(&wallets[1], "walletprocesspsbt", begun).await.unwrap();
    assert_eq!(both["complete"], json!(true), "{both}");
    let whole: Value = node.rpc("finalizepsbt", json!([both["psbt"]])).await.unwrap();
    let txid: String = node.rpc("sendrawtransaction", json!([whole["hex"]])).await.unwrap();
    settled(node, &wallets[1], &txid).await;
}
