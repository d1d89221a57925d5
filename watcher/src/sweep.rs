//! Sweeps: a wallet's final coins into cold storage, from the wish to the settled block. The row, its coins' leases and
//! the signer's key are durable before the signer is asked; every later step starts from the row. It never sends what
//! it has not kept, and never keeps a lease that nothing will end.
//!
//! planned -> signed -> broadcast -> confirming -> final; refused and replaced end with the coins free again.

mod row;
mod make;
mod carry;
mod watch;
mod recut;
mod bump;
mod auto;
mod evacuate;

use proto::{CreateSweepRequest, ListSweepsReply, ListSweepsRequest, Sweep};
use sha2::{Digest as _, Sha256};

use crate::config::Purpose;
use crate::error::Error;
use crate::list::{page_size, page_start};
use crate::scan::Branch;
use crate::spend::Spender;

pub(crate) use self::auto::due as auto_due;
pub(crate) use self::auto::sweep as auto_sweep;
pub(crate) use self::bump::{bump, fee_at, given_up, is_worth_it, overdue};
pub(crate) use self::carry::{carry, due, faulty};
pub use self::evacuate::evacuate;
pub(crate) use self::make::inputs;
use self::make::{Choice, Wish};
pub(crate) use self::recut::{recut, to_recut};
pub(crate) use self::watch::watch;

/// Plans a sweep and leases its coins; the signer is asked afterwards. The same key gives the same sweep.
///
/// # Errors
/// A refusal that says why there is nothing to sweep, `ALREADY_EXISTS` for a key used with another request, or
/// `UNAVAILABLE` when node or signer must be asked and cannot.
pub async fn create(
    app: &Spender,
    tenant: &str,
    request: &CreateSweepRequest,
) -> Result<Sweep, Error> {
    order::names::check("idempotency key", &request.idempotency_key)
        .map_err(|error| Error::invalid("bad-idempotency-key", error.to_string()))?;
    let wallet = app.wallet(tenant, &request.wallet)?;
    if wallet.purpose == Purpose::Cold {
        return Err(Error::invalid("cold-storage", "sweeps go to cold storage, not out of it"));
    }
    let digest = digest(request);
    if let Some(id) = row::by_key(app, tenant, &request.idempotency_key, digest).await? {
        return find(app, tenant, &id).await;
    }
    let rate = app.feerate(&request.feerate).await?;
    let limits = app.config.limits(request.max_inputs);
    let limits = limits.for_inputs_like(&wallet.script(Branch::External, 0)?);
    let key = request.idempotency_key.clone();
    let wish = Wish { wallet, key, digest, rate, limits, choice: Choice::All, lane: None };
    let id = make::make(app, &wish).await?;
    app.wake.notify_one();
    find(app, tenant, &id).await
}

/// One sweep.
///
/// # Errors
/// `NOT_FOUND` if the tenant has none with this id.
pub async fn find(app: &Spender, tenant: &str, id: &str) -> Result<Sweep, Error> {
    let found = row::load(app.store.reader(), id).await?.filter(|sweep| sweep.tenant == tenant);
    let found = found.ok_or_else(|| {
        Error::refused(
            tonic::Code::NotFound,
            "unknown-sweep",
            "there is no sweep with this id here",
        )
    })?;
    Ok(found.to_proto(&app.book))
}

/// Sweeps in the order they were made.
///
/// # Errors
/// `INVALID_ARGUMENT` for a page token this service did not give, or a page too large.
pub async fn list(
    app: &Spender,
    tenant: &str,
    request: &ListSweepsRequest,
) -> Result<ListSweepsReply, Error> {
    let after = page_start(&request.page_token)?;
    let size = page_size(request.page_size)?;
    let rows = row::page(app, tenant, after, size).await?;
    let full = u32::try_from(rows.len()).is_ok_and(|n| n == size);
    let last = rows.last().filter(|_| full);
    let next_page_token = last.map(|sweep| sweep.number.to_string()).unwrap_or_default();
    let sweeps = rows.iter().map(|sweep| sweep.to_proto(&app.book)).collect();
    Ok(ListSweepsReply { sweeps, next_page_token })
}

/// What was asked, so that a key is never used for something else.
fn digest(request: &CreateSweepRequest) -> [u8; 32] {
    let CreateSweepRequest { wallet, max_inputs, feerate, .. } = request;
    Sha256::digest(format!("sweep-v1\n{wallet}\n{max_inputs}\n{feerate}\n")).into()
}
