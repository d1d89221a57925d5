#![allow(clippy::arithmetic_side_effects, reason = "a test that fails may panic")]

use asset::Percent;
use bitcoin::ScriptBuf;
use proptest::prelude::*;

use super::super::sweep::tests::{any_coins, any_limits, any_rate, coin, script};
use super::*;
use crate::plan::{INCREMENTAL_RATE, Standing};

fn check(
    plan: &PayoutPlan,
    amount: Amount,
    to: &ScriptBuf,
    change: &ScriptBuf,
    rate: FeeRate,
    limits: &Limits,
) -> Result<(), TestCaseError> {
    let spent: u128 = plan.inputs.iter().map(|c| u128::from(c.value.to_sat())).sum();
    let back = plan.change.unwrap_or(Amount::ZERO);
    prop_assert_eq!(spent, [amount, back, plan.fee].iter().map(|a| u128::from(a.to_sat())).sum());
    let outputs: Vec<&Script> = if plan.change.is_some() { vec![to, change] } else { vec![to] };
    let weight = size::weight(plan.inputs.len(), &outputs);
    prop_assert!(weight <= limits.weight_max && plan.inputs.len() <= limits.inputs_max);
    prop_assert!(plan.fee >= fee_of(rate, weight));
    prop_assert!(rate <= limits.rate_max && plan.fee <= limits.fee_max);
    prop_assert!(
        u128::from(plan.fee.to_sat()) * 1_000_000
            <= u128::from(amount.to_sat()) * u128::from(limits.fee_share_max.millionths())
    );
    prop_assert!(plan.change.is_none_or(|c| c >= change.minimal_non_dust()));
    let mut outpoints: Vec<_> = plan.inputs.iter().map(|c| c.outpoint).collect();
    outpoints.sort();
    outpoints.dedup();
    prop_assert_eq!(outpoints.len(), plan.inputs.len());
    Ok(())
}

proptest! {
    #[test]
    fn conserves_value_and_keeps_every_limit(
        coins in any_coins(40), limits in any_limits(), rate in any_rate(),
        sat in 1_u64..3_000_000, length in 22_usize..35,
    ) {
        let (to, change, amount) = (script(length), script(22), Amount::from_sat(sat));
        let payment = Payment { amount, to: &to, change: &change };
        let Ok(plan) = payout(&coins, &payment, None, rate, &limits) else { return Ok(()) };
        check(&plan, amount, &to, &change, rate, &limits)?;
        prop_assert!(plan.inputs.iter().all(|c| c.standing == Standing::Spendable));
    }

    #[test]
    fn a_new_version_spends_every_earlier_coin_and_pays_more(
        coins in any_coins(40), limits in any_limits(), rate in any_rate(), sat in 1_u64..1_000_000,
    ) {
        let (to, change, amount) = (script(22), script(22), Amount::from_sat(sat));
        let payment = Payment { amount, to: &to, change: &change };
        let Ok(first) = payout(&coins, &payment, None, rate, &limits) else { return Ok(()) };
        // The first version's coins are leased by now.
        let leased: Vec<_> = coins.iter().map(|c| match first.inputs.contains(c) {
            true => Coin { standing: Standing::Leased, ..*c },
            false => *c,
        }).collect();
        let earlier = Earlier { inputs: &first.inputs, fee: first.fee };
        let Ok(second) = payout(&leased, &payment, Some(earlier), rate, &limits) else { return Ok(()) };
        check(&second, amount, &to, &change, rate, &limits)?;
        prop_assert_eq!(&second.inputs[..first.inputs.len()], &first.inputs[..]);
        let lean = size::weight(second.inputs.len(), &[&to]);
        prop_assert!(second.fee >= first.fee + fee_of(INCREMENTAL_RATE, lean));
    }

    #[test]
    fn insufficient_means_that_all_coins_together_do_not_suffice(
        coins in any_coins(20), rate in any_rate(), sat in 200_000_u64..1_000_000,
    ) {
        // Twenty inputs at the highest feerate cost less than the payment: no cap is met.
        let limits = Limits { inputs_max: 100, fee_max: Amount::MAX_MONEY, ..limits(1_000_000) };
        let (to, change, amount) = (script(22), script(22), Amount::from_sat(sat));
        let payment = Payment { amount, to: &to, change: &change };
        let (good, _) = worth_spending(&coins, rate, size::INPUT_WEIGHT);
        let sum: u128 = good.iter().map(|c| u128::from(c.value.to_sat())).sum();
        let needed = u128::from((amount + fee_of(rate, size::weight(good.len(), &[&to]))).to_sat());
        let enough = !good.is_empty() && sum >= needed;
        prop_assert_eq!(payout(&coins, &payment, None, rate, &limits).is_ok(), enough);
    }
}

fn limits(millionths: u32) -> Limits {
    Limits {
        inputs_max: 10,
        input_weight: size::INPUT_WEIGHT,
        weight_max: 400_000,
        parent_bytes_max: u64::MAX,
        fee_max: Amount::from_sat(100_000),
        fee_share_max: Percent::from_millionths(millionths).unwrap(),
        rate_min: FeeRate::from_sat_per_kvb(1),
        rate_max: FeeRate::from_sat_per_kvb(120_000),
    }
}

#[test]
fn drops_dust_change_to_the_fee_unless_that_passes_a_cap() {
    let (to, change) = (script(22), script(22));
    let payment = Payment { amount: Amount::from_sat(50_000), to: &to, change: &change };
    let rate = FeeRate::from_sat_per_kvb(1_000);
    // One input, one output: 110 vbytes. 50,000 + 110 + 200 of dust.
    let coins = [coin(50_310, 0), coin(40_000, 1)];
    let loose = payout(&coins, &payment, None, rate, &limits(100_000)).unwrap();
    assert_eq!((loose.inputs.len(), loose.change, loose.fee.to_sat()), (1, None, 310));
    let tight = payout(&coins, &payment, None, rate, &limits(5_000)).unwrap();
    assert_eq!((tight.inputs.len(), tight.fee.to_sat()), (2, 209));
    assert_eq!(tight.change, Some(Amount::from_sat(40_101)));
}

#[test]
fn says_what_is_missing() {
    let (to, change) = (script(22), script(22));
    let rate = FeeRate::from_sat_per_kvb(1_000);
    let pay = |sat| Payment { amount: Amount::from_sat(sat), to: &to, change: &change };
    let coins = [coin(50_000, 0)];
    let error = payout(&coins, &pay(60_000), None, rate, &limits(100_000)).unwrap_err();
    assert!(
        matches!(error, PlanError::Insufficient { available, .. } if available.to_sat() == 50_000)
    );
    let error = payout(&[], &pay(60_000), None, rate, &limits(100_000)).unwrap_err();
    assert!(matches!(error, PlanError::Insufficient { .. }));
    assert!(matches!(
        payout(&coins, &pay(100), None, rate, &limits(100_000)),
        Err(PlanError::Dust { .. })
    ));
    let many: Vec<_> = (0..20).map(|n| coin(1_000, n)).collect();
    assert!(matches!(
        payout(&many, &pay(15_000), None, rate, &limits(500_000)),
        Err(PlanError::Inputs { .. })
    ));
}
