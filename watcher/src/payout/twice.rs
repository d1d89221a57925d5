//! Tells when more than one transaction that pays an order is in a block. All of one payout conflict with each other, but for those that
//! officers unbound its order from: if one of these confirms after all, the payee was paid twice. It never holds back a transaction.

use bitcoin::Txid;
use serde_json::json;

use crate::error::Error;
use crate::rows::txid_from;
use crate::signer_client::Reason;
use crate::spend::Spender;
use crate::store::{StoreError, Tx};

use super::row::PayoutRow;

/// That more than one of its transactions is in a block; also the kind of the event.
const PAID_TWICE: &str = "paid-twice";
/// The kind of the event when a reorganisation ended that.
const NOT_ANY_MORE: &str = "not-paid-twice";

/// Settled payouts of which another transaction is in a block, and those of which that was said.
pub(super) async fn suspects(app: &Spender) -> Result<Vec<String>, StoreError> {
    let ids = sqlx::query_scalar(
        "SELECT p.id FROM payout_versions again INDEXED BY payout_versions_signed_again
             CROSS JOIN payouts p ON p.id = again.payout AND p.state = 'final'
             CROSS JOIN payout_versions f ON f.payout = p.id AND f.version = p.version
             CROSS JOIN payout_versions v ON v.payout = p.id AND v.state = 'signed' AND v.txid <> f.txid
             CROSS JOIN transactions t ON t.txid = v.txid AND t.state = 'block'
         WHERE again.state = 'signed' AND again.version > 1
         UNION
         SELECT id FROM payouts INDEXED BY payouts_final_reasons WHERE state = 'final' AND reasons IS NOT NULL",
    );
    Ok(ids.fetch_all(app.store.reader()).await?)
}

/// What is in blocks for a payout, and what was said of that before.
pub(super) struct Twice {
    in_blocks: Vec<Txid>,
    told: Option<Reason>,
}

impl Twice {
    pub(super) async fn of(tx: &mut Tx, payout: &PayoutRow) -> Result<Self, StoreError> {
        // Each transaction once: what was asked for in vain may have been planned the same again, as a version of its own.
        let ids: Vec<Vec<u8>> = sqlx::query_scalar(
            "SELECT DISTINCT v.txid FROM payout_versions v JOIN transactions t ON t.txid = v.txid
                 JOIN made_transactions m ON m.txid = v.txid AND m.kind = 'payout' AND m.object = v.payout
             WHERE v.payout = $1 AND v.state = 'signed' AND t.state = 'block' ORDER BY v.txid",
        )
        .bind(&payout.id)
        .fetch_all(tx.sql())
        .await?;
        let in_blocks = ids.iter().map(|id| txid_from(id)).collect::<Result<_, _>>()?;
        let told = payout.reasons.iter().find(|reason| reason.code == PAID_TWICE).cloned();
        Ok(Self { in_blocks, told })
    }

    /// What there is to say of it now.
    pub(super) fn reason(&self) -> Option<Reason> {
        let ids: Vec<_> = self.in_blocks.iter().map(Txid::to_string).collect();
        let text = format!(
            "the order is paid by each of {} transactions that are in blocks, {}: what officers unbound it from has confirmed after all",
            ids.len(),
            ids.join(" and ")
        );
        (ids.len() > 1).then(|| Reason { code: PAID_TWICE.into(), text })
    }

    /// Whether what was said is right no more.
    pub(super) fn is_news(&self) -> bool {
        self.reason().map(|reason| reason.text) != self.told.as_ref().map(|told| told.text.clone())
    }

    /// What happened, for the event's kind: each further transaction is told of once.
    fn happening(&self) -> Option<&'static str> {
        let told = |txid: &Txid| {
            self.told.as_ref().is_some_and(|told| told.text.contains(&txid.to_string()))
        };
        match self.in_blocks.len() {
            0 | 1 => self.told.as_ref().map(|_| NOT_ANY_MORE),
            _ if self.in_blocks.iter().all(told) => None,
            _ => Some(PAID_TWICE),
        }
    }

    /// Writes the event, if there is one.
    pub(super) async fn tell(
        &self,
        tx: &mut Tx,
        app: &Spender,
        payout: &PayoutRow,
    ) -> Result<(), Error> {
        if let Some(happening) = self.happening() {
            let paid_by: Vec<_> = self.in_blocks.iter().map(Txid::to_string).collect();
            payout.event(tx, &app.book, happening, &json!({ "paid_by": paid_by })).await?;
        }
        Ok(())
    }

    /// Says it in the log, once it is written down.
    pub(super) fn log(&self, payout: &PayoutRow) {
        let (payout, in_blocks) = (&payout.id, &self.in_blocks);
        match self.happening() {
            Some(PAID_TWICE) => {
                tracing::error!(
                    payout,
                    ?in_blocks,
                    "a payout is paid twice: several of its transactions are in blocks"
                );
            }
            Some(_) => {
                tracing::warn!(payout, ?in_blocks, "a payout is not paid twice any more");
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash as _;

    use super::*;

    fn after(told: Option<&Twice>, ids: &[u8]) -> Twice {
        Twice {
            in_blocks: ids.iter().map(|id| Txid::from_byte_array([*id; 32])).collect(),
            told: told.and_then(Twice::reason),
        }
    }

    #[test]
    fn each_further_transaction_is_told_of_once() {
        let steps: [(&[u8], Option<&str>, bool); 9] = [
            (&[1], None, false),
            (&[1, 2], Some(PAID_TWICE), true),
            (&[1, 2], None, false),
            (&[1, 2, 3], Some(PAID_TWICE), true),
            // It stays paid twice, by others than was said.
            (&[1, 3], None, true),
            (&[2, 3], Some(PAID_TWICE), true),
            (&[2], Some(NOT_ANY_MORE), true),
            (&[], None, false),
            (&[1, 2], Some(PAID_TWICE), true),
        ];
        let mut last = None;
        for (ids, happening, news) in steps {
            let now = after(last.as_ref(), ids);
            assert_eq!((now.happening(), now.is_news()), (happening, news), "{ids:?}");
            last = Some(now);
        }
    }

    #[test]
    fn the_reason_names_each_of_them() {
        let twice = after(None, &[1, 2]);
        let text = twice.reason().unwrap().text;
        assert!(twice.in_blocks.iter().all(|id| text.contains(&id.to_string())), "{text}");
        assert!(after(None, &[1]).reason().is_none());
    }
}
