//! Which files a command needs beside those that the configuration names, for the sandbox. It never opens one.

use std::path::{Path, PathBuf};

use signer::config::Config;
use signer::doctor;
use signer::sandbox::Needs;

use crate::cli::{Command, KekCommand, KeyCommand, TokenCommand, TokenKeyCommand};

/// What a command was told to read or write, beside what the configuration names.
pub(crate) fn needs(command: &Command, config: &Config) -> Needs {
    let folder = |file: &Path| {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new(".")).to_owned()
    };
    match command {
        Command::Init { officers, pem, statements } => Needs {
            read: officers.iter().chain(statements).cloned().collect(),
            write: pem.iter().map(|file| folder(file)).collect(),
            ..Needs::default()
        },
        Command::WrappingKey { pem, .. } => {
            Needs { write: pem.iter().map(|file| folder(file)).collect(), ..Needs::default() }
        }
        Command::Kek { command: KekCommand::Open { pem, by }, .. } => {
            let (read, write) = (by.statements.clone(), vec![folder(pem)]);
            Needs { read, write, ..Needs::default() }
        }
        Command::Kek { command: KekCommand::Import { file, by, .. }, .. } => {
            let read = std::iter::once(file).chain(&by.statements).cloned().collect();
            Needs { read, ..Needs::default() }
        }
        Command::Kek { command: KekCommand::Forget { by, .. }, .. }
        | Command::Key { command: KeyCommand::Activate { by, .. } }
        | Command::TokenKey {
            command: TokenKeyCommand::Generate { by, .. } | TokenKeyCommand::Activate { by, .. },
        } => Needs { read: by.statements.clone(), ..Needs::default() },
        Command::Import { bundle, statements, .. } => {
            let read = std::iter::once(bundle).chain(statements).cloned().collect();
            Needs { read, ..Needs::default() }
        }
        Command::Activate { statements, .. } => {
            Needs { read: statements.clone(), ..Needs::default() }
        }
        Command::Doctor { .. } => {
            Needs { read: vec![PathBuf::from(doctor::TIME_SYNCHRONISED)], ..Needs::default() }
        }
        Command::SetPin { token, statements, .. } => {
            let named = match token {
                Some(name) => config.token.standby.get(name),
                None => Some(&config.token),
            };
            let file =
                named.and_then(|token| token.new_pin_for.as_deref().or(token.pin_file.as_deref()));
            let write = file.map(folder).into_iter().collect();
            Needs { read: statements.clone(), write, ..Needs::default() }
        }
        Command::Serve { .. } => Needs { listens: true, ..Needs::default() },
        Command::TokenKey { command: TokenKeyCommand::Attest { out, .. } } => {
            Needs { write: out.iter().map(|file| folder(file)).collect(), ..Needs::default() }
        }
        Command::Token { command: TokenCommand::AnchorForget { by, .. } } => {
            Needs { read: by.statements.clone(), ..Needs::default() }
        }
        Command::Key { .. }
        | Command::TokenKey { .. }
        | Command::Kek { .. }
        | Command::Pin { .. }
        | Command::Token { .. }
        | Command::Conformance(_) => Needs::default(),
    }
}
