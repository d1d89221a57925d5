//! Limits, requirements and denials of a policy's text. It never lets a rule through that asks for nothing, or is
//! about what the policy does not have.

use alloc::format;
use alloc::vec::Vec;

use toml::Spanned;

use super::{Defined, people};
use crate::conditions::{Above, By, Deny, Destinations, Limit, Require, When, Window};
use crate::hours::Hours;
use crate::names::{ClientName, GroupName, KeyName, LaneName, ListName, RuleName, WalletName};
use crate::people::People;
use crate::raw::{RawLimit, RawPolicy, RawRequire, RawWhen};
use crate::reader::{Reader, Text, Texts};
use crate::signed::PolicyError;

/// The ledger looks back no further for these.
const MAX_BACK_SECONDS: u64 = 90 * 86_400;
/// Ranges of office hours in one requirement.
const MAX_HOURS: usize = 8;

/// What rules may be about.
pub(super) struct Named<'a> {
    pub(super) lanes: Vec<LaneName>,
    pub(super) lists: Vec<ListName>,
    /// Those that others may add to.
    pub(super) books: Vec<ListName>,
    pub(super) people: People<'a>,
    pub(super) defined: &'a Defined,
}

type Rules = (Vec<Limit>, Vec<Require>, Vec<Deny>);

pub(super) fn read(
    reader: &Reader<'_>,
    raw: &RawPolicy,
    named: &Named<'_>,
) -> Result<Rules, PolicyError> {
    let names = raw.limit.iter().map(|l| &l.name).chain(raw.require.iter().map(|r| &r.name));
    let names = names.chain(raw.deny.iter().map(|d| &d.name));
    let names = reader.definitions(names, RuleName::parse)?;
    let mut names = names.into_iter();
    let limits = raw.limit.iter().zip(names.by_ref().take(raw.limit.len()));
    let limits = limits.map(|(raw, name)| limit(reader, name, raw, named));
    let mut limits = limits.collect::<Result<Vec<_>, _>>()?;
    let requires = raw.require.iter().zip(names.by_ref().take(raw.require.len()));
    let requires = requires.map(|(raw, name)| require(reader, name, raw, named));
    let mut requires = requires.collect::<Result<Vec<_>, _>>()?;
    let denies = raw.deny.iter().zip(names).map(|(raw, name)| {
        let when = when(reader, raw.when.get_ref(), named)?;
        if when == When::default() {
            return Err(reader.fail(&raw.when, "this would deny everything: say what it is about"));
        }
        Ok(Deny { name, when, expires_unix: raw.expires_unix })
    });
    let mut denies = denies.collect::<Result<Vec<_>, _>>()?;
    // The order of the file means nothing from here on.
    limits.sort_by(|one, other| one.name.cmp(&other.name));
    requires.sort_by(|one, other| one.name.cmp(&other.name));
    denies.sort_by(|one, other| one.name.cmp(&other.name));
    Ok((limits, requires, denies))
}

fn limit(
    reader: &Reader<'_>,
    name: RuleName,
    raw: &RawLimit,
    named: &Named<'_>,
) -> Result<Limit, PolicyError> {
    let sum = raw.sum.as_ref().map(|at| reader.amount(at)).transpose()?;
    if sum.is_none() && raw.count.is_none() {
        return Err(reader.fail(&raw.name, "a limit has a sum, a count, or both"));
    }
    if let Some(count) = raw.count.as_ref().filter(|count| *count.get_ref() == 0) {
        return Err(reader.fail(count, "at most no transaction would be a denial: write one"));
    }
    Ok(Limit {
        name,
        lanes: lanes(reader, raw.lanes.as_ref(), named)?,
        window: window(reader, &raw.window, &raw.by)?,
        sum,
        count: raw.count.as_ref().map(|count| *count.get_ref()),
        expires_unix: raw.expires_unix,
    })
}

/// In one order: questions about the same lanes are the same.
fn lanes(
    reader: &Reader<'_>,
    raw: Option<&Texts>,
    named: &Named<'_>,
) -> Result<Vec<LaneName>, PolicyError> {
    let mut lanes = some(reader, raw, LaneName::parse, &named.lanes)?;
    lanes.sort();
    Ok(lanes)
}

fn require(
    reader: &Reader<'_>,
    name: RuleName,
    raw: &RawRequire,
    named: &Named<'_>,
) -> Result<Require, PolicyError> {
    let people = named.people;
    let seconds = |at: &Option<Text>| at.as_ref().map(|at| reader.window(at)).transpose();
    let require = Require {
        name,
        when: when(reader, &raw.when, named)?,
        approvals: match (&raw.approvals, &raw.max_per_domain) {
            (Some(at), most) => Some(people::quorum(reader, at, most.as_ref(), people)?),
            (None, None) => None,
            (None, Some(most)) => {
                return Err(reader.fail(most, "max_per_domain is about approvals: there are none"));
            }
        },
        delay_seconds: seconds(&raw.delay)?,
        veto: raw.veto.as_ref().map(|at| veto(reader, at, raw, people)).transpose()?,
        hours: hours(reader, raw.hours.as_ref())?,
        screened_seconds: seconds(&raw.screened)?,
        books_seconds: seconds(&raw.books)?,
        expires_unix: raw.expires_unix,
    };
    let asks = require.approvals.is_some()
        || require.delay_seconds.is_some()
        || !require.hours.is_empty()
        || require.screened_seconds.is_some()
        || require.books_seconds.is_some();
    if asks {
        Ok(require)
    } else {
        let reason = "a requirement asks for approvals, a delay, hours, screened or books";
        Err(reader.fail(&raw.name, reason))
    }
}

