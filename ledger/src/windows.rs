//! Totals over windows, kept so that a question about the past is a few look-ups and not a walk through it. It knows no rule
//! and no clock, and has no answer where it could not give the very one that the walk gives.
//!
//! **Conflict sets.** Of a set the largest member that lies in the window counts. So each member is entered with what it
//! adds to the largest of those after it: whatever the window's beginning cuts off, the rest adds up to that.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use policy::evidence::{Question, Total};

use super::spends::Spend;

/// Entries whose sum is kept; and sums whose sum is kept.
const BLOCK: usize = 1 << 10;

/// What is asked without its window, and the answer for each beginning.
#[derive(Debug)]
pub(super) struct Totals {
    question: Question,
    /// One for each spend that is part of it, in the order of time.
    times: Vec<u64>,
    /// Which spend; the largest number for one that moved or went.
    numbers: Vec<usize>,
    values: Vec<u64>,
    blocks: Vec<u128>,
    heaps: Vec<u128>,
    /// Whether everything fitted.
    exact: bool,
}

/// A spend that is nowhere any more.
const GONE: usize = usize::MAX;

impl Totals {
    /// Of nothing yet; the question's window does not matter.
    pub(super) fn new(question: &Question) -> Self {
        let question = kind(question);
        let (times, numbers, values) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            question,
            times,
            numbers,
            values,
            blocks: Vec::new(),
            heaps: Vec::new(),
            exact: true,
        }
    }

    /// Takes in the newest spend, whose set has these members, itself among them.
    pub(super) fn enter(&mut self, spends: &[Spend], number: usize, members: &[usize]) {
        let Some(spend) = spends.get(number) else { return };
        if spend.part_of(&self.question).is_none() {
            return;
        }
        self.exact &= self.times.last().is_none_or(|last| *last <= spend.unix_s);
        self.times.push(spend.unix_s);
        self.numbers.push(number);
        let at = self.values.len();
        self.values.push(0);
        if at.is_multiple_of(BLOCK) {
            self.blocks.push(0);
        }
        if at.is_multiple_of(BLOCK * BLOCK) {
            self.heaps.push(0);
        }
        self.level(spends, members);
    }

    /// Forgets where a spend stood at that time; its set has these members besides.
    pub(super) fn leave(
        &mut self,
        spends: &[Spend],
        number: usize,
        unix_s: u64,
        members: &[usize],
    ) {
        if let Some(at) = self.find(number, unix_s) {
            self.set(at, 0);
            if let Some(number) = self.numbers.get_mut(at) {
                *number = GONE;
            }
            self.level(spends, members);
        }
    }

    /// What all sets add up to from then on; none where it is not known exactly.
    pub(super) fn since(&self, unix_s: u64) -> Option<u128> {
        let first = self.times.partition_point(|time| *time < unix_s);
        let block = first.div_ceil(BLOCK);
        let heap = block.div_ceil(BLOCK);
        let end = block.saturating_mul(BLOCK).min(self.values.len());
        let rest =
            self.values.get(first..end)?.iter().map(|value| u128::from(*value)).sum::<u128>();
        let end = heap.saturating_mul(BLOCK).min(self.blocks.len());
        let blocks = self.blocks.get(block.min(end)..end)?.iter().sum::<u128>();
        let heaps = self.heaps.get(heap.min(self.heaps.len())..)?.iter().sum::<u128>();
        self.exact.then(|| rest.saturating_add(blocks).saturating_add(heaps))
    }

    /// Enters each member of a set with what it adds to the largest after it.
    fn level(&mut self, spends: &[Spend], members: &[usize]) {
        let place = |number: &usize| {
            let spend = spends.get(*number)?;
            let amount = spend.part_of(&self.question)?;
            Some((self.find(*number, spend.unix_s)?, u64::try_from(amount.units()).ok()))
        };
        let mut places: Vec<(usize, Option<u64>)> = members.iter().filter_map(place).collect();
        places.sort_unstable();
        let mut most = 0;
        for (at, amount) in places.into_iter().rev() {
            let Some(amount) = amount else {
                self.exact = false;
                return;
            };
            self.set(at, amount.saturating_sub(most));
            most = most.max(amount);
        }
    }

    fn set(&mut self, at: usize, value: u64) {
        let Some(place) = self.values.get_mut(at) else { return };
        let before = std::mem::replace(place, value);
        let change = |sum: &mut u128| {
            *sum = sum.saturating_sub(before.into()).saturating_add(value.into());
        };
        self.blocks.get_mut(at / BLOCK).into_iter().for_each(change);
        self.heaps.get_mut(at / (BLOCK * BLOCK)).into_iter().for_each(change);
    }

    fn find(&self, number: usize, unix_s: u64) -> Option<usize> {
        let first = self.times.partition_point(|time| *time < unix_s);
        let then = self.times.iter().zip(&self.numbers).skip(first);
        let mut then = then.take_while(|(time, _)| **time == unix_s).zip(first..);
        then.find(|((_, other), _)| **other == number).map(|(_, at)| at)
    }
}

