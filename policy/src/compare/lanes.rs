//! Lanes before and after. It never looks at what the log knows: whatever a window says, a smaller one says less.

use alloc::format;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::Comparison;
use super::names::{by_name, ends_no_later, subset};
use crate::grant::Grant;
use crate::names::ClientName;
use crate::rules::{FeeCaps, Lane, LaneKind, Rules, WindowCap};

pub(super) fn compare(before: &Rules, after: &Rules, said: &mut Comparison) {
    for (name, before, after) in by_name(before.lanes(), after.lanes(), |one| &one.name) {
        let evacuates = [before, after].iter().flatten().any(|lane| lane.is_evacuation());
        match (before, after) {
            (before, after) if before == after => {}
            _ if evacuates => said.governs(format!("lane \"{name}\", which evacuates, is changed")),
            (Some(_), None) => said.tightens(format!("lane \"{name}\" is gone")),
            (None, _) => said.may_loosen(format!("lane \"{name}\" is new")),
            (Some(before), Some(after)) => lane(before, after, said),
        }
    }
}

fn lane(before: &Lane, after: &Lane, said: &mut Comparison) {
    let what = format!("lane \"{}\"", before.name);
    grants(&what, before, after, said);
    if before.wallets != after.wallets {
        let less = subset(&after.wallets, &before.wallets);
        said.say(less, format!("{what} spends other wallets"));
    }
    if before.expires_unix != after.expires_unix {
        let sooner = ends_no_later(before.expires_unix, after.expires_unix);
        said.say(sooner, format!("{what} closes at another time"));
    }
    fee(&what, &before.fee, &after.fee, said);
    windows(&format!("{what}, fee budget"), &before.fee_budget, &after.fee_budget, said);
    kind(&what, &before.kind, &after.kind, said);
}

/// Who may ask, and for how much of the lane. What a grant leaves is compared, not whether it says so: whoever had one wallet by
/// name and has all of a lane with that one still has no more.
fn grants(what: &str, before: &Lane, after: &Lane, said: &mut Comparison) {
    let (old, new) = (clients(before), clients(after));
    if old != new {
        said.say(subset(&new, &old), format!("{what} has other clients"));
    }
    for (client, old, new) in by_name(&before.clients, &after.clients, |grant| &grant.client) {
        let (Some(old), Some(new)) = (old, new) else { continue };
        if old == new {
            continue;
        }
        let wallets: Vec<_> = before.spendable(old).collect();
        let less = after.spendable(new).all(|wallet| wallets.contains(&wallet))
            && keys_within(after, old, new)
            && ends_no_later(old.expires_unix, new.expires_unix);
        said.say(less, format!("{what}, client \"{client}\" is granted another part of it"));
    }
}

fn clients(lane: &Lane) -> Vec<&ClientName> {
    lane.clients.iter().map(|grant| &grant.client).collect()
}

/// Whether orders by no other keys can be brought. What a bump lane without pinned keys pays is whatever is out.
fn keys_within(after: &Lane, old: &Grant, new: &Grant) -> bool {
    let Some(pinned) = &old.order_keys else { return true };
    match (&new.order_keys, &after.kind) {
        (Some(keys), _) => subset(keys, pinned),
        (None, LaneKind::Withdraw { order_keys, .. }) => subset(order_keys, pinned),
        (None, _) => false,
    }
}

fn fee(what: &str, before: &FeeCaps, after: &FeeCaps, said: &mut Comparison) {
    said.cap(&format!("{what}, largest fee"), &before.max_total, &after.max_total);
    said.cap(&format!("{what}, largest fee rate"), &before.max_feerate, &after.max_feerate);
    said.cap(&format!("{what}, largest share of fees"), &before.max_percent, &after.max_percent);
}

/// Every old cap must still hold: by one over at least as long, of at most as much.
fn windows(what: &str, before: &[WindowCap], after: &[WindowCap], said: &mut Comparison) {
    let same = before.len() == after.len() && subset(before, after);
    if same {
        return;
    }
    let implied = |old: &WindowCap| {
        after.iter().any(|new| new.window_seconds >= old.window_seconds && new.sum <= old.sum)
    };
    said.say(before.iter().all(implied), format!("{what} is another"));
}

fn kind(what: &str, before: &LaneKind, after: &LaneKind, said: &mut Comparison) {
    match (before, after) {
        (before, after) if before == after => {}
        (
            LaneKind::Sweep { cold, min_cold_share },
            LaneKind::Sweep { cold: cold_after, min_cold_share: share_after },
        ) => {
            if cold != cold_after {
                said.governs(format!("{what} sweeps to \"{cold_after}\" and not to \"{cold}\""));
            }
            let what = format!("{what}, least share to cold");
            said.value(&what, min_cold_share, share_after, Ordering::Greater);
        }
        (
            LaneKind::Withdraw { order_keys, per_transaction, per_destination, limits },
            LaneKind::Withdraw {
                order_keys: keys_after,
                per_transaction: transaction_after,
                per_destination: destination_after,
                limits: limits_after,
            },
        ) => {
            if order_keys != keys_after {
                let less = subset(keys_after, order_keys);
                said.say(less, format!("{what} pays orders by other keys"));
            }
            said.cap(
                &format!("{what}, most for a transaction"),
                per_transaction,
                transaction_after,
            );
            if per_destination != destination_after {
                let less =
                    destination_after.is_some_and(|is| per_destination.is_none_or(|was| is <= was));
                said.say(less, format!("{what}, another most for a destination"));
            }
            windows(&format!("{what}, limits"), limits, limits_after, said);
        }
        (
            LaneKind::Bump { max_package, max_package_feerate },
            LaneKind::Bump { max_package: package_after, max_package_feerate: feerate_after },
        ) => {
            said.cap(&format!("{what}, most for a package"), max_package, package_after);
            said.cap(
                &format!("{what}, largest fee rate of a package"),
                max_package_feerate,
                feerate_after,
            );
        }
        _ => said.may_loosen(format!("{what} is of another kind")),
    }
}
