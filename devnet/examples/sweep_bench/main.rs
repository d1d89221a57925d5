//! How close a sweep through the whole signing service comes to the calls that it cannot do without in a bare loop,
//! whether its time grows with the sweep, and what wallets that hold their keys in memory take for as many inputs.
//! Run it by `scripts/bench-sweep`; both sides run in turns on the same cores and keys, so that a noisy machine
//! disturbs both. Short runs of it are among the end-to-end tests.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

mod bare;
mod bdk;
mod peers;
mod software;
mod tier;
mod vault;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bitcoin::consensus::deserialize;
use bitcoin::{Transaction, TxIn};
use clap::Parser;
use devnet::{Stack, load};

use tier::{Scheme, Swept, Tier};

/// Compares a sweep through the signer with the calls that it cannot do without in a bare loop.
#[derive(Parser)]
struct Args {
    /// Where the wallet's keys are.
    #[arg(long, value_enum, default_value_t = Tier::TokenHd)]
    tier: Tier,
    /// How the tier's children are wrapped.
    #[arg(long, value_enum)]
    scheme: Option<Scheme>,
    /// Inputs of the sweep.
    #[arg(long, default_value_t = 500)]
    inputs: u32,
    /// How often each side runs.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
    /// The smaller of two sweeps whose times are compared.
    #[arg(long, default_value_t = 100)]
    small: u32,
    /// The larger one; also of a sweep of which each input comes from a parent of 500 outputs.
    #[arg(long, default_value_t = 1_400)]
    large: u32,
    /// Also what other wallets take for as many inputs.
    #[arg(long)]
    peers: bool,
    /// Does not fail for what was measured.
    #[arg(long)]
    lenient: bool,
}

/// How many times longer 1,400 inputs may take than 100, in thousandths.
const LINEAR_PERMILLE_MAX: u128 = 15_000;

#[tokio::main]
async fn main() -> Result<()> {
    let mut args = Args::parse();
    args.tier = args.tier.wrapped(args.scheme)?;
    let (stack, swept) = args.tier.start(args.inputs).await?;
    let bench = Bench { args, stack, swept };
    let rate = bench.against_bare_loops().await?;
    let linear = bench.linearity().await?;
    bench.large_parents().await?;
    let Bench { args, stack, .. } = bench;
    if args.peers {
        for inputs in [args.small, args.inputs, args.large] {
            peers::run(&stack.node, inputs).await?;
            bdk::run(inputs)?;
        }
    }
    ensure!(args.lenient || rate >= args.tier.asked(), "too slow beside the bare loop");
    ensure!(args.lenient || linear <= LINEAR_PERMILLE_MAX, "the time grows faster than the inputs");
    Ok(())
}

struct Bench {
    args: Args,
    stack: Stack,
    swept: Swept,
}

impl Bench {
    /// The median of the whole path's rate to the bare loop's, in thousandths.
    async fn against_bare_loops(&self) -> Result<u128> {
        let Args { tier, inputs, rounds, .. } = self.args;
        let sessions = u32::try_from(std::thread::available_parallelism()?.get())?;
        let (mut bare, mut beside) = tier.bare(&self.stack, &self.swept, sessions)?;
        let name = tier.name();
        println!("{name}, {inputs} inputs, {sessions} token workers, {sessions} bare sessions");
        println!("the bare loop: {}", bare.name());
        println!("round   bare loop   whole path   rate");
        let (mut rates, mut others, mut counted) = (Vec::new(), Vec::new(), [0_u64; 2]);
        for round in 0..rounds.max(2) {
            let (done, alone) = bare.run(inputs)?;
            ensure!(done == inputs, "the bare loop did {done} of {inputs} signatures");
            let (signed, whole) = self.sweep(round, inputs, 2).await?;
            let rate = permille(alone, whole);
            let (alone_ms, whole_ms) = (alone.as_millis(), whole.as_millis());
            println!("{round:5} {alone_ms:>8} ms {whole_ms:>9} ms   {}", decimal(rate));
            for (sum, count) in counted.iter_mut().zip([done, signed]) {
                *sum = sum.saturating_add(count.into());
            }
            let other = beside.as_mut().map(|beside| beside.run(inputs)).transpose()?;
            // The first round warms caches and connections.
            if round > 0 {
                rates.push(rate);
                others.extend(other.map(|(_, alone)| permille(alone, whole)));
            }
        }
        let [alone, whole] = counted;
        println!("signatures: {alone} by the bare loop, {whole} by the whole path");
        rates.sort_unstable();
        let at = |part: usize| rates.get(part).copied().unwrap_or_default();
        let middle = at(rates.len() / 2);
        println!(
            "rate of the whole path: {} of the bare loop's (median; {} to {}); {} is asked",
            decimal(middle),
            decimal(at(0)),
            decimal(at(rates.len().saturating_sub(1))),
            decimal(tier.asked()),
        );
        if let Some(beside) = beside {
            others.sort_unstable();
            let middle = others.get(others.len() / 2).copied().unwrap_or_default();
            println!("for the reader: {} of {}'s", decimal(middle), beside.name());
        }
        Ok(middle)
    }

