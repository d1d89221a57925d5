//! The `signer` program: from a command to what does it. It never holds logic of its own.

mod cli;
mod needs;
mod import_bundle;
mod key_commands;

use std::io::IsTerminal as _;
use std::process::{Child, ExitCode};

use anyhow::Context as _;
use clap::Parser as _;
use signer::clearing::{Clearing, by_officers};
use signer::config::Config;
use signer::conformance::{self, Form};
use signer::json::Json;
use signer::log::Clock;
use signer::sandbox;
use signer::start::{tell_root, tell_waived};
use signer::token::{ModuleReach, Starter, TokenConfig};
use signer::{anchoring, begin, doctor, init, kek, serve, set_pin};
use tracing_subscriber::EnvFilter;

use crate::cli::{Arguments, Command, Conformance, KekCommand, Lines, PinCommand, TokenCommand};
use crate::import_bundle::{activate, import_bundle};
use crate::key_commands::{run_key, run_token_key};
use crate::needs::needs;

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    write_log(arguments.log);
    let mut out = std::io::stdout();
    confine::harden()?;
    // Without a configuration there is nobody to allow root, and no signer's key: a scratch token is all it sees, through
    // one worker, which alone loads the module and is confined.
    if let Command::Conformance(asked) = arguments.command {
        hold_against_needs(asked, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut config = Config::load(&arguments.config)?;
    confine::refuse_root(config.allow_root, "`allow_root = true` in the configuration")?;
    match arguments.command {
        Command::Pin { command: PinCommand::Clear { last_try, by } } => {
            set_pin::none_unfinished(&config)?;
            let clearing = if last_try { Clearing::PinLastTry } else { Clearing::Pin };
            let allowed = by_officers(&config, clearing, &by.statements)?;
            tell_root(&config, "signer pin clear")?;
            init::clear_pin_by(&config.state_dir, last_try, allowed.as_ref(), &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        Command::Token { command: TokenCommand::Clear { by } } => {
            let allowed = by_officers(&config, Clearing::Token, &by.statements)?;
            tell_root(&config, "signer token clear")?;
            init::clear_token_by(&config.state_dir, allowed.as_ref(), &mut out)?;
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    // What starts workers comes first: once this process is confined it starts nothing any more.
    let changing = begin_set_pin(&mut config, &arguments.command)?;
    if let Command::Kek { pin_file, .. } = &arguments.command {
        config.token = kek::attended(&config, pin_file.as_deref())?;
    }
    let starters = start_starters(&mut config)?;
    config.lacking =
        sandbox::enter(&config, &arguments.config, needs(&arguments.command, &config))?.lacking;
    // From here on there is more than one thread.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // A look from another user's hands leaves nothing there.
    if let Err(error) = config.token.operations.keep_in(&config.state_dir) {
        tracing::warn!("what the token does now will not be counted: {error}");
    }
    runtime.block_on(async {
        match (arguments.command, changing) {
            (Command::Doctor { json }, _) => {
                let checked = doctor::examine(&config).await;
                checked.show(json, &mut out)?;
                Ok(checked.exit_code())
            }
            (_, Some((changing, asked))) => {
                let changed = set_pin::set_pin(&config, changing, &asked, &mut out).await;
                changed.map(|()| ExitCode::SUCCESS)
            }
            (command, None) => {
                // Large, and awaited once.
                Box::pin(run(config, command, starters)).await.map(|()| ExitCode::SUCCESS)
            }
        }
    })
}

/// Starts what asks for the PINs, where the PIN is to be changed.
fn begin_set_pin(
    config: &mut Config,
    command: &Command,
) -> anyhow::Result<Option<(TokenConfig, set_pin::Asked)>> {
    let Command::SetPin { token, old_pin_file, new_pin_file, finish, again, last_try, statements } =
        command
    else {
        return Ok(None);
    };
    let asked = set_pin::Asked {
        token: token.clone(),
        old_pin_file: old_pin_file.clone(),
        new_pin_file: new_pin_file.clone(),
        finish: *finish,
        again: *again,
        last_try: *last_try,
        statements: statements.clone(),
    };
    let told = set_pin::prepare(config, &asked)?;
    let told = TokenConfig { starter: Some(Starter::start(&told)?.0), ..told };
    config.token = set_pin::meanwhile(config, &asked);
    Ok(Some((told, asked)))
}

/// Where the service's own log goes: to stderr, as `RUST_LOG` says how much.
fn write_log(lines: Lines) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = lines == Lines::Text && std::io::stderr().is_terminal();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(colours);
    match lines {
        Lines::Text => subscriber.init(),
        Lines::Json => subscriber.event_format(Json).init(),
    }
}

/// One for the token and one for each standby, each with what that token's module needs.
fn start_starters(config: &mut Config) -> anyhow::Result<Vec<Child>> {
    let mut children = Vec::new();
    let token = &mut config.token;
    // The standbys' names are looked at with it.
    let (starter, child) = Starter::start(token)?;
    token.starter = Some(starter);
    children.push(child);
    let first = token.alone();
    for (name, standby) in &mut token.standby {
        let (starter, child) = Starter::start(&first.of_standby(standby))
            .with_context(|| format!("standby {name}"))?;
        standby.starter = Some(starter);
        children.push(child);
    }
    Ok(children)
}

async fn run(config: Config, command: Command, starters: Vec<Child>) -> anyhow::Result<()> {
    let mut out = std::io::stdout();
    match command {
        Command::Init { officers, pem, statements } => {
            let officers = begin::officers(&config, officers.as_deref())?;
            begin::again(&config, &statements).await?;
            let keys =
                init::init(&config.token, &config.state_dir, pem.as_deref(), &mut out).await?;
            begin::log(&config, &keys, officers.as_ref(), &mut out).await
        }
        Command::WrappingKey { sealing, pem } => {
            tell_waived(&config, "signer wrapping-key")?;
            let (token, state, pem) = (&config.token, &config.state_dir, pem.as_deref());
            if sealing {
                init::sealing_key(token, state, pem, &mut out).await?;
            } else {
                init::wrapping_key(token, state, pem, &mut out).await?;
            }
            Ok(())
        }
        Command::Activate { reason, statements } => {
            activate(&config, &statements, reason.as_deref()).await
        }
        Command::Import { bundle, wallet, clock_is_right, statements } => {
            let clock = Clock::system();
            let clock = if clock_is_right { clock.confirmed() } else { clock };
            import_bundle(&config, &bundle, wallet, clock, &statements).await
        }
        Command::Serve { clock_is_right, standby } => {
            serve(&config, clock_is_right, standby, starters).await
        }
        Command::Key { command } => run_key(&config, command).await,
        Command::TokenKey { command } => run_token_key(&config, command).await,
        Command::Kek { command, .. } => match command {
            KekCommand::Open { pem, by } => {
                kek::open(&config, &pem, &by.statements, &mut out).await
            }
            KekCommand::Import { file, kek, by } => {
                kek::import(&config, &file, kek.as_deref(), &by.statements, &mut out).await
            }
            KekCommand::Forget { kek, by } => {
                kek::forget(&config, &kek, &by.statements, &mut out).await
            }
            KekCommand::Close => kek::close(&config, &mut out).await,
        },
        Command::Token { command: TokenCommand::AnchorForget { reason, by } } => {
            let allowed = by_officers(&config, Clearing::Anchor, &by.statements)?;
            anchoring::forget(&config, allowed.as_ref(), reason.as_deref(), &mut out).await
        }
        // These have been seen to.
        _ => Ok(()),
    }
}

/// Serves until told to end, or until no more workers can be started: then a restart is needed.
async fn serve(
    config: &Config,
    clock_is_right: bool,
    standby: bool,
    starters: Vec<Child>,
) -> anyhow::Result<()> {
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
    serve::serve_in_line(config, clock_is_right, standby, until).await?;
    anyhow::ensure!(!broken, "the process that starts token workers ended: a restart is needed");
    Ok(())
}

fn hold_against_needs(asked: Conformance, out: &mut impl std::io::Write) -> anyhow::Result<()> {
    let Conformance { module, token_label, pin_file, worker, kwp_mechanism, seconds_max, .. } =
        asked;
    let (eddsa_mechanism, eddsa_key_pair_gen_mechanism) =
        (asked.eddsa_mechanism, asked.eddsa_key_pair_gen_mechanism);
    let reach = if asked.network { ModuleReach::Network } else { ModuleReach::Local };
    let (sandbox, module_files) = (asked.sandbox, asked.module_files);
    let plan = conformance::Plan {
        module,
        token_label,
        pin_file,
        worker,
        kwp_mechanism,
        eddsa_mechanism,
        eddsa_key_pair_gen_mechanism,
        confinement: conformance::Confinement { sandbox, reach, module_files },
        seconds_max,
    };
    let report = conformance::run(&plan)?;
    let form = match (asked.markdown, asked.json) {
        (true, _) => Form::Markdown,
        (_, true) => Form::Json,
        _ => Form::Text,
    };
    out.write_all(report.show(form).as_bytes())?;
    report.carries(asked.tier)
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
