//! Which spends pay a script, so that a question about a destination looks at its payments alone. It may name one that does
//! not pay it, and never leaves one out.

use std::hash::{BuildHasher as _, RandomState};

use super::seeded::Map;
use super::spend::Spend;

/// Moments of the spends that pay each script, in their order.
#[derive(Debug, Default)]
pub(super) struct Payees {
    hasher: RandomState,
    /// By the script's hash here: what else has the same hash is told apart by what it pays.
    by_script: Map<u64, Paid>,
    /// Those of which nobody can tell whom they pay.
    unknown: Vec<usize>,
}

/// Most scripts are paid once: change, above all.
#[derive(Debug)]
enum Paid {
    Once(usize),
    Often(Vec<usize>),
}

impl Payees {
    /// Takes in a spend that counts from a moment on, later than all that are there.
    pub(super) fn enter(&mut self, spend: &Spend, moment: usize) {
        let Some(paid) = &spend.paid else {
            self.unknown.push(moment);
            return;
        };
        for (script, _) in paid.iter() {
            let key = self.hasher.hash_one(script);
            let often = self.by_script.entry(key).or_insert(Paid::Once(moment));
            often.add(moment);
        }
    }

    /// All that may pay it from a moment on.
    pub(super) fn since(&self, script: &[u8], moment: usize) -> impl Iterator<Item = usize> {
        let paid = self.by_script.get(&self.hasher.hash_one(script));
        let paid = paid.map(Paid::moments).unwrap_or_default();
        let lately = |list: &'_ [usize]| list.partition_point(|at| *at < moment);
        let (paid_first, unknown_first) = (lately(paid), lately(&self.unknown));
        let unknown = self.unknown.iter().skip(unknown_first);
        paid.iter().skip(paid_first).chain(unknown).copied()
    }
}

impl Paid {
    fn moments(&self) -> &[usize] {
        match self {
            Self::Once(moment) => std::slice::from_ref(moment),
            Self::Often(moments) => moments,
        }
    }

    fn add(&mut self, moment: usize) {
        match self {
            Self::Once(only) if *only == moment => {}
            Self::Once(first) => *self = Self::Often(vec![*first, moment]),
            Self::Often(moments) if moments.last() == Some(&moment) => {}
            Self::Often(moments) => moments.push(moment),
        }
    }
}
