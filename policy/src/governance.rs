//! How a policy gives way to the next one: who must have signed, and whether it takes effect at once or after a delay. It
//! reads no clock; since when a policy is proposed is the log's to say.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use asset::Network;

use crate::compare::compare;
use crate::document;
use crate::names::{GroupName, KeyName};
use crate::people::{OfficerKey, Quorum};
use crate::rules::Rules;
use crate::signed::{
    MAX_SIGNATURES, MAX_TEXT, PolicyError, SignedPolicy, bounded, digest, sign_message_of, signer,
};

/// Who may change a policy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Governance {
    /// Who must sign what provably only tightens. It takes effect at once.
    pub tighten: Quorum,
    /// Who must sign anything else.
    pub change: Quorum,
    /// How long anything else is proposed before it takes effect, in seconds.
    pub delay_seconds: u64,
    /// The group any of whose members can stop it meanwhile.
    pub veto: Option<GroupName>,
    /// Who must sign for what is done at the signer's machine; `None`: whoever is there does it.
    pub administer: Option<Quorum>,
    /// Who may say that an order is bound no longer to what was signed for it; `None`: nobody can.
    pub unbind: Option<Quorum>,
    /// The way back when too many keys are lost for `change`.
    pub recover: Option<Recovery>,
}

/// Who may bring a policy in when those who may otherwise cannot, and how much longer that takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovery {
    /// Who must sign.
    pub quorum: Quorum,
    /// How long it is proposed, in seconds.
    pub delay_seconds: u64,
}

/// A version may be so far above the one before, and no further: one that leaves no room would be the last. Dates serve as
/// versions (20261231, then 20270101).
pub const VERSION_STEP_MAX: u64 = 1_000_000;

/// What becomes of a policy that enough officers of the one in force have signed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// It provably only tightens: at once.
    AtOnce(Rules),
    /// Once it was proposed for so many seconds, and nobody who may has vetoed it.
    After(Rules, u64),
    /// The same, signed by those who are there for when too many keys are lost. A revoked officer's veto does not stop it.
    Recovery(Rules, u64),
}

impl Next {
    /// The policy that it is about.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        match self {
            Self::AtOnce(rules) | Self::After(rules, _) | Self::Recovery(rules, _) => rules,
        }
    }

    /// The same, and nothing else of it.
    #[must_use]
    pub fn into_rules(self) -> Rules {
        match self {
            Self::AtOnce(rules) | Self::After(rules, _) | Self::Recovery(rules, _) => rules,
        }
    }
}

impl Governance {
    /// What it says, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        let Self { tighten, change, delay_seconds, veto, administer, unbind, recover } = self;
        let mut lines = Vec::from([
            format!("tighten: {tighten}"),
            format!("change: {change}"),
            format!("delay: {delay_seconds}"),
        ]);
        lines.extend(veto.as_ref().map(|group| format!("veto: {group}")));
        lines.extend(administer.as_ref().map(|quorum| format!("administer: {quorum}")));
        lines.extend(unbind.as_ref().map(|quorum| format!("unbind: {quorum}")));
        lines.extend(recover.as_ref().map(|Recovery { quorum, delay_seconds }| {
            format!("recover: {quorum}, after {delay_seconds}")
        }));
        lines
    }
}

const UNGOVERNED: &str = "it says nothing of who may change it";

impl Rules {
    /// Reads a policy again whose signatures were verified before, as the log says. For the signer's log alone: anything
    /// else that calls this rules by a text nobody signed.
    ///
    /// # Errors
    /// [`PolicyError`] when this program no longer reads it, or it is for another network.
    pub fn reopen(
        text: &str,
        officers: Vec<KeyName>,
        network: Network,
    ) -> Result<Self, PolicyError> {
        bounded("policy", text, MAX_TEXT)?;
        let document = document::read(text, network)?;
        Ok(Self { document, text: text.to_string(), digest: digest(text), officers })
    }

    /// Whether and how this policy, being in force, gives way to another.
    ///
    /// # Errors
    /// [`PolicyError`] when a signature is wrong or by nobody this policy knows, when too few signed, and
    /// [`PolicyError::Governance`] when nothing governs this policy, the version does not rise, or the next one would be
    /// governed by nobody.
    pub fn next(&self, signed: &SignedPolicy<'_>) -> Result<Next, PolicyError> {
        if self.governance().is_none() {
            return Err(PolicyError::Governance(UNGOVERNED.to_string()));
        }
        bounded("signature file", signed.signatures, MAX_SIGNATURES)?;
        let by = signed.signers(&self.signing_officers())?;
        self.gives_way(Self::reopen(signed.text, by, self.network())?)
    }

