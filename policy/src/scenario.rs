//! Tests of a policy: one request a line, and what must come of it, e.g. `deny frozen: pay 1 BTC, frozen everything`.
//! What is made up here never leaves it: no line gives leave to sign anything.

mod request;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::decide::{Decision, decide};
use crate::evidence::{
    Answer, Approval, Booked, Books, EarlierUse, Evidence, Freeze, FreezeScope, IndexUse, Listed,
    Listing, Measure, Objection, OrderHistory, Parent, Screening,
};
use crate::intent::{Destination, Intent, SlotId, Transfer};
use crate::names::{ClientName, KeyName, LaneName, WalletName};
use crate::order::{OrderRef, VerifiedOrder};
use crate::rules::Rules;
use asset::Amount;
use asset::unit::BITCOIN_UNITS;
use request::Request;

/// Monday, 29 December 2025, 00:00 UTC: the week that all lines are in.
const MONDAY: u64 = 1_766_966_400;
const WEEK: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const HOUR: u64 = 3_600;

/// What a line expects, and what came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// `allow`, or `wait` or `deny` with codes.
    pub expected: String,
    /// The same of the decision.
    pub found: String,
}

/// Runs one line: what is expected, a colon, what is asked for, and more after commas. `docs/policy.md` says what can
/// stand there.
///
/// # Errors
/// What of the line cannot be read.
pub fn run(rules: &Rules, line: &str) -> Result<Outcome, String> {
    let unreadable = || "write e.g. \"deny frozen: pay 1 BTC, frozen everything\"".to_string();
    let (expected, said) = line.split_once(": ").ok_or_else(unreadable)?;
    let mut clauses = said.split(", ");
    let request = clauses.next().ok_or_else(unreadable)?;
    let clauses: Vec<(&str, &str)> = clauses
        .map(|clause| clause.split_once(' ').ok_or_else(|| format!("\"{clause}\" says nothing")))
        .collect::<Result<_, _>>()?;
    let mut scene = Scene::new(rules, request, &clauses)?;
    for (word, rest) in clauses {
        scene
            .clause(rules, word, rest)
            .ok_or_else(|| format!("\"{word} {rest}\" cannot be read"))?;
    }
    Ok(Outcome { expected: expected.to_string(), found: scene.decide(rules) })
}

/// A request and what a log might say of it.
struct Scene {
    intent: Intent,
    now_unix: u64,
    answers: Vec<Answer>,
    listings: Vec<Listing>,
    freezes: Vec<Freeze>,
    rejections: Vec<Objection>,
    vetoes: Vec<Objection>,
    held_at: Option<u64>,
    rest: Evidence,
}

impl Scene {
    fn new(rules: &Rules, request: &str, clauses: &[(&str, &str)]) -> Result<Self, String> {
        let said = |word: &str| clauses.iter().find(|(w, _)| *w == word).map(|(_, rest)| *rest);
        let now_unix = time(said("on").unwrap_or("mon 10:00"))
            .ok_or("write a time like \"on sat 12:00\", in UTC")?;
        let cannot = || format!("\"{request}\" cannot be read: write e.g. \"pay 1 BTC to bob\"");
        let (verb, rest) = request.split_once(' ').ok_or_else(cannot)?;
        let (amount, to) =
            rest.split_once(" to ").map_or((rest, None), |(amount, to)| (amount, Some(to)));
        let amount = Amount::parse_with(amount, &BITCOIN_UNITS).map_err(|e| e.to_string())?;
        let lane = request::lane(rules, verb, said("over"))?;
        let asked = Request { verb, amount, to, now_unix };
        let intent = asked.intent(rules, lane, said).ok_or_else(cannot)?;
        let zero = |question| Answer { question, others: Amount::ZERO, own_set: Amount::ZERO };
        let unlisted = |question| Listing { question, entries: Vec::new() };
        let mut scene = Self {
            now_unix,
            answers: Vec::new(),
            listings: Vec::new(),
            freezes: Vec::new(),
            rejections: Vec::new(),
            vetoes: Vec::new(),
            held_at: None,
            rest: Evidence::from_ledger().orders(histories(&intent)).indexes(indexes(&intent)),
            intent,
        };
        if verb == "bump" || verb == "carry" {
            scene.went_out(Amount::from_units(1_000));
        }
        scene.answers = rules.questions(&scene.intent).into_iter().map(zero).collect();
        scene.listings = rules.list_questions(&scene.intent).into_iter().map(unlisted).collect();
        Ok(scene)
    }

