//! What "not yet" says: what is missing, who can still give it, and until when it is worth no look.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::arithmetic_side_effects,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Case, DAY, HOUR, Knobs, NOW, approved, people};
use policy::waiting::{Approvals, Waiting};
use policy::{Decision, Requirement, RuleId};

const QUORUM: &str = "[[require]]\nname = \"all\"\nwhen = {}\n\
    approvals = \"2 of treasury and 1 of risk or 3 of treasury\"\n";
const SLOW: &str = "[[require]]\nname = \"slow\"\nwhen = {}\ndelay = \"1h\"\n";
/// Now is a Monday, 09:20 UTC.
const OFFICE: &str = "[[require]]\nname = \"office\"\nwhen = {}\n\
    hours = [\"mon-fri 11:00-17:00 +00:00\", \"tue-fri 08:00-10:00 +00:00\"]\n";
const FACTS: &str = "[[require]]\nname = \"facts\"\nwhen = {}\nscreened = \"1h\"\nbooks = \"6h\"\n";

fn waiting(rules: &[&str], change: impl FnOnce(&mut Case)) -> Waiting {
    let knobs = Knobs { extra: people() + &rules.concat(), ..Knobs::default() };
    let mut case = Case::withdraw(&knobs);
    change(&mut case);
    match case.decide() {
        Decision::Await(waiting) => waiting,
        other => panic!("{other:?}"),
    }
}

