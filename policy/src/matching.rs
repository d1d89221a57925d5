//! Whether a rule is about a request, and what a window adds up to. What cannot be known is taken as if it held, and
//! denies besides.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

use asset::{Amount, AssetId};

use crate::asked::{Asked, Of};
use crate::conditions::{Above, By, Destinations, Limit, When, Window};
use crate::evidence::{Answer, Evidence, ListQuestion, Measure, Question};
use crate::intent::{Destination, Intent};
use crate::names::{KeyName, LaneName, ListName, RuleName};
use crate::reason::{RuleId, Trace};
use crate::rules::Rules;
use crate::structure::Totals;

/// Everything one decision sees.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    pub(crate) intent: &'a Intent,
    pub(crate) evidence: &'a Evidence,
    pub(crate) rules: &'a Rules,
    pub(crate) totals: Option<&'a Totals>,
    pub(crate) known: &'a Known<'a>,
    pub(crate) now_unix: u64,
}

/// What rules look at again and again, worked out once for an intent.
pub(crate) struct Known<'a> {
    /// External outputs by script, and what each gets; none: more than can be computed.
    pub(crate) outputs: BTreeMap<&'a [u8], Option<Amount>>,
    orderers: BTreeSet<&'a [u8; 32]>,
    asset: AssetId,
    /// The log's answers by what was asked; none where there are two, which is no answer.
    answers: Vec<(Asked<'a>, Option<&'a Answer>)>,
}

impl<'a> Known<'a> {
    /// With the log's answers.
    pub(crate) fn new(intent: &'a Intent, evidence: &'a Evidence, rules: &Rules) -> Self {
        let answered = |answer: &'a Answer| (Asked::of(&answer.question), Some(answer));
        let mut answers: Vec<_> = evidence.answers.iter().map(answered).collect();
        answers.sort_by_key(|(asked, _)| *asked);
        answers.dedup_by(|later, first| {
            let twice = later.0 == first.0;
            if twice {
                first.1 = None;
            }
            twice
        });
        Self { answers, ..Self::before(intent, rules) }
    }

    /// Without any.
    fn before(intent: &'a Intent, rules: &Rules) -> Self {
        let orderers = intent.orders.iter().map(|order| &order.key).collect();
        let asset = rules.network().asset_id();
        Self { outputs: outputs(intent), orderers, asset, answers: Vec::new() }
    }

    /// One question for each total of a window that the intent adds to.
    fn ask(
        &'a self,
        window: Window,
        lanes: &'a [LaneName],
        measure: Measure,
        intent: &'a Intent,
        mut each: impl FnMut(Asked<'a>),
    ) {
        let mut ask = |of| each(Asked { of, lanes, measure, window_seconds: window.seconds });
        match window.by {
            By::Orderer => self.orderers.iter().for_each(|key| ask(Of::Orderer(key))),
            By::Destination => self.outputs.keys().for_each(|to| ask(Of::Destination(to))),
            By::Client => ask(Of::Client(&intent.caller)),
            By::Wallet => ask(Of::Wallet(&intent.wallet)),
            By::Lane => ask(Of::Lane(&intent.lane)),
            By::Asset => ask(Of::Asset(&self.asset)),
            By::Global => ask(Of::Everything),
        }
    }
}

impl<'a> Case<'a> {
    /// The log's one answer to a question.
    pub(crate) fn answer(&self, asked: Asked<'_>) -> Option<&'a Answer> {
        let answers = &self.known.answers;
        let at = answers.binary_search_by(|(other, _)| other.cmp(&asked)).ok()?;
        answers.get(at)?.1
    }

    /// What a question's window comes to with this transaction; outer none: nobody knows, inner: it is more than can
    /// be computed. Transactions of which at most one can confirm count once, at their largest.
    pub(crate) fn total(&self, asked: Asked<'_>) -> Option<Option<Amount>> {
        let answer = self.answer(asked)?;
        let this = self.this(asked);
        Some(this.and_then(|this| answer.others.checked_add(answer.own_set.max(this))))
    }

    /// Whether something that restricts has not ended: a clock in doubt ends nothing.
    pub(crate) fn is_in_force(&self, expires_unix: Option<u64>) -> bool {
        expires_unix.is_none_or(|end| self.evidence.waited_until(self.now_unix) <= end)
    }

    /// Whether a fact was made more than so many seconds ago, or never.
    pub(crate) fn is_older(&self, made_unix: Option<u64>, seconds: u64) -> bool {
        made_unix.is_none_or(|made| self.now_unix.saturating_sub(made) > seconds)
    }

    /// What leaves with this transaction, for one of its totals, in one measure.
    fn this(&self, asked: Asked<'_>) -> Option<Amount> {
        let external = || match asked.of {
            Of::Destination(script) => self.known.outputs.get(script).copied()?,
            _ => self.totals.map(|totals| totals.external),
        };
        let fee = self.intent.fee.amount;
        match asked.measure {
            Measure::Fees => Some(fee),
            Measure::External => external(),
            Measure::Leaving => external()?.checked_add(fee),
            Measure::Count => Some(Amount::from_units(1)),
        }
    }
}

impl When {
    /// Whether lane, wallet, client and orders are what it says.
    pub(crate) fn is_about(&self, intent: &Intent) -> bool {
        let signers = || intent.orders.iter().map(|order| &order.signer);
        about(&self.lanes, &intent.lane)
            && about(&self.wallets, &intent.wallet)
            && about(&self.clients, &intent.caller)
            && (self.order_keys.is_empty()
                || signers().any(|signer: &KeyName| self.order_keys.contains(signer)))
    }

