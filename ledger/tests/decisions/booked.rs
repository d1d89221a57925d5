//! The address book, from the first attestation to the payout that it lets through: listed, attested anew, revoked, taken back by
//! an officer, dropped with its key, mature or not, ended or not; against a list of what happened, read from its beginning.

use std::collections::{BTreeMap, BTreeSet};

use asset::Network;
use audit::entry::{Entry, Event};
use ledger::{Fold as _, Ledger};
use policy::conditions::Target;
use policy::facts::Stated;
use policy::names::{KeyName, ListName};
use policy::{Decision, Rules};
use statement::fact::{self, Fact, States};
use statement::{Says, Statement};

use crate::common::{Case, DAY, HOUR, Knobs, NOW, load, officer, people, policy_text, public};
use crate::dice::Dice;

/// Made for an entry no longer than this before it is taken in; the log may be a second later than who took it.
const MONTH: u64 = 31 * DAY;
const AGES: [u64; 12] =
    [0, 1, HOUR, DAY - 1, DAY, DAY + 1, 2 * DAY, 30 * DAY, MONTH, MONTH + 1, MONTH + 2, 40 * DAY];

/// Something that was written down, at a time.
#[derive(Clone, Debug)]
enum What {
    Listed {
        label: &'static str,
        script: u8,
        from: u64,
        ends: Option<u64>,
    },
    Unlisted {
        label: &'static str,
    },
    /// By an officer.
    TakenBack {
        label: &'static str,
    },
    /// Another policy: the seeds of the keys by which each name adds to the list.
    Policy(BTreeMap<&'static str, u8>),
}

#[derive(Clone, Debug)]
struct Step {
    at: u64,
    what: What,
    by: &'static str,
    made: u64,
}

/// What a label stands for.
#[derive(Clone, Debug)]
struct Known {
    script: u8,
    from: u64,
    ends: Option<u64>,
    by: &'static str,
    seed: u8,
    made: u64,
    since: u64,
}

/// What the steps come to.
#[derive(Default)]
struct Model {
    known: BTreeMap<&'static str, Known>,
    /// Nothing that was signed by then brings the label again.
    gone: BTreeMap<&'static str, u64>,
    seen: BTreeSet<Vec<u8>>,
    keys: BTreeMap<&'static str, u8>,
}

impl Model {
    /// Takes a step in; whether it could be.
    fn take(&mut self, step: &Step) -> bool {
        let Step { at, what, by, made } = step;
        if fact(step).is_some_and(|fact| !self.seen.insert(fact.encode())) {
            return false;
        }
        match what {
            What::Listed { label, script, from, ends } => {
                let before = self.known.get(label);
                let taken_back = self.gone.get(label).is_some_and(|gone| made <= gone);
                let other = before.is_some_and(|known| {
                    known.by != *by || known.script != *script || *made <= known.made
                });
                if made + MONTH < at - 1 || taken_back || other {
                    return false;
                }
                let lasts = before.filter(|known| known.ends.is_none_or(|end| *at <= end));
                let since = lasts.map_or(*at, |known| known.since);
                let (by, seed) = (*by, self.keys.get(by).copied().unwrap_or(0));
                let (script, from, ends, made) = (*script, *from, *ends, *made);
                self.known.insert(label, Known { script, from, ends, by, seed, made, since });
            }
            What::Unlisted { label } => {
                if self.known.get(label).is_some_and(|known| known.by != *by || *made < known.made)
                {
                    return false;
                }
                self.drop_label(label, *made);
            }
            What::TakenBack { label } => self.drop_label(label, *at),
            What::Policy(keys) => {
                self.keys = keys.clone();
                let gone = |known: &Known| keys.get(known.by) != Some(&known.seed);
                let dropped = self.known.iter().filter(|(_, known)| gone(known));
                for label in dropped.map(|(label, _)| *label).collect::<Vec<_>>() {
                    self.drop_label(label, *at);
                }
            }
        }
        true
    }

    fn drop_label(&mut self, label: &'static str, gone: u64) {
        let made = self.known.remove(label).map_or(0, |known| known.made);
        let before = self.gone.entry(label).or_default();
        *before = gone.max(made).max(*before);
    }