    /// The same for a policy whose signatures were verified before: by its [`officers`](Self::officers).
    ///
    /// # Errors
    /// [`PolicyError::Governance`], as for [`next`](Self::next).
    pub fn gives_way(&self, next: Self) -> Result<Next, PolicyError> {
        let refuse = |reason: String| Err(PolicyError::Governance(reason));
        let Some(governance) = self.governance() else {
            return refuse(UNGOVERNED.to_string());
        };
        let furthest = self.version().saturating_add(VERSION_STEP_MAX);
        if next.version() > furthest {
            return refuse(format!(
                "version {} is too far above {}: {furthest} at most, so that others can follow",
                next.version(),
                self.version()
            ));
        }
        if next.version() <= self.version() {
            return refuse(format!(
                "version {} does not follow {}",
                next.version(),
                self.version()
            ));
        }
        if next.governance().is_none() {
            return refuse(
                "it would be governed by nobody: keep a [governance] section".to_string(),
            );
        }
        if self.log().is_some() && next.log() != self.log() {
            let found = next.log().unwrap_or("none");
            let own = self.log().unwrap_or("none");
            return refuse(format!("it is for the log {found}, and the one in force for {own}"));
        }
        let people: BTreeSet<&KeyName> = next.officers().iter().collect();
        let met = |quorum: &Quorum| quorum.is_met(&self.everybody(), &people);
        let (enough, tightens) = (met(&governance.change), compare(self, &next).only_tightens());
        // Nobody is revoked by one alone: a stolen key would strike first, and could not be answered.
        let yes = people.iter().filter(|name| !self.is_revoked(name)).count();
        let two = yes >= 2 || !self.revokes(&next);
        if tightens && (enough || (two && met(&governance.tighten))) {
            return Ok(Next::AtOnce(next));
        }
        if enough {
            return Ok(Next::After(next, governance.delay_seconds));
        }
        if let Some(recovery) = governance.recover.as_ref().filter(|one| met(&one.quorum)) {
            return Ok(Next::Recovery(next, recovery.delay_seconds));
        }
        let wanted = match tightens {
            true if !two => {
                format!("two people, since it revokes one, or {}", governance.change)
            }
            true => format!("{}, or {}", governance.tighten, governance.change),
            false => governance.change.to_string(),
        };
        let signed: Vec<&str> = next.officers().iter().map(KeyName::as_str).collect();
        refuse(format!("it must be signed by {wanted}, and is by [{}]", signed.join(", ")))
    }

    /// Whether as many signed the next one as anything may be changed by.
    #[must_use]
    pub fn changes_by_many(&self, next: &Self) -> bool {
        let people: BTreeSet<&KeyName> = next.officers().iter().collect();
        let change = self.governance().map(|governance| &governance.change);
        change.is_some_and(|change| change.is_met(&self.everybody(), &people))
    }

    /// Who of this policy's officers signed the text with this SHA-256: for whoever checks what a log says of that.
    ///
    /// # Errors
    /// [`PolicyError`] when a signature is wrong, or by nobody this policy knows.
    pub fn signed_by(
        &self,
        text: &[u8; 32],
        signatures: &str,
    ) -> Result<Vec<KeyName>, PolicyError> {
        bounded("signature file", signatures, MAX_SIGNATURES)?;
        let signed = SignedPolicy { text: "", signatures };
        signed.signers_of(&sign_message_of(text), &self.signing_officers())
    }

    /// Whether it may be brought in at the signer with this log. A policy that says who may change it says whose it is: the same
    /// officers' signatures would else bring it in wherever they are the officers.
    ///
    /// # Errors
    /// [`PolicyError::Elsewhere`] when it names another log, or none and must.
    pub fn is_for(&self, log: &str) -> Result<(), PolicyError> {
        match self.log() {
            Some(named) if named == log => Ok(()),
            None if self.governance().is_none() => Ok(()),
            Some(named) => Err(PolicyError::Elsewhere(format!(
                "it is for the one with log {named}, and this is {log}"
            ))),
            None => Err(PolicyError::Elsewhere(format!(
                "it names no log, as policies from before did, so that its signatures would count wherever these are the officers: write log = \"{log}\" beside its network, and have it signed again"
            ))),
        }
    }

    /// Who must sign for what is done at the signer's machine; `None`: whoever is there does it.
    #[must_use]
    pub fn administer(&self) -> Option<&Quorum> {
        self.governance().and_then(|governance| governance.administer.as_ref())
    }