/// The same question for every window.
pub(super) fn kind(question: &Question) -> Question {
    Question { window_seconds: 0, ..question.clone() }
}

/// Which spends pay a script, at least: they are in the order of time, one that moved a second time.
#[derive(Debug, Default)]
pub(super) struct Payees {
    hasher: RandomState,
    by_script: HashMap<u64, Vec<(u64, usize)>>,
    /// Those of which nobody can tell whom they pay.
    unknown: Vec<(u64, usize)>,
    last: u64,
    unordered: bool,
}

impl Payees {
    pub(super) fn enter(&mut self, spend: &Spend, number: usize) {
        self.unordered |= spend.unix_s < self.last;
        self.last = spend.unix_s;
        let Some(paid) = &spend.paid else {
            self.unknown.push((spend.unix_s, number));
            return;
        };
        for (script, _) in paid {
            let key = self.hasher.hash_one(script);
            self.by_script.entry(key).or_default().push((spend.unix_s, number));
        }
    }

    /// All that may pay it from then on; none where that is not known.
    pub(super) fn since(
        &self,
        question: &Question,
        unix_s: u64,
    ) -> Option<impl Iterator<Item = usize>> {
        let Total::Destination(script) = &question.of else { return None };
        let key = self.hasher.hash_one(script.as_slice());
        let paying = self.by_script.get(&key).map(Vec::as_slice).unwrap_or_default();
        let lately = move |list: &'_ [(u64, usize)]| {
            let first = list.partition_point(|(time, _)| *time < unix_s);
            list.get(first..)
                .unwrap_or_default()
                .iter()
                .map(|(_, number)| *number)
                .collect::<Vec<_>>()
        };
        let all = lately(paying).into_iter().chain(lately(&self.unknown));
        (!self.unordered).then_some(all)
    }
}

#[cfg(test)]
#[allow(clippy::as_conversions, reason = "small numbers")]
mod tests {
    use asset::Network;
    use audit::entry;
    use policy::evidence::Measure;
    use policy::intent::RequestId;
    use policy::names::{ClientName, LaneName, WalletName};
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::super::spends::Spends;
    use super::*;

    const LANES: [&str; 3] = ["a", "b", "c"];

