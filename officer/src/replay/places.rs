//! Whose an output is, by the descriptors of a policy: derived here, each index once. It never takes an index from anybody,
//! only how far to look.

use std::collections::HashMap;
use std::str::FromStr as _;

use bitcoin::{ScriptBuf, Transaction};
use miniscript::descriptor::{ShInner, WshInner};
use miniscript::{Descriptor, DescriptorPublicKey};
use policy::Rules;
use policy::names::WalletName;

/// A low-S signature of at most 71 bytes with its type, and a compressed key.
const SIGNATURE: u64 = 72;
const KEY: u64 = 33;

/// Every wallet of a policy.
pub(super) struct Places(HashMap<WalletName, Vec<Branch>>);

struct Branch {
    descriptor: Descriptor<DescriptorPublicKey>,
    scripts: HashMap<ScriptBuf, u32>,
    below: u32,
}

impl Places {
    pub(super) fn new(rules: &Rules) -> Result<Self, String> {
        let wallets = rules.wallets().iter().map(|wallet| {
            let wrong = |error: miniscript::Error| {
                let error = asset::masked(&error.to_string());
                format!("wallet \"{}\": {error}", wallet.name)
            };
            let whole = Descriptor::from_str(&wallet.descriptor).map_err(wrong)?;
            let branches = whole.into_single_descriptors().map_err(wrong)?;
            let branch = |descriptor| Branch { descriptor, scripts: HashMap::new(), below: 0 };
            Ok((wallet.name.clone(), branches.into_iter().map(branch).collect()))
        });
        wallets.collect::<Result<_, String>>().map(Self)
    }

    /// At which index of a wallet's branch a script is, looked for up to `highest`.
    pub(super) fn index(
        &mut self,
        wallet: &WalletName,
        change: bool,
        script: &ScriptBuf,
        highest: u32,
    ) -> Option<u32> {
        let branches = self.0.get_mut(wallet)?;
        let ranged = branches.iter().any(|branch| branch.descriptor.has_wildcard());
        // A wallet without branches has the same addresses for both.
        let at = if branches.len() > 1 { usize::from(change) } else { 0 };
        let branch = branches.get_mut(at)?;
        let most = if ranged { highest } else { 0 };
        while branch.below <= most {
            let derived = branch.descriptor.at_derivation_index(branch.below).ok()?;
            branch.scripts.insert(derived.script_pubkey(), branch.below);
            branch.below = branch.below.checked_add(1)?;
        }
        branch.scripts.get(script).copied().filter(|index| *index <= most)
    }

    /// The largest virtual size that the transaction can have once a wallet's keys have signed it.
    pub(super) fn signed_vsize(
        &self,
        wallet: &WalletName,
        transaction: &Transaction,
    ) -> Option<u64> {
        let (input, witness) = weight(&self.0.get(wallet)?.first()?.descriptor);
        let inputs = u64::try_from(transaction.input.len()).ok()?;
        let frame = if witness { 2 } else { 0 };
        let signed = inputs.checked_mul(input)?.checked_add(frame)?;
        Some(transaction.weight().to_wu().checked_add(signed)?.div_ceil(4))
    }
}

/// What signing adds to an input at most, in weight units, and whether that is a witness (BIP-141).
fn weight(descriptor: &Descriptor<DescriptorPublicKey>) -> (u64, bool) {
    let single = 1 + 1 + SIGNATURE + 1 + KEY;
    match descriptor {
        Descriptor::Pkh(_) => ((1 + SIGNATURE + 1 + KEY) * 4, false),
        Descriptor::Wpkh(_) => (single, true),
        Descriptor::Sh(sh) if matches!(sh.as_inner(), ShInner::Wpkh(_)) => (single + 23 * 4, true),
        Descriptor::Wsh(wsh) => match wsh.as_inner() {
            WshInner::SortedMulti(multi) => (multisig(multi.k(), multi.n()), true),
            WshInner::Ms(_) => (1 + 1 + 64, true),
        },
        _ => (1 + 1 + 64, true),
    }
}

fn multisig(needed: usize, keys: usize) -> u64 {
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let number = |n: usize| if n > 16 { 2 } else { 1 };
    let pushes = count(keys).saturating_mul(1 + KEY);
    let script = pushes.saturating_add(number(needed));
    let script = script.saturating_add(number(keys)).saturating_add(1);
    let length = if script < 0xfd { 1 } else { 3 };
    let signatures = count(needed).saturating_mul(1 + SIGNATURE);
    signatures.saturating_add(script).saturating_add(length).saturating_add(2)
}