    /// Takes in one more thing; none if it cannot be read.
    fn clause(&mut self, rules: &Rules, word: &str, rest: &str) -> Option<()> {
        let now = self.now_unix;
        let ago = |text: &str| now.checked_sub(seconds(text)?);
        match word {
            // Done before.
            "on" | "from" | "client" | "over" | "fee" | "keeping" | "ordered" => {}
            "earlier" => match rest.strip_prefix("count ") {
                Some(count) => {
                    let count = count.parse::<u64>().ok()?;
                    self.earlier(&[Measure::Count], Amount::from_units(count.into()));
                }
                None => self.earlier(&[Measure::Leaving, Measure::External], amount(rest)?),
            },
            "after" => self.went_out(amount(rest.strip_prefix("paying ")?)?),
            "fees" => self.earlier(&[Measure::Fees], amount(rest.strip_prefix("earlier ")?)?),
            "approved" => {
                let approval = |officer| Approval {
                    officer,
                    at_unix: now,
                    expires_unix: now.saturating_add(HOUR),
                };
                let all = names(rest)?.into_iter().map(approval).collect();
                self.rest = core::mem::take(&mut self.rest).approvals(all);
            }
            "rejected" => self.rejections = objections(rest, now)?,
            "vetoed" => self.vetoes = objections(rest, now)?,
            "waited" => {
                let asked = ago(rest)?;
                self.rest = core::mem::take(&mut self.rest).asked_unix(Some(asked));
            }
            "clock" => self.held_at = Some(ago(rest.strip_prefix("in doubt for ")?)?),
            "frozen" => {
                let officer = KeyName::parse("somebody").ok()?;
                self.freezes.push(Freeze { scope: scope(rest)?, officer, at_unix: now });
            }
            "listed" => {
                let (label, rest) = rest.split_once(" of ")?;
                let (list, since) = rest.split_once(" for ")?;
                let (label, since_unix) = (label.to_string(), ago(since)?);
                let asked = |l: &&mut Listing| l.question.list.as_str() == list;
                let listing = self.listings.iter_mut().find(asked)?;
                listing.entries.push(Listed { label, since_unix });
            }
            "booked" => {
                let (_label, rest) = rest.split_once(" of ")?;
                let (list, since) = rest.split_once(" for ")?;
                let since_unix = ago(since)?;
                let question = self.listings.iter().map(|listing| &listing.question);
                let question = question.into_iter().find(|q| q.list.as_str() == list)?.clone();
                let keys = &rules.list(&question.list)?.book_keys;
                let (by, from_unix, expires_unix) = (keys.first()?.clone(), 0, None);
                let booked = Booked { question, by, since_unix, from_unix, expires_unix };
                self.rest = core::mem::take(&mut self.rest).booked([booked].into());
            }
            "screened" => {
                let (made, hit) = rest.split_once(" ago")?;
                let hits = u32::from(hit == " with a hit");
                let listed_unix = ago(made)?;
                let screening = Screening { digest: [0; 32], listed_unix, hits };
                self.rest = core::mem::take(&mut self.rest).screening(Some(screening));
            }
            "balanced" => {
                let books = Books { height: 1, at_unix: ago(rest.strip_suffix(" ago")?)? };
                self.rest = core::mem::take(&mut self.rest).books(Some(books));
            }
            _ => return None,
        }
        Some(())
    }

    /// What the request replaces, or whose change it spends, paid this.
    fn went_out(&mut self, fee: Amount) {
        let slots = self.intent.slots.iter().map(|slot| slot.id);
        let parent = |slot| Parent { slot, id: [1; 32], fee, vsize: 200, unordered: None };
        let parents = slots.map(parent).collect();
        let orders: Vec<OrderRef> =
            self.intent.orders.iter().map(VerifiedOrder::reference).collect();
        let lane = self.intent.lane.clone();
        let (slot, released, covers, void) = (SlotId([1; 36]), true, true, false);
        let used = EarlierUse { slot, lane, orders, fee, released, covers, void };
        let mut known = histories(&self.intent);
        for history in &mut known {
            (history.versions, history.released) = (1, true);
        }
        let rest = core::mem::take(&mut self.rest).orders(known);
        self.rest = match self.intent.orders.is_empty() {
            true => rest.parents(parents),
            false => rest.uses([used].into()),
        };
    }

