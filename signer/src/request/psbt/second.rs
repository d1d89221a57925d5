//! Version 2 (BIP-370) into the bytes of version 0, and back. Whatever the BIP asks for must be there, in the form it
//! asks for; nothing is filled in but what the BIP says.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::psbt::Psbt;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid};

use super::maps::{Entry, Maps, compact, count, push};
use super::{GLOBAL_VERSION, MAGIC, number};

const UNSIGNED_TX: u8 = 0x00;
const TX_VERSION: u8 = 0x02;
const FALLBACK_LOCKTIME: u8 = 0x03;
const INPUT_COUNT: u8 = 0x04;
const OUTPUT_COUNT: u8 = 0x05;
const TX_MODIFIABLE: u8 = 0x06;
const PREVIOUS_TXID: u8 = 0x0e;
const OUTPUT_INDEX: u8 = 0x0f;
const SEQUENCE: u8 = 0x10;
const TIME_LOCKTIME: u8 = 0x11;
const HEIGHT_LOCKTIME: u8 = 0x12;
const AMOUNT: u8 = 0x03;
const SCRIPT: u8 = 0x04;

/// Lock times from here on are times, below they are heights.
const TIMES_FROM: u32 = 500_000_000;

pub(super) fn is_global(kind: u8) -> bool {
    (TX_VERSION..=TX_MODIFIABLE).contains(&kind)
}

pub(super) fn is_input(kind: u8) -> bool {
    (PREVIOUS_TXID..=HEIGHT_LOCKTIME).contains(&kind)
}

pub(super) fn is_output(kind: u8) -> bool {
    [AMOUNT, SCRIPT].contains(&kind)
}

