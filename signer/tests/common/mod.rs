//! What the signer's tests share: a signed policy, coins with their parents, PSBTs and orders. Scripts are derived
//! by miniscript here, not by the code under test.
#![allow(dead_code, unreachable_pub, reason = "every test uses its own part")]

use std::str::FromStr as _;

use asset::{Amount as Units, Network};
use bitcoin::absolute::LockTime;
use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv, Xpub};
use bitcoin::hashes::Hash as _;
use bitcoin::psbt::Psbt;
use bitcoin::transaction::Version;
use bitcoin::{
    Address, Amount, NetworkKind, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid,
    Witness,
};
use ed25519_dalek::{Signer as _, SigningKey};
use miniscript::{Descriptor, DescriptorPublicKey, ForEachKey as _};
use order::{AddressText, Order, OrderId};
use policy::names::KeyName;
use policy::people::OfficerKey;
use policy::signed::signature_line;
use policy::{Rules, SignedPolicy, sign_message};
use secp256k1::{PublicKey, SECP256K1};

/// What tests turn in the policy. Amounts in satoshi.
#[derive(Clone, Debug)]
pub struct Knobs {
    pub version: u64,
    pub fee_budget: u64,
    pub limit: u64,
    pub index_window: u32,
    /// Names and keys, all of them required. With any, `auditor-1` may read the log.
    pub witnesses: Vec<(String, String)>,
    /// The officer who holds the key of the shop.
    pub orderer: Option<String>,
    /// Lines before all sections, and sections after all others.
    pub head: String,
    pub more: String,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            version: 1,
            fee_budget: 10_000_000,
            limit: 5_000_000_000,
            index_window: 20,
            witnesses: Vec::new(),
            orderer: None,
            head: String::new(),
            more: String::new(),
        }
    }
}

/// Descriptors of the three wallets.
#[derive(Clone, Debug)]
pub struct Descriptors {
    pub deposits: String,
    pub hot: String,
    pub cold: String,
    /// Origin of the signer's log, which its policies name.
    pub log: Option<String>,
}

impl Descriptors {
    /// Accounts of a test seed, for tests without a token.
    pub fn fixed() -> Self {
        Self { deposits: descriptor(0), hot: descriptor(1), cold: descriptor(2), log: None }
    }
}

/// An account of a test seed.
pub fn descriptor(account: u32) -> String {
    let master = Xpriv::new_master(NetworkKind::Test, &[7; 32]).unwrap();
    let path = DerivationPath::from_str(&format!("m/84h/1h/{account}h")).unwrap();
    let xpub = Xpub::from_priv(SECP256K1, &master.derive_priv(SECP256K1, &path).unwrap());
    let text = format!("wpkh([{}/84h/1h/{account}h]{xpub}/<0;1>/*)", master.fingerprint(SECP256K1));
    Descriptor::<DescriptorPublicKey>::from_str(&text).unwrap().to_string()
}

pub fn officer() -> SigningKey {
    SigningKey::from_bytes(&[8; 32])
}

pub fn shop() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

