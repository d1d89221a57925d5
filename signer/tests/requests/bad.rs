//! One vector for each way a request can be wrong before the policy sees it.

use bitcoin::absolute::LockTime;
use bitcoin::bip32::Xpub;
use bitcoin::hashes::Hash as _;
use bitcoin::psbt::raw;
use bitcoin::transaction::Version;
use bitcoin::{Amount, EcdsaSighashType, ScriptBuf, Sequence, TapSighashType, Txid};
use signer::refusal::Reason;

use crate::Case;
use crate::common::{
    Descriptors, FAR, address, coin, descriptor, order, own, path, signed, stranger, to,
};

type Vector = (&'static str, fn() -> Case, Reason);

fn changed(change: impl FnOnce(&mut Case)) -> Case {
    let mut case = Case::sweep();
    change(&mut case);
    case
}

fn edited(change: impl FnOnce(&mut bitcoin::Psbt)) -> Case {
    Case::sweep().edit(change)
}

/// A payment with one order, changed before it is signed.
fn ordered(change: impl FnOnce(&mut order::Order)) -> Case {
    let wallets = Descriptors::fixed();
    let coins = [coin(&wallets.hot, false, 0, 500_000, 1, 1)];
    let outs = [to(stranger(4), 100_000), own(&wallets.hot, true, 0, 390_000)];
    let mut case = Case::of("withdraw", "hot", &coins, &outs);
    let mut order = order("a", 100_000, &address(&stranger(4)), FAR);
    change(&mut order);
    case.header.orders = vec![signed(&order)];
    case
}

fn unknown_field() -> raw::Key {
    raw::Key { type_value: 0xf0, key: vec![1] }
}

const VECTORS: &[Vector] = &[
    ("no PSBT", || changed(|c| c.header.psbt = b"garbage".to_vec()), Reason::BadPsbt),
    ("an empty one", || changed(|c| c.header.psbt.clear()), Reason::BadPsbt),
    ("half a PSBT", || changed(|c| c.header.psbt.truncate(200)), Reason::BadPsbt),
    ("something behind it", || changed(|c| c.header.psbt.push(0)), Reason::BadPsbt),
    ("too long", || changed(|c| c.header.psbt.resize((1 << 20) + 1, 0)), Reason::Oversize),
    ("a bad key", || changed(|c| c.header.idempotency_key = "a b".into()), Reason::BadRequest),
    ("a bad lane name", || changed(|c| c.header.lane = String::new()), Reason::BadRequest),
    (
        "an unknown wallet",
        || changed(|c| c.header.wallet = "savings".into()),
        Reason::UnknownWallet,
    ),
    ("a cold wallet", || changed(|c| c.header.wallet = "cold".into()), Reason::WalletWithoutKeys),
    ("version 3", || edited(|p| p.unsigned_tx.version = Version(3)), Reason::TransactionVersion),
    ("version 0", || edited(|p| p.unsigned_tx.version = Version(0)), Reason::TransactionVersion),
    (
        "a lock time in seconds",
        || edited(|p| p.unsigned_tx.lock_time = LockTime::from_consensus(500_000_000)),
        Reason::LockTime,
    ),
    (
        "a relative lock",
        || edited(|p| p.unsigned_tx.input[1].sequence = Sequence::from_height(6)),
        Reason::Sequence,
    ),
    (
        "one coin twice",
        || {
            edited(|p| {
                p.unsigned_tx.input.push(p.unsigned_tx.input[0].clone());
                p.inputs.push(p.inputs[0].clone());
            })
        },
        Reason::DuplicateInput,
    ),
    (
        "outputs that overflow 64 bits",
        || {
            edited(|p| {
                p.unsigned_tx.output.iter_mut().for_each(|o| o.value = Amount::from_sat(u64::MAX));
            })
        },
        Reason::OutputOverflow,
    ),
    (
        "outputs of more than 21 million bitcoin together",
        || {
            edited(|p| {
                p.unsigned_tx.output.iter_mut().for_each(|o| o.value = Amount::MAX_MONEY);
            })
        },
        Reason::OutputOverflow,
    ),
    (
        "dust",
        || edited(|p| p.unsigned_tx.output[1].value = Amount::from_sat(293)),
        Reason::DustOutput,
    ),
    (
        "more out than in",
        || edited(|p| p.unsigned_tx.output[0].value = Amount::from_sat(200_000)),
        Reason::NoFee,
    ),
    (
        "nothing for the fee",
        || edited(|p| p.unsigned_tx.output[0].value = Amount::from_sat(71_000)),
        Reason::NoFee,
    ),
    (
        "SIGHASH_NONE",
        || edited(|p| p.inputs[1].sighash_type = Some(EcdsaSighashType::None.into())),
        Reason::UnknownSighash,
    ),
    (
        "SIGHASH_ALL|ANYONECANPAY",
        || {
            edited(|p| {
                p.inputs[0].sighash_type = Some(EcdsaSighashType::AllPlusAnyoneCanPay.into())
            })
        },
        Reason::UnknownSighash,
    ),
    (
        "taproot's default",
        || edited(|p| p.inputs[0].sighash_type = Some(TapSighashType::Default.into())),
        Reason::UnknownSighash,
    ),
    (
        "no such sighash",
        || {
            edited(|p| {
                p.inputs[0].sighash_type = Some(bitcoin::psbt::PsbtSighashType::from_u32(0x1_01));
            })
        },
        Reason::UnknownSighash,
    ),
    (
        "final already",
        || {
            edited(|p| {
                p.inputs[0].final_script_witness = Some(bitcoin::Witness::from_slice(&[[1]]))
            })
        },
        Reason::PsbtField,
    ),
    (
        "a redeem script",
        || edited(|p| p.inputs[0].redeem_script = Some(stranger(1))),
        Reason::PsbtField,
    ),
    (
        "a witness script",
        || edited(|p| p.inputs[0].witness_script = Some(ScriptBuf::new())),
        Reason::PsbtField,
    ),
    (
        "an unknown input field",
        || edited(|p| drop(p.inputs[0].unknown.insert(unknown_field(), vec![]))),
        Reason::PsbtField,
    ),
    (
        "an unknown output field",
        || edited(|p| drop(p.outputs[0].unknown.insert(unknown_field(), vec![]))),
        Reason::PsbtField,
    ),
    (
        "an unknown global field",
        || edited(|p| drop(p.unknown.insert(unknown_field(), vec![]))),
        Reason::PsbtField,
    ),
    (
        "an extended key of the main network",
        || {
            edited(|p| {
                let text = descriptor(0);
                let start = text.find("tpub").unwrap();
                let end = text.find("/<").unwrap();
                let mut xpub: Xpub = text[start..end].parse().unwrap();
                xpub.network = bitcoin::NetworkKind::Main;
                p.xpub.insert(xpub, ([0; 4].into(), path(0, 0)));
            })
        },
        Reason::WrongNetwork,
    ),
    ("no parents", || changed(|c| c.parents.clear()), Reason::MissingParent),
    ("a parent missing", || changed(|c| drop(c.parents.pop())), Reason::MissingParent),
    (
        "a parent twice",
        || changed(|c| c.parents.push(c.parents[0].clone())),
        Reason::DuplicateParent,
    ),
    (
        "a parent nobody asked for",
        || {
            changed(|c| {
                c.parents.push(coin(&c.wallets.deposits, false, 0, 1, 77, 1).parent_bytes())
            })
        },
        Reason::ParentNotAsked,
    ),
    (
        "a parent with another amount",
        || {
            changed(|c| {
                let mut parent: bitcoin::Transaction =
                    bitcoin::consensus::deserialize(&c.parents[0]).unwrap();
                parent.output[1].value = Amount::from_sat(90_000);
                c.parents[0] = bitcoin::consensus::serialize(&parent);
            })
        },
        Reason::ParentNotAsked,
    ),
    ("a parent that is none", || changed(|c| c.parents[0] = vec![1, 2, 3]), Reason::WrongParent),
    ("a parent and more", || changed(|c| c.parents[0].push(0)), Reason::WrongParent),
    (
        "an output the parent does not have",
        || edited(|p| p.unsigned_tx.input[0].previous_output.vout = 2),
        Reason::WrongParent,
    ),
    (
        "another parent inside",
        || {
            edited(|p| {
                let other = coin(&Descriptors::fixed().deposits, false, 3, 60_000, 78, 2);
                p.inputs[0].non_witness_utxo = Some(other.parent);
            })
        },
        Reason::WrongParent,
    ),
    (
        "a claimed amount that is not true",
        || edited(|p| p.inputs[0].witness_utxo.as_mut().unwrap().value = Amount::from_sat(61_000)),
        Reason::WrongAmount,
    ),
    (
        "a claimed script that is not true",
        || edited(|p| p.inputs[0].witness_utxo.as_mut().unwrap().script_pubkey = stranger(3)),
        Reason::WrongAmount,
    ),
    (
        "another wallet's coin",
        || {
            let wallets = Descriptors::fixed();
            let coins = [coin(&wallets.hot, false, 3, 60_000, 1, 1)];
            Case::of("sweep", "deposits", &coins, &[own(&wallets.cold, false, 0, 50_000)])
        },
        Reason::ForeignInput,
    ),
    (
        "another index than it says",
        || {
            edited(|p| {
                let key = *p.inputs[0].bip32_derivation.keys().next().unwrap();
                p.inputs[0].bip32_derivation.insert(key, ([0; 4].into(), path(0, 4)));
            })
        },
        Reason::ForeignInput,
    ),
    (
        "another branch than there is",
        || {
            edited(|p| {
                let key = *p.inputs[0].bip32_derivation.keys().next().unwrap();
                p.inputs[0].bip32_derivation.insert(key, ([0; 4].into(), path(2, 3)));
            })
        },
        Reason::ForeignInput,
    ),
    ("no path", || edited(|p| p.inputs[0].bip32_derivation.clear()), Reason::ForeignInput),
    (
        "a hardened path",
        || {
            edited(|p| {
                let key = *p.inputs[0].bip32_derivation.keys().next().unwrap();
                let hardened = "m/84h/1h/0h/0h/3h".parse().unwrap();
                p.inputs[0].bip32_derivation.insert(key, ([0; 4].into(), hardened));
            })
        },
        Reason::ForeignInput,
    ),
    ("an index not proven yet", || changed(|c| c.proven = [3, 100]), Reason::InputNotProven),
    ("a change index not proven yet", || changed(|c| c.proven = [100, 0]), Reason::InputNotProven),
    (
        "an order altered",
        || {
            let mut case = ordered(|_| ());
            let text = String::from_utf8(case.header.orders[0].order.clone()).unwrap();
            case.header.orders[0].order = text.replace("100000", "200000").into_bytes();
            case
        },
        Reason::OrderSignature,
    ),
    (
        "an order by nobody we know",
        || {
            let mut case = ordered(|_| ());
            case.header.orders[0].signer = "chop".into();
            case
        },
        Reason::OrderKey,
    ),
    (
        "an order that is none",
        || {
            let mut case = ordered(|_| ());
            case.header.orders[0].order = vec![0; 2000];
            case
        },
        Reason::OrderFormat,
    ),
    (
        "an order to an address of the main network",
        || {
            ordered(|order| {
                let main = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
                order.destination = order::AddressText::parse(main).unwrap();
            })
        },
        Reason::WrongNetwork,
    ),
    (
        "an order in another network's coin",
        || ordered(|order| order.asset = asset::Network::Signet.asset_id()),
        Reason::WrongNetwork,
    ),
    (
        "an order to no address",
        || ordered(|order| order.destination = order::AddressText::parse("bcrt1qqqq").unwrap()),
        Reason::OrderFormat,
    ),
    (
        "too many orders",
        || {
            let mut case = ordered(|_| ());
            let order = case.header.orders[0].clone();
            case.header.orders = vec![order; 1001];
            case
        },
        Reason::Oversize,
    ),
];

#[test]
fn every_vector_gets_its_one_reason() {
    assert_eq!(VECTORS.len(), 55, "docs/testing.md says how many there are");
    for (name, case, reason) in VECTORS {
        match case().parse() {
            Ok(_) => panic!("{name}: was accepted"),
            Err(refusal) => {
                assert_eq!(refusal.reason, *reason, "{name}: {refusal}");
                assert!(refusal.text.len() > 10, "{name}: says too little");
            }
        }
    }
}

/// Two requests for the same inputs, each honest about one amount and not about the other: signatures on both would make one
/// transaction whose fee nobody was told (BIP-143 covers an input's own amount alone). Neither is signed, whether it is the
/// claim that lies or the parent that would prove it.
#[test]
fn neither_round_of_the_two_round_fee_attack_passes() {
    Case::sweep().parse().unwrap();
    for (position, less) in [(0, 10_000), (1, 5_000)] {
        let claim = |psbt: &mut bitcoin::Psbt| {
            let claimed = psbt.inputs[position].witness_utxo.as_mut().unwrap();
            claimed.value = claimed.value.checked_sub(Amount::from_sat(less)).unwrap();
        };
        let refusal = edited(claim).parse().unwrap_err();
        assert_eq!(refusal.reason, Reason::WrongAmount, "round {position}: {refusal}");
        let mut case = Case::sweep();
        let mut parent: bitcoin::Transaction =
            bitcoin::consensus::deserialize(&case.parents[position]).unwrap();
        let output = parent.output.last_mut().unwrap();
        output.value = output.value.checked_sub(Amount::from_sat(less)).unwrap();
        case.parents[position] = bitcoin::consensus::serialize(&parent);
        let refusal = case.edit(claim).parse().unwrap_err();
        let reasons = [Reason::ParentNotAsked, Reason::MissingParent, Reason::WrongParent];
        assert!(reasons.contains(&refusal.reason), "round {position}: {refusal}");
    }
}

fn many(inputs: u32, outputs: usize) -> Case {
    let mut case = Case::sweep();
    case.parents.clear();
    case.edit(|psbt| {
        let (input, fields) = (psbt.unsigned_tx.input[0].clone(), psbt.inputs[0].clone());
        let (output, hints) = (psbt.unsigned_tx.output[0].clone(), psbt.outputs[0].clone());
        psbt.unsigned_tx.input = (0..inputs)
            .map(|vout| {
                let mut input = input.clone();
                input.previous_output = bitcoin::OutPoint { txid: Txid::all_zeros(), vout };
                input
            })
            .collect();
        psbt.inputs = vec![fields; inputs as usize];
        psbt.unsigned_tx.output = vec![output; outputs];
        psbt.outputs = vec![hints; outputs];
    })
}

#[test]
fn counts_and_weight_are_bounded() {
    assert_eq!(many(1501, 1).reason(), Reason::Oversize);
    assert_eq!(many(1, 1001).reason(), Reason::Oversize);
    // 1,500 inputs weigh 408,000 units when signed: within the count, over the weight.
    assert_eq!(many(1500, 1).reason(), Reason::Oversize);
    assert_eq!(many(1400, 1).reason(), Reason::MissingParent);
    assert_eq!(many(1, 1000).reason(), Reason::MissingParent);
}

#[test]
fn parents_are_bounded_together() {
    let mut case = Case::sweep();
    let huge = {
        let mut parent = coin(&case.wallets.deposits, false, 3, 60_000, 5, 1).parent;
        parent.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x6a; 3_900_000]);
        parent
    };
    // All of them parents that are asked for, so that only their size can be wrong.
    let parents: Vec<_> = (0..18_u32)
        .map(|salt| {
            let mut parent = huge.clone();
            parent.input[0].previous_output.vout = salt;
            parent
        })
        .collect();
    case = case.edit(|psbt| {
        let (input, fields) = (psbt.unsigned_tx.input[0].clone(), psbt.inputs[0].clone());
        psbt.unsigned_tx.input = parents
            .iter()
            .map(|parent| {
                let mut input = input.clone();
                input.previous_output = bitcoin::OutPoint { txid: parent.compute_txid(), vout: 0 };
                input
            })
            .collect();
        psbt.inputs = vec![fields; parents.len()];
    });
    case.parents = parents.iter().map(bitcoin::consensus::serialize).collect();
    assert_eq!(case.reason(), Reason::Oversize);
}

