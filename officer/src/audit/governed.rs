//! How policies followed one another: each by those whom the one before names, after its delay, and never against a veto.
//! It never looks at signatures over a policy, which the log does not hold: the signer verified them, and says whose.

use std::collections::HashMap;

use asset::Network;
use audit::entry::Event;
use policy::Rules;
use policy::governance::Next;
use policy::names::KeyName;
use sha2::{Digest as _, Sha256};

#[derive(Clone, Debug, Default)]
pub(super) struct Governed {
    /// The officers that the log began with: the first policy has them, and is signed by them.
    first: Option<[u8; 32]>,
    /// The policy in force, if something governs it.
    active: Option<Box<Rules>>,
    /// What was proposed: not before when, and whether it was vetoed.
    proposed: HashMap<[u8; 32], (u64, bool)>,
}

impl Governed {
    pub(super) fn begin(&mut self, officers: Option<[u8; 32]>) {
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
        let mut next = rules(network, text, officers)?;
        if let (None, Some(first)) = (&self.active, &self.first) {
            next = next.begins_with(first).map_err(|error| error.to_string())?;
        }
        if let Some(active) = &self.active {
            match active.gives_way(next.clone()).map_err(|error| error.to_string())? {
                Next::AtOnce(_) if self.proposed.get(digest).is_some_and(|(_, vetoed)| *vetoed) => {
                    return Err("this policy was vetoed".to_owned());
                }
                Next::AtOnce(_) => {}
                Next::After(..) | Next::Recovery(..) => match self.proposed.get(digest) {
                    None => {
                        return Err("this policy was not proposed first, and had to be".to_owned());
                    }
                    Some((_, true)) => return Err("this policy was vetoed".to_owned()),
                    Some((due, false)) if now_unix < *due => {
                        return Err("this policy came into force before it was due".to_owned());
                    }
                    Some(_) => {}
                },
            }
        }
        self.proposed.retain(|_, (_, vetoed)| *vetoed);
        self.active = next.governance().is_some().then(|| Box::new(next));
        Ok(())
    }

    /// A proposal, a veto or a withdrawal.
    pub(super) fn follow(
        &mut self,
        network: &str,
        now_unix: u64,
        event: &Event,
    ) -> Result<(), String> {
        let active = self.active.as_ref();
        let active = active.ok_or("nothing governs the policy in force")?;
        match event {
            Event::PolicyProposed { version, digest, text, officers, due_unix } => {
                let next = rules(network, text, officers)?;
                let same = next.version() == *version && next.digest() == digest;
                let digest_holds = <[u8; 32]>::from(Sha256::digest(text)) == *digest;
                if !same || !digest_holds {
                    return Err("the proposed policy is not what the entry says of it".to_owned());
                }
                let delay = match active.gives_way(next).map_err(|error| error.to_string())? {
                    Next::AtOnce(_) => 0,
                    Next::After(_, delay) | Next::Recovery(_, delay) => delay,
                };
                if *due_unix < now_unix.saturating_add(delay) {
                    return Err("the proposed policy is due sooner than its delay".to_owned());
                }
                match self.proposed.insert(*digest, (*due_unix, false)) {
                    None => Ok(()),
                    Some(_) => Err("this policy was proposed before".to_owned()),
                }
            }
            Event::PolicyVetoed { digest, officers } => {
                let group = active.governance().and_then(|governance| governance.veto.as_ref());
                let group = active.groups().iter().find(|known| Some(&known.name) == group);
                let may = |name: &String| {
                    group.is_some_and(|group| group.members.iter().any(|m| m.as_str() == name))
                };
                match self.proposed.get_mut(digest) {
                    Some((_, vetoed)) if !*vetoed && officers.iter().any(may) => *vetoed = true,
                    _ => return Err("this veto is by nobody who may, or over nothing".to_owned()),
                }
                Ok(())
            }
            Event::PolicyWithdrawn { digest } => match self.proposed.get(digest) {
                Some((_, false)) => {
                    self.proposed.remove(digest);
                    Ok(())
                }
                _ => Err("nothing that could be withdrawn was proposed".to_owned()),
            },
            _ => Err("this entry is about no policy".to_owned()),
        }
    }
}

fn rules(network: &str, text: &str, officers: &[String]) -> Result<Rules, String> {
    let known = Network::ALL.into_iter().find(|known| known.chain_id().to_string() == network);
    let network = known.ok_or("the log is for a network that this program does not know")?;
    let officers = officers.iter().filter_map(|name| KeyName::parse(name).ok()).collect();
    Rules::reopen(text, officers, network).map_err(|error| error.to_string())
}