pub fn policy_text(wallets: &Descriptors, knobs: &Knobs) -> String {
    let Knobs { version, fee_budget, limit, index_window, witnesses, orderer, head, more } = knobs;
    let orderer = orderer.as_ref().map_or(String::new(), |name| format!("officer = {name:?}\n"));
    let wallet = |name: &str, tier: &str, descriptor: &str| {
        format!(
            "[[wallet]]\nname = {name:?}\ntier = {tier:?}\ndescriptor = {descriptor:?}\nindex_window = {index_window}\n"
        )
    };
    // No token signs for taproot.
    let tier = if wallets.deposits.starts_with("tr(") { "sealed-hd" } else { "token-hd" };
    let (required, witnesses) = witnesses_text(witnesses);
    let log = wallets.log.as_ref().map_or(String::new(), |log| format!("log = {log:?}\n"));
    let shop = hex::encode(shop().verifying_key().to_bytes());
    [
        format!("version = {version}\nnetwork = \"regtest\"\n{log}{required}{head}"),
        wallet("deposits", tier, &wallets.deposits),
        wallet("hot", "token-hd", &wallets.hot),
        wallet("cold", "cold", &wallets.cold),
        format!("[[order_key]]\nname = \"shop\"\ned25519 = {shop:?}\n{orderer}"),
        "[[client]]\nname = \"watcher-1\"\nattest = [\"deposits\", \"hot\"]\nstatus = true\n".into(),
        "[[client]]\nname = \"payout-desk\"\nattest = []\nstatus = false\n".into(),
        format!(
            "[[sweep]]\nname = \"sweep\"\nclients = [\"watcher-1\"]\nwallets = [\"deposits\"]\ncold = \"cold\"\n\
             min_cold_share = \"50%\"\nfee = {{ max_total = \"0.01 BTC\", max_feerate = \"100 sat/vB\", max_percent = \"5%\" }}\n\
             fee_budget = [{{ sum = \"{fee_budget} sat\", window = \"1d\" }}]\n"
        ),
        format!(
            "[[withdraw]]\nname = \"withdraw\"\nclients = [\"watcher-1\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]\n\
             per_transaction = \"2 BTC\"\nlimits = [{{ sum = \"{limit} sat\", window = \"1h\" }}]\n\
             fee = {{ max_total = \"0.01 BTC\", max_feerate = \"100 sat/vB\", max_percent = \"5%\" }}\n\
             fee_budget = [{{ sum = \"{fee_budget} sat\", window = \"1d\" }}]\n"
        ),
        witnesses,
        more.clone(),
    ]
    .concat()
}

/// What stands at the policy's head and at its end.
fn witnesses_text(witnesses: &[(String, String)]) -> (String, String) {
    if witnesses.is_empty() {
        return (String::new(), String::new());
    }
    let named = witnesses
        .iter()
        .map(|(name, key)| format!("[[witness]]\nname = {name:?}\ned25519 = {key:?}\n"));
    let auditor = "[[client]]\nname = \"auditor-1\"\nattest = []\nstatus = false\nlog = true\n";
    let text = std::iter::once(auditor.to_owned()).chain(named).collect();
    (format!("witnesses_required = {}\n", witnesses.len()), text)
}

/// The signature file for a policy.
pub fn policy_signatures(text: &str) -> String {
    let signature = officer().sign(&sign_message(text)).to_bytes();
    signature_line(&KeyName::parse("alice").unwrap(), &signature)
}

pub fn rules(wallets: &Descriptors, knobs: &Knobs) -> Rules {
    rules_of(&policy_text(wallets, knobs))
}

pub fn rules_of(text: &str) -> Rules {
    let key = OfficerKey::Ed25519(officer().verifying_key().to_bytes());
    let pinned = [(KeyName::parse("alice").unwrap(), key)];
    SignedPolicy { text, signatures: &policy_signatures(text) }
        .verify(&pinned, 1, Network::Regtest)
        .unwrap()
}

/// Key and script of a wallet's index.
pub fn child(descriptor: &str, change: bool, index: u32) -> (PublicKey, ScriptBuf) {
    let all = Descriptor::<DescriptorPublicKey>::from_str(descriptor).unwrap();
    let branch = all.into_single_descriptors().unwrap().remove(usize::from(change));
    let derived = branch.derived_descriptor(SECP256K1, index).unwrap();
    let mut keys = Vec::new();
    let _all = derived.for_each_key(|key| {
        keys.push(key.inner);
        true
    });
    (keys[0], derived.script_pubkey())
}

/// A coin with the transaction that made it.
#[derive(Clone, Debug)]
pub struct Coin {
    pub parent: Transaction,
    pub vout: u32,
    pub key: PublicKey,
    pub change: bool,
    pub index: u32,
}

impl Coin {
    pub fn outpoint(&self) -> OutPoint {
        OutPoint { txid: self.parent.compute_txid(), vout: self.vout }
    }

    pub fn output(&self) -> TxOut {
        self.parent.output[self.vout as usize].clone()
    }

    pub fn parent_bytes(&self) -> Vec<u8> {
        bitcoin::consensus::serialize(&self.parent)
    }
}

