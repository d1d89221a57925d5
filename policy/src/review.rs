//! What a policy does not say aloud: five fixed claims, each with a counter-example where it is not proven, and rules that
//! do nothing or less than they seem to. It never decides, and knows no time.

mod people;
mod grants;
mod money;
mod reach;
mod time;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::conditions::{List, Require, When};
use crate::facts::Stated;
use crate::grant::Grant;
use crate::names::{ClientName, KeyName, LaneName, ListName, RuleName, WalletName};
use crate::people::Quorum;
use crate::rules::{Lane, LaneKind, Rules, Tier};

pub use time::{dead, maturing};

/// A claim about every policy one would like to sign.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// What is claimed.
    pub text: &'static str,
    /// A request or a part that shows the claim false, or not proven; `None`: it holds.
    pub counter_example: Option<String>,
}

/// The five claims, always in this order. The second and the third hold for every policy that is read at all: a lane without
/// budget or limits is refused. They stand here so that whoever signs sees them.
#[must_use]
pub fn claims(rules: &Rules) -> [Claim; 5] {
    let claim = |text, counter_example| Claim { text, counter_example };
    let lanes = rules.lanes();
    let budget = lanes.iter().find(|lane| lane.fee_budget.is_empty());
    let limit = lanes
        .iter()
        .find(|lane| matches!(&lane.kind, LaneKind::Withdraw { limits, .. } if limits.is_empty()));
    let named = |lane: &Lane| format!("lane \"{}\"", lane.name);
    [
        claim(
            "nobody who is on no list is paid without approvals",
            lanes.iter().find_map(|lane| unattended(lane, rules)),
        ),
        claim("every lane has a fee budget", budget.map(named)),
        claim(
            "every lane that pays others anew has a limit over time on what they get (the fees are under its fee budget)",
            limit.map(named),
        ),
        claim("nobody approves what they ordered", unheld(rules)),
        claim("evacuation reaches cold storage only", warm(rules)),
    ]
}

/// A payout that needs no approval: the smallest, to somebody nobody knows, with nothing paid before.
fn unattended(lane: &Lane, rules: &Rules) -> Option<String> {
    let paths = lane.clients.iter().flat_map(|grant| {
        let order_keys = lane.bringable(grant, rules);
        lane.spendable(grant).flat_map(move |wallet| {
            let paths = order_keys.iter().map(|key| (&grant.client, wallet, *key));
            paths.collect::<Vec<_>>()
        })
    });
    let again = if matches!(lane.kind, LaneKind::Bump { .. }) { " once more" } else { "" };
    for (client, wallet, key) in paths {
        let about = |when: &When| when.is_always_about(&lane.name, client, wallet, key);
        let asked = |require: &&Require| {
            require.approvals.is_some() && require.expires_unix.is_none() && about(&require.when)
        };
        let denied = rules.denies().iter().any(|d| d.expires_unix.is_none() && about(&d.when));
        if !denied && !rules.requires().iter().any(|require| asked(&require)) {
            return Some(format!(
                "lane \"{}\": \"{client}\" has an order by \"{key}\" paid{again} from \"{wallet}\", of the least that can be \
                 paid, to somebody on no list",
                lane.name
            ));
        }
    }
    None
}

impl When {
    /// Whether it holds for every payment on this path to somebody on no list, however small.
    fn is_always_about(
        &self,
        lane: &LaneName,
        client: &ClientName,
        wallet: &WalletName,
        key: &KeyName,
    ) -> bool {
        about(&self.lanes, lane)
            && about(&self.clients, client)
            && about(&self.wallets, wallet)
            && about(&self.order_keys, key)
            && self.destinations.as_ref().is_none_or(|to| !to.listed)
            && self.above.is_none()
            && self.asks_no_facts()
    }

    fn asks_no_facts(&self) -> bool {
        self.unscreened_seconds.is_none() && self.unbalanced_seconds.is_none()
    }
}

