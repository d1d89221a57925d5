//! Freezes and denials: what nobody may do now, and what nobody may ever do. It never makes an exception.

use alloc::format;

use crate::evidence::FreezeScope;
use crate::matching::Case;
use crate::reason::{RuleId, Trace};
use crate::rules::Lane;

/// Checks what officers froze. Evacuation has its own freeze, and no other stops it.
pub(crate) fn frozen(case: &Case<'_>, lane: Option<&Lane>, trace: &mut Trace) {
    let Some(freezes) = &case.evidence.freezes else {
        return trace.deny(RuleId::MissingEvidence, "the log does not say what is frozen");
    };
    let (intent, evacuates) = (case.intent, lane.is_some_and(Lane::is_evacuation));
    let stops = |scope: &FreezeScope| match scope {
        FreezeScope::Everything => !evacuates,
        FreezeScope::Evacuation => evacuates,
        FreezeScope::Wallet(wallet) => !evacuates && *wallet == intent.wallet,
        FreezeScope::Lane(lane) => !evacuates && *lane == intent.lane,
        FreezeScope::Client(client) => !evacuates && *client == intent.caller,
        FreezeScope::Slot(coin) => !evacuates && intent.slots.iter().any(|slot| slot.id == *coin),
    };
    trace.each(RuleId::Frozen, "freezes", freezes, |freeze| {
        let (scope, officer, since) = (&freeze.scope, &freeze.officer, freeze.at_unix);
        let text = || format!("{scope} has been frozen by \"{officer}\" since {since}");
        stops(scope).then(text)
    });
}

/// Checks the policy's own denials.
pub(crate) fn denied(case: &Case<'_>, trace: &mut Trace) {
    for deny in case.rules.denies() {
        if !case.is_in_force(deny.expires_unix) {
            continue;
        }
        let applies = deny.when.applies(&deny.name, case, trace);
        let is = if applies { "is" } else { "is not" };
        let text = ["this ", is, " what \"", deny.name.as_str(), "\" denies"].concat();
        trace.check(RuleId::DenyRule, !applies, text);
    }
}
