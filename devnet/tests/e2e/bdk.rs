//! PSBTs against `bdk_wallet`'s: what the watcher writes about a transaction is, field by field, what that wallet writes about
//! it, and the signer reads one of that wallet's as it stands. `COFFERDAM_RANDOM_TRANSACTIONS` says how many: fourteen for each.

use std::collections::BTreeMap;

use bdk_wallet::tx_builder::TxOrdering;
use bdk_wallet::{KeychainKind, Wallet as BdkWallet};
use bitcoin::absolute::LockTime;
use bitcoin::{Amount, Network, OutPoint, Psbt, ScriptBuf, Sequence, Transaction, TxOut};
use miniscript::descriptor::DefiniteDescriptorKey;
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::Rules;
use policy::names::{ClientName, WalletName};
use rand::Rng;
use rand::rngs::StdRng;
use signer::request::psbt::{self, Version};
use signer::request::{Draft, asked};
use signer::wallets::Wallets;
use watcher::psbt::{Input, Output, Payee, unsigned};

use crate::cross::{DESCRIPTORS, KINDS, descriptor, rules};
use crate::kinds::{counted, seeded};

/// Addresses of each branch that coins lie at and change goes to.
const ADDRESSES: u32 = 20;
/// Coins of a wallet.
const COINS: u64 = 40;
const INPUTS_MAX: usize = 6;
const OWN_MAX: u32 = 3;
const COIN_SAT: u64 = 200_000;

#[test]
fn psbts_are_those_of_bdk() {
    let mut rng = seeded("PSBTs beside bdk_wallet's");
    let each = (counted() * 14 / KINDS.len() / DESCRIPTORS).max(1);
    let (mut compared, mut inputs) = (BTreeMap::new(), 0);
    for (form, keys, path, tier) in KINDS {
        for _ in 0..DESCRIPTORS {
            let text = descriptor(&mut rng, form, keys, path);
            let mut both = Both::new(&mut rng, &text, tier);
            for number in 0..each {
                inputs += both.compare(&mut rng, number);
                *compared.entry(form).or_insert(0) += 1;
            }
        }
    }
    println!("PSBTs as bdk_wallet makes them: {compared:?}, {inputs} inputs");
    assert!(compared.len() == KINDS.len() && compared.values().all(|count| *count >= each));
}

/// One wallet, theirs and ours.
struct Both {
    bdk: BdkWallet,
    branches: Vec<Descriptor<DescriptorPublicKey>>,
    rules: Rules,
    wallets: Wallets,
    coins: BTreeMap<OutPoint, Coin>,
}

struct Coin {
    parent: Transaction,
    place: Descriptor<DefiniteDescriptorKey>,
}

impl Both {
    fn new(rng: &mut StdRng, text: &str, tier: &str) -> Self {
        let bdk = BdkWallet::create_from_two_path_descriptor(text.to_owned());
        let mut bdk = bdk.network(Network::Regtest).create_wallet_no_persist().unwrap();
        for keychain in [KeychainKind::External, KeychainKind::Internal] {
            assert!(bdk.reveal_addresses_to(keychain, ADDRESSES - 1).count() > 0);
        }
        let policy = [
            "version = 1\nnetwork = \"regtest\"\n[[client]]\nname = \"w\"\nattest = [\"w\"]\nstatus = true\n",
            &format!("[[wallet]]\nname = \"w\"\ntier = \"{tier}\"\ndescriptor = \"{text}\"\nindex_window = 20\n"),
            "[[sweep]]\nname = \"sweep\"\nclients = [\"w\"]\nwallets = [\"w\"]\ncold = \"cold\"\n\
             min_cold_share = \"50%\"\nfee = { max_total = \"1 BTC\", max_feerate = \"1000 sat/vB\", max_percent = \"90%\" }\n\
             fee_budget = [{ sum = \"9 BTC\", window = \"1d\" }]\n",
            &format!("[[wallet]]\nname = \"cold\"\ntier = \"cold\"\ndescriptor = \"{}\"\nindex_window = 20\n",
                descriptor(rng, "wpkh(@)", 1, "84h/1h/9h")),
        ].concat();
        let rules = rules(&policy);
        let wallets = Wallets::new(&rules).unwrap();
        let whole: Descriptor<DescriptorPublicKey> = text.parse().unwrap();
        let branches = whole.into_single_descriptors().unwrap();
        let mut both = Self { bdk, branches, rules, wallets, coins: BTreeMap::new() };
        both.fund(rng);
        both
    }

