//! A past as a real log has it: entry by entry, folded into the ledger under test.

use audit::entry::{Admitted, Awaiting, Entry, Event, PaidOrder, Reason, Spend, SpentSlot};
use bitcoin::consensus::serialize;
use ledger::{Fold as _, Ledger};
use policy::evidence::{Approval, Freeze, Objection};
use policy::intent::RequestId;
use policy::names::{ClientName, KeyName, LaneName, WalletName};
use policy::order::OrderRef;
use policy::{Evidence, Intent, Rules};
use sha2::{Digest as _, Sha256};
use statement::{About, Paper, PolicyRef, Says, Statement};

use crate::common::NOW;
use crate::drafts::World;
use crate::past::{OWN, PROVEN, Past, Spent, What, Word, chain};

/// When the request stops waiting.
const WAITS_UNTIL: u64 = NOW + 1_000_000;

fn again(request: u8) -> Event {
    Event::SpendAgain { request: [request; 16], policy: 3, trace: Vec::new() }
}

pub fn fold(world: &World, past: &Past) -> Ledger {
    let mut ledger = Ledger::new();
    let mut seq = 0;
    let mut write = |unix: u64, event: Event| {
        ledger.apply(seq, &Entry { unix_ms: unix * 1_000, event }).unwrap();
        seq += 1;
    };
    beginning().into_iter().for_each(|event| write(1, event));
    let mut spends: Vec<Spent> = Vec::new();
    let mut said: Vec<(u8, Statement)> = Vec::new();
    for (at, what) in past {
        if let What::Allowed(spent) | What::Waits(spent) = what
            && !spends.iter().any(|known| known.request == spent.request)
        {
            write(*at, admitted(spent));
            spends.push(spent.clone());
        }
        let statement = |number: u8| said.iter().find(|(n, _)| *n == number).unwrap().1.digest();
        let event = match what {
            What::Allowed(spent) => Event::Spend(spend(spent)),
            What::Again(request) => again(*request),
            What::Signed(request) => {
                let spent = spends.iter().find(|spent| spent.request == *request).unwrap();
                Event::Signed { request: [*request; 16], transaction: transaction(spent) }
            }
            What::Withheld { request, may_have_left } => {
                let reason = Reason { code: "revoked".to_owned(), text: String::new() };
                let (request, may_have_left) = ([*request; 16], *may_have_left);
                Event::Withheld { request, policy: 3, reason, may_have_left }
            }
            What::Waits(spent) => Event::Awaiting(awaiting(spent, world, *at)),
            What::WaitEnded(request) => {
                let reason = Reason { code: "over".to_owned(), text: String::new() };
                Event::WaitEnded { request: [*request; 16], reason }
            }
            What::Said(number, who, word) => {
                let says = match word {
                    Word::Yes { .. } => Says::Approve(about(world, past)),
                    Word::No { veto: false } => Says::Reject(about(world, past)),
                    Word::No { veto: true } => Says::Veto(about(world, past)),
                    Word::Back(yes) => Says::Revoke(statement(*yes)),
                    Word::Freeze(scope) => Says::Freeze(scope.clone()),
                };
                let expires_unix = if let Word::Yes { ends } = word { *ends } else { NOW };
                let made = Statement {
                    says,
                    log: "log".to_owned(),
                    network: chain(),
                    officer: KeyName::parse(who).unwrap(),
                    expires_unix,
                    nonce: [*number; 16],
                };
                let (statement, signature) = (made.encode(), vec![0; 64]);
                said.push((*number, made));
                Event::OfficerSaid { statement, signature, key: [0; 32], way: "file".to_owned() }
            }
            What::Lifted(freeze) => {
                Event::FreezeLifted { freeze: statement(*freeze), policy: 3, officers: vec![] }
            }
            What::Unbound(request, order) => {
                let spent = spends.iter().find(|spent| spent.request == *request).unwrap();
                unbound(spent, order)
            }
            What::ClockDoubted(held_unix) => {
                Event::ClockDoubted { held_unix: *held_unix, reason: String::new() }
            }
        };
        write(*at, event);
    }
    ledger
}

fn unbound(spent: &Spent, order: &OrderRef) -> Event {
    let versions = vec![Sha256::digest(transaction(spent)).into()];
    let (key, id, policy, officers) = (order.key, order.id.to_string(), 3, vec![]);
    Event::Unbound { key, id, versions, policy, officers }
}

