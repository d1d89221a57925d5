//! `signer conformance`: holds any PKCS#11 module against what the signer needs of a token, on a scratch token, and says
//! which tiers it could carry. It never loads the module itself: a token worker does, with the same templates, checks and
//! canary as in service. Signatures are verified here.

mod tiers;
mod pin;
mod show;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, bail};
use token_wire::conformance::{ModuleInfo, Need, Outcome, Proof, Said};
use token_wire::{FaultCode, RawSignature};

use crate::token::{ModuleReach, ecdsa, ed25519, worker_program};
pub use show::Form;
pub use tiers::{TierName, Verdict, schemes, verdicts};

/// What is to be tried.
#[derive(Debug)]
pub struct Plan {
    /// The module.
    pub module: PathBuf,
    /// Label of the scratch token.
    pub token_label: String,
    /// File with its user PIN.
    pub pin_file: PathBuf,
    /// The `token-worker` program; beside the signer's own when not given.
    pub worker: Option<PathBuf>,
    /// The number at which the module has AES key wrap with padding (RFC 5649).
    pub kwp_mechanism: String,
    /// The number of EdDSA.
    pub eddsa_mechanism: String,
    /// And of what makes keys for it.
    pub eddsa_key_pair_gen_mechanism: String,
    /// How the worker is confined, and what the module needs beside its libraries and what the environment names.
    pub confinement: Confinement,
    /// All of it must be done within this time.
    pub seconds_max: u32,
}

/// How far the worker may reach.
#[derive(Debug)]
pub struct Confinement {
    /// Whether it is confined at all.
    pub sandbox: confine::Mode,
    /// Whom the module may reach.
    pub reach: ModuleReach,
    /// Files and folders of the module's.
    pub module_files: Vec<PathBuf>,
}

/// What was found.
#[derive(Debug)]
pub struct Report {
    /// Module and token, if they came so far.
    pub module: Option<ModuleInfo>,
    /// Needs, in the order in which they were tried.
    pub needs: Vec<Need>,
    /// Why it ended before everything was tried.
    pub cut_short: Option<String>,
}

impl Report {
    /// The report in one of its forms, verdicts and all.
    #[must_use]
    pub fn show(&self, form: Form) -> String {
        show::show(self, form)
    }

    /// Whether a tier can be carried, and if not, why.
    ///
    /// # Errors
    /// With the needs that are not met.
    pub fn carries(&self, tier: TierName) -> anyhow::Result<()> {
        let verdict = verdicts(self).into_iter().find(|verdict| verdict.tier == tier);
        match verdict {
            Some(verdict) if verdict.unmet.is_empty() => Ok(()),
            Some(verdict) => {
                bail!("this token must not carry {tier}: {}", verdict.unmet.join(", "))
            }
            None => bail!("nothing is known about {tier}"),
        }
    }
}

/// Runs a worker over the scratch token. It inherits this command's environment, which is where modules look for their
/// settings.
///
/// # Errors
/// When no worker could be started, or this PIN was refused before. What a module does is no error but part of the report.
pub fn run(plan: &Plan) -> anyhow::Result<Report> {
    let program = worker_program(plan.worker.as_deref())?;
    pin::check(&plan.pin_file)?;
    let Confinement { sandbox, reach, module_files } = &plan.confinement;
    let mut child = Command::new(&program)
        .arg("--conformance")
        .args(["--sandbox", &sandbox.to_string(), "--reach", reach.argument()])
        .args(module_files.iter().flat_map(|file| ["--module-file".as_ref(), file.as_os_str()]))
        .arg("--module")
        .arg(&plan.module)
        .args(["--token-label", &plan.token_label, "--pin-file"])
        .arg(&plan.pin_file)
        .args(["--kwp-mechanism", &plan.kwp_mechanism])
        .args(["--eddsa-mechanism", &plan.eddsa_mechanism])
        .args(["--eddsa-key-pair-gen-mechanism", &plan.eddsa_key_pair_gen_mechanism])
        .args(["--seconds-max", &plan.seconds_max.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let (report, wrong_pin) = listen(&mut child, &program)?;
    let _ = child.kill();
    child.wait().context("cannot wait for the token worker")?;
    if wrong_pin {
        pin::refused(&plan.pin_file)?;
    }
    Ok(report)
}

/// What the worker says, and whether the token called the PIN wrong.
fn listen(child: &mut Child, program: &Path) -> anyhow::Result<(Report, bool)> {
    let mut from = child.stdout.take().with_context(|| program.display().to_string())?;
    let mut report = Report { module: None, needs: Vec::new(), cut_short: None };
    let mut wrong_pin = false;
    loop {
        match token_wire::read::<Said>(&mut from) {
            Ok(Some(Said::Module(module))) => report.module = Some(module),
            Ok(Some(Said::Need(need))) => report.needs.push(verified(need)),
            Ok(Some(Said::Fault(fault))) => {
                wrong_pin |= matches!(fault.code, FaultCode::PinIncorrect | FaultCode::PinUnfit);
                report.cut_short = Some(fault.text);
            }
            Ok(Some(Said::End)) => return Ok((report, wrong_pin)),
            Ok(None) | Err(_) => {
                let last = report.needs.last().map_or("its start", |need| need.what.as_str());
                let why = format!("the module crashed or hung after: {last}");
                report.cut_short.get_or_insert(why);
                return Ok((report, wrong_pin));
            }
        }
    }
}

/// A need that rests on a signature is met only by a good one.
fn verified(mut need: Need) -> Need {
    let holds = match &need.proof {
        None => return need,
        Some(Proof::Secp256k1 { key, digest, signature }) => RawSignature::from_slice(signature)
            .zip(secp256k1::PublicKey::from_slice(key).ok())
            .and_then(|(raw, key)| ecdsa(raw, *digest, &key))
            .is_some(),
        Some(Proof::Ed25519 { key, message, signature }) => {
            RawSignature::from_slice(signature).is_some_and(|raw| ed25519(raw, message, key))
        }
    };
    if holds {
        need.seen = "verified".to_owned();
    } else {
        need.outcome = Outcome::Unmet;
        need.seen = "the signature does not verify".to_owned();
    }
    need
}
