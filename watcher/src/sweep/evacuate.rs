//! Everything of a wallet to cold storage by a lane of `[[evacuate]]`: as many sweeps as its coins need, each of them carried like any
//! other, and what stays and why. It never takes a coin that something else has, and a rehearsal of it keeps nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;

use bitcoin::Amount;
use proto::{EvacuateMode, EvacuateRequest, Evacuation, StatusReply, Staying, Sweep};
use sha2::{Digest as _, Sha256};

use crate::coins::{self, Known};
use crate::config::Purpose;
use crate::error::Error;
use crate::plan::sweep::{Everything, SweepPlan};
use crate::plan::{self, LeftOut, PlanError, Standing};
use crate::progress::State;
use crate::scan::Branch;
use crate::signer_client::Reason;
use crate::spend::Spender;
use crate::store::now_unix;

use super::make::{self, Choice, Wish};
use super::row::{self, SweepRow};

/// Sweeps that one call plans; whoever has more coins asks again.
const AT_ONCE: usize = 16;
/// For how long what is settled is still shown, in seconds.
const SHOWN_SECONDS: i64 = 7 * 86_400;
/// Outpoints that are named of each group of coins.
const NAMED: usize = 10;
/// Groups of coins that are told apart; those beyond are one.
const GROUPS_MAX: usize = 500;

/// Plans whatever of a wallet is free, unless it is only to be looked at or rehearsed, and says how all of it stands.
///
/// # Errors
/// A refusal that says what is not configured, or `UNAVAILABLE` when node or signer must be asked and cannot.
pub async fn evacuate(
    app: &Spender,
    tenant: &str,
    request: &EvacuateRequest,
) -> Result<Evacuation, Error> {
    let wallet = app.wallet(tenant, &request.wallet)?;
    if wallet.purpose == Purpose::Cold {
        return Err(Error::invalid(
            "cold-storage",
            "evacuations go to cold storage, not out of it",
        ));
    }
    let lane = request.lane.as_str();
    if app.config.evacuation(lane).is_none() {
        let shown: String = lane.chars().take(64).collect();
        let text = format!(
            "no lane \"{shown}\" is configured to evacuate by: write a [[spend.evacuations]] for it, as the policy's [[evacuate]] says"
        );
        return Err(Error::refused(tonic::Code::NotFound, "unknown-lane", text));
    }
    let mode = request.mode();
    let limits = app.config.limits_on(Some(lane));
    let limits = limits.for_inputs_like(&wallet.script(Branch::External, 0)?);
    let rate = app.feerate_up_to(&request.feerate, limits.rate_max).await?;
    let mut wish = Wish {
        wallet,
        key: String::new(),
        digest: [0; 32],
        rate,
        limits,
        choice: Choice::All,
        lane: Some(lane),
    };
    if mode == EvacuateMode::Evacuate {
        make_some(app, &mut wish, lane).await?;
        for row in row::evacuating(app, tenant, (&wallet.name, lane), now_unix()).await? {
            if row.state == State::Planned {
                app.unanswered.add(&row.id);
            }
        }
        app.hurry.store(true, Ordering::Relaxed);
        app.wake.notify_one();
    }
    look(app, tenant, &wish, mode).await
}