/// A coin of a wallet, at the end of a parent with `outputs` outputs. Different salts, different parents.
pub fn coin(
    descriptor: &str,
    change: bool,
    index: u32,
    sat: u64,
    salt: u64,
    outputs: usize,
) -> Coin {
    let (key, script) = child(descriptor, change, index);
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&salt.to_le_bytes());
    let elsewhere = TxOut { value: Amount::from_sat(1_000), script_pubkey: stranger(1) };
    let mut output = vec![elsewhere; outputs - 1];
    output.push(TxOut { value: Amount::from_sat(sat), script_pubkey: script });
    let input = TxIn {
        previous_output: OutPoint { txid: Txid::from_byte_array(hash), vout: 0 },
        script_sig: ScriptBuf::new(),
        sequence: Sequence::MAX,
        // With a witness, as most parents have: the txid must not cover it.
        witness: Witness::from_slice(&[vec![1; 72], vec![2; 33]]),
    };
    let parent = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output,
    };
    Coin { parent, vout: u32::try_from(outputs - 1).unwrap(), key, change, index }
}

/// Somebody else's script.
pub fn stranger(number: u8) -> ScriptBuf {
    let hash = bitcoin::WPubkeyHash::from_byte_array([number; 20]);
    ScriptBuf::new_p2wpkh(&hash)
}

pub fn address(script: &ScriptBuf) -> String {
    Address::from_script(script, bitcoin::Network::Regtest).unwrap().to_string()
}

/// One output, with the path that a wallet of ours would name.
#[derive(Clone, Debug)]
pub struct Out {
    pub script: ScriptBuf,
    pub sat: u64,
    pub path: Option<(PublicKey, u32, u32)>,
}

pub fn own(descriptor: &str, change: bool, index: u32, sat: u64) -> Out {
    let (key, script) = child(descriptor, change, index);
    Out { script, sat, path: Some((key, u32::from(change), index)) }
}

pub fn to(script: ScriptBuf, sat: u64) -> Out {
    Out { script, sat, path: None }
}

pub fn path(branch: u32, index: u32) -> DerivationPath {
    let account = DerivationPath::from_str("m/84h/1h/0h").unwrap();
    account.extend([ChildNumber::from(branch), ChildNumber::from(index)])
}

/// An unsigned PSBT with everything the signer asks for but the parents.
pub fn psbt(coins: &[Coin], outs: &[Out]) -> Psbt {
    let input = |coin: &Coin| TxIn {
        previous_output: coin.outpoint(),
        script_sig: ScriptBuf::new(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        witness: Witness::new(),
    };
    let output =
        |out: &Out| TxOut { value: Amount::from_sat(out.sat), script_pubkey: out.script.clone() };
    let mut psbt = Psbt::from_unsigned_tx(Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: outs.iter().map(output).collect(),
    })
    .unwrap();
    let origin = Fingerprint::from([0; 4]);
    for (fields, coin) in psbt.inputs.iter_mut().zip(coins) {
        fields.witness_utxo = Some(coin.output());
        let source = (origin, path(u32::from(coin.change), coin.index));
        fields.bip32_derivation.insert(coin.key, source);
    }
    for (fields, out) in psbt.outputs.iter_mut().zip(outs) {
        if let Some((key, branch, index)) = out.path {
            fields.bip32_derivation.insert(key, (origin, path(branch, index)));
        }
    }
    psbt
}

/// A header for these bytes.
pub fn header(key: &str, lane: &str, wallet: &str, psbt: &Psbt) -> proto::SignHeader {
    proto::SignHeader {
        idempotency_key: key.into(),
        lane: lane.into(),
        wallet: wallet.into(),
        psbt: psbt.serialize(),
        orders: Vec::new(),
    }
}

pub const FAR: u64 = 4_000_000_000;

pub fn order(id: &str, sat: u64, destination: &str, expires_unix: u64) -> Order {
    Order {
        id: OrderId::parse(id).unwrap(),
        asset: Network::Regtest.asset_id(),
        amount: Units::from(sat),
        destination: AddressText::parse(destination).unwrap(),
        expires_unix,
    }
}

/// The order, signed by the shop.
pub fn signed(order: &Order) -> proto::SignedOrder {
    proto::SignedOrder {
        order: order.encode(),
        signature: order.sign(&shop()).to_vec(),
        signer: "shop".into(),
    }
}
