//! Two signers as docs/multisig.md sets them up: a token, a policy, an officer and a log each, one P2WSH wallet of which
//! both must sign. What one begins the other completes, the node takes it, and what was changed on the way is refused.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bitcoin::{Amount, Psbt, Transaction};
use devnet::Node;
use devnet::forge::{self, Coin, Output};
use devnet::stack::{
    Account, Children, Host, Reply, Script, Tier, Wallet, cold_descriptor, with_checksum,
};
use proto::SignHeader;
use serde_json::{Value, json};
use signer::request::psbt::{self, Version};

const DEPOSIT: Amount = Amount::from_sat(2_000_000);
const FEE: Amount = Amount::from_sat(2_000);
/// Nobody orders anything here.
const SHOP: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";

/// One key of the vault on this host's token; returns its key expression.
fn key(host: &Host, wallet: &str, number: u32) -> String {
    let children = Children { external: 6, change: 3 };
    let (tier, script) = (Tier::TokenHd, Script::Cosigner);
    host.make_account(&Account { wallet, number, tier, script, children }).unwrap()
}

fn sign_policy(host: &Host, vault: &str, cold: &str, max_feerate: &str) {
    let wallet = |name: &str, tier, descriptor: &str| Wallet {
        name: name.to_owned(),
        tier,
        descriptor: descriptor.to_owned(),
    };
    let wallets = [wallet("vault", "token-hd", vault), wallet("cold", "cold", cold)];
    host.sign_policy(&wallets, SHOP, max_feerate).unwrap();
}

/// The two hosts, running, and what they both sign for.
struct Vault {
    node: Node,
    hosts: [Host; 2],
    descriptor: String,
    cold: String,
}

impl Vault {
    async fn open() -> Self {
        let node = Node::start().await.unwrap();
        let mut hosts = [Host::prepare().unwrap(), Host::prepare().unwrap()];
        let keys = hosts.each_ref().map(|host| key(host, "vault", 0));
        assert_ne!(keys[0], keys[1]);
        assert!(keys[0].starts_with('[') && keys[0].contains("/48h/1h/0h/2h]tpub"), "{}", keys[0]);
        // By the node's own hand, as the document says.
        let body = format!("wsh(sortedmulti(2,{}))", keys.join(","));
        let info: Value = node.rpc("getdescriptorinfo", json!([body])).await.unwrap();
        let descriptor = format!("{body}#{}", info["checksum"].as_str().unwrap());
        assert_eq!(descriptor, with_checksum(&body).unwrap());
        let cold = cold_descriptor().unwrap();
        // Each host's officers have a policy of their own: the second pays lower fees.
        for (host, max_feerate) in hosts.iter_mut().zip(["100 sat/vB", "20 sat/vB"]) {
            sign_policy(host, &descriptor, &cold, max_feerate);
            let said = host.import("vault", &host.bundle("vault")).unwrap();
            assert!(said.contains("imported, 6 external and 3 change"), "{said}");
            host.start().await.unwrap();
        }
        Self { node, hosts, descriptor, cold }
    }

    /// Pays one address each; the coins are in a block.
    async fn deposits(&self, places: &[(usize, u32)]) -> Vec<Coin> {
        let mut coins = Vec::new();
        for (branch, index) in places {
            let address = forge::address(&self.descriptor, *branch, *index).unwrap();
            let paid = self.node.pay(&address.to_string(), DEPOSIT).await.unwrap();
            let parent = self.node.transaction(paid).await.unwrap();
            coins.push(Coin::find(parent, &address, *branch, *index).unwrap());
        }
        self.node.mine(1).await.unwrap();
        coins
    }

    fn sweep(&self, coins: &[Coin], index: u32, fee: Amount) -> Psbt {
        let all = DEPOSIT * u64::try_from(coins.len()).unwrap();
        let output = Output::ours(&self.cold, 0, index, all - fee).unwrap();
        forge::psbt(&self.descriptor, coins, &[output]).unwrap()
    }

