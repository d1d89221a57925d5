//! Small histories: few coins, few orders, two lanes, so that everything collides with everything.

use std::sync::LazyLock;

use asset::{Amount, AssetId, Network};
use audit::entry::{Admitted, Awaiting, Entry, Event, PaidOrder, Reason, Spend, SpentSlot};
use policy::evidence::{Measure, Question};
use policy::intent::{Destination, Fee, Intent, RequestId, Slot, SlotId, Transfer};
use policy::names::{ClientName, LaneName, WalletName};
use policy::order::VerifiedOrder;
use proptest::prelude::*;
use statement::{Paper, PolicyRef};

use crate::common::{Descriptors, FAR, Knobs, address, order, rules, shop, stranger};

pub(crate) const LANES: [&str; 2] = ["sweep", "withdraw"];
pub(crate) const WINDOW: u64 = 100;

/// One request: what it spends, pays and costs. `request` names it, so that equal ones are retries.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) request: u8,
    pub(crate) lane: usize,
    pub(crate) coins: Vec<u8>,
    pub(crate) orders: Vec<(u8, bool)>,
    pub(crate) fee: u32,
    pub(crate) external: u32,
    pub(crate) change: Option<u32>,
    pub(crate) cold: Option<u32>,
    pub(crate) repriced: bool,
}

/// A reservation, and how many seconds after the one before.
#[derive(Clone, Debug)]
pub(crate) struct Reserved {
    pub(crate) ask: Ask,
    pub(crate) after: u64,
    pub(crate) became: Became,
}

/// What was said to a request, and what became of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Became {
    Allowed,
    /// Answered then, if it was not before.
    Signed,
    Waits,
    /// It waited in vain.
    Ended,
}

impl Became {
    pub(crate) fn waits(self) -> bool {
        matches!(self, Self::Waits | Self::Ended)
    }
}

pub(crate) fn ask() -> impl Strategy<Value = Ask> {
    let coins = proptest::collection::btree_set(0..6_u8, 1..4);
    let orders = proptest::collection::btree_map(0..3_u8, any::<bool>(), 0..3);
    let index = proptest::option::of(0..5_u32);
    let numbers = (0..50_u32, 0..50_u32, index.clone(), index);
    (any::<u8>(), 0..2_usize, coins, orders, numbers, any::<bool>()).prop_map(
        |(request, lane, coins, orders, (fee, external, change, cold), repriced)| Ask {
            request,
            lane,
            coins: coins.into_iter().collect(),
            orders: orders.into_iter().collect(),
            fee,
            external,
            change,
            cold,
            repriced: repriced && fee % 4 == 0,
        },
    )
}

/// Reservations one after the other. The same request number is the same request, as the digest makes sure.
pub(crate) fn history() -> impl Strategy<Value = Vec<Reserved>> {
    // Mostly within the windows; now and then about a day later.
    let after = prop_oneof![8 => 0..60_u64, 1 => 86_395..86_405_u64, 1 => 20_000..50_000_u64];
    let became = prop_oneof![
        3 => Just(Became::Allowed),
        3 => Just(Became::Signed),
        2 => Just(Became::Waits),
        1 => Just(Became::Ended),
    ];
    let step =
        (ask(), after, became).prop_map(|(ask, after, became)| Reserved { ask, after, became });
    proptest::collection::vec(step, 0..12).prop_map(|mut steps| {
        for at in 0..steps.len() {
            steps[at].ask.request %= 9;
            let number = steps[at].ask.request;
            if let Some(first) = steps[..at].iter().find(|s| s.ask.request == number) {
                steps[at].ask = first.ask.clone();
            }
        }
        for at in 0..steps.len() {
            // Nobody is told to wait for what contradicts the log.
            if !steps.iter().all(|other| is_consistent(&steps[at].ask, &other.ask)) {
                steps[at].became = Became::Allowed;
            }
        }
        steps
    })
}

