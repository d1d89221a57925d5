//! For the reader: what `bdk_wallet`, which holds its keys in memory, takes for as many inputs. It is no part of what
//! is asked.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bdk_wallet::{KeychainKind, SignOptions, Wallet};
use bitcoin::bip32::Xpriv;
use bitcoin::{FeeRate, Network, NetworkKind, OutPoint};
use devnet::load;
use devnet::stack::cold_descriptor;

/// Everybody may know it.
const SEED: [u8; 32] = [0xbd; 32];
const ADDRESSES: u32 = 200;

/// Gives a wallet that many coins, has it spend them in one transaction, and finalises that.
pub(crate) fn run(count: u32) -> Result<()> {
    let master = Xpriv::new_master(NetworkKind::Test, &SEED)?;
    let branch = |number: u32| format!("wpkh({master}/84h/1h/0h/{number}/*)");
    let wallet = Wallet::create(branch(0), branch(1)).network(Network::Regtest);
    let mut wallet = wallet.create_wallet_no_persist()?;
    let highest = ADDRESSES.saturating_sub(1);
    let _addresses = wallet.reveal_addresses_to(KeychainKind::External, highest).count();
    let descriptor = wallet.public_descriptor(KeychainKind::External).to_string();
    let coins = load::coins(&descriptor, 0, count, ADDRESSES, 2)?;
    let outpoint =
        |coin: &devnet::forge::Coin| OutPoint::new(coin.parent.compute_txid(), coin.output);
    let outpoints: Vec<OutPoint> = coins.iter().map(outpoint).collect();
    wallet.apply_unconfirmed_txs(coins.into_iter().map(|coin| (coin.parent, 0)));
    let cold = devnet::forge::address(&cold_descriptor()?, 0, 0)?.script_pubkey();

    let begin = Instant::now();
    let mut builder = wallet.build_tx();
    builder.add_utxos(&outpoints)?.manually_selected_only().drain_to(cold);
    builder.fee_rate(FeeRate::from_sat_per_vb(2).context("no such rate")?);
    let mut psbt = builder.finish()?;
    let build = begin.elapsed();
    let begin = Instant::now();
    let signed = psbt.sign(&master, wallet.secp_ctx());
    signed.map_err(|(_, errors)| anyhow::anyhow!("not signed: {errors:?}"))?;
    let whole = wallet.finalize_psbt(&mut psbt, SignOptions::default())?;
    let sign = begin.elapsed();
    ensure!(whole && psbt.inputs.len() == outpoints.len(), "not all inputs are signed");
    println!(
        "bdk_wallet with {count} inputs: build {} ms, sign and finalise {} ms",
        build.as_millis(),
        sign.as_millis()
    );
    Ok(())
}