fn approvals(change: impl FnOnce(&mut Case)) -> Approvals {
    match waiting(&[QUORUM], change).requirements.as_slice() {
        [Requirement::Approvals(approvals)] => approvals.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn approvals_say_who_gave_them_and_who_still_can() {
    let names = |approvals: &Approvals| {
        let text = |names: &[policy::names::KeyName]| {
            names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        (text(&approvals.given), text(&approvals.can_give))
    };
    let given = |approvals: &Approvals| -> Vec<Vec<u32>> {
        let way = |way: &Vec<policy::waiting::Progress>| way.iter().map(|p| p.given).collect();
        approvals.ways.iter().map(way).collect()
    };
    let nobody = approvals(|_| ());
    assert_eq!(names(&nobody), (String::new(), "ada bob cyd dan eve".into()));
    assert_eq!(given(&nobody), [vec![0, 0], vec![0]]);
    let some = approvals(|case| {
        case.facts.approvals = ["cyd", "eve", "mallory"].map(approved).to_vec();
    });
    assert_eq!(names(&some), ("cyd eve".into(), "ada bob dan".into()));
    assert_eq!(given(&some), [vec![1, 1], vec![1]]);
    // One that ended is none.
    let ended = approvals(|case| {
        case.facts.approvals = ["cyd", "eve"].map(approved).to_vec();
        case.facts.approvals[0].expires_unix = NOW - 1;
    });
    assert_eq!(names(&ended), ("eve".into(), "ada bob cyd dan".into()));
    // Who ordered it gives none, also by the key that signs orders.
    let knobs = Knobs { extra: people() + QUORUM, ..Knobs::default() };
    let mut case = Case::withdraw(&knobs);
    let shop = "[[order_key]]\nname = \"shop\"\n";
    let held = format!("{shop}officer = \"ada\"\n");
    case.rules = common::load(&common::policy_text(&knobs).replacen(shop, &held, 1));
    case.facts.approvals = ["ada", "bob"].map(approved).to_vec();
    let Decision::Await(waiting) = case.decide() else { panic!("must wait") };
    let [Requirement::Approvals(found)] = waiting.requirements.as_slice() else {
        panic!("{waiting:?}")
    };
    assert_eq!(names(found), ("bob".into(), "cyd dan eve".into()));
}

#[test]
fn it_says_until_when_if_only_time_is_waited_for() {
    let until = |rules: &[&str], change: fn(&mut Case)| waiting(rules, change).until_unix();
    assert_eq!(until(&[SLOW], |_| ()), Some(NOW + HOUR), "it has not begun");
    assert_eq!(
        until(&[SLOW], |case| case.facts.asked_unix = Some(NOW - 60)),
        Some(NOW + HOUR - 60)
    );
    assert_eq!(until(&[OFFICE], |_| ()), Some(NOW + 100 * 60), "eleven o'clock");
    let both = [SLOW, OFFICE];
    assert_eq!(until(&both, |_| ()), Some(NOW + 100 * 60));
    assert_eq!(until(&both, |case| case.now -= 20 * 60), Some(NOW + 100 * 60));
    // What people give, or a clock that is believed again, has no time.
    assert_eq!(until(&[SLOW, QUORUM], |_| ()), None);
    assert_eq!(until(&[FACTS], |_| ()), None);
    for rules in [SLOW, OFFICE] {
        assert_eq!(until(&[rules], |case| case.facts.clock = Some(Some(NOW))), None);
    }
}

#[test]
fn each_says_its_rule_and_how_far_it_is() {
    let all = waiting(&[SLOW, OFFICE, FACTS], |case| {
        case.facts.asked_unix = Some(NOW - 60);
        case.facts.books = Some(policy::evidence::Books { height: 1, at_unix: NOW - DAY });
    });
    let said = all.requirements.iter().map(|r| (r.code(), r.rule().as_str(), r.rule_id()));
    let expected = [
        ("screening", "facts", RuleId::Screening),
        ("books", "facts", RuleId::Books),
        ("hours", "office", RuleId::Hours),
        ("delay", "slow", RuleId::Delay),
    ];
    let mut said: Vec<_> = said.collect();
    said.sort_by_key(|one| one.1);
    assert_eq!(said, expected);
    assert_eq!(all.findings().len(), 4);
    for requirement in &all.requirements {
        match requirement {
            Requirement::Delay(delay) => {
                assert_eq!(
                    (delay.until_unix, delay.begun, delay.held),
                    (NOW + HOUR - 60, true, false)
                );
            }
            Requirement::Hours(hours) => {
                assert_eq!((hours.opens_unix, hours.held), (NOW + 100 * 60, false));
            }
            Requirement::Screening(fresh) => {
                assert_eq!((fresh.age_seconds, fresh.most_seconds), (None, HOUR));
            }
            Requirement::Books(fresh) => {
                assert_eq!((fresh.age_seconds, fresh.most_seconds), (Some(DAY), 6 * HOUR));
            }
            other => panic!("{other:?}"),
        }
    }
    let begun = waiting(&[SLOW], |_| ()).requirements;
    assert!(matches!(begun.as_slice(), [Requirement::Delay(delay)] if !delay.begun && !delay.held));
    let held = waiting(&[SLOW], |case| case.facts.clock = None).requirements;
    assert!(matches!(held.as_slice(), [Requirement::Delay(delay)] if delay.held));
}

/// Time is Unix seconds, which know no summer time: on the nights when Zurich and New York set their clocks, hours are as long as
/// on any other, and begin at the same second of the day.
#[test]
fn office_hours_are_the_same_when_clocks_are_set_for_summer() {
    const NIGHT: &str =
        "[[require]]\nname = \"night\"\nwhen = {}\nhours = [\"sat-sun 02:00-03:00 +01:00\"]\n";
    // 01:00 UTC on the Sundays 2026-03-08, 2026-03-29, 2026-10-25 and 2026-11-01, and of the Saturdays before.
    for sunday in [1_772_931_600, 1_774_746_000, 1_792_890_000, 1_793_494_800_u64] {
        for begin in [sunday - DAY, sunday] {
            let decide = |at: u64| {
                let knobs = Knobs { extra: people() + NIGHT, ..Knobs::default() };
                let mut case = Case::sweep(&knobs);
                case.now = at;
                case.decide()
            };
            let opens = |at: u64| match decide(at) {
                Decision::Await(waiting) => match waiting.requirements[..] {
                    [Requirement::Hours(ref hours)] => hours.opens_unix,
                    ref other => panic!("{other:?}"),
                },
                other => panic!("{other:?}"),
            };
            assert_eq!(opens(begin - 1), begin);
            let next = if begin == sunday { sunday + 6 * DAY } else { sunday };
            assert_eq!(opens(begin + HOUR), next);
            for open in [begin, begin + HOUR - 1] {
                assert!(matches!(decide(open), Decision::Allow(_)), "{open}");
            }
        }
    }
}
