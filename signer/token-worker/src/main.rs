//! `token-worker`: the only process that loads a vendor's PKCS#11 module and holds the PIN. It does what the
//! signer asks over one socket, its standard input, one question at a time, and ends when the socket closes.
//! It never decides, never listens, and touches no file or network but the PIN file and the module's own.
//!
//! Reading order: [`args`], [`harden`] (what this process gives up), [`serve`] (question and answer), [`token`]
//! (module, login), [`session`] (replaced when it breaks), [`pin`], [`keys`] (found by public key, made, checked),
//! [`unwrap_template`], [`scheme`] (by what children are unwrapped), [`keks`], [`canary`] (how the token holds
//! children; [`attempt`] tells a refusal from a failure), [`sign`]; for sealed accounts [`sealing`] (opened by
//! the token), [`secret`] (where their keys are), [`mod@derive`], [`sealed`]; [`anchor`] and [`conformance`] apart. [`starter`] is the
//! same program in another role: a confined signer cannot start processes, so this one starts workers for it.

mod args;
mod serve;
mod token;
mod session;
mod tally;
mod pin;
mod prompt;
mod keys;
mod expect;
mod der;
mod unwrap_template;
mod kwp;
mod numbers;
mod scheme;
mod attempt;
mod taking_out;
mod kek_trial;
mod keks;
mod import;
mod canary;
mod sign;
mod sealing;
mod secret;
#[cfg(test)]
#[path = "../../confine/src/smaps.rs"]
mod smaps;
mod derive;
mod sealed;
mod anchor;
mod conformance;
mod fault;
mod examine;
mod harden;
mod starter;
mod watchdog;

use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use anyhow::Context as _;
use clap::Parser as _;

use crate::args::Args;

fn main() -> anyhow::Result<()> {
    let mut args = Args::parse();
    if args.conformance {
        // A person's own command on a scratch token, so root is let in.
        confine::harden()?;
        for missing in &harden::confine(&args)?.lacking {
            eprintln!("not confined by {missing}");
        }
        return conformance::run(&args);
    }
    confine::refuse_root(args.allow_root, "--allow-root")?;
    confine::harden()?;
    let socket = io::stdin().as_fd().try_clone_to_owned().context("no standard input")?;
    let mut socket = UnixStream::from(socket);
    socket.peer_addr().context("standard input is not a socket: the signer starts this program")?;
    // systemd may hand the socket over without waiting in reads.
    socket.set_nonblocking(false)?;
    if args.starter {
        return starter::run(&socket, &args);
    }
    if let Some((pin, held)) = pin::new_one(&args)? {
        (args.new_pin, args.new_pin_held) = (Some(pin), held);
    }
    // Before the second thread, and before the module is loaded.
    let report = harden::confine(&args)?;
    for missing in &report.lacking {
        eprintln!("not confined by {missing}");
    }
    args.lacking = report.lacking;
    serve::serve(&mut socket, &args)
}
