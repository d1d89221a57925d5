//! What the log holds of a request that was refused, and of its orders. It never says anything that a restart could make
//! untrue, and never looks while a call is on its way that could change it.

use std::sync::Arc;

use order::Order;
use policy::intent::RequestId;
use policy::order::OrderRef;
use policy::rules::Tier;
use proto::SignedOrder;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use crate::app::{App, blocking};
use crate::gate::Turn;
use crate::ledger::{Given, Ledger};
use crate::log::Step;
use crate::refusal::{Reason, Refusal};

/// What is known of a request that was refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Standing {
    /// The request.
    pub request: RequestId,
    /// What was done under its key; `None` if there was no time to look while nobody worked on it.
    pub key: Option<Given>,
    /// The most that was done for any of its orders, whoever asked, under whatever key.
    pub orders: Option<Given>,
    /// Of the wallet whose coins it asks for, once it is known to be the caller's to ask for.
    pub tier: Option<Tier>,
}

impl Standing {
    /// Of a request whose orders are verified, by a ledger that is looked at in one step with the refusal.
    pub(crate) fn of<'a>(
        ledger: &Ledger,
        request: RequestId,
        orders: impl Iterator<Item = &'a OrderRef>,
    ) -> Self {
        let orders = orders.map(|order| ledger.order(order)).max().unwrap_or_default();
        Self { request, key: Some(ledger.given(request)), orders: Some(orders), tier: None }
    }

    /// The same, of a wallet of this tier.
    pub(crate) fn with(self, tier: Tier) -> Self {
        Self { tier: Some(tier), ..self }
    }

    /// Looks while nobody works on the request, or on another for one of its orders: a call before this one may be about
    /// to finish it. Who is to come back later anyhow does not wait for that.
    pub(crate) async fn look(
        app: &Arc<App>,
        request: RequestId,
        orders: Vec<SignedOrder>,
        refusal: &Refusal,
        deadline: Instant,
    ) -> Self {
        let unknown = Self { request, key: None, orders: None, tier: None };
        if matches!(refusal.reason, Reason::Busy | Reason::Deadline) {
            return unknown;
        }
        let looked = async {
            let _orders = app.gate.turns(orders.iter().map(turn)).await;
            let _request = app.gate.turn(Turn::Request(request)).await;
            let orders = known(app, orders).await.ok()?;
            // Only what a checkpoint covers is said: anything else may be gone after a restart.
            let step = |ledger: &Ledger| Step::nothing(Self::of(ledger, request, orders.iter()));
            Some(app.log.commit(step).await.ok()?.1)
        };
        tokio::time::timeout_at(deadline, looked).await.ok().flatten().unwrap_or(unknown)
    }
}

/// Whose turn it is where an order is worked on: by its bytes, which are known before they are verified.
pub(crate) fn turn(signed: &SignedOrder) -> Turn {
    Turn::Order(Sha256::digest(&signed.order).into())
}

/// Those orders that anything was ever allowed for: by the key that signed them, whether or not the policy still names it.
pub(crate) async fn known(
    app: &Arc<App>,
    orders: Vec<SignedOrder>,
) -> Result<Vec<OrderRef>, Refusal> {
    if orders.is_empty() {
        return Ok(Vec::new());
    }
    let app = Arc::clone(app);
    blocking(move || Ok(orders.iter().filter_map(|order| of_its_key(&app, order)).collect())).await
}

fn of_its_key(app: &App, signed: &SignedOrder) -> Option<OrderRef> {
    let id = Order::parse(&signed.order).ok()?.id;
    let possible = app.log.read(|ledger| ledger.orders_named(&id));
    let is_by =
        |order: &OrderRef| Order::verify(&signed.order, &signed.signature, &order.key).is_ok();
    possible.into_iter().find(is_by)
}
