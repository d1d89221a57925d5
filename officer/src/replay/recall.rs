//! A request as the policy saw it, put together again from the entries of a log: and held against the digest with which it
//! was admitted. It never fills a gap by a guess.

use std::str::FromStr as _;

use asset::Amount;
use audit::entry::{Admitted, Awaiting, Considered, HeldOrder, PaidOrder, Spend, SpentSlot, Whose};
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, ScriptBuf, Transaction};
use order::{AddressText, Order};
use policy::intent::{Destination, Fee, Intent, RequestId, Slot, SlotId, Transfer};
use policy::names::{ClientName, LaneName, OrderId, WalletName};
use policy::order::VerifiedOrder;
use policy::recall;
use sha2::{Digest as _, Sha256};
use statement::Paper;
use statement::intent::To;

use super::bench::Bench;

/// Whose an output is, before it is known which order it pays.
enum Own {
    Change(u32),
    Cold(WalletName, u32),
    Not,
}

/// From what was written when it was denied.
pub(super) fn considered(
    admitted: &Admitted,
    considered: &Considered,
    bench: &mut Bench,
) -> Result<Intent, String> {
    let transaction = read(&considered.transaction)?;
    let orders = considered.orders.iter().map(held).collect::<Result<Vec<_>, _>>()?;
    let outputs = transaction.output.iter().zip(&considered.outputs);
    let transfers = outputs.map(|(output, whose)| {
        let to = match whose {
            Whose::Change(index) => Destination::Change { index: *index },
            Whose::Cold(wallet, index) => {
                Destination::Cold { wallet: parsed(WalletName::parse(wallet))?, index: *index }
            }
            Whose::External(order) => {
                let place = order.and_then(|place| usize::try_from(place).ok());
                let paid = place.and_then(|place| orders.get(place));
                external(&output.script_pubkey, paid, bench)
            }
        };
        Ok(transfer(output.value, to, bench))
    });
    let transfers = transfers.collect::<Result<Vec<_>, String>>()?;
    if transfers.len() != transaction.output.len() {
        return Err("its outputs are not those of its transaction".to_owned());
    }
    let request = Request { transaction, orders, transfers, vsize: considered.vsize };
    request.intent(admitted, considered.amounts.iter().copied(), bench)
}

/// From a spend that was allowed: each of its outputs to others pays one order, to the unit, or it would not have been.
pub(super) fn spend(
    admitted: &Admitted,
    spend: &Spend,
    bench: &mut Bench,
) -> Result<Intent, String> {
    let transaction = read(&spend.transaction)?;
    let own = transaction.output.iter().map(|output| owner(&output.script_pubkey, spend, bench));
    let own = own.collect::<Result<Vec<_>, String>>()?;
    let others = own.iter().filter(|own| matches!(own, Own::Not)).count();
    if others != spend.orders.len() {
        let paid = spend.orders.len();
        return Err(format!("{others} of its outputs go to others, and it pays {paid} orders"));
    }
    let mut paid = spend.orders.iter();
    let (mut orders, mut transfers) = (Vec::new(), Vec::new());
    for (output, own) in transaction.output.iter().zip(own) {
        let to = match own {
            Own::Change(index) => Destination::Change { index },
            Own::Cold(wallet, index) => Destination::Cold { wallet, index },
            Own::Not => {
                let paid = paid.next().ok_or("an output pays no order")?;
                let order = of_log(paid, &output.script_pubkey, output.value, bench)?;
                orders.push(order);
                external(&output.script_pubkey, orders.last(), bench)
            }
        };
        transfers.push(transfer(output.value, to, bench));
    }
    let vsize = vsize(&transaction, &spend.wallet, bench)?;
    let request = Request { transaction, orders, transfers, vsize };
    request.intent(admitted, amounts(&spend.slots), bench)
}

