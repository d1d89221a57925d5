//! How policies followed one another: each by those whom the one before names, after its delay, and never against a veto.
//! Signatures over a policy are in the log where it came over the wire, and are verified; over one of the policy file they are not:
//! the signer verified them, and says whose.

use std::collections::HashMap;

use asset::Network;
use audit::entry::Event;
use policy::Rules;
use policy::governance::Next;
use policy::names::KeyName;
use sha2::{Digest as _, Sha256};

#[derive(Clone, Debug, Default)]
pub(super) struct Governed {
    /// Of this log.
    origin: String,
    /// The officers that the log began with: the first policy has them, and is signed by them.
    first: Option<[u8; 32]>,
    /// The policy in force, if something governs it.
    active: Option<Box<Rules>>,
    proposed: HashMap<[u8; 32], Proposed>,
}

/// What was proposed.
#[derive(Clone, Debug)]
struct Proposed {
    /// What.
    next: Box<Rules>,
    /// Not before when.
    due_unix: u64,
    vetoed: bool,
    /// An officer's signed word against it is in the log: it may not come into force, whether or not that says `vetoed`.
    objected: bool,
    /// Signed by those who are there for when too many keys are lost.
    recovery: bool,
    /// It came over the wire.
    pushed: bool,
}

impl Proposed {
    fn is_stopped(&self) -> bool {
        self.vetoed || self.objected
    }
}

impl Governed {
    pub(super) fn begin(&mut self, origin: &str, officers: Option<[u8; 32]>) {
        origin.clone_into(&mut self.origin);
        self.first = officers;
    }

    pub(super) fn activate(
        &mut self,
        network: &str,
        now_unix: u64,
        digest: &[u8; 32],
        text: &str,
        officers: &[String],
    ) -> Result<(), String> {
        let table = toml::from_str::<toml::Table>(text);
        let governed = table.map_or(true, |table| table.contains_key("governance"));
        if !governed && self.active.is_none() && self.first.is_none() {
            return Ok(());
        }
        let mut next = self.rules(network, text, officers)?;
        if let (None, Some(first)) = (&self.active, &self.first) {
            next = next.begins_with(first).map_err(|error| error.to_string())?;
        }
        if let Some(active) = &self.active {
            match active.gives_way(next.clone()).map_err(|error| error.to_string())? {
                Next::AtOnce(_) if self.proposed.get(digest).is_some_and(Proposed::is_stopped) => {
                    return Err("this policy was vetoed".to_owned());
                }
                Next::AtOnce(_) => {}
                next @ (Next::After(..) | Next::Recovery(..)) => match self.proposed.get(digest) {
                    None => {
                        return Err("this policy was not proposed first, and had to be".to_owned());
                    }
                    Some(proposed) if proposed.is_stopped() => {
                        return Err("this policy was vetoed".to_owned());
                    }
                    // Due sooner, and stopped by more; the other way round nothing was taken from anybody.
                    Some(proposed) if matches!(next, Next::Recovery(..)) && !proposed.recovery => {
                        return Err("this policy was recovered, and had not been proposed as that"
                            .to_owned());
                    }
                    Some(proposed) if now_unix < proposed.due_unix => {
                        return Err("this policy came into force before it was due".to_owned());
                    }
                    Some(_) => {}
                },
            }
        }
        self.proposed.retain(|_, proposed| proposed.is_stopped());
        self.active = next.governance().is_some().then(|| Box::new(next));
        Ok(())
    }

    fn rules(&self, network: &str, text: &str, officers: &[String]) -> Result<Rules, String> {
        let rules = rules(network, text, officers)?;
        for_log(&self.origin, &rules)?;
        Ok(rules)
    }

    /// An officer signed against a proposal.
    pub(super) fn object(&mut self, officer: &KeyName, digest: &[u8; 32]) -> Result<(), String> {
        let active = self.active.as_ref();
        let active = active.ok_or("nothing governs the policy in force")?;
        let proposed = self.proposed.get_mut(digest).filter(|proposed| !proposed.is_stopped());
        let proposed = proposed.ok_or("this veto is over nothing that was proposed")?;
        if !active.may_veto_policy(officer, proposed.recovery) {
            return Err("this veto is by nobody who may".to_owned());
        }
        proposed.objected = true;
        Ok(())
    }

