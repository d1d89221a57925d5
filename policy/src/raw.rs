//! The shape of the policy's text before anything in it is believed. It has no defaults but empty lists of
//! what a policy may lack, and refuses every key it does not know.

use alloc::vec::Vec;

use serde::Deserialize;
use toml::Spanned;

use crate::raw_grant::RawGrants;
use crate::reader::{Text, Texts};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPolicy {
    pub(crate) version: Spanned<u64>,
    pub(crate) network: Text,
    pub(crate) log: Option<Text>,
    pub(crate) unfreeze: Option<Text>,
    pub(crate) wallet: Vec<RawWallet>,
    #[serde(default)]
    pub(crate) order_key: Vec<RawOrderKey>,
    pub(crate) client: Vec<RawClient>,
    #[serde(default)]
    pub(crate) sweep: Vec<RawSweep>,
    #[serde(default)]
    pub(crate) withdraw: Vec<RawWithdraw>,
    #[serde(default)]
    pub(crate) consolidate: Vec<RawConsolidate>,
    #[serde(default)]
    pub(crate) evacuate: Vec<RawEvacuate>,
    #[serde(default)]
    pub(crate) bump: Vec<RawBump>,
    #[serde(default)]
    pub(crate) officer: Vec<RawOfficer>,
    #[serde(default)]
    pub(crate) group: Vec<RawGroup>,
    pub(crate) governance: Option<RawGovernance>,
    #[serde(default)]
    pub(crate) list: Vec<RawList>,
    #[serde(default)]
    pub(crate) limit: Vec<RawLimit>,
    #[serde(default)]
    pub(crate) require: Vec<RawRequire>,
    #[serde(default)]
    pub(crate) deny: Vec<RawDeny>,
    #[serde(default)]
    pub(crate) witness: Vec<RawWitness>,
    pub(crate) witnesses_required: Option<Spanned<u32>>,
    #[serde(default)]
    pub(crate) screener: Vec<RawFactKey>,
    #[serde(default)]
    pub(crate) reconciler: Vec<RawFactKey>,
    #[serde(default)]
    pub(crate) book_key: Vec<RawFactKey>,
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
    pub(crate) officer: Option<Text>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawClient {
    pub(crate) name: Text,
    pub(crate) attest: Texts,
    pub(crate) status: bool,
    #[serde(default)]
    pub(crate) log: bool,
    #[serde(default)]
    pub(crate) officers: bool,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSweep {
    pub(crate) name: Text,
    pub(crate) clients: RawGrants,
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
    pub(crate) clients: RawGrants,
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
pub(crate) struct RawConsolidate {
    pub(crate) name: Text,
    pub(crate) clients: RawGrants,
    pub(crate) wallets: Texts,
    pub(crate) fee: RawFee,
    pub(crate) fee_budget: Spanned<Vec<RawWindow>>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEvacuate {
    pub(crate) name: Text,
    pub(crate) clients: RawGrants,
    pub(crate) wallets: Texts,
    pub(crate) cold: Text,
    pub(crate) approvals: Text,
    pub(crate) max_per_domain: Option<Spanned<u32>>,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawOfficer {
    pub(crate) name: Text,
    pub(crate) domain: Text,
    pub(crate) ed25519: Option<Text>,
    pub(crate) p256: Option<Text>,
    #[serde(default)]
    pub(crate) revoked: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGroup {
    pub(crate) name: Text,
    pub(crate) members: Texts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawList {
    pub(crate) name: Text,
    pub(crate) matures: Option<Text>,
    pub(crate) book_keys: Option<Texts>,
    pub(crate) entries: Spanned<Vec<RawEntry>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawEntry {
    pub(crate) label: Text,
    pub(crate) address: Option<Text>,
    pub(crate) script: Option<Text>,
    pub(crate) descriptor: Option<Text>,
    pub(crate) indexes: Option<Spanned<u32>>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWhen {
    pub(crate) lanes: Option<Texts>,
    pub(crate) wallets: Option<Texts>,
    pub(crate) clients: Option<Texts>,
    pub(crate) order_keys: Option<Texts>,
    pub(crate) listed: Option<Texts>,
    pub(crate) unlisted: Option<Texts>,
    pub(crate) above: Option<Text>,
    pub(crate) window: Option<Text>,
    pub(crate) by: Option<Text>,
    pub(crate) unscreened: Option<Text>,
    pub(crate) unbalanced: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLimit {
    pub(crate) name: Text,
    pub(crate) lanes: Option<Texts>,
    pub(crate) by: Text,
    pub(crate) window: Text,
    pub(crate) sum: Option<Text>,
    pub(crate) count: Option<Spanned<u64>>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRequire {
    pub(crate) name: Text,
    pub(crate) when: RawWhen,
    pub(crate) approvals: Option<Text>,
    pub(crate) max_per_domain: Option<Spanned<u32>>,
    pub(crate) delay: Option<Text>,
    pub(crate) veto: Option<Text>,
    pub(crate) hours: Option<Texts>,
    pub(crate) screened: Option<Text>,
    pub(crate) books: Option<Text>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGovernance {
    pub(crate) tighten: Text,
    pub(crate) change: Text,
    pub(crate) max_per_domain: Option<Spanned<u32>>,
    pub(crate) delay: Text,
    pub(crate) veto: Option<Text>,
    pub(crate) administer: Option<Text>,
    pub(crate) unbind: Option<Text>,
    pub(crate) recover: Option<Text>,
    pub(crate) recover_delay: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDeny {
    pub(crate) name: Text,
    pub(crate) when: Spanned<RawWhen>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWitness {
    pub(crate) name: Text,
    pub(crate) ed25519: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFactKey {
    pub(crate) name: Text,
    pub(crate) ed25519: Text,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawBump {
    pub(crate) name: Text,
    pub(crate) clients: RawGrants,
    pub(crate) wallets: Texts,
    pub(crate) package: RawPackage,
    pub(crate) fee: RawFee,
    pub(crate) fee_budget: Spanned<Vec<RawWindow>>,
    pub(crate) expires_unix: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawPackage {
    pub(crate) max_total: Text,
    pub(crate) max_feerate: Text,
}
