//! How many small requests of many callers at once the signing service answers beside what the token alone could sign,
//! how long each waits, how often the disk is asked to flush, and how many denials it writes down beside one flush each.
//! Run it by `scripts/bench-service`; the sides run in turns on the same cores and keys. A short run of it is one of the
//! end-to-end tests.

#![expect(clippy::print_stdout, reason = "its output is what it is for")]

#[expect(dead_code, reason = "the sweep's benchmark has more of them")]
#[path = "../sweep_bench/bare.rs"]
mod bare;
mod callers;
mod syncs;

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use devnet::Stack;
use devnet::stack::{Children, Options};

use bare::{Bare, TokenCalls};
use callers::{Answered, Callers, Kind};

/// Compares many small requests through the signer with what token and disk could do alone.
#[derive(Parser)]
struct Args {
    /// Callers at once, each with a connection of its own, who ask for signatures.
    #[arg(long, default_value_t = 64)]
    callers: u32,
    /// Callers at once whose requests are denied.
    #[arg(long, default_value_t = 32)]
    denied_callers: u32,
    /// Requests of one round.
    #[arg(long, default_value_t = 1_280)]
    requests: u32,
    /// Requests of one round that are denied.
    #[arg(long, default_value_t = 3_200)]
    denied_requests: u32,
    /// How often each side runs.
    #[arg(long, default_value_t = 7)]
    rounds: u32,
    /// Without a witness, which otherwise cosigns every checkpoint before anything counts.
    #[arg(long)]
    unwitnessed: bool,
    /// Does not fail for what was measured.
    #[arg(long)]
    lenient: bool,
}

/// Flushes are counted over so many rounds' requests, from so long after their beginning on, for so long.
const FLUSHES_ROUNDS: u32 = 4;
const LEAD: Duration = Duration::from_millis(500);
const COUNTED: Duration = Duration::from_secs(8);
/// Addresses that the coins lie at.
const ADDRESSES: u32 = 50;
/// What is asked: thousandths of the token's rate, of the rate of one flush each, and flushes a group.
const SIGNED_PERMILLE: u128 = 750;
const DENIED_PERMILLE: u128 = 4_000;
const SYNCS_PERMILLE_MAX: u128 = 2_000;

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let children = Children { external: ADDRESSES, change: 1 };
    let options = Options { children, witness: !args.unwitnessed, ..Options::default() };
    let mut stack = Stack::start_without_watcher(options).await?;
    make_room(&mut stack, args.callers.max(args.denied_callers)).await?;
    let signed = signatures(&stack, &args).await?;
    let syncs = flushes(&stack, &args).await?;
    let denied = denials(&stack, &args).await?;
    ensure!(
        args.lenient || signed >= SIGNED_PERMILLE,
        "too few signatures beside the token's rate"
    );
    let few = syncs.is_some_and(|syncs| syncs <= SYNCS_PERMILLE_MAX);
    ensure!(args.lenient || few, "too many flushes a group, or nobody counted them");
    ensure!(args.lenient || denied >= DENIED_PERMILLE, "too few denials beside one flush each");
    Ok(())
}

/// As many requests may be worked on as there are callers: each is small.
async fn make_room(stack: &mut Stack, callers: u32) -> Result<()> {
    stack.signer.stop()?;
    let config = fs::read_to_string(stack.signer.config())?;
    fs::write(stack.signer.config(), format!("{config}\n[limits]\nconcurrent = {callers}\n"))?;
    stack.start_signer().await
}

/// The median of the service's rate to the bare loop's, in thousandths.
async fn signatures(stack: &Stack, args: &Args) -> Result<u128> {
    let sessions = u32::try_from(std::thread::available_parallelism()?.get())?;
    let mut bare = TokenCalls::children(stack.dir(), "rsa-oaep-sha1", sessions)?;
    let callers = Callers::connect(stack, args.callers).await?;
    println!(
        "token-hd, {} requests of one input by {} callers, {sessions} token workers, {sessions} bare sessions, {}",
        args.requests,
        args.callers,
        if args.unwitnessed { "no witness" } else { "a witness cosigns" }
    );
    println!("the bare loop: {}", bare.name());
    println!("round   bare loop   service       p50       p99   rate");
    let (mut rates, mut counted) = (Vec::new(), [0_u64; 2]);
    for round in 0..args.rounds.max(2) {
        let (done, alone) = bare.run(args.requests)?;
        ensure!(done == args.requests, "the bare loop did {done} signatures");
        let requests = callers::requests(stack, Kind::Signed, round, args.requests, ADDRESSES)?;
        let answered = callers.ask(requests, Kind::Signed).await?;
        let rate = permille(alone, answered.took);
        println!("{round:5} {} {}   {}", per_second(done, alone), answered, decimal(rate));
        for (sum, count) in counted.iter_mut().zip([done, answered.count()]) {
            *sum = sum.saturating_add(count.into());
        }
        // The first round warms caches and connections.
        if round > 0 {
            rates.push(rate);
        }
    }
    let [alone, whole] = counted;
    println!("signatures: {alone} by the bare loop, {whole} by the service");
    Ok(median("rate of the service: ", "of the bare loop's", rates, SIGNED_PERMILLE))
}