/// An officer who orders never counts, if it is said which key is whose.
fn unheld(rules: &Rules) -> Option<String> {
    let paid = |lane: &Lane, name: &KeyName| {
        lane.clients.iter().any(|grant| lane.bringable(grant, rules).contains(&name))
    };
    let asks = rules.requires().iter().any(|require| require.approvals.is_some());
    let mut unheld = rules.order_keys().iter().filter(|key| key.officer.is_none());
    let key = unheld.find(|key| asks && rules.lanes().iter().any(|lane| paid(lane, &key.name)))?;
    Some(format!("order key \"{}\" says of no officer that they hold it", key.name))
}

fn warm(rules: &Rules) -> Option<String> {
    let warm = |lane: &&Lane| match &lane.kind {
        LaneKind::Evacuate { cold, .. } => {
            rules.wallet(cold).is_none_or(|wallet| wallet.tier != Tier::Cold)
        }
        _ => false,
    };
    rules.lanes().iter().find(warm).map(|lane| format!("lane \"{}\"", lane.name))
}

/// Everything that has an end, soonest first: Unix seconds, and what it is.
#[must_use]
pub fn ends(rules: &Rules) -> Vec<(u64, String)> {
    let clients = rules.clients().iter();
    let clients = clients.map(|c| (c.expires_unix, format!("client \"{}\"", c.name)));
    let keys = rules.order_keys().iter();
    let keys = keys.map(|key| (key.expires_unix, format!("order key \"{}\"", key.name)));
    let lanes = rules.lanes().iter();
    let lanes = lanes.map(|lane| (lane.expires_unix, format!("lane \"{}\"", lane.name)));
    let grants = rules.lanes().iter().flat_map(|lane| {
        let text = |grant: &Grant| format!("client \"{}\" on lane \"{}\"", grant.client, lane.name);
        lane.clients.iter().map(move |grant| (grant.expires_unix, text(grant)))
    });
    let entries = rules.lists().iter().flat_map(|list| {
        let text = |label: &str| format!("\"{label}\" of list \"{}\"", list.name);
        list.entries.iter().map(move |entry| (entry.expires_unix, text(&entry.label)))
    });
    let facts = Stated::ALL.into_iter().flat_map(|(stated, what)| {
        let keys = rules.fact_keys(stated).iter();
        keys.map(move |key| (key.expires_unix, format!("{what} \"{}\"", key.name)))
    });
    let limits = rules.limits().iter();
    let limits = limits.map(|limit| (limit.expires_unix, format!("limit \"{}\"", limit.name)));
    let asked = rules.requires().iter();
    let asked = asked.map(|rule| (rule.expires_unix, format!("requirement \"{}\"", rule.name)));
    let denies = rules.denies().iter();
    let denies = denies.map(|deny| (deny.expires_unix, format!("denial \"{}\"", deny.name)));
    let all = clients
        .chain(keys)
        .chain(lanes)
        .chain(grants)
        .chain(entries)
        .chain(facts)
        .chain(limits)
        .chain(asked);
    let mut ends: Vec<_> = all.chain(denies).filter_map(|(end, what)| Some((end?, what))).collect();
    ends.sort();
    ends
}