/// All that the ledger says of the request, as the signer asks it.
pub fn evidence(ledger: &Ledger, rules: &Rules, intent: &Intent, now: u64) -> Evidence {
    let evidence = ledger.evidence(intent, &rules.questions(intent), now);
    let parents = intent.slots.iter().filter_map(|slot| ledger.parent(slot.id, now));
    let people = ledger.people();
    let wait = people.wait(intent.request);
    let given = wait.map(|wait| wait.approvals.as_slice()).unwrap_or_default().iter();
    let approvals = given.map(|given| Approval {
        officer: given.officer.clone(),
        at_unix: given.at_unix,
        expires_unix: given.expires_unix,
    });
    let objections = |veto: bool| {
        let these = people.objections(intent.request).iter().filter(|no| no.veto == veto);
        let one =
            |no: &ledger::Objection| Objection { officer: no.officer.clone(), at_unix: no.at_unix };
        these.map(one).collect()
    };
    let freezes = people.freezes().map(|(_, frozen)| Freeze {
        scope: frozen.scope.clone(),
        officer: frozen.officer.clone(),
        at_unix: frozen.at_unix,
    });
    evidence
        .parents(parents.collect())
        .approvals(approvals.collect())
        .rejections(objections(false))
        .vetoes(objections(true))
        .freezes(freezes.collect())
        .asked_unix(wait.map(|wait| wait.asked_unix))
}

pub fn beginning() -> Vec<Event> {
    let mut events = vec![Event::Opened {
        origin: "o".into(),
        network: chain(),
        checkpoint_key: [1; 32],
        attestation_key: [2; 32],
        wrapping_fingerprint: [3; 32],
    }];
    for wallet in ["deposits", "hot"] {
        events.push(Event::WalletImported {
            wallet: wallet.to_owned(),
            descriptor: format!("wpkh({wallet})"),
            tier: "token-hd".to_owned(),
            bundle: [1; 32],
            external: PROVEN,
            change: 2 * PROVEN,
        });
        events.push(Event::Proven { wallet: wallet.to_owned(), change: true, below: PROVEN });
    }
    events
}

fn admitted(spent: &Spent) -> Event {
    Event::Admitted(Admitted {
        request: [spent.request; 16],
        caller: spent.client.to_owned(),
        key: format!("key-{}", spent.request),
        lane: spent.lane.to_owned(),
        wallet: spent.wallet.to_owned(),
        digest: spent.digest,
    })
}

fn transaction(spent: &Spent) -> Vec<u8> {
    if spent.readable { serialize(&spent.transaction()) } else { vec![1] }
}

fn spend(spent: &Spent) -> Spend {
    let order = |paid: &crate::past::Paid| PaidOrder {
        key: paid.order.key,
        id: paid.order.id.to_string(),
        digest: paid.digest,
        expires_unix: paid.ends,
    };
    let slot = |coin: &(policy::intent::SlotId, u128)| SpentSlot {
        slot: coin.0.0.to_vec(),
        amount: coin.1,
    };
    Spend {
        request: [spent.request; 16],
        policy: 3,
        lane: spent.lane.to_owned(),
        wallet: spent.wallet.to_owned(),
        caller: spent.client.to_owned(),
        fee: spent.fee,
        external: spent.external(),
        slots: spent.coins.iter().map(slot).collect(),
        orders: spent.orders.iter().map(order).collect(),
        change_index: spent.change,
        cold_index: spent.cold.map(|(wallet, index)| (wallet.to_owned(), index)),
        transaction: transaction(spent),
        trace: vec![],
    }
}

fn awaiting(spent: &Spent, world: &World, at: u64) -> Awaiting {
    let paper = paper(spent, world, at).encode();
    Awaiting {
        spend: spend(spent),
        intent: String::from_utf8(paper).unwrap(),
        psbt: vec![],
        parents: vec![],
        orders: vec![],
        requirements: vec![],
        expires_unix: WAITS_UNTIL,
    }
}

fn paper(spent: &Spent, world: &World, at: u64) -> Paper {
    Paper {
        network: chain(),
        request: RequestId([spent.request; 16]),
        client: ClientName::parse(spent.client).unwrap(),
        lane: LaneName::parse(spent.lane).unwrap(),
        wallet: WalletName::parse(spent.wallet).unwrap(),
        tier: "token-hd".to_owned(),
        transaction: [0; 32],
        inputs: vec![],
        outputs: vec![],
        fee: spent.fee,
        orders: vec![],
        policy: policy(world),
        asked_unix: at,
        expires_unix: WAITS_UNTIL,
    }
}

fn policy(world: &World) -> PolicyRef {
    let rules = &world.case.rules;
    PolicyRef { version: 3, digest: *rules.digest() }
}

/// What officers speak of: the request that is decided, as it waits.
fn about(world: &World, past: &Past) -> About {
    let waits = past.iter().find_map(|(at, what)| match what {
        What::Waits(spent) if spent.request == OWN => Some((spent, *at)),
        _ => None,
    });
    let (spent, at) = waits.unwrap();
    let intent = paper(spent, world, at).digest();
    About { request: RequestId([OWN; 16]), intent, policy: policy(world) }
}
