//! Random requests under a random policy: sound ones with what a log might say, then up to three things done to them.

use asset::{Amount, AssetId};
use policy::evidence::Parent;
use policy::evidence::{
    Answer, Approval, Booked, Books, EarlierUse, Freeze, FreezeScope, Listed, Listing, Measure,
    Objection, Screening,
};
use policy::intent::{Destination, SlotId, Transfer};
use policy::names::{ClientName, KeyName, LaneName, WalletName};
use policy::{Intent, Rules, VerifiedOrder};

use crate::common::{
    Case, DAY, Facts, HOUR, Knobs, NOW, by_shop, change, cold, external, foreign, intent, order,
    order_by, pays, slot_id, used_before,
};
use crate::dice::Dice;
use crate::drafts::{Draft, ENDS, SUMS, World};

const IDS: [&str; 4] = ["a", "b", "c", "d"];
const CALLERS: [&str; 3] = ["watcher-1", "watcher-1", "payout-desk"];
pub const OFFICERS: [&str; 6] = ["ada", "bob", "cyd", "dan", "eve", "mallory"];

/// A policy with what is dear to make for every request: its rules, and signed orders.
pub struct Setting {
    draft: Draft,
    rules: Rules,
    /// By amount, then id; made under the key that was pinned when they came in.
    orders: Vec<Vec<VerifiedOrder>>,
    /// By another key, one for each id.
    others: Vec<VerifiedOrder>,
    strange: VerifiedOrder,
}

/// What outputs may be worth.
const AMOUNTS: [u128; 3] = [100_000, 200_000, 250_000];

pub fn knobs(dice: &mut Dice) -> Knobs {
    let (budget, limit) =
        (dice.pick(&[50_000, 60_000, u128::MAX]), dice.pick(&[1_000_000, 4_000_000, u128::MAX]));
    Knobs {
        max_total: dice.pick(&[20_000, 20_000, 20_001, 5_000, u128::MAX]),
        sat_per_kvb: dice.pick(&[16_667, 60_000, 60_000, u64::MAX]),
        fee_millionths: dice.pick(&[20_000, 50_000, 50_000, 50_000, 1_000_000, 0]),
        cold_millionths: dice.pick(&[1, 500_000, 900_000, 1_000_000]),
        per_transaction: dice.between(600_000, 2_000_000),
        per_destination: dice.maybe(2).then(|| dice.between(500_000, 1_000_000)),
        index_window: dice.pick(&[2, 10, 30]),
        shop_seed: if dice.maybe(20) { 8 } else { 7 },
        fee_budget: vec![(budget, HOUR), (budget.saturating_mul(3), DAY)],
        limits: vec![(limit, HOUR), (limit.saturating_mul(2), DAY)],
        client_ends: dice.maybe(12).then(|| dice.pick(&ENDS[1..])),
        key_ends: dice.maybe(12).then(|| dice.pick(&ENDS[1..])),
        expires_unix: dice.maybe(8).then(|| dice.pick(&ENDS[1..])),
        extra: String::new(),
    }
}

impl Setting {
    pub fn random(dice: &mut Dice) -> Self {
        let draft = Draft::random(knobs(dice), dice);
        let mut text = crate::common::policy_text(&draft.knobs);
        if let Some(officer) = draft.holder {
            let shop = "[[order_key]]\nname = \"shop\"\n";
            text = text.replacen(shop, &format!("{shop}officer = \"{officer}\"\n"), 1);
        }
        for (name, as_written) in [
            ("sweep", "clients = [\"watcher-1\"]\nwallets = [\"deposits\"]\n"),
            (
                "withdraw",
                "clients = [\"payout-desk\"]\nwallets = [\"hot\"]\norder_keys = [\"shop\"]\n",
            ),
        ] {
            assert_eq!(text.matches(as_written).count(), 1, "{name}");
            text = text.replacen(as_written, &draft.lane(name).unwrap().text(), 1);
        }
        let rules = crate::common::load(&text);
        let before = crate::common::rules(&Knobs { shop_seed: 7, ..Knobs::default() });
        let by_id = |units: &u128| IDS.iter().map(|id| order(&before, id, *units)).collect();
        let orders = AMOUNTS.iter().map(by_id).collect();
        let by_other = |id: &&str| order_by(&before, "other", 9, id, 200_000, NOW + HOUR);
        let others = IDS.iter().map(by_other).collect();
        let strange = order_by(&before, "other", 9, dice.pick(&IDS), 200_000, NOW);
        Self { draft, rules, orders, others, strange }
    }

    /// The policy with a first request.
    pub fn world(&self, dice: &mut Dice) -> World {
        let (intent, facts) = self.sound(dice);
        let case = Case { rules: self.rules.clone(), intent, facts, now: NOW };
        World { draft: self.draft.clone(), case }
    }