    /// Whether a script may be paid now: a day after it came, and from when it may be to when it may not any more.
    fn is_on(&self, script: u8) -> bool {
        self.known.values().any(|known| {
            known.script == script
                && self.keys.get(known.by) == Some(&known.seed)
                && known.since + DAY <= NOW
                && known.from <= NOW
                && known.ends.is_none_or(|end| NOW <= end)
        })
    }
}

fn customers() -> ListName {
    ListName::parse("customers").unwrap()
}

fn fact(step: &Step) -> Option<Fact> {
    let (list, script) = (customers(), |script: u8| Target::Script(vec![script; 22]));
    let states = match &step.what {
        What::Listed { label, script: to, from, ends } => States::Listed(fact::Entry {
            list,
            label: (*label).to_owned(),
            target: script(*to),
            from_unix: *from,
            expires_unix: *ends,
        }),
        What::Unlisted { label } => States::Unlisted { list, label: (*label).to_owned() },
        What::TakenBack { .. } | What::Policy(_) => return None,
    };
    let (log, by) = ("log".to_owned(), KeyName::parse(step.by).unwrap());
    let network = Network::Regtest.chain_id().to_string();
    Some(Fact { states, log, network, by, made_unix: step.made })
}

/// Payouts go to customers alone, whom these keys list.
fn rules(keys: &BTreeMap<&'static str, u8>) -> Rules {
    let key = |(name, seed): (&&str, &u8)| {
        let public = hex::encode(public(&officer(*seed)));
        format!("[[book_key]]\nname = \"{name}\"\ned25519 = \"{public}\"\n")
    };
    let names: Vec<&str> = keys.keys().copied().collect();
    let extra = format!(
        "{}{}[[list]]\nname = \"customers\"\nmatures = \"24h\"\nbook_keys = {names:?}\nentries = []\n\
         [[deny]]\nname = \"strangers\"\nwhen = {{ unlisted = [\"customers\"] }}\n",
        people(),
        keys.iter().map(key).collect::<String>(),
    );
    load(&policy_text(&Knobs { extra, ..Knobs::default() }))
}

/// Who may list, over the policies there are.
fn policies() -> [BTreeMap<&'static str, u8>; 4] {
    [
        BTreeMap::from([("annex", 42), ("desk", 41)]),
        BTreeMap::from([("desk", 41)]),
        BTreeMap::from([("annex", 42)]),
        BTreeMap::from([("annex", 42), ("desk", 43)]),
    ]
}

fn step(number: usize, at: u64, dice: &mut Dice) -> Step {
    let label = dice.pick(&["one", "two", "three"]);
    let what = match dice.below(12) {
        0 => What::Unlisted { label },
        1 => What::TakenBack { label },
        2 => What::Policy(dice.pick(&policies())),
        _ => What::Listed {
            label,
            // Nearly always the same, or nothing would ever be attested anew.
            script: if dice.maybe(8) { 3 } else { u8::from(label != "one") + 1 },
            from: dice.pick(&[0, 0, 0, NOW - 1, NOW, NOW + 1]),
            ends: dice.pick(&[None, None, Some(NOW), Some(NOW - 1), Some(NOW - DAY)]),
        },
    };
    let ago = if dice.maybe(3) { dice.pick(&AGES) } else { dice.next() % 60 };
    // Hardly a fact is made twice, which is refused whatever it states.
    let made = at - ago + u64::try_from(number).unwrap() * 3;
    Step { at, what, by: dice.pick(&["desk", "desk", "desk", "annex"]), made }
}

/// As the log has it.
fn event(
    number: u64,
    step: &Step,
    model: &Model,
    all: &[(Rules, BTreeMap<&'static str, u8>)],
) -> Event {
    match (&step.what, fact(step)) {
        (What::Policy(keys), _) => Event::PolicyActivated {
            version: number,
            digest: [0; 32],
            text: all.iter().find(|(_, known)| known == keys).unwrap().0.text().to_owned(),
            officers: vec![],
        },
        (What::TakenBack { label }, _) => {
            let statement = Statement {
                says: Says::Unlist { list: customers(), label: (*label).to_owned() },
                log: "log".to_owned(),
                network: Network::Regtest.chain_id().to_string(),
                officer: KeyName::parse("ada").unwrap(),
                expires_unix: NOW,
                nonce: [u8::try_from(number).unwrap(); 16],
            };
            let (statement, signature) = (statement.encode(), vec![0; 64]);
            Event::OfficerSaid { statement, signature, key: [0; 32], way: "file".to_owned() }
        }
        (_, fact) => Event::FactStated {
            statement: fact.unwrap().encode(),
            signature: vec![0; 64],
            key: model.keys.get(step.by).map_or([0; 32], |seed| public(&officer(*seed))),
            way: "file".to_owned(),
        },
    }
}

#[test]
fn the_address_book_lets_through_what_was_listed_and_nothing_else() {
    let all: Vec<_> = policies().into_iter().map(|keys| (rules(&keys), keys)).collect();
    let (mut refused, mut verdicts) = ([0, 0], [0, 0]);
    for seed in 0..4_000 {
        let mut dice = Dice(seed);
        let (mut model, mut ledger) = (Model::default(), Ledger::new());
        let mut seq = 0;
        let mut write = |ledger: &mut Ledger, at: u64, event: Event| {
            seq += 1;
            ledger.apply(seq - 1, &Entry { unix_ms: at * 1_000, event }).is_ok()
        };
        let opened = crate::log::beginning().swap_remove(0);
        assert!(write(&mut ledger, NOW - 100 * DAY, opened));
        let mut times: Vec<u64> = (0..9).map(|_| NOW - dice.pick(&AGES)).collect();
        times.sort_unstable();
        let first =
            Step { at: times[0], what: What::Policy(policies()[0].clone()), by: "", made: 0 };
        let steps = (1..).zip(times).map(|(number, at)| step(number, at, &mut dice));
        let steps: Vec<Step> = std::iter::once(first).chain(steps).collect();
        for (number, step) in (1..).zip(&steps) {
            let event = event(number, step, &model, &all);
            let taken = model.take(step);
            assert_eq!(write(&mut ledger, step.at, event), taken, "{seed} {number}: {steps:#?}");
            refused[usize::from(taken)] += 1;
        }
        let rules = &all.iter().find(|(_, keys)| *keys == model.keys).unwrap().0;
        let mut case = Case::withdraw(&Knobs::default());
        case.rules = rules.clone();
        case.facts = crate::common::Facts::empty(rules, &case.intent);
        let counts =
            |by: &KeyName, key: [u8; 32]| rules.fact_key(Stated::Book, by, NOW) == Some(key);
        let questions = rules.list_questions(&case.intent);
        let book = ledger.facts().book();
        case.facts.booked = questions.iter().flat_map(|q| book.answer(q, counts)).collect();
        let expected = model.is_on(1) && model.is_on(2);
        let decision = case.decide();
        let allowed = matches!(decision, Decision::Allow(_));
        assert_eq!(allowed, expected, "{seed}: {decision:#?}\n{steps:#?}");
        verdicts[usize::from(allowed)] += 1;
    }
    println!("{refused:?} steps refused and taken, {verdicts:?} payouts denied and allowed");
    assert!(refused.iter().all(|n| *n > 1_000) && verdicts.iter().all(|n| *n > 100), "one-sided");
}