/// Any single byte of a good PSBT turned over: never a panic, and never the same request with other facts.
#[test]
fn flipped_bytes_never_pass_as_the_same_request() {
    let good = Case::sweep();
    let digest = good.parse().unwrap().intent().digest;
    for position in 0..good.header.psbt.len() {
        for bit in [0x01, 0x80] {
            let mut case = Case::sweep();
            case.header.psbt[position] ^= bit;
            if let Ok(request) = case.parse() {
                let intent = request.intent();
                let same = intent.digest == digest;
                // What may change without changing the request: fields that only say where to look.
                assert!(!same || intent.slots == good.parse().unwrap().intent().slots);
            }
        }
    }
}

/// The parser quotes a repeated key in hex. The log's entry must hold what is said of it.
#[test]
fn a_huge_unknown_key_is_refused_in_few_words() {
    let case = changed(|c| {
        let length = 400_000_u32;
        let mut field = vec![0xfe];
        field.extend(length.to_le_bytes());
        field.extend(vec![0xf0; usize::try_from(length).unwrap()]);
        field.push(0);
        let (magic, rest) = c.header.psbt.split_at(5);
        c.header.psbt = [magic, &field, &field, rest].concat();
    });
    let refusal = case.parse().unwrap_err();
    assert_eq!(refusal.reason, Reason::BadPsbt);
    assert!(refusal.text.len() < 400, "{} bytes are said", refusal.text.len());
}