/// Whether they agree on what coins are worth and orders say.
fn is_consistent(one: &Ask, other: &Ask) -> bool {
    let differs = |(id, text): &(u8, bool)| other.orders.contains(&(*id, !text));
    let coins = || one.coins.iter().filter(|coin| other.coins.contains(coin));
    !one.orders.iter().any(differs) && coins().all(|coin| price(one, *coin) == price(other, *coin))
}

static ORDERS: LazyLock<Vec<[VerifiedOrder; 2]>> = LazyLock::new(|| {
    let rules = rules(&Descriptors::fixed(), &Knobs::default());
    // The last one ends in the middle of most histories.
    let expires = |id: u8| if id == 2 { 1_000_150 } else { FAR };
    let verified = |id: u8, sat: u64| {
        let order = order(&format!("o{id}"), sat, &address(&stranger(1)), expires(id));
        rules.verify_order(&order.encode(), &order.sign(&shop()), "shop").unwrap()
    };
    (0..3).map(|id| [verified(id, 1000), verified(id, 2000)]).collect()
});

pub(crate) fn verified((id, other): (u8, bool)) -> VerifiedOrder {
    ORDERS[usize::from(id)][usize::from(other)].clone()
}

pub(crate) fn slot(coin: u8) -> SlotId {
    SlotId([coin; 36])
}

pub(crate) fn price(ask: &Ask, coin: u8) -> Amount {
    let base = 1000 + u64::from(coin);
    Amount::from(if ask.repriced { base + 1 } else { base })
}

pub(crate) fn name(text: &str) -> WalletName {
    WalletName::parse(text).unwrap()
}

pub(crate) fn lane(number: usize) -> LaneName {
    LaneName::parse(LANES[number]).unwrap()
}

impl Ask {
    /// Requests with the same content have the same digest.
    pub(crate) fn digest(&self) -> [u8; 32] {
        [self.request; 32]
    }

    pub(crate) fn intent(&self) -> Intent {
        let asset: AssetId = Network::Regtest.asset_id();
        let to =
            |to: Destination| Transfer { asset: asset.clone(), amount: Amount::from(1_u64), to };
        let cold = self.cold.map(|index| to(Destination::Cold { wallet: name("cold"), index }));
        let change = self.change.map(|index| to(Destination::Change { index }));
        Intent {
            request: RequestId([self.request; 16]),
            caller: ClientName::parse("watcher-1").unwrap(),
            lane: lane(self.lane),
            wallet: name("deposits"),
            orders: self.orders.iter().map(|order| verified(*order)).collect(),
            transfers: cold.into_iter().chain(change).collect(),
            fee: Fee {
                asset: asset.clone(),
                amount: Amount::from(u64::from(self.fee)),
                vsize: 100,
            },
            slots: self
                .coins
                .iter()
                .map(|coin| Slot { id: slot(*coin), amount: price(self, *coin) })
                .collect(),
            digest: self.digest(),
        }
    }

    pub(crate) fn admitted(&self) -> Event {
        Event::Admitted(Admitted {
            request: [self.request; 16],
            caller: "watcher-1".into(),
            key: format!("key-{}", self.request),
            lane: LANES[self.lane].into(),
            wallet: "deposits".into(),
            digest: self.digest(),
        })
    }

    pub(crate) fn spend(&self) -> Event {
        Event::Spend(self.spent())
    }

    /// The same, while it waits since then.
    fn awaiting(&self, unix: u64) -> Event {
        let paper = Paper {
            network: Network::Regtest.chain_id().to_string(),
            request: RequestId([self.request; 16]),
            client: ClientName::parse("watcher-1").unwrap(),
            lane: lane(self.lane),
            wallet: name("deposits"),
            tier: "token-hd".into(),
            transaction: [0; 32],
            inputs: Vec::new(),
            outputs: Vec::new(),
            fee: self.fee.into(),
            orders: Vec::new(),
            policy: PolicyRef { version: 1, digest: [4; 32] },
            asked_unix: unix,
            expires_unix: FAR,
        };
        Event::Awaiting(Awaiting {
            spend: self.spent(),
            intent: String::from_utf8(paper.encode()).unwrap(),
            psbt: Vec::new(),
            parents: Vec::new(),
            orders: Vec::new(),
            requirements: Vec::new(),
            expires_unix: FAR,
        })
    }

