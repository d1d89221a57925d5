//! Freezes and denials: what nobody may do now, and what nobody may ever do. It never makes an exception.

use alloc::format;

use crate::evidence::FreezeScope;
use crate::intent::SlotId;
use crate::matching::Case;
use crate::names::{ClientName, LaneName, WalletName};
use crate::reason::{RuleId, Trace};
use crate::rules::Lane;

/// What moves, as far as a freeze asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moved<'a> {
    /// From this wallet.
    pub wallet: &'a WalletName,
    /// On this lane.
    pub lane: &'a LaneName,
    /// Asked by this client.
    pub caller: &'a ClientName,
    /// Whether the lane takes everything to cold storage.
    pub evacuates: bool,
}

impl FreezeScope {
    /// Whether it holds this back. Evacuation has its own freeze, and no other stops it.
    pub fn stops(&self, moved: &Moved<'_>, spends: impl Fn(&SlotId) -> bool) -> bool {
        match self {
            Self::Evacuation => moved.evacuates,
            _ if moved.evacuates => false,
            Self::Everything => true,
            Self::Wallet(wallet) => wallet == moved.wallet,
            Self::Lane(lane) => lane == moved.lane,
            Self::Client(client) => client == moved.caller,
            Self::Slot(coin) => spends(coin),
        }
    }
}

/// Checks what officers froze.
pub(crate) fn frozen(case: &Case<'_>, lane: Option<&Lane>, trace: &mut Trace) {
    let Some(freezes) = &case.evidence.freezes else {
        return trace.deny(RuleId::MissingEvidence, "the log does not say what is frozen");
    };
    let intent = case.intent;
    let moved = Moved {
        wallet: &intent.wallet,
        lane: &intent.lane,
        caller: &intent.caller,
        evacuates: lane.is_some_and(Lane::is_evacuation),
    };
    let spends = |coin: &SlotId| intent.slots.iter().any(|slot| slot.id == *coin);
    trace.each(RuleId::Frozen, "freezes", freezes, |freeze| {
        let (scope, officer, since) = (&freeze.scope, &freeze.officer, freeze.at_unix);
        let text = || format!("{scope} has been frozen by \"{officer}\" since {since}");
        scope.stops(&moved, spends).then(text)
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
        trace.by(&deny.name);
    }
}