/// Flushes for each group of entries that the token signed a checkpoint over, in thousandths, while all callers are busy: the
/// last group of a burst has nobody to come along with its note, which then costs a flush of its own.
async fn flushes(stack: &Stack, args: &Args) -> Result<Option<u128>> {
    let callers = Callers::connect(stack, args.callers).await?;
    let count = args.requests.saturating_mul(FLUSHES_ROUNDS);
    let requests = callers::requests(stack, Kind::Signed, 5_000, count, ADDRESSES)?;
    let counting = async {
        tokio::time::sleep(LEAD).await;
        let started = syncs::Counting::start(stack.signer.id()?, stack.dir()).await?;
        tokio::time::sleep(COUNTED).await;
        let Some(counting) = started else { return anyhow::Ok(None) };
        counting.stop().await.map(|flushes| Some((flushes, Instant::now())))
    };
    let asking = async {
        let answered = callers.ask(requests, Kind::Signed).await?;
        anyhow::Ok((answered, Instant::now()))
    };
    let ((answered, ended), counted) = tokio::try_join!(asking, counting)?;
    let Some((counted, until)) = counted else {
        println!("flushes: not counted, there is no strace here that may look into the signer");
        return Ok(None);
    };
    if until >= ended {
        println!("flushes: not counted, {} requests end too soon", answered.count());
        return Ok(None);
    }
    let Some(permille) = counted.permille() else {
        println!("flushes: {counted}, too few to say");
        return Ok(None);
    };
    println!(
        "flushes while requests were signed: {counted}: {} a group; at most {} is asked",
        decimal(permille),
        decimal(SYNCS_PERMILLE_MAX)
    );
    Ok(Some(permille))
}

/// The median of the rate of denials to that of one flush each, in thousandths.
async fn denials(stack: &Stack, args: &Args) -> Result<u128> {
    let callers = Callers::connect(stack, args.denied_callers).await?;
    println!("{} requests by {} callers, denied", args.denied_requests, args.denied_callers);
    println!("round   one flush each   service       p50       p99   rate");
    let mut rates = Vec::new();
    for round in 0..args.rounds.max(2) {
        let (done, alone) = syncs::one_by_one(stack.dir(), args.denied_requests.min(500))?;
        let round_of_its_own = round.saturating_add(10_000);
        let requests = callers::requests(
            stack,
            Kind::Denied,
            round_of_its_own,
            args.denied_requests,
            ADDRESSES,
        )?;
        let answered = callers.ask(requests, Kind::Denied).await?;
        let each = alone.checked_div(done).unwrap_or_default();
        let rate = permille(each.saturating_mul(answered.count()), answered.took);
        println!("{round:5}      {} {}   {}", per_second(done, alone), answered, decimal(rate));
        if round > 0 {
            rates.push(rate);
        }
    }
    Ok(median("rate of denials: ", "times that of one flush each", rates, DENIED_PERMILLE))
}

fn median(before: &str, after: &str, mut rates: Vec<u128>, asked: u128) -> u128 {
    rates.sort_unstable();
    let at = |part: usize| rates.get(part).copied().unwrap_or_default();
    let middle = at(rates.len() / 2);
    println!(
        "{before}{} {after} (median; {} to {}); {} is asked",
        decimal(middle),
        decimal(at(0)),
        decimal(at(rates.len().saturating_sub(1))),
        decimal(asked)
    );
    middle
}

impl std::fmt::Display for Answered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ms = |time: Duration| decimal(time.as_micros());
        let (middle, late) = (ms(self.percentile(50)), ms(self.percentile(99)));
        write!(f, "{} {middle:>6} ms {late:>6} ms", per_second(self.count(), self.took))
    }
}

fn per_second(count: u32, time: Duration) -> String {
    let rate = u128::from(count).saturating_mul(1_000_000).checked_div(time.as_micros());
    format!("{:>7}/s", rate.unwrap_or_default())
}

fn permille(part: Duration, whole: Duration) -> u128 {
    part.as_micros().saturating_mul(1000).checked_div(whole.as_micros()).unwrap_or_default()
}

fn decimal(permille: u128) -> String {
    format!("{}.{:03}", permille / 1000, permille % 1000)
}
