//! What the policy's tests share: signed rules with caps to turn, and intents the rules allow.
#![allow(dead_code, unreachable_pub, reason = "every test file uses its own part")]

use asset::{Amount, Network};
use ed25519_dalek::{Signer as _, SigningKey};
use order::{AddressText, Order};
use policy::evidence::{
    Answer, Approval, Booked, Books, EarlierUse, Freeze, IndexUse, Listing, Measure, Objection,
    OrderHistory, Parent, Question, Screening,
};
use policy::intent::{Destination, Fee, RequestId, Slot, SlotId, Transfer};
use policy::names::{ClientName, KeyName, LaneName, OrderId, WalletName};
use policy::order::OrderRef;
use policy::people::OfficerKey;
use policy::signed::signature_line;
use policy::{
    Decision, Evidence, Intent, Requirement, RuleId, Rules, SignedPolicy, VerifiedOrder, decide,
};

pub const NOW: u64 = 1_767_000_000;
pub const HOUR: u64 = 3_600;
pub const DAY: u64 = 86_400;

/// What tests turn in the policy. Amounts in base units.
#[derive(Clone, Debug)]
pub struct Knobs {
    pub max_total: u128,
    pub sat_per_kvb: u64,
    pub fee_millionths: u32,
    pub fee_budget: Vec<(u128, u64)>,
    pub cold_millionths: u32,
    pub per_transaction: u128,
    pub per_destination: Option<u128>,
    pub limits: Vec<(u128, u64)>,
    pub index_window: u32,
    pub expires_unix: Option<u64>,
    pub shop_seed: u8,
    /// When the payout desk's grants end, and the shop's key.
    pub client_ends: Option<u64>,
    pub key_ends: Option<u64>,
    /// More sections, after all others.
    pub extra: String,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            max_total: 10_000,
            sat_per_kvb: 20_000,
            fee_millionths: 20_000,
            fee_budget: vec![(50_000, HOUR), (200_000, DAY)],
            cold_millionths: 900_000,
            per_transaction: 1_500_000,
            per_destination: Some(1_000_000),
            limits: vec![(3_000_000, HOUR), (9_000_000, DAY)],
            index_window: 20,
            expires_unix: None,
            shop_seed: 7,
            client_ends: None,
            key_ends: None,
            extra: String::new(),
        }
    }
}

pub fn officer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub fn public(key: &SigningKey) -> [u8; 32] {
    key.verifying_key().to_bytes()
}

fn windows(caps: &[(u128, u64)]) -> String {
    let caps: Vec<String> = caps
        .iter()
        .map(|(sum, s)| format!("{{ sum = \"{sum} sat\", window = \"{s}s\" }}"))
        .collect();
    format!("[{}]", caps.join(", "))
}

fn percent(millionths: u32) -> asset::Percent {
    asset::Percent::from_millionths(millionths).unwrap()
}

/// What every lane has at its end.
pub fn fee_text(knobs: &Knobs) -> String {
    format!(
        "fee = {{ max_total = \"{} sat\", max_feerate = \"{}\", max_percent = \"{}\" }}\nfee_budget = {}\n{}",
        knobs.max_total,
        asset::FeeRate::from_sat_per_kvb(knobs.sat_per_kvb),
        percent(knobs.fee_millionths),
        windows(&knobs.fee_budget),
        knobs.expires_unix.map_or(String::new(), |unix| format!("expires_unix = {unix}\n")),
    )
}

pub fn policy_text(knobs: &Knobs) -> String {
    let wallet = |name: &str, tier: &str| {
        format!(
            "[[wallet]]\nname = \"{name}\"\ntier = \"{tier}\"\ndescriptor = \"wpkh({name})#qqqqqqqq\"\nindex_window = {}\n",
            knobs.index_window
        )
    };
    let ends =
        |end: Option<u64>| end.map_or(String::new(), |unix| format!("expires_unix = {unix}\n"));
    let order_key = |name: &str, seed: u8| {
        let key: String = public(&SigningKey::from_bytes(&[seed; 32]))
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect();
        format!("[[order_key]]\nname = \"{name}\"\ned25519 = \"{key}\"\n")
    };
    let client = |name: &str, attest: &str, status: bool| {
        format!("[[client]]\nname = \"{name}\"\nattest = [{attest}]\nstatus = {status}\n")
    };
    let fee = fee_text(knobs);
    [
        "version = 3\nnetwork = \"regtest\"\n".to_string(),
        wallet("deposits", "token-hd"),
        wallet("hot", "token-hd"),
        wallet("cold", "cold"),
        wallet("vault", "cold"),
        order_key("shop", knobs.shop_seed) + &ends(knobs.key_ends),
        order_key("other", 9),
        client("watcher-1", "\"deposits\"", true),
        client("payout-desk", "", false) + &ends(knobs.client_ends),
        format!(
            "[[sweep]]\nname = \"sweep\"\nclients = [\"watcher-1\"]\nwallets = [\"deposits\"]\ncold = \"cold\"\nmin_cold_share = \"{}\"\n{fee}",
            percent(knobs.cold_millionths),
        ),
        format!(
            "[[withdraw]]\nname = \"withdraw\"\nclients = [\"payout-desk\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]\nper_transaction = \"{} sat\"\n{}limits = {}\n{fee}",
            knobs.per_transaction,
            knobs.per_destination.map_or(String::new(), |cap| format!("per_destination = \"{cap} sat\"\n")),
            windows(&knobs.limits),
        ),
        knobs.extra.clone(),
    ]
    .concat()
}

