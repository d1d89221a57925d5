//! The shape of the policy's text before anything in it is believed. It has no defaults but empty lists of
//! what a policy may lack, and refuses every key it does not know.

use alloc::vec::Vec;

use serde::Deserialize;
use toml::Spanned;

use crate::reader::{Text, Texts};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicy {
    pub(crate) version: Spanned<u64>,
    pub(crate) network: Text,
    pub(crate) wallet: Vec<RawWallet>,
    #[serde(default)]
    pub(crate) order_key: Vec<RawOrderKey>,
    pub(crate) client: Vec<RawClient>,
    #[serde(default)]
    pub(crate) sweep: Vec<RawSweep>,
    #[serde(default)]
    pub(crate) withdraw: Vec<RawWithdraw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWallet {
    pub(crate) name: Text,
    pub(crate) tier: Text,
    pub(crate) descriptor: Text,
    pub(crate) index_window: Spanned<u32>,
    pub(crate) cloning_proof: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOrderKey {
    pub(crate) name: Text,
    pub(crate) ed25519: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClient {
    pub(crate) name: Text,
    pub(crate) attest: Texts,
    pub(crate) status: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSweep {
    pub(crate) name: Text,
    pub(crate) clients: Texts,
    pub(crate) wallets: Texts,
    pub(crate) cold: Text,
    pub(crate) min_cold_share: Text,
    pub(crate) fee: RawFee,
    pub(crate) fee_budget: Spanned<Vec<RawWindow>>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWithdraw {
    pub(crate) name: Text,
    pub(crate) clients: Texts,
    pub(crate) wallets: Texts,
    pub(crate) order_keys: Texts,
    pub(crate) per_transaction: Text,
    pub(crate) per_destination: Option<Text>,
    pub(crate) limits: Spanned<Vec<RawWindow>>,
    pub(crate) fee: RawFee,
    pub(crate) fee_budget: Spanned<Vec<RawWindow>>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFee {
    pub(crate) max_total: Text,
    pub(crate) max_feerate: Text,
    pub(crate) max_percent: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWindow {
    pub(crate) sum: Text,
    pub(crate) window: Text,
}
