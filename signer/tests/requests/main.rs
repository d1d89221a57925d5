//! Requests from bytes: what is proven of a good one, and the one reason each bad one gets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/attacker.rs"]
mod attacker;
mod drill;
mod good;
mod bad;
mod kinds;
mod lists;
mod named;
mod psbts;

use common::{Coin, Descriptors, Knobs, Out, coin, own, psbt};
use policy::Rules;
use policy::names::ClientName;
use signer::refusal::{Reason, Refusal};
use signer::request::{Draft, SigningRequest, asked};
use signer::wallets::Wallets;

/// A request that is good until a test changes it.
pub(crate) struct Case {
    pub(crate) wallets: Descriptors,
    pub(crate) header: proto::SignHeader,
    pub(crate) parents: Vec<Vec<u8>>,
    pub(crate) proven: [u32; 2],
}

impl Case {
    /// Two deposits into cold storage, some change.
    pub(crate) fn sweep() -> Self {
        let wallets = Descriptors::fixed();
        let coins = [
            coin(&wallets.deposits, false, 3, 60_000, 1, 2),
            coin(&wallets.deposits, true, 0, 50_000, 2, 1),
        ];
        let outs = [own(&wallets.cold, false, 0, 70_000), own(&wallets.deposits, true, 1, 39_000)];
        Self::of("sweep", "deposits", &coins, &outs)
    }

    pub(crate) fn of(lane: &str, wallet: &str, coins: &[Coin], outs: &[Out]) -> Self {
        Self {
            wallets: Descriptors::fixed(),
            header: common::header("key-1", lane, wallet, &psbt(coins, outs)),
            parents: coins.iter().map(Coin::parent_bytes).collect(),
            proven: [100, 100],
        }
    }

    /// Changes the PSBT.
    pub(crate) fn edit(mut self, change: impl FnOnce(&mut bitcoin::Psbt)) -> Self {
        let mut psbt = bitcoin::Psbt::deserialize(&self.header.psbt).unwrap();
        change(&mut psbt);
        self.header.psbt = psbt.serialize();
        self
    }

    pub(crate) fn rules(&self) -> Rules {
        common::rules(&self.wallets, &Knobs::default())
    }

    pub(crate) fn parse(&self) -> Result<SigningRequest, Refusal> {
        let rules = self.rules();
        let wallets = Wallets::new(&rules).unwrap();
        let caller = ClientName::parse("watcher-1").unwrap();
        let asked = asked(caller, &self.header.idempotency_key)?;
        let mut draft = Draft::read(asked, &self.header, &rules, &wallets)?;
        for parent in &self.parents {
            draft.add_parent(parent)?;
        }
        draft.prove(&rules, &wallets, self.proven)
    }

    pub(crate) fn reason(&self) -> Reason {
        self.parse().unwrap_err().reason
    }
}
