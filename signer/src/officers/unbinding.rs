//! A payout that is stuck: officers say that what was signed for its order can never confirm, and once enough of them did, the
//! order is bound to it no longer. It signs nothing, gives no coin and no room under a limit back, and never unbinds an order from
//! what was signed after an officer looked.

use std::collections::BTreeSet;

use audit::entry::Event;
use policy::intent::RequestId;
use policy::names::{KeyName, OrderId};
use policy::order::OrderRef;
use proto::{ShowOrderReply, ShowOrderRequest, SignedVersion, UnbindingAsked};
use statement::{Says, Statement, Unbinding};

use super::grpc::tier;
use super::testify;
use crate::answer::stored;
use crate::app::App;
use crate::ledger::{Answer, Ledger, Version};
use crate::log::Step;
use crate::refusal::{Reason, Refusal};

/// Bytes of what was signed that are shown at once; a reply has room for them.
const SHOWN_BYTES_MAX: usize = 3 << 20;

/// An officer's word: what is to be written beside it, and what came of it.
///
/// # Errors
/// [`Refusal`] when the policy asks nobody, or others, or the order is not bound to exactly these.
pub(super) fn unbind(
    app: &App,
    ledger: &Ledger,
    said: &Statement,
    unbinding: &Unbinding,
    now_unix: u64,
) -> Result<(Vec<Event>, String), Refusal> {
    let Unbinding { order, versions } = unbinding;
    asked(app, &said.officer, order)?;
    let bound = ledger.bound(order);
    if bound.is_empty() {
        let text = format!(
            "nothing that was signed binds order {order}: there is nothing to unbind it from"
        );
        return Err(Refusal::new(Reason::StatementNothing, text));
    }
    if let Some(strange) = versions.iter().find(|version| !bound.contains(*version)) {
        let is_named = bound.iter().any(|version| version.signed == strange.signed);
        let text = match is_named {
            true => format!(
                "version {} of order {order} is another transaction than the one that was signed ({}): whoever showed it lied, or it was copied wrongly. Tell the others",
                hex::encode(strange.signed),
                hex::encode(strange.bare)
            ),
            false => format!(
                "order {order} is not bound to version {}: look again at what was signed for it, and sign again",
                hex::encode(strange.signed)
            ),
        };
        return Err(Refusal::new(Reason::StatementOther, text));
    }
    let over = over(ledger, order, now_unix);
    let but = over.as_ref().map(|over| format!("; but {over}")).unwrap_or_default();
    let mut by = who_said(app, ledger, unbinding, now_unix);
    by.insert(&said.officer);
    if !app.rules.may_unbind(&by, &order.key) {
        let quorum = app.rules.unbind().map(ToString::to_string).unwrap_or_default();
        let text = format!(
            "written down; order {order} stays bound until {quorum} said so of these versions{but}"
        );
        return Ok((Vec::new(), text));
    }
    let event = Event::Unbound {
        key: order.key,
        id: order.id.to_string(),
        versions: versions.iter().map(|version| version.signed).collect(),
        policy: app.rules.version(),
        officers: by.iter().map(ToString::to_string).collect(),
    };
    let left = bound.len().saturating_sub(versions.len());
    let rest = match left {
        0 if over.is_some() => String::new(),
        0 => ", and may be asked for again".to_owned(),
        _ => format!(", and still to {left} others that were signed for it"),
    };
    Ok((vec![event], format!("order {order} is bound to none of these any more{rest}{but}")))
}

/// Why nothing is paid under an order any more, whatever binds it.
fn over(ledger: &Ledger, order: &OrderRef, now_unix: u64) -> Option<String> {
    if let Some(no) = ledger.people().called_off(order) {
        return Some(format!(
            "\"{}\" said no to it for good: nothing is paid under it any more",
            no.officer
        ));
    }
    let end = ledger.order_ends(order).filter(|end| now_unix > *end)?;
    Some(format!(
        "it ended at {end}: nothing is paid under it any more but in the place of what it is still bound to, and whoever ordered has to order anew"
    ))
}

