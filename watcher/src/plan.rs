//! Chooses which coins a transaction spends and what it pays, as pure functions of coins and rules.
//! It never reads a clock, a database or a node, and never takes a coin that is not final.
//!
//! Reading order: [`size`] (what a transaction weighs), then [`sweep`] and [`payout`].

pub mod size;
pub mod sweep;
pub mod payout;

use std::collections::BTreeSet;

use asset::{FeeRate, Percent};
use bitcoin::{Amount, OutPoint};

/// One unspent output of ours, as the planner sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Coin {
    /// What would be spent.
    pub outpoint: OutPoint,
    /// How much it holds.
    pub value: Amount,
    /// True on the change branch of its wallet.
    pub change: bool,
    /// Its index on that branch.
    pub index: u32,
    /// Size of the transaction that made it: the signer reads it whole.
    pub parent_bytes: u64,
    /// Whether it may be spent now.
    pub standing: Standing,
}

/// Whether a coin may be planned with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// Final, ours, not leased, not held by screening.
    Spendable,
    /// Not final on the chain yet (or gone).
    NotFinal,
    /// Belongs to an unfinished sweep or payout.
    Leased,
    /// Screening holds it.
    Held,
    /// The signer has not proven its key yet, and would refuse the whole transaction.
    NotProven,
    /// Its key is at fault at the signer, or was a while ago.
    Faulty,
}

/// Why a coin was left out of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeftOut {
    /// Its [`Standing`] does not allow it.
    Standing(Standing),
    /// Spending it costs at least as much as it holds, at this feerate.
    Uneconomic,
    /// The transaction is full, or its fee would pass a cap; the next one may take it.
    Limit,
}

/// Everything that bounds a transaction besides its coins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Most inputs.
    pub inputs_max: usize,
    /// Weight of one signed input of the wallet at its largest.
    pub input_weight: u64,
    /// Most weight units (BIP-141); 400,000 is what nodes relay.
    pub weight_max: u64,
    /// Most bytes of all parents together, each counted once.
    pub parent_bytes_max: u64,
    /// Highest fee.
    pub fee_max: Amount,
    /// Highest fee as a share of what the transaction pays to others or to cold.
    pub fee_share_max: Percent,
    /// Lowest feerate; below it nodes do not relay.
    pub rate_min: FeeRate,
    /// Highest feerate, whoever asked for it.
    pub rate_max: FeeRate,
}

/// Most inputs a plan may have with P2WPKH coins under [`WEIGHT_MAX`].
pub const INPUTS_MAX: usize = 1_400;

/// Most bytes of parents the signer takes with one request, less a margin.
pub const PARENT_BYTES_MAX: u64 = 60 << 20;

/// What nodes relay (`MAX_STANDARD_TX_WEIGHT`).
pub const WEIGHT_MAX: u64 = 400_000;

/// What a replacement pays more per vbyte of itself (`DEFAULT_INCREMENTAL_RELAY_FEE`; BIP-125 rule 4).
pub const INCREMENTAL_RATE: FeeRate = FeeRate::from_sat_per_kvb(1_000);

/// The fee for so many weight units: per whole vbyte (rounded up, BIP-141), and up to a whole satoshi.
#[must_use]
pub fn fee_of(rate: FeeRate, weight: u64) -> Amount {
    let fee = rate.fee_for(weight.div_ceil(4));
    Amount::from_sat(u64::try_from(fee).unwrap_or(u64::MAX))
}

/// Why no plan could be made. Nothing was leased.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PlanError {
    /// Nothing to spend.
    #[error(
        "no-coins: the wallet has no final, free, proven and economic coin at {rate}: wait for confirmations or lower the feerate"
    )]
    NoCoins {
        /// The feerate that was planned with.
        rate: FeeRate,
    },
    /// The coins do not suffice.
    #[error(
        "insufficient-coins: {needed} are needed, fee included, and {available} are spendable: fund the wallet or wait for confirmations"
    )]
    Insufficient {
        /// Payment and fee.
        needed: Amount,
        /// All spendable coins together.
        available: Amount,
    },
    /// An output would be too small to relay.
    #[error("dust: an output of {amount} is below {least}, the least that nodes relay")]
    Dust {
        /// What it would hold.
        amount: Amount,
        /// The least for its script.
        least: Amount,
    },
    /// The feerate is not between the service's floor and cap.
    #[error("feerate-out-of-range: {rate} is not between this service's {least} and {most}")]
    Rate {
        /// Asked for.
        rate: FeeRate,
        /// The floor.
        least: FeeRate,
        /// The cap.
        most: FeeRate,
    },
    /// The fee is over one of the service's caps whatever coins are taken.
    #[error(
        "fee-over-cap: a fee of {fee} on {paid} is above this service's caps of {most} and {share}: lower the feerate or pay more at once"
    )]
    Fee {
        /// Would be paid to miners.
        fee: Amount,
        /// Would be paid to others or to cold.
        paid: Amount,
        /// Highest fee.
        most: Amount,
        /// Highest share.
        share: Percent,
    },
    /// Over the limit of inputs or weight.
    #[error(
        "too-many-inputs: the payment does not fit into {inputs_max} inputs: consolidate the wallet's coins first"
    )]
    Inputs {
        /// Allowed.
        inputs_max: usize,
    },
    /// Amounts that no real chain holds.
    #[error("amount-overflow: the coins' amounts do not add up within 64 bits")]
    Overflow,
}

