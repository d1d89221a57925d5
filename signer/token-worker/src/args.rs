//! The command line: which module and token, where the PIN comes from, how far the process may reach. It never holds
//! a PIN.

use std::fs::File;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use confine::Mode;
use token_wire::Without;

use crate::kwp;
use crate::pin::Pin;

/// Signs for the signer with the keys of one PKCS#11 token. Started by the signer, or by systemd for each
/// connection to a socket; standard input is that socket.
#[derive(Parser)]
#[command(version)]
pub(crate) struct Args {
    /// The PKCS#11 module.
    #[arg(long, required_unless_present = "connect")]
    module: Option<PathBuf>,
    /// Label of the token.
    #[arg(long, default_value = "", required_unless_present = "connect")]
    pub(crate) token_label: String,
    #[command(flatten)]
    pub(crate) pin: PinArgs,
    /// Ends when one question takes longer than this many seconds: the module hangs.
    #[arg(long, default_value_t = 120)]
    pub(crate) seconds_max: u32,
    /// Confine this process: "on" says what the kernel lacks, "required" ends without it, "off" does nothing.
    #[arg(long, default_value = "on")]
    pub(crate) sandbox: Mode,
    /// Whom the module may reach: nobody but daemons on this machine, or a network HSM.
    #[arg(long, value_enum, default_value = "local")]
    pub(crate) reach: ModuleReach,
    /// A file or folder that the module needs beside its libraries and what its environment names: its
    /// configuration, its state, its device.
    #[arg(long = "module-file")]
    pub(crate) module_files: Vec<PathBuf>,
    /// Run as root all the same.
    #[arg(long)]
    pub(crate) allow_root: bool,
    /// A file with a new PIN that the token is to take when the signer says so.
    #[arg(long, hide = true, conflicts_with = "new_pin_prompt")]
    pub(crate) new_pin_file: Option<PathBuf>,
    /// Ask for the new PIN on the terminal.
    #[arg(long, hide = true)]
    pub(crate) new_pin_prompt: bool,
    /// The file whose place the new PIN takes; the one with the old PIN when not given.
    #[arg(long, hide = true)]
    pub(crate) new_pin_for: Option<PathBuf>,
    /// The PIN is a new one, which the token may not have: only its own word on it counts.
    #[arg(long, hide = true)]
    pub(crate) new_pin_tried: bool,
    /// The new PIN.
    #[arg(skip)]
    pub(crate) new_pin: Option<Pin>,
    /// Its file, locked for as long as this process may change the token's PIN.
    #[arg(skip)]
    pub(crate) new_pin_held: Option<File>,
    /// What the kernel lacks to confine this process.
    #[arg(skip)]
    pub(crate) lacking: Vec<String>,
    /// Holds a scratch token against the signer's needs instead, and says what it finds on standard output.
    #[arg(long)]
    pub(crate) conformance: bool,
    /// With `--conformance`: the number at which the module has AES key wrap with padding (RFC 5649).
    #[arg(long, default_value = "0x210a", value_parser = kwp::number)]
    pub(crate) kwp_mechanism: u64,
    /// With `--conformance`: the number at which the module has EdDSA.
    #[arg(long, default_value = "0x1057", value_parser = kwp::number)]
    pub(crate) eddsa_mechanism: u64,
    /// With `--conformance`: the number at which the module makes keys for EdDSA.
    #[arg(long, default_value = "0x1055", value_parser = kwp::number)]
    pub(crate) eddsa_key_pair_gen_mechanism: u64,
    /// Start workers with these settings for whoever asks on standard input, and do nothing else.
    #[arg(long, hide = true)]
    pub(crate) starter: bool,
    /// With `--starter`: connect to this socket instead.
    #[arg(long, hide = true, requires = "starter")]
    pub(crate) connect: Option<PathBuf>,
}

/// Where the PIN comes from; exactly one of these.
#[derive(clap::Args)]
#[group(required = false, multiple = false)]
pub(crate) struct PinArgs {
    /// File with the user PIN, readable by its owner alone.
    #[arg(long)]
    pub(crate) pin_file: Option<PathBuf>,
    /// Name of the systemd credential (`LoadCredential=`) that holds the user PIN.
    #[arg(long)]
    pub(crate) pin_credential: Option<String>,
    /// Ask for the user PIN on the terminal, once.
    #[arg(long, requires = "starter")]
    pub(crate) pin_prompt: bool,
    /// The starter hands the PIN over.
    #[arg(long, hide = true)]
    pub(crate) pin_handed: bool,
}

/// Whom a module may reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ModuleReach {
    /// Files and sockets of this machine.
    Local,
    /// An HSM in the network too.
    Network,
}

impl Args {
    /// The module; empty in a starter that connects, which loads none.
    pub(crate) fn module(&self) -> PathBuf {
        self.module.clone().unwrap_or_default()
    }

    /// What whoever started this process waived, for the signer's log.
    pub(crate) fn without(&self) -> Without {
        Without { user: confine::process::is_root(), sandbox: self.sandbox == Mode::Off }
    }
}
