//! Coins that were signed before: allowed again only when at most one of the transactions can confirm and
//! nothing new leaves. It never releases a coin that a signature was given out for; that needs people.

use alloc::collections::BTreeSet;
use alloc::format;

use crate::evidence::{EarlierUse, Evidence};
use crate::intent::{Destination, Intent};
use crate::order::{OrderRef, VerifiedOrder};
use crate::reason::{RuleId, Trace};

/// Fee bumps need a handful of transactions over one coin. More only fill the log; but they are counted over a day, so
/// that nobody freezes a coin for ever with transactions that will never confirm.
pub(crate) const MAX_VERSIONS: u32 = 64;

/// Checks every slot against what the log knows of it.
pub(crate) fn check(intent: &Intent, evidence: &Evidence, trace: &mut Trace) {
    let repriced = evidence.repriced.len();
    let text = format!("{repriced} inputs are worth something else than first proven");
    trace.check(RuleId::SlotRepriced, repriced == 0, text);

    let others = evidence.most_versions;
    let text = format!(
        "one input was signed for in {others} other transactions within a day, at most {MAX_VERSIONS} with this one may be"
    );
    trace.check(RuleId::SlotVersions, others < MAX_VERSIONS, text);

    let orders: BTreeSet<OrderRef> = intent.orders.iter().map(VerifiedOrder::reference).collect();
    let stays = intent.transfers.iter().all(|t| !matches!(t.to, Destination::External { .. }));
    let may_follow = |earlier: &&EarlierUse| {
        let same: BTreeSet<OrderRef> = earlier.orders.iter().cloned().collect();
        // What never left and never can is no other way for the coin to go. Even if somebody had stolen its
        // signatures, at most one of the two could confirm: better this one than one that pays with other coins.
        earlier.void
        // The same orders on both sides: either the same payouts again, or, with none, coins that stay ours.
        // A transaction may only stand for other orders if it were another transaction.
            || same == orders && (stays || !orders.is_empty())
    };
    let uses = evidence.uses.len();
    let refused = evidence.uses.iter().find(|earlier| !may_follow(earlier));
    let text = match refused {
        None => format!(
            "{uses} earlier signatures over these inputs, all of which this one may replace"
        ),
        Some(earlier) => {
            let (lane, paid) = (&earlier.lane, earlier.orders.len());
            format!(
                "an input was signed before on lane \"{lane}\", paying {paid} orders: not the same orders as here"
            )
        }
    };
    trace.check(RuleId::SlotSigned, refused.is_none(), text);
}
