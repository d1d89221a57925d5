//! Large sweeps made of coins that exist nowhere but in the request: for benchmarks and for tests of bounds. The
//! signer does not see the chain, so to it they are as good as real ones. Never used where a node must agree.

use anyhow::{Context as _, Result};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, Psbt, ScriptBuf, Transaction, TxIn, TxOut, Txid};
use proto::sign_request::Part;
use proto::{ParentBatch, SignHeader, SignRequest};

use crate::forge::{self, Coin, Output};
use crate::stack::Descriptors;

/// A parent batch is closed when it holds this much.
const BATCH_BYTES: usize = 1 << 20;
/// Vbytes of one P2WPKH input and of everything else in a sweep to one output, rounded up.
const INPUT_VBYTES: u64 = 68;
const REST_VBYTES: u64 = 42;

/// `count` coins of 0.01 BTC at the first `addresses` addresses, each from a parent of its own that has
/// `outputs` outputs. `round` makes them other coins than those of another round.
pub fn coins(
    descriptor: &str,
    round: u32,
    count: u32,
    addresses: u32,
    outputs: usize,
) -> Result<Vec<Coin>> {
    let scripts: Vec<ScriptBuf> = (0..addresses)
        .map(|index| Ok(forge::address(descriptor, 0, index)?.script_pubkey()))
        .collect::<Result<_>>()?;
    let one = |number: u32| {
        let index = number.checked_rem(addresses).context("no addresses")?;
        let script = scripts.get(usize::try_from(index)?).context("no such address")?;
        Ok(coin(script.clone(), round, number, index, outputs))
    };
    (0..count).map(one).collect()
}

fn coin(script: ScriptBuf, round: u32, number: u32, index: u32, outputs: usize) -> Coin {
    let mut id = [0x77; 32];
    let (head, _) = id.split_at_mut(8);
    head.copy_from_slice(&[round.to_le_bytes(), number.to_le_bytes()].concat());
    let other = ScriptBuf::new_p2wpkh(&bitcoin::WPubkeyHash::from_byte_array([0x11; 20]));
    let pay = |script| TxOut { value: Amount::from_sat(1_000_000), script_pubkey: script };
    let mut output = vec![pay(other); outputs.saturating_sub(1)];
    output.push(pay(script));
    let last = u32::try_from(outputs.saturating_sub(1)).unwrap_or(u32::MAX);
    let input =
        TxIn { previous_output: OutPoint::new(Txid::from_byte_array(id), 0), ..TxIn::default() };
    let parent = Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![input],
        output,
    };
    Coin { parent, output: last, branch: 0, index }
}

/// All the coins of the deposits' wallet to the cold wallet's first address, at `sat_per_vbyte`.
pub fn sweep(descriptors: &Descriptors, coins: &[Coin], sat_per_vbyte: u64) -> Result<Psbt> {
    let count = u64::try_from(coins.len())?;
    let vsize = count.saturating_mul(INPUT_VBYTES).saturating_add(REST_VBYTES);
    let fee = vsize.saturating_mul(sat_per_vbyte);
    let total = count.saturating_mul(1_000_000);
    let value = total.checked_sub(fee).context("the fee is more than the coins")?;
    let cold = Output::ours(&descriptors.cold, 0, 0, Amount::from_sat(value))?;
    forge::psbt(&descriptors.deposits, coins, &[cold])
}

/// The request to sweep `wallet` as the stream wants it, parents in batches of a megabyte.
pub fn stream(key: &str, wallet: &str, psbt: &Psbt, coins: &[Coin]) -> Vec<SignRequest> {
    let header = SignHeader {
        idempotency_key: key.to_owned(),
        lane: "sweep".to_owned(),
        wallet: wallet.to_owned(),
        psbt: psbt.serialize(),
        orders: Vec::new(),
    };
    let mut parts = vec![SignRequest { part: Some(Part::Header(header)) }];
    let mut batch = ParentBatch::default();
    let mut bytes = 0_usize;
    for coin in coins {
        let parent = encode::serialize(&coin.parent);
        bytes = bytes.saturating_add(parent.len());
        batch.transactions.push(parent);
        if bytes >= BATCH_BYTES {
            let full = std::mem::take(&mut batch);
            parts.push(SignRequest { part: Some(Part::Parents(full)) });
            bytes = 0;
        }
    }
    parts.push(SignRequest { part: Some(Part::Parents(batch)) });
    parts
}
