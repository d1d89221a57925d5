//! The `ceremony` command. It never does anything but read arguments, ask, and show.

mod arguments;
mod comparing;
mod harden;
mod keys;
mod progress;
mod screens;

use std::collections::BTreeSet;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::bail;
use bundle::{Kind, Network, Scheme as Keeping, Script};
use ceremony::account::Account;
use ceremony::addresses::first;
use ceremony::again::{
    extend, extend_anew, require_anew, require_extendable, require_extension, require_reseal,
    reseal,
};
use ceremony::backup::{Backup, HandedOver};
use ceremony::create::{Made, Plan, create, create_with_shares};
use ceremony::earlier::Earlier;
use ceremony::entropy::{Pool, Sources};
use ceremony::exit::exit;
use ceremony::inspect::{Description, inspect};
use ceremony::restore::{attest_verified, drill, rebuild};
use ceremony::transcript;
use clap::Parser as _;
use slip39::{Mnemonic, Scheme};

use arguments::{
    Again, Cli, Command, Create, Drill, Exit, Extend, Inspect, Output, Place, Range, Restore,
    Shares,
};
use comparing::{compared, read_text};
use keys::Keys;
use progress::{bar, rate};

fn main() -> ExitCode {
    let command = Cli::parse().command;
    if let Err(error) = harden::harden() {
        let _ = writeln!(
            io::stderr(),
            "ceremony: this process's memory cannot be kept from others: {error}"
        );
        return ExitCode::FAILURE;
    }
    let done = match command {
        Command::Create(arguments) => run_create(&arguments),
        Command::Inspect(arguments) => run_inspect(&arguments),
        Command::Transcript { file } => run_transcript(&file),
        Command::Drill(arguments) => run_drill(&arguments),
        Command::Exit(arguments) => run_exit(&arguments),
        Command::Restore(arguments) => run_restore(&arguments),
        Command::Extend(arguments) => run_extend(&arguments),
        Command::Reseal(arguments) => run_reseal(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "ceremony: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_create(arguments: &Create) -> anyhow::Result<()> {
    if arguments.shares.is_empty() {
        if arguments.place.network == Network::Bitcoin {
            bail!(ceremony::Error::Mainnet);
        }
        let plan =
            plan(arguments.tier.scheme()?, &arguments.place, &arguments.range, &arguments.output)?;
        wrap(&plan, |each| create(&plan, each))?;
        writeln!(
            io::stdout(),
            "\nThe seed is gone, on purpose: no --shares of it were asked for. The children live in this bundle and can\n\
             be used by that one token only; lose either and the coins are lost. Test networks only."
        )?;
        return Ok(());
    }
    let here = io::stdin().is_terminal() && io::stderr().is_terminal();
    if arguments.share_out.is_empty() && !here {
        bail!("nobody is here to read the shares: give --share-out once for each");
    }
    let backup = backup(arguments)?;
    for file in &arguments.share_out {
        absent(Some(file))?;
    }
    let plan =
        plan(arguments.tier.scheme()?, &arguments.place, &arguments.range, &arguments.output)?;
    let Output { descriptor_out, kek_out, transcript, .. } = &arguments.output;
    let given = [descriptor_out, kek_out, transcript].into_iter().flatten();
    apart(&given.chain([&plan.out]).chain(&arguments.share_out).collect::<Vec<_>>())?;
    let hand_over = |shares: &[Vec<Mnemonic>]| {
        if arguments.share_out.is_empty() {
            Keys::stdin()
                .and_then(|mut keys| screens::show(shares, &mut keys, &mut io::stderr().lock()))
                .map_err(ceremony::Error::Terminal)?;
            return Ok(HandedOver::to_people());
        }
        HandedOver::to_files(shares, &arguments.share_out)
    };
    wrap(&plan, |each| create_with_shares(&plan, backup, hand_over, each))?;
    let out = &mut io::stdout().lock();
    for file in &arguments.share_out {
        writeln!(out, "share         {}", file.display())?;
    }
    writeln!(
        out,
        "\nThe seed lives in its shares alone. Hold `ceremony drill` with them before the first coin arrives."
    )?;
    Ok(())
}

fn backup(arguments: &Create) -> anyhow::Result<Backup> {
    let groups = &arguments.shares;
    let threshold = match (arguments.group_threshold, groups.len()) {
        (Some(threshold), _) => threshold,
        (None, 1) => 1,
        (None, _) => {
            bail!("there are several groups: say with --group-threshold how many are needed")
        }
    };
    let scheme = Scheme::new(groups, threshold)?;
    let files = arguments.share_out.len();
    if files != 0 && files != scheme.shares() {
        bail!(ceremony::Error::ShareFiles { shares: scheme.shares(), files });
    }
    let sources = Sources { dice: arguments.dice.as_deref(), file: arguments.entropy.as_deref() };
    let file = arguments.passphrase_file.as_deref();
    let passphrase = screens::passphrase(arguments.passphrase, file, true)?;
    let pool = match &arguments.os_entropy_out {
        Some(_) if arguments.place.network == Network::Bitcoin => bail!(ceremony::Error::Rehearsal),
        Some(out) => Pool::rehearse(sources, out)?,
        None => Pool::gather(sources)?,
    };
    Ok(Backup { scheme, passphrase, pool })
}

fn run_drill(arguments: &Drill) -> anyhow::Result<()> {
    require_transcript(arguments.place.network, arguments.transcript.as_deref())?;
    absent(arguments.transcript.as_deref())?;
    let expected = read_text(&arguments.descriptor)?;
    let account = restored(&arguments.shares, &arguments.place)?;
    let drilled = drill(&account, &expected)?;
    let mut out = io::stdout().lock();
    writeln!(out, "descriptor    {}", drilled.descriptor)?;
    let [external, change] = &drilled.addresses;
    for (branch, addresses) in [("external", external), ("change", change)] {
        for (index, address) in addresses.iter().enumerate().take(3) {
            writeln!(out, "{branch:<10} {index:>2} {address}")?;
        }
    }
    writeln!(
        out,
        "\nThe shares give this account: the descriptor is the expected one, and the private keys of the first {} \n\
         addresses of both branches open them. {}",
        external.len(),
        match arguments.transcript {
            Some(_) => "Nothing but the transcript is written.",
            None => "Nothing was written.",
        }
    )?;
    drop(out);
    keep(arguments.transcript.as_deref(), &drilled.transcript)
}

fn run_restore(arguments: &Restore) -> anyhow::Result<()> {
    let expected = read_text(&arguments.descriptor)?;
    let plan =
        plan(arguments.tier.scheme()?, &arguments.place, &arguments.range, &arguments.output)?;
    if plan.kind.scheme.is_sealed() {
        // Before anybody brings a share: of what else they are shares, they do not say.
        writeln!(
            io::stderr(),
            "STOP if these are the shares of a token-hd account. A sealed account is opened outside the token: whoever has it may\n\
             then have every account of its seed. It needs a seed of its own: `ceremony create --tier sealed-hd --shares …`."
        )?;
    }
    let account = restored(&arguments.shares, &arguments.place)?;
    drill(&account, &expected)?;
    wrap(&plan, |each| rebuild(&plan, account, each))
}

fn run_extend(arguments: &Extend) -> anyhow::Result<()> {
    let expected = arguments.descriptor.as_deref().map(read_text).transpose()?;
    let before = arguments.bundle.as_deref().map(verified).transpose()?;
    let (place, plan) = match &before {
        Some(before) => {
            require_extendable(before.header())?;
            let counts = (arguments.external, arguments.change);
            let (place, plan) = again(before, arguments.scheme, counts, &arguments.output)?;
            require_extension(&plan, before.header())?;
            (place, plan)
        }
        None => {
            let Extend { network: Some(network), wallet_account: Some(wallet_account), .. } =
                *arguments
            else {
                bail!("without --bundle, say with --network and --wallet-account which account");
            };
            let script = arguments.script.unwrap_or(Script::Wpkh);
            let place = Place { network, wallet_account, script };
            let scheme = arguments.scheme.unwrap_or(Keeping::RsaOaepSha1);
            require_anew(scheme)?;
            let range = Range { external: arguments.external, change: arguments.change };
            let plan = plan(scheme, &place, &range, &arguments.output)?;
            (place, plan)
        }
    };
    let account = restored(&arguments.shares, &place)?;
    if let Some(expected) = &expected {
        drill(&account, expected)?;
    }
    match &before {
        Some(before) => wrap(&plan, |each| extend(&plan, before, account, each))?,
        None => wrap(&plan, |each| extend_anew(&plan, account, each))?,
    }
    if before.is_none() && expected.is_none() {
        writeln!(
            io::stdout(),
            "\nNothing was here to compare the account with: see that this descriptor is the policy's. A slip in passphrase, network\n\
             or account number gives another account, whose bundle the signer does not import."
        )?;
    }
    Ok(())
}

fn run_reseal(arguments: &Again) -> anyhow::Result<()> {
    let before = verified(&arguments.bundle)?;
    let counts = (arguments.external, arguments.change);
    let (place, plan) = again(&before, arguments.scheme, counts, &arguments.output)?;
    // Before anybody brings a share.
    require_reseal(&plan, before.header())?;
    let account = restored(&arguments.shares, &place)?;
    wrap(&plan, |each| reseal(&plan, &before, account, each))
}

/// The account of a bundle, and what to make of it: as it was, where nothing else is said.
fn again(
    before: &Earlier,
    scheme: Option<Keeping>,
    (external, change): (Option<u32>, Option<u32>),
    output: &Output,
) -> anyhow::Result<(Place, Plan)> {
    let fields = before.header().fields();
    let script = fields.kind.script;
    let place = Place { network: fields.network, wallet_account: fields.account, script };
    let scheme = scheme.unwrap_or(fields.kind.scheme);
    let given = |count| (!scheme.is_sealed()).then_some(count);
    let range = Range {
        external: external.or(given(fields.external)),
        change: change.or(given(fields.change)),
    };
    let plan = plan(scheme, &place, &range, output)?;
    Ok((place, plan))
}

fn restored(shares: &Shares, place: &Place) -> anyhow::Result<Account> {
    let recovery = screens::gather(&shares.share)?;
    let file = shares.passphrase_file.as_deref();
    let passphrase = screens::passphrase(shares.passphrase, file, false)?;
    Ok({
        let Place { network, wallet_account, script } = *place;
        Account::restore(&recovery, &passphrase, script, network, wallet_account)?
    })
}

fn plan(scheme: Keeping, place: &Place, range: &Range, output: &Output) -> anyhow::Result<Plan> {
    let (external, change) = counts(scheme, range)?;
    require_transcript(place.network, output.transcript.as_deref())?;
    let Output { out, descriptor_out, kek_out, transcript, .. } = output;
    let files: Vec<&PathBuf> =
        [descriptor_out, kek_out, transcript].into_iter().flatten().chain([out]).collect();
    files.iter().try_for_each(|file| absent(Some(file)))?;
    apart(&files)?;
    let wrapping = compared(&output.wrapping_key, output.fingerprint.as_deref(), scheme)?;
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Ok(Plan {
        kind: Kind { scheme, script: place.script },
        network: place.network,
        account: place.wallet_account,
        external,
        change,
        wrapping,
        kek_out: output.kek_out.clone(),
        out: output.out.clone(),
        descriptor_out: output.descriptor_out.clone(),
        transcript_out: output.transcript.clone(),
        threads: output.threads.unwrap_or_else(cores),
    })
}

/// Records of both branches. A sealed account is one, and gives every index.
fn counts(scheme: Keeping, range: &Range) -> Result<(u32, u32), ceremony::Error> {
    match (scheme, range.external, range.change) {
        (Keeping::SealedAesGcm, None, None) => Ok((1, 0)),
        (Keeping::SealedAesGcm, ..) => Err(ceremony::Error::Range(
            "a sealed account gives every index: leave --external and --change out",
        )),
        (_, Some(external), Some(change)) => Ok((external, change)),
        (..) => Err(ceremony::Error::Range(
            "say with --external and --change how many children to wrap",
        )),
    }
}

/// Makes a bundle behind a bar and says what it holds.
fn wrap(
    plan: &Plan,
    make: impl FnOnce(&mut dyn FnMut()) -> Result<Made, ceremony::Error>,
) -> anyhow::Result<()> {
    let total = u64::from(plan.external).saturating_add(u64::from(plan.change));
    let (bar, began) = (bar(total, "wrapping"), Instant::now());
    let made = make(&mut || bar.inc(1))?;
    bar.finish_and_clear();

    let mut out = io::stdout().lock();
    writeln!(out, "{}", Description(&made.header))?;
    writeln!(out, "bundle        {}", hex::encode(made.digest))?;
    writeln!(out, "written       {}{}", plan.out.display(), rate(total, began))?;
    if let Some(kek) = &plan.kek_out {
        writeln!(out, "kek for       {}, which the signer shows as", kek.display())?;
        let fingerprint = made.header.fields().wrapping;
        for line in fingerprint.chunks(8) {
            let groups = line.chunks(2).map(hex::encode).collect::<Vec<_>>().join(" ");
            writeln!(out, "              {groups}")?;
        }
        writeln!(out, "              (`signer kek import` asks for it)")?;
    }
    written(plan.transcript_out.as_deref())
}

/// Who makes something for real money, or shows that the shares give it, says how, and signs it.
fn require_transcript(network: Network, transcript: Option<&Path>) -> Result<(), ceremony::Error> {
    match transcript {
        None if network == Network::Bitcoin => Err(ceremony::Error::NoTranscript),
        _ => Ok(()),
    }
}

/// Stops when a file's place is taken, also by a link that leads nowhere, or when its folder is not there: before the work,
/// and before anybody brings a share. Whether the folder can be written to is seen only then.
fn absent(file: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = file else { return Ok(()) };
    if path.symlink_metadata().is_ok() {
        bail!(ceremony::Error::Exists(path.to_path_buf()));
    }
    if !folder(path).is_dir() {
        bail!("there is no folder for {}: make it first", path.display());
    }
    Ok(())
}

/// Stops when two of the files would be one.
fn apart(files: &[&PathBuf]) -> anyhow::Result<()> {
    let mut seen = BTreeSet::new();
    for file in files {
        let place = folder(file).canonicalize()?.join(file.file_name().unwrap_or_default());
        if !seen.insert(place) {
            bail!("{} is named for two files: give each its own", file.display());
        }
    }
    Ok(())
}

/// Where a file will lie.
fn folder(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn keep(transcript: Option<&Path>, text: &str) -> anyhow::Result<()> {
    if let Some(path) = transcript {
        transcript::write(path, text)?;
    }
    written(transcript)
}

fn written(transcript: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = transcript {
        writeln!(io::stdout(), "transcript    {}", path.display())?;
    }
    Ok(())
}

fn run_transcript(file: &Path) -> anyhow::Result<()> {
    let xpub = transcript::verify(&read_text(file)?)?;
    writeln!(
        io::stdout(),
        "signed by the account {xpub}: compare it with the policy's descriptor"
    )?;
    Ok(())
}

fn verified(file: &Path) -> anyhow::Result<Earlier> {
    let bar = bar(0, "verifying");
    let earlier = Earlier::open(file, |total| bar.set_length(total), || bar.inc(1))?;
    bar.finish_and_clear();
    Ok(earlier)
}

fn run_inspect(arguments: &Inspect) -> anyhow::Result<()> {
    let transcript = arguments.transcript.as_deref();
    absent(transcript)?;
    let (bar, began) = (bar(0, "verifying"), Instant::now());
    let bundle = inspect(&arguments.file, |total| bar.set_length(total), || bar.inc(1))?;
    bar.finish_and_clear();
    let header = bundle.header();
    if let Some(path) = &arguments.descriptor {
        let expected = read_text(path)?.trim().to_owned();
        if header.descriptor() != expected {
            bail!("the bundle is of another account: its descriptor is {}", header.descriptor());
        }
    }
    let mut out = io::stdout().lock();
    writeln!(out, "{}", Description(header))?;
    writeln!(out, "bundle        {}", hex::encode(bundle.digest()))?;
    for (branch, addresses) in
        ["external", "change"].iter().zip(first(header, arguments.addresses)?)
    {
        for (index, address) in addresses.iter().enumerate() {
            writeln!(out, "{branch:<8} {index:>4} {address}")?;
        }
    }
    writeln!(
        out,
        "verified      every record, its public key, and the account's signature{}",
        rate(header.total(), began)
    )?;
    drop(out);
    if transcript.is_some() {
        let fields = header.fields();
        let (network, script) = (fields.network, fields.kind.script);
        let place = Place { network, wallet_account: fields.account, script };
        let account = restored(&arguments.shares, &place)?;
        keep(transcript, &attest_verified(&account, &bundle)?)?;
    }
    Ok(())
}

fn run_exit(arguments: &Exit) -> anyhow::Result<()> {
    let transcript = arguments.transcript.as_deref();
    require_transcript(arguments.place.network, transcript)?;
    absent(transcript)?;
    absent(Some(&arguments.out))?;
    apart(&arguments.transcript.iter().chain([&arguments.out]).collect::<Vec<_>>())?;
    let expected = read_text(&arguments.descriptor)?;
    let account = restored(&arguments.shares, &arguments.place)?;
    exit(&account, &expected, &arguments.out, transcript)?;
    writeln!(
        io::stdout(),
        "written       {}\n\nWhoever reads that file has the coins. Import it (docs/exit.md), move them, destroy it.",
        arguments.out.display()
    )?;
    written(transcript)
}
