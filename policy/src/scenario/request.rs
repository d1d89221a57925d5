//! What a line asks for: the transaction that somebody would send, by what stands in the line and else by what comes
//! first in the policy. It is never one that could be signed.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use asset::Amount;
use order::{AddressText, Order};

use super::{HOUR, amount};
use crate::grant::Grant;
use crate::intent::{Destination, Fee, Intent, RequestId, Slot, SlotId, Transfer};
use crate::names::{ClientName, KeyName, OrderId, WalletName};
use crate::order::VerifiedOrder;
use crate::rules::{Lane, LaneKind, OrderKey, Rules};

/// What every transaction pays that does not say so.
const FEE: u64 = 5_000;
/// Who is paid where nobody is named.
const SOMEBODY: &str = "somebody";

/// A request as a line has it.
pub(super) struct Request<'a> {
    pub(super) verb: &'a str,
    pub(super) amount: Amount,
    pub(super) to: Option<&'a str>,
    pub(super) now_unix: u64,
}

impl Request<'_> {
    /// One output, change where some is kept, and a fee; none if something cannot be read. `said` has what stands behind a
    /// word of the line.
    pub(super) fn intent<'s>(
        &self,
        rules: &Rules,
        lane: &Lane,
        said: impl Fn(&str) -> Option<&'s str>,
    ) -> Option<Intent> {
        let asset = rules.network().asset_id();
        let fee = said("fee").map_or(Some(Amount::from_units(FEE.into())), amount)?;
        let first = lane.clients.first()?;
        let client = said("client").map_or(Ok(first.client.clone()), ClientName::parse).ok()?;
        // Of one that the lane does not name everything else is as of its first.
        let grant = lane.grant(&client).unwrap_or(first);
        let wallet = lane.spendable(grant).next()?;
        let wallet = said("from").map_or(Ok(wallet.clone()), WalletName::parse);
        let order = self.order(rules, lane, grant, said("ordered"))?;
        let mut transfers = Vec::new();
        let mut slots = Vec::new();
        let mut moves = |amount, to: Option<Destination>| {
            let number = u8::try_from(slots.len()).ok()?.checked_add(1)?;
            slots.push(Slot { id: SlotId([number; 36]), amount });
            transfers.extend(to.map(|to| Transfer { asset: asset.clone(), amount, to }));
            Some(())
        };
        moves(self.amount, Some(self.destination(lane, order.as_ref())?))?;
        moves(fee, None)?;
        if let Some(kept) = said("keeping") {
            moves(amount(kept)?, Some(Destination::Change { index: 0 }))?;
        }
        Some(Intent {
            request: RequestId([0; 16]),
            caller: client,
            lane: lane.name.clone(),
            wallet: wallet.ok()?,
            orders: order.into_iter().collect(),
            transfers,
            fee: Fee { asset, amount: fee, vsize: 300 },
            slots,
            digest: [0; 32],
        })
    }

    /// By the key that is named, or else the first of the lane's that the client may bring; none on a lane that pays no orders, where none may be named.
    fn order(
        &self,
        rules: &Rules,
        lane: &Lane,
        grant: &Grant,
        ordered: Option<&str>,
    ) -> Option<Option<VerifiedOrder>> {
        let first = match &lane.kind {
            LaneKind::Bump { .. } if self.verb != "bump" => {
                return ordered.is_none().then_some(None);
            }
            LaneKind::Withdraw { .. } | LaneKind::Bump { .. } => {
                rules.order_key(lane.bringable(grant, rules).first()?)?
            }
            _ => return ordered.is_none().then_some(None),
        };
        let named =
            |ordered: &str| rules.order_key(&KeyName::parse(ordered.strip_prefix("by ")?).ok()?);
        let OrderKey { name, public_key, .. } = ordered.map_or(Some(first), named)?;
        let order = Order {
            id: OrderId::parse("order").ok()?,
            asset: rules.network().asset_id(),
            amount: self.amount,
            destination: AddressText::parse(self.to.unwrap_or(SOMEBODY)).ok()?,
            expires_unix: self.now_unix.checked_add(HOUR)?,
        };
        let (digest, signer, key) = (order.digest(), name.clone(), *public_key);
        Some(Some(VerifiedOrder { order, signer, key, digest }))
    }

    /// Who ordered it, or where the lane goes: to the cold wallet that is named, or else to the lane's own.
    fn destination(&self, lane: &Lane, order: Option<&VerifiedOrder>) -> Option<Destination> {
        match (&lane.kind, order) {
            (LaneKind::Sweep { cold, .. } | LaneKind::Evacuate { cold, .. }, _) => {
                let wallet = self.to.map_or(Ok(cold.clone()), WalletName::parse).ok()?;
                Some(Destination::Cold { wallet, index: 0 })
            }
            (_, Some(order)) => {
                let address = order.order.destination.to_string();
                let script = address.as_bytes().to_vec();
                Some(Destination::External { script, address, order: Some(order.reference()) })
            }
            (_, None) => self.to.is_none().then_some(Destination::Change { index: 0 }),
        }
    }
}

/// The lane of a verb's kind: the only one, or the one that is named.
pub(super) fn lane<'a>(
    rules: &'a Rules,
    verb: &str,
    named: Option<&str>,
) -> Result<&'a Lane, String> {
    let fits = |lane: &&Lane| {
        let kind = match lane.kind {
            LaneKind::Sweep { .. } => "sweep",
            LaneKind::Withdraw { .. } => "pay",
            LaneKind::Consolidate => "consolidate",
            LaneKind::Evacuate { .. } => "evacuate",
            LaneKind::Bump { .. } if verb == "carry" => "carry",
            LaneKind::Bump { .. } => "bump",
        };
        kind == verb && named.is_none_or(|name| lane.name.as_str() == name)
    };
    let mut lanes = rules.lanes().iter().filter(fits);
    match (lanes.next(), lanes.next()) {
        (Some(lane), None) => Ok(lane),
        (None, _) => Err(format!("the policy has no lane to {verb} by")),
        (Some(_), Some(_)) => Err(format!("say over which lane to {verb}: \"over LANE\"")),
    }
}
