//! Officers, groups and quorums of a policy's text. It never lets one person be two, or a quorum that nobody can fill.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use toml::Spanned;

use super::{ed25519, hex_bytes};
use crate::names::{DomainName, GroupName, KeyName};
use crate::p256::Point;
use crate::people::{Group, Officer, OfficerKey, People, Quorum};
use crate::raw::{RawGroup, RawOfficer, RawOrderKey};
use crate::reader::{Reader, Text};
use crate::signed::PolicyError;

pub(super) fn officers(
    reader: &Reader<'_>,
    raw: &[RawOfficer],
) -> Result<Vec<Officer>, PolicyError> {
    let names = reader.definitions(raw.iter().map(|o| &o.name), KeyName::parse)?;
    let mut officers: Vec<Officer> = Vec::new();
    for (name, raw) in names.into_iter().zip(raw) {
        let (at, key) = match (&raw.ed25519, &raw.p256) {
            (Some(at), None) => (at, OfficerKey::Ed25519(reader.value(at, ed25519)?)),
            (None, Some(at)) => (at, OfficerKey::P256(reader.value(at, p256)?)),
            _ => return Err(reader.fail(&raw.name, "an officer has either ed25519 or p256")),
        };
        if let Some(same) = officers.iter().find(|officer| officer.key.is_same_secret(&key)) {
            return Err(reader.fail(at, format!("officer \"{}\" has this key already", same.name)));
        }
        let domain = reader.value(&raw.domain, DomainName::parse)?;
        officers.push(Officer { name, key, domain, revoked: raw.revoked });
    }
    officers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(officers)
}

pub(super) fn groups(
    reader: &Reader<'_>,
    raw: &[RawGroup],
    officers: &[Officer],
) -> Result<Vec<Group>, PolicyError> {
    let defined: Vec<KeyName> = officers.iter().map(|officer| officer.name.clone()).collect();
    let names = reader.definitions(raw.iter().map(|g| &g.name), GroupName::parse)?;
    let group = |(name, raw): (GroupName, &RawGroup)| {
        Ok(Group { name, members: reader.some(&raw.members, KeyName::parse, &defined)? })
    };
    let mut groups = names.into_iter().zip(raw).map(group).collect::<Result<Vec<_>, _>>()?;
    groups.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(groups)
}

/// The officer who holds an order key. Whoever has the same key as an officer is that officer, and must be named.
pub(super) fn orderer(
    reader: &Reader<'_>,
    raw: &RawOrderKey,
    public_key: [u8; 32],
    officers: &[Officer],
) -> Result<Option<KeyName>, PolicyError> {
    let defined: Vec<KeyName> = officers.iter().map(|officer| officer.name.clone()).collect();
    let named = raw.officer.as_ref().map(|at| reader.known(at, KeyName::parse, &defined));
    let named = named.transpose()?;
    let same = officers.iter().find(|officer| officer.key == OfficerKey::Ed25519(public_key));
    match same {
        Some(same) if named.as_ref() != Some(&same.name) => {
            let reason = format!(
                "this is the key of officer \"{0}\": say so with officer = \"{0}\"",
                same.name
            );
            Err(reader.fail(&raw.ed25519, reason))
        }
        _ => Ok(named),
    }
}

/// A quorum each of whose ways enough people could fill.
pub(super) fn quorum(
    reader: &Reader<'_>,
    at: &Text,
    max_per_domain: Option<&Spanned<u32>>,
    people: People<'_>,
) -> Result<Quorum, PolicyError> {
    let mut quorum = reader.value(at, Quorum::parse)?;
    let unknown = |group: &&GroupName| !people.groups.iter().any(|known| known.name == **group);
    if let Some(group) = quorum.groups().find(unknown) {
        return Err(reader.fail(at, format!("group \"{group}\" is not defined in this policy")));
    }
    if let Some(most) = max_per_domain {
        if *most.get_ref() == 0 {
            return Err(reader.fail(most, "at most none of one domain would be nobody"));
        }
        quorum.max_per_domain = Some(*most.get_ref());
    }
    for way in &quorum.ways {
        let all: BTreeSet<&KeyName> = people.members(way.iter().flat_map(|share| &share.groups));
        if !quorum.is_filled(way, &people, &all) {
            let way: Vec<_> = way.iter().map(|share| format!("{share}")).collect();
            let reason = format!(
                "nobody could ever give \"{}\": there are not enough different people that are not revoked, or too many of them in one domain",
                way.join(" and ")
            );
            return Err(reader.fail(at, reason));
        }
    }
    Ok(quorum)
}

fn p256(text: &str) -> Result<Point, &'static str> {
    hex_bytes(text).and_then(|key| Point::read(&key)).ok_or(
        "a P-256 public key is 66 lowercase hex digits of a valid point, compressed: it begins with 02 or 03",
    )
}