/// Five officers at three sites, in two groups; the shop's key is nobody's.
pub fn people() -> String {
    let mut text = String::new();
    for (seed, name, site) in [
        (21, "ada", "zurich"),
        (22, "bob", "zurich"),
        (23, "cyd", "oslo"),
        (24, "dan", "oslo"),
        (25, "eve", "lima"),
    ] {
        let key: String = public(&officer(seed)).iter().map(|b| format!("{b:02x}")).collect();
        text +=
            &format!("[[officer]]\nname = \"{name}\"\ndomain = \"{site}\"\ned25519 = \"{key}\"\n");
    }
    text + "[[group]]\nname = \"treasury\"\nmembers = [\"ada\", \"bob\", \"cyd\"]\n\
            [[group]]\nname = \"risk\"\nmembers = [\"dan\", \"eve\"]\n"
}

pub fn approved(officer: &str) -> Approval {
    Approval {
        officer: KeyName::parse(officer).unwrap(),
        at_unix: NOW - 60,
        expires_unix: NOW + HOUR,
    }
}

pub fn objection(officer: &str) -> Objection {
    Objection { officer: KeyName::parse(officer).unwrap(), at_unix: NOW - 60 }
}

/// Signs the text as its one officer and loads it.
pub fn load(text: &str) -> Rules {
    let key = officer(1);
    let name = KeyName::parse("ada").unwrap();
    let signature = key.sign(&policy::sign_message(text)).to_bytes();
    let signatures = signature_line(&name, &signature);
    let signed = SignedPolicy { text, signatures: &signatures };
    let pinned = [(name, OfficerKey::Ed25519(public(&key)))];
    signed.verify(&pinned, 1, Network::Regtest).unwrap()
}

pub fn rules(knobs: &Knobs) -> Rules {
    load(&policy_text(knobs))
}

/// The ledger's answers, to be changed before they become evidence.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub answers: Vec<Answer>,
    pub uses: Vec<EarlierUse>,
    pub parents: Vec<Parent>,
    pub orders: Vec<OrderHistory>,
    pub indexes: Vec<IndexUse>,
    pub repriced: Vec<SlotId>,
    pub most_versions: u32,
    pub listings: Vec<Listing>,
    pub booked: Vec<Booked>,
    pub approvals: Vec<Approval>,
    pub rejections: Option<Vec<Objection>>,
    pub vetoes: Option<Vec<Objection>>,
    pub freezes: Option<Vec<Freeze>>,
    pub asked_unix: Option<u64>,
    pub clock: Option<Option<u64>>,
    pub screening: Option<Screening>,
    pub books: Option<Books>,
}

impl Facts {
    /// What an empty ledger says: nothing spent, nothing signed, everything proven up to 1,000.
    pub fn empty(rules: &Rules, intent: &Intent) -> Self {
        let answer =
            |question: Question| Answer { question, others: Amount::ZERO, own_set: Amount::ZERO };
        let index = |wallet: &str, change, proven_below| IndexUse {
            wallet: WalletName::parse(wallet).unwrap(),
            change,
            last_used: None,
            used_a_day_ago: None,
            proven_below,
        };
        let history = |order: &VerifiedOrder| OrderHistory {
            order: order.reference(),
            versions: 0,
            released: false,
            conflicts_with_all: true,
            same_content: true,
        };
        let unlisted = |question| Listing { question, entries: Vec::new() };
        Self {
            answers: rules.questions(intent).into_iter().map(answer).collect(),
            uses: Vec::new(),
            orders: intent.orders.iter().map(history).collect(),
            indexes: vec![
                index("deposits", true, Some(1_000)),
                index("hot", true, Some(1_000)),
                index("cold", false, None),
                index("vault", false, None),
            ],
            listings: rules.list_questions(intent).into_iter().map(unlisted).collect(),
            rejections: Some(Vec::new()),
            vetoes: Some(Vec::new()),
            freezes: Some(Vec::new()),
            clock: Some(None),
            ..Self::default()
        }
    }

