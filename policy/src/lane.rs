//! Whether the caller may use the lane it asks for, on that wallet, now. It never looks at what moves.

use alloc::format;

use crate::grant::Grant;
use crate::intent::Intent;
use crate::reason::{RuleId, Trace};
use crate::rules::{Lane, Rules};

/// The lane, when there is one; default deny when there is none.
pub(crate) fn check<'a>(
    intent: &Intent,
    rules: &'a Rules,
    now_unix: u64,
    trace: &mut Trace,
) -> Option<&'a Lane> {
    let Intent { lane: name, caller, wallet, .. } = intent;
    let lane = rules.lane(name);
    let (said, version) = (if lane.is_some() { "is" } else { "is not" }, rules.version());
    trace.check(
        RuleId::UnknownLane,
        lane.is_some(),
        format!("lane \"{name}\" {said} in policy version {version}"),
    );
    let lane = lane?;
    let grant = lane.grant(caller);
    let granted = grant.is_some();
    trace.check(
        RuleId::LaneCaller,
        granted,
        format!("client \"{caller}\" {} granted lane \"{name}\"", is(granted)),
    );
    if let Some(grant) = grant {
        narrowed(intent, grant, now_unix, trace);
    }
    if let Some(expires) = rules.client(caller).and_then(|client| client.expires_unix) {
        trace.check(
            RuleId::ClientExpired,
            now_unix <= expires,
            format!("client \"{caller}\" may ask until {expires}, and it is {now_unix}"),
        );
    }
    let allowed = lane.wallets.contains(wallet);
    trace.check(
        RuleId::LaneWallet,
        allowed,
        format!("lane \"{name}\" {} allowed to spend wallet \"{wallet}\"", is(allowed)),
    );
    if let Some(expires) = lane.expires_unix {
        let open = now_unix <= expires;
        trace.check(
            RuleId::LaneExpired,
            open,
            format!("lane \"{name}\" is open until {expires}, and it is {now_unix}"),
        );
    }
    Some(lane)
}

/// What the caller's grant of the lane leaves it of that. Whether an order's key is the one that its name stands for is looked at
/// with the orders.
fn narrowed(intent: &Intent, grant: &Grant, now_unix: u64, trace: &mut Trace) {
    let Intent { lane, caller, wallet, .. } = intent;
    let whose = || format!("client \"{caller}\", by its grant of lane \"{lane}\",");
    if grant.wallets.is_some() {
        let spends = grant.spends(wallet);
        let may = if spends { "may" } else { "may not" };
        trace.check(
            RuleId::GrantWallet,
            spends,
            format!("{} {may} spend wallet \"{wallet}\"", whose()),
        );
    }
    if grant.order_keys.is_some() && intent.orders.is_empty() {
        let text = format!("{} brings orders by its own keys alone, and this has none", whose());
        trace.deny(RuleId::GrantOrderKey, text);
    } else if grant.order_keys.is_some() {
        trace.each(RuleId::GrantOrderKey, "orders", &intent.orders, |order| {
            let (id, signer) = (&order.order().id, order.signer());
            let text =
                || format!("{} may not bring order \"{id}\", signed by \"{signer}\"", whose());
            (!grant.brings(signer)).then(text)
        });
    }
    if let Some(expires) = grant.expires_unix {
        let text = format!("{} may ask until {expires}, and it is {now_unix}", whose());
        trace.check(RuleId::GrantExpired, now_unix <= expires, text);
    }
}

fn is(yes: bool) -> &'static str {
    if yes { "is" } else { "is not" }
}
