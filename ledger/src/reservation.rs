//! What would be spent, taken apart as far as that needs no state, so that a start can do it beside the fold. It never says
//! whether it may be spent.

use std::collections::BTreeMap;
use std::sync::Arc;

use asset::Amount;
use audit::entry;
use policy::intent::SlotId;
use policy::names::{ClientName, LaneName, WalletName};
use policy::order::OrderRef;

use super::orders::order_ref;
use super::payments::Payments;
use super::{FoldError, name, wrong};

/// Names that nearly every spend has in common with others, each once.
#[derive(Debug, Default)]
pub struct Names {
    lanes: BTreeMap<String, Arc<LaneName>>,
    callers: BTreeMap<String, Arc<ClientName>>,
    wallets: BTreeMap<String, Arc<WalletName>>,
}

impl Names {
    /// This lane's name, as it is known here.
    pub(super) fn lane(&mut self, text: &str) -> Result<Arc<LaneName>, FoldError> {
        shared(&mut self.lanes, text, LaneName::parse)
    }
}

/// None, one as nearly always, or several.
#[derive(Debug)]
pub(super) struct Few<T> {
    first: Option<T>,
    more: Vec<T>,
}

impl<T> Few<T> {
    fn collect<E>(all: impl Iterator<Item = Result<T, E>>) -> Result<Self, E> {
        let mut all = all;
        Ok(Self { first: all.next().transpose()?, more: all.collect::<Result<_, _>>()? })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.first.iter().chain(&self.more)
    }

    pub(super) fn into_iter(self) -> impl Iterator<Item = T> {
        self.first.into_iter().chain(self.more)
    }
}

/// What an entry says would be spent.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) lane: Arc<LaneName>,
    pub(super) caller: Arc<ClientName>,
    pub(super) wallet: Arc<WalletName>,
    pub(super) fee: Amount,
    pub(super) external: Amount,
    pub(super) slots: Few<(SlotId, Amount)>,
    /// Each once, in order.
    pub(super) orders: Box<[OrderRef]>,
    /// As the entry has them: the digest of the text, and when it ends.
    pub(super) paid_orders: Few<PaidOrder>,
    pub(super) paid: Option<Payments>,
    /// Of which branches an index is used; what only waits uses none.
    pub(super) indexes: Result<[Option<UsedIndex>; 2], FoldError>,
}

/// A wallet, whether it is change, and the index.
type UsedIndex = (WalletName, bool, u32);

/// An order that is paid.
#[derive(Debug)]
pub(super) struct PaidOrder {
    pub(super) order: OrderRef,
    pub(super) digest: [u8; 32],
    pub(super) expires_unix: u64,
}

impl Reservation {
    /// Of an entry.
    pub(super) fn of(entry: &entry::Spend, names: &mut Names) -> Result<Self, FoldError> {
        let paid_order = |paid: &entry::PaidOrder| {
            let (digest, expires_unix) = (paid.digest, paid.expires_unix);
            Ok::<_, FoldError>(PaidOrder { order: order_ref(paid)?, digest, expires_unix })
        };
        let paid_orders = Few::collect(entry.orders.iter().map(paid_order))?;
        let mut orders = Vec::with_capacity(entry.orders.len());
        orders.extend(paid_orders.iter().map(|paid| paid.order.clone()));
        orders.sort_unstable();
        orders.dedup();
        Ok(Self {
            lane: names.lane(&entry.lane)?,
            caller: shared(&mut names.callers, &entry.caller, ClientName::parse)?,
            wallet: shared(&mut names.wallets, &entry.wallet, WalletName::parse)?,
            fee: Amount::from_units(entry.fee),
            external: Amount::from_units(entry.external),
            slots: Few::collect(entry.slots.iter().map(slot))?,
            orders: orders.into(),
            paid_orders,
            paid: Payments::of(entry),
            indexes: indexes(entry),
        })
    }
}

fn indexes(entry: &entry::Spend) -> Result<[Option<UsedIndex>; 2], FoldError> {
    let index = |wallet: &str, change, index| {
        Ok::<_, FoldError>((name(WalletName::parse(wallet))?, change, index))
    };
    let change = entry.change_index.map(|at| index(&entry.wallet, true, at)).transpose()?;
    let cold = entry.cold_index.as_ref();
    let cold = cold.map(|(wallet, at)| index(wallet, false, *at)).transpose()?;
    Ok([change, cold])
}

/// A name that others have too, checked when it is met first.
fn shared<T, E: std::fmt::Display>(
    known: &mut BTreeMap<String, Arc<T>>,
    text: &str,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Arc<T>, FoldError> {
    if let Some(known) = known.get(text) {
        return Ok(Arc::clone(known));
    }
    let parsed = Arc::new(name(parse(text))?);
    known.insert(text.to_owned(), Arc::clone(&parsed));
    Ok(parsed)
}

fn slot(spent: &entry::SpentSlot) -> Result<(SlotId, Amount), FoldError> {
    let id = spent.slot.as_slice().try_into().map_err(|_| wrong("a slot is not 36 bytes"))?;
    Ok((SlotId(id), Amount::from_units(spent.amount)))
}
