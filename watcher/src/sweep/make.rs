//! Makes one sweep: plan, PSBT, row, leases and event, all durable at once. It never asks for a signature.

use asset::FeeRate;
use bitcoin::{Amount, OutPoint, Script};
use proto::StatusReply;
use serde_json::{Value, json};

use crate::book::bytes;
use crate::coins;
use crate::error::Error;
use crate::leases::{self, Holder};
use crate::plan::sweep::SweepPlan;
use crate::plan::{self, Coin, LeftOut, Limits, Standing};
use crate::progress::State;
use crate::psbt::{self, Input, Output, Payee, PsbtError};
use crate::rows::stored_txid;
use crate::scan::Branch;
use crate::spend::Spender;
use crate::store::{StoreError, Tx};
use crate::wallets::Wallet;

use super::row::{self, SweepRow};

/// What is wanted.
pub(super) struct Wish<'a> {
    pub(super) wallet: &'a Wallet,
    pub(super) key: String,
    pub(super) digest: [u8; 32],
    pub(super) rate: FeeRate,
    pub(super) limits: Limits,
    pub(super) choice: Choice<'a>,
    /// The lane of an evacuation; `None` for that of sweeps.
    pub(super) lane: Option<&'a str>,
}

/// Which coins.
pub(super) enum Choice<'a> {
    /// Whatever the wallet has.
    All,
    /// What is left of a sweep that cannot confirm.
    Rest {
        /// That sweep.
        of: &'a str,
        /// The coins that are left.
        coins: &'a [OutPoint],
    },
    /// Exactly those of a sweep that waits for too long, at a higher fee.
    Again {
        /// That sweep.
        of: &'a SweepRow,
        /// Its coins.
        coins: &'a [Coin],
    },
}

impl Choice<'_> {
    fn replaces(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Rest { of, .. } => Some(of),
            Self::Again { of, .. } => Some(&of.id),
        }
    }
}

/// Makes the sweep, or finds the one made for the same key. Returns its id.
pub(super) async fn make(app: &Spender, wish: &Wish<'_>) -> Result<String, Error> {
    let _one_at_a_time = app.planning.lock().await;
    let tenant = &wish.wallet.tenant;
    if let Some(id) = row::by_key(app, tenant, &wish.key, wish.digest).await? {
        return Ok(id);
    }
    let cold = app.cold_for(tenant, wish.lane)?;
    let mut coins = coins::candidates(app.store.reader(), &wish.wallet.name).await?;
    if let Choice::Rest { coins: only, .. } = wish.choice {
        coins.retain(|coin| only.contains(&coin.outpoint));
    }
    // Every cold script is as long as the first: plan before the signer is asked for the index.
    let _ = wish.plan(&coins, &cold.script(Branch::External, 0)?)?;
    let status = app.signer.status().await?;
    app.wallets.note_tiers(&app.store, &status).await?;
    coins::mark_unproven(&mut coins, &status, &wish.wallet.name);
    let cold_index = next_cold_index(app, cold, &status).await?;
    let plan = wish.plan(&coins, &cold.script(Branch::External, cold_index)?)?;
    let psbt = write(wish.wallet, cold, cold_index, &plan)?;
    let sweep = SweepRow {
        id: new_id()?,
        tenant: tenant.clone(),
        number: 0,
        wallet: wish.wallet.name.clone(),
        cold_wallet: cold.name.clone(),
        cold_index,
        state: State::Planned,
        txid: stored_txid(psbt::txid(&psbt)),
        psbt: psbt.serialize(),
        to_cold: plan.to_cold.to_sat().into(),
        fee: plan.fee.to_sat().into(),
        block: None,
        reasons: Vec::new(),
        replaced_by: None,
        replaces: wish.choice.replaces().map(str::to_owned),
        inputs: u32::try_from(plan.inputs.len()).unwrap_or(u32::MAX),
        tier: status
            .wallets
            .iter()
            .find(|held| held.name == wish.wallet.name)
            .map(|held| held.tier.clone()),
        lane: wish.lane.map(str::to_owned),
    };
    store(app, wish, cold, sweep, &plan).await
}

impl Wish<'_> {
    fn plan(&self, candidates: &[Coin], cold: &Script) -> Result<SweepPlan, Error> {
        let plan = match &self.choice {
            Choice::All | Choice::Rest { .. } => {
                plan::sweep::sweep(candidates, cold, self.rate, &self.limits)
            }
            Choice::Again { of, coins } => {
                let fee = u64::try_from(of.fee).map_err(|e| Error::Broken(e.to_string()))?;
                plan::sweep::again(coins, cold, self.rate, Amount::from_sat(fee), &self.limits)
            }
        };
        Ok(plan?)
    }
}

/// One transaction: row, inputs, leases, event.
async fn store(
    app: &Spender,
    wish: &Wish<'_>,
    cold: &Wallet,
    mut sweep: SweepRow,
    plan: &SweepPlan,
) -> Result<String, Error> {
    let mut tx = app.store.begin().await?;
    sweep.number =
        sqlx::query_scalar("SELECT COALESCE(MAX(number), 0) + 1 FROM sweeps WHERE tenant = $1")
            .bind(&sweep.tenant)
            .fetch_one(tx.sql())
            .await?;
    sweep.insert(&mut tx, &wish.key, wish.digest).await?;
    insert_inputs(&mut tx, &sweep.id, &plan.inputs).await?;
    let holder = Holder::sweep(&sweep.id);
    let mut free = true;
    if let Choice::Again { of, .. } = wish.choice {
        free = end(&mut tx, app, of).await?;
        leases::hand_over(&mut tx, &Holder::sweep(&of.id), &holder).await?;
    }
    if !free || !leases::lease(&mut tx, &app.book, &holder, &plan.inputs).await? {
        return Err(Error::refused(
            tonic::Code::Aborted,
            "coins-changed",
            "the chain moved while the sweep was planned; try again",
        ));
    }
    cold.note_used(&mut tx, Branch::External, sweep.cold_index).await?;
    if let Some(replaced) = &sweep.replaces {
        sqlx::query("UPDATE sweeps SET replaced_by = $1, recut = NULL WHERE id = $2")
            .bind(&sweep.id)
            .bind(replaced)
            .execute(tx.sql())
            .await?;
    }
    sweep
        .event(&mut tx, &app.book, "planned", &json!({ "left_out": left_out(&plan.left_out) }))
        .await?;
    tx.commit().await?;
    tracing::info!(
        sweep = sweep.id, wallet = sweep.wallet, inputs = sweep.inputs, to_cold = %sweep.to_cold, fee = %sweep.fee,
        left_out = plan.left_out.len(), "planned a sweep"
    );
    Ok(sweep.id)
}