fn veto(
    reader: &Reader<'_>,
    at: &Text,
    raw: &RawRequire,
    people: People<'_>,
) -> Result<GroupName, PolicyError> {
    if raw.delay.is_none() {
        return Err(reader.fail(at, "a veto needs a delay in which it can be given"));
    }
    let groups: Vec<GroupName> = people.groups.iter().map(|group| group.name.clone()).collect();
    reader.known(at, GroupName::parse, &groups)
}

fn hours(reader: &Reader<'_>, raw: Option<&Texts>) -> Result<Vec<Hours>, PolicyError> {
    let Some(raw) = raw else { return Ok(Vec::new()) };
    if !(1..=MAX_HOURS).contains(&raw.get_ref().len()) {
        return Err(reader.fail(raw, format!("write from 1 to {MAX_HOURS} ranges of hours")));
    }
    raw.get_ref().iter().map(|at| reader.value(at, Hours::parse)).collect()
}

fn when(reader: &Reader<'_>, raw: &RawWhen, named: &Named<'_>) -> Result<When, PolicyError> {
    let defined = named.defined;
    let seconds = |at: &Option<Text>| at.as_ref().map(|at| reader.window(at)).transpose();
    Ok(When {
        lanes: lanes(reader, raw.lanes.as_ref(), named)?,
        wallets: some(reader, raw.wallets.as_ref(), WalletName::parse, &defined.spendable)?,
        clients: some(reader, raw.clients.as_ref(), ClientName::parse, &defined.clients)?,
        order_keys: some(reader, raw.order_keys.as_ref(), KeyName::parse, &defined.order_keys)?,
        destinations: destinations(reader, raw, named)?,
        above: above(reader, raw)?,
        unscreened_seconds: seconds(&raw.unscreened)?,
        unbalanced_seconds: seconds(&raw.unbalanced)?,
    })
}

fn destinations(
    reader: &Reader<'_>,
    raw: &RawWhen,
    named: &Named<'_>,
) -> Result<Option<Destinations>, PolicyError> {
    let (listed, at) = match (&raw.listed, &raw.unlisted) {
        (None, None) => return Ok(None),
        (Some(at), None) => (true, at),
        (None, Some(at)) => (false, at),
        (Some(_), Some(at)) => {
            return Err(reader.fail(at, "write listed or unlisted: two rules can have one each"));
        }
    };
    let lists = reader.some(at, ListName::parse, &named.lists)?;
    if let Some(book) = lists.iter().find(|list| listed && named.books.contains(list)) {
        // Otherwise whoever takes an entry back could loosen something.
        let reason =
            format!("book keys add to list \"{book}\": rules can only ask who is not on it");
        return Err(reader.fail(at, reason));
    }
    Ok(Some(Destinations { listed, lists }))
}

fn above(reader: &Reader<'_>, raw: &RawWhen) -> Result<Option<Above>, PolicyError> {
    let Some(amount) = &raw.above else {
        return match raw.window.as_ref().or(raw.by.as_ref()) {
            Some(at) => Err(reader.fail(at, "say above which amount")),
            None => Ok(None),
        };
    };
    let window = match (&raw.window, &raw.by) {
        (None, None) => None,
        (Some(at), Some(by)) => Some(window(reader, at, by)?),
        (Some(at), None) => return Err(reader.fail(at, "say by what this window adds up")),
        (None, Some(at)) => return Err(reader.fail(at, "say over which window")),
    };
    Ok(Some(Above { amount: reader.amount(amount)?, window }))
}

fn window(reader: &Reader<'_>, at: &Text, by: &Text) -> Result<Window, PolicyError> {
    let seconds = reader.window(at)?;
    if seconds > MAX_BACK_SECONDS {
        return Err(reader.fail(at, "such a window is at most 90d"));
    }
    let known = |text: &str| By::ALL.into_iter().find(|(name, _)| *name == text);
    let by = reader.value(by, |text| {
        known(text).map(|(_, by)| by).ok_or(
            "by is \"orderer\", \"client\", \"wallet\", \"destination\", \"lane\", \"asset\" or \"global\"",
        )
    })?;
    Ok(Window { seconds, by })
}

/// What is left out says nothing; an empty list would be about nothing.
fn some<T: PartialEq + core::fmt::Display, E: core::fmt::Display>(
    reader: &Reader<'_>,
    raw: Option<&Spanned<Vec<Text>>>,
    parse: impl Fn(&str) -> Result<T, E>,
    defined: &[T],
) -> Result<Vec<T>, PolicyError> {
    raw.map_or(Ok(Vec::new()), |at| reader.some(at, parse, defined))
}