/// Whether this officer's word of that kind counts for this order.
fn asked(app: &App, officer: &KeyName, order: &OrderRef) -> Result<(), Refusal> {
    let no = |text: String| Err(Refusal::new(Reason::StatementOfficer, text));
    if app.rules.unbind().is_none() {
        return no("the policy says nobody who unbinds an order (`unbind` under [governance]): a policy that does must come into force first".to_owned());
    }
    if !app.rules.asks_to_unbind(officer) {
        return no(format!("`unbind` asks others than \"{officer}\""));
    }
    if app.rules.orderers(|key| *key == order.key).contains(officer) {
        return no(format!(
            "\"{officer}\" holds the key that signed this order: others have to say so"
        ));
    }
    Ok(())
}

fn answer(ledger: &Ledger, request: RequestId) -> Option<Answer> {
    ledger.request(request).and_then(|request| request.answer)
}

/// Officers whose word for exactly this counts now.
fn who_said<'a>(
    app: &App,
    ledger: &'a Ledger,
    unbinding: &Unbinding,
    now_unix: u64,
) -> BTreeSet<&'a KeyName> {
    let is = |says: &Says| matches!(says, Says::Unbind { unbinding: of, .. } if of == unbinding);
    let words = ledger.people().unbinding(unbinding).iter();
    let words = words.filter(|word| testify::holds(&app.rules, word, now_unix, is));
    let words = words.filter(|word| !app.rules.is_revoked(&word.officer));
    words.map(|word| &word.officer).collect()
}

/// What listeners hear of such an entry.
pub(super) fn told(event: &Event) -> Option<String> {
    let Event::Unbound { id, versions, officers, .. } = event else { return None };
    let (count, by) = (versions.len(), officers.join(", "));
    Some(format!(
        "order {id} may be paid beside {count} transactions that were signed for it, since {by} said that they can never confirm; if one does, it is paid twice"
    ))
}

/// What is said already, where not enough officers did.
pub(super) fn pending(app: &App, ledger: &Ledger, now_unix: u64) -> Vec<UnbindingAsked> {
    let all = ledger.people().unbindings().filter_map(|(unbinding, _)| {
        let by = who_said(app, ledger, unbinding, now_unix);
        let Unbinding { order, versions } = unbinding;
        (!by.is_empty()).then(|| UnbindingAsked {
            key: order.key.to_vec(),
            id: order.id.to_string(),
            versions: versions.iter().map(|version| version.signed.to_vec()).collect(),
            bare: versions.iter().map(|version| version.bare.to_vec()).collect(),
            officers: by.iter().map(ToString::to_string).collect(),
        })
    });
    all.collect()
}