    /// Another request, and what the log says of it.
    pub fn deal(&self, world: &mut World, dice: &mut Dice) {
        let case = &mut world.case;
        (case.intent, case.facts) = self.sound(dice);
        case.now = NOW;
        self.facts(case, dice);
        if dice.maybe(2) {
            for _ in 0..=dice.below(3) {
                let what = dice.below(42);
                self.turn(case, what, dice);
            }
        }
    }

    fn sound(&self, dice: &mut Dice) -> (Intent, Facts) {
        let lane = dice.pick(&["sweep", "withdraw", "withdraw", "tidy", "escape", "boost"]);
        let carries = lane == "boost" && dice.maybe(2);
        let by_other = dice.maybe(6);
        let last = dice.pick(&[None, Some(0), Some(7), Some(40)]);
        let index = last.map_or(0, |last| last + u32::try_from(dice.below(4)).unwrap());
        let (mut transfers, mut orders): (Vec<Transfer>, Vec<_>) = (vec![], vec![]);
        let outputs = 1 + dice.below(3);
        for (number, id) in IDS.into_iter().enumerate().take(outputs) {
            let worth = dice.below(AMOUNTS.len());
            let units = AMOUNTS[worth];
            match lane {
                "boost" if carries && number > 0 => {}
                "boost" if carries => transfers.push(change(index, units)),
                "withdraw" | "boost" if by_other => {
                    transfers.push(paid(0, &self.others[number]));
                    orders.push(self.others[number].clone());
                }
                "withdraw" | "boost" => {
                    let script = u8::try_from(dice.below(3)).unwrap();
                    transfers.push(pays(id, script, units));
                    orders.push(self.orders[worth][number].clone());
                }
                "tidy" => transfers.push(change(index, units)),
                _ => transfers.push(cold("cold", index, units)),
            }
        }
        if lane != "escape" && !carries && dice.maybe(3) {
            transfers.push(change(index, 1 + dice.between(0, 50_000)));
        }
        let fee = dice.pick(&[0, 4_999, 5_000, 5_000, 5_000, 20_001]);
        let all: u128 = transfers.iter().map(|t| t.amount.units()).sum::<u128>() + fee;
        let mut inputs = vec![all - all / 3 * 2, all / 3, all / 3];
        if dice.maybe(2) {
            inputs = vec![all];
        }
        let (mut caller, mut wallet) =
            if lane == "sweep" { ("watcher-1", "deposits") } else { ("payout-desk", "hot") };
        if dice.maybe(4) {
            let lane = self.draft.lane(lane).unwrap();
            (caller, wallet) = (dice.pick(&lane.grants).client, dice.pick(&lane.wallets));
        }
        let mut intent = intent(caller, lane, wallet, inputs, transfers, orders);
        intent.fee.vsize = dice.pick(&[150, 300, 300, 2_000]);
        let mut facts = Facts::empty(&self.rules, &intent);
        let today = u32::try_from(dice.below(4)).unwrap();
        for index in &mut facts.indexes {
            index.last_used = last;
            index.used_a_day_ago =
                if dice.maybe(3) { last.and_then(|last| last.checked_sub(today)) } else { last };
        }
        if carries {
            facts.parents = intent.slots.iter().map(|slot| parent_of(slot.id, dice)).collect();
            if dice.maybe(3) {
                facts.uses.push(maybe_out(dice, &[]));
            }
        } else if lane == "boost" {
            let ids = &IDS[..intent.orders.len()];
            let fee = Amount::from_units(dice.pick(&[4_998, 4_999, 5_000]));
            let covers = !dice.maybe(12);
            facts.uses = vec![EarlierUse { fee, covers, ..used_before(0, "withdraw", ids) }];
            if dice.maybe(3) {
                facts.uses.push(maybe_out(dice, ids));
            }
            of_its_orders(&mut facts.uses, &intent);
            for history in &mut facts.orders {
                (history.versions, history.released) = (1, !dice.maybe(12));
            }
        }
        (intent, facts)
    }