    fn earlier(&mut self, measures: &[Measure], others: Amount) {
        let asked = self.answers.iter_mut().filter(|a| measures.contains(&a.question.measure));
        asked.for_each(|answer| answer.others = others);
    }

    /// The decision, as a line would expect it.
    fn decide(self, rules: &Rules) -> String {
        let evidence = self.rest.answers(self.answers).listings(self.listings);
        let evidence = evidence.freezes(self.freezes).rejections(self.rejections);
        let evidence = evidence.vetoes(self.vetoes).time_held(self.held_at);
        let (verdict, mut codes): (_, Vec<crate::RuleId>) =
            match decide(&self.intent, &evidence, rules, self.now_unix) {
                Decision::Allow(_) => ("allow", Vec::new()),
                Decision::Await(waiting) => {
                    ("wait", waiting.requirements.iter().map(crate::Requirement::rule_id).collect())
                }
                Decision::Deny(denial) => ("deny", denial.reasons.iter().map(|f| f.rule).collect()),
            };
        codes.sort();
        codes.dedup();
        let codes = codes.into_iter().map(crate::RuleId::code);
        core::iter::once(verdict).chain(codes).collect::<Vec<_>>().join(" ")
    }
}

fn histories(intent: &Intent) -> Vec<OrderHistory> {
    let history = |order: &VerifiedOrder| OrderHistory {
        order: order.reference(),
        versions: 0,
        released: false,
        conflicts_with_all: true,
        same_content: true,
    };
    intent.orders.iter().map(history).collect()
}

fn indexes(intent: &Intent) -> Vec<IndexUse> {
    let index = |wallet: &WalletName, change: bool| IndexUse {
        wallet: wallet.clone(),
        change,
        last_used: None,
        used_a_day_ago: None,
        proven_below: change.then_some(1),
    };
    let branch = |transfer: &Transfer| match &transfer.to {
        Destination::Cold { wallet, .. } => Some(index(wallet, false)),
        Destination::Change { .. } => Some(index(&intent.wallet, true)),
        Destination::External { .. } => None,
    };
    let mut branches: Vec<IndexUse> = Vec::new();
    for branch in intent.transfers.iter().filter_map(branch) {
        if !branches.contains(&branch) {
            branches.push(branch);
        }
    }
    branches
}

fn amount(text: &str) -> Option<Amount> {
    Amount::parse_with(text, &BITCOIN_UNITS).ok()
}

fn names(text: &str) -> Option<Vec<KeyName>> {
    text.strip_prefix("by ")?.split(' ').map(|name| KeyName::parse(name).ok()).collect()
}

fn objections(text: &str, at_unix: u64) -> Option<Vec<Objection>> {
    Some(names(text)?.into_iter().map(|officer| Objection { officer, at_unix }).collect())
}

fn scope(text: &str) -> Option<FreezeScope> {
    Some(match text.split_once(' ') {
        None if text == "everything" => FreezeScope::Everything,
        None if text == "evacuation" => FreezeScope::Evacuation,
        // The first that is spent.
        None if text == "coin" => FreezeScope::Slot(SlotId([1; 36])),
        Some(("wallet", name)) => FreezeScope::Wallet(WalletName::parse(name).ok()?),
        Some(("lane", name)) => FreezeScope::Lane(LaneName::parse(name).ok()?),
        Some(("client", name)) => FreezeScope::Client(ClientName::parse(name).ok()?),
        _ => return None,
    })
}

/// `90m`, also `0h`.
fn seconds(text: &str) -> Option<u64> {
    let units = [("s", 1), ("m", 60), ("h", HOUR), ("d", 24 * HOUR)];
    let unit = |(suffix, unit): (&str, u64)| Some((text.strip_suffix(suffix)?, unit));
    let (number, unit) = units.into_iter().find_map(unit)?;
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// `sat 12:00`, in the week of all lines.
fn time(text: &str) -> Option<u64> {
    let (day, clock) = text.split_once(' ')?;
    let (hours, minutes) = clock.split_once(':')?;
    let day = u64::try_from(WEEK.iter().position(|known| *known == day)?).ok()?;
    let hours = hours.parse::<u64>().ok().filter(|hours| *hours < 24)?;
    let minutes = minutes.parse::<u64>().ok().filter(|minutes| *minutes < 60)?;
    let into = day.checked_mul(24 * HOUR)?.checked_add(hours.checked_mul(HOUR)?)?;
    MONDAY.checked_add(into)?.checked_add(minutes.checked_mul(60)?)
}
