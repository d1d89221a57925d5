//! Every coin that was ever signed for, and by which spends. What was allowed is never forgotten.

use asset::Amount;
use policy::intent::SlotId;

use super::numbers::Numbers;
use super::seeded::Map;

/// By outpoint.
#[derive(Debug, Default)]
pub(super) struct Coins {
    all: Map<SlotId, Coin>,
}

/// A coin that was signed for.
#[derive(Debug)]
pub(super) struct Coin {
    /// Base units, lowest byte first: a number would take more room, since all it lies beside would begin at its boundary.
    units: [u8; 16],
    spends: Numbers,
}

impl Coins {
    pub(super) fn get(&self, id: &SlotId) -> Option<&Coin> {
        self.all.get(id)
    }

    /// The spends that have it.
    pub(super) fn spends_of(&self, id: &SlotId) -> impl Iterator<Item = usize> {
        self.all.get(id).into_iter().flat_map(Coin::spends)
    }

    /// A spend has it.
    pub(super) fn take(&mut self, id: SlotId, amount: Amount, number: usize) {
        let coin = self.all.entry(id).and_modify(|coin| coin.spends.push(number));
        coin.or_insert_with(|| Coin {
            units: amount.units().to_le_bytes(),
            spends: Numbers::one(number),
        });
    }

    /// A spend has it no more.
    pub(super) fn forget(&mut self, id: &SlotId, number: usize) {
        if self.all.get_mut(id).is_some_and(|coin| !coin.spends.forget(number)) {
            self.all.remove(id);
        }
    }

    /// There will be about so many times as many.
    pub(super) fn expect(&mut self, times: usize) {
        super::expect(&mut self.all, times);
    }
}

impl Coin {
    /// What it was worth when it was first signed for.
    pub(super) fn amount(&self) -> Amount {
        Amount::from_units(u128::from_le_bytes(self.units))
    }

    pub(super) fn spends(&self) -> impl Iterator<Item = usize> {
        self.spends.iter()
    }
}
