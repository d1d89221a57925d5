#![allow(clippy::arithmetic_side_effects, reason = "a test that fails may panic")]

use asset::Percent;
use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, ScriptBuf, Txid};
use proptest::prelude::*;

use super::*;
use crate::plan::{PARENT_BYTES_MAX, Standing, WEIGHT_MAX, fee_of};

pub(crate) fn any_coins(most: usize) -> impl Strategy<Value = Vec<Coin>> {
    let standing = prop_oneof![
        6 => Just(Standing::Spendable),
        1 => Just(Standing::NotFinal),
        1 => Just(Standing::Leased),
        1 => Just(Standing::Held),
    ];
    // Mostly small values, so that dust, uneconomic coins and caps are all met.
    let value = prop_oneof![0_u64..2_000, 1_000_u64..1_000_000, 0_u64..2_100_000_000_000_000];
    proptest::collection::vec((value, standing, any::<bool>()), 0..most).prop_map(|coins| {
        let coin = |(n, (sat, standing, change)): (usize, (u64, Standing, bool))| {
            let n = u32::try_from(n).unwrap();
            let mut txid = [0; 32];
            txid[..4].copy_from_slice(&n.wrapping_mul(2_654_435_761).to_be_bytes());
            let outpoint = OutPoint { txid: Txid::from_byte_array(txid), vout: n % 3 };
            let parent_bytes = u64::from(n % 7) * 100;
            Coin {
                outpoint,
                value: Amount::from_sat(sat),
                change,
                index: n,
                parent_bytes,
                standing,
            }
        };
        coins.into_iter().enumerate().map(coin).collect()
    })
}

pub(crate) fn any_limits() -> impl Strategy<Value = Limits> {
    (1_usize..40, 1_000_u64..20_000, 200_u64..200_000, 100_u32..=1_000_000).prop_map(
        |(inputs_max, weight_max, fee_sat, share)| Limits {
            inputs_max,
            input_weight: size::INPUT_WEIGHT,
            weight_max,
            parent_bytes_max: weight_max / 2,
            fee_max: Amount::from_sat(fee_sat),
            fee_share_max: Percent::from_millionths(share).unwrap(),
            rate_min: FeeRate::from_sat_per_kvb(500),
            rate_max: FeeRate::from_sat_per_kvb(100_000),
        },
    )
}

pub(crate) fn any_rate() -> impl Strategy<Value = FeeRate> {
    (1_u64..120_000).prop_map(FeeRate::from_sat_per_kvb)
}

pub(crate) fn script(length: usize) -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0; length])
}

pub(crate) fn coin(sat: u64, n: u32) -> Coin {
    let outpoint = OutPoint { txid: Txid::from_byte_array([7; 32]), vout: n };
    Coin {
        outpoint,
        value: Amount::from_sat(sat),
        change: false,
        index: n,
        parent_bytes: 200,
        standing: Standing::Spendable,
    }
}

fn sat(coins: &[Coin]) -> u128 {
    coins.iter().map(|c| u128::from(c.value.to_sat())).sum()
}

proptest! {
    #[test]
    fn conserves_value_and_keeps_every_limit(
        coins in any_coins(60), limits in any_limits(), rate in any_rate(), length in 22_usize..35,
    ) {
        let cold = script(length);
        let Ok(plan) = sweep(&coins, &cold, rate, &limits) else { return Ok(()) };
        prop_assert_eq!(sat(&plan.inputs), u128::from((plan.to_cold + plan.fee).to_sat()));
        let weight = size::weight(plan.inputs.len(), &[&cold]);
        prop_assert!(weight <= limits.weight_max);
        prop_assert!(plan.inputs.len() <= limits.inputs_max);
        prop_assert_eq!(plan.fee, fee_of(rate, weight));
        prop_assert!(rate >= limits.rate_min && rate <= limits.rate_max && plan.fee <= limits.fee_max);
        prop_assert!(u128::from(plan.fee.to_sat()) * 1_000_000
            <= u128::from(plan.to_cold.to_sat()) * u128::from(limits.fee_share_max.millionths()));
        prop_assert!(plan.to_cold >= cold.minimal_non_dust());
        let parents: std::collections::BTreeMap<_, _> =
            plan.inputs.iter().map(|c| (c.outpoint.txid, c.parent_bytes)).collect();
        prop_assert!(parents.values().sum::<u64>() <= limits.parent_bytes_max);
        for coin in &plan.inputs {
            prop_assert_eq!(coin.standing, Standing::Spendable);
        }
    }

    #[test]
    fn says_where_every_coin_went_and_prefers_the_largest(
        coins in any_coins(60), limits in any_limits(), rate in any_rate(),
    ) {
        // A large coin may be passed over for the size of its parent, and for nothing else.
        let limits = Limits { parent_bytes_max: u64::MAX, ..limits };
        let Ok(plan) = sweep(&coins, &script(22), rate, &limits) else { return Ok(()) };
        let mut seen: Vec<_> =
            plan.inputs.iter().chain(plan.left_out.iter().map(|(c, _)| c)).map(|c| c.outpoint).collect();
        let mut all: Vec<_> = coins.iter().map(|c| c.outpoint).collect();
        seen.sort();
        all.sort();
        prop_assert_eq!(seen, all);
        let smallest = plan.inputs.iter().map(|c| c.value).min().unwrap();
        for (coin, why) in &plan.left_out {
            match why {
                LeftOut::Standing(standing) => prop_assert_eq!(*standing, coin.standing),
                LeftOut::Uneconomic => prop_assert!(coin.value <= fee_of(rate, size::INPUT_WEIGHT)),
                LeftOut::Limit => prop_assert!(coin.value <= smallest),
            }
        }
    }

    #[test]
    fn is_the_same_whatever_order_coins_come_in(
        coins in any_coins(30), limits in any_limits(), rate in any_rate(),
    ) {
        let mut backwards = coins.clone();
        backwards.reverse();
        let a = sweep(&coins, &script(22), rate, &limits).map(|p| (p.inputs, p.to_cold, p.fee));
        let b = sweep(&backwards, &script(22), rate, &limits).map(|p| (p.inputs, p.to_cold, p.fee));
        prop_assert_eq!(a, b);
    }
}