    /// A proposal, a veto or a withdrawal.
    pub(super) fn follow(
        &mut self,
        network: &str,
        now_unix: u64,
        event: &Event,
    ) -> Result<(), String> {
        let origin = self.origin.clone();
        let active = self.active.as_ref();
        let active = active.ok_or("nothing governs the policy in force")?;
        match event {
            Event::PolicyProposed { version, digest, text, officers, due_unix } => {
                let next = rules(network, text, officers)?;
                for_log(&origin, &next)?;
                let same = next.version() == *version && next.digest() == digest;
                let digest_holds = <[u8; 32]>::from(Sha256::digest(text)) == *digest;
                if !same || !digest_holds {
                    return Err("the proposed policy is not what the entry says of it".to_owned());
                }
                let way = active.gives_way(next.clone()).map_err(|error| error.to_string())?;
                let (recovery, delay) = match way {
                    Next::AtOnce(_) => (false, 0),
                    Next::After(_, delay) => (false, delay),
                    Next::Recovery(_, delay) => (true, delay),
                };
                // It is written down up to a second after it was decided.
                if due_unix.saturating_add(1) < now_unix.saturating_add(delay) {
                    return Err("the proposed policy is due sooner than its delay".to_owned());
                }
                let (next, due_unix) = (Box::new(next), *due_unix);
                let (vetoed, objected, pushed) = (false, false, false);
                let proposed = Proposed { next, due_unix, vetoed, objected, recovery, pushed };
                match self.proposed.insert(*digest, proposed) {
                    None => Ok(()),
                    Some(_) => Err("this policy was proposed before".to_owned()),
                }
            }
            Event::PolicyVetoed { digest, officers } => {
                let Some(proposed) = self.proposed.get_mut(digest).filter(|p| !p.vetoed) else {
                    return Err("this veto is over nothing that was proposed".to_owned());
                };
                let may = |name: KeyName| active.may_veto_policy(&name, proposed.recovery);
                if !officers.iter().filter_map(|name| KeyName::parse(name).ok()).any(may) {
                    return Err("this veto is by nobody who may".to_owned());
                }
                proposed.vetoed = true;
                Ok(())
            }
            Event::PolicyWithdrawn { digest } => match self.proposed.get(digest) {
                Some(proposed) if !proposed.is_stopped() => {
                    self.proposed.remove(digest);
                    Ok(())
                }
                _ => Err("nothing that could be withdrawn was proposed".to_owned()),
            },
            Event::PolicyPushed { digest, signatures, .. } => {
                let proposed = self.proposed.get_mut(digest);
                let open = proposed.filter(|one| !one.is_stopped() && !one.pushed);
                let proposed =
                    open.ok_or("what was pushed was not proposed before, or was pushed already")?;
                is_signed(active, proposed, digest, signatures)?;
                proposed.pushed = true;
                Ok(())
            }
            _ => Err("this entry is about no policy".to_owned()),
        }
    }
}

/// The signatures that came with a policy verify, and make it the kind of proposal that it is.
fn is_signed(
    active: &Rules,
    proposed: &Proposed,
    digest: &[u8; 32],
    signatures: &str,
) -> Result<(), String> {
    let by = active.signed_by(digest, signatures).map_err(|error| error.to_string())?;
    let (text, network) = (proposed.next.text(), proposed.next.network());
    let next = Rules::reopen(text, by, network).and_then(|next| active.gives_way(next));
    match next.map_err(|error| error.to_string())? {
        Next::Recovery(..) if !proposed.recovery => {
            Err("it was pushed as a recovery, and had not been proposed as that".to_owned())
        }
        _ => Ok(()),
    }
}

/// One that names no log is from before policies did.
fn for_log(origin: &str, rules: &Rules) -> Result<(), String> {
    match rules.log() {
        Some(named) if named != origin => Err(format!("this policy is for the log {named}")),
        _ => Ok(()),
    }
}

fn rules(network: &str, text: &str, officers: &[String]) -> Result<Rules, String> {
    let known = Network::ALL.into_iter().find(|known| known.chain_id().to_string() == network);
    let network = known.ok_or("the log is for a network that this program does not know")?;
    let officers = officers.iter().filter_map(|name| KeyName::parse(name).ok()).collect();
    Rules::reopen(text, officers, network).map_err(|error| error.to_string())
}
