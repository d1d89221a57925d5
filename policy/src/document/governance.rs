//! Who may change a policy, as its text says it. It never lets a quorum govern that could not sign.

use super::people;
use crate::governance::{Governance, Recovery};
use crate::names::GroupName;
use crate::people::People;
use crate::raw::RawGovernance;
use crate::reader::{Reader, Text};
use crate::signed::PolicyError;

/// A recovery takes no less.
const RECOVERY_SECONDS_MIN: u64 = 7 * 86_400;

pub(super) fn read(
    reader: &Reader<'_>,
    raw: Option<&RawGovernance>,
    everybody: People<'_>,
) -> Result<Option<Governance>, PolicyError> {
    raw.map(|raw| section(reader, raw, everybody)).transpose()
}

pub(super) fn section(
    reader: &Reader<'_>,
    raw: &RawGovernance,
    everybody: People<'_>,
) -> Result<Governance, PolicyError> {
    let tighten = people::quorum(reader, &raw.tighten, None, everybody)?;
    let change = people::quorum(reader, &raw.change, raw.max_per_domain.as_ref(), everybody)?;
    let delay_seconds = reader.window(&raw.delay)?;
    let administer = raw.administer.as_ref();
    let administer = administer
        .map(|at| people::quorum(reader, at, raw.max_per_domain.as_ref(), everybody))
        .transpose()?;
    let unbind = raw.unbind.as_ref();
    let unbind = unbind
        .map(|at| people::quorum(reader, at, raw.max_per_domain.as_ref(), everybody))
        .transpose()?;
    let recover = recovery(reader, raw, delay_seconds, everybody)?;
    let veto = raw.veto.as_ref().map(|at| group(reader, at, everybody)).transpose()?;
    Ok(Governance { tighten, change, delay_seconds, veto, administer, unbind, recover })
}

/// Slower than anything else, so that whoever is still there sees it in time.
fn recovery(
    reader: &Reader<'_>,
    raw: &RawGovernance,
    delay_seconds: u64,
    everybody: People<'_>,
) -> Result<Option<Recovery>, PolicyError> {
    let (at, delay) = match (&raw.recover, &raw.recover_delay) {
        (None, None) => return Ok(None),
        (Some(at), Some(delay)) => (at, delay),
        (Some(at), None) | (None, Some(at)) => {
            return Err(reader.fail(at, "recover and recover_delay go together"));
        }
    };
    let quorum = people::quorum(reader, at, raw.max_per_domain.as_ref(), everybody)?;
    let seconds = reader.window(delay)?;
    if seconds < RECOVERY_SECONDS_MIN || seconds < delay_seconds.saturating_mul(2) {
        return Err(
            reader.fail(delay, "a recovery takes at least a week, and twice as long as `delay`")
        );
    }
    Ok(Some(Recovery { quorum, delay_seconds: seconds }))
}

fn group(reader: &Reader<'_>, at: &Text, everybody: People<'_>) -> Result<GroupName, PolicyError> {
    let defined: alloc::vec::Vec<GroupName> =
        everybody.groups.iter().map(|group| group.name.clone()).collect();
    reader.known(at, GroupName::parse, &defined)
}
