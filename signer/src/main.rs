//! The `signer` program: its commands. It never holds logic of its own.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use policy::Rules;
use policy::names::{KeyName, WalletName};
use policy::rules::Tier;
use signer::config::Config;
use signer::conformance::{self, Form, TierName};
use signer::ledger::{KeyState, Ledger};
use signer::log::{Clock, Log, LogError, Store, begin};
use signer::sandbox::{self, Needs};
use signer::token::{Starter, Token, TokenConfig};
use signer::{born, doctor, import, init, kek, keys, serve, set_pin, start};
use tracing_subscriber::EnvFilter;

/// The isolated signer.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    /// The configuration file.
    #[arg(long, global = true, default_value = "/etc/cofferdam/signer/signer.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes the token's keys and begins the log. Running it again changes nothing.
    Init {
        /// Also writes the wrapping key here, as PEM.
        #[arg(long)]
        pem: Option<PathBuf>,
    },
    /// Shows the wrapping key and its fingerprint, for a ceremony.
    WrappingKey {
        /// The sealing key instead, for accounts of the tier sealed-hd.
        #[arg(long)]
        sealing: bool,
        /// Writes the PEM here instead of showing it.
        #[arg(long)]
        pem: Option<PathBuf>,
    },
    /// Takes a ceremony's bundle in, once it is proven to be the policy's wallet, made for this token.
    Import {
        /// The file.
        bundle: PathBuf,
        /// The wallet's name in the policy; found by the descriptor when not given.
        #[arg(long)]
        wallet: Option<String>,
        /// As for `serve`.
        #[arg(long)]
        clock_is_right: bool,
    },
    /// Serves until it is told to end.
    Serve {
        /// The machine's clock was looked at and is right, although the log's last entry is more than a week older
        /// or an hour newer. A clock that jumped ahead would empty every rolling limit.
        #[arg(long)]
        clock_is_right: bool,
    },
    /// About a wallet's keys: which state they are in, as NIST SP 800-57 has it. The signer must be down.
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// About keys for coins that are born in the token and never leave it (tier token). The signer must be down.
    TokenKey {
        #[command(subcommand)]
        command: TokenKeyCommand,
    },
    /// Holds any PKCS#11 module against the signer's needs, on a scratch token; needs no configuration. Keys stay behind
    /// in the token: initialise it again afterwards. Fails when the tier asked for cannot be carried. The worker that loads
    /// the module is not confined here, unlike in service, since nobody knows yet which files an unknown module needs:
    /// try modules that you do not trust on a machine where nothing else is.
    Conformance(Conformance),
    /// Looks at module, token, keys, sandbox, clock, database and log, and says what is wrong. Never needs a running
    /// signer and never disturbs one. Ends with 0 when all is well, 1 with warnings, 2 when something is broken.
    Doctor {
        /// For programs: one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Changes a token's user PIN, and the PIN file with it, with the signer stopped.
    SetPin {
        /// The standby whose PIN it is, by its name in the configuration; the first token's when not given.
        #[arg(long, value_name = "NAME")]
        token: Option<String>,
        /// A file with the new PIN, mode 0600; asked for on the terminal when not given.
        #[arg(long, value_name = "FILE", conflicts_with = "finish")]
        new_pin_file: Option<PathBuf>,
        /// Finish a change that was interrupted: find out whether the token has the new PIN (this may cost one try).
        #[arg(long)]
        finish: bool,
    },
    /// About key-encryption keys of the scheme aes-kwp: how one comes into the token. People sit here, with a PIN that the
    /// service does not have, and no signer serves.
    Kek {
        #[command(subcommand)]
        command: KekCommand,
        /// File with the PIN of those who do it, readable by its owner alone and not the service's; asked for when not
        /// given.
        #[arg(long, value_name = "FILE", global = true)]
        pin_file: Option<PathBuf>,
    },
    /// About the token's PIN.
    Pin {
        #[command(subcommand)]
        command: PinCommand,
    },
    /// About the trust in the token.
    Token {
        #[command(subcommand)]
        command: TokenCommand,
    },
}

