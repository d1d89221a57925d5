//! `token-worker`: the only process that loads a vendor's PKCS#11 module and holds the PIN. It does what the
//! signer asks over one socket, its standard input, one question at a time, and ends when the socket closes.
//! It never decides, never listens, and touches no file or network but the PIN file and the module's own.
//!
//! Reading order: [`serve`] (question and answer), [`token`] (module, login), [`session`] (replaced when it breaks),
//! [`keys`] (found by public key, made, checked), [`unwrap_template`], [`canary`] (how the token holds children),
//! [`sign`]; for sealed accounts [`sealing`] (opened by the token), [`secret`] (where their keys are), [`mod@derive`],
//! [`sealed`]; [`conformance`] apart.

mod serve;
mod token;
mod session;
mod pin;
mod keys;
mod expect;
mod der;
mod unwrap_template;
mod canary;
mod sign;
mod sealing;
mod secret;
mod derive;
mod sealed;
mod conformance;
mod fault;
mod harden;
mod watchdog;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::Parser;

/// Signs for the signer with the keys of one PKCS#11 token. Started by the signer, or by systemd for each
/// connection to a socket; standard input is that socket.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// The PKCS#11 module.
    #[arg(long)]
    module: PathBuf,
    /// Label of the token.
    #[arg(long)]
    token_label: String,
    /// File with the user PIN, readable by its owner alone.
    #[arg(long)]
    pin_file: PathBuf,
    /// Ends when one question takes longer than this many seconds: the module hangs.
    #[arg(long, default_value_t = 120)]
    seconds_max: u32,
    /// Holds a scratch token against the signer's needs instead, and says what it finds on standard output.
    #[arg(long)]
    conformance: bool,
    /// With `--conformance`: the number at which the module has AES key wrap with padding (RFC 5649).
    #[arg(long, default_value = "0x210a", value_parser = conformance::number)]
    kwp_mechanism: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    harden::harden()?;
    if args.conformance {
        return conformance::run(&args);
    }
    let socket = io::stdin().as_fd().try_clone_to_owned().context("no standard input")?;
    let mut socket = UnixStream::from(socket);
    socket.peer_addr().context("standard input is not a socket: the signer starts this program")?;
    // systemd may hand the socket over without waiting in reads.
    socket.set_nonblocking(false)?;
    serve::serve(&mut socket, &args)
}
