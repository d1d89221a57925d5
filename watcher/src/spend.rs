//! What sweeps and payouts share: settings, what they work with, feerates and fee caps. It never plans, never asks for
//! a signature, and knows no policy: its caps only keep requests within what the signer will most likely allow.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use asset::unit::BITCOIN_UNITS;
use asset::{FeeRate, Percent};
use bitcoin::{Amount, Txid};
use serde::{Deserialize, Deserializer};
use tokio::sync::{Mutex, Notify};

use crate::book::Book;
use crate::chain::Handle;
use crate::config::Purpose;
use crate::error::Error;
use crate::made;
use crate::node::Node;
use crate::pace::Pace;
use crate::plan::{INPUTS_MAX, Limits, PARENT_BYTES_MAX, PlanError, WEIGHT_MAX, size};
use crate::signer_client::{Reason, SignerClient};
use crate::store::Store;
use crate::wallets::{Wallet, Wallets};

/// How long a status call waits for the signer.
const SIGNER_WAIT: Duration = Duration::from_secs(3);

/// How often a higher fee for one transaction is refused before it is no longer tried.
const BUMPS_REFUSED_MAX: i64 = 16;
/// Longest pause before a higher fee is tried again, in seconds: the usual window of a fee budget.
const BUMP_PAUSE_MAX: u64 = 86_400;

/// The signer raises an alarm for 100 denials in an hour that name no rule, and locks out who asks 100 times in 10 minutes for what can
/// never be right: this leaves room for what is denied when it is tried first.
const TRIES_PER_HOUR: NonZeroU32 = NonZeroU32::MIN.saturating_add(59);

/// Settings of sweeps and payouts; every one has a default.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpendConfig {
    /// The policy's lane for sweeps.
    pub sweep_lane: String,
    /// The policy's lane for payouts.
    pub withdraw_lane: String,
    /// The policy's lane on which a payout that is out is made again at a higher fee; without one, that of payouts.
    pub bump_lane: Option<String>,
    /// Where sweeps go; not needed while a tenant has one cold wallet.
    pub cold_wallet: Option<String>,
    /// What payouts are paid from unless they say; not needed while a tenant has one hot wallet.
    pub hot_wallet: Option<String>,
    /// Most inputs of one transaction.
    pub inputs_max: usize,
    /// Highest fee of one transaction, e.g. "0.01 BTC".
    #[serde(deserialize_with = "amount")]
    pub fee_max: Amount,
    /// Highest fee as a share of what is paid, e.g. "5%".
    #[serde(deserialize_with = "from_text")]
    pub fee_share_max: Percent,
    /// Lowest feerate that nodes relay.
    #[serde(deserialize_with = "from_text")]
    pub feerate_min: FeeRate,
    /// Highest feerate, whoever asks for it.
    #[serde(deserialize_with = "from_text")]
    pub feerate_max: FeeRate,
    /// Used while the node has no estimate.
    #[serde(deserialize_with = "from_text")]
    pub feerate_fallback: FeeRate,
    /// Within how many blocks transactions should confirm.
    pub target_blocks: u16,
    /// An unconfirmed transaction that the node does not have is sent again after so many seconds.
    pub resend_seconds: u64,
    /// One that waits in the mempool for so many seconds is made again at a higher fee, if the node's estimate has
    /// risen by a quarter; 0 for never.
    pub bump_seconds: u64,
    /// Payouts that one key ordered and that may wait at once.
    pub waiting_max: u32,
    /// Tries in an hour of what the policy denied and may allow later, over all keys.
    pub denied_tries_per_hour: NonZeroU32,
    /// Services whose orders are taken, with their Ed25519 keys in hex, as in the policy. Without their key, anybody
    /// granted payouts could take an order's id before the service does.
    #[serde(deserialize_with = "order_keys")]
    pub order_keys: BTreeMap<String, [u8; 32]>,
    /// Sweeps made without being asked for.
    pub auto_sweeps: Vec<AutoSweep>,
    /// Lanes by which everything of a wallet may go to cold storage.
    pub evacuations: Vec<EvacuationLane>,
}