    pub fn evidence(&self) -> Evidence {
        let facts = self.clone();
        let mut evidence = Evidence::from_ledger()
            .answers(facts.answers)
            .uses(facts.uses)
            .parents(facts.parents)
            .orders(facts.orders)
            .indexes(facts.indexes)
            .repriced(facts.repriced)
            .most_versions(facts.most_versions)
            .listings(facts.listings)
            .booked(facts.booked)
            .approvals(facts.approvals)
            .asked_unix(facts.asked_unix)
            .screening(facts.screening)
            .books(facts.books);
        if let Some(freezes) = facts.freezes {
            evidence = evidence.freezes(freezes);
        }
        if let Some(rejections) = facts.rejections {
            evidence = evidence.rejections(rejections);
        }
        if let Some(vetoes) = facts.vetoes {
            evidence = evidence.vetoes(vetoes);
        }
        if let Some(held_at) = facts.clock {
            evidence = evidence.time_held(held_at);
        }
        evidence
    }
}

/// Everything one decision sees.
#[derive(Clone, Debug)]
pub struct Case {
    pub rules: Rules,
    pub intent: Intent,
    pub facts: Facts,
    pub now: u64,
}

impl Case {
    /// A sweep of two deposits, all but the fee and a little change to cold storage.
    pub fn sweep(knobs: &Knobs) -> Self {
        let rules = rules(knobs);
        let transfers = vec![cold("cold", 0, 945_000), change(0, 50_000)];
        let intent =
            intent("watcher-1", "sweep", "deposits", vec![600_000, 400_000], transfers, vec![]);
        Self::on_empty_ledger(rules, intent)
    }

    /// Two payouts and change.
    pub fn withdraw(knobs: &Knobs) -> Self {
        let rules = rules(knobs);
        let orders = vec![order(&rules, "a", 300_000), order(&rules, "b", 200_000)];
        let transfers = vec![pays("a", 1, 300_000), pays("b", 2, 200_000), change(0, 495_000)];
        let intent =
            intent("payout-desk", "withdraw", "hot", vec![600_000, 400_000], transfers, orders);
        Self::on_empty_ledger(rules, intent)
    }

    fn on_empty_ledger(rules: Rules, intent: Intent) -> Self {
        let facts = Facts::empty(&rules, &intent);
        Self { rules, intent, facts, now: NOW }
    }

    pub fn decide(&self) -> Decision {
        decide(&self.intent, &self.facts.evidence(), &self.rules, self.now)
    }

    /// Rules that deny it, or that it waits for if none does; sorted, each once; none when it is allowed.
    pub fn reasons(&self) -> Vec<RuleId> {
        match self.decide() {
            Decision::Allow(_) => vec![],
            Decision::Deny(denial) => {
                let mut rules: Vec<RuleId> =
                    denial.reasons.iter().map(|finding| finding.rule).collect();
                rules.sort();
                rules.dedup();
                assert!(!rules.is_empty(), "a denial without a reason");
                rules
            }
            Decision::Await(waiting) => {
                let mut rules: Vec<RuleId> =
                    waiting.requirements.iter().map(Requirement::rule_id).collect();
                let said: Vec<RuleId> = waiting.findings().iter().map(|f| f.rule).collect();
                assert_eq!(rules, said, "what is typed is what is said");
                rules.sort();
                rules.dedup();
                assert!(!rules.is_empty(), "waiting for nothing");
                rules
            }
        }
    }

    /// Takes `units` from the output at `position`, and the fee grows by as much.
    pub fn move_to_fee(&mut self, position: usize, units: u128) {
        let transfer = &mut self.intent.transfers[position];
        transfer.amount = transfer.amount.checked_sub(Amount::from_units(units)).unwrap();
        let fee = &mut self.intent.fee.amount;
        *fee = fee.checked_add(Amount::from_units(units)).unwrap();
    }

    /// Adds `units` to output and input alike, so that it still balances.
    pub fn grow(&mut self, position: usize, units: u128) {
        let more = Amount::from_units(units);
        let transfer = &mut self.intent.transfers[position];
        transfer.amount = transfer.amount.checked_add(more).unwrap();
        let slot = &mut self.intent.slots[0];
        slot.amount = slot.amount.checked_add(more).unwrap();
    }

    pub fn history(&mut self, id: &str) -> &mut OrderHistory {
        self.facts.orders.iter_mut().find(|history| history.order.id.as_str() == id).unwrap()
    }

