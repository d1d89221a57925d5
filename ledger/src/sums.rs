//! What was signed comes to, since when, for whom: from totals that are kept, or from a destination's few payments. It never
//! decides whether that is too much, and what is kept says nothing that a walk through all spends does not say.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;

use asset::Amount;
use policy::evidence::{Answer, Question, Total};

use super::payees::Payees;
use super::spends::{Spend, Spends};
use super::windows::{Totals, is_same_kind, kind};

/// Kinds of questions whose totals are kept, at twelve bytes for each spend that is part of one. A policy asks a few dozen
/// for each lane, client, wallet and key of it that a spend is part of.
const KINDS_MAX: usize = if cfg!(test) { 64 } else { 2_048 };
/// Payments to one destination that are added up each time it is asked about.
const FEW: usize = if cfg!(test) { 2 } else { 128 };
/// Kinds of questions about destinations that were paid more often than that.
const OFTEN_MAX: usize = if cfg!(test) { 12 } else { 1_024 };

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
        self.keep(&mut kept.totals, questions);
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
                    self.of_destination(script, &asked, own_set, &mut kept.often, &mut answers);
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
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.keep(&mut kept.totals, questions);
        self.payees.get_or_init(|| self.find_payees());
    }

    /// Whether its total is there, so that the answer takes a look-up.
    pub(super) fn keeps(&self, question: &Question) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.totals.contains_key(&kind(question))
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
        often: &mut HashMap<Question, Totals>,
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
        if !often.contains_key(&kind) {
            if often.len() >= OFTEN_MAX {
                often.clear();
            }
            let mut moments: Vec<usize> = payees.since(script, 0).collect();
            moments.sort_unstable();
            let totals = self.totals_of(std::slice::from_ref(&kind), moments.into_iter());
            often.extend(totals.into_iter().map(|totals| (totals.question().clone(), totals)));
        }
        let totals = often.get(&kind);
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
        spends.filter(|spend| spend.is_released()).collect()
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
    fn keep(&self, kept: &mut HashMap<Question, Totals>, questions: &[Question]) {
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
        let totals = self.totals_of(&missing, 0..self.moments.len());
        kept.extend(totals.into_iter().map(|totals| (totals.question().clone(), totals)));
    }

    /// Totals of these kinds over what counts from these moments on, which are in order.
    fn totals_of(
        &self,
        kinds: &[Question],
        moments: impl DoubleEndedIterator<Item = usize>,
    ) -> Vec<Totals> {
        let mut made: Vec<Totals> = kinds.iter().map(Totals::new).collect();
        // From the latest back: the largest so far of each set that has several members.
        let mut largest: HashMap<(usize, usize), u64> = HashMap::new();
        for moment in moments.rev() {
            let Some(spend) = self.moments.spend(moment, &self.spends) else { continue };
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
                totals.push_before(moment, value);
            }
        }
        made.iter_mut().for_each(Totals::turn);
        made
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

#[cfg(test)]
mod tests {
    use asset::Network;
    use audit::entry;
    use policy::evidence::Measure;
    use policy::intent::RequestId;
    use policy::names::{ClientName, LaneName, WalletName};
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

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

    /// One kind too many takes the place of one, and not of all that decisions ask for.
    #[test]
    fn one_kind_more_than_fit_takes_the_place_of_one() {
        let spends = Spends::default();
        let asked = |key: usize| Question {
            of: Total::Orderer([u8::try_from(key).unwrap(); 32]),
            lanes: vec![],
            measure: Measure::Count,
            window_seconds: 10,
        };
        let all: Vec<Question> = (0..=KINDS_MAX).map(asked).collect();
        let kept = || all.iter().filter(|question| spends.keeps(question)).count();
        spends.prepare(&all[..KINDS_MAX]);
        assert_eq!(kept(), KINDS_MAX);
        spends.prepare(&all[KINDS_MAX..]);
        assert!(spends.keeps(&all[KINDS_MAX]));
        assert_eq!(kept(), KINDS_MAX);
        // All at once do not fit: what has no room is added up.
        spends.prepare(&all);
        assert_eq!(kept(), KINDS_MAX);
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

    /// Every spend looked at by its time, each set at its largest: others, and the own set.
    fn naive(spends: &Spends, question: &Question, own: Option<usize>, now: u64) -> [Amount; 2] {
        let mut maxima: BTreeMap<usize, Amount> = BTreeMap::new();
        for spend in &spends.spends {
            let is_in = spend.unix_s() >= now.saturating_sub(question.window_seconds);
            let counts = is_in && spend.counts_from(spend.moment());
            if let Some(amount) = spend.part_of(question).filter(|_| counts) {
                let most = maxima.entry(spend.set()).or_default();
                *most = (*most).max(amount);
            }
        }
        let own = own.and_then(|set| maxima.remove(&set)).unwrap_or(Amount::ZERO);
        [Amount::sum(maxima.into_values()).unwrap_or(Amount::MAX), own]
    }

    /// Whatever happens in whatever order, also when a clock is set back, what is kept says what a look at everything finds.
    #[test]
    fn what_is_kept_is_what_a_walk_finds() {
        let questions = questions();
        let mut random = StdRng::seed_from_u64(11);
        for history in 0..90 {
            let (mut spends, mut now) = (Spends::default(), 1_000_u64);
            let mut times: HashMap<usize, u64> = HashMap::new();
            for step in 0..24 {
                now += random.gen_range(0..4);
                let clock = if random.gen_ratio(1, 8) { now - random.gen_range(0..9) } else { now };
                let request = random.gen_range(0..12);
                let id = RequestId([request; 16]);
                match random.gen_range(0..10) {
                    0..5 => spends.add(&spend(request, &mut random), [request; 32], clock).unwrap(),
                    5..7 => {
                        spends.wait(&spend(request, &mut random), [request; 32], clock).unwrap()
                    }
                    7 => spends.wait_no_longer(id),
                    8 if spends.contains(id) => spends.again(id, clock).unwrap(),
                    _ => {}
                }
                // No window loses a spend because a clock was set back.
                for (number, spend) in spends.spends.iter().enumerate() {
                    let time = times.entry(number).or_default();
                    assert!(spend.unix_s() >= *time);
                    *time = spend.unix_s();
                }
                // From the beginning on in some, at once over all of it in others.
                if step < 23 && history % 3 == 0 {
                    continue;
                }
                let own = Some(random.gen_range(0..8)).filter(|_| random.gen_ratio(2, 3));
                let nobody = Total::Client(ClientName::parse(&format!("c-{step}")).unwrap());
                let other = Question { of: nobody, ..questions[0].clone() };
                spends.answers(&[other], own, now);
                // All at once, as a policy asks; and one alone.
                let mut asked = spends.answers(&questions, own, now);
                let one = random.gen_range(0..questions.len());
                asked.extend(spends.answers(&questions[one..=one], own, now));
                for (question, answer) in questions.iter().chain([&questions[one]]).zip(asked) {
                    assert_eq!(answer.question, *question);
                    let found = naive(&spends, question, own, now);
                    assert_eq!(
                        [answer.others, answer.own_set],
                        found,
                        "{history} {step} {question:?}"
                    );
                }
            }
        }
    }
}
