//! What people had a part in: locks, keys of the token, deeds at the signer's machine, what waits for officers, and what their
//! words let happen. Their statements are verified by the module of the same name one floor up.

use audit::entry::Event;
use policy::order::OrderRef;
use policy::p256::Point;
use policy::people::OfficerKey;
use statement::{Deed, NO_TOKEN, Unbinding};

use super::{ACTIVE, Story};
use crate::audit::coins;

impl Story {
    /// A client is freed only by officers, from the entry that locked it. Other kinds of entry are about the token.
    pub(super) fn lock(&mut self, seq: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::ClientLocked { client, .. } => match self.locked.insert(client.clone(), seq) {
                None => Ok(()),
                Some(_) => Err("a client was locked twice".to_owned()),
            },
            Event::ClientFreed { officers, .. } if !self.people.may_free(officers) => {
                Err("a client was freed by nobody who may".to_owned())
            }
            Event::ClientFreed { client, lock, .. } => match self.locked.remove(client) {
                Some(entry) if entry == *lock => Ok(()),
                _ => Err("a client was freed that this entry did not lock".to_owned()),
            },
            event => self.key_in_token(seq, event),
        }
    }

    /// Something was done at the signer's machine; with any token where the entry names none.
    pub(super) fn done(&mut self, task: &str, token: Option<&str>) -> Result<(), String> {
        self.people.done(Deed::parse(task)?, token, self.last_ms / 1000)
    }

    /// Keys that were born in the token or brought into it; no other kind of entry is known here.
    fn key_in_token(&mut self, seq: u64, event: &Event) -> Result<(), String> {
        match event {
            Event::TokenKeyMade { name, serial, public_key, .. }
                if self.born.insert(public_key.clone()) =>
            {
                self.done(&format!("token-key-generate {name}"), Some(serial))
            }
            Event::TokenKeyMade { .. } => Err("this key was made before".to_owned()),
            Event::TokenKeyState { name, state, .. } if state == ACTIVE => {
                self.done(&format!("token-key-activate {name}"), None)
            }
            Event::TokenKeyState { .. } => Ok(()),
            Event::KekImport { what, key, serial } => {
                let key = key.map(hex::encode).unwrap_or_default();
                match what.as_str() {
                    "opening" => self.done("kek-open", Some(serial)),
                    "imported" => self.done(&format!("kek-import {key}"), Some(serial)),
                    "forgotten" => self.done(&format!("kek-forget {key}"), Some(serial)),
                    _ => Ok(()),
                }
            }
            Event::TokenWalletBound { wallet, tier, keys, indexes, .. } => {
                self.bind(wallet, tier, keys, *indexes)
            }
            event => self.of_people(seq, event),
        }
    }

    /// What waits for officers, and what they said; no other kind of entry is known here.
    fn of_people(&mut self, seq: u64, event: &Event) -> Result<(), String> {
        let unix_s = self.last_ms / 1000;
        match event {
            Event::Awaiting(awaiting) => {
                coins::check_spend(&awaiting.spend)?;
                self.stated(Some(&awaiting.spend), &awaiting.spend.trace)?;
                if self.policy != Some(awaiting.spend.policy) {
                    return Err("a request waits under a policy that is not in force".to_owned());
                }
                self.request(&awaiting.spend.request)?;
                self.people.wait(awaiting)
            }
            Event::WaitEnded { request, .. } => self.people.end(*request),
            Event::Withheld { request, policy, reason, may_have_left } => {
                self.in_force(*policy)?;
                self.people.withhold(*request, &reason.code, *may_have_left)
            }
            Event::ClockDoubted { held_unix, .. } => {
                let again = self.doubt.replace((seq, *held_unix)).is_some();
                match again || *held_unix > unix_s {
                    true => Err("the clock was doubted twice, or from later on".to_owned()),
                    false => Ok(()),
                }
            }
            Event::ClockBelieved { doubt, policy, officers } => {
                self.in_force(*policy)?;
                if self.doubt.take().map(|(entry, _)| entry) != Some(*doubt) {
                    return Err("a doubt about the clock was settled that was not there".to_owned());
                }
                self.people.settle(*doubt, officers, unix_s)
            }
            Event::Considered(considered) => {
                coins::check_considered(considered)?;
                self.request(&considered.request).map(drop)
            }
            Event::OfficerSaid { statement, signature, key, .. } => {
                self.hear(statement, signature, &OfficerKey::Ed25519(*key))
            }
            Event::OfficerSaidP256 { statement, signature, key, .. } => {
                let point = key.as_slice().try_into().ok().and_then(Point::read);
                let point = point.ok_or("an officer's P-256 key is no point of the curve")?;
                self.hear(statement, signature, &OfficerKey::P256(point))
            }
            Event::Administered { what, serial, site } => {
                let deed = match what.as_str() {
                    "init" => Deed::Init,
                    "activate" => Deed::Activate(*site),
                    "pin-clear" => Deed::ClearPin(*site),
                    "pin-clear-last-try" => Deed::ClearPinLastTry(*site),
                    "token-clear" => Deed::ClearToken(*site),
                    "anchor-forget" => Deed::ForgetAnchor(*site),
                    "revocations" => {
                        return self.done(&format!("revocations {serial}"), Some(NO_TOKEN));
                    }
                    "set-pin" => return self.people.begin_pin(serial, unix_s),
                    "set-pin failed" => return self.people.fail_pin(serial),
                    _ => return Err("this program does not know what was done there".to_owned()),
                };
                self.people.done(deed, Some(serial), unix_s)
            }
            Event::SanctionsRead { .. } | Event::FactStated { .. } => {
                self.people.fact(event, unix_s)
            }
            event => self.enough_said(event),
        }
    }

    /// What officers let happen by their words alone, enough of them; no other kind of entry is known here.
    fn enough_said(&mut self, event: &Event) -> Result<(), String> {
        let unix_s = self.last_ms / 1000;
        match event {
            Event::FreezeLifted { freeze, policy, officers } => {
                self.in_force(*policy)?;
                self.people.lift(freeze, officers, unix_s)
            }
            Event::Unbound { key, id, versions, policy, officers } => {
                self.in_force(*policy)?;
                self.people.unbind((key, id), versions, officers, unix_s)?;
                self.unbind(*key, id, versions)
            }
            _ => Err("this program does not know what it says: use a newer one".to_owned()),
        }
    }

    fn hear(&mut self, statement: &[u8], signature: &[u8], key: &OfficerKey) -> Result<(), String> {
        let when = (self.last_ms / 1000, self.stood);
        let orders = &self.orders;
        let is_bound = |unbinding: &Unbinding| {
            let OrderRef { key, id } = &unbinding.order;
            let payments = orders.get(&(*key, id.to_string()));
            unbinding.versions.iter().all(|name| payments.is_some_and(|paid| paid.binds(name)))
        };
        match self.people.hear(statement, signature, key, when, is_bound)? {
            Some((officer, policy)) => self.governed.object(&officer, &policy),
            None => Ok(()),
        }
    }
}
