//! What lanes have that no client can use, and clients that can use nothing of a lane. It knows no time: what has ended is told
//! elsewhere.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::conditions::{Deny, When};
use crate::grant::Grant;
use crate::rules::{Lane, LaneKind, Rules};

/// Lanes and clients that a denial shuts, and wallets and order keys of lanes that no grant lets anybody have.
pub(super) fn remarks(rules: &Rules) -> Vec<String> {
    rules.lanes().iter().flat_map(|lane| shut(lane, rules).into_iter().chain(idle(lane))).collect()
}

fn shut(lane: &Lane, rules: &Rules) -> Vec<String> {
    let plain =
        |when: &When| when.destinations.is_none() && when.above.is_none() && when.asks_no_facts();
    let all = |deny: &&Deny| plain(&deny.when) && deny.when.covers(lane);
    if let Some(deny) = rules.denies().iter().find(all) {
        return [format!("lane \"{}\" is shut: \"{}\" denies all of it", lane.name, deny.name)]
            .into();
    }
    let of_one = |grant: &Grant| {
        let shuts = |deny: &&Deny| plain(&deny.when) && deny.when.covers_grant(lane, grant);
        let deny = rules.denies().iter().find(shuts)?;
        let client = &grant.client;
        Some(format!(
            "client \"{client}\" can do nothing on lane \"{}\": \"{}\" denies all of it",
            lane.name, deny.name
        ))
    };
    lane.clients.iter().filter_map(of_one).collect()
}

fn idle(lane: &Lane) -> Vec<String> {
    let name = &lane.name;
    let wallets = lane.wallets.iter();
    let wallets = wallets.filter(|wallet| !lane.clients.iter().any(|grant| grant.spends(wallet)));
    let wallets = wallets.map(|wallet| {
        format!("lane \"{name}\": no client is granted its wallet \"{wallet}\", so that nobody spends it there")
    });
    let keys = match &lane.kind {
        LaneKind::Withdraw { order_keys, .. } => order_keys.as_slice(),
        _ => &[],
    };
    let keys = keys.iter().filter(|key| !lane.clients.iter().any(|grant| grant.brings(key)));
    let keys = keys.map(|key| {
        format!("lane \"{name}\": no client is granted its order key \"{key}\", so that nobody brings what it ordered")
    });
    wallets.chain(keys).collect()
}