    /// Says that this was the highest index of a branch, today and a day ago.
    pub fn used(&mut self, position: usize, index: u32) {
        let known = &mut self.facts.indexes[position];
        (known.last_used, known.used_a_day_ago) = (Some(index), Some(index));
    }

    pub fn answer(&mut self, measure: Measure, window_seconds: u64) -> &mut Answer {
        let wanted = |a: &&mut Answer| {
            a.question.measure == measure && a.question.window_seconds == window_seconds
        };
        self.facts.answers.iter_mut().find(wanted).unwrap()
    }
}

/// An intent whose fee is what its outputs leave over.
pub fn intent(
    caller: &str,
    lane: &str,
    wallet: &str,
    inputs: Vec<u128>,
    transfers: Vec<Transfer>,
    orders: Vec<VerifiedOrder>,
) -> Intent {
    let outputs: u128 = transfers.iter().map(|transfer| transfer.amount.units()).sum();
    let fee = inputs.iter().sum::<u128>().saturating_sub(outputs);
    let slot = |(number, units): (u8, u128)| Slot {
        id: slot_id(number),
        amount: Amount::from_units(units),
    };
    Intent {
        request: RequestId([5; 16]),
        caller: ClientName::parse(caller).unwrap(),
        lane: LaneName::parse(lane).unwrap(),
        wallet: WalletName::parse(wallet).unwrap(),
        orders,
        transfers,
        fee: Fee {
            asset: Network::Regtest.asset_id(),
            amount: Amount::from_units(fee),
            vsize: 300,
        },
        slots: (0..).zip(inputs).map(slot).collect(),
        digest: [6; 32],
    }
}

pub fn slot_id(number: u8) -> SlotId {
    SlotId([number; 36])
}

pub fn transfer(units: u128, to: Destination) -> Transfer {
    Transfer { asset: Network::Regtest.asset_id(), amount: Amount::from_units(units), to }
}

pub fn cold(wallet: &str, index: u32, units: u128) -> Transfer {
    transfer(units, Destination::Cold { wallet: WalletName::parse(wallet).unwrap(), index })
}

pub fn change(index: u32, units: u128) -> Transfer {
    transfer(units, Destination::Change { index })
}

pub fn foreign(script: u8, units: u128) -> Transfer {
    transfer(units, external(script, None))
}

pub fn pays(id: &str, script: u8, units: u128) -> Transfer {
    transfer(units, external(script, Some(by_shop(id))))
}

pub fn external(script: u8, order: Option<OrderRef>) -> Destination {
    Destination::External { script: vec![script; 22], address: format!("address-{script}"), order }
}

/// Which order of the shop's.
pub fn by_shop(id: &str) -> OrderRef {
    OrderRef { key: public(&SigningKey::from_bytes(&[7; 32])), id: OrderId::parse(id).unwrap() }
}

/// An order by the shop, verified as the signer does.
pub fn order(rules: &Rules, id: &str, units: u128) -> VerifiedOrder {
    order_by(rules, "shop", 7, id, units, NOW + HOUR)
}

pub fn order_by(
    rules: &Rules,
    signer: &str,
    seed: u8,
    id: &str,
    units: u128,
    expires_unix: u64,
) -> VerifiedOrder {
    let order = Order {
        id: OrderId::parse(id).unwrap(),
        asset: Network::Regtest.asset_id(),
        amount: Amount::from_units(units),
        destination: AddressText::parse("somewhere").unwrap(),
        expires_unix,
    };
    let key = SigningKey::from_bytes(&[seed; 32]);
    rules.verify_order(&order.encode(), &order.sign(&key), signer).unwrap()
}

pub fn used_before(slot: u8, lane: &str, orders: &[&str]) -> EarlierUse {
    EarlierUse {
        void: false,
        fee: Amount::from_units(4_000),
        released: true,
        covers: true,
        slot: slot_id(slot),
        lane: LaneName::parse(lane).unwrap(),
        orders: orders.iter().map(|id| by_shop(id)).collect(),
    }
}

pub const BUMP: &str = r#"
[[bump]]
name = "boost"
clients = ["payout-desk"]
wallets = ["hot"]
package = { max_total = "12000 sat", max_feerate = "16 sat/vB" }
fee = { max_total = "10000 sat", max_feerate = "20 sat/vB", max_percent = "2%" }
fee_budget = [{ sum = "50000 sat", window = "1h" }]
"#;

/// Change of ours that is out: three thousand for 200 vB.
pub fn parent(slot: u8, id: u8) -> Parent {
    let (slot, fee) = (slot_id(slot), Amount::from_units(3_000));
    Parent { slot, id: [id; 32], fee, vsize: 200, unordered: None }
}
