//! What the signer derives and reads, held against software that nobody here wrote: addresses against bitcoind and
//! `bdk_wallet`, what a PSBT says against bitcoind's `decodepsbt` and `analyzepsbt`. `COFFERDAM_RANDOM_TRANSACTIONS`
//! also says how many addresses: forty for each transaction.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bdk_wallet::{KeychainKind, Wallet as BdkWallet};
use bitcoin::bip32::{DerivationPath, Xpriv, Xpub};
use bitcoin::{Amount, Network, NetworkKind, Transaction};
use devnet::Node;
use devnet::stack::with_checksum;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::{ClientName, KeyName, WalletName};
use policy::people::OfficerKey;
use policy::signed::signature_line;
use policy::{Rules, SignedPolicy, sign_message};
use rand::Rng;
use serde_json::{Value, json};
use signer::request::psbt::{self, Version};
use signer::request::{Draft, asked};
use signer::wallets::Wallets;

use crate::kinds::{counted, seeded};
use crate::said;
use crate::world::{Ask, CHILDREN};

/// Addresses that one call asks the node for, on both branches.
const RANGE: u32 = 10;
/// Descriptors of each kind.
pub(crate) const DESCRIPTORS: usize = 4;
const LAST: u32 = (1 << 31) - 1;

/// The kinds: how a descriptor of each is made of its keys, how many they are, their path, and the tier.
pub(crate) const KINDS: [(&str, usize, &str, &str); 5] = [
    ("wpkh(@)", 1, "84h/1h/7h", "token-hd"),
    ("sh(wpkh(@))", 1, "49h/1h/7h", "token-hd"),
    ("pkh(@)", 1, "44h/1h/7h", "token-hd"),
    ("wsh(sortedmulti(2,@))", 3, "48h/1h/7h/2h", "token-hd"),
    ("tr(@)", 1, "86h/1h/7h", "sealed-hd"),
];

/// A policy of these wallets, signed here: its rules, as the signer reads them.
pub(crate) fn rules(wallets: &str) -> Rules {
    let officer = SigningKey::from_bytes(&[5; 32]);
    let name = KeyName::parse("alice").unwrap();
    let signed = signature_line(&name, &officer.sign(&sign_message(wallets)).to_bytes());
    let pinned = [(name, OfficerKey::Ed25519(officer.verifying_key().to_bytes()))];
    let policy = SignedPolicy { text: wallets, signatures: &signed };
    policy.verify(&pinned, 1, asset::Network::Regtest).unwrap()
}

