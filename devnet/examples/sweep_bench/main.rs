//! How much longer a sweep takes through the whole signing service than its token calls in a bare loop, whether
//! that grows with the sweep, and what wallets that hold their keys in memory take for as many inputs. Run it by
//! `scripts/bench-sweep`; both sides run in turns on the same token, so that a noisy machine disturbs both.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod bare;
mod peers;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use clap::Parser;
use devnet::stack::{Children, Options};
use devnet::{Stack, load};

use bare::Bare;

/// Compares a sweep through the signer with the same token calls in a bare loop.
#[derive(Parser)]
struct Args {
    /// Inputs of the sweep.
    #[arg(long, default_value_t = 200)]
    inputs: u32,
    /// How often each side runs.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// Largest median ratio, in thousandths; above it this program fails.
    #[arg(long, default_value_t = 1_250)]
    permille_max: u128,
    /// Also 100 against 1,400 inputs, and the node's own wallet.
    #[arg(long)]
    peers: bool,
}

const ADDRESSES: u32 = 200;
/// The smaller and the larger sweep whose times are compared, and how many times longer the larger may take.
const SMALL: u32 = 100;
const LARGE: u32 = 1_400;
const LINEAR_PERMILLE_MAX: u128 = 15_000;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let children = Children { external: ADDRESSES, change: 1 };
    let stack = Stack::start_without_watcher(Options { children, ..Options::default() }).await?;
    let ratio = against_bare_loops(&stack, &args).await?;
    large_parents(&stack).await?;
    let mut linear = 0;
    if args.peers {
        linear = linearity(&stack).await?;
        for inputs in [SMALL, args.inputs, LARGE] {
            peers::run(&stack.node, inputs).await?;
        }
    }
    ensure!(ratio <= args.permille_max, "the whole path takes too long beside the bare loop");
    ensure!(linear <= LINEAR_PERMILLE_MAX, "the time grows faster than the inputs");
    Ok(())
}

/// The median of whole path to bare loop, in thousandths.
async fn against_bare_loops(stack: &Stack, args: &Args) -> Result<u128> {
    let sessions = std::thread::available_parallelism()?.get();
    let mut bare = Bare::start(stack.dir(), sessions)?;
    println!("{} inputs, {sessions} token workers, {sessions} bare sessions", args.inputs);
    println!("round   bare loop   whole path   ratio");
    let mut ratios = Vec::new();
    for round in 0..args.rounds.max(2) {
        let alone = bare.run(args.inputs)?;
        let whole = sweep(stack, round, args.inputs, 2).await?;
        let ratio = permille(whole, alone);
        let (alone_ms, whole_ms) = (alone.as_millis(), whole.as_millis());
        println!("{round:5} {alone_ms:>8} ms {whole_ms:>9} ms   {}", decimal(ratio));
        // The first round warms caches and connections.
        if round > 0 {
            ratios.push(ratio);
        }
    }
    ratios.sort_unstable();
    let at = |part: usize| ratios.get(part).copied().unwrap_or_default();
    let middle = at(ratios.len() / 2);
    println!(
        "ratio: median {}, {} to {}; at most {} is asked; {} of the bare loop's rate",
        decimal(middle),
        decimal(at(0)),
        decimal(at(ratios.len().saturating_sub(1))),
        decimal(args.permille_max),
        decimal(1_000_000_u128.checked_div(middle).unwrap_or_default())
    );
    Ok(middle)
}

async fn large_parents(stack: &Stack) -> Result<()> {
    let before = stack.signer.peak_memory_kib()?;
    let large = sweep(stack, 1_000_000, LARGE, 500).await?;
    let after = stack.signer.peak_memory_kib()?;
    println!(
        "{LARGE} inputs from {LARGE} parents of 500 outputs: {} ms, peak memory of the signer {} MiB (before: {} MiB)",
        large.as_millis(),
        after / 1024,
        before / 1024
    );
    Ok(())
}

/// How many times longer the large sweep takes than the small one, in thousandths; the best of three each, in turns.
async fn linearity(stack: &Stack) -> Result<u128> {
    let (mut small, mut large) = (Duration::MAX, Duration::MAX);
    for round in 2_000_000..2_000_003 {
        small = small.min(sweep(stack, round, SMALL, 2).await?);
        large = large.min(sweep(stack, round.saturating_add(1_000_000), LARGE, 2).await?);
    }
    let ratio = permille(large, small);
    println!(
        "{SMALL} inputs: {} ms, {LARGE} inputs: {} ms: {} times; at most {} is asked",
        small.as_millis(),
        large.as_millis(),
        decimal(ratio),
        decimal(LINEAR_PERMILLE_MAX)
    );
    Ok(ratio)
}

/// One sweep of new coins, from the request to the extracted transaction.
async fn sweep(stack: &Stack, round: u32, inputs: u32, outputs: usize) -> Result<Duration> {
    let descriptors = stack.descriptors();
    let coins = load::coins(&descriptors.deposits, round, inputs, ADDRESSES, outputs)?;
    let psbt = load::sweep(descriptors, &coins, 2)?;
    let parts = load::stream(&format!("bench-{round}"), &psbt, &coins);
    let mut client = stack.signer_as("watcher-1")?;
    client.status(proto::StatusRequest {}).await?; // connects

    let begin = Instant::now();
    let reply = client.sign(tokio_stream::iter(parts)).await?.into_inner();
    let took = begin.elapsed();
    let transaction: Transaction = deserialize(&reply.transaction)?;
    ensure!(
        transaction.compute_txid() == psbt.unsigned_tx.compute_txid(),
        "another transaction came back"
    );
    ensure!(
        transaction.input.iter().all(|input| input.witness.len() == 2),
        "an input is not signed"
    );
    ensure!(!reply.stored, "the answer was not made now");
    Ok(took)
}

fn permille(part: Duration, whole: Duration) -> u128 {
    part.as_micros().saturating_mul(1000).checked_div(whole.as_micros()).unwrap_or_default()
}

fn decimal(permille: u128) -> String {
    format!("{}.{:03}", permille / 1000, permille % 1000)
}