    async fn large_parents(&self) -> Result<()> {
        let before = self.stack.signer.peak_memory_kib()?;
        let inputs = self.args.large;
        let (_, large) = self.sweep(1_000_000, inputs, 500).await?;
        let after = self.stack.signer.peak_memory_kib()?;
        println!(
            "{inputs} inputs from {inputs} parents of 500 outputs: {} ms, peak memory of the signer {} MiB (before: {} MiB)",
            large.as_millis(),
            after / 1024,
            before / 1024
        );
        Ok(())
    }

    /// How many times longer the large sweep takes than the small one, in thousandths; the best of three each, in turns.
    async fn linearity(&self) -> Result<u128> {
        let (mut least, mut most) = (Duration::MAX, Duration::MAX);
        let Args { small, large, .. } = self.args;
        for round in 2_000_000..2_000_003 {
            least = least.min(self.sweep(round, small, 2).await?.1);
            let round = round.saturating_add(1_000_000);
            most = most.min(self.sweep(round, large, 2).await?.1);
        }
        let ratio = permille(most, least);
        println!(
            "{small} inputs: {} ms, {large} inputs: {} ms: {} times; of 100 and 1400 inputs at most {} is asked",
            least.as_millis(),
            most.as_millis(),
            decimal(ratio),
            decimal(LINEAR_PERMILLE_MAX)
        );
        Ok(ratio)
    }

    /// One sweep of new coins, from the request to the extracted transaction; how many inputs of it are signed.
    async fn sweep(&self, round: u32, inputs: u32, outputs: usize) -> Result<(u32, Duration)> {
        let Swept { wallet, descriptors, addresses } = &self.swept;
        let coins = load::coins(&descriptors.deposits, round, inputs, *addresses, outputs)?;
        let psbt = load::sweep(descriptors, &coins, 2)?;
        let parts = load::stream(&format!("bench-{round}"), wallet, &psbt, &coins);
        let mut client = self.stack.signer_as("watcher-1")?;
        client.status(proto::StatusRequest {}).await?; // connects

        let begin = Instant::now();
        let reply = client.sign(tokio_stream::iter(parts)).await?.into_inner();
        let took = begin.elapsed();
        let transaction: Transaction = deserialize(&reply.transaction)?;
        ensure!(
            transaction.compute_txid() == psbt.unsigned_tx.compute_txid(),
            "another transaction came back"
        );
        let signed = |input: &&TxIn| input.witness.len() == self.args.tier.witness();
        let signed = u32::try_from(transaction.input.iter().filter(signed).count())?;
        ensure!(signed == inputs, "{signed} of {inputs} inputs are signed");
        ensure!(!reply.stored, "the answer was not made now");
        ensure!(reply.tier == self.args.tier.name(), "signed by keys of the tier {}", reply.tier);
        Ok((signed, took))
    }
}

fn permille(part: Duration, whole: Duration) -> u128 {
    part.as_micros().saturating_mul(1000).checked_div(whole.as_micros()).unwrap_or_default()
}

fn decimal(permille: u128) -> String {
    format!("{}.{:03}", permille / 1000, permille % 1000)
}
