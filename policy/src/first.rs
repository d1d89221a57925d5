//! The officers a signer begins with: who they are, in which groups, and who of them may change a policy. They are one text
//! with one digest, which people compare before the signer's log begins with it. It never believes a policy that says otherwise.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;

use serde::Deserialize;

use crate::document::{Governors, governors};
use crate::governance::Governance;
use crate::names::KeyName;
use crate::people::{Group, Officer, OfficerKey, Quorum};
use crate::raw::{RawGovernance, RawGroup, RawOfficer, RawPolicy};
use crate::reader::{Reader, Text};
use crate::rules::Rules;
use crate::signed::{MAX_SIGNATURES, MAX_TEXT, PolicyError, SignedPolicy, bounded, digest};

/// First line of the text: nothing else that is hashed here begins like it.
const FIRST_LINE: &str = "cofferdam-officers-v1";

/// Officers, groups and governance, as a signer begins with them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FirstOfficers {
    text: String,
    officers: usize,
}

/// The sections of a policy that an officers' file has, and no others.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFirst {
    unfreeze: Option<Text>,
    officer: Vec<RawOfficer>,
    group: Vec<RawGroup>,
    governance: RawGovernance,
}

impl FirstOfficers {
    /// Reads an officers' file: the sections `[[officer]]`, `[[group]]` and `[governance]` of a policy, and `unfreeze`
    /// before them. A whole policy will do as well.
    ///
    /// # Errors
    /// [`PolicyError`] with line and reason; also when nobody is said to govern.
    pub fn read(text: &str) -> Result<Self, PolicyError> {
        bounded("officers' file", text, MAX_TEXT)?;
        let reader = Reader::new(text);
        let is_policy =
            toml::from_str::<toml::Table>(text).is_ok_and(|t| t.contains_key("version"));
        let raw = if is_policy {
            let RawPolicy { version, unfreeze, officer, group, governance, .. } = reader.raw()?;
            let none = "a policy with officers to begin with has a [governance] section";
            let governance = governance.ok_or_else(|| reader.fail(&version, none))?;
            RawFirst { unfreeze, officer, group, governance }
        } else {
            reader.raw()?
        };
        let RawFirst { unfreeze, officer, group, governance } = raw;
        let Governors { officers, groups, governance, unfreeze } =
            governors(&reader, &officer, &group, &governance, unfreeze.as_ref())?;
        let text = canonical(&officers, &groups, &governance, unfreeze.as_ref());
        Ok(Self { text, officers: officers.len() })
    }

    /// The one text that says all of it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// SHA-256 of it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        digest(&self.text)
    }

    /// How many officers there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.officers
    }
}

impl Rules {
    /// Officers, groups and governance of this policy as one text; `None` where nobody governs it.
    #[must_use]
    pub fn officers_text(&self) -> Option<String> {
        let governance = self.governance()?;
        Some(canonical(self.people(), self.groups(), governance, self.unfreeze()))
    }

    /// Reads the first policy of a signer that began with the officers of this digest: the policy has exactly those, and as
    /// many of them signed it as must for any change. Nobody else has a say.
    ///
    /// # Errors
    /// [`PolicyError`] saying what is missing.
    pub fn first(
        signed: &SignedPolicy<'_>,
        network: asset::Network,
        fixed: &[u8; 32],
    ) -> Result<Self, PolicyError> {
        bounded("signature file", signed.signatures, MAX_SIGNATURES)?;
        let unsigned = Self::reopen(signed.text, Vec::new(), network)?;
        let by = signed.signers(&unsigned.signing_officers())?;
        Self { officers: by, ..unsigned }.begins_with(fixed)
    }

    /// The same for a policy whose signatures were verified before: by its [`officers`](Self::officers).
    ///
    /// # Errors
    /// As for [`first`](Self::first).
    pub fn begins_with(self, fixed: &[u8; 32]) -> Result<Self, PolicyError> {
        let refuse = |reason: String| Err(PolicyError::First(reason));
        let found = self.officers_text().map(|text| digest(&text));
        let (Some(found), Some(governance)) = (found, self.governance()) else {
            return refuse("it has no [governance] section".to_string());
        };
        if found != *fixed {
            return refuse(format!(
                "the signer began with the officers of SHA-256 {}, and this policy's are {}: officers, groups, governance and unfreeze must be those",
                hex::encode(fixed),
                hex::encode(found)
            ));
        }
        let by: BTreeSet<&KeyName> = self.officers().iter().collect();
        let enough = governance.change.is_met(&self.everybody(), &by);
        if enough {
            return Ok(self);
        }
        let signed: Vec<&str> = self.officers().iter().map(KeyName::as_str).collect();
        refuse(format!(
            "it must be signed by {}, and is by [{}]",
            governance.change,
            signed.join(", ")
        ))
    }
}

/// A line for each fact, sorted by name. Names hold neither spaces nor line feeds.
fn canonical(
    officers: &[Officer],
    groups: &[Group],
    governance: &Governance,
    unfreeze: Option<&Quorum>,
) -> String {
    let mut lines = Vec::from([FIRST_LINE.to_string()]);
    for Officer { name, key, domain, revoked } in officers {
        let key = match key {
            OfficerKey::Ed25519(key) => format!("ed25519 {}", hex::encode(key)),
            OfficerKey::P256(key) => format!("p256 {}", hex::encode(key.compressed())),
        };
        let revoked = if *revoked { ", revoked" } else { "" };
        lines.push(format!("officer {name} of {domain}: {key}{revoked}"));
    }
    for Group { name, members } in groups {
        let mut members: Vec<&str> = members.iter().map(KeyName::as_str).collect();
        members.sort_unstable();
        lines.push(format!("group {name}: {}", members.join(" ")));
    }
    lines.extend(unfreeze.map(|quorum| format!("unfreeze: {quorum}")));
    lines.extend(governance.lines());
    lines.push(String::new());
    lines.join("\n")
}