    /// What must be asked to know whether it applies.
    fn ask<'a>(&'a self, intent: &'a Intent, known: &'a Known<'a>, each: impl FnMut(Asked<'a>)) {
        if let Some(window) = self.above.as_ref().and_then(|above| above.window) {
            known.ask(window, &self.lanes, Measure::Leaving, intent, each);
        }
    }

    /// Whether it applies.
    pub(crate) fn applies(&self, rule: &RuleName, case: &Case<'_>, trace: &mut Trace) -> bool {
        if !self.is_about(case.intent) {
            return false;
        }
        let (to, above) = (self.destinations.as_ref(), self.above.as_ref());
        let to = to.is_none_or(|to| pays(to, rule, case, trace));
        let above = above.is_none_or(|above| self.is_above(above, rule, case, trace));
        let (screening, books) = (&case.evidence.screening, &case.evidence.books);
        let old = |most: Option<u64>, made| most.is_none_or(|most| case.is_older(made, most));
        let unscreened = old(self.unscreened_seconds, screening.as_ref().map(|s| s.listed_unix));
        let unbalanced = old(self.unbalanced_seconds, books.as_ref().map(|b| b.at_unix));
        to && above && unscreened && unbalanced
    }

    fn is_above(&self, above: &Above, rule: &RuleName, case: &Case<'_>, trace: &mut Trace) -> bool {
        let exceeds = |sum: Option<Amount>| sum.is_none_or(|sum| sum > above.amount);
        let Some(window) = above.window else {
            let external = case.totals.map(|totals| totals.external);
            return exceeds(external.and_then(|sum| sum.checked_add(case.intent.fee.amount)));
        };
        let mut holds = false;
        case.known.ask(window, &self.lanes, Measure::Leaving, case.intent, |asked| {
            holds |= match case.total(asked) {
                Some(sum) => exceeds(sum),
                None => missing(rule, trace),
            };
        });
        holds
    }
}

impl Limit {
    /// Whether it is about this lane.
    pub(crate) fn is_about(&self, intent: &Intent) -> bool {
        about(&self.lanes, &intent.lane)
    }

    /// What must be asked to check one side of it.
    pub(crate) fn ask<'a>(
        &'a self,
        measure: Measure,
        intent: &'a Intent,
        known: &'a Known<'a>,
        each: impl FnMut(Asked<'a>),
    ) {
        known.ask(self.window, &self.lanes, measure, intent, each);
    }
}