/// What was signed for an order, for people who look at the chain for it.
///
/// # Errors
/// [`Refusal`] when nothing was allowed for such an order, several keys ordered it, or the log cannot be read.
pub(super) async fn show(app: &App, request: ShowOrderRequest) -> Result<ShowOrderReply, Refusal> {
    let bad = |text: String| Refusal::new(Reason::BadRequest, text);
    let id = OrderId::parse(&request.id).map_err(|error| bad(error.to_string()))?;
    let key = match request.key.as_slice() {
        [] => None,
        key => Some(key.try_into().map_err(|_| bad("an order key has 32 bytes".to_owned()))?),
    };
    let step = |ledger: &Ledger| {
        let found = named(ledger, &id, key).map(|order| {
            let versions = ledger.versions(&order).map(|version| {
                let answer = answer(ledger, version.request);
                (version, answer)
            });
            let mut versions = versions.collect::<Vec<_>>();
            versions.reverse();
            // What can be unbound is never out of reach behind what was.
            versions.sort_by_key(|(version, _)| !version.binds);
            let end = ledger.order_ends(&order).unwrap_or_default();
            let ended = ledger.not_before_latest(app.clock.unix_seconds()) > end;
            let no = ledger.people().called_off(&order).map(|no| no.officer.to_string());
            (order, (end, ended, no.unwrap_or_default()), versions)
        });
        Step::nothing(found)
    };
    let (order, (ends_unix, ended, called_off), found) = app.log.commit(step).await?.1?;
    let unsigned = found.iter().filter(|(version, _)| !version.signed && version.binds).count();
    let (mut read, mut size, mut more) = (Vec::new(), 0_usize, false);
    for (version, answer) in found {
        let Some(answer) = answer else { continue };
        let request = version.request;
        let shown = signed(app, version, answer).await?;
        size = size.saturating_add(shown.transaction.len()).saturating_add(shown.psbt.len());
        if size > SHOWN_BYTES_MAX {
            more = true;
            break;
        }
        read.push((request, shown));
    }
    // Only now, when nothing is waited for any more: it may have been frozen or taken back meanwhile.
    let held: Vec<bool> = app.log.read(|ledger| {
        let frozen = ledger.people().freezes().next().is_some();
        let held = |request| frozen || ledger.people().withheld(request).is_some();
        read.iter().map(|(request, _)| held(*request)).collect()
    });
    let read = read.into_iter().zip(held);
    let versions = read.map(|((_, shown), held)| if held { bare(shown) } else { Ok(shown) });
    let versions = versions.collect::<Result<Vec<_>, _>>()?;
    Ok(ShowOrderReply {
        log: app.log.opening().origin.clone(),
        key: order.key.to_vec(),
        id: order.id.to_string(),
        versions,
        unsigned: u32::try_from(unsigned).unwrap_or(u32::MAX),
        more,
        ends_unix,
        ended,
        called_off,
    })
}

fn named(ledger: &Ledger, id: &OrderId, key: Option<[u8; 32]>) -> Result<OrderRef, Refusal> {
    let mut known = ledger.orders_named(id);
    known.retain(|order| key.is_none_or(|key| order.key == key));
    match known.as_slice() {
        [order] => Ok(order.clone()),
        [] => {
            let text = format!("nothing was ever allowed for an order {id}");
            Err(Refusal::new(Reason::StatementNothing, text))
        }
        several => {
            let keys: Vec<String> = several.iter().map(|order| hex::encode(order.key)).collect();
            let text = format!(
                "{} keys signed an order {id}: say which of {}",
                keys.len(),
                keys.join(", ")
            );
            Err(Refusal::new(Reason::BadRequest, text))
        }
    }
}

/// As it is in the log.
async fn signed(app: &App, version: Version, answer: Answer) -> Result<SignedVersion, Refusal> {
    let (transaction, psbt) = match stored(app, answer).await? {
        Event::Signed { transaction, .. } => (transaction, Vec::new()),
        Event::PartlySigned { psbt, .. } => (Vec::new(), psbt),
        _ => return Err(broken()),
    };
    Ok(SignedVersion {
        version: answer.digest.to_vec(),
        transaction,
        psbt,
        withheld: false,
        binds: version.binds,
        wallet: version.wallet.to_string(),
        bare: version.bare.map(Vec::from).unwrap_or_default(),
        fee: version.fee.to_string(),
        tier: tier(app, &version.wallet),
    })
}

/// Of what is given to nobody, what it would do alone.
fn bare(mut shown: SignedVersion) -> Result<SignedVersion, Refusal> {
    let transaction = if shown.psbt.is_empty() {
        let signed = bitcoin::consensus::deserialize(&shown.transaction).map_err(|_| broken())?;
        ledger::bare(&signed)
    } else {
        bitcoin::Psbt::deserialize(&shown.psbt).map_err(|_| broken())?.unsigned_tx
    };
    (shown.transaction, shown.psbt) = (bitcoin::consensus::serialize(&transaction), Vec::new());
    shown.withheld = true;
    Ok(shown)
}

fn broken() -> Refusal {
    Refusal::new(Reason::Internal, "a stored answer cannot be read")
}
