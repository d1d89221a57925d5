//! What was ever signed for a payment order, for a client that may have lost it: restored from a backup, or known by
//! another name by now. It never signs, and gives out nothing that `Sign` would withhold from the same client now.

use std::sync::Arc;

use order::Order;
use policy::names::ClientName;
use policy::order::OrderRef;
use policy::rules::LaneKind;
use proto::SignedOrder;
use tokio::time::Instant;

use crate::answer::{Signed, stored};
use crate::app::App;
use crate::grants;
use crate::keys;
use crate::ledger::{Answer, Given, Ledger, Released};
use crate::log::Step;
use crate::officers::held;
use crate::receive::late;
use crate::refusal::{Reason, Refusal};
use crate::request::psbt;
use crate::standing::{known, turn};

/// Most transactions in one answer: of the largest kind there is, so many fit into a reply.
const SIGNED_MAX: usize = 8;

/// What became of an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paid {
    /// The most that was done for it.
    pub given: Given,
    /// What was signed, newest first.
    pub signed: Vec<Signed>,
    /// Why there are not all of them.
    pub withheld: Option<Refusal>,
    /// Something was signed, and nothing that was allowed binds the order any more.
    pub unbound: bool,
}

/// Looks while nobody works on the order.
///
/// # Errors
/// [`Refusal`] when the client has no withdraw lane, the order cannot be read, or token or log cannot vouch for an answer.
pub async fn paid(
    app: &Arc<App>,
    caller: &ClientName,
    signed: SignedOrder,
    deadline: Instant,
) -> Result<Paid, Refusal> {
    granted(app, caller)?;
    Order::parse(&signed.order)
        .map_err(|error| Refusal::new(Reason::OrderFormat, error.to_string()))?;
    let looked = async {
        let _turn = app.gate.turn(turn(&signed)).await;
        let orders = known(app, vec![signed]).await?;
        let step = |ledger: &Ledger| Step::nothing(look(app, ledger, caller, orders.first()));
        let (given, unbound, found) = app.log.commit(step).await?.1;
        let paid = Paid { given, signed: Vec::new(), withheld: None, unbound };
        read(app, caller, paid, found).await
    };
    tokio::time::timeout_at(deadline, looked).await.map_err(|_| late())?
}

/// Whoever may ask for any order to be paid may know what became of one that it holds, signed.
fn granted(app: &App, caller: &ClientName) -> Result<(), Refusal> {
    let pays = |kind: &LaneKind| matches!(kind, LaneKind::Withdraw { .. } | LaneKind::Bump { .. });
    let lanes = app.rules.lanes().iter().filter(|lane| pays(&lane.kind));
    let text = format!("client \"{caller}\" is granted no lane that pays orders");
    grants::has_any(app, caller, lanes, text)
}

type Found = Vec<Result<(Released, Answer), Refusal>>;

fn look(
    app: &App,
    ledger: &Ledger,
    caller: &ClientName,
    order: Option<&OrderRef>,
) -> (Given, bool, Found) {
    let Some(order) = order else { return (Given::Nothing, false, Vec::new()) };
    let found = ledger.released(order).map(|released| {
        may_have(app, ledger, caller, &released)?;
        let answer = ledger.request(released.request).and_then(|request| request.answer);
        let missing = || Refusal::new(Reason::Internal, "a signed request has no answer");
        Ok((released, answer.ok_or_else(missing)?))
    });
    let given = ledger.order(order);
    let unbound = given == Given::Signed && ledger.versions(order).all(|version| !version.binds);
    (given, unbound, found.take(SIGNED_MAX).collect())
}

/// What `Sign` asks before it gives a stored answer out: the lane and what the client is granted of it, the wallet, the keys of
/// the wallet and of the orders, and that no officer froze it. A client that is pinned to other keys than those of its orders
/// gets nothing. Nobody hears the name of a lane or a wallet that it is not granted.
fn may_have(
    app: &App,
    ledger: &Ledger,
    caller: &ClientName,
    released: &Released,
) -> Result<(), Refusal> {
    let (rules, name, wallet) = (&app.rules, &released.lane, &released.wallet);
    let no = |reason, text| Err(Refusal::new(reason, text));
    let Some(lane) = rules.lane(name) else {
        return no(Reason::UnknownLane, format!("lane \"{name}\" is not in the policy any more"));
    };
    let Some(grant) = lane.grant(caller) else {
        let text = format!("client \"{caller}\" is not granted the lane of what was signed");
        return no(Reason::LaneCaller, text);
    };
    grants::ended(grant, name, ledger.not_before_latest(app.clock.unix_seconds()))?;
    if !grant.spends(wallet) {
        let text = format!("client \"{caller}\" is not granted the wallet of what was signed");
        return no(Reason::GrantWallet, text);
    }
    if !lane.wallets.contains(wallet) {
        let text = format!("lane \"{name}\" is not allowed to spend wallet \"{wallet}\" any more");
        return no(Reason::LaneWallet, text);
    }
    let pinned = |order: &OrderRef| rules.order_keys().iter().any(|k| k.public_key == order.key);
    if let Some(order) = released.orders.iter().find(|order| !pinned(order)) {
        let text = format!("the key that signed order \"{order}\" is not in the policy any more");
        return no(Reason::OrderKey, text);
    }
    grants::brings(rules, grant, &released.orders)?;
    keys::may_sign(ledger, rules, &app.kin, wallet, name)?;
    held::may_tell(rules, ledger, released, caller)
}

/// Reads what was found. That it may be had is asked once more at the end: an officer may have frozen it while the step waited to
/// be covered.
async fn read(
    app: &App,
    caller: &ClientName,
    mut paid: Paid,
    found: Found,
) -> Result<Paid, Refusal> {
    for found in found {
        match found {
            Ok((released, answer)) => {
                let tier = app.wallets.wallet(&released.wallet).map_or("", |w| w.tier().as_str());
                let event = stored(app, answer).await?;
                let allowed = app.log.read(|ledger| may_have(app, ledger, caller, &released));
                if let Err(refusal) = allowed {
                    paid.withheld = paid.withheld.or(Some(refusal));
                    continue;
                }
                let version = psbt::Version::Zero;
                paid.signed.push(Signed::read(released.request, event, version, tier, true)?);
            }
            Err(refusal) => paid.withheld = paid.withheld.or(Some(refusal)),
        }
    }
    Ok(paid)
}
