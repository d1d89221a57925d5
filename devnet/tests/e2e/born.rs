//! Keys that were born in the token, whole: made, attested, pinned by the policy, paid to, signed for, and taken by the node. One
//! of two, completed by another cosigner; two of three, which are enough; and one alone, whose token was cloned.

use std::fs;
use std::str::FromStr as _;

use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bitcoin::consensus::encode;
use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Amount, NetworkKind, Psbt, Transaction};
use devnet::Stack;
use devnet::forge::{self, Coin, Output};
use devnet::stack::Options;
use miniscript::psbt::PsbtExt as _;
use miniscript::{Descriptor, DescriptorPublicKey};
use tonic::codegen::tokio_stream;

const COIN: Amount = Amount::from_sat(4_000_000);
const FEE: Amount = Amount::from_sat(2_000);

/// The other cosigner, who is not here.
fn other() -> (Xpriv, String) {
    let curve = Secp256k1::new();
    let master = Xpriv::new_master(NetworkKind::Test, &[31; 32]).unwrap();
    let path = DerivationPath::from_str("m/48h/1h/0h/2h").unwrap();
    let xpub = Xpub::from_priv(&curve, &master.derive_priv(&curve, &path).unwrap());
    (master, format!("[{}/48h/1h/0h/2h]{xpub}/<0;1>/*", master.fingerprint(&curve)))
}

/// The next version of the policy, with wallets of the tier `token`, which the sweep lane may spend.
fn pin(stack: &Stack, wallets: &[(&str, &str, &str)]) {
    let file = stack.dir().join("signer").join("policy.toml");
    let before = fs::read_to_string(&file).unwrap();
    let (mut pinned, mut names) = (String::new(), "\"deposits\"".to_owned());
    for (name, descriptor, more) in wallets {
        pinned += &format!(
            "[[wallet]]\nname = {name:?}\ntier = \"token\"\ndescriptor = {descriptor:?}\nindex_window = 100\n{more}\n"
        );
        names += &format!(", {name:?}");
    }
    let after = before
        .replacen("version = 1", "version = 2", 1)
        .replacen("[[order_key]]", &format!("{pinned}[[order_key]]"), 1)
        .replacen("wallets = [\"deposits\"]", &format!("wallets = [{names}]"), 1);
    fs::write(&file, after).unwrap();
    let key = stack.dir().join("officer").join("alice.key");
    let (file, key) = (file.to_str().unwrap(), key.to_str().unwrap());
    stack.run("officer", &["policy", "sign", file, "--key", key, "--yes"]).unwrap();
}

fn made(stack: &Stack, name: &str) -> String {
    let said = stack.run_signer(&["token-key", "generate", name]).unwrap();
    assert!(said.contains(&format!("{name} (tier token): made now")), "{said}");
    said.split_whitespace().last().unwrap().to_owned()
}

fn checked(body: &str) -> String {
    Descriptor::<DescriptorPublicKey>::from_str(body).unwrap().to_string()
}

/// Coins of a wallet, and the PSBT that sweeps them to an index of the cold wallet.
async fn asked(stack: &Stack, descriptor: &str, indexes: &[u32], cold: u32) -> (Psbt, Vec<Coin>) {
    let mut coins = Vec::new();
    for index in indexes {
        let address = forge::address(descriptor, 0, *index).unwrap();
        let paid = stack.node.pay(&address.to_string(), COIN).await.unwrap();
        let parent = stack.node.transaction(paid).await.unwrap();
        coins.push(Coin::find(parent, &address, 0, *index).unwrap());
    }
    stack.node.mine(1).await.unwrap();
    let whole = COIN * u64::try_from(coins.len()).unwrap();
    let output = Output::ours(&stack.descriptors().cold, 0, cold, whole - FEE).unwrap();
    (forge::psbt(descriptor, &coins, &[output]).unwrap(), coins)
}

/// Signed by the token alone, and taken by the node.
async fn by_the_token_alone(
    stack: &Stack,
    wallet: &str,
    descriptor: &str,
    (indexes, cold): (&[u32], u32),
) {
    let (psbt, coins) = asked(stack, descriptor, indexes, cold).await;
    let request = forge::request(wallet, "sweep", wallet, &psbt, &coins, Vec::new());
    let mut signer = stack.signer_as("watcher-1").unwrap();
    let reply = signer.sign(tokio_stream::iter(request)).await.unwrap().into_inner();
    assert_eq!((reply.tier.as_str(), reply.psbt.is_empty()), ("token", true), "{wallet}");
    let signed: Transaction = encode::deserialize(&reply.transaction).unwrap();
    assert_eq!(signed.compute_txid(), psbt.unsigned_tx.compute_txid());
    let verdict = stack.node.test_accept(&signed).await.unwrap();
    assert!(verdict.allowed, "{wallet}: {}", verdict.reason);
    // The node can tell: with one signature spoilt it takes nothing.
    let mut spoilt = signed.clone();
    let items = spoilt.input[0].witness.to_vec();
    let spoil = |item: &Vec<u8>| match item.first() {
        Some(0x30) => item.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 20)).collect(),
        _ => item.clone(),
    };
    spoilt.input[0].witness = items.iter().map(spoil).collect::<Vec<Vec<u8>>>().into();
    assert!(!stack.node.test_accept(&spoilt).await.unwrap().allowed, "{wallet}");
    stack.node.send(&signed).await.unwrap();
    stack.node.mine(1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_key_and_another_cosigner_spend_what_the_node_takes() {
    let mut stack = Stack::start_without_watcher(Options::default()).await.unwrap();
    stack.signer.stop().unwrap();
    let ours = made(&stack, "vault-1");
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
    let vault = checked(&format!("wsh(sortedmulti(2,{ours},{theirs}))"));
    let both = ["pair-1", "pair-2"].map(|name| made(&stack, name));
    let pair = checked(&format!("wsh(sortedmulti(2,{},{theirs},{}))", both[0], both[1]));
    let alone = checked(&format!("wpkh({})", made(&stack, "alone-1")));
    // What the vendor's tool printed when the token was cloned, as people keep it with the signer.
    let printed = "cloned to a token in the other safe";
    let proof = sha256::Hash::hash(printed.as_bytes()).to_string();
    let proofs = stack.dir().join("signer/state/cloning-proofs");
    fs::create_dir_all(&proofs).unwrap();
    fs::write(proofs.join(&proof), printed).unwrap();
    let proof = format!("cloning_proof = {proof:?}\n");
    pin(&stack, &[("vault", &vault, ""), ("pair", &pair, ""), ("alone", &alone, &proof)]);
    stack.start_signer().await.unwrap();
    let listed = stack.signer_as("watcher-1").unwrap().status(proto::StatusRequest {}).await;
    let wallets = listed.unwrap().into_inner().wallets;
    let shown = wallets.iter().find(|wallet| wallet.name == "vault").unwrap();
    assert_eq!((shown.tier.as_str(), shown.key_state.as_str()), ("token", "active"));

    let (psbt, coins) = asked(&stack, &vault, &[0, 5], 0).await;
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
    by_the_token_alone(&stack, "pair", &pair, (&[0, 3], 1)).await;
    // It has one address, which may be paid more than once.
    by_the_token_alone(&stack, "alone", &alone, (&[0, 0], 2)).await;
    let cold = stack.descriptors().cold.clone();
    assert_eq!(stack.node.balance(&cold, 10).await.unwrap(), (COIN * 2 - FEE) * 3);

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
