//! Which tier the wallet of an entry is of, as the entries before it say: its import or binding, else the policy in force. It
//! never guesses: what the log does not say is unknown.

use std::collections::HashMap;
use std::sync::Arc;

use audit::entry::{Entry, Event};

use crate::policies;

/// What the entries so far said.
#[derive(Debug, Default)]
pub(super) struct Tiers {
    /// By import or binding: no other tier may follow for that wallet.
    bound: HashMap<String, String>,
    /// By the policy in force.
    pinned: HashMap<String, String>,
    /// The wallet of each request.
    requests: HashMap<[u8; 16], Arc<str>>,
}

/// The wallet that an entry is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Of {
    pub(super) wallet: String,
    /// `None` where the log does not say.
    pub(super) tier: Option<String>,
}

impl Of {
    /// What people see where the log does not say.
    pub(super) fn tier(&self) -> &str {
        self.tier.as_deref().unwrap_or("unknown")
    }
}

impl Tiers {
    /// Takes the next entry, and says of which wallet it is, if of one.
    pub(super) fn follow(&mut self, entry: &Entry) -> Option<Of> {
        match &entry.event {
            Event::PolicyActivated { text, .. } => self.activate(text),
            Event::WalletImported { wallet, tier, .. }
            | Event::TokenWalletBound { wallet, tier, .. } => {
                self.bound.insert(wallet.clone(), tier.clone());
            }
            Event::Admitted(admitted) => {
                self.requests.insert(admitted.request, admitted.wallet.as_str().into());
            }
            _ => {}
        }
        let wallet = self.wallet(&entry.event)?;
        let tier = self.bound.get(&wallet).or_else(|| self.pinned.get(&wallet)).cloned();
        Some(Of { wallet, tier })
    }

    /// A policy that cannot be read here says nothing.
    fn activate(&mut self, text: &str) {
        self.pinned.clear();
        let Ok(rules) = policies::view(text, None) else { return };
        let tiers = rules.wallets().iter().map(|wallet| {
            let tier = wallet.tier.as_str().to_owned();
            (wallet.name.to_string(), tier)
        });
        self.pinned.extend(tiers);
    }

    fn wallet(&self, event: &Event) -> Option<String> {
        let of_request = |id: &[u8; 16]| self.requests.get(id).map(|wallet| wallet.to_string());
        match event {
            Event::WalletImported { wallet, .. }
            | Event::TokenWalletBound { wallet, .. }
            | Event::KeyState { wallet, .. }
            | Event::RecordsReplaced { wallet, .. }
            | Event::Proven { wallet, .. }
            | Event::ProofFailed { wallet, .. } => Some(wallet.clone()),
            Event::Admitted(admitted) => Some(admitted.wallet.clone()),
            Event::Spend(spend) => Some(spend.wallet.clone()),
            Event::Awaiting(awaiting) => Some(awaiting.spend.wallet.clone()),
            Event::Attested(attested) => Some(attested.wallet.clone()),
            Event::TokenDistrusted { wallet, .. } => wallet.clone(),
            Event::Considered(considered) => of_request(&considered.request),
            Event::Denied { request, .. }
            | Event::SpendAgain { request, .. }
            | Event::Signed { request, .. }
            | Event::PartlySigned { request, .. }
            | Event::Failed { request, .. }
            | Event::WaitEnded { request, .. }
            | Event::Withheld { request, .. } => of_request(request),
            _ => None,
        }
    }
}
