//! What a good request is proven to be.

use asset::Amount;
use bitcoin::{EcdsaSighashType, Transaction};
use policy::intent::Destination;

use crate::Case;
use crate::common::{Coin, Descriptors, FAR, address, coin, order, own, signed, stranger, to};

#[test]
fn a_sweep_is_read_as_what_it_is() {
    let request = Case::sweep().parse().unwrap();
    let intent = request.intent();
    assert_eq!(intent.fee.amount, Amount::from(1_000_u64));
    let amounts: Vec<_> = intent.slots.iter().map(|slot| slot.amount.units()).collect();
    assert_eq!(amounts, [60_000, 50_000]);
    let cold =
        Destination::Cold { wallet: policy::names::WalletName::parse("cold").unwrap(), index: 0 };
    assert_eq!(intent.transfers[0].to, cold);
    assert_eq!(intent.transfers[1].to, Destination::Change { index: 1 });
}

#[test]
fn parents_inside_the_psbt_are_as_good() {
    let mut case = Case::sweep();
    let parents = std::mem::take(&mut case.parents);
    let case = case.edit(|psbt| {
        for (input, parent) in psbt.inputs.iter_mut().zip(&parents) {
            input.non_witness_utxo = Some(bitcoin::consensus::deserialize(parent).unwrap());
            input.witness_utxo = None;
        }
    });
    assert_eq!(
        case.parse().unwrap().intent().digest,
        Case::sweep().parse().unwrap().intent().digest
    );
}

#[test]
fn one_parent_serves_all_its_coins() {
    let wallets = Descriptors::fixed();
    let mut coins = vec![coin(&wallets.deposits, false, 1, 50_000, 1, 2)];
    let mut second = coins[0].clone();
    second.parent.output[0] = coin(&wallets.deposits, false, 2, 40_000, 1, 1).output();
    coins[0].parent = second.parent.clone();
    let (key, _) = crate::common::child(&wallets.deposits, false, 2);
    coins.push(Coin { vout: 0, key, index: 2, ..second });
    let mut case = Case::of("sweep", "deposits", &coins, &[own(&wallets.cold, false, 0, 80_000)]);
    case.parents.pop();
    assert_eq!(case.parse().unwrap().intent().fee.amount, Amount::from(10_000_u64));
}

#[test]
fn a_claimed_address_of_ours_is_only_believed_when_derived() {
    let wallets = Descriptors::fixed();
    let coins = [coin(&wallets.deposits, false, 3, 60_000, 1, 1)];
    let lie = crate::common::Out { script: stranger(9), ..own(&wallets.cold, false, 0, 50_000) };
    let request = Case::of("sweep", "deposits", &coins, &[lie]).parse().unwrap();
    let Destination::External { address: shown, order: None, .. } =
        &request.intent().transfers[0].to
    else {
        panic!("a stranger's script is external")
    };
    assert_eq!(*shown, address(&stranger(9)));
}

#[test]
fn orders_find_their_outputs() {
    let wallets = Descriptors::fixed();
    let coins = [coin(&wallets.hot, false, 0, 500_000, 1, 1)];
    // Two orders to one address with different amounts, and one whose output pays too little.
    let outs = [
        to(stranger(4), 100_000),
        to(stranger(4), 120_000),
        to(stranger(5), 70_000),
        own(&wallets.hot, true, 0, 200_000),
    ];
    let mut case = Case::of("withdraw", "hot", &coins, &outs);
    case.header.orders = vec![
        signed(&order("b", 120_000, &address(&stranger(4)), FAR)),
        signed(&order("a", 100_000, &address(&stranger(4)), FAR)),
        signed(&order("c", 70_001, &address(&stranger(5)), FAR)),
    ];
    let request = case.parse().unwrap();
    let paid = |position: usize| match &request.intent().transfers[position].to {
        Destination::External { order, .. } => order.as_ref().map(ToString::to_string),
        _ => None,
    };
    let found: Vec<_> = (0..4).map(paid).collect();
    assert_eq!(found, [Some("a".into()), Some("b".into()), Some("c".into()), None]);
}

#[test]
fn the_digest_covers_what_decides_and_nothing_else() {
    let digest = |case: &Case| case.parse().unwrap().intent().digest;
    let base = digest(&Case::sweep());
    let mut other_key = Case::sweep();
    other_key.header.idempotency_key = "key-2".into();
    assert_eq!(digest(&other_key), base);
    assert_ne!(
        other_key.parse().unwrap().intent().request,
        Case::sweep().parse().unwrap().intent().request
    );
    let mut other_lane = Case::sweep();
    other_lane.header.lane = "sweep2".into();
    assert_ne!(digest(&other_lane), base);
    let other_sequence = Case::sweep().edit(|psbt| {
        psbt.unsigned_tx.input[0].sequence = bitcoin::Sequence::MAX;
    });
    assert_ne!(digest(&other_sequence), base);
}

#[test]
fn sighash_all_may_be_said() {
    let case = Case::sweep().edit(|psbt| {
        psbt.inputs[0].sighash_type = Some(EcdsaSighashType::All.into());
    });
    case.parse().unwrap();
}

/// The large sweep: 22 MB of parents, of which nothing but the outputs being spent is kept.
#[test]
fn a_sweep_of_1400_coins_from_1400_large_parents() {
    let wallets = Descriptors::fixed();
    let one = coin(&wallets.deposits, false, 5, 20_000, 0, 500);
    let with_salt = |salt: u32| {
        let mut coin = one.clone();
        coin.parent.input[0].previous_output.vout = salt;
        coin
    };
    let coins: Vec<Coin> = (0..1400).map(with_salt).collect();
    let outs = [own(&wallets.cold, false, 0, 1400 * 20_000 - 200_000)];
    let mut case = Case::of("sweep", "deposits", &coins, &outs);
    let bytes: usize = case.parents.iter().map(Vec::len).sum();
    assert!(bytes > 21_000_000, "{bytes} bytes of parents");
    assert!(case.header.psbt.len() < 400_000, "{} bytes of PSBT", case.header.psbt.len());
    let request = case.parse().unwrap();
    assert_eq!(request.intent().slots.len(), 1400);
    case.parents.pop();
    assert_eq!(case.reason(), signer::refusal::Reason::MissingParent);
}

#[test]
fn the_virtual_size_is_never_less_than_the_signed_one() {
    let request = Case::sweep().parse().unwrap();
    let mut signed: Transaction = request.transaction().clone();
    for input in &mut signed.input {
        input.witness = bitcoin::Witness::from_slice(&[vec![0x30; 72], vec![2; 33]]);
    }
    assert_eq!(request.intent().fee.vsize, signed.vsize() as u64);
}
