//! What a freeze holds back of that which is no decision any more: answers that the log has, and addresses; and answers that
//! officers took back before they were let out. It never says to a caller what it is, and never looks at anything but what is
//! frozen or taken back now.

use policy::evidence::FreezeScope;
use policy::intent::RequestId;
use policy::names::{ClientName, WalletName};
use policy::reason::Verdict;
use policy::rules::Lane;
use policy::{Finding, Moved, RuleId, Rules};

use crate::ledger::{Ledger, Released};
use crate::refusal::{Reason, Refusal};

/// Whether what was signed before may be told: for whoever asked for it then, and for whoever asks now.
///
/// # Errors
/// [`Reason::PolicyDenied`] in the words that every caller hears.
pub(crate) fn may_tell(
    rules: &Rules,
    ledger: &Ledger,
    released: &Released,
    asks: &ClientName,
) -> Result<(), Refusal> {
    if taken_back(ledger, released.request).is_some() {
        return Err(denied());
    }
    let (wallet, lane) = (&released.wallet, &released.lane);
    let evacuates = rules.lane(lane).is_some_and(Lane::is_evacuation);
    let spends = |coin: &_| ledger.spends_coin(released.request, coin);
    let stopped = [&released.caller, asks].into_iter().any(|caller| {
        let moved = Moved { wallet, lane, caller, evacuates };
        ledger.people().freezes().any(|(_, frozen)| frozen.scope.stops(&moved, spends))
    });
    if stopped { Err(denied()) } else { Ok(()) }
}

/// Why the answer to a request is given to nobody, whoever asks and whatever is frozen.
pub(crate) fn taken_back(ledger: &Ledger, request: RequestId) -> Option<Finding> {
    let withheld = ledger.people().withheld(request)?;
    let rule = match withheld.code.as_str() {
        "vetoed" => RuleId::Vetoed,
        "revoked" => RuleId::Approvals,
        _ => RuleId::Rejected,
    };
    Some(Finding { rule, verdict: Verdict::Deny, text: withheld.text.clone(), name: None })
}

/// Whether addresses of the wallet may be attested for the client: nobody is to pay in where nothing may move.
///
/// # Errors
/// As for [`may_tell`].
pub(crate) fn may_attest(
    ledger: &Ledger,
    client: &ClientName,
    wallet: &WalletName,
) -> Result<(), Refusal> {
    let stops = |scope: &FreezeScope| match scope {
        FreezeScope::Everything => true,
        FreezeScope::Wallet(frozen) => frozen == wallet,
        FreezeScope::Client(frozen) => frozen == client,
        FreezeScope::Evacuation | FreezeScope::Lane(_) | FreezeScope::Slot(_) => false,
    };
    match ledger.people().freezes().any(|(_, frozen)| stops(&frozen.scope)) {
        true => Err(denied()),
        false => Ok(()),
    }
}

/// In one code with everything else that callers do not hear of.
pub(crate) fn denied() -> Refusal {
    let text = "the policy does not allow this now: officers know why. The same may be asked again later, and is decided anew";
    Refusal::new(Reason::PolicyDenied, text)
}
