//! What was signed comes to, since when, for whom: from totals that are kept, or from a destination's few payments. It never
//! decides whether that is too much, and what is kept says nothing that a walk through all spends does not say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;

use asset::Amount;
use policy::evidence::{Answer, Question, Total};

use super::payees::Payees;
use super::spend::Spend;
use super::spends::Spends;
use super::windows::{Totals, is_same_kind, kind};

/// Kinds of questions whose totals are kept, at twelve bytes for each spend that is part of one. A policy asks a few dozen
/// for each lane, client, wallet and key of it that a spend is part of.
const KINDS_MAX: usize = if cfg!(test) { 64 } else { 2_048 };
/// Spends that there is memory for in all of them, each counted for every one, at twelve bytes: 3.3 GB. Where all are more, the longest
/// is given up, and added up from the spends whenever it is asked for.
const VALUES_MAX: usize = 1 << 28;
/// Spends of one walk that are looked at before it is looked at whether there still is room.
const STRIDE: usize = if cfg!(test) { 8 } else { 1 << 17 };
/// With fewer looks, a second thread would take longer to begin than to look.
const WORTH_A_THREAD: usize = if cfg!(test) { 64 } else { 1 << 16 };
/// Payments to one destination that are added up each time it is asked about.
const FEW: usize = if cfg!(test) { 2 } else { 128 };
/// Kinds of questions about destinations that were paid more often than that.
const OFTEN_MAX: usize = if cfg!(test) { 12 } else { 1_024 };

#[cfg(not(test))]
fn values_max() -> usize {
    VALUES_MAX
}

#[cfg(test)]
fn values_max() -> usize {
    tests::VALUES.get()
}

/// What was asked before, kept from then on.
#[derive(Debug, Default)]
pub(super) struct Kept {
    totals: HashMap<Question, Totals>,
    /// Of destinations.
    often: HashMap<Question, Totals>,
}

impl Kept {
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Totals> {
        self.totals.values_mut().chain(self.often.values_mut())
    }

    /// For how many spends they have memory, all together.
    fn room(&self) -> usize {
        let all = self.totals.values().chain(self.often.values());
        all.fold(0, |sum, totals| sum.saturating_add(totals.room()))
    }

    /// How many of them were given up.
    fn given_up(&self) -> usize {
        let all = self.totals.values().chain(self.often.values());
        all.filter(|totals| totals.is_given_up()).count()
    }

    /// Makes room where they became too many.
    pub(super) fn fit(&mut self) {
        let taken = self.room();
        fit(self.iter_mut(), taken, values_max());
    }
}