    /// Whether these are enough for that, where anybody must be asked.
    #[must_use]
    pub fn may_administer(&self, by: &BTreeSet<&KeyName>) -> bool {
        self.administer().is_none_or(|quorum| quorum.is_met(&self.everybody(), by))
    }

    /// Who must say that what was signed for an order can never confirm, before the order may be paid beside it; `None`: under
    /// this policy nobody can.
    #[must_use]
    pub fn unbind(&self) -> Option<&Quorum> {
        self.governance().and_then(|governance| governance.unbind.as_ref())
    }

    /// Whether this officer is asked for that at all.
    #[must_use]
    pub fn asks_to_unbind(&self, officer: &KeyName) -> bool {
        let members = |quorum: &Quorum| self.everybody().members(quorum.groups());
        self.unbind().is_some_and(|quorum| members(quorum).contains(officer))
    }

    /// Whether these are enough for an order by this key. Whoever holds that key is not among them: they would be paid.
    #[must_use]
    pub fn may_unbind(&self, by: &BTreeSet<&KeyName>, order_key: &[u8; 32]) -> bool {
        let own = self.orderers(|key| key == order_key);
        let by: BTreeSet<&KeyName> = by.difference(&own).copied().collect();
        self.unbind().is_some_and(|quorum| quorum.is_met(&self.everybody(), &by))
    }

    /// Whether this officer's veto stops a policy that was proposed. Over a `recovery` a revoked one has none: the keys that it is
    /// to replace do not stop it.
    #[must_use]
    pub fn may_veto_policy(&self, officer: &KeyName, recovery: bool) -> bool {
        let group = self.governance().and_then(|governance| governance.veto.as_ref());
        self.everybody().members(group.into_iter()).contains(officer)
            && !(recovery && self.is_revoked(officer))
    }

    /// Who of those that may has vetoed the policy with this text. Lines over policies that were vetoed `earlier`, by the
    /// SHA-256 of their texts, have done what they were for, and are passed over; so are those of revoked officers over a
    /// `recovery`, which would else be stopped by the very keys it is to replace.
    ///
    /// # Errors
    /// [`PolicyError`] when a signature is wrong or by somebody who may not.
    pub fn vetoed_by(
        &self,
        vetoed: &SignedPolicy<'_>,
        earlier: &[[u8; 32]],
        recovery: bool,
    ) -> Result<Vec<KeyName>, PolicyError> {
        bounded("signature file", vetoed.signatures, MAX_SIGNATURES)?;
        let group = self.governance().and_then(|governance| governance.veto.as_ref());
        let may = self.everybody().members(group.into_iter());
        let everybody = self.signing_officers();
        let mut officers = everybody.clone();
        officers.retain(|(name, _)| may.contains(name));
        let message = veto_message(vetoed.text);
        let done = |line: &str| {
            let over = |digest| signer(line, &veto_message_of(digest), &everybody).is_ok();
            earlier.iter().any(over)
        };
        let mut by: BTreeSet<&KeyName> = BTreeSet::new();
        for (text, line) in vetoed.signatures.lines().zip(1..) {
            match signer(text, &message, &officers) {
                Ok(officer) if recovery && self.is_revoked(officer) => {}
                Ok(officer) => drop(by.insert(officer)),
                Err(_) if done(text) => {}
                Err(reason) => {
                    return Err(PolicyError::Signatures { line, reason: reason.to_string() });
                }
            }
        }
        Ok(by.into_iter().cloned().collect())
    }

    /// Whether it takes somebody's yes away who has it now.
    #[must_use]
    pub fn revokes(&self, next: &Self) -> bool {
        next.people().iter().any(|officer| officer.revoked && !self.is_revoked(&officer.name))
    }

    /// Whether this officer's yes counts no more.
    #[must_use]
    pub fn is_revoked(&self, name: &KeyName) -> bool {
        self.officer(name).is_some_and(|officer| officer.revoked)
    }

    /// Officers who can sign policies, with their keys.
    pub(crate) fn signing_officers(&self) -> Vec<(KeyName, OfficerKey)> {
        self.people().iter().map(|officer| (officer.name.clone(), officer.key)).collect()
    }
}

/// What an officer signs so that a proposed policy never takes effect.
#[must_use]
pub fn veto_message(text: &str) -> Vec<u8> {
    veto_message_of(&digest(text))
}

fn veto_message_of(digest: &[u8; 32]) -> Vec<u8> {
    format!("cofferdam-policy-veto-v1\nsha256: {}\n", hex::encode(digest)).into_bytes()
}