/// A lane of `[[evacuate]]` in the policy, with caps of its own: on that day fees matter less.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvacuationLane {
    /// Its name in the policy.
    pub lane: String,
    /// Where it goes, as in the policy; without it, where sweeps go.
    pub cold_wallet: Option<String>,
    /// Highest fee of one transaction, e.g. "0.1 BTC".
    #[serde(deserialize_with = "amount")]
    pub fee_max: Amount,
    /// Highest fee as a share of what goes to cold storage, e.g. "5%".
    #[serde(deserialize_with = "from_text")]
    pub fee_share_max: Percent,
    /// Highest feerate, e.g. "500 sat/vB".
    #[serde(deserialize_with = "from_text")]
    pub feerate_max: FeeRate,
}

/// "Sweep this wallet every so often, when it holds enough."
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutoSweep {
    /// Which wallet.
    pub wallet: String,
    /// How long after the last sweep of it, in seconds.
    pub every_seconds: u64,
    /// How much must be spendable, e.g. "0.5 BTC".
    #[serde(deserialize_with = "amount")]
    pub total_min: Amount,
}

impl Default for SpendConfig {
    fn default() -> Self {
        Self {
            sweep_lane: "sweep".into(),
            withdraw_lane: "withdraw".into(),
            bump_lane: None,
            cold_wallet: None,
            hot_wallet: None,
            inputs_max: INPUTS_MAX,
            fee_max: Amount::from_sat(1_000_000),
            fee_share_max: Percent::from_millionths(50_000).unwrap_or(Percent::ZERO),
            feerate_min: FeeRate::from_sat_per_kvb(1_000),
            feerate_max: FeeRate::from_sat_per_kvb(100_000),
            feerate_fallback: FeeRate::from_sat_per_kvb(5_000),
            target_blocks: 6,
            resend_seconds: 30,
            bump_seconds: 3_600,
            waiting_max: 1_000,
            denied_tries_per_hour: TRIES_PER_HOUR,
            order_keys: BTreeMap::new(),
            auto_sweeps: Vec::new(),
            evacuations: Vec::new(),
        }
    }
}

impl SpendConfig {
    /// The caps for one plan of P2WPKH coins, with at most `inputs_max` inputs if that is fewer and not zero.
    #[must_use]
    pub fn limits(&self, inputs_max: u32) -> Limits {
        let asked = usize::try_from(inputs_max).unwrap_or(usize::MAX);
        let own = self.inputs_max.min(INPUTS_MAX);
        Limits {
            inputs_max: if asked == 0 { own } else { own.min(asked) },
            input_weight: size::INPUT_WEIGHT,
            weight_max: WEIGHT_MAX,
            parent_bytes_max: PARENT_BYTES_MAX,
            fee_max: self.fee_max,
            fee_share_max: self.fee_share_max,
            rate_min: self.feerate_min,
            rate_max: self.feerate_max,
        }
    }
}

impl SpendConfig {
    /// The evacuation by a lane, if it is configured.
    pub(crate) fn evacuation(&self, lane: &str) -> Option<&EvacuationLane> {
        self.evacuations.iter().find(|evacuation| evacuation.lane == lane)
    }

    /// The caps for one sweep: its lane's own, where it evacuates.
    pub(crate) fn limits_on(&self, lane: Option<&str>) -> Limits {
        let usual = self.limits(0);
        match lane.and_then(|lane| self.evacuation(lane)) {
            None => usual,
            Some(own) => Limits {
                fee_max: own.fee_max,
                fee_share_max: own.fee_share_max,
                rate_max: own.feerate_max,
                ..usual
            },
        }
    }

    /// What was made before this has waited for too long; `None` if nothing ever has.
    pub(crate) fn overdue_before(&self, now_unix: i64) -> Option<i64> {
        let wait = i64::try_from(self.bump_seconds).ok().filter(|wait| *wait > 0)?;
        now_unix.checked_sub(wait)
    }

    /// When a higher fee may be tried again after so many refusals, the last at `last_unix`; `None` for never.
    pub(crate) fn bump_again_unix(&self, refused: i64, last_unix: i64) -> Option<i64> {
        if self.bump_seconds == 0 || refused >= BUMPS_REFUSED_MAX {
            return None;
        }
        let doubled = 1_u64.checked_shl(u32::try_from(refused).ok()?)?;
        let pause = self.bump_pause().as_secs().saturating_mul(doubled).min(BUMP_PAUSE_MAX);
        let pause = if refused == 0 { 0 } else { i64::try_from(pause).ok()? };
        last_unix.checked_add(pause)
    }

    pub(crate) fn bump_pause(&self) -> Duration {
        Duration::from_secs(self.bump_seconds.clamp(1, 600))
    }
}

