//! Which policy is in force, which were proposed, and which were vetoed. It never looks into a policy.

use std::collections::{HashMap, VecDeque};

use audit::entry::Event;

use super::{FoldError, wrong};

/// The policy last put into force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ActivePolicy {
    /// Its version.
    pub version: u64,
    /// SHA-256 of its text.
    pub digest: [u8; 32],
    /// Number of the entry that holds its text.
    pub seq: u64,
    /// It was handed in over the wire, and the policy file may be behind it.
    pub pushed: bool,
}

/// A policy that was proposed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// Who had signed it then: how long it is proposed depends on them.
    pub officers: Vec<String>,
    /// It takes effect no sooner, Unix seconds.
    pub due_unix: u64,
    /// It never takes effect.
    pub vetoed: bool,
    /// Number of the entry that holds its text.
    pub seq: u64,
    /// It was handed in over the wire: whether it is in the policy file does not matter.
    pub pushed: bool,
}

/// So many are remembered of those that came into force by being handed in.
const TIMES_MAX: usize = 10;

#[derive(Debug, Default)]
pub(super) struct Policies {
    active: Option<ActivePolicy>,
    /// When they came into force, Unix seconds, the latest last.
    pushed: VecDeque<u64>,
    proposed: HashMap<[u8; 32], Proposal>,
}

impl Policies {
    pub(super) fn active(&self) -> Option<ActivePolicy> {
        self.active
    }

    pub(super) fn proposal(&self, digest: &[u8; 32]) -> Option<Proposal> {
        self.proposed.get(digest).cloned()
    }

    /// When the last of those came into force that were handed in, Unix seconds.
    pub(super) fn pushed_times(&self) -> impl DoubleEndedIterator<Item = u64> + Clone + '_ {
        self.pushed.iter().copied()
    }

    /// Every policy that was proposed, or vetoed for good, by the SHA-256 of its text.
    pub(super) fn proposals(&self) -> impl Iterator<Item = (&[u8; 32], &Proposal)> {
        self.proposed.iter()
    }

    /// What an entry about policies says; no other is known here.
    pub(super) fn take(&mut self, seq: u64, event: &Event, unix_s: u64) -> Result<(), FoldError> {
        match event {
            Event::PolicyActivated { version, digest, .. } => {
                self.activate(seq, *version, *digest)?;
                if self.active.is_some_and(|active| active.pushed) {
                    let over = self.pushed.len().saturating_add(1).saturating_sub(TIMES_MAX);
                    self.pushed.drain(..over);
                    self.pushed.push_back(unix_s);
                }
                Ok(())
            }
            Event::PolicyProposed { version, digest, officers, due_unix, .. } => {
                let officers = officers.clone();
                let (due_unix, vetoed, pushed) = (*due_unix, false, false);
                let proposal = Proposal { officers, due_unix, vetoed, seq, pushed };
                self.propose(*version, *digest, proposal)
            }
            Event::PolicyVetoed { digest, .. } => match self.proposed.get_mut(digest) {
                Some(proposal) if !proposal.vetoed => {
                    proposal.vetoed = true;
                    Ok(())
                }
                _ => Err(wrong("a policy was vetoed that was not proposed, or twice")),
            },
            Event::PolicyWithdrawn { digest } => match self.proposal(digest) {
                Some(proposal) if !proposal.vetoed => {
                    self.proposed.remove(digest);
                    Ok(())
                }
                _ => Err(wrong("a policy was withdrawn that was not proposed, or was vetoed")),
            },
            Event::PolicyPushed { digest, .. } => match self.proposed.get_mut(digest) {
                Some(proposal) if !proposal.vetoed && !proposal.pushed => {
                    proposal.pushed = true;
                    Ok(())
                }
                _ => Err(wrong("a policy was handed in that was not proposed, or twice")),
            },
            _ => Err(wrong("this entry is about no policy")),
        }
    }

    fn activate(&mut self, seq: u64, version: u64, digest: [u8; 32]) -> Result<(), FoldError> {
        if self.active.is_some_and(|active| active.version >= version) {
            return Err(wrong("the policy's version did not rise"));
        }
        let proposal = self.proposed.get(&digest);
        let pushed = proposal.is_some_and(|proposal| proposal.pushed);
        if proposal.is_some_and(|proposal| proposal.vetoed) {
            return Err(wrong("a policy that was vetoed came into force"));
        }
        // What was proposed under another policy is proposed anew, with its delay and its vetoes.
        self.proposed.retain(|_, proposal| proposal.vetoed);
        self.active = Some(ActivePolicy { version, digest, seq, pushed });
        Ok(())
    }

    fn propose(
        &mut self,
        version: u64,
        digest: [u8; 32],
        proposal: Proposal,
    ) -> Result<(), FoldError> {
        if self.active.is_none_or(|active| active.version >= version) {
            return Err(wrong("a policy was proposed that could not follow the one in force"));
        }
        match self.proposed.insert(digest, proposal) {
            None => Ok(()),
            Some(_) => Err(wrong("a policy was proposed twice")),
        }
    }
}
