//! Lists deposits as callers see them. It never changes anything.

use bitcoin::{Address, Network, ScriptBuf};
use proto::{Amount, BlockRef, Deposit, ListDepositsReply, ListDepositsRequest};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::deposit::{Kind, TransferId};
use crate::error::Error;
use crate::rows::{amount, axes, block_ref, corrupt, height, txid, word};
use crate::store::{Store, StoreError};

/// Deposits on a page when the caller does not say.
const PAGE: u32 = 100;
/// Most deposits on a page.
const PAGE_MAX: u32 = 1000;

/// One page of a tenant's deposits, oldest first.
///
/// # Errors
/// When the page token or size is not one, or the database fails.
pub async fn deposits(
    store: &Store,
    network: Network,
    tenant: &str,
    request: &ListDepositsRequest,
) -> Result<ListDepositsReply, Error> {
    let size = page_size(request.page_size)?;
    let rows = sqlx::query(
        "SELECT d.chain, d.txid, d.kind, d.idx, d.wallet, d.address_index, a.customer_reference, d.asset,
                d.amount, d.chain_state, d.credit_state, d.custody_state, d.screening_state, d.height,
                d.block_hash, d.first_seen_unix, s.script, d.first_sequence, (SELECT height FROM cursor),
                (SELECT w.tier FROM wallets w WHERE w.wallet = d.wallet)
         FROM deposits d
         JOIN scripts s ON s.wallet = d.wallet AND s.branch = 0 AND s.idx = d.address_index
         LEFT JOIN addresses a ON a.wallet = d.wallet AND a.idx = d.address_index
         WHERE d.tenant = $1 AND d.first_sequence > $2 AND ($3 = '' OR d.wallet = $3)
               AND ($4 = '' OR a.customer_reference = $4)
         ORDER BY d.first_sequence LIMIT $5",
    )
    .bind(tenant)
    .bind(page_start(&request.page_token)?)
    .bind(&request.wallet)
    .bind(&request.customer_reference)
    .bind(i64::from(size))
    .fetch_all(store.reader())
    .await?;
    let full = rows.len() == usize::try_from(size).unwrap_or(usize::MAX);
    let next_page_token = match rows.last().filter(|_| full) {
        Some(row) => row.try_get::<i64, _>(17)?.to_string(),
        None => String::new(),
    };
    let deposits =
        rows.iter().map(|row| deposit(row, network)).collect::<Result<_, StoreError>>()?;
    Ok(ListDepositsReply { deposits, next_page_token })
}

/// A page size within bounds; 0 is the usual one.
///
/// # Errors
/// When it is too large.
pub fn page_size(asked: u32) -> Result<u32, Error> {
    match asked {
        0 => Ok(PAGE),
        1..=PAGE_MAX => Ok(asked),
        _ => Err(Error::invalid(
            "bad-page-size",
            format!("page_size must be 1 to {PAGE_MAX}, or 0 for {PAGE}"),
        )),
    }
}

/// Where a page begins: after the number its token holds; an empty token is the first page.
///
/// # Errors
/// When the token is not one of ours.
pub fn page_start(token: &str) -> Result<i64, Error> {
    if token.is_empty() {
        return Ok(0);
    }
    let number = token.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| {
        Error::invalid("bad-page-token", "page_token must be a next_page_token of an earlier reply")
    })
}

fn deposit(row: &SqliteRow, network: Network) -> Result<Deposit, StoreError> {
    let chain: String = row.try_get(0)?;
    let chain = asset::ChainId::parse(&chain).map_err(|e| corrupt(&e.to_string()))?;
    let kind = word(row, 2, Kind::read)?;
    let id = TransferId { chain, txid: txid(row, 1)?, kind, index: height(row, 3)? };
    let axes = axes(row, 9)?;
    let block = block_ref(row, 13)?;
    let tip = row.try_get::<Option<i64>, _>(18)?.and_then(|tip| u32::try_from(tip).ok());
    let depth = |height: u32| tip?.checked_sub(height)?.checked_add(1);
    let script = ScriptBuf::from_bytes(row.try_get(16)?);
    let address = Address::from_script(&script, network).map_err(|e| corrupt(&e.to_string()))?;
    Ok(Deposit {
        id: id.to_string(),
        wallet: row.try_get(4)?,
        address: address.to_string(),
        address_index: height(row, 5)?,
        customer_reference: row.try_get::<Option<String>, _>(6)?.unwrap_or_default(),
        amount: Some(Amount { asset: row.try_get(7)?, units: amount(row, 8)?.to_string() }),
        txid: id.txid.to_string(),
        vout: id.index,
        state: axes.visible().word().into(),
        chain_state: axes.chain.word().into(),
        credit_state: axes.credit.word().into(),
        custody_state: axes.custody.word().into(),
        screening_state: axes.screening.word().into(),
        confirmations: block.and_then(|block| depth(block.height)).unwrap_or(0),
        block: block.map(|block| BlockRef { height: block.height, hash: block.hash.to_string() }),
        first_seen_unix: u64::try_from(row.try_get::<i64, _>(15)?).unwrap_or(0),
        tier: row.try_get::<Option<String>, _>(19)?.unwrap_or_default(),
    })
}