/// Makes sweeps until nothing is free any more, or enough for one call. What cannot be planned, whoever looks will see.
async fn make_some(app: &Spender, wish: &mut Wish<'_>, lane: &str) -> Result<(), Error> {
    let wallet = &wish.wallet.name;
    for _ in 0..AT_ONCE {
        let number: i64 =
            sqlx::query_scalar("SELECT COUNT(*) FROM sweeps WHERE wallet = $1 AND lane = $2")
                .bind(wallet)
                .bind(lane)
                .fetch_one(app.store.reader())
                .await?;
        // No caller's key has a slash.
        wish.key = format!("evacuate/{lane}/{wallet}/{number}");
        wish.digest = Sha256::digest(format!("evacuate-v1\n{lane}\n{wallet}\n{number}\n")).into();
        match make::make(app, wish).await {
            Ok(_) | Err(Error::Refused { reason: "coins-changed", .. }) => {}
            Err(Error::Refused { reason: "no-coins" | "fee-over-cap" | "dust", .. }) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn look(
    app: &Spender,
    tenant: &str,
    wish: &Wish<'_>,
    mode: EvacuateMode,
) -> Result<Evacuation, Error> {
    let (wallet, lane) = (wish.wallet, wish.lane.unwrap_or_default());
    let cold = app.cold_for(tenant, wish.lane)?;
    let status = app.signer.status().await;
    let mut problems = Vec::new();
    let mut script = cold.script(Branch::External, 0)?;
    match &status {
        Ok(status) => {
            script =
                cold.script(Branch::External, make::next_cold_index(app, cold, status).await?)?;
            problems.extend(troubles(status, &wallet.name));
        }
        // How it goes is in our own tables.
        Err(_) if mode == EvacuateMode::Look => {}
        Err(error) => return Err(error.clone().into()),
    }
    let since = now_unix().saturating_sub(SHOWN_SECONDS);
    let rows = row::evacuating(app, tenant, (&wallet.name, lane), since).await?;
    let own: BTreeSet<String> = rows.iter().map(|row| format!("sweep/{}", row.id)).collect();
    let mut held = coins::held(app.store.reader(), &wallet.name).await?;
    held.retain(|known| known.lease.as_ref().is_none_or(|lease| !own.contains(lease)));
    let (leaving, here): (Vec<Known>, Vec<Known>) =
        held.into_iter().partition(|known| known.spent.is_some());
    let mut free: Vec<_> = here.iter().map(|known| known.coin).collect();
    if let Ok(status) = &status {
        coins::mark_unproven(&mut free, status, &wallet.name);
    }
    let everything = plan::sweep::everything(&free, &script, wish.rate, &wish.limits);

    let nothing = everything.plans.is_empty() && everything.problem.is_none() && rows.is_empty();
    let problem =
        everything.problem.clone().or(nothing.then_some(PlanError::NoCoins { rate: wish.rate }));
    problems.extend(problem.map(|problem| Reason::from_sentence(&problem.to_string())));
    let rehearsed = mode == EvacuateMode::Rehearse;
    let tier = status.ok().and_then(|status| {
        status.wallets.into_iter().find(|held| held.name == wallet.name).map(|held| held.tier)
    });
    let sweeps = if rehearsed {
        let sweep = |plan| rehearsal(app, wish, plan, tier.clone());
        everything.plans.iter().map(sweep).collect()
    } else {
        rows.iter().map(|row| as_it_stands(app, row)).collect()
    };
    Ok(Evacuation {
        sweeps,
        more: mode == EvacuateMode::Evacuate && !everything.plans.is_empty(),
        staying: staying(app, &everything, &here, &leaving, rehearsed),
        cold_wallet: cold.name.clone(),
        problems: problems.into_iter().map(Into::into).collect(),
    })
}

/// What the signer says of itself that would stop it, without being asked for anything.
fn troubles(status: &StatusReply, wallet: &str) -> Vec<Reason> {
    let mut troubles = Vec::new();
    if !status.token_ready {
        let text = format!("the signer's token is not ready: {}", status.token_problem);
        troubles.push(Reason { code: "token-not-ready".into(), text });
    }
    let held = status.wallets.iter().find(|held| held.name == wallet);
    if let Some(held) = held
        && !matches!(held.key_state.as_str(), "" | "active")
    {
        let text = format!("the signer says that the wallet's key is {}", held.key_state);
        troubles.push(Reason { code: format!("key-{}", held.key_state), text });
    }
    troubles
}

/// A sweep; what it waited for before it is asked for again is left out.
fn as_it_stands(app: &Spender, row: &SweepRow) -> Sweep {
    let mut sweep = row.to_proto(&app.book);
    if row.state == State::Planned && app.unanswered.has(&row.id) {
        sweep.reasons.clear();
    }
    sweep
}

/// A sweep that is not made.
fn rehearsal(app: &Spender, wish: &Wish<'_>, plan: &SweepPlan, tier: Option<String>) -> Sweep {
    Sweep {
        wallet: wish.wallet.name.clone(),
        state: State::Planned.word().into(),
        inputs: u32::try_from(plan.inputs.len()).unwrap_or(u32::MAX),
        to_cold: Some(units(app, plan.to_cold)),
        fee: Some(units(app, plan.fee)),
        tier: tier.unwrap_or_default(),
        lane: wish.lane.unwrap_or_default().to_owned(),
        ..Sweep::default()
    }
}

fn units(app: &Spender, amount: Amount) -> proto::Amount {
    proto::Amount { asset: app.book.asset.to_string(), units: amount.to_sat().to_string() }
}

/// The coins that stay, by reason and holder, the most first.
fn staying(
    app: &Spender,
    everything: &Everything,
    here: &[Known],
    leaving: &[Known],
    rehearsed: bool,
) -> Vec<Staying> {
    let leases: BTreeMap<_, _> =
        here.iter().filter_map(|known| Some((known.coin.outpoint, known.lease.clone()?))).collect();
    let mut groups = BTreeMap::<(&str, String), Vec<_>>::new();
    for (coin, why) in &everything.left_out {
        let holder = leases.get(&coin.outpoint).cloned().unwrap_or_default();
        groups.entry((word(*why), holder)).or_default().push(*coin);
    }
    for known in leaving {
        let spender = known.spent.map(|(txid, _)| txid.to_string()).unwrap_or_default();
        let key = match &known.lease {
            Some(lease) => ("leased", lease.clone()),
            None => ("leaving", spender),
        };
        groups.entry(key).or_default().push(known.coin);
    }
    if !rehearsed {
        let free = everything.plans.iter().flat_map(|plan| &plan.inputs).copied();
        groups.entry(("free", String::new())).or_default().extend(free);
    }
    let group = |((reason, holder), mut coins): ((&str, String), Vec<plan::Coin>)| {
        coins.sort_by(|a, b| b.value.cmp(&a.value).then_with(|| a.outpoint.cmp(&b.outpoint)));
        let sum = coins.iter().fold(0_u64, |sum, coin| sum.saturating_add(coin.value.to_sat()));
        let staying = Staying {
            reason: reason.to_owned(),
            holder,
            coins: u32::try_from(coins.len()).unwrap_or(u32::MAX),
            amount: Some(units(app, Amount::from_sat(sum))),
            outpoints: coins.iter().take(NAMED).map(|coin| coin.outpoint.to_string()).collect(),
        };
        (sum, staying)
    };
    let mut all: Vec<_> =
        groups.into_iter().filter(|(_, coins)| !coins.is_empty()).map(group).collect();
    all.sort_by_key(|(sum, _)| std::cmp::Reverse(*sum));
    let others = all.split_off(GROUPS_MAX.min(all.len()));
    let mut all: Vec<_> = all.into_iter().map(|(_, staying)| staying).collect();
    if !others.is_empty() {
        let sum = others.iter().fold(0_u64, |sum, (sat, _)| sum.saturating_add(*sat));
        let coins = others.iter().fold(0_u32, |sum, (_, one)| sum.saturating_add(one.coins));
        all.push(Staying {
            // Only holders are so many.
            reason: "leased".into(),
            holder: format!("{} others", others.len()),
            coins,
            amount: Some(units(app, Amount::from_sat(sum))),
            outpoints: Vec::new(),
        });
    }
    all
}

fn word(why: LeftOut) -> &'static str {
    match why {
        LeftOut::Standing(Standing::NotFinal | Standing::Spendable) => "not-final",
        LeftOut::Standing(Standing::Leased) => "leased",
        LeftOut::Standing(Standing::Held) => "held",
        LeftOut::Standing(Standing::NotProven) => "not-proven",
        LeftOut::Standing(Standing::Faulty) => "faulty",
        LeftOut::Uneconomic => "uneconomic",
        LeftOut::Limit => "over-cap",
    }
}
