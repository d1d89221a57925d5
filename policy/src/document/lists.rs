//! Lists of destinations in a policy's text. It never reads an address or a descriptor: the signer does, before it
//! takes the policy.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::descriptor;
use crate::conditions::{List, ListEntry, Target, is_label};
use crate::names::{KeyName, ListName};
use crate::raw::{RawEntry, RawList};
use crate::reader::Reader;
use crate::signed::PolicyError;

/// No list is longer.
const MAX_LIST: usize = 4096;
/// No script that nodes relay is longer.
const MAX_SCRIPT: usize = 83;
/// The signer derives every one of them.
const MAX_INDEXES: u32 = 1000;

pub(super) fn read(
    reader: &Reader<'_>,
    raw: &[RawList],
    book_keys: &[KeyName],
) -> Result<Vec<List>, PolicyError> {
    let names = reader.definitions(raw.iter().map(|l| &l.name), ListName::parse)?;
    let list = |(name, raw): (ListName, &RawList)| {
        let matures = raw.matures.as_ref().map(|at| reader.window(at)).transpose()?;
        let most = raw.entries.get_ref().len();
        if most > MAX_LIST {
            let reason = format!("{most} entries: at most {MAX_LIST} in one list");
            return Err(reader.fail(&raw.entries, reason));
        }
        let entries = entries(reader, raw.entries.get_ref())?;
        let book_keys = match &raw.book_keys {
            Some(at) => reader.some(at, KeyName::parse, book_keys)?,
            None => Vec::new(),
        };
        Ok(List { name, matures_seconds: matures.unwrap_or(0), book_keys, entries })
    };
    let mut lists = names.into_iter().zip(raw).map(list).collect::<Result<Vec<_>, _>>()?;
    lists.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(lists)
}

fn entries(reader: &Reader<'_>, raw: &[RawEntry]) -> Result<Vec<ListEntry>, PolicyError> {
    let (mut labels, mut targets) = (BTreeSet::new(), BTreeSet::new());
    let mut entries = Vec::new();
    for raw in raw {
        let label = reader.value(&raw.label, label)?;
        if !labels.insert(label.clone()) {
            return Err(reader.fail(&raw.label, format!("\"{label}\" is there twice")));
        }
        let target = target(reader, raw)?;
        if !targets.insert(target.clone()) {
            return Err(reader.fail(&raw.label, "this destination is in the list already"));
        }
        entries.push(ListEntry { label, target, expires_unix: raw.expires_unix });
    }
    Ok(entries)
}

fn target(reader: &Reader<'_>, raw: &RawEntry) -> Result<Target, PolicyError> {
    if raw.descriptor.is_none() && raw.indexes.is_some() {
        return Err(reader.fail(&raw.label, "only a descriptor has indexes"));
    }
    match (&raw.address, &raw.script, &raw.descriptor) {
        (Some(at), None, None) => reader.value(at, address).map(Target::Address),
        (None, Some(at), None) => reader.value(at, script).map(Target::Script),
        (None, None, Some(at)) => {
            let descriptor = reader.value(at, descriptor)?;
            let Some(indexes) = &raw.indexes else {
                return Err(reader.fail(at, "say how many indexes of it count, from 0 on"));
            };
            if !(1..=MAX_INDEXES).contains(indexes.get_ref()) {
                return Err(reader.fail(indexes, format!("write from 1 to {MAX_INDEXES} indexes")));
            }
            Ok(Target::Descriptor { descriptor, indexes: *indexes.get_ref() })
        }
        _ => Err(reader.fail(&raw.label, "an entry has one of address, script and descriptor")),
    }
}

fn label(text: &str) -> Result<String, String> {
    if is_label(text) {
        Ok(text.to_string())
    } else {
        Err("a label is 1 to 64 visible characters".to_string())
    }
}

fn address(text: &str) -> Result<String, &'static str> {
    let visible = text.bytes().all(|b| b.is_ascii_alphanumeric());
    if visible && (1..=100).contains(&text.len()) {
        Ok(text.to_string())
    } else {
        Err("an address is letters and digits")
    }
}

fn script(text: &str) -> Result<Vec<u8>, String> {
    let lowercase = !text.bytes().any(|b| b.is_ascii_uppercase());
    let script = hex::decode(text).ok().filter(|script| (1..=MAX_SCRIPT).contains(&script.len()));
    script
        .filter(|_| lowercase)
        .ok_or_else(|| format!("a script is 1 to {MAX_SCRIPT} bytes in lowercase hex"))
}
