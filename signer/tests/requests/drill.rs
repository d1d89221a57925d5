//! The watcher is somebody else's: random requests, decided by the real policy on the real ledger, each one allowed counted
//! as signed and out. Nothing goes anywhere but where it must, and no fee is above its cap.

use audit::entry::{Entry, Event, Spend};
use bitcoin::Transaction;
use policy::decide::Decision;
use policy::names::ClientName;
use signer::ledger::Ledger;
use signer::log::Fold as _;
use signer::refusal::Refusal;
use signer::request::{Draft, SigningRequest, asked};
use signer::wallets::Wallets;

use crate::attacker::{Attacker, Attempt, attempts, consolidations};
use crate::common::{self, Coin, Descriptors, Knobs};

const NOW: u64 = 1_800_000_000;
/// Records of each wallet that a token signed by, on its two branches.
const PROVEN: [u32; 2] = [60, 12];

fn read(
    attempt: &Attempt,
    rules: &policy::Rules,
    wallets: &Wallets,
) -> Result<SigningRequest, Refusal> {
    let caller = ClientName::parse("watcher-1").unwrap();
    let asked = asked(caller, &attempt.header.idempotency_key)?;
    let mut draft = Draft::read(asked, &attempt.header, rules, wallets)?;
    for parent in attempt.coins.iter().map(Coin::parent_bytes) {
        draft.add_parent(&parent)?;
    }
    draft.prove(rules, wallets, PROVEN)
}

/// Both wallets, and that the token signed by their records.
fn imported(descriptors: &Descriptors) -> Vec<Event> {
    let wallets = [("deposits", &descriptors.deposits), ("hot", &descriptors.hot)];
    let of = |(number, (name, descriptor)): (u8, (&str, &String))| {
        let (wallet, descriptor) = (name.to_owned(), descriptor.clone());
        let (tier, bundle, [external, change]) = ("token-hd".to_owned(), [number; 32], PROVEN);
        let proven = |change, below| Event::Proven { wallet: name.to_owned(), change, below };
        [
            Event::WalletImported { wallet, descriptor, tier, bundle, external, change },
            proven(false, external),
            proven(true, change),
        ]
    };
    (1..).zip(wallets).flat_map(of).collect()
}

/// What is written down for a spend that was reserved before.
fn once_more(spend: Spend) -> Event {
    Event::SpendAgain { request: spend.request, policy: spend.policy, trace: spend.trace }
}

#[test]
fn a_watcher_in_other_hands_moves_nothing_to_anybody_else() {
    let descriptors = Descriptors::fixed();
    // So small that budgets are reached.
    let more = consolidations(60_000);
    let knobs = Knobs { fee_budget: 60_000, limit: 150_000, more, ..Knobs::default() };
    let rules = common::rules(&descriptors, &knobs);
    let wallets = Wallets::new(&rules).unwrap();
    let mut attacker = Attacker::new(&descriptors, 2_026);
    let (mut ledger, mut seq) = (Ledger::new(), 0);
    let mut apply = |ledger: &mut Ledger, event: Event, at: u64| {
        ledger.apply(seq, &Entry { unix_ms: at * 1000, event }).unwrap();
        seq += 1;
    };
    imported(&descriptors).into_iter().for_each(|event| apply(&mut ledger, event, NOW));
    let (mut read_well, mut signed) = (0_u64, [0_u64; 3]);
    let mut paid: Vec<Vec<Transaction>> = vec![Vec::new(); 8];
    let rounds = attempts(2_000);
    for round in 0..rounds {
        // A day passes now and then, so that budgets are there again.
        let now = NOW + round * 400;
        let attempt = attacker.attempt();
        let Ok(request) = read(&attempt, &rules, &wallets) else { continue };
        read_well += 1;
        let intent = request.intent();
        match ledger.request(intent.request) {
            Some(known) if known.digest != intent.digest || known.answer.is_some() => continue,
            Some(_) => {}
            None => apply(&mut ledger, Event::Admitted(request.admitted()), now),
        }
        // Nobody said anything, and nobody is on a list.
        let evidence = ledger.evidence(intent, &rules.questions(intent), now);
        let evidence = evidence.rejections(vec![]).vetoes(vec![]).freezes(vec![]);
        let Decision::Allow(authorization) = policy::decide(intent, &evidence, &rules, now) else {
            continue;
        };
        let again = ledger.spend_recorded(intent.request, &intent.digest);
        let spend = request.spend(authorization.granted(), "1");
        let transaction: Transaction = bitcoin::consensus::deserialize(&spend.transaction).unwrap();
        let (stolen, orders) = attacker.stolen(&spend.lane, &transaction);
        assert_eq!(stolen, 0, "attempt {round}: {transaction:?}");
        let amounts: u64 = attempt.coins.iter().map(|coin| coin.output().value.to_sat()).sum();
        let out: u64 = transaction.output.iter().map(|output| output.value.to_sat()).sum();
        let fee = amounts - out;
        assert_eq!(u128::from(fee), spend.fee, "attempt {round}");
        // 0.01 BTC, 5 % of what moves, 100 sat for each byte at most.
        assert!(fee <= 1_000_000 && fee * 20 <= amounts && fee <= 60_000, "attempt {round}: {fee}");
        assert!(fee <= 100 * 110 * (attempt.coins.len() + transaction.output.len()) as u64);
        for order in orders {
            // One order twice only over the same coins: at most one of them confirms.
            let shares = |other: &Transaction| {
                let spends = |input: &bitcoin::TxIn| {
                    other.input.iter().any(|o| o.previous_output == input.previous_output)
                };
                transaction.input.iter().any(spends)
            };
            assert!(paid[order].iter().all(shares), "attempt {round}: an order is paid twice");
            paid[order].push(transaction.clone());
        }
        let lane = ["sweep", "withdraw", "consolidate"].iter().position(|lane| *lane == spend.lane);
        signed[lane.unwrap()] += 1;
        let event = match again {
            true => once_more(spend),
            false => Event::Spend(spend),
        };
        apply(&mut ledger, event, now);
    }
    println!(
        "{rounds} attempts, {read_well} read, {signed:?} sweeps, withdrawals and consolidations allowed, 0 sat elsewhere"
    );
    // Enough of them were nearly right.
    assert!(
        read_well > rounds / 20 && signed[0] > 10 && signed[1] > 0 && signed[2] > 0,
        "{read_well} {signed:?}"
    );
}
