//! How far own outputs have gone on each branch, now and a day ago. It never takes a step back, and keeps no more
//! than a day's steps.

use std::collections::{BTreeMap, VecDeque};

use policy::names::WalletName;

/// What a branch can be walked in is counted over this long.
pub(super) const DAY_SECONDS: u64 = 86_400;

/// Branches by wallet; true is change.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    branches: BTreeMap<(WalletName, bool), Branch>,
}

/// One branch. The policy lets a day advance it by its window only, so that the steps are no more than that.
#[derive(Debug, Default)]
struct Branch {
    /// The highest index before the steps.
    before: Option<u32>,
    /// When a higher index was first used; times and indexes both rise.
    steps: VecDeque<(u64, u32)>,
}

impl Indexes {
    /// The highest index used.
    pub(super) fn last_used(&self, wallet: &WalletName, change: bool) -> Option<u32> {
        let branch = self.branches.get(&(wallet.clone(), change))?;
        branch.steps.back().map(|(_, index)| *index).or(branch.before)
    }

    /// The highest index used more than a day before `now_unix`.
    pub(super) fn used_a_day_ago(
        &self,
        wallet: &WalletName,
        change: bool,
        now_unix: u64,
    ) -> Option<u32> {
        let branch = self.branches.get(&(wallet.clone(), change))?;
        let since = now_unix.saturating_sub(DAY_SECONDS);
        let older = branch.steps.iter().take_while(|(unix_s, _)| *unix_s < since);
        older.last().map(|(_, index)| *index).or(branch.before)
    }

    /// Takes a use in. Entries come in the order of their time.
    pub(super) fn add(&mut self, wallet: WalletName, change: bool, index: u32, unix_s: u64) {
        let last = self.last_used(&wallet, change);
        let branch = self.branches.entry((wallet, change)).or_default();
        let since = unix_s.saturating_sub(DAY_SECONDS);
        while let Some((_, older)) = branch.steps.pop_front_if(|(time, _)| *time < since) {
            branch.before = Some(older);
        }
        if last.is_none_or(|last| index > last) {
            match branch.steps.back_mut() {
                Some((time, highest)) if *time == unix_s => *highest = index,
                _ => branch.steps.push_back((unix_s, index)),
            }
        }
    }
}
