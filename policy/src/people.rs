//! Officers, their groups and what a quorum of them is. It never looks at a signature: whose approvals hold is the
//! log's to say.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

use crate::names::{DomainName, GroupName, KeyName};
pub use crate::officer_key::OfficerKey;

/// A person who may approve, reject, veto or freeze.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Officer {
    /// Their name.
    pub name: KeyName,
    /// What they sign with.
    pub key: OfficerKey,
    /// What one attacker reaches at once, such as a site.
    pub domain: DomainName,
    /// Their key is lost, or somebody else's: their yes counts for nothing any more, and their no still does.
    pub revoked: bool,
}

/// Officers who stand for the same thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// Its name.
    pub name: GroupName,
    /// Who is in it.
    pub members: Vec<KeyName>,
}

/// Who must approve: any one of these ways, each of its shares by different people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quorum {
    /// Alternatives; in each, all shares must be filled.
    pub ways: Vec<Vec<Share>>,
    /// No more than so many people of one trust domain count.
    pub max_per_domain: Option<u32>,
}

/// So many people out of these groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Share {
    /// How many.
    pub count: u32,
    /// Any of these groups will do.
    pub groups: Vec<GroupName>,
}

/// Shares that one quorum may have, over all its ways; and people in one share.
const MAX_SHARES: usize = 32;
const MAX_COUNT: u32 = 64;

impl Quorum {
    /// Reads `2 of treasury and 1 of risk or 3 of board + treasury`: `+` joins groups, `and` binds before `or`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let way = |way: &str| way.split(" and ").map(share).collect::<Result<Vec<_>, _>>();
        let ways = text.split(" or ").map(way).collect::<Result<Vec<_>, _>>()?;
        if ways.iter().map(Vec::len).sum::<usize>() > MAX_SHARES {
            return Err(format!("at most {MAX_SHARES} shares in one quorum"));
        }
        Ok(Self { ways, max_per_domain: None })
    }

    /// Every group it names.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &GroupName> {
        self.ways.iter().flatten().flat_map(|share| &share.groups)
    }

    /// Whether these people fill one of the ways. Nobody counts twice in a way, and no more of one domain than may.
    pub(crate) fn is_met(&self, people: &People<'_>, by: &BTreeSet<&KeyName>) -> bool {
        self.ways.iter().any(|way| self.is_filled(way, people, by))
    }

    pub(crate) fn is_filled(
        &self,
        way: &[Share],
        people: &People<'_>,
        by: &BTreeSet<&KeyName>,
    ) -> bool {
        let mut room: BTreeMap<(Node<'_>, Node<'_>), u32> = BTreeMap::new();
        let mut wanted = 0_u32;
        for (position, share) in way.iter().enumerate() {
            wanted = wanted.saturating_add(share.count);
            room.insert((Node::Source, Node::Share(position)), share.count);
            for officer in by.iter().filter_map(|name| people.officer(name)) {
                if officer.revoked || !people.is_in(&officer.name, &share.groups) {
                    continue;
                }
                let (person, domain) = (Node::Person(&officer.name), Node::Domain(&officer.domain));
                room.insert((Node::Share(position), person), 1);
                room.insert((person, domain), 1);
                room.insert((domain, Node::Sink), self.max_per_domain.unwrap_or(u32::MAX));
            }
        }
        flow(room) >= wanted
    }
}

impl fmt::Display for Quorum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, way) in self.ways.iter().enumerate() {
            f.write_str(if position == 0 { "" } else { " or " })?;
            let shares: Vec<String> = way.iter().map(ToString::to_string).collect();
            f.write_str(&shares.join(" and "))?;
        }
        match self.max_per_domain {
            None => Ok(()),
            Some(most) => write!(f, ", at most {most} of one domain"),
        }
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<&str> = self.groups.iter().map(GroupName::as_str).collect();
        write!(f, "{} of {}", self.count, groups.join(" + "))
    }
}

/// Everybody a policy names.
#[derive(Clone, Copy)]
pub(crate) struct People<'a> {
    pub(crate) officers: &'a [Officer],
    pub(crate) groups: &'a [Group],
}

impl<'a> People<'a> {
    pub(crate) fn officer(&self, name: &KeyName) -> Option<&'a Officer> {
        self.officers.iter().find(|officer| officer.name == *name)
    }

    pub(crate) fn is_in(&self, name: &KeyName, groups: &[GroupName]) -> bool {
        let named = self.groups.iter().filter(|group| groups.contains(&group.name));
        named.into_iter().any(|group| group.members.contains(name))
    }

    /// Everybody in any of the groups.
    pub(crate) fn members<'b>(
        &self,
        groups: impl Iterator<Item = &'b GroupName>,
    ) -> BTreeSet<&'a KeyName> {
        let named: BTreeSet<&GroupName> = groups.collect();
        let groups = self.groups.iter().filter(|group| named.contains(&group.name));
        groups.flat_map(|group| &group.members).collect()
    }
}

fn share(text: &str) -> Result<Share, String> {
    let wrong = || {
        format!(
            "\"{text}\" is no share of a quorum: write e.g. \"2 of treasury and 1 of risk\", with \"or\" between \
             alternatives and \"+\" between groups that count together"
        )
    };
    let (count, groups) = text.split_once(" of ").ok_or_else(wrong)?;
    let plain = !count.starts_with('0') && count.bytes().all(|b| b.is_ascii_digit());
    let count = count.parse().ok().filter(|count| plain && (1..=MAX_COUNT).contains(count));
    let groups = groups.split(" + ").map(GroupName::parse).collect::<Result<Vec<_>, _>>();
    let groups = groups.map_err(|_| wrong())?;
    let distinct: BTreeSet<&GroupName> = groups.iter().collect();
    if distinct.len() != groups.len() {
        return Err(format!("\"{text}\" names a group twice"));
    }
    Ok(Share { count: count.ok_or_else(wrong)?, groups })
}

/// Who can stand for what: shares are filled by people, people stand in domains.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Node<'a> {
    Source,
    Share(usize),
    Person(&'a KeyName),
    Domain(&'a DomainName),
    Sink,
}

type Room<'a> = BTreeMap<(Node<'a>, Node<'a>), u32>;

/// The most that can flow from source to sink, one path after the other.
fn flow(mut room: Room<'_>) -> u32 {
    let mut all = 0_u32;
    while let Some(path) = path(&room) {
        for (from, to) in path {
            let there = room.entry((from, to)).or_default();
            *there = there.saturating_sub(1);
            let back = room.entry((to, from)).or_default();
            *back = back.saturating_add(1);
        }
        all = all.saturating_add(1);
    }
    all
}

/// A shortest path with room on every step.
fn path<'a>(room: &Room<'a>) -> Option<Vec<(Node<'a>, Node<'a>)>> {
    let mut came: BTreeMap<Node<'a>, Node<'a>> = BTreeMap::new();
    let mut next = VecDeque::from([Node::Source]);
    while let Some(node) = next.pop_front() {
        for ((_, to), left) in room.range((node, Node::Source)..=(node, Node::Sink)) {
            if *left > 0 && *to != Node::Source && !came.contains_key(to) {
                came.insert(*to, node);
                next.push_back(*to);
            }
        }
    }
    let mut steps = Vec::new();
    let mut at = Node::Sink;
    while at != Node::Source {
        let from = *came.get(&at)?;
        steps.push((from, at));
        at = from;
    }
    Some(steps)
}