impl Spends {
    /// Answers questions; quickest when those that differ in their windows alone follow each other.
    pub(super) fn answers(
        &self,
        questions: &[Question],
        own_set: Option<usize>,
        now_unix: u64,
    ) -> Vec<Answer> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.keep(&mut kept, questions);
        let mut windows: Vec<(u64, usize)> = Vec::new();
        let mut first = |seconds: u64| match windows.iter().find(|(known, _)| *known == seconds) {
            Some((_, first)) => *first,
            None => {
                let first = self.moments.since(now_unix.saturating_sub(seconds));
                windows.push((seconds, first));
                first
            }
        };
        let mut answers = Vec::with_capacity(questions.len());
        for alike in questions.chunk_by(is_same_kind) {
            let asked: Vec<_> =
                alike.iter().map(|asked| (asked, first(asked.window_seconds))).collect();
            match alike.first().map(|question| &question.of) {
                Some(Total::Destination(script)) => {
                    self.of_destination(script, &asked, own_set, &mut kept, &mut answers);
                }
                Some(_) => {
                    let totals =
                        alike.first().and_then(|question| kept.totals.get(&kind(question)));
                    let answer = |(question, first): &(&Question, usize)| {
                        self.by_totals(question, *first, own_set, totals)
                    };
                    answers.extend(asked.iter().map(answer));
                }
                None => {}
            }
        }
        answers
    }

    /// Makes the totals that questions need, but those about destinations.
    pub(super) fn prepare(&self, questions: &[Question]) {
        std::thread::scope(|scope| {
            scope.spawn(|| self.payees.get_or_init(|| self.find_payees()));
            let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            self.keep(&mut kept, questions);
        });
    }

    /// How many totals were given up for want of room: what they come to is added up whenever it is asked for.
    pub(super) fn given_up(&self) -> usize {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).given_up()
    }

    /// Whether its total is there, so that the answer takes a look-up.
    pub(super) fn keeps(&self, question: &Question) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.totals.get(&kind(question)).is_some_and(|totals| !totals.is_given_up())
    }

    /// One question from its totals; without them, or where they are not exact, from all spends.
    fn by_totals(
        &self,
        question: &Question,
        first: usize,
        own_set: Option<usize>,
        totals: Option<&Totals>,
    ) -> Answer {
        let own_set_comes_to =
            || own_set.map_or(Amount::ZERO, |set| self.largest(question, set, first));
        if let Some(all) = totals.and_then(|totals| totals.since(first)) {
            let own = own_set_comes_to();
            // Its own set is part of all.
            if let Some(others) = all.checked_sub(own.units()) {
                let others = Amount::from_units(others);
                return Answer { question: question.clone(), others, own_set: own };
            }
        }
        self.walk(question, own_set, first..self.moments.len())
    }

    /// Questions about one destination that differ in their windows alone.
    fn of_destination(
        &self,
        script: &[u8],
        asked: &[(&Question, usize)],
        own_set: Option<usize>,
        kept: &mut Kept,
        answers: &mut Vec<Answer>,
    ) {
        let payees = self.payees.get_or_init(|| self.find_payees());
        let longest = asked.iter().map(|(_, first)| *first).min().unwrap_or_default();
        let paying: Vec<usize> =
            payees.since(script, longest).take(FEW.saturating_add(1)).collect();
        if paying.len() <= FEW {
            let answer = |(question, first): &(&Question, usize)| {
                let since = paying.iter().copied().filter(|moment| moment >= first);
                self.walk(question, own_set, since)
            };
            return answers.extend(asked.iter().map(answer));
        }
        let Some(kind) = asked.first().map(|(question, _)| kind(question)) else { return };
        if !kept.often.contains_key(&kind) {
            if kept.often.len() >= OFTEN_MAX {
                kept.often.clear();
            }
            let mut moments: Vec<usize> = payees.since(script, 0).collect();
            moments.sort_unstable();
            let room = values_max().saturating_sub(kept.room());
            let totals = self.totals_of(std::slice::from_ref(&kind), moments.into_iter(), room);
            let totals = totals.into_iter().map(|totals| (totals.question().clone(), totals));
            kept.often.extend(totals);
        }
        let totals = kept.often.get(&kind);
        let answer = |(question, first): &(&Question, usize)| {
            self.by_totals(question, *first, own_set, totals)
        };
        answers.extend(asked.iter().map(answer));
    }

    /// The same sum over what was given out, at any time.
    pub(super) fn paid(&self, question: &Question) -> Amount {
        let mut maxima: BTreeMap<usize, Amount> = BTreeMap::new();
        for spend in self.released_for(&question.of) {
            let Some(amount) = spend.adds(question) else { continue };
            let most = maxima.entry(spend.set()).or_default();
            *most = (*most).max(amount);
        }
        Amount::sum(maxima.into_values()).unwrap_or(Amount::MAX)
    }

    /// When this script was first given coins, and when last.
    pub(super) fn paid_when(&self, script: &[u8]) -> Option<(u64, u64)> {
        let given = self.released_for(&Total::Destination(script.to_vec()));
        let times = given.iter().filter(|spend| spend.pays(script).is_some());
        let times = times.map(|spend| spend.unix_s());
        times.fold(None, |span, time| match span {
            None => Some((time, time)),
            Some((first, last)) => Some((time.min(first), time.max(last))),
        })
    }

    /// What was given out and may be part of a total.
    fn released_for(&self, of: &Total) -> Vec<&Spend> {
        let payees = || self.payees.get_or_init(|| self.find_payees());
        let moments: Box<dyn Iterator<Item = usize>> = match of {
            Total::Destination(script) => Box::new(payees().since(script, 0)),
            _ => Box::new(0..self.moments.len()),
        };
        let spends = moments.filter_map(|moment| self.moments.spend(moment, &self.spends));
        spends.filter(|spend| spend.is_out()).collect()
    }

    /// Spend by spend: each set counts its largest member among those that count from these moments on. A sum that does
    /// not fit counts as the largest there is, which no limit allows.
    pub(super) fn walk(
        &self,
        question: &Question,
        own_set: Option<usize>,
        moments: impl Iterator<Item = usize>,
    ) -> Answer {
        let mut adding: Vec<(usize, Amount)> = moments
            .filter_map(|moment| self.moments.spend(moment, &self.spends))
            .filter_map(|spend| Some((spend.set(), spend.part_of(question)?)))
            .collect();
        adding.sort_unstable();
        let sets = adding.chunk_by(|(one, _), (other, _)| one == other);
        let (mut own, mut others) = (Amount::ZERO, Some(Amount::ZERO));
        for (set, most) in sets.filter_map(|members| members.last().copied()) {
            if own_set == Some(set) {
                own = most;
            } else {
                others = others.and_then(|sum| sum.checked_add(most));
            }
        }
        let others = others.unwrap_or(Amount::MAX);
        Answer { question: question.clone(), others, own_set: own }
    }

    /// Makes the totals that are missing, all in one walk through everything.
    fn keep(&self, all: &mut Kept, questions: &[Question]) {
        let kept = &mut all.totals;
        let of_totals = |question: &&Question| !matches!(question.of, Total::Destination(_));
        let alike = questions.chunk_by(is_same_kind).filter_map(|alike| alike.first());
        let kinds: HashSet<Question> = alike.filter(of_totals).map(kind).collect();
        let is_missing = |kind: &&Question| !kept.contains_key(*kind);
        let mut missing: Vec<Question> = kinds.iter().filter(is_missing).cloned().collect();
        if missing.is_empty() {
            return;
        }
        missing.truncate(KINDS_MAX);
        // Only as many make room as must, and none that is asked for now.
        let mut over = kept.len().saturating_add(missing.len()).saturating_sub(KINDS_MAX);
        kept.retain(|known, _| {
            let stays = over == 0 || kinds.contains(known);
            over = over.saturating_sub(usize::from(!stays));
            stays
        });
        missing.truncate(KINDS_MAX.saturating_sub(kept.len()));
        if missing.is_empty() {
            // What has no room is added up when it is asked for.
            return;
        }
        let room = values_max().saturating_sub(all.room());
        let totals = self.totals_of(&missing, 0..self.moments.len(), room);
        all.totals.extend(totals.into_iter().map(|totals| (totals.question().clone(), totals)));
    }

    /// Totals of these kinds over what counts from these moments on, which are in order; no longer than there is room.
    fn totals_of(
        &self,
        kinds: &[Question],
        moments: impl DoubleEndedIterator<Item = usize>,
        room: usize,
    ) -> Vec<Totals> {
        let mut made: Vec<Totals> = kinds.iter().map(Totals::new).collect();
        // Of sets that have several members the largest so far, by the kinds that each half is about.
        let mut largest: [Largest; 2] = Default::default();
        let mut back = moments.rev();
        loop {
            let stride: Vec<usize> = back.by_ref().take(STRIDE).collect();
            if stride.is_empty() {
                break;
            }
            let (one, other) = made.split_at_mut(kinds.len() / 2);
            let [first, second] = &mut largest;
            if stride.len().saturating_mul(kinds.len()) < WORTH_A_THREAD {
                self.add_earlier(&stride, one, first);
                self.add_earlier(&stride, other, second);
            } else {
                std::thread::scope(|scope| {
                    scope.spawn(|| self.add_earlier(&stride, one, first));
                    self.add_earlier(&stride, other, second);
                });
            }
            let taken = made.iter().fold(0, |sum: usize, totals| sum.saturating_add(totals.room()));
            fit(made.iter_mut(), taken, room);
        }
        made.iter_mut().for_each(Totals::turn);
        made
    }

    /// Takes what counts from these moments on, the latest first, into totals of what is later than all of them.
    fn add_earlier(&self, moments: &[usize], made: &mut [Totals], largest: &mut Largest) {
        for moment in moments {
            let Some(spend) = self.moments.spend(*moment, &self.spends) else { continue };
            let is_alone = self.members_of(spend.set()).len() <= 1;
            for (at, totals) in made.iter_mut().enumerate() {
                let Some(amount) = spend.part_of(totals.question()) else { continue };
                let amount = u64::try_from(amount.units()).ok();
                let value = match amount {
                    Some(amount) if !is_alone => {
                        let most = largest.entry((at, spend.set())).or_default();
                        let value = amount.saturating_sub(*most);
                        *most = amount.max(*most);
                        Some(value)
                    }
                    amount => amount,
                };
                totals.push_before(*moment, value);
            }
        }
    }

    fn find_payees(&self) -> Payees {
        let mut payees = Payees::default();
        for moment in 0..self.moments.len() {
            if let Some(spend) = self.moments.spend(moment, &self.spends) {
                payees.enter(spend, moment);
            }
        }
        payees
    }

    /// The largest of a set that counts from a moment on.
    fn largest(&self, question: &Question, set: usize, first: usize) -> Amount {
        let members = self.members_of(set).iter().filter_map(|number| self.spends.get(*number));
        let members = members.filter(|spend| spend.moment() >= first);
        members.filter_map(|spend| spend.part_of(question)).max().unwrap_or(Amount::ZERO)
    }
}

/// By kind and conflict set.
type Largest = HashMap<(usize, usize), u64>;

/// Gives up those that have the most memory while all have more than there is room for.
fn fit<'a>(all: impl Iterator<Item = &'a mut Totals>, mut taken: usize, room: usize) {
    if taken <= room {
        return;
    }
    let mut by_room: Vec<&mut Totals> = all.collect();
    by_room.sort_by_key(|totals| totals.room());
    while taken > room {
        let Some(largest) = by_room.pop() else { break };
        taken = taken.saturating_sub(largest.room());
        largest.give_up();
    }
}

#[cfg(test)]
mod tests;