#[derive(clap::Args)]
struct Conformance {
    /// The PKCS#11 module.
    #[arg(long)]
    module: PathBuf,
    /// Label of the scratch token.
    #[arg(long)]
    token_label: String,
    /// File with its user PIN, readable by its owner alone.
    #[arg(long)]
    pin_file: PathBuf,
    /// The tier that the token must be able to carry.
    #[arg(long, default_value = "token-hd")]
    tier: TierName,
    /// As Markdown, to send to a vendor.
    #[arg(long, conflicts_with = "json")]
    markdown: bool,
    /// As JSON.
    #[arg(long)]
    json: bool,
    /// The token-worker program, if it is not beside this one.
    #[arg(long)]
    worker: Option<PathBuf>,
    /// The number at which the module has AES key wrap with padding (RFC 5649): 0x210a, or a vendor's own.
    #[arg(long, default_value = "0x210a")]
    kwp_mechanism: String,
    /// Longest time for all of it.
    #[arg(long, default_value_t = 600)]
    seconds_max: u32,
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Shows every wallet with keys, its tier and their state.
    List,
    /// Nothing is signed or attested with them until they are activated again.
    Suspend(KeyOf),
    /// Suspended ones are used again.
    Activate(KeyOf),
    /// They are only swept out from now on. For ever.
    Retire(KeyOf),
    /// Somebody else may have them: nothing is signed or attested any more. For ever.
    Compromised(KeyOf),
}

#[derive(clap::Args)]
struct KeyOf {
    /// The wallet's name in the policy.
    wallet: String,
    /// Why; written to the log.
    #[arg(long)]
    reason: String,
}