/// From a request that waits, whose canonical intent the log has.
pub(super) fn awaiting(
    admitted: &Admitted,
    awaiting: &Awaiting,
    bench: &mut Bench,
) -> Result<Intent, String> {
    let transaction = read(&awaiting.spend.transaction)?;
    let paper = Paper::parse(awaiting.intent.as_bytes()).map_err(|error| error.to_string())?;
    let verify = |signed: &audit::entry::SignedOrder| {
        let order = bench.rules.verify_order(&signed.order, &signed.signature, &signed.signer);
        order.map_err(|error| error.to_string())
    };
    let orders = awaiting.orders.iter().map(verify).collect::<Result<Vec<_>, _>>()?;
    let mut free: Vec<&VerifiedOrder> = orders.iter().collect();
    let mut transfers = Vec::new();
    for (output, written) in transaction.output.iter().zip(&paper.outputs) {
        let to = match &written.to {
            To::Change { index } => Destination::Change { index: *index },
            To::Cold { wallet, index } => {
                Destination::Cold { wallet: wallet.clone(), index: *index }
            }
            To::External { .. } => {
                let pays = |order: &&VerifiedOrder| pays(order, output, bench);
                let paid = free.iter().position(pays).map(|place| free.swap_remove(place));
                external(&output.script_pubkey, paid, bench)
            }
        };
        transfers.push(transfer(output.value, to, bench));
    }
    if transfers.len() != transaction.output.len() {
        return Err("its outputs are not those of its transaction".to_owned());
    }
    let vsize = vsize(&transaction, &awaiting.spend.wallet, bench)?;
    let request = Request { transaction, orders, transfers, vsize };
    request.intent(admitted, amounts(&awaiting.spend.slots), bench)
}

/// What the entries say, put together.
struct Request {
    transaction: Transaction,
    orders: Vec<VerifiedOrder>,
    transfers: Vec<Transfer>,
    vsize: u64,
}

impl Request {
    fn intent(
        self,
        admitted: &Admitted,
        amounts: impl Iterator<Item = u128>,
        bench: &Bench,
    ) -> Result<Intent, String> {
        let Self { transaction, orders, transfers, vsize } = self;
        let (lane, wallet) = (&admitted.lane, &admitted.wallet);
        if digest(lane, wallet, &transaction, &orders) != admitted.digest {
            return Err("what the log says of it is not what was asked for".to_owned());
        }
        let slot = |(input, amount): (&bitcoin::TxIn, u128)| Slot {
            id: slot_id(&input.previous_output),
            amount: Amount::from_units(amount),
        };
        let slots: Vec<Slot> = transaction.input.iter().zip(amounts).map(slot).collect();
        let sum = |amounts: &mut dyn Iterator<Item = Amount>| Amount::sum(amounts);
        let spent = sum(&mut slots.iter().map(|slot| slot.amount));
        let paid = sum(&mut transfers.iter().map(|transfer| transfer.amount));
        let fee = spent.zip(paid).and_then(|(spent, paid)| spent.checked_sub(paid));
        let fee = fee.filter(|_| slots.len() == transaction.input.len());
        let fee = fee.ok_or("its sums do not agree")?;
        Ok(Intent {
            request: RequestId(admitted.request),
            caller: parsed(ClientName::parse(&admitted.caller))?,
            lane: parsed(LaneName::parse(lane))?,
            wallet: parsed(WalletName::parse(wallet))?,
            orders,
            transfers,
            fee: Fee { asset: bench.rules.network().asset_id(), amount: fee, vsize },
            slots,
            digest: admitted.digest,
        })
    }
}

fn owner(script: &ScriptBuf, spend: &Spend, bench: &mut Bench) -> Result<Own, String> {
    if let Some(highest) = spend.change_index {
        let wallet = parsed(WalletName::parse(&spend.wallet))?;
        if let Some(index) = bench.places.index(&wallet, true, script, highest) {
            return Ok(Own::Change(index));
        }
    }
    if let Some((wallet, highest)) = &spend.cold_index {
        let wallet = parsed(WalletName::parse(wallet))?;
        if let Some(index) = bench.places.index(&wallet, false, script, *highest) {
            return Ok(Own::Cold(wallet, index));
        }
    }
    Ok(Own::Not)
}

