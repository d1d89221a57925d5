//! Keys of those who state facts and decide nothing: who makes the sanctions list, who reconciles the books, who
//! keeps an address book. It never
//! reads a statement, and lets nobody state what they could gain by as an officer or an orderer.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::document::ed25519;
use crate::names::KeyName;
use crate::people::{Officer, OfficerKey};
use crate::raw::{RawFactKey, RawPolicy};
use crate::reader::Reader;
use crate::rules::{OrderKey, Rules};
use crate::signed::PolicyError;

/// A key whose statements count as facts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FactKey {
    /// Its name.
    pub name: KeyName,
    /// Raw Ed25519 public key.
    pub public_key: [u8; 32],
    /// Unix seconds after which nothing that it stated counts.
    pub expires_unix: Option<u64>,
}

/// All of them, by what they may state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct FactKeys {
    pub(crate) screeners: Vec<FactKey>,
    pub(crate) reconcilers: Vec<FactKey>,
    pub(crate) book_keys: Vec<FactKey>,
}

/// What somebody may state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stated {
    /// The sanctions list.
    Sanctions,
    /// That the books balance.
    Books,
    /// Who is in the address book.
    Book,
}

impl Stated {
    /// Each, and what the policy calls a key that may state it.
    pub const ALL: [(Self, &'static str); 3] =
        [(Self::Sanctions, "screener"), (Self::Books, "reconciler"), (Self::Book, "book key")];
}

impl Rules {
    /// Keys that may state this.
    #[must_use]
    pub fn fact_keys(&self, stated: Stated) -> &[FactKey] {
        match stated {
            Stated::Sanctions => &self.document.facts.screeners,
            Stated::Books => &self.document.facts.reconcilers,
            Stated::Book => &self.document.facts.book_keys,
        }
    }

    /// The key by which this name may state it now, if it may.
    #[must_use]
    pub fn fact_key(&self, stated: Stated, name: &KeyName, now_unix: u64) -> Option<[u8; 32]> {
        let key = self.fact_keys(stated).iter().find(|key| key.name == *name)?;
        key.expires_unix.is_none_or(|end| now_unix <= end).then_some(key.public_key)
    }
}

pub(crate) fn read(
    reader: &Reader<'_>,
    raw: &RawPolicy,
    order_keys: &[OrderKey],
    officers: &[Officer],
) -> Result<FactKeys, PolicyError> {
    let mut taken: Vec<([u8; 32], String)> = Vec::new();
    taken.extend(order_keys.iter().map(|k| (k.public_key, format!("order key \"{}\"", k.name))));
    taken.extend(officers.iter().filter_map(|officer| match officer.key {
        OfficerKey::Ed25519(key) => Some((key, format!("officer \"{}\"", officer.name))),
        OfficerKey::P256(_) => None,
    }));
    let mut keys = |what: &str, raw: &[RawFactKey]| {
        let names = reader.definitions(raw.iter().map(|key| &key.name), KeyName::parse)?;
        let mut keys = Vec::new();
        for (name, raw) in names.into_iter().zip(raw) {
            let public_key = reader.value(&raw.ed25519, ed25519)?;
            if let Some((_, whose)) = taken.iter().find(|(key, _)| *key == public_key) {
                let reason = format!("{whose} has this key: who states facts has one of their own");
                return Err(reader.fail(&raw.ed25519, reason));
            }
            taken.push((public_key, format!("{what} \"{name}\"")));
            keys.push(FactKey { name, public_key, expires_unix: raw.expires_unix });
        }
        keys.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(keys)
    };
    // Whoever asks for payouts would say as well who may be paid.
    for key in &raw.book_key {
        if raw.witness.iter().any(|one| one.ed25519.get_ref() == key.ed25519.get_ref()) {
            let reason = "a witness has this key: who attests destinations has one of their own";
            return Err(reader.fail(&key.ed25519, reason));
        }
        if raw.client.iter().any(|client| client.name.get_ref() == key.name.get_ref()) {
            let reason = "a client has this name: who asks for payouts attests no destinations";
            return Err(reader.fail(&key.name, reason));
        }
    }
    Ok(FactKeys {
        screeners: keys("screener", &raw.screener)?,
        reconcilers: keys("reconciler", &raw.reconciler)?,
        book_keys: keys("book key", &raw.book_key)?,
    })
}