impl Rules {
    /// What the ledger must answer before [`decide`](crate::decide::decide) can allow this intent.
    #[must_use]
    pub fn questions(&self, intent: &Intent) -> Vec<Question> {
        let known = Known::before(intent, self);
        let mut all: Vec<Asked<'_>> = Vec::new();
        if let Some(lane) = self.lane(&intent.lane) {
            all.extend(lane.fee_budget.iter().map(|cap| lane.asked(Measure::Fees, cap)));
            all.extend(lane.limits().iter().map(|cap| lane.asked(Measure::External, cap)));
        }
        for limit in self.limits().iter().filter(|limit| limit.is_about(intent)) {
            let sum = limit.sum.map(|_| Measure::Leaving);
            for measure in sum.into_iter().chain(limit.count.map(|_| Measure::Count)) {
                limit.ask(measure, intent, &known, |asked| all.push(asked));
            }
        }
        for when in self.conditions().filter(|when| when.is_about(intent)) {
            when.ask(intent, &known, |asked| all.push(asked));
        }
        // Those that differ in their windows alone follow each other.
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(Asked::question).collect()
    }

    /// What requests will ask that the grants make possible, but for destinations, whose number nobody knows: so that a
    /// ledger has its answers ready.
    #[must_use]
    pub fn standing_questions(&self) -> Vec<Question> {
        let asset = self.network().asset_id();
        let mut all: Vec<Asked<'_>> = Vec::new();
        for lane in self.lanes() {
            all.extend(lane.fee_budget.iter().map(|cap| lane.asked(Measure::Fees, cap)));
            all.extend(lane.limits().iter().map(|cap| lane.asked(Measure::External, cap)));
        }
        for limit in self.limits() {
            let sum = limit.sum.map(|_| Measure::Leaving);
            for measure in sum.into_iter().chain(limit.count.map(|_| Measure::Count)) {
                self.ask_ahead(limit.window, &limit.lanes, None, measure, &asset, &mut all);
            }
        }
        for when in self.conditions() {
            if let Some(window) = when.above.as_ref().and_then(|above| above.window) {
                self.ask_ahead(window, &when.lanes, Some(when), Measure::Leaving, &asset, &mut all);
            }
        }
        all.sort_unstable();
        all.dedup();
        all.into_iter().map(Asked::question).collect()
    }

    /// One question for each total of a window that a request on one of these lanes, or on any, may add to: one by a client
    /// of that lane, from a wallet of it and for an order by a key that it pays, as that client is granted them, and as far as the
    /// condition is about such.
    fn ask_ahead<'a>(
        &'a self,
        window: Window,
        lanes: &'a [LaneName],
        when: Option<&When>,
        measure: Measure,
        asset: &'a AssetId,
        all: &mut Vec<Asked<'a>>,
    ) {
        // Each once, however many clients may ask so.
        let (mut each, mut orderers) = (BTreeSet::new(), BTreeSet::new());
        let grants =
            self.lanes().iter().flat_map(|lane| lane.clients.iter().map(move |g| (lane, g)));
        for (lane, grant) in grants.filter(|(lane, _)| about(lanes, &lane.name)) {
            let wallets = || {
                let all = lane.spendable(grant);
                all.filter(|one| when.is_none_or(|when| about(&when.wallets, one)))
            };
            let keys = lane.bringable(grant, self);
            let asks = |when: &When| {
                about(&when.clients, &grant.client)
                    && (when.order_keys.is_empty()
                        || keys.iter().any(|key| when.order_keys.contains(key)))
            };
            if wallets().next().is_none() || !when.is_none_or(asks) {
                continue;
            }
            match window.by {
                By::Orderer => orderers.extend(keys),
                By::Client => each.extend([Of::Client(&grant.client)]),
                By::Wallet => each.extend(wallets().map(Of::Wallet)),
                By::Lane => each.extend([Of::Lane(&lane.name)]),
                By::Asset => each.extend([Of::Asset(asset)]),
                By::Global => each.extend([Of::Everything]),
                By::Destination => {}
            }
        }
        let keys = orderers.into_iter().filter_map(|name| self.order_key(name));
        each.extend(keys.map(|key| Of::Orderer(&key.public_key)));
        let asked = |of| Asked { of, measure, lanes, window_seconds: window.seconds };
        all.extend(each.into_iter().map(asked));
    }

    /// Which destinations the signer must look up on which lists before this intent can be allowed.
    #[must_use]
    pub fn list_questions(&self, intent: &Intent) -> Vec<ListQuestion> {
        let about = self.conditions().filter(|when| when.is_about(intent));
        let lists = about.filter_map(|when| when.destinations.as_ref()).flat_map(|to| &to.lists);
        let lists: BTreeSet<&ListName> = lists.collect();
        let scripts = outputs(intent);
        let ask = |list: &ListName, script: &[u8]| ListQuestion {
            list: list.clone(),
            script: script.to_vec(),
        };
        lists.iter().flat_map(|list| scripts.keys().map(|script| ask(list, script))).collect()
    }

    fn conditions(&self) -> impl Iterator<Item = &When> {
        let requires = self.requires().iter().map(|require| &require.when);
        requires.chain(self.denies().iter().map(|deny| &deny.when))
    }
}

