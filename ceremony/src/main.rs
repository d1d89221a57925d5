//! The `ceremony` command. It never does anything but read arguments, ask, and show.

use std::fmt;
use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context as _, bail};
use bundle::Network;
use ceremony::create::{Plan, create};
use ceremony::inspect::{Description, inspect};
use ceremony::wrapping::{Confirmed, FILE_MAX, WrappingKey};
use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressState, ProgressStyle};

/// Offline key ceremony: makes an account and wraps its children for one token.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make an account, wrap its children, write a signed bundle.
    Create(Create),
    /// Verify a bundle to its last byte and show what it holds.
    Inspect {
        /// The bundle.
        file: PathBuf,
    },
}

#[derive(Args)]
struct Create {
    /// regtest, signet or testnet4 (bitcoin is refused until shares of the seed exist).
    #[arg(long, value_parser = network)]
    network: Network,
    /// BIP-84 account number: m/84h/coin'h/NUMBER'h.
    #[arg(long, value_name = "NUMBER")]
    wallet_account: u32,
    /// Children on the external branch (customers' addresses).
    #[arg(long, value_name = "N")]
    external: u32,
    /// Children on the change branch.
    #[arg(long, value_name = "M")]
    change: u32,
    /// The token's public wrapping key, as `signer wrapping-key` writes it.
    #[arg(long, value_name = "PEM")]
    wrapping_key: PathBuf,
    /// Its fingerprint as the signer's screen shows it; asked for when not given.
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// The bundle to write; never overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Where to write the watch-only descriptor; never overwritten.
    #[arg(long, value_name = "FILE")]
    descriptor_out: Option<PathBuf>,
    /// Working threads; all cores when not given.
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Create(arguments) => run_create(arguments),
        Command::Inspect { file } => run_inspect(&file),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ceremony: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_create(arguments: Create) -> anyhow::Result<()> {
    if arguments.network == Network::Bitcoin {
        bail!(ceremony::Error::Mainnet);
    }
    let wrapping = compared(&arguments.wrapping_key, arguments.fingerprint.as_deref())?;
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let plan = Plan {
        network: arguments.network,
        account: arguments.wallet_account,
        external: arguments.external,
        change: arguments.change,
        wrapping,
        out: arguments.out,
        descriptor_out: arguments.descriptor_out,
        threads: arguments.threads.unwrap_or_else(cores),
    };
    let total = u64::from(plan.external).saturating_add(u64::from(plan.change));
    let (bar, began) = (bar(total, "wrapping"), Instant::now());
    let made = create(&plan, || bar.inc(1))?;
    bar.finish_and_clear();

    let mut out = io::stdout().lock();
    writeln!(out, "{}", Description(&made.header))?;
    writeln!(out, "bundle        {}", hex::encode(made.digest))?;
    writeln!(out, "written       {}{}", plan.out.display(), rate(total, began))?;
    writeln!(
        out,
        "\nThe seed is gone, on purpose: this version makes no shares of it yet. The children live in this bundle and can\n\
         be used by that one token only; lose either and the coins are lost. Test networks only."
    )?;
    Ok(())
}

fn run_inspect(file: &Path) -> anyhow::Result<()> {
    let (bar, began) = (bar(0, "verifying"), Instant::now());
    let bundle = inspect(file, |total| bar.set_length(total), || bar.inc(1))?;
    bar.finish_and_clear();
    let mut out = io::stdout().lock();
    writeln!(out, "{}", Description(bundle.header()))?;
    writeln!(out, "bundle        {}", hex::encode(bundle.digest()))?;
    writeln!(
        out,
        "verified      every record, its public key, and the account's signature{}",
        rate(bundle.header().total(), began)
    )?;
    Ok(())
}

/// Reads the wrapping key and has its fingerprint compared: with `given` when nobody sits here, else by typing.
fn compared(path: &Path, given: Option<&str>) -> anyhow::Result<Confirmed> {
    let mut pem = String::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(FILE_MAX).read_to_string(&mut pem))
        .with_context(|| format!("cannot read {}", path.display()))?;
    let key = WrappingKey::from_pem(&pem)?;
    let mut ask = io::stderr().lock();
    writeln!(ask, "The wrapping key in {} has the fingerprint\n", path.display())?;
    for line in key.lines() {
        writeln!(ask, "    {line}")?;
    }
    writeln!(ask)?;
    if let Some(given) = given {
        return Ok(key.confirm(given)?);
    }
    if !io::stdin().is_terminal() {
        bail!("nobody is here to compare it: give --fingerprint as the signer's screen shows it");
    }
    writeln!(ask, "Two people compare it with the signer's screen (`signer wrapping-key`).")?;
    write!(ask, "Type the fingerprint that the signer shows: ")?;
    ask.flush()?;
    let mut typed = String::new();
    io::stdin().lock().take(FILE_MAX).read_line(&mut typed)?;
    Ok(key.confirm(&typed)?)
}

fn network(name: &str) -> Result<Network, String> {
    Network::from_name(name).ok_or_else(|| "use regtest, signet, testnet4 or bitcoin".to_owned())
}

fn bar(total: u64, what: &'static str) -> ProgressBar {
    let rate = |state: &ProgressState, out: &mut dyn fmt::Write| {
        let _infallible = write!(out, "{:.0} a second", state.per_sec());
    };
    let template = "{msg} [{bar:40}] {human_pos} of {human_len}, {rate}, {eta} left";
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", rate);
    ProgressBar::new(total).with_style(style).with_message(what)
}

/// How fast it went, when it took long enough to tell.
fn rate(total: u64, began: Instant) -> String {
    let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    match total.saturating_mul(1000).checked_div(millis) {
        Some(per_second) => {
            format!(
                ", {total} records in {}.{:03} s, {per_second} a second",
                millis / 1000,
                millis % 1000
            )
        }
        None => String::new(),
    }
}
