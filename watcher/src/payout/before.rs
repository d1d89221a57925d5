//! Asks the signer whether it signed a payout that these tables do not know: they may be a restored backup, older than its
//! log. It never asks for a signature.

use proto::SignHeader;
use tonic::Code;

use crate::coins::StoredParents;
use crate::error::Error;
use crate::signer_client::{Reason, SignOutcome};
use crate::spend::Spender;

use super::carry::key;

/// How many keys beyond the last known one are asked about: versions that a restored database forgot.
const BEYOND: i64 = 24;

/// Whether any version up to `last`, or of the next few, was signed, by what the signer says of its key when it refuses a
/// request that can never be signed. `None` if it did not say so of every key.
pub(super) async fn signed(
    app: &Spender,
    wallet: &str,
    payout: &str,
    last: i64,
) -> Result<Option<bool>, Error> {
    for number in 1..=last.saturating_add(BEYOND) {
        let header = SignHeader {
            idempotency_key: key(payout, number),
            lane: app.config.withdraw_lane.clone(),
            wallet: wallet.to_owned(),
            psbt: Vec::new(),
            orders: Vec::new(),
        };
        let parents = StoredParents::none(app.store.reader().clone());
        let said = match app.signer.sign(header, parents).await {
            SignOutcome::Refused(refusal) | SignOutcome::NotNow(refusal) => refusal.signed,
            SignOutcome::Signed(_) => Some(true),
            SignOutcome::Unavailable(_) => None,
        };
        match said {
            Some(false) => {}
            Some(true) => {
                tracing::warn!(payout, number, "the signer signed a payout that is not known here");
                return Ok(Some(true));
            }
            None => return Ok(None),
        }
    }
    Ok(Some(false))
}

/// What such a payout says for ever, or until somebody finds out.
pub(super) fn reason() -> Reason {
    let text = "the signer has signed this payout, and this database does not know the transaction: was it restored \
                from a backup? Look at the chain; it must not be ordered anew";
    Reason { code: "order-paid".into(), text: text.into() }
}

/// What is said of an expired order as long as the signer does not tell.
pub(super) fn unknown() -> Error {
    let text = "the order expired, and the signer does not say now whether it was signed before: try again, and do not \
                order it anew";
    Error::refused(Code::Unavailable, "signer-unreachable", text)
}