    /// Asks one of the two; the message of a refusal begins with its code.
    async fn ask(
        &self,
        host: usize,
        key: &str,
        psbt: &[u8],
        coins: &[Coin],
    ) -> Result<Reply, String> {
        let header = SignHeader {
            idempotency_key: key.to_owned(),
            lane: "sweep".to_owned(),
            wallet: "vault".to_owned(),
            psbt: psbt.to_vec(),
            orders: Vec::new(),
        };
        let host = &self.hosts[host];
        let reply = host.sign(&mut host.client().unwrap(), forge::stream(header, coins)).await;
        reply.map_err(|status| status.message().to_owned())
    }

    /// Tested, sent, mined; and the coins are in cold storage.
    async fn settle(&self, transaction: &Transaction, index: u32) {
        let verdict = self.node.test_accept(transaction).await.unwrap();
        assert!(verdict.allowed, "{}", verdict.reason);
        let txid = self.node.send(transaction).await.unwrap();
        self.node.mine(1).await.unwrap();
        assert_eq!(self.node.confirmations(txid).await.unwrap(), Some(1));
        let cold = forge::address(&self.cold, 0, index).unwrap().script_pubkey();
        assert_eq!(transaction.output.len(), 1);
        assert_eq!(transaction.output[0].script_pubkey, cold);
    }
}

/// How many signatures each input has.
fn signatures(psbt: &Psbt) -> Vec<usize> {
    psbt.inputs.iter().map(|input| input.partial_sigs.len()).collect()
}

