//! Rows read back into types. It never trusts a stored word.

use asset::Amount;
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, OutPoint, Txid};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use crate::deposit::{Axes, BlockRef, Chain, Credit, Custody, Screening};
use crate::scan::Branch;
use crate::store::StoreError;

/// Where a transaction stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum TxState {
    /// In no block, but it may still get there.
    Mempool,
    /// In this block of the best chain.
    Block(BlockRef),
    /// Not expected to confirm any more.
    Gone,
}

/// A stored value that cannot be what it should be.
pub(crate) fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(what.to_owned())
}

/// Reads a height, an index or an output number.
pub(crate) fn height(row: &SqliteRow, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.try_get::<i64, _>(column)?).map_err(|_| corrupt("a number does not fit"))
}

/// Reads a block hash.
pub(crate) fn block_hash(row: &SqliteRow, column: usize) -> Result<BlockHash, StoreError> {
    BlockHash::from_slice(&row.try_get::<Vec<u8>, _>(column)?)
        .map_err(|_| corrupt("a block hash has another length"))
}

/// Reads a transaction id.
pub(crate) fn txid(row: &SqliteRow, column: usize) -> Result<Txid, StoreError> {
    txid_from(&row.try_get::<Vec<u8>, _>(column)?)
}

/// Reads a transaction id from its bytes.
pub(crate) fn txid_from(bytes: &[u8]) -> Result<Txid, StoreError> {
    Txid::from_slice(bytes).map_err(|_| corrupt("a transaction id has another length"))
}

/// What stands for the id of a transaction that has none before it is signed; no transaction has it.
pub(crate) fn stored_txid(known: Option<Txid>) -> Txid {
    known.unwrap_or_else(Txid::all_zeros)
}

/// The id, if it is known.
pub(crate) fn known_txid(stored: Txid) -> Option<Txid> {
    (stored != Txid::all_zeros()).then_some(stored)
}

/// Reads an outpoint from two columns.
pub(crate) fn outpoint(
    row: &SqliteRow,
    txid_column: usize,
    vout_column: usize,
) -> Result<OutPoint, StoreError> {
    Ok(OutPoint::new(txid(row, txid_column)?, height(row, vout_column)?))
}

/// Reads an amount.
pub(crate) fn amount(row: &SqliteRow, column: usize) -> Result<Amount, StoreError> {
    Amount::from_be_slice(&row.try_get::<Vec<u8>, _>(column)?).map_err(|e| corrupt(&e.to_string()))
}

/// Reads a branch.
pub(crate) fn branch(row: &SqliteRow, column: usize) -> Result<Branch, StoreError> {
    Branch::read(row.try_get(column)?).ok_or_else(|| corrupt("a branch is neither 0 nor 1"))
}

/// Reads an enumeration's word.
pub(crate) fn word<T>(
    row: &SqliteRow,
    column: usize,
    read: impl Fn(&str) -> Option<T>,
) -> Result<T, StoreError> {
    let text: String = row.try_get(column)?;
    read(&text).ok_or_else(|| corrupt(&format!("the word \"{text}\"")))
}

/// Reads a deposit's axes from four columns.
pub(crate) fn axes(row: &SqliteRow, first: usize) -> Result<Axes, StoreError> {
    let column = |n: usize| first.saturating_add(n);
    Ok(Axes {
        chain: word(row, column(0), Chain::read)?,
        credit: word(row, column(1), Credit::read)?,
        custody: word(row, column(2), Custody::read)?,
        screening: word(row, column(3), Screening::read)?,
    })
}

/// Reads a block reference from a height and a hash that are both there or both missing.
pub(crate) fn block_ref(row: &SqliteRow, first: usize) -> Result<Option<BlockRef>, StoreError> {
    if row.try_get::<Option<i64>, _>(first)?.is_none() {
        return Ok(None);
    }
    Ok(Some(BlockRef {
        height: height(row, first)?,
        hash: block_hash(row, first.saturating_add(1))?,
    }))
}

/// Reads where a transaction stands from its state, height and hash.
pub(crate) fn tx_state(row: &SqliteRow, first: usize) -> Result<TxState, StoreError> {
    let state: String = row.try_get(first)?;
    match (state.as_str(), block_ref(row, first.saturating_add(1))?) {
        ("mempool", _) => Ok(TxState::Mempool),
        ("gone", _) => Ok(TxState::Gone),
        ("block", Some(block)) => Ok(TxState::Block(block)),
        _ => Err(corrupt("a transaction in a block that is not named")),
    }
}
