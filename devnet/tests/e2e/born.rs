//! A key that was born in the token as one of two, whole: made, attested, pinned by the policy, paid to, signed for, completed
//! by another cosigner, and taken by the node.

use std::fs;
use std::str::FromStr as _;

use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bitcoin::consensus::encode;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, NetworkKind, Psbt, Transaction};
use devnet::Stack;
use devnet::forge::{self, Coin, Output};
use devnet::stack::Options;
use miniscript::psbt::PsbtExt as _;
use miniscript::{Descriptor, DescriptorPublicKey};
use tonic::codegen::tokio_stream;

const COIN: Amount = Amount::from_sat(4_000_000);

/// The other cosigner, who is not here.
fn other() -> (Xpriv, String) {
    let curve = Secp256k1::new();
    let master = Xpriv::new_master(NetworkKind::Test, &[31; 32]).unwrap();
    let path = DerivationPath::from_str("m/48h/1h/0h/2h").unwrap();
    let xpub = Xpub::from_priv(&curve, &master.derive_priv(&curve, &path).unwrap());
    (master, format!("[{}/48h/1h/0h/2h]{xpub}/<0;1>/*", master.fingerprint(&curve)))
}

/// The next version of the policy, with the wallet `vault`, which the sweep lane may spend.
fn pin(stack: &Stack, descriptor: &str) {
    let file = stack.dir().join("signer").join("policy.toml");
    let before = fs::read_to_string(&file).unwrap();
    let wallet = format!(
        "[[wallet]]\nname = \"vault\"\ntier = \"token\"\ndescriptor = {descriptor:?}\nindex_window = 100\n\n[[order_key]]"
    );
    let after = before
        .replacen("version = 1", "version = 2", 1)
        .replacen("[[order_key]]", &wallet, 1)
        .replacen("wallets = [\"deposits\"]", "wallets = [\"deposits\", \"vault\"]", 1);
    fs::write(&file, after).unwrap();
    let key = stack.dir().join("officer").join("alice.key");
    let (file, key) = (file.to_str().unwrap(), key.to_str().unwrap());
    stack.run("officer", &["policy", "sign", file, "--key", key, "--yes"]).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_key_and_another_cosigner_spend_what_the_node_takes() {
    let mut stack = Stack::start_without_watcher(Options::default()).await.unwrap();
    stack.signer.stop().unwrap();
    let said = stack.run_signer(&["token-key", "generate", "vault-1"]).unwrap();
    assert!(said.contains("vault-1 (tier token): made now"), "{said}");
    let ours = said.split_whitespace().last().unwrap().to_owned();
    let again = stack.run_signer(&["token-key", "generate", "vault-1"]).unwrap();
    assert!(again.contains("was there") && again.contains(&ours), "{again}");

    let attested = stack.dir().join("vault-1.attested");
    let file = attested.to_str().unwrap();
    stack.run_signer(&["token-key", "attest", "vault-1", "--out", file]).unwrap();
    let pinned = stack.token().attestation.clone();
    let check = ["token-key", "verify", "--key", &pinned, "--public-key", &ours, file];
    let said = stack.run("officer", &check).unwrap();
    assert!(said.contains("CKA_NEVER_EXTRACTABLE true"), "{said}");
    let lie = fs::read_to_string(&attested).unwrap().replace("vault-1", "vault-2");
    fs::write(&attested, lie).unwrap();
    assert!(stack.run("officer", &check).is_err());

    let (master, theirs) = other();
    let text = format!("wsh(sortedmulti(2,{ours},{theirs}))");
    let vault = Descriptor::<DescriptorPublicKey>::from_str(&text).unwrap().to_string();
    pin(&stack, &vault);
    stack.start_signer().await.unwrap();
    let listed = stack.signer_as("watcher-1").unwrap().status(proto::StatusRequest {}).await;
    let wallets = listed.unwrap().into_inner().wallets;
    let shown = wallets.iter().find(|wallet| wallet.name == "vault").unwrap();
    assert_eq!((shown.tier.as_str(), shown.key_state.as_str()), ("token", "active"));

    let mut coins = Vec::new();
    for index in [0, 5] {
        let address = forge::address(&vault, 0, index).unwrap();
        let paid = stack.node.pay(&address.to_string(), COIN).await.unwrap();
        let parent = stack.node.transaction(paid).await.unwrap();
        coins.push(Coin::find(parent, &address, 0, index).unwrap());
    }
    stack.node.mine(1).await.unwrap();
    let to_cold = COIN * 2 - Amount::from_sat(2_000);
    let cold = stack.descriptors().cold.clone();
    let output = Output::ours(&cold, 0, 0, to_cold).unwrap();
    let psbt = forge::psbt(&vault, &coins, &[output]).unwrap();
    let request = forge::request("born-1", "sweep", "vault", &psbt, &coins, Vec::new());
    let mut signer = stack.signer_as("watcher-1").unwrap();
    let reply = signer.sign(tokio_stream::iter(request)).await.unwrap().into_inner();
    assert_eq!((reply.tier.as_str(), reply.transaction.is_empty()), ("token", true));

    let curve = Secp256k1::new();
    let mut both = Psbt::deserialize(&reply.psbt).unwrap();
    both.sign(&master, &curve).unwrap();
    let whole = both.clone().finalize(&curve).unwrap().extract(&curve).unwrap();
    let verdict = stack.node.test_accept(&whole).await.unwrap();
    assert!(verdict.allowed, "{}", verdict.reason);
    // Given back with the other's signatures, the signer answers with the whole transaction.
    let request = forge::request("born-2", "sweep", "vault", &both, &coins, Vec::new());
    let reply = signer.sign(tokio_stream::iter(request)).await.unwrap().into_inner();
    let signed: Transaction = encode::deserialize(&reply.transaction).unwrap();
    stack.node.send(&signed).await.unwrap();
    stack.node.mine(1).await.unwrap();
    assert_eq!(stack.node.balance(&cold, 10).await.unwrap(), to_cold);

    stack.signer.stop().unwrap();
    let list = stack.run_signer(&["token-key", "list"]).unwrap();
    for part in ["vault-1 ", " token ", " active ", &ours, " vault"] {
        assert!(list.contains(part), "{list}");
    }
    let told = ["token-key", "suspend", "vault-1", "--reason", "a test"];
    assert!(stack.run_signer(&told).unwrap().contains("suspended"));
    let log = stack.verify_log().unwrap();
    assert!(log.contains("token key"), "{log}");
}