/// As the node reads it.
fn text(psbt: &Psbt) -> String {
    STANDARD.encode(psbt.serialize())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_signers_on_two_hosts_complete_each_others_sweeps() {
    let mut vault = Vault::open().await;
    let coins = vault.deposits(&[(0, 0), (0, 5), (1, 2), (0, 1)]).await;

    // Version 0, the first host first.
    let sweep = vault.sweep(&coins[..3], 0, FEE);
    let first = vault.ask(0, "s1", &sweep.serialize(), &coins[..3]).await.unwrap();
    let first = first.shared().unwrap();
    let (partly, version) = psbt::read(&first).unwrap();
    assert_eq!((version, signatures(&partly)), (Version::Zero, vec![1, 1, 1]));
    assert_eq!(partly.unsigned_tx, sweep.unsigned_tx);
    refuses_what_was_changed(&vault, &partly, &coins[..3]).await;
    agrees_with_the_node(&vault, &partly, &sweep, &coins[..3]).await;
    let whole = vault.ask(1, "s1", &first, &coins[..3]).await.unwrap().complete().unwrap();
    assert_eq!(whole.compute_txid(), sweep.unsigned_tx.compute_txid());
    assert!(
        whole.input.iter().all(|input| input.witness.len() == 4 && input.script_sig.is_empty())
    );
    vault.settle(&whole, 0).await;

    // Version 2, the second host first. Its officers pay no more than 20 sat/vB, whoever signed already.
    let dear = vault.sweep(&coins[3..], 1, FEE * 4).serialize();
    let by_one = vault.ask(0, "dear", &dear, &coins[3..]).await.unwrap().shared().unwrap();
    let refused = vault.ask(1, "dear", &by_one, &coins[3..]).await.unwrap_err();
    assert!(refused.starts_with("policy-denied: "), "{refused}");
    let sweep = vault.sweep(&coins[3..], 1, FEE);
    let second = psbt::write(&sweep, Version::Two).unwrap();
    let first = vault.ask(1, "s2", &second, &coins[3..]).await.unwrap().shared().unwrap();
    let (partly, version) = psbt::read(&first).unwrap();
    assert_eq!((version, signatures(&partly)), (Version::Two, vec![1]));
    let whole = vault.ask(0, "s2", &first, &coins[3..]).await.unwrap().complete().unwrap();
    vault.settle(&whole, 1).await;

    let cold = vault.node.balance(&vault.cold, 10).await.unwrap();
    assert_eq!(cold, DEPOSIT * 4 - FEE * 2);
    for host in &mut vault.hosts {
        host.signer.stop().unwrap();
        let said = host.verify_log().unwrap();
        assert!(said.contains("The log holds."), "{said}");
    }
}

/// Whatever changed since the first signature: the signature tells.
async fn refuses_what_was_changed(vault: &Vault, partly: &Psbt, coins: &[Coin]) {
    type Change = fn(&mut Psbt);
    let changes: [(&str, Change); 5] = [
        ("amount", |p| p.unsigned_tx.output[0].value -= Amount::ONE_SAT),
        ("address", |p| {
            p.unsigned_tx.output[0].script_pubkey = p.unsigned_tx.output[0].script_pubkey.to_p2wsh()
        }),
        ("sequence", |p| p.unsigned_tx.input[1].sequence = bitcoin::Sequence::MAX),
        ("lock-time", |p| p.unsigned_tx.lock_time = bitcoin::absolute::LockTime::from_consensus(1)),
        ("coins", |p| {
            p.unsigned_tx.input.swap(0, 2);
            p.inputs.swap(0, 2);
        }),
    ];
    for (what, change) in changes {
        let mut changed = partly.clone();
        change(&mut changed);
        let refused = vault.ask(1, what, &changed.serialize(), coins).await.unwrap_err();
        assert!(refused.starts_with("wrong-signature: "), "{what}: {refused}");
    }
    // Without the signature it is just another transaction, and not one that the second host's officers allow.
    let mut changed = partly.clone();
    changed.inputs.iter_mut().for_each(|input| input.partial_sigs.clear());
    changed.outputs[0].bip32_derivation.clear();
    let elsewhere = vault.node.new_address().await.unwrap();
    changed.unsigned_tx.output[0] =
        Output::foreign(&elsewhere, changed.unsigned_tx.output[0].value).unwrap().paid;
    let refused = vault.ask(1, "elsewhere", &changed.serialize(), coins).await.unwrap_err();
    assert!(refused.starts_with("sweep-external: "), "{refused}");
}

/// The other host's signatures, asked for apart, are joined by the node, which knows nothing of us.
async fn agrees_with_the_node(vault: &Vault, partly: &Psbt, sweep: &Psbt, coins: &[Coin]) {
    let other = vault.ask(1, "apart", &sweep.serialize(), coins).await.unwrap().shared().unwrap();
    let (other, _) = psbt::read(&other).unwrap();
    assert_eq!(signatures(&other), vec![1; coins.len()]);
    let both = json!([[text(partly), text(&other)]]);
    let joined: String = vault.node.rpc("combinepsbt", both).await.unwrap();
    let seen: Value = vault.node.rpc("analyzepsbt", json!([joined])).await.unwrap();
    assert_eq!(seen["next"], "finalizer", "{seen}");
    let whole: Value = vault.node.rpc("finalizepsbt", json!([joined])).await.unwrap();
    assert_eq!(whole["complete"], true, "{whole}");
    let whole = whole["hex"].as_str().unwrap();
    let whole: Transaction = bitcoin::consensus::encode::deserialize_hex(whole).unwrap();
    assert!(vault.node.test_accept(&whole).await.unwrap().allowed);
    // With one of two signatures, what is missing is the other's key.
    let seen: Value = vault.node.rpc("analyzepsbt", json!([text(partly)])).await.unwrap();
    assert_eq!(seen["next"], "signer", "{seen}");
    let missing = seen["inputs"][0]["missing"]["signatures"].as_array().unwrap();
    assert_eq!(missing.len(), 1, "{seen}");
}

#[test]
fn a_signer_holds_one_key_of_a_multisig_and_no_foreign_one() {
    let host = Host::prepare().unwrap();
    let (one, two) = (key(&host, "one", 0), key(&host, "two", 1));
    key(&host, "three", 2);
    let vault = with_checksum(&format!("wsh(sortedmulti(2,{one},{two}))")).unwrap();
    sign_policy(&host, &vault, &cold_descriptor().unwrap(), "100 sat/vB");
    let import = |name| host.import("vault", &host.bundle(name)).map_err(|error| error.to_string());
    let foreign = import("three").unwrap_err();
    assert!(foreign.contains("is not the one the policy has"), "{foreign}");
    import("two").unwrap();
    let second = import("one").unwrap_err();
    assert!(
        second.contains("this signer holds a key of the multisig wallet \"vault\" already"),
        "{second}"
    );
    // The one that is there, again, changes nothing.
    import("two").unwrap();
    let said = host.verify_log().unwrap();
    assert!(said.contains("The log holds."), "{said}");
}
