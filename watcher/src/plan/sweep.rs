//! Plans one sweep: the wallet's largest spendable coins into one output of the cold wallet.
//! It never makes change and never pays anybody else.

use asset::FeeRate;
use bitcoin::{Amount, Script};

use super::{
    Coin, LeftOut, Limits, PlanError, fee_for, size, split_by_parents, total, worth_spending,
};

/// What one sweep spends and pays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SweepPlan {
    /// Coins to spend, largest first.
    pub inputs: Vec<Coin>,
    /// What the cold output gets.
    pub to_cold: Amount,
    /// What miners get.
    pub fee: Amount,
    /// Coins of the wallet that stay where they are, and why.
    pub left_out: Vec<(Coin, LeftOut)>,
}

/// Plans a sweep of as many coins as fit, largest first.
///
/// # Errors
/// [`PlanError`] if no coin may be spent, or no choice of coins keeps every cap.
pub fn sweep(
    coins: &[Coin],
    cold: &Script,
    rate: FeeRate,
    limits: &Limits,
) -> Result<SweepPlan, PlanError> {
    limits.check_rate(rate)?;
    let (mut inputs, mut left_out) = worth_spending(coins, rate, limits.input_weight);
    if inputs.is_empty() {
        return Err(PlanError::NoCoins { rate });
    }
    let too_heavy = split_by_parents(&mut inputs, limits.parent_bytes_max);
    let fits = limits.inputs_that_fit(&[cold]).min(inputs.len());
    let too_many = inputs.split_off(fits);
    left_out.extend(too_heavy.into_iter().chain(too_many).map(|coin| (coin, LeftOut::Limit)));
    if inputs.is_empty() {
        return Err(PlanError::NoCoins { rate });
    }
    // The smallest coin pays the worst share, and every coin adds to the fee: if a cap is passed, drop it and see again.
    loop {
        match settle(&inputs, cold, rate, None, limits) {
            Ok((to_cold, fee)) => return Ok(SweepPlan { inputs, to_cold, fee, left_out }),
            Err(PlanError::Fee { .. }) if inputs.len() > 1 => {
                left_out.extend(inputs.pop().map(|coin| (coin, LeftOut::Limit)));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sweeps of everything that may be spent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Everything {
    /// One after the other, largest coins first.
    pub plans: Vec<SweepPlan>,
    /// Coins that none of them takes, and why.
    pub left_out: Vec<(Coin, LeftOut)>,
    /// Why there is no plan for what the caps leave; `None` for a rest that is only too small to be worth an output.
    pub problem: Option<PlanError>,
}

/// Plans as many sweeps as it takes until nothing is left that may be spent within the caps.
#[must_use]
pub fn everything(coins: &[Coin], cold: &Script, rate: FeeRate, limits: &Limits) -> Everything {
    let mut all = Everything::default();
    let mut rest = coins.to_vec();
    while !rest.is_empty() {
        match sweep(&rest, cold, rate, limits) {
            Ok(mut plan) => {
                let (later, never): (Vec<_>, Vec<_>) = std::mem::take(&mut plan.left_out)
                    .into_iter()
                    .partition(|(_, why)| *why == LeftOut::Limit);
                rest = later.into_iter().map(|(coin, _)| coin).collect();
                all.left_out.extend(never);
                all.plans.push(plan);
            }
            Err(error) => {
                let (good, never) = worth_spending(&rest, rate, limits.input_weight);
                let small = matches!(error, PlanError::Dust { .. }) && !all.plans.is_empty();
                let why = if small { LeftOut::Uneconomic } else { LeftOut::Limit };
                all.left_out.extend(never);
                all.left_out.extend(good.into_iter().map(|coin| (coin, why)));
                all.problem =
                    (!small && !matches!(error, PlanError::NoCoins { .. })).then_some(error);
                return all;
            }
        }
    }
    all
}

/// Plans the same coins again at a higher fee, to replace a transaction that paid `replaced`.
///
/// # Errors
/// [`PlanError`] if a cap would be passed.
pub fn again(
    inputs: &[Coin],
    cold: &Script,
    rate: FeeRate,
    replaced: Amount,
    limits: &Limits,
) -> Result<SweepPlan, PlanError> {
    limits.check_rate(rate)?;
    let (to_cold, fee) = settle(inputs, cold, rate, Some(replaced), limits)?;
    Ok(SweepPlan { inputs: inputs.to_vec(), to_cold, fee, left_out: Vec::new() })
}

/// What goes to cold and what to miners, if every cap holds.
fn settle(
    inputs: &[Coin],
    cold: &Script,
    rate: FeeRate,
    replaced: Option<Amount>,
    limits: &Limits,
) -> Result<(Amount, Amount), PlanError> {
    let available = total(inputs)?;
    let fee = fee_for(size::weight_of(inputs.len(), limits.input_weight, &[cold]), rate, replaced)?;
    let least = cold.minimal_non_dust();
    let to_cold = available.checked_sub(fee).unwrap_or(Amount::ZERO);
    if to_cold < least {
        return Err(PlanError::Dust { amount: to_cold, least });
    }
    limits.check_fee(fee, to_cold)?;
    Ok((to_cold, fee))
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
pub(crate) mod tests;