impl Limits {
    /// The same for a wallet whose scripts are like this one.
    #[must_use]
    pub fn for_inputs_like(self, script: &bitcoin::Script) -> Self {
        Self { input_weight: size::input_weight(script), ..self }
    }

    fn check_rate(&self, rate: FeeRate) -> Result<(), PlanError> {
        if rate < self.rate_min || rate > self.rate_max {
            return Err(PlanError::Rate { rate, least: self.rate_min, most: self.rate_max });
        }
        Ok(())
    }

    pub(crate) fn check_fee(&self, fee: Amount, paid: Amount) -> Result<(), PlanError> {
        let share = self.fee_share_max;
        let fair = share.allows(fee.to_sat().into(), paid.to_sat().into()).unwrap_or(false);
        if fee > self.fee_max || !fair {
            return Err(PlanError::Fee { fee, paid, most: self.fee_max, share });
        }
        Ok(())
    }

    /// How many inputs fit beside these outputs.
    fn inputs_that_fit(&self, outputs: &[&bitcoin::Script]) -> usize {
        let mut most = self.inputs_max;
        while most > 0 && size::weight_of(most, self.input_weight, outputs) > self.weight_max {
            most = most.saturating_sub(1);
        }
        most
    }
}

/// Splits coins into those worth spending at `rate`, largest first (ties by outpoint), and the rest with reasons.
fn worth_spending(
    coins: &[Coin],
    rate: FeeRate,
    input_weight: u64,
) -> (Vec<Coin>, Vec<(Coin, LeftOut)>) {
    let cost = fee_of(rate, input_weight);
    let mut good = Vec::new();
    let mut rest = Vec::new();
    for coin in coins {
        match coin.standing {
            Standing::Spendable if coin.value > cost => good.push(*coin),
            Standing::Spendable => rest.push((*coin, LeftOut::Uneconomic)),
            other => rest.push((*coin, LeftOut::Standing(other))),
        }
    }
    good.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.outpoint.cmp(&b.outpoint)));
    good.dedup_by_key(|coin| coin.outpoint);
    (good, rest)
}

/// Keeps coins in their order while their parents fit; the others are returned.
fn split_by_parents(coins: &mut Vec<Coin>, bytes_max: u64) -> Vec<Coin> {
    let mut parents = BTreeSet::new();
    let mut bytes = 0_u64;
    let (fit, rest) = std::mem::take(coins).into_iter().partition(|coin| {
        if parents.contains(&coin.outpoint.txid) {
            return true;
        }
        let with = bytes.saturating_add(coin.parent_bytes);
        if with <= bytes_max {
            bytes = with;
            let _ = parents.insert(coin.outpoint.txid);
        }
        with <= bytes_max
    });
    *coins = fit;
    rest
}

fn total(coins: &[Coin]) -> Result<Amount, PlanError> {
    coins
        .iter()
        .try_fold(Amount::ZERO, |sum, coin| sum.checked_add(coin.value))
        .ok_or(PlanError::Overflow)
}

/// The fee for `weight` at `rate`, or what a replacement of a transaction that paid `replaced` must pay, if more.
fn fee_for(weight: u64, rate: FeeRate, replaced: Option<Amount>) -> Result<Amount, PlanError> {
    let fee = fee_of(rate, weight);
    match replaced {
        None => Ok(fee),
        Some(before) => {
            let floor =
                before.checked_add(fee_of(INCREMENTAL_RATE, weight)).ok_or(PlanError::Overflow)?;
            Ok(fee.max(floor))
        }
    }
}