/// What looks like more than it is, a sentence each.
#[must_use]
pub fn remarks(rules: &Rules) -> Vec<String> {
    let mut said = people::remarks(rules);
    let rules_and_whens = rules.requires().iter().map(|r| (&r.name, &r.when));
    let rules_and_whens = rules_and_whens.chain(rules.denies().iter().map(|d| (&d.name, &d.when)));
    for (name, when) in rules_and_whens {
        let mut lanes = rules.lanes().iter().filter(|lane| when.can_be_about(lane)).peekable();
        if lanes.peek().is_none() {
            said.push(format!(
                "\"{name}\" is about nothing: no lane that it names has its wallets, clients and order keys"
            ));
        } else if !lanes.any(|lane| when.can_be_above(lane)) {
            said.push(format!(
                "\"{name}\" never holds: no lane that it is about lets so much leave with one transaction"
            ));
        }
    }
    said.extend(grants::remarks(rules));
    said.extend(money::remarks(rules));
    said.extend(rules.shared_seeds().map(|(sealed, other)| {
        format!(
            "wallets \"{sealed}\" (sealed-hd) and \"{other}\" (token-hd) name one master key: whoever gets the sealed account may have both. Make the sealed one anew, with a seed of its own"
        )
    }));
    said.extend(time::never_open(rules));
    said.extend(unstated(rules));
    said.extend(books(rules));
    let used = used_lists(rules);
    let idle = rules.lists().iter().filter(|list| !used.contains(&list.name));
    said.extend(idle.map(|list| format!("list \"{}\" is asked by no rule", list.name)));
    let mut asked: BTreeSet<_> = quorums(rules).flat_map(|(_, quorum)| quorum.groups()).collect();
    let mut vetoes: BTreeSet<_> = rules.requires().iter().filter_map(|r| r.veto.as_ref()).collect();
    if let Some(governance) = rules.governance() {
        asked.extend(governance.tighten.groups().chain(governance.change.groups()));
        asked.extend(governance.administer.iter().flat_map(|quorum| quorum.groups()));
        asked.extend(governance.unbind.iter().flat_map(|quorum| quorum.groups()));
        asked.extend(governance.recover.iter().flat_map(|one| one.quorum.groups()));
        vetoes.extend(&governance.veto);
    }
    asked.extend(rules.unfreeze().into_iter().flat_map(|quorum| quorum.groups()));
    let idle = rules.groups().iter().map(|group| &group.name);
    let idle = idle.filter(|name| !asked.contains(name) && !vetoes.contains(name));
    said.extend(idle.map(|name| format!("group \"{name}\" is asked for nothing")));
    said
}

/// Facts that rules ask for, and nobody may state.
fn unstated(rules: &Rules) -> Vec<String> {
    let whens = || {
        let denies = rules.denies().iter().map(|deny| &deny.when);
        rules.requires().iter().map(|require| &require.when).chain(denies)
    };
    let requires = || rules.requires().iter();
    let screened = requires().any(|r| r.screened_seconds.is_some())
        || whens().any(|when| when.unscreened_seconds.is_some());
    let balanced = requires().any(|r| r.books_seconds.is_some())
        || whens().any(|when| when.unbalanced_seconds.is_some());
    [(screened, Stated::Sanctions, "screener"), (balanced, Stated::Books, "reconciler")]
        .into_iter()
        .filter(|(asked, stated, _)| *asked && rules.fact_keys(*stated).is_empty())
        .map(|(_, _, who)| format!("rules ask for what a [[{who}]] states, and there is none"))
        .collect()
}

/// Address books that are open to one key at once, or to none.
fn books(rules: &Rules) -> Vec<String> {
    let open = |list: &&List| !list.book_keys.is_empty() && list.matures_seconds == 0;
    let open = rules.lists().iter().filter(open).map(|list| {
        format!(
            "list \"{}\" has no maturing time: whom one book key attests is on it at once",
            list.name
        )
    });
    let idle = rules.fact_keys(Stated::Book).iter();
    let idle = idle.filter(|key| rules.lists().iter().all(|l| !l.book_keys.contains(&key.name)));
    let idle = idle.map(|key| format!("book key \"{}\" adds to no list", key.name));
    open.chain(idle).collect()
}

fn quorums(rules: &Rules) -> impl Iterator<Item = (RuleName, &Quorum)> {
    let requires = rules.requires().iter();
    let requires = requires.filter_map(|r| Some((r.name.clone(), r.approvals.as_ref()?)));
    let lanes = rules.lanes().iter().filter_map(|lane| match &lane.kind {
        LaneKind::Evacuate { approvals, .. } => Some((RuleName::of_lane(&lane.name), approvals)),
        _ => None,
    });
    requires.chain(lanes)
}

fn used_lists(rules: &Rules) -> BTreeSet<&ListName> {
    let whens = rules.requires().iter().map(|require| &require.when);
    let whens = whens.chain(rules.denies().iter().map(|deny| &deny.when));
    whens.filter_map(|when| when.destinations.as_ref()).flat_map(|to| &to.lists).collect()
}

fn about<T: PartialEq>(wanted: &[T], found: &T) -> bool {
    wanted.is_empty() || wanted.contains(found)
}

fn meets<T: PartialEq>(wanted: &[T], found: &[T]) -> bool {
    wanted.is_empty() || found.iter().any(|one| wanted.contains(one))
}
