//! How much longer a sweep takes through the whole signing service than its token calls in a bare loop. Run it by
//! `scripts/bench-sweep`; both sides run in turns on the same token, so that a noisy machine disturbs both.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

use std::io::{BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use clap::Parser;
use devnet::stack::{Children, Options};
use devnet::{Stack, load};

/// Compares a sweep through the signer with the same token calls in a bare loop.
#[derive(Parser)]
struct Args {
    /// Inputs of the sweep.
    #[arg(long, default_value_t = 200)]
    inputs: u32,
    /// How often each side runs.
    #[arg(long, default_value_t = 9)]
    rounds: u32,
}

const ADDRESSES: u32 = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let children = Children { external: ADDRESSES, change: 1 };
    let stack = Stack::start_without_watcher(Options { children, ..Options::default() }).await?;
    let sessions = std::thread::available_parallelism()?.get();
    let mut bare = Bare::start(stack.dir(), sessions)?;

    println!("{} inputs, {} token workers, {} bare sessions", args.inputs, sessions, sessions);
    println!("round   bare loop   whole path   ratio");
    let mut ratios = Vec::new();
    for round in 0..args.rounds {
        let alone = bare.run(args.inputs)?;
        let whole = sweep(&stack, round, args.inputs, 2).await?;
        let ratio = permille(whole, alone);
        println!(
            "{round:5} {:>8} ms {:>9} ms   {}",
            alone.as_millis(),
            whole.as_millis(),
            decimal(ratio)
        );
        // The first round warms caches and connections.
        if round > 0 {
            ratios.push(ratio);
        }
    }
    ratios.sort_unstable();
    let at = |part: usize| ratios.get(part).copied().unwrap_or_default();
    let middle = at(ratios.len() / 2);
    println!(
        "ratio: median {}, {} to {}; at most 1.250 is asked",
        decimal(middle),
        decimal(at(0)),
        decimal(at(ratios.len().saturating_sub(1)))
    );

    let before = stack.signer.peak_memory_kib()?;
    let large = sweep(&stack, 1_000_000, 1_400, 500).await?;
    let after = stack.signer.peak_memory_kib()?;
    println!(
        "1400 inputs from 1400 parents of 500 outputs: {} ms, peak memory of the signer {} MiB (before: {} MiB)",
        large.as_millis(),
        after / 1024,
        before / 1024
    );
    Ok(())
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

/// The bare loops, one process and session each.
struct Bare(Vec<(Child, BufReader<std::process::ChildStdout>)>);

impl Bare {
    fn start(dir: &Path, sessions: usize) -> Result<Self> {
        let config = std::fs::read_to_string(dir.join("signer").join("signer.toml"))?;
        let config: toml::Table = config.parse()?;
        let token = config.get("token").context("signer.toml has no [token]")?;
        let field = |name: &str| {
            let value = token.get(name).and_then(toml::Value::as_str);
            value.with_context(|| format!("signer.toml: [token] {name}"))
        };
        let conf = token.get("env").and_then(|env| env.get("SOFTHSM2_CONF"));
        let conf = conf.and_then(toml::Value::as_str).context("no SOFTHSM2_CONF")?;
        let program = std::env::current_exe()?.with_file_name("bare_loop");
        let bundle = dir.join("ceremony").join("deposits.bundle");
        let start = |_| {
            let mut child = Command::new(&program)
                .env("SOFTHSM2_CONF", conf)
                .args(["--module", field("module")?, "--token-label", field("label")?])
                .args(["--pin-file", field("pin_file")?])
                .arg("--bundle")
                .arg(&bundle)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .with_context(|| format!("cannot run {}", program.display()))?;
            let mut said = BufReader::new(child.stdout.take().context("no output")?);
            ensure!(line(&mut said)? == "ready", "the bare loop did not start");
            Ok((child, said))
        };
        (0..sessions).map(start).collect::<Result<_>>().map(Self)
    }

    /// Does `count` records over all sessions and says how long the slowest took.
    fn run(&mut self, count: u32) -> Result<Duration> {
        let sessions = u32::try_from(self.0.len())?;
        let share = count.div_ceil(sessions);
        let mut first = 0_u32;
        let begin = Instant::now();
        for (child, _) in &mut self.0 {
            let stdin = child.stdin.as_mut().context("no input")?;
            writeln!(stdin, "{first} {}", share.min(count.saturating_sub(first)))?;
            first = first.saturating_add(share);
        }
        for (_, said) in &mut self.0 {
            line(said)?;
        }
        Ok(begin.elapsed())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn line(from: &mut impl std::io::BufRead) -> Result<String> {
    let mut text = String::new();
    ensure!(from.read_line(&mut text)? > 0, "the bare loop ended");
    Ok(text.trim().to_owned())
}

fn permille(part: Duration, whole: Duration) -> u128 {
    part.as_micros().saturating_mul(1000).checked_div(whole.as_micros()).unwrap_or_default()
}

fn decimal(permille: u128) -> String {
    format!("{}.{:03}", permille / 1000, permille % 1000)
}