    fn at(&self, branch: usize, index: u32) -> Descriptor<DefiniteDescriptorKey> {
        self.branches[branch].at_derivation_index(index).unwrap()
    }

    /// Somebody paid to addresses of both branches.
    fn fund(&mut self, rng: &mut StdRng) {
        let ours = |both: &Self, rng: &mut StdRng| {
            let place = both.at(rng.gen_range(0..2), rng.gen_range(0..ADDRESSES));
            let value = Amount::from_sat(COIN_SAT + rng.gen_range(0..COIN_SAT));
            (TxOut { value, script_pubkey: place.script_pubkey() }, place)
        };
        for number in 0..COINS {
            let (coin, place) = ours(self, rng);
            let mut parent = devnet_parent(number, rng);
            let vout = rng.gen_range(0..=parent.output.len());
            parent.output.insert(vout, coin);
            let outpoint = OutPoint::new(parent.compute_txid(), u32::try_from(vout).unwrap());
            self.bdk.apply_unconfirmed_txs([(parent.clone(), 0)]);
            self.coins.insert(outpoint, Coin { parent, place });
        }
    }

    /// One transaction that bdk plans; how many inputs it has.
    fn compare(&mut self, rng: &mut StdRng, number: usize) -> usize {
        let theirs = self.planned(rng);
        let ours = self.ours(&theirs);
        // The order of outputs is each one's own affair: ours is BIP-69's.
        let (mut left, mut right) = (fields(&theirs), fields(&ours));
        left.outputs.sort();
        right.outputs.sort();
        assert_eq!(left, right, "{theirs:?}");
        self.read(&theirs, number);
        theirs.inputs.len()
    }

    /// Some coins to some of our change addresses and, at times, to somebody else.
    fn planned(&mut self, rng: &mut StdRng) -> Psbt {
        let known: Vec<OutPoint> = self.coins.keys().copied().collect();
        let wanted = rng.gen_range(1..=INPUTS_MAX);
        let picked = rand::seq::index::sample(rng, known.len(), wanted);
        let picked: Vec<OutPoint> = picked.iter().map(|at| known[at]).collect();
        let branch = |rng: &mut StdRng| rng.gen_range(0..2);
        let drain = self.at(branch(rng), rng.gen_range(0..ADDRESSES)).script_pubkey();
        let mut paid: Vec<(ScriptBuf, Amount)> = (0..rng.gen_range(0..=OWN_MAX))
            .map(|_| {
                let place = self.at(branch(rng), rng.gen_range(0..ADDRESSES));
                (place.script_pubkey(), Amount::from_sat(rng.gen_range(10_000..30_000)))
            })
            .collect();
        if rng.gen_bool(0.3) {
            paid.push((stranger(rng), Amount::from_sat(rng.gen_range(10_000..30_000))));
        }
        let mut builder = self.bdk.build_tx();
        builder.add_utxos(&picked).unwrap().manually_selected_only();
        builder.set_recipients(paid).drain_to(drain).ordering(TxOrdering::Untouched);
        builder.fee_absolute(Amount::from_sat(rng.gen_range(3_000..20_000)));
        builder.nlocktime(LockTime::ZERO).set_exact_sequence(Sequence::ENABLE_RBF_NO_LOCKTIME);
        builder.finish().unwrap()
    }

    /// The same as the watcher writes it.
    fn ours(&self, theirs: &Psbt) -> Psbt {
        let inputs: Vec<Input> = theirs
            .unsigned_tx
            .input
            .iter()
            .map(|input| {
                let outpoint = input.previous_output;
                let coin = &self.coins[&outpoint];
                let paid = &coin.parent.output[usize::try_from(outpoint.vout).unwrap()];
                Input { outpoint, value: paid.value, at: coin.place.clone() }
            })
            .collect();
        let outputs = theirs.unsigned_tx.output.iter().map(|output| Output {
            value: output.value,
            to: match self.bdk.derivation_of_spk(output.script_pubkey.clone()) {
                Some((keychain, index)) => {
                    let branch = usize::from(keychain == KeychainKind::Internal);
                    Payee::Own(Box::new(self.at(branch, index)))
                }
                None => Payee::Other(output.script_pubkey.clone()),
            },
        });
        unsigned(&inputs, outputs.collect()).unwrap()
    }

