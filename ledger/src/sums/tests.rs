//! What is kept, against a look at every spend that shares no code with it.
#![allow(clippy::arithmetic_side_effects, reason = "small numbers")]

use asset::Network;
use audit::entry;
use policy::evidence::Measure;
use policy::intent::RequestId;
use policy::names::{ClientName, LaneName, WalletName};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::*;

const LANES: [&str; 3] = ["a", "b", "c"];

thread_local! {
    /// How much is kept, in this test.
    pub(super) static VALUES: std::cell::Cell<usize> = const { std::cell::Cell::new(160) };
}

fn spend(request: u8, coins: u8, random: &mut StdRng) -> entry::Spend {
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
    let transaction = if readable { bitcoin::consensus::serialize(&transaction) } else { vec![1] };
    let external = paid.iter().map(|sat| u128::from(*sat)).sum();
    let external = if random.gen_ratio(1, 60) { u128::MAX } else { external };
    let coins: Vec<u8> = (0..random.gen_range(1..3)).map(|_| random.gen_range(0..coins)).collect();
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

/// What counts, kept apart from the code under test: what was written of it, since when, in which conflict set.
#[derive(Default)]
struct Apart {
    live: Vec<Live>,
    /// How many sets there were.
    sets: usize,
    latest: u64,
}

struct Live {
    spend: entry::Spend,
    since: u64,
    set: usize,
    waits: bool,
}

impl Apart {
    /// Time never goes back, whatever an entry says.
    fn time(&mut self, clock: u64) -> u64 {
        self.latest = self.latest.max(clock);
        self.latest
    }

    fn is_allowed(&self, request: u8) -> bool {
        self.live.iter().any(|one| one.spend.request == [request; 16] && !one.waits)
    }

    fn allow(&mut self, spend: entry::Spend, clock: u64) {
        self.end(spend.request[0]);
        if self.is_allowed(spend.request[0]) {
            return self.again(spend.request[0], clock);
        }
        self.reserve(spend, clock, false);
    }

    fn wait(&mut self, spend: entry::Spend, clock: u64) {
        if !self.is_allowed(spend.request[0]) {
            self.end(spend.request[0]);
            self.reserve(spend, clock, true);
        }
    }

    fn end(&mut self, request: u8) {
        self.live.retain(|one| one.spend.request != [request; 16] || !one.waits);
    }

    fn again(&mut self, request: u8, clock: u64) {
        let since = self.time(clock);
        let mut live = self.live.iter_mut();
        live.find(|one| one.spend.request == [request; 16]).unwrap().since = since;
    }

    /// Joins the oldest set with every member of which it has a coin in common.
    fn reserve(&mut self, spend: entry::Spend, clock: u64, waits: bool) {
        let conflicts = |one: &Live| {
            let coins = || one.spend.slots.iter().map(|spent| &spent.slot);
            spend.slots.iter().any(|spent| coins().any(|coin| *coin == spent.slot))
        };
        let members = |set: usize| self.live.iter().filter(move |one| one.set == set);
        let joins = |set: &usize| members(*set).count() > 0 && members(*set).all(conflicts);
        let set = (0..self.sets).find(joins).unwrap_or(self.sets);
        self.sets = self.sets.max(set + 1);
        let since = self.time(clock);
        self.live.push(Live { spend, since, set, waits });
    }

    /// Each set at its largest in the window: others, and the own set.
    fn totals(&self, question: &Question, own: Option<usize>, now: u64) -> [Amount; 2] {
        let mut maxima: BTreeMap<usize, u128> = BTreeMap::new();
        for one in self.live.iter().filter(|one| one.since + question.window_seconds >= now) {
            if let Some(amount) = adds(&one.spend, question) {
                let most = maxima.entry(one.set).or_default();
                *most = amount.max(*most);
            }
        }
        let own = own.and_then(|set| maxima.remove(&set)).unwrap_or(0);
        let others = maxima.into_values().fold(0, u128::saturating_add);
        [Amount::from_units(others), Amount::from_units(own)]
    }
}

/// What it adds to a total, if it is part of it.
fn adds(spend: &entry::Spend, question: &Question) -> Option<u128> {
    let mut external = spend.external;
    let is_part = match &question.of {
        Total::Lane(lane) => lane.as_str() == spend.lane,
        Total::Client(client) => client.as_str() == spend.caller,
        Total::Wallet(wallet) => wallet.as_str() == spend.wallet,
        Total::Orderer(key) => spend.orders.iter().any(|order| order.key == *key),
        Total::Asset(_) | Total::Everything => true,
        Total::Destination(_) if external == 0 => false,
        Total::Destination(script) => {
            let transaction: Result<bitcoin::Transaction, _> =
                bitcoin::consensus::deserialize(&spend.transaction);
            // Whatever cannot be read may have paid anybody.
            transaction.map_or(true, |transaction| {
                let outputs = transaction.output.iter();
                let to = outputs.filter(|o| o.script_pubkey.as_bytes() == script.as_slice());
                let paid: Vec<u128> = to.map(|o| o.value.to_sat().into()).collect();
                external = paid.iter().sum();
                !paid.is_empty()
            })
        }
    };
    let lanes = &question.lanes;
    let asked = lanes.is_empty() || lanes.iter().any(|lane| lane.as_str() == spend.lane);
    let amount = match question.measure {
        Measure::Fees => spend.fee,
        Measure::External => external,
        Measure::Leaving => external.saturating_add(spend.fee),
        Measure::Count => 1,
    };
    (is_part && asked).then_some(amount)
}

/// Whatever happens in whatever order, also when a clock is set back, what is kept says what a look at everything finds.
#[test]
fn what_is_kept_is_what_a_walk_finds() {
    let questions = questions();
    let (mut fitted, mut given_up) = (0, 0);
    let mut random = StdRng::seed_from_u64(11);
    for history in 0..92 {
        // Two of them are so long that sums of sums are kept.
        let (steps, coins) = if history < 90 { (24, 9) } else { (400, 200) };
        // And only in those is room for all of them.
        VALUES.set(if history < 90 { 160 } else { VALUES_MAX });
        let (mut spends, mut now) = (Spends::default(), 1_000_u64);
        let mut apart = Apart::default();
        let mut times: HashMap<usize, u64> = HashMap::new();
        for step in 0..steps {
            now += random.gen_range(0..4);
            let clock = if random.gen_ratio(1, 8) { now - random.gen_range(0..9) } else { now };
            let request = random.gen_range(0..if coins == 9 { 12 } else { 250 });
            let id = RequestId([request; 16]);
            match random.gen_range(0..10) {
                0..5 => {
                    let spend = spend(request, coins, &mut random);
                    spends.add(&spend, [request; 32], clock).unwrap();
                    apart.allow(spend, clock);
                }
                5..7 => {
                    let spend = spend(request, coins, &mut random);
                    spends.wait(&spend, [request; 32], clock).unwrap();
                    apart.wait(spend, clock);
                }
                7 => {
                    spends.wait_no_longer(id);
                    apart.end(request);
                }
                8 if apart.is_allowed(request) => {
                    spends.again(id, clock).unwrap();
                    apart.again(request, clock);
                }
                _ => {}
            }
            // No window loses a spend because a clock was set back.
            for (number, spend) in spends.spends.iter().enumerate() {
                let time = times.entry(number).or_default();
                assert!(spend.unix_s() >= *time);
                *time = spend.unix_s();
            }
            // From the beginning on in some, at once over all of it in others.
            let last = step + 1 == steps;
            if !last && (history % 3 == 0 || steps > 24 && step % 50 != 0) {
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
            let mut kept = spends.kept.lock().unwrap();
            assert!(kept.room() <= VALUES.get(), "there is room for no more");
            match kept.iter_mut().filter(|totals| totals.is_given_up()).count() {
                0 => fitted += 1,
                _ => given_up += 1,
            }
            drop(kept);
            for (question, answer) in questions.iter().chain([&questions[one]]).zip(asked) {
                assert_eq!(answer.question, *question);
                let found = apart.totals(question, own, now);
                assert_eq!([answer.others, answer.own_set], found, "{history} {step} {question:?}");
            }
        }
    }
    assert!(fitted > 50 && given_up > 50, "{fitted} {given_up}");
}