/// External outputs by script, and what each gets; none: more than can be computed.
pub(crate) fn outputs(intent: &Intent) -> BTreeMap<&[u8], Option<Amount>> {
    let mut by_script: BTreeMap<&[u8], Option<Amount>> = BTreeMap::new();
    for transfer in &intent.transfers {
        let Destination::External { script, .. } = &transfer.to else { continue };
        let sum = by_script.entry(script.as_slice()).or_insert(Some(Amount::ZERO));
        *sum = sum.and_then(|sum| sum.checked_add(transfer.amount));
    }
    by_script
}

/// Whether one destination is on (or is on none of) the lists. An entry that is not mature yet does not make anybody
/// known, but it names whom a denial is about at once.
fn pays(to: &Destinations, rule: &RuleName, case: &Case<'_>, trace: &mut Trace) -> bool {
    let mut holds = false;
    for script in case.known.outputs.keys() {
        let (mut found, mut known) = (false, true);
        for list in &to.lists {
            match is_on(list, script, to.listed, case) {
                Some(is_on) => found |= is_on,
                None => known = false,
            }
        }
        holds |= if known { found == to.listed } else { missing(rule, trace) };
    }
    holds
}

/// Whether a destination is on a list, now.
fn is_on(name: &ListName, script: &[u8], at_once: bool, case: &Case<'_>) -> Option<bool> {
    let list = case.rules.list(name)?;
    let is_asked = |q: &ListQuestion| q.list == *name && q.script.as_slice() == script;
    let mut answers = case.evidence.listings.iter().filter(|l| is_asked(&l.question));
    let (Some(answer), None) = (answers.next(), answers.next()) else { return None };
    let waited = case.evidence.waited_until(case.now_unix);
    let mut is_on = false;
    for listed in &answer.entries {
        let entry = list.entries.iter().find(|entry| entry.label == listed.label)?;
        let mature = listed.since_unix.saturating_add(list.matures_seconds) <= waited;
        is_on |= if at_once {
            case.is_in_force(entry.expires_unix)
        } else {
            mature && entry.expires_unix.is_none_or(|end| case.now_unix <= end)
        };
    }
    let books = case.evidence.booked.iter().filter(|booked| is_asked(&booked.question));
    let mut books = books.filter(|booked| !at_once && list.book_keys.contains(&booked.by));
    is_on |= books.any(|booked| {
        let matures = booked.since_unix.saturating_add(list.matures_seconds);
        let ended = booked.expires_unix.is_some_and(|end| case.now_unix > end);
        matures.max(booked.from_unix) <= waited && !ended
    });
    Some(is_on)
}

fn missing(rule: &RuleName, trace: &mut Trace) -> bool {
    let text = format!("the log has no one answer to what rule \"{rule}\" asks");
    trace.deny(RuleId::MissingEvidence, text);
    true
}

fn about<T: PartialEq>(wanted: &[T], found: &T) -> bool {
    wanted.is_empty() || wanted.contains(found)
}
