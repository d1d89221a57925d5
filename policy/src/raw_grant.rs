//! The shape of an entry of a lane's `clients`: a name, or a table that narrows what that client may do there. It believes
//! nothing, and refuses every key that it does not know.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use crate::reader::{Text, Texts};

/// The entries of one lane.
pub(crate) type RawGrants = Spanned<Vec<Spanned<RawGrant>>>;

pub(crate) enum RawGrant {
    Whole(String),
    Narrowed(RawNarrowed),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawNarrowed {
    pub(crate) name: Text,
    pub(crate) wallets: Option<Texts>,
    pub(crate) order_keys: Option<Texts>,
    pub(crate) expires_unix: Option<u64>,
}

impl<'de> Deserialize<'de> for RawGrant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Entry)
    }
}

/// One of the two; an untagged enum would say of neither what is wrong with it, nor where.
struct Entry;

impl<'de> Visitor<'de> for Entry {
    type Value = RawGrant;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a client's name, or a table with it that narrows what the client may do")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<RawGrant, E> {
        Ok(RawGrant::Whole(name.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawGrant, A::Error> {
        RawNarrowed::deserialize(MapAccessDeserializer::new(map)).map(RawGrant::Narrowed)
    }
}
