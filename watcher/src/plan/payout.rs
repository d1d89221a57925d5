//! Plans one payment: coins, largest first, until they cover the order and its fee; the rest is change.
//! It never changes what the order pays.

use asset::FeeRate;
use bitcoin::{Amount, Script};

use super::{
    Coin, Limits, PlanError, fee_for, fee_of, size, split_by_parents, total, worth_spending,
};

/// What is to be paid, and where the rest goes.
#[derive(Clone, Copy, Debug)]
pub struct Payment<'a> {
    /// What the order says.
    pub amount: Amount,
    /// Where the order says.
    pub to: &'a Script,
    /// The wallet's next change output.
    pub change: &'a Script,
}

/// What one payment spends and pays.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PayoutPlan {
    /// Coins to spend: the ones that had to be taken, then the largest first.
    pub inputs: Vec<Coin>,
    /// What returns to the wallet; `None` if too little was left to be worth an output.
    pub change: Option<Amount>,
    /// What miners get.
    pub fee: Amount,
}

/// What a new version of a payment is bound by, so that at most one version can ever confirm.
#[derive(Clone, Copy, Debug)]
pub struct Earlier<'a> {
    /// Coins of the earlier versions that still exist; all of them are spent again.
    pub inputs: &'a [Coin],
    /// The highest fee an earlier version paid.
    pub fee: Amount,
}

/// Plans a payment, or a new version of one that conflicts with every earlier version.
///
/// # Errors
/// [`PlanError`] if the coins do not suffice, the payment is dust, or no choice of coins keeps every cap.
pub fn payout(
    coins: &[Coin],
    payment: &Payment<'_>,
    earlier: Option<Earlier<'_>>,
    rate: FeeRate,
    limits: &Limits,
) -> Result<PayoutPlan, PlanError> {
    limits.check_rate(rate)?;
    let least = payment.to.minimal_non_dust();
    if payment.amount < least {
        return Err(PlanError::Dust { amount: payment.amount, least });
    }
    let mut inputs = earlier.map(|e| e.inputs.to_vec()).unwrap_or_default();
    let (mut spare, _) = worth_spending(coins, rate, limits.input_weight);
    spare.retain(|coin| inputs.iter().all(|taken| taken.outpoint != coin.outpoint));
    let _too_heavy = split_by_parents(&mut spare, limits.parent_bytes_max);
    let fits = limits.inputs_that_fit(&[payment.to, payment.change]);
    let replaced = earlier.map(|e| e.fee);
    let mut spare = spare.into_iter();
    let mut problem = None;
    loop {
        if inputs.len() > fits {
            return Err(problem.unwrap_or(PlanError::Inputs { inputs_max: fits }));
        }
        match settle(&inputs, payment, replaced, rate, limits) {
            Ok((change, fee)) => return Ok(PayoutPlan { inputs, change, fee }),
            // One more coin may cover the payment, or turn dust that was too much for the fee cap into change.
            Err(error) => match (spare.next(), &problem) {
                (Some(coin), _) => {
                    if matches!(error, PlanError::Fee { .. }) && problem.is_none() {
                        problem = Some(error);
                    }
                    inputs.push(coin);
                }
                (None, Some(first)) => return Err(first.clone()),
                (None, None) => return Err(error),
            },
        }
    }
}

/// Change and fee for exactly these inputs, if they cover the payment and every cap holds.
fn settle(
    inputs: &[Coin],
    payment: &Payment<'_>,
    replaced: Option<Amount>,
    rate: FeeRate,
    limits: &Limits,
) -> Result<(Option<Amount>, Amount), PlanError> {
    let available = total(inputs)?;
    let weight = |outputs: &[&Script]| size::weight_of(inputs.len(), limits.input_weight, outputs);
    let lean = fee_for(weight(&[payment.to]), rate, replaced)?;
    let needed = payment.amount.checked_add(lean).ok_or(PlanError::Overflow)?;
    let rest = match available.checked_sub(payment.amount) {
        Some(rest) if !inputs.is_empty() && rest >= lean => rest,
        _ => return Err(PlanError::Insufficient { needed, available }),
    };
    let full = fee_for(weight(&[payment.to, payment.change]), rate, replaced)?;
    let (change, fee) = match rest.checked_sub(full) {
        Some(change) if change >= least_change(payment.change, rate) => (Some(change), full),
        _ => (None, rest),
    };
    limits.check_fee(fee, payment.amount)?;
    Ok((change, fee))
}

/// Less than this is dropped to the fee: nodes would not relay it, or spending it would cost more than it holds.
fn least_change(change: &Script, rate: FeeRate) -> Amount {
    change.minimal_non_dust().max(fee_of(rate, size::input_weight(change)))
}

#[cfg(test)]
#[path = "payout_tests.rs"]
mod tests;
