//! For the reader: what the node's own wallet, which holds its keys in memory, takes for as many inputs. It is no
//! part of what is asked.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bitcoin::absolute::LockTime;
use bitcoin::address::NetworkUnchecked;
use bitcoin::consensus::encode;
use bitcoin::transaction::Version;
use bitcoin::{Address, Amount, Denomination, TxOut, Txid};
use devnet::Node;
use serde_json::{Value, json};

const TRIES: u32 = 3;

/// Gives the node's wallet that many coins and has it spend them in one transaction.
pub(crate) async fn run(node: &Node, count: u32) -> Result<()> {
    let coins = coins(node, count).await?;
    let back = node.new_address().await?;
    let value = u64::from(count).saturating_mul(9_000);
    let outputs = json!([{ &back: Amount::from_sat(value).to_string_in(Denomination::Bitcoin) }]);
    let unsigned: String = node.rpc("createrawtransaction", json!([&coins, outputs])).await?;
    let mut sign = Duration::MAX;
    for _ in 0..TRIES {
        let begin = Instant::now();
        let signed: Value = node.faucet("signrawtransactionwithwallet", json!([&unsigned])).await?;
        sign = sign.min(begin.elapsed());
        ensure!(signed.get("complete") == Some(&Value::Bool(true)), "not signed: {signed}");
    }
    let options = json!({ "inputs": &coins, "add_to_wallet": false, "fee_rate": 2 });
    let begin = Instant::now();
    let swept: Value = node.faucet("sendall", json!([[&back], null, null, null, options])).await?;
    let all = begin.elapsed();
    ensure!(swept.get("complete") == Some(&Value::Bool(true)), "not swept: {swept}");
    println!(
        "{} with {count} inputs: signrawtransactionwithwallet {} ms, sendall {} ms",
        node.version().await?,
        sign.as_millis(),
        all.as_millis()
    );
    Ok(())
}

/// Confirmed P2WPKH coins of the node's wallet, as RPCs name them.
async fn coins(node: &Node, count: u32) -> Result<Vec<Value>> {
    let address: Address<NetworkUnchecked> = node.new_address().await?.parse()?;
    let script = address.assume_checked().script_pubkey();
    let output = TxOut { value: Amount::from_sat(10_000), script_pubkey: script.clone() };
    // By hand: without inputs, the library's encoding has a witness marker that the node does not read.
    let mut raw = encode::serialize(&Version::TWO);
    raw.push(0);
    raw.extend(encode::serialize(&vec![output; usize::try_from(count)?]));
    raw.extend(encode::serialize(&LockTime::ZERO));
    let raw = hex::encode(raw);
    let options = json!({ "changePosition": count, "fee_rate": 2 });
    let funded: Value = node.faucet("fundrawtransaction", json!([raw, options, false])).await?;
    let funded = funded.get("hex").context("not funded")?;
    let signed: Value = node.faucet("signrawtransactionwithwallet", json!([funded])).await?;
    let txid: Txid = node.rpc("sendrawtransaction", json!([signed.get("hex"), 0])).await?;
    node.mine(1).await?;
    Ok((0..count).map(|vout| json!({ "txid": txid, "vout": vout })).collect())
}