    fn spend(request: u8, random: &mut StdRng) -> entry::Spend {
        let script = |number: u8| bitcoin::ScriptBuf::from_bytes(vec![number; 22]);
        let output = |sat, to| bitcoin::TxOut {
            value: bitcoin::Amount::from_sat(sat),
            script_pubkey: script(to),
        };
        let paid: Vec<u64> = (0..random.gen_range(0..3)).map(|_| random.gen_range(1..50)).collect();
        let transaction = bitcoin::Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![],
            output: paid.iter().map(|sat| output(*sat, random.gen_range(0..3))).collect(),
        };
        // Now and then nobody can tell whom it pays, or how much it is.
        let readable = random.gen_ratio(9, 10);
        let transaction =
            if readable { bitcoin::consensus::serialize(&transaction) } else { vec![1] };
        let external = paid.iter().map(|sat| u128::from(*sat)).sum();
        let external = if random.gen_ratio(1, 60) { u128::MAX } else { external };
        let coins: Vec<u8> = (0..random.gen_range(1..3)).map(|_| random.gen_range(0..9)).collect();
        let order = |key: u8| entry::PaidOrder {
            key: [key; 32],
            id: format!("o{request}"),
            digest: [0; 32],
            expires_unix: 0,
        };
        let keys: std::collections::BTreeSet<u8> =
            (0..random.gen_range(0..3)).map(|_| random.gen_range(0..2)).collect();
        entry::Spend {
            request: [request; 16],
            policy: 1,
            lane: LANES[random.gen_range(0..3)].to_owned(),
            wallet: ["w1", "w2"][random.gen_range(0..2)].to_owned(),
            caller: ["c1", "c2"][random.gen_range(0..2)].to_owned(),
            fee: random.gen_range(0..9),
            external,
            slots: coins
                .into_iter()
                .map(|coin| entry::SpentSlot { slot: vec![coin; 36], amount: 1 })
                .collect(),
            orders: keys.into_iter().map(order).collect(),
            change_index: None,
            cold_index: None,
            transaction,
            trace: vec![],
        }
    }

    fn questions() -> Vec<Question> {
        let lane = |name: &str| LaneName::parse(name).unwrap();
        let client = |name| Total::Client(ClientName::parse(name).unwrap());
        let of = [
            Total::Lane(lane("a")),
            client("c1"),
            client("nobody"),
            Total::Wallet(WalletName::parse("w2").unwrap()),
            Total::Orderer([1; 32]),
            Total::Destination(vec![1; 22]),
            Total::Destination(vec![7; 22]),
            Total::Asset(Network::Regtest.asset_id()),
            Total::Everything,
        ];
        let measures = [Measure::Fees, Measure::External, Measure::Leaving, Measure::Count];
        let mut all = Vec::new();
        for of in of {
            for measure in measures {
                for lanes in [vec![], vec![lane("a"), lane("c")]] {
                    for window_seconds in [0, 1, 10, 1_000] {
                        let (of, lanes) = (of.clone(), lanes.clone());
                        all.push(Question { of, lanes, measure, window_seconds });
                    }
                }
            }
        }
        all
    }

    /// Whatever happens in whatever order, what is kept says what the walk through everything finds.
    #[test]
    fn what_is_kept_is_what_a_walk_finds() {
        let questions = questions();
        let mut random = StdRng::seed_from_u64(11);
        for history in 0..60 {
            let (mut spends, mut now) = (Spends::default(), 1_000);
            for step in 0..24 {
                now += random.gen_range(0..4);
                let request = random.gen_range(0..12);
                let id = RequestId([request; 16]);
                match random.gen_range(0..10) {
                    0..5 => spends.add(&spend(request, &mut random), [request; 32], now).unwrap(),
                    5..7 => spends.wait(&spend(request, &mut random), [request; 32], now).unwrap(),
                    7 => spends.wait_no_longer(id),
                    8 if spends.contains(id) => spends.again(id, now).unwrap(),
                    _ => {}
                }
                // From the beginning on in some, at once over all of it in others.
                if step < 23 && history % 3 == 0 {
                    continue;
                }
                let own = Some(random.gen_range(0..8)).filter(|_| random.gen_ratio(2, 3));
                for question in &questions {
                    let since = now.saturating_sub(question.window_seconds);
                    let walked = spends.walk_all(question, own, since);
                    assert_eq!(spends.sum(question, own, now), walked, "{history} {step}");
                }
            }
        }
    }

    /// More than two levels of sums, with a change far back.
    #[test]
    fn long_histories_add_up() {
        let question = Question {
            of: Total::Everything,
            lanes: vec![],
            measure: Measure::Count,
            window_seconds: 0,
        };
        let mut totals = Totals::new(&question);
        let count = BLOCK * BLOCK + 5 * BLOCK + 7;
        totals.times = (0..count as u64).collect();
        totals.numbers = (0..count).collect();
        totals.values = vec![0; count];
        totals.blocks = vec![0; count.div_ceil(BLOCK)];
        totals.heaps = vec![0; count.div_ceil(BLOCK * BLOCK)];
        for at in 0..count {
            totals.set(at, at as u64 % 7);
        }
        totals.set(3, 1_000);
        let sum = |from: u64| (from..count as u64).map(|at| u128::from(at % 7)).sum::<u128>();
        for from in
            [4, BLOCK as u64, 70_000, (BLOCK * BLOCK) as u64, count as u64 - 1, count as u64]
        {
            assert_eq!(totals.since(from), Some(sum(from)), "{from}");
        }
        assert_eq!(totals.since(0), Some(sum(0) - 3 + 1_000));
        assert_eq!(totals.since(count as u64 + 9), Some(0));
        assert_eq!(totals.find(70_000, 70_000), Some(70_000));
    }
}
