//! What a client's grant of a lane leaves it, where no decision asks: by a request's header alone, and before something is told
//! that was signed before. It never lets anything through: the policy asks all of this again of what is to be signed.

use policy::Rules;
use policy::grant::Grant;
use policy::names::{ClientName, LaneName, WalletName};
use policy::order::OrderRef;
use policy::rules::Lane;

use crate::app::App;
use crate::officers::held;
use crate::refusal::{Reason, Refusal};

/// Whether the client is granted one of these lanes, and that has not ended.
///
/// # Errors
/// [`Reason::LaneCaller`] in these words if it is granted none, else [`Reason::GrantExpired`].
pub(crate) fn has_any<'a>(
    app: &App,
    caller: &ClientName,
    lanes: impl Iterator<Item = &'a Lane>,
    none: String,
) -> Result<(), Refusal> {
    let mut refused = Err(Refusal::new(Reason::LaneCaller, none));
    for lane in lanes {
        let Some(grant) = lane.grant(caller) else { continue };
        refused = has_not_ended(app, grant, &lane.name);
        if refused.is_ok() {
            break;
        }
    }
    refused
}

/// Whether the grant's end, where it has one, has not passed.
///
/// # Errors
/// [`Reason::GrantExpired`].
pub(crate) fn has_not_ended(app: &App, grant: &Grant, lane: &LaneName) -> Result<(), Refusal> {
    if grant.expires_unix.is_none() {
        return Ok(());
    }
    let now = app.log.read(|ledger| ledger.not_before_latest(app.clock.unix_seconds()));
    ended(grant, lane, now)
}

/// The same at a time that is known.
///
/// # Errors
/// [`Reason::GrantExpired`].
pub(crate) fn ended(grant: &Grant, lane: &LaneName, now_unix: u64) -> Result<(), Refusal> {
    let Some(end) = grant.ended(now_unix) else { return Ok(()) };
    let text =
        format!("what client \"{}\" was granted of lane \"{lane}\" ended at {end}", grant.client);
    Err(Refusal::new(Reason::GrantExpired, text))
}

/// Whether the client may spend a wallet that the lane has.
///
/// # Errors
/// [`Reason::GrantWallet`].
pub(crate) fn spends(grant: &Grant, lane: &LaneName, wallet: &WalletName) -> Result<(), Refusal> {
    if grant.spends(wallet) {
        return Ok(());
    }
    let text = format!(
        "client \"{}\" is not granted wallet \"{wallet}\" on lane \"{lane}\"",
        grant.client
    );
    Err(Refusal::new(Reason::GrantWallet, text))
}

/// Whether the client may bring orders by the keys of all these. Which keys those are is the officers' to know.
///
/// # Errors
/// [`Reason::PolicyDenied`] in the words that every caller hears.
pub(crate) fn brings(rules: &Rules, grant: &Grant, orders: &[OrderRef]) -> Result<(), Refusal> {
    let mut keys = rules.order_keys().iter().filter(|key| !grant.brings(&key.name));
    match keys.any(|key| orders.iter().any(|order| order.key == key.public_key)) {
        true => Err(held::denied()),
        false => Ok(()),
    }
}