    fn spent(&self) -> Spend {
        let paid = |order: &(u8, bool)| {
            let order = verified(*order);
            PaidOrder {
                key: order.reference().key,
                id: order.order().id.to_string(),
                digest: *order.digest(),
                expires_unix: order.order().expires_unix,
            }
        };
        let spent = |coin: &u8| SpentSlot {
            slot: slot(*coin).0.to_vec(),
            amount: price(self, *coin).units(),
        };
        Spend {
            request: [self.request; 16],
            policy: 1,
            lane: LANES[self.lane].into(),
            wallet: "deposits".into(),
            caller: "watcher-1".into(),
            fee: self.fee.into(),
            external: self.external.into(),
            slots: self.coins.iter().map(spent).collect(),
            orders: self.orders.iter().map(paid).collect(),
            change_index: self.change,
            cold_index: self.cold.map(|index| ("cold".into(), index)),
            transaction: Vec::new(),
            trace: Vec::new(),
        }
    }
}

/// The entries of a history, from a beginning on.
pub(crate) fn entries(history: &[Reserved]) -> Vec<Entry> {
    let opened = Event::Opened {
        origin: "o".into(),
        network: Network::Regtest.chain_id().to_string(),
        checkpoint_key: [1; 32],
        attestation_key: [2; 32],
        wrapping_fingerprint: [3; 32],
    };
    let mut unix_ms = 1_000_000_000;
    let mut entries = vec![Entry { unix_ms, event: opened }];
    let (mut admitted, mut signed, mut reserved) = (Vec::new(), Vec::new(), Vec::new());
    for step in history {
        unix_ms += step.after * 1000;
        if !admitted.contains(&step.ask.request) {
            admitted.push(step.ask.request);
            entries.push(Entry { unix_ms, event: step.ask.admitted() });
        }
        let request = [step.ask.request; 16];
        if step.became.waits() {
            let event = step.ask.awaiting(unix_ms / 1000);
            entries.push(Entry { unix_ms, event });
            if step.became == Became::Ended {
                let reason = Reason { code: "over".into(), text: String::new() };
                entries.push(Entry { unix_ms, event: Event::WaitEnded { request, reason } });
            }
            continue;
        }
        let is_signed = step.became == Became::Signed;
        let event = if reserved.contains(&step.ask.request) && is_signed {
            Event::SpendAgain { request, policy: 1, trace: Vec::new() }
        } else {
            step.ask.spend()
        };
        reserved.push(step.ask.request);
        entries.push(Entry { unix_ms, event });
        if is_signed && !signed.contains(&step.ask.request) {
            signed.push(step.ask.request);
            let transaction = vec![1];
            entries.push(Entry { unix_ms, event: Event::Signed { request, transaction } });
        }
    }
    entries
}

/// The time of the last entry, in seconds.
pub(crate) fn now(history: &[Reserved]) -> u64 {
    1_000_000 + history.iter().map(|step| step.after).sum::<u64>()
}

pub(crate) fn questions() -> Vec<Question> {
    let measures = [Measure::Fees, Measure::External, Measure::Leaving, Measure::Count];
    let windows = [WINDOW, 10 * WINDOW];
    let ask = |lane: usize, measure, window_seconds| {
        Question::of_lane(self::lane(lane), measure, window_seconds)
    };
    (0..2)
        .flat_map(|l| measures.map(|m| (l, m)))
        .flat_map(|(l, m)| windows.map(|w| ask(l, m, w)))
        .collect()
}