/// Everything sweeps and payouts work with.
#[derive(Debug)]
pub struct Spender {
    pub(crate) store: Store,
    pub(crate) book: Book,
    pub(crate) node: Node,
    pub(crate) follower: Handle,
    pub(crate) signer: SignerClient,
    pub(crate) wallets: Wallets,
    pub(crate) config: SpendConfig,
    /// One plan at a time: two plans never pick one coin, or one index of cold storage.
    pub(crate) planning: Mutex<()>,
    pub(crate) pace: Pace,
    pub(crate) wake: Notify,
    /// Whoever waits for the signer with a sweep asks at once: somebody wants it now.
    pub(crate) hurry: AtomicBool,
    /// Sweeps that are to be asked for at once and were not since: what they waited for before is no answer.
    pub(crate) unanswered: Unanswered,
}

/// Ids of sweeps, kept no longer than this process lives.
#[derive(Debug, Default)]
pub(crate) struct Unanswered(std::sync::Mutex<BTreeSet<String>>);

impl Unanswered {
    pub(crate) fn add(&self, id: &str) {
        let _ = self.all().insert(id.to_owned());
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.all().contains(id)
    }

    /// It was asked for, whatever came of it.
    pub(crate) fn remove(&self, id: &str) {
        let _ = self.all().remove(id);
    }