fn roomy() -> Limits {
    Limits {
        inputs_max: crate::plan::INPUTS_MAX,
        input_weight: size::INPUT_WEIGHT,
        weight_max: WEIGHT_MAX,
        parent_bytes_max: PARENT_BYTES_MAX,
        fee_max: Amount::from_sat(10_000_000),
        rate_max: FeeRate::from_sat_per_kvb(100_000),
        fee_share_max: Percent::from_millionths(100_000).unwrap(),
        rate_min: FeeRate::from_sat_per_kvb(1_000),
    }
}

#[test]
fn takes_fourteen_hundred_inputs_and_leaves_the_rest_for_the_next() {
    let coins: Vec<_> = (0..1_500).map(|n| coin(100_000 + u64::from(n), n)).collect();
    let plan = sweep(&coins, &script(22), FeeRate::from_sat_per_kvb(5_000), &roomy()).unwrap();
    assert_eq!(plan.inputs.len(), 1_400);
    assert_eq!(plan.left_out.len(), 100);
    assert!(
        plan.left_out.iter().all(|(c, why)| *why == LeftOut::Limit && c.value.to_sat() < 100_100)
    );
}

#[test]
fn says_why_nothing_can_be_swept() {
    let rate = FeeRate::from_sat_per_kvb(5_000);
    assert_eq!(sweep(&[], &script(22), rate, &roomy()), Err(PlanError::NoCoins { rate }));
    assert_eq!(
        sweep(&[coin(340, 0)], &script(22), rate, &roomy()),
        Err(PlanError::NoCoins { rate })
    );
    assert!(matches!(
        sweep(&[coin(800, 0)], &script(22), rate, &roomy()),
        Err(PlanError::Dust { .. })
    ));
    assert!(matches!(
        sweep(&[coin(3_000, 0)], &script(22), rate, &roomy()),
        Err(PlanError::Fee { .. })
    ));
    let dear = FeeRate::from_sat_per_kvb(100_001);
    assert!(matches!(
        sweep(&[coin(30_000, 0)], &script(22), dear, &roomy()),
        Err(PlanError::Rate { .. })
    ));
}

#[test]
fn a_replacement_spends_the_same_coins_and_pays_the_relay_increment() {
    let coins = [coin(100_000, 0), coin(90_000, 1)];
    let rate = FeeRate::from_sat_per_kvb(2_000);
    let first = sweep(&coins, &script(22), rate, &roomy()).unwrap();
    let second = again(&first.inputs, &script(22), rate, first.fee, &roomy()).unwrap();
    assert_eq!(second.inputs, first.inputs);
    let vsize = size::weight(2, &[&script(22)]).div_ceil(4);
    assert_eq!(second.fee.to_sat(), first.fee.to_sat() + vsize);
}

#[test]
fn taproot_coins_pay_for_what_they_weigh() {
    let rate = FeeRate::from_sat_per_kvb(10_000);
    let limits = roomy().for_inputs_like(&script_like_taproot());
    let plan = sweep(&[coin(100_000, 0), coin(100_000, 1)], &script(22), rate, &limits).unwrap();
    // 42 weight units of frame, 31 bytes of output, 2 inputs of 57.5 vbytes.
    assert_eq!(plan.fee.to_sat(), 10 * (42_u64 + 31 * 4 + 2 * 230).div_ceil(4));
    // At its own cost a coin is not worth spending; P2WPKH would not even be at 680.
    let poor = sweep(&[coin(575, 0)], &script(22), rate, &limits);
    assert!(matches!(poor, Err(crate::plan::PlanError::NoCoins { .. })), "{poor:?}");
}

fn script_like_taproot() -> ScriptBuf {
    let mut bytes = vec![0x51, 0x20];
    bytes.extend([7; 32]);
    ScriptBuf::from_bytes(bytes)
}

proptest! {
    #[test]
    fn everything_is_planned_once_within_the_caps_or_left_out_for_a_reason(
        coins in any_coins(60), rate in any_rate(), limits in any_limits(),
    ) {
        let cold = script(22);
        let all = everything(&coins, &cold, rate, &limits);
        let planned = all.plans.iter().flat_map(|plan| &plan.inputs);
        let mut seen: Vec<_> = planned.chain(all.left_out.iter().map(|(coin, _)| coin)).collect();
        seen.sort_by_key(|coin| coin.outpoint);
        let mut given: Vec<_> = coins.iter().collect();
        given.sort_by_key(|coin| coin.outpoint);
        prop_assert_eq!(seen, given);
        for plan in &all.plans {
            prop_assert!(plan.left_out.is_empty() && plan.inputs.len() <= limits.inputs_max);
            prop_assert!(limits.check_fee(plan.fee, plan.to_cold).is_ok());
            prop_assert_eq!(sat(&plan.inputs), u128::from((plan.to_cold + plan.fee).to_sat()));
        }
        // Whatever is left could not be planned as a next one either.
        let rest: Vec<_> = all.left_out.iter().map(|(coin, _)| *coin).collect();
        prop_assert!(sweep(&rest, &cold, rate, &limits).is_err());
        prop_assert!(all.problem.is_none() || all.left_out.iter().any(|(_, why)| *why == LeftOut::Limit) || all.plans.is_empty());
    }
}