    fn facts(&self, case: &mut Case, dice: &mut Dice) {
        let facts = &mut case.facts;
        let leaves: u128 =
            5_000 + case.intent.orders.iter().map(|o| o.order().amount.units()).sum::<u128>();
        for answer in &mut facts.answers {
            let near = dice.pick(&SUMS).saturating_sub(leaves) + dice.between(0, 3);
            let others = match answer.question.measure {
                Measure::Count => dice.between(0, 3),
                Measure::Fees => dice.pick(&[0, 0, 0, 40_000, 45_001]),
                _ => dice.pick(&[0, 0, 0, near.saturating_sub(1)]),
            };
            answer.others = Amount::from_units(others);
            answer.own_set = Amount::from_units(if dice.maybe(12) { others + 1 } else { 0 });
        }
        let once_in = 2 + dice.below(3);
        for officer in OFFICERS {
            let expires_unix = if dice.maybe(10) { NOW - 1 } else { NOW };
            let officer = KeyName::parse(officer).unwrap();
            if !dice.maybe(once_in) {
                facts.approvals.push(Approval { officer, at_unix: NOW - HOUR, expires_unix });
            }
        }
        let objection = |dice: &mut Dice| {
            let officer = KeyName::parse(dice.pick(&OFFICERS)).unwrap();
            let no = Objection { officer, at_unix: NOW };
            if dice.maybe(16) { vec![no] } else { vec![] }
        };
        facts.rejections = Some(objection(dice));
        facts.vetoes = Some(objection(dice));
        facts.asked_unix =
            dice.pick(&[None, Some(NOW - HOUR), Some(NOW - HOUR + 1), Some(NOW - DAY)]);
        facts.clock = dice.pick(&[Some(None), Some(None), Some(None), Some(Some(NOW - 1))]);
        for listing in &mut facts.listings {
            let list = self.draft.lists.iter().find(|l| l.name == listing.question.list.as_str());
            for (label, _) in &list.unwrap().entries {
                let since_unix =
                    dice.pick(&[0, NOW, NOW - HOUR, NOW - DAY, NOW - DAY + 1, u64::MAX]);
                if dice.maybe(2) {
                    listing.entries.push(Listed { label: label.clone(), since_unix });
                }
            }
        }
        for listing in &facts.listings {
            if dice.maybe(3) {
                facts.booked.push(Booked {
                    question: listing.question.clone(),
                    by: KeyName::parse(if dice.maybe(6) { "other" } else { "desk" }).unwrap(),
                    since_unix: dice.pick(&[0, NOW - HOUR, NOW - DAY + 1, u64::MAX]),
                    from_unix: dice.pick(&[0, 0, NOW - 1, NOW, NOW + 1]),
                    expires_unix: dice.pick(&[None, None, Some(NOW), Some(NOW - 1)]),
                });
            }
        }
        let listed_unix = dice.pick(&[NOW - HOUR, NOW - HOUR - 1, NOW + 1]);
        let hits = u32::from(dice.maybe(5));
        facts.screening =
            (!dice.maybe(4)).then_some(Screening { digest: [0; 32], listed_unix, hits });
        let at_unix = dice.pick(&[NOW - DAY, NOW - DAY - 1]);
        facts.books = (!dice.maybe(4)).then_some(Books { height: 1, at_unix });
    }

    /// Does one thing to a request, usually something that must not be.
    fn turn(&self, case: &mut Case, what: usize, dice: &mut Dice) {
        let Case { intent, facts, now, .. } = case;
        let units = dice.pick(&[0, 1, 999, 200_000, u128::MAX - 1, u128::MAX]);
        let amount = Amount::from_units(units);
        let (small, few) = (u32::try_from(dice.below(256)).unwrap(), dice.below(5));
        let byte = u8::try_from(small).unwrap();
        let position = dice.below(intent.transfers.len().max(1));
        match what {
            0 => intent.caller = ClientName::parse(dice.pick(&CALLERS)).unwrap(),
            1 => {
                let lane = dice.pick(&["sweep", "withdraw", "tidy", "escape", "boost", "other"]);
                intent.lane = LaneName::parse(lane).unwrap();
            }
            2 => intent.wallet = wallet(dice.pick(&["deposits", "hot", "cold"])),
            3 => intent.slots.iter_mut().for_each(|slot| slot.id = slot_id(byte % 2)),
            4 => intent.slots.clear(),
            5 => intent.slots.iter_mut().take(1).for_each(|slot| slot.amount = amount),
            6 => intent.fee.asset = AssetId::parse("eip155:1/slip44:60").unwrap(),
            7 => intent.fee.amount = amount,
            8 => intent.fee.vsize = u64::try_from(units).unwrap_or(u64::MAX),
            9 => intent.transfers.push(change(small % 12, 0)),
            10 => intent.transfers.extend((0..small % 12).map(|_| change(0, 1))),
            11 => intent.transfers.push(foreign(byte % 4, units)),
            12 => intent.transfers.push(cold(dice.pick(&["cold", "vault", "lost"]), 0, units)),
            13 => intent.orders.truncate(few),
            14 => intent.orders.extend(intent.orders.first().cloned()),
            15 => intent.orders.push(self.strange.clone()),
            16 => *now += u64::from(small) * 30,
            17 => facts.uses.push(used_before(0, "sweep", &[])),
            18 => {
                let void = dice.maybe(3);
                facts
                    .uses
                    .push(EarlierUse { void, ..used_before(1, "withdraw", &IDS[..few.min(4)]) });
            }
            19 => facts.repriced.push(slot_id(byte)),
            20 => facts.answers.truncate(few),
            21 => facts.answers.extend(facts.answers.first().cloned()),
            22 => facts.indexes.truncate(few),
            23 => facts.indexes.extend(facts.indexes.first().cloned()),
            24 => facts.orders.truncate(few),
            25 => facts.orders.extend(facts.orders.first().cloned()),
            26 => facts.indexes.iter_mut().for_each(|i| i.proven_below = None),
            27 => facts.indexes.iter_mut().for_each(|i| i.proven_below = Some(small)),
            28 => facts.indexes.iter_mut().for_each(|i| {
                i.last_used = Some(u32::MAX - small);
                i.used_a_day_ago = i.last_used;
            }),
            29 => facts.orders.iter_mut().for_each(|history| {
                history.versions = small % 3;
                history.released = small.is_multiple_of(2);
                history.same_content = small < 200;
                history.conflicts_with_all = !small.is_multiple_of(5);
            }),
            30..=33 => {
                let Some(output) = intent.transfers.get_mut(position) else { return };
                turn_output(output, what, byte, amount, dice.pick(&IDS));
            }
            34 => facts.most_versions = small,
            35 => facts.freezes = (!dice.maybe(4)).then(|| freezes(dice)),
            36 => {
                facts.rejections = None;
                facts.vetoes = dice.maybe(2).then(Vec::new);
            }
            37 => facts.clock = None,
            40 => facts.parents.truncate(few),
            41 => facts.parents.iter_mut().for_each(|p| (p.fee, p.vsize) = (amount, small.into())),
            38 => listings(&mut facts.listings, few),
            _ => facts.answers.iter_mut().for_each(|answer: &mut Answer| answer.others = amount),
        }
    }
}