fn transfer(value: bitcoin::Amount, to: Destination, bench: &Bench) -> Transfer {
    Transfer { asset: bench.rules.network().asset_id(), amount: value.to_sat().into(), to }
}

fn external(script: &ScriptBuf, order: Option<&VerifiedOrder>, bench: &Bench) -> Destination {
    Destination::External {
        script: script.to_bytes(),
        address: address(script, bench).unwrap_or_default(),
        order: order.map(VerifiedOrder::reference),
    }
}

fn address(script: &ScriptBuf, bench: &Bench) -> Option<String> {
    Address::from_script(script, bench.network()).ok().map(|address| address.to_string())
}

/// An order of which the log has only what it is called and who signed it. What else it says is what its output pays: the
/// signer compared both before it allowed anything.
fn of_log(
    paid: &PaidOrder,
    script: &ScriptBuf,
    value: bitcoin::Amount,
    bench: &Bench,
) -> Result<VerifiedOrder, String> {
    let mut keys = bench.rules.order_keys().iter();
    let key = keys.find(|key| key.public_key == paid.key);
    let signer = key.ok_or("an order's key is not in the policy")?.name.clone();
    let destination = address(script, bench).ok_or("an order pays what has no address")?;
    let order = Order {
        id: parsed(OrderId::parse(&paid.id))?,
        asset: bench.rules.network().asset_id(),
        amount: value.to_sat().into(),
        destination: parsed(AddressText::parse(&destination))?,
        expires_unix: paid.expires_unix,
    };
    Ok(recall::order(order, signer, paid.key, paid.digest))
}

fn held(held: &HeldOrder) -> Result<VerifiedOrder, String> {
    let order = parsed(Order::parse(&held.order))?;
    let digest = order.digest();
    let signer = parsed(policy::names::KeyName::parse(&held.signer))?;
    Ok(recall::order(order, signer, held.key, digest))
}

fn pays(order: &VerifiedOrder, output: &bitcoin::TxOut, bench: &Bench) -> bool {
    let order = order.order();
    let address = Address::<NetworkUnchecked>::from_str(order.destination.as_str()).ok();
    let address = address.and_then(|address| address.require_network(bench.network()).ok());
    order.amount == output.value.to_sat().into()
        && address.is_some_and(|address| address.script_pubkey() == output.script_pubkey)
}

fn amounts(slots: &[SpentSlot]) -> impl Iterator<Item = u128> {
    slots.iter().map(|slot| slot.amount)
}

fn vsize(transaction: &Transaction, wallet: &str, bench: &Bench) -> Result<u64, String> {
    let wallet = parsed(WalletName::parse(wallet))?;
    let size = bench.places.signed_vsize(&wallet, transaction);
    size.ok_or_else(|| format!("the policy has no wallet \"{wallet}\""))
}

/// SHA-256 over everything that decides what is signed, as the signer admitted it.
fn digest(
    lane: &str,
    wallet: &str,
    transaction: &Transaction,
    orders: &[VerifiedOrder],
) -> [u8; 32] {
    let transaction = bitcoin::consensus::serialize(transaction);
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(bytes);
    };
    add(b"cofferdam-request-v1");
    add(lane.as_bytes());
    add(wallet.as_bytes());
    add(&transaction);
    for order in orders {
        add(order.signer().as_str().as_bytes());
        add(order.digest());
    }
    hash.finalize().into()
}

fn slot_id(outpoint: &bitcoin::OutPoint) -> SlotId {
    let mut id = [0; 36];
    let txid: &[u8; 32] = outpoint.txid.as_ref();
    let bytes = txid.iter().copied().chain(outpoint.vout.to_le_bytes());
    id.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    SlotId(id)
}

fn read(bytes: &[u8]) -> Result<Transaction, String> {
    parsed(bitcoin::consensus::deserialize(bytes))
}

fn parsed<T, E: std::fmt::Display>(read: Result<T, E>) -> Result<T, String> {
    read.map_err(|error| error.to_string())
}