    fn all(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Spender {
    /// Puts the parts together.
    #[must_use]
    pub fn new(
        store: Store,
        book: Book,
        node: Node,
        follower: Handle,
        signer: SignerClient,
        wallets: Wallets,
        config: SpendConfig,
    ) -> Self {
        let pace = Pace::new(config.denied_tries_per_hour);
        let (planning, wake, hurry) = (Mutex::new(()), Notify::new(), AtomicBool::new(false));
        let unanswered = Unanswered::default();
        Self {
            store,
            book,
            node,
            follower,
            signer,
            wallets,
            config,
            planning,
            pace,
            wake,
            hurry,
            unanswered,
        }
    }

    /// Sends a kept transaction once more, whatever comes of it: another is asked for in its place, and it may have to do
    /// until then.
    pub(crate) async fn send_again(&self, txid: Txid) -> Result<(), Error> {
        if let Some(kept) = made::find(self.store.reader(), txid).await?
            && let Err(error) = self.node.send(&kept).await
        {
            tracing::debug!(%txid, "the node does not take it again: {error}");
        }
        Ok(())
    }

    /// The tenant's wallet of this name.
    pub(crate) fn wallet(&self, tenant: &str, name: &str) -> Result<&Wallet, Error> {
        let found = self.wallets.find(name).filter(|wallet| wallet.tenant == tenant);
        found.ok_or_else(|| Error::unknown_wallet(name))
    }

    /// The tenant's wallet with this purpose: the configured one, or the only one.
    pub(crate) fn wallet_for(&self, tenant: &str, purpose: Purpose) -> Result<&Wallet, Error> {
        let configured = match purpose {
            Purpose::Cold => self.config.cold_wallet.as_deref(),
            _ => self.config.hot_wallet.as_deref(),
        };
        let mut fitting = self.wallets.iter().filter(|wallet| {
            wallet.tenant == tenant
                && wallet.purpose == purpose
                && configured.is_none_or(|name| name == wallet.name)
        });
        match (fitting.next(), fitting.next()) {
            (Some(wallet), None) => Ok(wallet),
            (None, _) => Err(Error::unknown_wallet(configured.unwrap_or(purpose.word()))),
            (Some(_), Some(_)) => Err(Error::invalid(
                "ambiguous-wallet",
                format!(
                    "there are several {} wallets: name one in the configuration or the request",
                    purpose.word()
                ),
            )),
        }
    }

    /// Where a sweep by a lane goes.
    pub(crate) fn cold_for(&self, tenant: &str, lane: Option<&str>) -> Result<&Wallet, Error> {
        let own = lane.and_then(|lane| self.config.evacuation(lane)?.cold_wallet.as_deref());
        match own {
            Some(name) => self.wallet(tenant, name),
            None => self.wallet_for(tenant, Purpose::Cold),
        }
    }

    /// The feerate asked for, or the node's estimate within our bounds.
    pub(crate) async fn feerate(&self, asked: &str) -> Result<FeeRate, Error> {
        self.feerate_up_to(asked, self.config.feerate_max).await
    }

    /// The same with another upper bound.
    pub(crate) async fn feerate_up_to(&self, asked: &str, most: FeeRate) -> Result<FeeRate, Error> {
        if !asked.is_empty() {
            return FeeRate::parse(asked).map_err(|error| {
                Error::invalid("bad-feerate", format!("{error}; write for example \"5 sat/vB\""))
            });
        }
        let estimate = self.node.estimate_fee(self.config.target_blocks).await?;
        let rate = estimate.unwrap_or(self.config.feerate_fallback);
        Ok(rate.clamp(self.config.feerate_min, most.max(self.config.feerate_min)))
    }

    /// Whether the signer answers just now.
    pub(crate) async fn signer_reachable(&self) -> bool {
        matches!(tokio::time::timeout(SIGNER_WAIT, self.signer.status()).await, Ok(Ok(_)))
    }

    pub(crate) fn resend(&self) -> Duration {
        Duration::from_secs(self.config.resend_seconds)
    }
}

impl From<PlanError> for Error {
    fn from(error: PlanError) -> Self {
        let (code, reason) = match &error {
            PlanError::Rate { .. } => (tonic::Code::InvalidArgument, "feerate-out-of-range"),
            PlanError::Dust { .. } => (tonic::Code::FailedPrecondition, "dust"),
            PlanError::NoCoins { .. } => (tonic::Code::FailedPrecondition, "no-coins"),
            PlanError::Insufficient { .. } => {
                (tonic::Code::FailedPrecondition, "insufficient-coins")
            }
            PlanError::Fee { .. } => (tonic::Code::FailedPrecondition, "fee-over-cap"),
            PlanError::Inputs { .. } => (tonic::Code::FailedPrecondition, "too-many-inputs"),
            PlanError::Overflow => (tonic::Code::Internal, "amount-overflow"),
        };
        Self::refused(code, reason, Reason::from_sentence(&error.to_string()).text)
    }
}

/// What people write: "0.01 BTC", "5000 sat".
fn amount<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Amount, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = asset::Amount::parse_with(&text, &BITCOIN_UNITS);
    let units = parsed.map_err(|error| serde::de::Error::custom(format!("\"{text}\": {error}")))?;
    u64::try_from(units).map(Amount::from_sat).map_err(serde::de::Error::custom)
}

fn order_keys<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, [u8; 32]>, D::Error> {
    let texts = BTreeMap::<String, String>::deserialize(deserializer)?;
    let read = |(name, text): (String, String)| {
        let mut key = [0; 32];
        match hex::decode_to_slice(&text, &mut key) {
            Ok(()) => Ok((name, key)),
            Err(error) => Err(serde::de::Error::custom(format!("order key \"{name}\": {error}"))),
        }
    };
    texts.into_iter().map(read).collect()
}

fn from_text<'de, D: Deserializer<'de>, T>(deserializer: D) -> Result<T, D::Error>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|error| serde::de::Error::custom(format!("\"{text}\": {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_strict_and_have_defaults() {
        let config: SpendConfig =
            toml::from_str("fee_max = \"5000 sat\"\nfeerate_max = \"20 sat/vB\"").unwrap();
        assert_eq!(config.fee_max, Amount::from_sat(5_000));
        assert_eq!(config.feerate_max, FeeRate::from_sat_per_kvb(20_000));
        assert_eq!(config.sweep_lane, "sweep");
        for bad in
            ["fee_max = 5000", "fee_max = \"5000\"", "feerate_max = \"fast\"", "fee_mx = \"1 sat\""]
        {
            assert!(toml::from_str::<SpendConfig>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn refused_bumps_come_less_and_less_often_and_end() {
        let config = SpendConfig { bump_seconds: 600, ..SpendConfig::default() };
        let after = |refused| config.bump_again_unix(refused, 1_000);
        assert_eq!([after(0), after(1), after(4)], [Some(1_000), Some(2_200), Some(10_600)]);
        // A budget of a day is free again after a day.
        assert_eq!((after(8), after(15)), (Some(87_400), Some(87_400)));
        assert_eq!(after(16), None);
        let never = SpendConfig { bump_seconds: 0, ..config };
        assert_eq!(never.bump_again_unix(0, 0), None);
    }

    #[test]
    fn a_caller_may_lower_the_limit_of_inputs_but_not_raise_it() {
        let config = SpendConfig { inputs_max: 100, ..SpendConfig::default() };
        assert_eq!(config.limits(0).inputs_max, 100);
        assert_eq!(config.limits(7).inputs_max, 7);
        assert_eq!(config.limits(5_000).inputs_max, 100);
    }
}
