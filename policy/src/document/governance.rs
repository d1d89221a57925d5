//! Who may change a policy, as its text says it. It never lets a quorum govern that could not sign.

use alloc::format;

use super::people;
use crate::governance::Governance;
use crate::names::GroupName;
use crate::people::{OfficerKey, People};
use crate::raw::RawGovernance;
use crate::reader::{Reader, Text};
use crate::signed::PolicyError;

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
    let veto = raw.veto.as_ref().map(|at| group(reader, at, everybody)).transpose()?;
    for (at, quorum) in [(&raw.tighten, &tighten), (&raw.change, &change)] {
        let names = everybody.members(quorum.groups());
        let officers = names.into_iter().filter_map(|name| everybody.officer(name));
        if let Some(other) = officers.into_iter().find(|o| !matches!(o.key, OfficerKey::Ed25519(_)))
        {
            let reason = format!(
                "policies are signed with Ed25519, and officer \"{}\" has another key",
                other.name
            );
            return Err(reader.fail(at, reason));
        }
    }
    Ok(Governance { tighten, change, delay_seconds, veto, administer })
}

fn group(reader: &Reader<'_>, at: &Text, everybody: People<'_>) -> Result<GroupName, PolicyError> {
    let defined: alloc::vec::Vec<GroupName> =
        everybody.groups.iter().map(|group| group.name.clone()).collect();
    reader.known(at, GroupName::parse, &defined)
}
