//! Every parser of bytes that a stranger can send, each as one function that panics when a promise is broken: what is
//! accepted is written again as it was, two readers agree, nothing is believed that an oracle here denies. It never
//! decides what to try: `tests/short.rs` mutates in every test run, `libfuzzer/` for as long as it is let.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    reason = "a target fails by panicking"
)]

#[path = "../../signer/tests/common/mod.rs"]
mod common;
mod bundles;
mod requests;
mod policies;
mod shares;
mod wire;
mod logs;
mod texts;
mod transport;
mod people;

/// One parser under test.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, and its folder in the corpus.
    pub name: &'static str,
    /// Panics when a promise is broken.
    pub run: fn(&[u8]),
    /// Inputs that lead into the parser, from published vectors where there are any.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Mutations that the short run tries.
    pub rounds: u32,
}

/// All of them.
#[rustfmt::skip]
pub const TARGETS: [Target; 18] = [
    Target { name: "bundle", run: bundles::run, seeds: bundles::seeds, rounds: 20_000 },
    Target { name: "kek", run: bundles::kek, seeds: bundles::kek_seeds, rounds: 30_000 },
    Target { name: "request", run: requests::run, seeds: requests::seeds, rounds: 10_000 },
    Target { name: "policy", run: policies::policy, seeds: policies::policy_seeds, rounds: 3_000 },
    Target { name: "descriptor", run: policies::descriptor, seeds: policies::descriptor_seeds, rounds: 1_500 },
    Target { name: "share", run: shares::run, seeds: shares::seeds, rounds: 60_000 },
    Target { name: "worker-question", run: wire::question, seeds: wire::question_seeds, rounds: 100_000 },
    Target { name: "worker-answer", run: wire::answer, seeds: wire::answer_seeds, rounds: 100_000 },
    Target { name: "entry", run: logs::entry, seeds: logs::entry_seeds, rounds: 100_000 },
    Target { name: "checkpoint", run: logs::checkpoint, seeds: logs::checkpoint_seeds, rounds: 10_000 },
    Target { name: "attestation", run: logs::leaf, seeds: logs::leaf_seeds, rounds: 100_000 },
    Target { name: "token-key", run: logs::token_key, seeds: logs::token_key_seeds, rounds: 10_000 },
    Target { name: "order", run: texts::order, seeds: texts::order_seeds, rounds: 100_000 },
    Target { name: "statement", run: people::statement, seeds: people::statement_seeds, rounds: 50_000 },
    Target { name: "intent", run: people::intent, seeds: people::intent_seeds, rounds: 50_000 },
    Target { name: "amount", run: texts::amount, seeds: texts::amount_seeds, rounds: 100_000 },
    Target { name: "certificate", run: transport::certificate, seeds: transport::certificate_seeds, rounds: 50_000 },
    Target { name: "freeing", run: transport::freeing, seeds: transport::freeing_seeds, rounds: 10_000 },
];

/// The target of this name.
#[must_use]
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
