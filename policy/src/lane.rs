//! Whether the caller may use the lane it asks for, on that wallet, now. It never looks at what moves.

use alloc::format;

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
    let granted = lane.clients.contains(caller);
    trace.check(
        RuleId::LaneCaller,
        granted,
        format!("client \"{caller}\" {} granted lane \"{name}\"", is(granted)),
    );
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

fn is(yes: bool) -> &'static str {
    if yes { "is" } else { "is not" }
}