    /// As the signer reads it, with its parents beside it: the same transaction and fee, in both versions.
    fn read(&self, theirs: &Psbt, number: usize) {
        let (fee, plan) = (theirs.fee().unwrap(), &theirs.unsigned_tx);
        for (version, key) in [(Version::Zero, "zero"), (Version::Two, "two")] {
            let whole = match version {
                Version::Zero => theirs.serialize(),
                Version::Two => psbt::write(theirs, version).unwrap(),
            };
            let header = proto::SignHeader {
                idempotency_key: format!("{key}.{number}"),
                lane: "sweep".to_owned(),
                wallet: "w".to_owned(),
                psbt: whole,
                orders: Vec::new(),
            };
            let caller = asked(ClientName::parse("w").unwrap(), &header.idempotency_key).unwrap();
            let mut draft = Draft::read(caller, &header, &self.rules, &self.wallets).unwrap();
            let spent = plan.input.iter().map(|input| input.previous_output);
            for outpoint in spent {
                let parent = &self.coins[&outpoint].parent;
                draft.add_parent(&bitcoin::consensus::serialize(parent)).unwrap();
            }
            let proven = [ADDRESSES; 2];
            let request = draft.prove(&self.rules, &self.wallets, proven).unwrap();
            let intent = request.intent();
            assert_eq!(intent.wallet, WalletName::parse("w").unwrap());
            assert_eq!(intent.fee.amount.units(), u128::from(fee.to_sat()));
            let out: u128 = intent.transfers.iter().map(|transfer| transfer.amount.units()).sum();
            let paid: Amount = plan.output.iter().map(|output| output.value).sum();
            assert_eq!(out, u128::from(paid.to_sat()));
            assert_eq!(intent.transfers.len(), plan.output.len());
        }
    }
}

/// What is compared: both leave out what the other may say as well (the parents travel beside our requests).
#[derive(PartialEq, Debug)]
struct Fields {
    version: i32,
    lock_time: u32,
    inputs: Vec<InputFields>,
    outputs: Vec<OutputFields>,
}

#[derive(PartialEq, Debug)]
struct InputFields {
    spent: OutPoint,
    sequence: Sequence,
    utxo: Option<TxOut>,
    /// Redeem script, witness script, and everything that is said of keys, as Debug has it.
    said: [String; 5],
}

#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
struct OutputFields {
    paid: TxOut,
    said: [String; 5],
}

fn fields(psbt: &Psbt) -> Fields {
    let transaction = &psbt.unsigned_tx;
    let inputs = transaction.input.iter().zip(&psbt.inputs).map(|(input, said)| InputFields {
        spent: input.previous_output,
        sequence: input.sequence,
        utxo: said.witness_utxo.clone(),
        said: words([
            &said.redeem_script,
            &said.witness_script,
            &said.bip32_derivation,
            &said.tap_key_origins,
            &said.tap_internal_key,
        ]),
    });
    let outputs = transaction.output.iter().zip(&psbt.outputs).map(|(paid, said)| OutputFields {
        paid: paid.clone(),
        said: words([
            &said.redeem_script,
            &said.witness_script,
            &said.bip32_derivation,
            &said.tap_key_origins,
            &said.tap_internal_key,
        ]),
    });
    Fields {
        version: transaction.version.0,
        lock_time: transaction.lock_time.to_consensus_u32(),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
    }
}

fn words(said: [&dyn std::fmt::Debug; 5]) -> [String; 5] {
    said.map(|one| format!("{one:?}"))
}

/// A transaction of somebody else's, not like any other.
fn devnet_parent(number: u64, rng: &mut StdRng) -> Transaction {
    let spent = OutPoint::new(
        bitcoin::hashes::Hash::from_byte_array(rng.r#gen()),
        u32::try_from(number).unwrap(),
    );
    Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![bitcoin::TxIn { previous_output: spent, ..bitcoin::TxIn::default() }],
        output: (0..rng.gen_range(0..3))
            .map(|_| TxOut { value: Amount::from_sat(7_000), script_pubkey: stranger(rng) })
            .collect(),
    }
}

fn stranger(rng: &mut StdRng) -> ScriptBuf {
    let program: [u8; 20] = rng.r#gen();
    ScriptBuf::new_p2wpkh(&bitcoin::hashes::Hash::from_byte_array(program))
}