/// Reads the maps after `global` and writes all of it as version 0.
pub(super) fn to_first(global: &[Entry<'_>], maps: &mut Maps<'_>) -> Result<Vec<u8>, String> {
    if find(global, UNSIGNED_TX).is_some() {
        return Err("it is of version 2 and has a transaction of version 0".to_owned());
    }
    bare(global, |kind| is_global(kind) || kind == GLOBAL_VERSION)?;
    let version = number(required(global, TX_VERSION, "transaction version")?)?;
    let fallback = find(global, FALLBACK_LOCKTIME).map(number).transpose()?.unwrap_or(0);
    if find(global, TX_MODIFIABLE).is_some_and(|flags| flags.len() != 1) {
        return Err("its flags are not one byte".to_owned());
    }
    let inputs = count(required(global, INPUT_COUNT, "input count")?)?;
    let outputs = count(required(global, OUTPUT_COUNT, "output count")?)?;

    // A map takes a byte at least, so that a count that lies ends with the bytes.
    let (mut rest, mut locks) = (Vec::new(), Vec::new());
    let (mut input, mut output) = (Vec::new(), Vec::new());
    for _ in 0..inputs {
        let map = maps.next()?;
        bare(&map, is_input)?;
        input.push(spent(&map)?);
        locks.push([lock(&map, TIME_LOCKTIME)?, lock(&map, HEIGHT_LOCKTIME)?]);
        copy(&mut rest, &map, is_input);
    }
    for _ in 0..outputs {
        let map = maps.next()?;
        bare(&map, is_output)?;
        output.push(paid(&map)?);
        copy(&mut rest, &map, is_output);
    }
    maps.end()?;
    let version = Version(i32::from_le_bytes(version.to_le_bytes()));
    let lock_time = LockTime::from_consensus(lock_time(&locks, fallback)?);
    let transaction = Transaction { version, lock_time, input, output };

    let mut first = MAGIC.to_vec();
    push(&mut first, &[UNSIGNED_TX], &unsigned(&transaction));
    copy(&mut first, global, |kind| is_global(kind) || kind == GLOBAL_VERSION);
    first.extend(rest);
    Ok(first)
}

/// Writes what `first`, the version 0 of `psbt`, says as version 2. Nothing may be changed in it any more: it carries
/// signatures over everything.
pub(super) fn from_first(psbt: &Psbt, first: &[u8]) -> Result<Vec<u8>, String> {
    let body = first.strip_prefix(&MAGIC).ok_or("it does not begin as one")?;
    let (mut maps, transaction) = (Maps::of(body), &psbt.unsigned_tx);
    let mut second = MAGIC.to_vec();
    push(&mut second, &[TX_VERSION], &transaction.version.0.to_le_bytes());
    let lock_time = transaction.lock_time.to_consensus_u32();
    push(&mut second, &[FALLBACK_LOCKTIME], &lock_time.to_le_bytes());
    push(&mut second, &[INPUT_COUNT], &compact(transaction.input.len()));
    push(&mut second, &[OUTPUT_COUNT], &compact(transaction.output.len()));
    push(&mut second, &[GLOBAL_VERSION], &2_u32.to_le_bytes());
    copy(&mut second, &maps.next()?, |kind| [UNSIGNED_TX, GLOBAL_VERSION].contains(&kind));
    for input in &transaction.input {
        let outpoint = input.previous_output;
        push(&mut second, &[PREVIOUS_TXID], outpoint.txid.as_byte_array());
        push(&mut second, &[OUTPUT_INDEX], &outpoint.vout.to_le_bytes());
        push(&mut second, &[SEQUENCE], &input.sequence.0.to_le_bytes());
        copy(&mut second, &maps.next()?, |_| false);
    }
    for output in &transaction.output {
        push(&mut second, &[AMOUNT], &output.value.to_sat().to_le_bytes());
        push(&mut second, &[SCRIPT], output.script_pubkey.as_bytes());
        copy(&mut second, &maps.next()?, |_| false);
    }
    maps.end()?;
    Ok(second)
}

fn spent(map: &[Entry<'_>]) -> Result<TxIn, String> {
    let txid = required(map, PREVIOUS_TXID, "previous txid of an input")?;
    let txid = Txid::from_slice(txid).map_err(|_| "a previous txid is not 32 bytes")?;
    let vout = number(required(map, OUTPUT_INDEX, "output index of an input")?)?;
    let sequence = find(map, SEQUENCE).map(number).transpose()?;
    Ok(TxIn {
        previous_output: OutPoint { txid, vout },
        sequence: sequence.map_or(Sequence::MAX, Sequence),
        ..TxIn::default()
    })
}

fn paid(map: &[Entry<'_>]) -> Result<TxOut, String> {
    let amount = required(map, AMOUNT, "amount of an output")?;
    let amount = amount.try_into().map_err(|_| "an amount is not eight bytes")?;
    // Signed on the wire; what is above the supply, and so every negative one, is refused with the other amounts.
    let value = Amount::from_sat(u64::from_le_bytes(amount));
    let script = required(map, SCRIPT, "script of an output")?;
    Ok(TxOut { value, script_pubkey: ScriptBuf::from_bytes(script.to_vec()) })
}

/// A required lock time, in the half of numbers that its kind has.
fn lock(map: &[Entry<'_>], kind: u8) -> Result<Option<u32>, String> {
    let Some(value) = find(map, kind) else { return Ok(None) };
    let lock = number(value)?;
    let right =
        if kind == TIME_LOCKTIME { lock >= TIMES_FROM } else { (1..TIMES_FROM).contains(&lock) };
    if right { Ok(Some(lock)) } else { Err("a required lock time is out of its range".to_owned()) }
}

/// BIP-370: the highest of the kind that every input with a requirement allows, heights before times.
fn lock_time(locks: &[[Option<u32>; 2]], fallback: u32) -> Result<u32, String> {
    let mut bound = locks.iter().filter(|lock| lock.iter().any(Option::is_some)).peekable();
    if bound.peek().is_none() {
        return Ok(fallback);
    }
    let bound: Vec<_> = bound.collect();
    let highest = |pick: fn(&[Option<u32>; 2]) -> Option<u32>| {
        bound.iter().map(|lock| pick(lock)).collect::<Option<Vec<u32>>>()?.into_iter().max()
    };
    highest(|[_, height]| *height)
        .or_else(|| highest(|[time, _]| *time))
        .ok_or_else(|| "its inputs require lock times of both kinds".to_owned())
}

/// The transaction as version 0 carries it: never in the form with witnesses, which no inputs would look like.
fn unsigned(transaction: &Transaction) -> Vec<u8> {
    let mut bytes = bitcoin::consensus::serialize(&transaction.version);
    bytes.extend(bitcoin::consensus::serialize(&transaction.input));
    bytes.extend(bitcoin::consensus::serialize(&transaction.output));
    bytes.extend(bitcoin::consensus::serialize(&transaction.lock_time));
    bytes
}

fn find<'a>(map: &[Entry<'a>], kind: u8) -> Option<&'a [u8]> {
    map.iter().find(|entry| entry.key == [kind]).map(|entry| entry.value)
}

fn required<'a>(map: &[Entry<'a>], kind: u8, what: &str) -> Result<&'a [u8], String> {
    find(map, kind).ok_or_else(|| format!("it is of version 2 and lacks the {what}"))
}

/// Fields of version 2 have no key data.
fn bare(map: &[Entry<'_>], ours: impl Fn(u8) -> bool) -> Result<(), String> {
    let wrong =
        |entry: &Entry<'_>| entry.key.len() > 1 && entry.key.first().is_some_and(|k| ours(*k));
    if map.iter().any(wrong) { Err("a field has key data and may not".to_owned()) } else { Ok(()) }
}

/// Every field but those `left_out`, and the map's end.
fn copy(out: &mut Vec<u8>, map: &[Entry<'_>], left_out: impl Fn(u8) -> bool) {
    for entry in map.iter().filter(|entry| entry.key.first().is_none_or(|kind| !left_out(*kind))) {
        push(out, entry.key, entry.value);
    }
    out.push(0);
}
