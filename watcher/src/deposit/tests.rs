//! The transition tables, line by line, and the laws that hold over every state and every fact.

use super::*;

fn every_axes() -> Vec<Axes> {
    let mut all = Vec::new();
    for &chain in Chain::ALL {
        for &credit in Credit::ALL {
            for &custody in Custody::ALL {
                for &screening in Screening::ALL {
                    all.push(Axes { chain, credit, custody, screening });
                }
            }
        }
    }
    all
}

fn every_fact() -> Vec<Facts> {
    let mut all = Vec::new();
    for &chain in Chain::ALL {
        for leased in [false, true] {
            for spent in [Spent::No, Spent::Mempool, Spent::Block] {
                for &screening in Screening::ALL {
                    all.push(Facts { chain, leased, spent, screening });
                }
            }
        }
    }
    all
}

fn settle(from: Axes, facts: Facts) -> Axes {
    advance(from, facts).last().map_or(from, |(_, axes)| *axes)
}

#[test]
fn credit_table() {
    use Chain::{Confirming, Final, Gone, Seen};
    let table = [
        (Credit::None, Seen, Credit::None),
        (Credit::None, Confirming, Credit::None),
        (Credit::None, Final, Credit::Credited),
        (Credit::None, Gone, Credit::None),
        (Credit::Credited, Seen, Credit::Reversed),
        (Credit::Credited, Confirming, Credit::Credited),
        (Credit::Credited, Final, Credit::Credited),
        (Credit::Credited, Gone, Credit::Reversed),
        (Credit::Reversed, Seen, Credit::Reversed),
        (Credit::Reversed, Confirming, Credit::Reversed),
        (Credit::Reversed, Final, Credit::Credited),
        (Credit::Reversed, Gone, Credit::Reversed),
    ];
    for (from, chain, to) in table {
        let step = credit_step(from, chain, Screening::Unscreened);
        assert_eq!(step.map_or(from, |(credit, _)| credit), to, "{from} on {chain}");
    }
    for &from in Credit::ALL {
        let step = credit_step(from, Final, Screening::Held);
        assert_eq!(step, None, "held is never credited, and a hold alone takes nothing back");
    }
}

#[test]
fn custody_table() {
    let table = [
        (false, Spent::No, Custody::Ours),
        (true, Spent::No, Custody::Leased),
        (false, Spent::Mempool, Custody::Leased),
        (true, Spent::Mempool, Custody::Leased),
        (false, Spent::Block, Custody::Swept),
        (true, Spent::Block, Custody::Swept),
    ];
    for &from in Custody::ALL {
        for (leased, spent, to) in table {
            let step = custody_step(from, leased, spent);
            assert_eq!(step.map_or(from, |(custody, _)| custody), to);
            assert_eq!(step.is_some(), from != to);
        }
    }
}

#[test]
fn screening_never_becomes_unscreened_again() {
    for &from in Screening::ALL {
        assert_eq!(screening_event(from, Screening::Unscreened), None);
        assert_eq!(screening_event(from, from), None);
    }
    assert_eq!(screening_event(Screening::Clear, Screening::Held), Some(EventKind::Held));
    assert_eq!(screening_event(Screening::Held, Screening::Clear), Some(EventKind::Cleared));
}

#[test]
fn advancing_twice_changes_nothing_more_and_every_step_has_its_event() {
    for from in every_axes() {
        for facts in every_fact() {
            let steps = advance(from, facts);
            let to = settle(from, facts);
            assert!(advance(to, facts).is_empty(), "{from:?} {facts:?}");
            assert_eq!(steps.is_empty(), from == to);
            assert!(steps.len() <= 4);
            let mut before = from;
            for (_, after) in steps {
                assert_ne!(before, after, "an event without a change");
                before = after;
            }
        }
    }
}

#[test]
fn laws_of_the_axes() {
    for from in every_axes() {
        for facts in every_fact() {
            let to = settle(from, facts);
            assert_eq!(to.chain, facts.chain);
            if facts.chain == Chain::Final && to.screening != Screening::Held {
                assert_eq!(to.credit, Credit::Credited);
            }
            if matches!(facts.chain, Chain::Seen | Chain::Gone) {
                assert_ne!(to.credit, Credit::Credited, "no credit without a block");
            }
            if facts.spent == Spent::Block {
                assert_eq!(to.custody, Custody::Swept);
            }
        }
    }
}

#[test]
fn what_people_see() {
    let see = |chain, credit, custody| {
        Axes { chain, credit, custody, screening: Screening::Unscreened }.visible()
    };
    assert_eq!(see(Chain::Seen, Credit::None, Custody::Ours), Visible::Pending);
    assert_eq!(see(Chain::Confirming, Credit::None, Custody::Ours), Visible::Pending);
    assert_eq!(see(Chain::Gone, Credit::None, Custody::Ours), Visible::Reversed);
    assert_eq!(see(Chain::Final, Credit::Credited, Custody::Ours), Visible::Confirmed);
    assert_eq!(see(Chain::Final, Credit::Credited, Custody::Leased), Visible::Confirmed);
    assert_eq!(see(Chain::Final, Credit::Credited, Custody::Swept), Visible::Swept);
    assert_eq!(see(Chain::Seen, Credit::Reversed, Custody::Ours), Visible::Reversed);
    assert_eq!(see(Chain::Confirming, Credit::Reversed, Custody::Ours), Visible::Reversed);
}

#[test]
fn depth_counts_the_block_itself() {
    let three = Finality::Depth(NonZeroU32::new(3).unwrap());
    assert!(!three.reached(10, 11));
    assert!(three.reached(10, 12));
    assert!(!three.reached(0, 1));
    assert!(three.reached(0, 2));
    let one = Finality::Depth(NonZeroU32::MIN);
    assert!(one.reached(7, 7));
    assert!(!one.reached(8, 7));
    assert!(!Finality::Safe.reached(0, 100));
}

#[test]
fn words_are_read_back() {
    for &state in Chain::ALL {
        assert_eq!(Chain::read(state.word()), Some(state));
    }
    assert_eq!(Chain::read("final "), None);
}