/// Ends the sweep that another one takes the place of; should it confirm all the same, that is seen.
async fn end(tx: &mut Tx, app: &Spender, sweep: &SweepRow) -> Result<bool, StoreError> {
    let ended = SweepRow { state: State::Replaced, ..sweep.clone() };
    ended.change(tx, &app.book, sweep.state, &["replaced"]).await
}

async fn insert_inputs(tx: &mut Tx, sweep: &str, inputs: &[Coin]) -> Result<(), StoreError> {
    for (position, coin) in (0_i64..).zip(inputs) {
        let units = asset::Amount::from(coin.value.to_sat());
        sqlx::query("INSERT INTO sweep_inputs (sweep, position, txid, vout, amount) VALUES ($1, $2, $3, $4, $5)")
            .bind(sweep)
            .bind(position)
            .bind(bytes(&coin.outpoint.txid))
            .bind(i64::from(coin.outpoint.vout))
            .bind(units.to_be_bytes().to_vec())
            .execute(tx.sql())
            .await?;
    }
    Ok(())
}

/// The lowest index of cold storage that no sweep was signed for and none that may still be signed has.
pub(super) async fn next_cold_index(
    app: &Spender,
    cold: &Wallet,
    status: &StatusReply,
) -> Result<u32, Error> {
    let known = status.wallets.iter().find(|wallet| wallet.name == cold.name).ok_or_else(|| {
        Error::refused(
            tonic::Code::FailedPrecondition,
            "cold-unknown",
            format!("the signer's policy has no wallet \"{}\"", cold.name),
        )
    })?;
    let planned: i64 = sqlx::query_scalar(
        "SELECT COALESCE(MAX(s.cold_index) + 1, 0) FROM sweeps s WHERE s.cold_wallet = $1 AND (s.state = 'planned'
             OR EXISTS (SELECT 1 FROM made_transactions m WHERE m.kind = 'sweep' AND m.object = s.id))",
    )
    .bind(&cold.name)
    .fetch_one(app.store.reader())
    .await?;
    let planned =
        u32::try_from(planned).map_err(|_| Error::Broken("a cold index does not fit".into()))?;
    Ok(planned.max(known.next_cold_index))
}

fn write(
    wallet: &Wallet,
    cold: &Wallet,
    cold_index: u32,
    plan: &SweepPlan,
) -> Result<bitcoin::Psbt, Error> {
    let inputs = inputs(wallet, &plan.inputs)?;
    let to = Payee::Own(Box::new(cold.derive(Branch::External, cold_index)?));
    Ok(psbt::unsigned(&inputs, vec![Output { value: plan.to_cold, to }])?)
}

/// Coins of a wallet as inputs of a PSBT.
pub(crate) fn inputs(wallet: &Wallet, coins: &[Coin]) -> Result<Vec<Input>, StoreError> {
    let input = |coin: &Coin| {
        let branch = if coin.change { Branch::Change } else { Branch::External };
        let at = wallet.derive(branch, coin.index)?;
        Ok(Input { outpoint: coin.outpoint, value: coin.value, at })
    };
    coins.iter().map(input).collect()
}

/// How many coins stay where they are, and how much they hold, by reason.
fn left_out(coins: &[(Coin, LeftOut)]) -> Value {
    let why = |wanted: fn(&LeftOut) -> bool| {
        let these = coins.iter().filter(|(_, why)| wanted(why));
        let (count, sat) = these.fold((0_u64, 0_u64), |(count, sat), (coin, _)| {
            (count.saturating_add(1), sat.saturating_add(coin.value.to_sat()))
        });
        json!({ "coins": count, "units": sat.to_string() })
    };
    json!({
        "not_final": why(|w| matches!(w, LeftOut::Standing(Standing::NotFinal | Standing::Spendable))),
        "leased": why(|w| matches!(w, LeftOut::Standing(Standing::Leased))),
        "held": why(|w| matches!(w, LeftOut::Standing(Standing::Held))),
        "not_proven": why(|w| matches!(w, LeftOut::Standing(Standing::NotProven))),
        "faulty": why(|w| matches!(w, LeftOut::Standing(Standing::Faulty))),
        "uneconomic": why(|w| matches!(w, LeftOut::Uneconomic)),
        "over_limit": why(|w| matches!(w, LeftOut::Limit)),
    })
}

/// Random, so that a watcher restored from a backup never gives the signer an old id with new content.
fn new_id() -> Result<String, Error> {
    let mut id = [0_u8; 16];
    getrandom::fill(&mut id).map_err(|error| Error::Broken(format!("no randomness: {error}")))?;
    Ok(hex::encode(id))
}

impl From<PsbtError> for Error {
    fn from(error: PsbtError) -> Self {
        Self::Broken(error.to_string())
    }
}