/// What is out was for the same orders, whichever key signed them.
fn of_its_orders(uses: &mut [EarlierUse], intent: &Intent) {
    for earlier in uses {
        earlier.orders = intent.orders.iter().map(VerifiedOrder::reference).collect();
    }
}

/// Signed before on the lane of bumps, given out or not.
fn maybe_out(dice: &mut Dice, ids: &[&str]) -> EarlierUse {
    let fee = Amount::from_units(dice.pick(&[4_998, 4_999, 5_000, 20_000]));
    let (released, lane) = (dice.maybe(2), if dice.maybe(6) { "escape" } else { "boost" });
    EarlierUse { fee, released, covers: false, ..used_before(0, lane, ids) }
}

fn parent_of(slot: SlotId, dice: &mut Dice) -> Parent {
    let fee = Amount::from_units(dice.pick(&[1_000, 2_000, 3_000, 7_001]));
    let (id, vsize) = ([dice.pick(&[1, 2]); 32], dice.pick(&[100, 150, 400]));
    let lane =
        dice.pick(&[None, None, None, None, None, Some("tidy"), Some("boost"), Some("gone")]);
    let unordered = lane.map(|lane| LaneName::parse(lane).unwrap());
    Parent { slot, id, fee, vsize, unordered }
}

/// An output for an order, to the unit.
fn paid(script: u8, order: &VerifiedOrder) -> Transfer {
    let amount = order.order().amount.units();
    crate::common::transfer(amount, external(script, Some(order.reference())))
}

fn wallet(name: &str) -> WalletName {
    WalletName::parse(name).unwrap()
}

fn turn_output(output: &mut Transfer, what: usize, byte: u8, amount: Amount, id: &str) {
    match what {
        30 => output.amount = amount,
        31 => output.to = external(byte % 3, Some(by_shop(id))),
        32 => output.to = Destination::Change { index: byte.into() },
        _ => output.asset = AssetId::parse("eip155:1/slip44:60").unwrap(),
    }
}

fn freezes(dice: &mut Dice) -> Vec<Freeze> {
    let scopes = [
        FreezeScope::Everything,
        FreezeScope::Evacuation,
        FreezeScope::Wallet(wallet("hot")),
        FreezeScope::Lane(LaneName::parse("sweep").unwrap()),
        FreezeScope::Client(ClientName::parse("payout-desk").unwrap()),
        FreezeScope::Slot(slot_id(1)),
    ];
    let officer = KeyName::parse("ada").unwrap();
    vec![Freeze { scope: dice.pick(&scopes), officer, at_unix: NOW }]
}

fn listings(listings: &mut Vec<Listing>, how: usize) {
    match how {
        0 => listings.clear(),
        1 => listings.extend(listings.first().cloned()),
        _ => {
            let unknown = Listed { label: "unknown".to_owned(), since_unix: 0 };
            listings.iter_mut().take(1).for_each(|l| l.entries.push(unknown.clone()));
        }
    }
}