pub(crate) fn descriptor(rng: &mut impl Rng, form: &str, keys: usize, path: &str) -> String {
    let steps = DerivationPath::from_str(path).unwrap();
    let key = |_| {
        let master = Xpriv::new_master(NetworkKind::Test, &rng.r#gen::<[u8; 32]>()).unwrap();
        let account = master.derive_priv(secp256k1::SECP256K1, &steps).unwrap();
        let account = Xpub::from_priv(secp256k1::SECP256K1, &account);
        format!("[{}/{path}]{account}/<0;1>/*", master.fingerprint(secp256k1::SECP256K1))
    };
    let keys: Vec<String> = (0..keys).map(key).collect();
    with_checksum(&form.replace('@', &keys.join(","))).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_are_those_of_bitcoind_and_bdk() {
    let mut rng = seeded("cross-checked addresses");
    let each = (counted() * 40 / KINDS.len() / DESCRIPTORS).max(1);
    let node = Node::start().await.unwrap();
    let mut compared = BTreeMap::new();
    for (form, keys, path, tier) in KINDS {
        for _ in 0..DESCRIPTORS {
            let text = descriptor(&mut rng, form, keys, path);
            let policy = [
                "version = 1\nnetwork = \"regtest\"\n[[client]]\nname = \"w\"\nattest = [\"w\"]\nstatus = true\n",
                &format!("[[wallet]]\nname = \"w\"\ntier = \"{tier}\"\ndescriptor = \"{text}\"\nindex_window = 20\n"),
            ].concat();
            let ours = Wallets::new(&rules(&policy)).unwrap();
            let wallet = ours.wallet(&WalletName::parse("w").unwrap()).unwrap();
            let bdk = BdkWallet::create_from_two_path_descriptor(text.clone());
            let bdk = bdk.network(Network::Regtest).create_wallet_no_persist().unwrap();
            let mut first = 0;
            let mut done = 0;
            while done < each {
                let range = [first, first + RANGE - 1];
                let said = node.rpc("deriveaddresses", json!([text, range])).await.unwrap();
                let [external, change]: [Vec<String>; 2] = said;
                for (branch, said) in [(false, external), (true, change)] {
                    assert_eq!(u32::try_from(said.len()).unwrap(), RANGE);
                    for (index, said) in (first..=LAST).zip(said) {
                        let place = wallet.place(branch, index).unwrap();
                        let address = ours.address_of(&place.script);
                        assert_eq!(address, said, "{text}, {branch}, {index}");
                        assert_eq!(wallet.script(branch, index).as_ref(), Some(&place.script));
                        let keychain =
                            if branch { KeychainKind::Internal } else { KeychainKind::External };
                        let peeked = bdk.peek_address(keychain, index);
                        assert_eq!((peeked.index, peeked.to_string()), (index, said), "{text}");
                        *compared.entry(form).or_insert(0) += 1;
                        done += 1;
                    }
                }
                first = if first == 0 { LAST - RANGE + 1 } else { rng.gen_range(0..LAST - RANGE) };
            }
        }
    }
    println!("cross-checked addresses: {compared:?}");
    assert!(compared.len() == KINDS.len() && compared.values().all(|count| *count >= each));
}

/// Reads PSBTs as the signer does, and has the node read the same.
pub(crate) struct Reader {
    rules: Rules,
    wallets: Wallets,
    /// How many were compared, and of how many the node knew the fee.
    pub(crate) compared: [usize; 2],
}

impl Reader {
    /// By the wallets of a policy.
    pub(crate) fn new(policy: &str) -> Self {
        let rules = rules(policy);
        let wallets = Wallets::new(&rules).unwrap();
        Self { rules, wallets, compared: [0; 2] }
    }

    /// What is asked, as the signer proves it: unsigned, so that nothing is finished.
    pub(crate) async fn asked(&mut self, node: &Node, wallet: &str, ask: &Ask) -> Amount {
        let header = proto::SignHeader {
            idempotency_key: ask.key.clone(),
            lane: ask.lane.to_owned(),
            wallet: wallet.to_owned(),
            psbt: psbt::write(&ask.psbt, ask.version).unwrap(),
            orders: ask.orders.clone(),
        };
        let caller = asked(ClientName::parse("watcher-1").unwrap(), &ask.key).unwrap();
        let mut draft = Draft::read(caller, &header, &self.rules, &self.wallets).unwrap();
        let parents: BTreeMap<_, _> =
            ask.coins.iter().map(|coin| (coin.parent.compute_txid(), &coin.parent)).collect();
        for parent in parents.values() {
            draft.add_parent(&bitcoin::consensus::serialize(*parent)).unwrap();
        }
        let proven = [CHILDREN.external, CHILDREN.change];
        let request = draft.prove(&self.rules, &self.wallets, proven).unwrap();
        let fee = u64::try_from(request.intent().fee.amount.units()).unwrap();
        self.read(node, &header.psbt, Amount::from_sat(fee)).await;
        Amount::from_sat(fee)
    }

    /// The same with everything that makes it a transaction, and with every parent: the node has nothing left to do.
    pub(crate) async fn finished(&mut self, node: &Node, ask: &Ask, transaction: &Transaction) {
        let mut psbt = ask.psbt.clone();
        for ((fields, input), coin) in
            psbt.inputs.iter_mut().zip(&transaction.input).zip(&ask.coins)
        {
            fields.non_witness_utxo = Some(coin.parent.clone());
            fields.final_script_sig =
                (!input.script_sig.is_empty()).then(|| input.script_sig.clone());
            fields.final_script_witness =
                (!input.witness.is_empty()).then(|| input.witness.clone());
        }
        let coins: Amount = ask.coins.iter().map(|coin| coin.paid().unwrap().value).sum();
        let paid: Amount = transaction.output.iter().map(|output| output.value).sum();
        let bytes = psbt::write(&psbt, ask.version).unwrap();
        let known = self.compared[1];
        let analyzed = self.read(node, &bytes, coins - paid).await;
        assert_eq!(self.compared[1], known + 1, "with every parent the fee is known");
        assert_eq!(analyzed["next"], "extractor", "{analyzed}");
        let vsize = analyzed["estimated_vsize"].as_u64().unwrap();
        assert_eq!(vsize, u64::try_from(transaction.vsize()).unwrap(), "{analyzed}");
    }

    /// Both readings of ours, and the node's; gives what `analyzepsbt` says.
    pub(crate) async fn read(&mut self, node: &Node, bytes: &[u8], fee: Amount) -> Value {
        let (whole, version) = psbt::read(bytes).unwrap();
        let (apart, named, version_apart) = psbt::read_apart(bytes).unwrap();
        assert_eq!(version, version_apart);
        // The node reads version 0 alone. What came in version 2 is written by us from what was read of it.
        let first = match version {
            Version::Zero => bytes.to_vec(),
            Version::Two => psbt::write(&whole, Version::Zero).unwrap(),
        };
        let text = STANDARD.encode(first);
        let decoded: Value = node.rpc("decodepsbt", json!([text])).await.unwrap();
        assert_eq!(said::theirs(&decoded), said::ours(&apart, &named), "{text}");
        let analyzed: Value = node.rpc("analyzepsbt", json!([text])).await.unwrap();
        assert!(analyzed.get("error").is_none(), "{analyzed}");
        assert_eq!(decoded.get("fee"), analyzed.get("fee"));
        if let Some(told) = decoded.get("fee") {
            assert_eq!(said::amount(told), fee, "{text}");
            self.compared[1] += 1;
        }
        self.compared[0] += 1;
        analyzed
    }
}
