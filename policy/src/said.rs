//! Which officers' words count for what: who may speak at all, who is asked by a rule, who lifts a freeze. It never looks
//! at a signature.

use alloc::collections::BTreeSet;

use crate::names::{ClientName, KeyName, RuleName};
use crate::people::{Officer, OfficerKey, Quorum};
use crate::rules::{LaneKind, Rules};

impl Rules {
    /// The officer of this name.
    #[must_use]
    pub fn officer(&self, name: &KeyName) -> Option<&Officer> {
        self.people().iter().find(|officer| officer.name == *name)
    }

    /// Whether this client may show officers what waits, and bring what they say.
    #[must_use]
    pub fn may_serve_officers(&self, client: &ClientName) -> bool {
        self.clients().iter().any(|known| known.name == *client && known.officers)
    }

    /// Whether this client may read the rules themselves: it serves officers, or reads the log, which has them. Others get their
    /// digest alone, as they get no more than a code of a denial by most of them.
    #[must_use]
    pub fn may_read_rules(&self, client: &ClientName) -> bool {
        self.may_serve_officers(client) || self.may_read_log(client)
    }

    /// Whether this rule asks for the officer's approval: then their rejection counts as well.
    #[must_use]
    pub fn asks(&self, rule: &RuleName, officer: &KeyName) -> bool {
        let mut quorums = self.quorums(rule);
        quorums.any(|quorum| self.everybody().members(quorum.groups()).contains(officer))
    }

    /// Whether these officers are enough for what this rule asks; those who ordered are not among them.
    #[must_use]
    pub fn is_approved(&self, rule: &RuleName, by: &BTreeSet<&KeyName>) -> bool {
        let mut quorums = self.quorums(rule).peekable();
        quorums.peek().is_some() && quorums.all(|quorum| quorum.is_met(&self.everybody(), by))
    }

    /// Officers who hold a key that ordered something: they approve nothing of it.
    #[must_use]
    pub fn orderers(&self, ordered: impl Fn(&[u8; 32]) -> bool) -> BTreeSet<&KeyName> {
        let pinned = self.order_keys().iter().filter(|key| ordered(&key.public_key));
        let same = self.people().iter().filter(|officer| match &officer.key {
            OfficerKey::Ed25519(key) => ordered(key),
            OfficerKey::P256(_) => false,
        });
        let pinned = pinned.filter_map(|key| key.officer.as_ref());
        pinned.chain(same.map(|officer| &officer.name)).collect()
    }

    /// What requirements of this name ask, and a lane to evacuate of this name.
    fn quorums<'a>(&'a self, rule: &'a RuleName) -> impl Iterator<Item = &'a Quorum> {
        let requires = self.requires().iter().filter(move |require| require.name == *rule);
        let lanes = self.lanes().iter().filter(move |lane| lane.name.as_str() == rule.as_str());
        let lanes = lanes.filter_map(|lane| match &lane.kind {
            LaneKind::Evacuate { approvals, .. } => Some(approvals),
            _ => None,
        });
        requires.filter_map(|require| require.approvals.as_ref()).chain(lanes)
    }

    /// Whether this rule lets the officer veto.
    #[must_use]
    pub fn lets_veto(&self, rule: &RuleName, officer: &KeyName) -> bool {
        let require = self.requires().iter().filter(|require| require.name == *rule);
        let groups = require.filter_map(|require| require.veto.as_ref());
        self.everybody().members(groups).contains(officer)
    }

    /// Who must say so before a freeze is lifted; `None`: under this policy nobody can.
    #[must_use]
    pub fn unfreeze(&self) -> Option<&Quorum> {
        self.document.unfreeze.as_ref()
    }

    /// Whether this officer's word about the time is enough: anybody's whom `unfreeze` names; where it names nobody, any
    /// officer's. Never a revoked one's.
    #[must_use]
    pub fn may_tell_time(&self, officer: &KeyName) -> bool {
        if self.is_revoked(officer) {
            return false;
        }
        match self.unfreeze() {
            Some(quorum) => self.everybody().members(quorum.groups()).contains(officer),
            None => self.officer(officer).is_some(),
        }
    }

    /// Whether these officers are enough to lift a freeze.
    #[must_use]
    pub fn may_unfreeze(&self, by: &BTreeSet<&KeyName>) -> bool {
        self.unfreeze().is_some_and(|quorum| quorum.is_met(&self.everybody(), by))
    }
}
