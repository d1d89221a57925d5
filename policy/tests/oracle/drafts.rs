//! Random policies: typed for the oracle, and as text for the code under test.

use policy::names::ListName;

use crate::common::{Case, DAY, HOUR, Knobs, NOW, officer, people, public};
use crate::dice::Dice;
use crate::facts::seated;

/// One policy and one request under it, with what the log says.
#[derive(Clone, Debug)]
pub struct World {
    pub draft: Draft,
    pub case: Case,
}

#[derive(Clone, Debug)]
pub struct Draft {
    pub knobs: Knobs,
    pub lanes: Vec<Lane>,
    /// The officer who holds the shop's key.
    pub holder: Option<&'static str>,
    /// An officer whose yes counts no more.
    pub revoked: Option<&'static str>,
    pub lists: Vec<List>,
    pub limits: Vec<Limit>,
    pub requires: Vec<Require>,
    pub denies: Vec<Deny>,
    pub escape: Quorum,
}

/// What a lane has, and who may do how much of it.
#[derive(Clone, Debug)]
pub struct Lane {
    pub name: &'static str,
    pub wallets: Vec<&'static str>,
    /// By which keys it pays orders.
    pub keys: Vec<&'static str>,
    pub grants: Vec<Grant>,
}

#[derive(Clone, Debug)]
pub struct Grant {
    pub client: &'static str,
    pub wallets: Option<Vec<&'static str>>,
    pub keys: Option<Vec<&'static str>>,
    pub ends: Option<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct When {
    pub lanes: Vec<&'static str>,
    pub wallets: Vec<&'static str>,
    pub clients: Vec<&'static str>,
    pub keys: Vec<&'static str>,
    /// Listed or not, on which lists.
    pub lists: Option<(bool, Vec<usize>)>,
    pub above: Option<(u128, Option<(u64, &'static str)>)>,
    pub unscreened: Option<u64>,
    pub unbalanced: Option<u64>,
}

#[derive(Clone, Debug)]
pub struct List {
    pub name: String,
    pub matures: u64,
    /// Whether the desk's address book adds to it.
    pub book: bool,
    /// Labels, and when each ends.
    pub entries: Vec<(String, u64)>,
}

#[derive(Clone, Debug)]
pub struct Limit {
    pub lanes: Vec<&'static str>,
    pub by: &'static str,
    pub window: u64,
    pub sum: Option<u128>,
    pub count: Option<u128>,
    pub ends: u64,
}

#[derive(Clone, Debug)]
pub struct Require {
    pub when: When,
    pub approvals: Option<Quorum>,
    pub delay: Option<u64>,
    pub veto: Option<&'static str>,
    pub hours: Vec<Hours>,
    pub screened: Option<u64>,
    pub books: Option<u64>,
    pub ends: u64,
}

#[derive(Clone, Debug)]
pub struct Deny {
    pub when: When,
    pub ends: u64,
}

#[derive(Clone, Debug)]
pub struct Quorum {
    /// How many of which groups.
    pub ways: Vec<Vec<(usize, Vec<&'static str>)>>,
    pub per_domain: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct Hours {
    pub days: [bool; 7],
    /// Minutes of the day.
    pub from: i64,
    pub to: i64,
    pub offset: i64,
}

const PEOPLE: [(&str, &str, &str); 5] = [
    ("ada", "zurich", "treasury"),
    ("bob", "zurich", "treasury"),
    ("cyd", "oslo", "treasury"),
    ("dan", "oslo", "risk"),
    ("eve", "lima", "risk"),
];
/// How many of which groups.
type Way = &'static [(usize, &'static [&'static str])];

/// Attainable by the people above, one of a domain or not.
const QUORUMS: [&[Way]; 7] = [
    &[&[(1, &["treasury"])]],
    &[&[(2, &["treasury"]), (1, &["risk"])]],
    &[&[(2, &["treasury", "risk"])]],
    &[&[(1, &["risk"])], &[(2, &["treasury"])]],
    &[&[(1, &["risk"]), (1, &["risk", "treasury"])]],
    &[&[(1, &["all"]), (1, &["treasury"])]],
    &[&[(1, &["treasury"]), (1, &["all", "risk"])], &[(3, &["all"])]],
];
/// Each with a client and a wallet that sound requests name.
const LANES: [(&str, &str, &str); 5] = [
    ("sweep", "watcher-1", "deposits"),
    ("withdraw", "payout-desk", "hot"),
    ("tidy", "payout-desk", "hot"),
    ("escape", "payout-desk", "hot"),
    ("boost", "payout-desk", "hot"),
];
const BYS: [&str; 7] = ["orderer", "client", "wallet", "destination", "lane", "asset", "global"];
const WEEK: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
/// In what leaves: half a million, more or less.
pub const SUMS: [u128; 5] = [205_000, 505_000, 1_000_000, 3_000_000, 3_000_000];
pub const ENDS: [u64; 4] = [u64::MAX, NOW + DAY, NOW, NOW - 1];

impl Draft {
    pub fn random(knobs: Knobs, dice: &mut Dice) -> Self {
        let some = |dice: &mut Dice| dice.below(3);
        let mut draft = Self {
            knobs,
            lanes: LANES.iter().map(|of| granted(*of, dice)).collect(),
            holder: dice.maybe(3).then(|| PEOPLE[dice.below(5)].0),
            revoked: None,
            lists: (0..some(dice)).map(|number| list(number, dice)).collect(),
            limits: vec![],
            requires: vec![],
            denies: vec![],
            escape: quorum(dice),
        };
        draft.limits = (0..some(dice)).map(|_| limit(dice)).collect();
        let lists = draft.lists.len();
        draft.requires = (0..some(dice)).map(|_| require(lists, dice)).collect();
        draft.denies = (0..usize::from(dice.maybe(4))).map(|_| deny(lists, dice)).collect();
        draft.revoked = dice.maybe(3).then(|| PEOPLE[dice.below(5)].0);
        if !draft.is_attainable() {
            // Such a policy is not loaded.
            draft.revoked = None;
        }
        draft.knobs.extra = draft.text(dice);
        draft
    }

    pub fn lane(&self, name: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.name == name)
    }

    pub fn is_in(&self, officer: &str, group: &str) -> bool {
        PEOPLE.iter().any(|(name, _, of)| *name == officer && (*of == group || group == "all"))
    }

    pub fn domain(&self, officer: &str) -> Option<&'static str> {
        PEOPLE.iter().find(|(name, _, _)| *name == officer).map(|person| person.1)
    }

    /// Whether enough people are left for every way of every quorum.
    fn is_attainable(&self) -> bool {
        let left = PEOPLE.iter().map(|person| person.0).filter(|name| Some(*name) != self.revoked);
        let left: Vec<&str> = left.collect();
        let quorums = self.requires.iter().filter_map(|require| require.approvals.as_ref());
        quorums.chain([&self.escape]).all(|quorum| {
            quorum.ways.iter().all(|way| {
                let seats = way.iter().flat_map(|(count, groups)| vec![groups.as_slice(); *count]);
                seated(&seats.collect::<Vec<_>>(), &left, &[], quorum.per_domain, self)
            })
        })
    }

    fn officers(&self) -> String {
        let Some(revoked) = self.revoked else { return people() };
        let name = format!("[[officer]]\nname = \"{revoked}\"\n");
        people().replacen(&name, &format!("{name}revoked = true\n"), 1)
    }

    fn section(&self, kind: &str, name: &str, more: &str) -> String {
        let (lane, fee) = (self.lane(name).unwrap().text(), crate::common::fee_text(&self.knobs));
        format!("[[{kind}]]\nname = \"{name}\"\n{lane}{more}{fee}")
    }

    /// The sections, in any order.
    fn text(&self, dice: &mut Dice) -> String {
        let mut sections = vec![
            self.officers(),
            format!(
                "[[book_key]]\nname = \"desk\"\ned25519 = \"{}\"\n",
                hex::encode(public(&officer(41)))
            ),
            "[[group]]\nname = \"all\"\nmembers = [\"eve\", \"dan\", \"cyd\", \"bob\", \"ada\"]\n"
                .to_owned(),
            self.section("consolidate", "tidy", ""),
            self.section(
                "bump",
                "boost",
                "package = { max_total = \"12000 sat\", max_feerate = \"20 sat/vB\" }\n",
            ),
            self.section("evacuate", "escape", &format!("cold = \"cold\"\n{}", self.escape.text())),
        ];
        sections.extend(self.lists.iter().map(List::text));
        sections.extend(self.limits.iter().enumerate().map(|(n, limit)| limit.text(n)));
        sections.extend(self.requires.iter().enumerate().map(|(n, rule)| rule.text(n, self)));
        for (number, deny) in self.denies.iter().enumerate() {
            let (when, ends) = (deny.when.text(self), ends(deny.ends));
            sections.push(format!("[[deny]]\nname = \"deny-{number}\"\nwhen = {when}\n{ends}"));
        }
        dice.shuffle(&mut sections);
        sections.concat()
    }
}

fn granted(
    (name, client, wallet): (&'static str, &'static str, &'static str),
    dice: &mut Dice,
) -> Lane {
    let mut lane = Lane { name, wallets: vec![wallet], keys: vec![], grants: vec![] };
    if dice.maybe(3) {
        lane.wallets = vec!["hot", "deposits"];
    }
    lane.keys = match name {
        "withdraw" if dice.maybe(3) => vec!["other", "shop"],
        "withdraw" => vec!["shop"],
        "boost" => vec!["shop", "other"],
        _ => vec![],
    };
    lane.grants.push(grant(client, &lane, dice));
    if dice.maybe(4) {
        let other = if client == "watcher-1" { "payout-desk" } else { "watcher-1" };
        lane.grants.push(grant(other, &lane, dice));
        dice.shuffle(&mut lane.grants);
    }
    lane
}

fn grant(client: &'static str, lane: &Lane, dice: &mut Dice) -> Grant {
    let mut part = |of: &[&'static str]| {
        let mut names = of.to_vec();
        dice.shuffle(&mut names);
        names.truncate(1 + dice.below(2));
        (!names.is_empty() && dice.maybe(5)).then_some(names)
    };
    let (wallets, keys) = (part(&lane.wallets), part(&lane.keys));
    Grant { client, wallets, keys, ends: dice.maybe(12).then(|| dice.pick(&ENDS[1..])) }
}

fn list(number: usize, dice: &mut Dice) -> List {
    let entries = (0..=dice.below(2)).map(|n| (format!("entry {n}"), dice.pick(&ENDS)));
    List {
        name: ListName::parse(&format!("list-{number}")).unwrap().to_string(),
        entries: entries.collect(),
        matures: dice.pick(&[0, HOUR, DAY]),
        book: number == 1,
    }
}

fn limit(dice: &mut Dice) -> Limit {
    let both = dice.below(3);
    Limit {
        lanes: lanes(dice),
        by: dice.pick(&BYS),
        window: dice.pick(&[60, DAY]),
        sum: (both != 0).then(|| dice.pick(&SUMS)),
        count: (both != 1).then(|| dice.pick(&[2, 5, 10])),
        ends: dice.pick(&ENDS),
    }
}

fn require(lists: usize, dice: &mut Dice) -> Require {
    let mut require = Require {
        when: when(lists, dice),
        approvals: dice.maybe(2).then(|| quorum(dice)),
        delay: dice.maybe(4).then(|| dice.pick(&[HOUR, DAY])),
        veto: None,
        hours: vec![],
        screened: dice.maybe(6).then_some(HOUR),
        books: dice.maybe(6).then_some(DAY),
        ends: dice.pick(&ENDS),
    };
    let nothing = require.approvals.is_none() && require.delay.is_none();
    if dice.maybe(5) || (nothing && require.screened.is_none() && require.books.is_none()) {
        require.hours = (0..=dice.below(2)).map(|_| hours(dice)).collect();
    }
    if require.delay.is_some() && dice.maybe(2) {
        require.veto = Some(dice.pick(&["treasury", "risk", "all"]));
    }
    require
}

fn deny(lists: usize, dice: &mut Dice) -> Deny {
    let mut when = when(lists, dice);
    if when.lists.is_none() {
        when.above = Some((dice.pick(&SUMS), None));
    }
    Deny { when, ends: dice.pick(&ENDS) }
}

fn when(lists: usize, dice: &mut Dice) -> When {
    let window = (dice.pick(&[60, DAY]), dice.pick(&BYS));
    let above = (dice.pick(&SUMS), dice.maybe(2).then_some(window));
    let mut named: Vec<usize> = (0..lists).collect();
    dice.shuffle(&mut named);
    named.truncate(1 + dice.below(2));
    When {
        lanes: lanes(dice),
        wallets: if dice.maybe(6) { vec![dice.pick(&["hot", "deposits"])] } else { vec![] },
        clients: if dice.maybe(6) {
            vec![dice.pick(&["watcher-1", "payout-desk"])]
        } else {
            vec![]
        },
        keys: if dice.maybe(6) { vec![dice.pick(&["shop", "other"])] } else { vec![] },
        lists: (lists > 0 && dice.maybe(2)).then(|| (dice.maybe(2) && !named.contains(&1), named)),
        above: dice.maybe(2).then_some(above),
        unscreened: dice.maybe(10).then_some(HOUR),
        unbalanced: dice.maybe(10).then_some(DAY),
    }
}

fn lanes(dice: &mut Dice) -> Vec<&'static str> {
    let mut lanes = vec!["sweep", "withdraw", "tidy", "escape", "boost"];
    dice.shuffle(&mut lanes);
    let most = [0, 0, 1, 2, 4];
    lanes.truncate(dice.pick(&most));
    lanes
}

fn quorum(dice: &mut Dice) -> Quorum {
    let share = |(count, groups): &(usize, &[&'static str])| (*count, groups.to_vec());
    let ways = dice.pick(&QUORUMS).iter().map(|way| way.iter().map(share).collect());
    let most = [None, Some(1), Some(2)];
    Quorum { ways: ways.collect(), per_domain: dice.pick(&most) }
}

fn hours(dice: &mut Dice) -> Hours {
    // Now is a Monday, 09:20 UTC.
    let offset: i64 = dice.pick(&[0, 60, -60, 14 * 60, -14 * 60]);
    let now = (9 * 60 + 20 + offset).rem_euclid(1440);
    let from = dice.pick(&[now, (now + 1).min(1438), (now - 30).max(0)]);
    let to = dice.pick(&[now, now + 1, 1440]).max(from + 1);
    let mut days = [false; 7];
    for _ in 0..=dice.below(3) {
        days[dice.pick(&[0, 0, 1, 6, 3])] = true;
    }
    Hours { days, from, to, offset }
}

impl Lane {
    /// As it stands behind the lane's name.
    pub fn text(&self) -> String {
        let grants: Vec<String> = self.grants.iter().map(Grant::text).collect();
        let keys = match self.name {
            "withdraw" => format!("order_keys = {:?}\n", self.keys),
            _ => String::new(),
        };
        format!("clients = [{}]\nwallets = {:?}\n{keys}", grants.join(", "), self.wallets)
    }
}

impl Grant {
    fn text(&self) -> String {
        let name = format!("\"{}\"", self.client);
        let wallets = self.wallets.as_ref().map(|names| format!("wallets = {names:?}"));
        let keys = self.keys.as_ref().map(|names| format!("order_keys = {names:?}"));
        let ends = self.ends.map(|unix| format!("expires_unix = {unix}"));
        let parts: Vec<String> = [wallets, keys, ends].into_iter().flatten().collect();
        if parts.is_empty() { name } else { format!("{{ name = {name}, {} }}", parts.join(", ")) }
    }
}

impl Quorum {
    fn text(&self) -> String {
        let share =
            |(count, groups): &(usize, Vec<&str>)| format!("{count} of {}", groups.join(" + "));
        let way = |way: &Vec<_>| way.iter().map(share).collect::<Vec<_>>().join(" and ");
        let ways: Vec<String> = self.ways.iter().map(way).collect();
        let most =
            self.per_domain.map_or(String::new(), |most| format!("max_per_domain = {most}\n"));
        format!("approvals = \"{}\"\n{most}", ways.join(" or "))
    }
}

impl When {
    fn text(&self, draft: &Draft) -> String {
        let mut parts = vec![];
        for (field, names) in [
            ("lanes", &self.lanes),
            ("wallets", &self.wallets),
            ("clients", &self.clients),
            ("order_keys", &self.keys),
        ] {
            if !names.is_empty() {
                parts.push(format!("{field} = {names:?}"));
            }
        }
        if let Some((listed, lists)) = &self.lists {
            let names: Vec<&str> =
                lists.iter().map(|list| draft.lists[*list].name.as_str()).collect();
            parts.push(format!("{} = {names:?}", if *listed { "listed" } else { "unlisted" }));
        }
        if let Some((amount, window)) = self.above {
            parts.push(format!("above = \"{amount} sat\""));
            parts.extend(window.map(|(s, by)| format!("window = \"{s}s\", by = \"{by}\"")));
        }
        for (field, seconds) in [("unscreened", self.unscreened), ("unbalanced", self.unbalanced)] {
            parts.extend(seconds.map(|seconds| format!("{field} = \"{seconds}s\"")));
        }
        format!("{{ {} }}", parts.join(", "))
    }
}

impl List {
    fn text(&self) -> String {
        let entry = |(number, (label, end)): (usize, &(String, u64))| {
            let end =
                if *end == u64::MAX { String::new() } else { format!(", expires_unix = {end}") };
            format!("{{ label = \"{label}\", script = \"0014{number:02x}\"{end} }}")
        };
        let entries: Vec<String> = self.entries.iter().enumerate().map(entry).collect();
        let matures = match self.matures {
            0 => String::new(),
            seconds => format!("matures = \"{seconds}s\"\n"),
        };
        let (name, entries) = (&self.name, entries.join(", "));
        let book = if self.book { "book_keys = [\"desk\"]\n" } else { "" };
        format!("[[list]]\nname = \"{name}\"\n{matures}{book}entries = [{entries}]\n")
    }
}

impl Limit {
    fn text(&self, number: usize) -> String {
        let lanes = match self.lanes.as_slice() {
            [] => String::new(),
            lanes => format!("lanes = {lanes:?}\n"),
        };
        let sum = self.sum.map_or(String::new(), |sum| format!("sum = \"{sum} sat\"\n"));
        let count = self.count.map_or(String::new(), |count| format!("count = {count}\n"));
        let (by, window, ends) = (self.by, self.window, ends(self.ends));
        format!(
            "[[limit]]\nname = \"limit-{number}\"\nby = \"{by}\"\nwindow = \"{window}s\"\n{lanes}{sum}{count}{ends}"
        )
    }
}

impl Require {
    fn text(&self, number: usize, draft: &Draft) -> String {
        let span = |field: &str, seconds: Option<u64>| {
            seconds.map_or(String::new(), |seconds| format!("{field} = \"{seconds}s\"\n"))
        };
        let hours: Vec<String> = self.hours.iter().map(Hours::text).collect();
        [
            format!("[[require]]\nname = \"require-{number}\"\nwhen = {}\n", self.when.text(draft)),
            self.approvals.as_ref().map_or(String::new(), Quorum::text),
            span("delay", self.delay),
            self.veto.map_or(String::new(), |group| format!("veto = \"{group}\"\n")),
            if hours.is_empty() { String::new() } else { format!("hours = {hours:?}\n") },
            span("screened", self.screened),
            span("books", self.books),
            ends(self.ends),
        ]
        .concat()
    }
}

impl Hours {
    fn text(&self) -> String {
        let days = WEEK.iter().zip(self.days).filter(|(_, open)| *open).map(|(day, _)| *day);
        let clock = |minutes: i64| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let sign = if self.offset < 0 { '-' } else { '+' };
        let (from, to, offset) = (clock(self.from), clock(self.to), clock(self.offset.abs()));
        format!("{} {from}-{to} {sign}{offset}", days.collect::<Vec<_>>().join(","))
    }
}

fn ends(unix: u64) -> String {
    if unix == u64::MAX { String::new() } else { format!("expires_unix = {unix}\n") }
}