#[derive(Subcommand)]
enum TokenKeyCommand {
    /// Has the token make a key, looks at every attribute, and writes it down. Running it again changes nothing.
    Generate {
        /// What people call it.
        name: String,
    },
    /// Shows every key: name, tier, state, public key, and the wallets that it signs for.
    List,
    /// Shows what the token's attestation key signs about a key: public key and attributes.
    Attest {
        /// Which key.
        name: String,
        /// Writes it here instead of showing it.
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Nothing is signed or attested by wallets with this key until it is activated again.
    Suspend(TokenKeyOf),
    /// A suspended one is used again.
    Activate(TokenKeyOf),
    /// Its wallets are only swept out from now on. For ever.
    Retire(TokenKeyOf),
    /// Somebody else may use it: nothing is signed or attested by its wallets any more. For ever.
    Compromised(TokenKeyOf),
}

#[derive(clap::Args)]
struct TokenKeyOf {
    /// Which key.
    name: String,
    /// Why; written to the log.
    #[arg(long)]
    reason: String,
}

#[derive(Subcommand)]
enum KekCommand {
    /// Makes the one-time key of an import. Until it is gone again, no signer serves with this token.
    Open {
        /// Where to write its public half, for a ceremony.
        #[arg(long, value_name = "FILE")]
        pem: PathBuf,
    },
    /// Takes the key in that a ceremony handed over, and destroys the one-time key.
    Import {
        /// What the ceremony wrote (`--kek-out`).
        file: PathBuf,
    },
    /// Destroys the one-time key without an import.
    Close,
}

#[derive(Subcommand)]
enum PinCommand {
    /// Allows one more login after the PIN was refused. Put the right PIN in place first.
    Clear {
        /// Also when the token says that one more wrong PIN locks it.
        #[arg(long)]
        last_try: bool,
    },
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Lets the token be used again after it signed wrongly. Find out why first; restart the signer afterwards.
    Clear,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .init();
    let mut out = std::io::stdout();
    confine::harden()?;
    // Without a configuration there is nobody to allow root, and no signer's key: a scratch token is all it sees, through
    // one worker. It is not confined, since nobody has said yet which files an unknown module needs.
    if let Command::Conformance(asked) = arguments.command {
        hold_against_needs(asked, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut config = Config::load(&arguments.config)?;
    confine::refuse_root(config.allow_root, "`allow_root = true` in the configuration")?;
    match arguments.command {
        Command::Pin { command: PinCommand::Clear { last_try } } => {
            init::clear_pin(&config.state_dir, last_try, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Token { command: TokenCommand::Clear } => {
            init::clear_token(&config.state_dir, &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    // What starts workers comes first: once this process is confined it starts nothing any more.
    let mut changing = None;
    if let Command::SetPin { token, new_pin_file, finish } = &arguments.command {
        let (token, new_pin_file) = (token.clone(), new_pin_file.clone());
        let asked = set_pin::Asked { token, new_pin_file, finish: *finish };
        let told = set_pin::prepare(&config, &asked)?;
        let told = TokenConfig { starter: Some(Starter::start(&told)?.0), ..told };
        changing = Some((told, asked));
    }
    if let Command::Kek { pin_file, .. } = &arguments.command {
        config.token = kek::attended(&config, pin_file.as_deref())?;
    }
    let starters = start_starters(&mut config)?;
    config.lacking =
        sandbox::enter(&config, &arguments.config, needs(&arguments.command, &config))?.lacking;
    // From here on there is more than one thread.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if let Command::Doctor { json } = arguments.command {
        let checked = runtime.block_on(doctor::examine(&config));
        checked.show(json, &mut out)?;
        return Ok(checked.exit_code());
    }
    if let Some((changing, asked)) = changing {
        runtime.block_on(set_pin::set_pin(&config, changing, &asked, &mut out))?;
        return Ok(ExitCode::SUCCESS);
    }
    runtime.block_on(run(config, arguments.command, starters)).map(|()| ExitCode::SUCCESS)
}

/// One for the token and one for each standby, each with what that token's module needs.
fn start_starters(config: &mut Config) -> anyhow::Result<Vec<Child>> {
    let mut children = Vec::new();
    let token = &mut config.token;
    // The standbys' names are looked at with it.
    let (starter, child) = Starter::start(token)?;
    token.starter = Some(starter);
    children.push(child);
    for (name, standby) in &mut token.standby {
        let (starter, child) =
            Starter::start(standby).with_context(|| format!("standby {name}"))?;
        standby.starter = Some(starter);
        children.push(child);
    }
    Ok(children)
}

/// What a command was told to read or write, beside what the configuration names.
fn needs(command: &Command, config: &Config) -> Needs {
    let folder = |file: &Path| {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).to_owned()
    };
    match command {
        Command::Init { pem } | Command::WrappingKey { pem, .. } => {
            Needs { write: pem.iter().map(|file| folder(file)).collect(), ..Needs::default() }
        }
        Command::Kek { command: KekCommand::Open { pem }, .. } => {
            Needs { write: vec![folder(pem)], ..Needs::default() }
        }
        Command::Kek { command: KekCommand::Import { file }, .. } => {
            Needs { read: vec![file.clone()], ..Needs::default() }
        }
        Command::Import { bundle, .. } => Needs { read: vec![bundle.clone()], ..Needs::default() },
        Command::Doctor { .. } => {
            Needs { read: vec![PathBuf::from(doctor::TIME_SYNCHRONISED)], ..Needs::default() }
        }
        Command::SetPin { token, .. } => {
            let named = match token {
                Some(name) => config.token.standby.get(name),
                None => Some(&config.token),
            };
            let file = named.and_then(|token| token.pin_file.as_deref());
            Needs { write: file.map(folder).into_iter().collect(), ..Needs::default() }
        }
        Command::Serve { .. } => Needs { listens: true, ..Needs::default() },
        Command::TokenKey { command: TokenKeyCommand::Attest { out, .. } } => {
            Needs { write: out.iter().map(|file| folder(file)).collect(), ..Needs::default() }
        }
        Command::Key { .. }
        | Command::TokenKey { .. }
        | Command::Kek { .. }
        | Command::Pin { .. }
        | Command::Token { .. }
        | Command::Conformance(_) => Needs::default(),
    }
}

async fn run(config: Config, command: Command, starters: Vec<Child>) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match command {
        Command::Init { pem } => {
            let keys =
                init::init(&config.token, &config.state_dir, pem.as_deref(), &mut out).await?;
            begin_log(&config, &keys).await
        }
        Command::WrappingKey { sealing, pem } => {
            let (token, state, pem) = (&config.token, &config.state_dir, pem.as_deref());
            if sealing {
                init::sealing_key(token, state, pem, &mut out).await?;
            } else {
                init::wrapping_key(token, state, pem, &mut out).await?;
            }
            Ok(())
        }
        Command::Import { bundle, wallet, clock_is_right } => {
            let clock = Clock::system();
            let clock = if clock_is_right { clock.confirmed() } else { clock };
            import_bundle(&config, &bundle, wallet, clock).await
        }
        Command::Serve { clock_is_right } => serve(&config, clock_is_right, starters).await,
        Command::Key { command } => run_key(&config, command).await,
        Command::TokenKey { command } => run_token_key(&config, command).await,
        Command::Kek { command, .. } => match command {
            KekCommand::Open { pem } => kek::open(&config, &pem, &mut out).await,
            KekCommand::Import { file } => kek::import(&config, &file, &mut out).await,
            KekCommand::Close => kek::close(&config, &mut out).await,
        },
        // These have been seen to.
        _ => Ok(()),
    }
}

/// Serves until told to end, or until no more workers can be started: then a restart is needed.
async fn serve(config: &Config, clock_is_right: bool, starters: Vec<Child>) -> anyhow::Result<()> {
    let (gone, mut starter_gone) = tokio::sync::mpsc::unbounded_channel();
    // A thread for each, which ends with the process: the runtime would wait for one of its.
    for mut starter in starters {
        let gone = gone.clone();
        std::thread::Builder::new().name("starter".to_owned()).spawn(move || {
            let _ = starter.wait();
            let _ = gone.send(());
        })?;
    }
    let told = told_to_end()?;
    let mut broken = false;
    let until = async {
        tokio::select! {
            () = told => {}
            _ = starter_gone.recv() => broken = true,
        }
    };
    serve::serve(config, clock_is_right, until).await?;
    anyhow::ensure!(!broken, "the process that starts token workers ended: a restart is needed");
    Ok(())
}

fn hold_against_needs(asked: Conformance, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let Conformance { module, token_label, pin_file, worker, kwp_mechanism, seconds_max, .. } =
        asked;
    let plan =
        conformance::Plan { module, token_label, pin_file, worker, kwp_mechanism, seconds_max };
    let report = conformance::run(&plan)?;
    let form = match (asked.markdown, asked.json) {
        (true, _) => Form::Markdown,
        (_, true) => Form::Json,
        _ => Form::Text,
    };
    out.write_all(report.show(form).as_bytes())?;
    report.carries(asked.tier)
}

async fn begin_log(config: &Config, keys: &signer::token::TokenKeys) -> anyhow::Result<()> {
    let mut store = Store::open(&config.database_url()).await?;
    let begun = start::beginning(config, keys);
    let result = begin(&mut store, begun, &Clock::system(), &config.state_dir).await;
    store.close().await?;
    let said = match result {
        Ok(()) => "begun",
        Err(LogError::Begun(_)) => "was there",
        Err(error) => return Err(error.into()),
    };
    writeln!(std::io::stdout(), "log           {said}")?;
    Ok(())
}

async fn import_bundle(
    config: &Config,
    bundle: &Path,
    wallet: Option<String>,
    clock: Clock,
) -> anyhow::Result<()> {
    let rules = config.rules()?;
    let wallet = match wallet {
        Some(name) => WalletName::parse(&name)?,
        None => wallet_of(&rules, bundle)?,
    };
    // One worker is enough for a checkpoint.
    let token_config = config.token.alone();
    let token = start::open_token(config, token_config).await?;
    let log = start::open_log(config, &token, clock.clone()).await?;
    start::note_waived(&log, start::waived(config, &token, &clock)).await?;
    start::activate(&log, &rules).await?;
    let header = header_of(bundle)?;
    start::carries(config, &token.keys(), &wallet, &header)?;
    let imported = import::import(&log, &rules, &config.state_dir, &wallet, bundle).await;
    log.close().await?;
    let imported = imported?;
    let said = match (imported.new, imported.replaced) {
        (false, _) => "was imported before",
        (true, None) => "imported",
        (true, Some(_)) => "imported in place of the bundle before",
    };
    let (digest, external, change) =
        (hex::encode(imported.digest), imported.external, imported.change);
    writeln!(
        std::io::stdout(),
        "{wallet}: {said}, {external} external and {change} change keys, bundle {digest}"
    )?;
    if let (true, Some(before)) = (imported.new, imported.replaced) {
        let path = signer::records::bundle_path(&config.state_dir, before);
        writeln!(
            std::io::stdout(),
            "{} is not used any more: remove it once `signer serve` has started with the new one",
            path.display()
        )?;
    }
    Ok(())
}

async fn run_key(config: &Config, command: KeyCommand) -> anyhow::Result<()> {
    let rules = config.rules()?;
    let token_config = config.token.alone();
    let token = start::open_token(config, token_config).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    start::activate(&log, &rules).await?;
    let kin = log.read(|ledger| keys::Kin::read(ledger, &config.state_dir));
    let change = match command {
        KeyCommand::List => None,
        KeyCommand::Suspend(of) => Some((of, KeyState::Suspended)),
        KeyCommand::Activate(of) => Some((of, KeyState::Active)),
        KeyCommand::Retire(of) => Some((of, KeyState::Retired)),
        KeyCommand::Compromised(of) => Some((of, KeyState::Compromised)),
    };
    let done = match change {
        None => Ok(()),
        Some((KeyOf { wallet, reason }, state)) => match WalletName::parse(&wallet) {
            Ok(wallet) => keys::set_state(&log, &rules, &kin, &wallet, state, &reason)
                .await
                .map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        },
    };
    let mut out = std::io::stdout();
    for wallet in rules.wallets().iter().filter(|wallet| wallet.tier != Tier::Cold) {
        let state = log.read(|ledger| kin.standing(ledger, &wallet.name));
        writeln!(out, "{:<20} {:<10} {state}", wallet.name.as_str(), wallet.tier.as_str())?;
    }
    log.close().await?;
    done
}

/// Needs no policy: a key is made before officers can sign for a descriptor that names it.
async fn run_token_key(config: &Config, command: TokenKeyCommand) -> anyhow::Result<()> {
    let token = start::open_token(config, config.token.alone()).await?;
    let log = start::open_log(config, &token, Clock::system()).await?;
    let done = token_key(config, &token, &log, command).await;
    log.close().await?;
    done
}

async fn token_key(
    config: &Config,
    token: &Token,
    log: &Log<Ledger>,
    command: TokenKeyCommand,
) -> anyhow::Result<()> {
    let (settings, state_dir) = (config.token.alone(), &config.state_dir);
    let mut stdout = std::io::stdout();
    let (TokenKeyOf { name, reason }, state) = match command {
        TokenKeyCommand::Generate { name } => {
            let name = KeyName::parse(&name)?;
            born::generate(log, &settings, state_dir, &name, &mut stdout).await?;
            return Ok(());
        }
        TokenKeyCommand::List => return Ok(born::list(log, &mut stdout)?),
        TokenKeyCommand::Attest { name, out } => {
            let name = KeyName::parse(&name)?;
            let document = born::attest(log, token, &settings, state_dir, &name).await?;
            return match out {
                Some(path) => std::fs::write(&path, document)
                    .with_context(|| format!("cannot write {}", path.display())),
                None => Ok(stdout.write_all(document.as_bytes())?),
            };
        }
        TokenKeyCommand::Suspend(of) => (of, KeyState::Suspended),
        TokenKeyCommand::Activate(of) => (of, KeyState::Active),
        TokenKeyCommand::Retire(of) => (of, KeyState::Retired),
        TokenKeyCommand::Compromised(of) => (of, KeyState::Compromised),
    };
    keys::set_born_state(log, &KeyName::parse(&name)?, state, &reason).await?;
    Ok(born::list(log, &mut stdout)?)
}

/// The policy's wallet with the bundle's descriptor.
fn wallet_of(rules: &Rules, bundle: &Path) -> anyhow::Result<WalletName> {
    let header = header_of(bundle)?;
    let descriptor = header.descriptor();
    let wallet = rules.wallets().iter().find(|wallet| wallet.descriptor == descriptor);
    let wallet = wallet.with_context(|| {
        format!("the policy has no wallet with this bundle's descriptor, {descriptor}: officers sign for it first")
    })?;
    Ok(wallet.name.clone())
}

fn header_of(bundle: &Path) -> anyhow::Result<bundle::Header> {
    let mut file =
        std::fs::File::open(bundle).with_context(|| format!("cannot open {}", bundle.display()))?;
    let opened = bundle::Bundle::open(&mut file).with_context(|| bundle.display().to_string())?;
    Ok(opened.header().clone())
}

/// Done at SIGTERM or SIGINT.
fn told_to_end() -> anyhow::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("told to end (SIGTERM)"),
            _ = interrupt.recv() => tracing::info!("told to end (SIGINT)"),
        }
    })
}
