//! The canonical intent of a proven request. An officer's program writes it anew by a path of its own; it never holds
//! what that program could not know.

use bitcoin::hashes::Hash as _;
use bitcoin::{OutPoint, Txid};
use policy::Rules;
use policy::conditions::Target;
use policy::intent::{Destination, Slot, Transfer};
use policy::order::VerifiedOrder;
use sha2::{Digest as _, Sha256};
use statement::intent::{Input, Ordered, Output, To, is_label};
use statement::{Paper, PolicyRef};

use crate::request::SigningRequest;
use crate::wallets::Wallets;

/// The policy in force, as statements name it.
#[must_use]
pub fn policy_ref(rules: &Rules) -> PolicyRef {
    PolicyRef { version: rules.version(), digest: *rules.digest() }
}

/// Writes it, for a request that waits since and until these times.
#[must_use]
pub fn write(
    request: &SigningRequest,
    rules: &Rules,
    wallets: &Wallets,
    asked_unix: u64,
    expires_unix: u64,
) -> Paper {
    let intent = request.intent();
    let transaction = bitcoin::consensus::serialize(request.transaction());
    Paper {
        network: rules.network().chain_id().to_string(),
        request: intent.request,
        client: intent.caller.clone(),
        lane: intent.lane.clone(),
        wallet: intent.wallet.clone(),
        tier: request.wallet().tier().as_str().to_owned(),
        transaction: Sha256::digest(transaction).into(),
        inputs: intent.slots.iter().map(input).collect(),
        outputs: intent.transfers.iter().map(|to| output(to, rules, wallets)).collect(),
        fee: intent.fee.amount.units(),
        orders: intent.orders.iter().map(ordered).collect(),
        policy: policy_ref(rules),
        asked_unix,
        expires_unix,
    }
}

fn input(slot: &Slot) -> Input {
    let (txid, vout) = slot.id.0.split_at(32);
    let txid = Txid::from_byte_array(txid.try_into().unwrap_or_default());
    let vout = u32::from_le_bytes(vout.try_into().unwrap_or_default());
    Input { coin: OutPoint { txid, vout }.to_string(), amount: slot.amount.units() }
}

fn output(transfer: &Transfer, rules: &Rules, wallets: &Wallets) -> Output {
    let to = match &transfer.to {
        Destination::Change { index } => To::Change { index: *index },
        Destination::Cold { wallet, index } => To::Cold { wallet: wallet.clone(), index: *index },
        Destination::External { script, address, .. } => To::External {
            address: match address.as_str() {
                "" => format!("script:{}", hex::encode(script)),
                address => address.to_owned(),
            },
            label: label(script, rules, wallets),
        },
    };
    Output { amount: transfer.amount.units(), to }
}

/// What the first of the policy's lists that names this very script calls it. Lists are sorted by name, their entries
/// are in the policy's order; entries that stand for many addresses say whose one is, not which.
fn label(script: &[u8], rules: &Rules, wallets: &Wallets) -> Option<String> {
    let mut entries = rules.lists().iter().flat_map(|list| &list.entries);
    let named = entries.find(|entry| match &entry.target {
        Target::Script(named) => named == script,
        Target::Address(address) => {
            wallets.script_of(address).is_ok_and(|named| named.as_bytes() == script)
        }
        Target::Descriptor { .. } => false,
    })?;
    is_label(&named.label).then(|| named.label.clone())
}

fn ordered(order: &VerifiedOrder) -> Ordered {
    let (id, digest) = (order.order().id.clone(), *order.digest());
    Ordered { id, signer: order.signer().clone(), digest }
}
