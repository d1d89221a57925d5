//! Commands about the token's own keys, for a person at the signer's machine: make them, show the wrapping key
//! for a ceremony, allow another login after a refused PIN, or the token's use after a wrong
//! signature. They never run beside a serving signer's requests,
//! and never show anything private.

use std::io::Write;
use std::path::Path;

use anyhow::Context as _;

use crate::clearing::{Allowed, Clearing, safeguard};
use crate::token::{
    Carried, Distrust, KeyFile, Latch, Line, TokenConfig, TokenInfo, TokenKeys, state_dirs,
};
use crate::told::Told;

/// `signer init`: makes the keys that the token lacks, checks those it has, writes their public halves to
/// `state_dir` and, when asked, the wrapping key's PEM to `pem`. Running it again changes nothing.
///
/// # Errors
/// When the token refuses, a key is unsafe, or the token's keys are not those written down before.
pub async fn init(
    config: &TokenConfig,
    state_dir: &Path,
    pem: Option<&Path>,
    out: &mut impl Write,
) -> anyhow::Result<TokenKeys> {
    std::fs::create_dir_all(state_dir)
        .with_context(|| format!("cannot make {}", state_dir.display()))?;
    let Made { keys, made, info, carried } = {
        let (config, state_dir) = (config.clone(), state_dir.to_path_buf());
        tokio::task::spawn_blocking(move || make_keys(&config, &state_dir)).await??
    };
    if let Some(path) = pem {
        if let Some(why) = carried.bars(false) {
            anyhow::bail!(
                "{} was not written, since no account must be wrapped for this token: {why}. Without --pem a log begins with the tiers that are left",
                path.display()
            );
        }
        std::fs::write(path, keys.wrapping_pem())
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    writeln!(out, "token         {} ({}, serial {})", info.label, info.model, info.serial)?;
    for name in ["wrapping", "sealing", "attestation", "checkpoint"] {
        let state = match &made {
            Some(made) if made.iter().any(|made| made == name) => "made now",
            Some(_) => "was there",
            None => "is there",
        };
        writeln!(out, "{name:<13} {state}")?;
    }
    show_keys(&keys, out)?;
    carried.warnings().try_for_each(|why| writeln!(out, "without       {why}"))?;
    if let Some(path) = pem {
        writeln!(out, "written to    {}", path.display())?;
    }
    Ok(keys)
}

/// `signer wrapping-key`: asks the token for the wrapping key, prints its PEM and its fingerprint, and writes
/// the PEM to `pem` when asked.
///
/// # Errors
/// When the token does not hold exactly the keys written down by [`init`].
pub async fn wrapping_key(
    config: &TokenConfig,
    state_dir: &Path,
    pem: Option<&Path>,
    out: &mut impl Write,
) -> anyhow::Result<TokenKeys> {
    let wrapping = |keys: &TokenKeys| Ok(keys.wrapping_pem());
    show_for_ceremony(config, state_dir, (wrapping, false), pem, out).await
}

/// `signer wrapping-key --sealing`: the same with the sealing key, which accounts of the tier sealed-hd are sealed for.
///
/// # Errors
/// As for [`wrapping_key`], and when the token has no sealing key.
pub async fn sealing_key(
    config: &TokenConfig,
    state_dir: &Path,
    pem: Option<&Path>,
    out: &mut impl Write,
) -> anyhow::Result<TokenKeys> {
    let none = "this token has no sealing key yet: `signer init` makes one beside the keys it has";
    let sealing = |keys: &TokenKeys| keys.sealing_pem().context(none);
    show_for_ceremony(config, state_dir, (sealing, true), pem, out).await
}

async fn show_for_ceremony(
    config: &TokenConfig,
    state_dir: &Path,
    (text, sealed): (impl FnOnce(&TokenKeys) -> anyhow::Result<String>, bool),
    pem: Option<&Path>,
    out: &mut impl Write,
) -> anyhow::Result<TokenKeys> {
    let keys = {
        let (config, state_dir) = (config.clone(), state_dir.to_path_buf());
        tokio::task::spawn_blocking(move || find_keys(&config, &state_dir, sealed)).await??
    };
    let text = text(&keys)?;
    match pem {
        Some(path) => std::fs::write(path, text)
            .with_context(|| format!("cannot write {}", path.display()))?,
        None => out.write_all(text.as_bytes())?,
    }
    show_keys(&keys, out)?;
    Ok(keys)
}

/// `signer pin clear`: allows one more login after the PIN was refused, and with `last_try` also one that locks the
/// PIN when it is wrong. Put the right PIN in place first. The next start writes it into the log.
///
/// # Errors
/// When the state directory cannot be written.
pub fn clear_pin(state_dir: &Path, last_try: bool, out: &mut impl Write) -> anyhow::Result<()> {
    clear_pin_by(state_dir, last_try, None, out)
}

/// The same, by officers' leave where they are asked.
///
/// # Errors
/// When the state directory cannot be written.
pub fn clear_pin_by(
    state_dir: &Path,
    last_try: bool,
    by: Option<&Allowed>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    // Also when nothing was refused: from now on one login is tried that would not have been before.
    let said = if last_try { "signer pin clear --last-try" } else { "signer pin clear" };
    tell(state_dir, by, Clearing::Pin, said)?;
    let mut cleared = last_try;
    for dir in state_dirs(state_dir) {
        cleared |= Latch::in_dir(&dir).clear(last_try)?;
    }
    if cleared {
        writeln!(out, "cleared: the next login tries the PIN in the PIN file once")?;
    } else {
        writeln!(out, "nothing to clear: no login was refused")?;
    }
    Ok(())
}

/// `signer token clear`: lets the token be used again after it signed wrongly. Find out why first. The next start writes it into the
/// log.
///
/// # Errors
/// When the state directory cannot be written.
pub fn clear_token(state_dir: &Path, out: &mut impl Write) -> anyhow::Result<()> {
    clear_token_by(state_dir, None, out)
}

/// The same, by officers' leave where they are asked.
///
/// # Errors
/// When the state directory cannot be written.
pub fn clear_token_by(
    state_dir: &Path,
    by: Option<&Allowed>,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let (mut cleared, dirs) = (false, state_dirs(state_dir));
    let distrusted = dirs.iter().filter(|dir| Distrust::in_dir(dir).check().is_err()).count();
    // Officers say so once, of all tokens of this machine.
    for _ in 0..if by.is_some() { distrusted.min(1) } else { distrusted } {
        tell(state_dir, by, Clearing::Token, "signer token clear")?;
    }
    for dir in dirs {
        cleared |= Distrust::in_dir(&dir).clear()?;
    }
    if cleared {
        writeln!(out, "cleared: restart the signer, which then uses the token again")?;
    } else {
        writeln!(out, "nothing to clear: no wrong signature was seen")?;
    }
    Ok(())
}

/// Keeps for the log what is done now; officers' statements are used up first.
pub(crate) fn tell(
    state_dir: &Path,
    by: Option<&Allowed>,
    clearing: Clearing,
    said: &str,
) -> anyhow::Result<()> {
    let told = Told::in_dir(state_dir);
    match by {
        Some(allowed) => {
            allowed.use_up(state_dir)?;
            told.add_allowed(allowed)?;
        }
        None => told.add(safeguard(clearing), said)?,
    }
    Ok(())
}

/// A fingerprint for two people to compare on two screens: 64 hex digits, in groups of four, four to a line.
#[must_use]
pub fn fingerprint_lines(fingerprint: &[u8; 32]) -> [String; 4] {
    let mut lines: [String; 4] = Default::default();
    for (line, bytes) in lines.iter_mut().zip(fingerprint.chunks(8)) {
        let groups: Vec<String> = bytes.chunks(2).map(hex::encode).collect();
        *line = groups.join(" ");
    }
    lines
}

fn show_keys(keys: &TokenKeys, out: &mut impl Write) -> std::io::Result<()> {
    for (line, name) in
        fingerprint_lines(&keys.wrapping_fingerprint()).iter().zip(["fingerprint", "", "", ""])
    {
        writeln!(out, "{name:<13} {line}")?;
    }
    if let Some(sealing) = keys.sealing_fingerprint() {
        for (line, name) in fingerprint_lines(&sealing).iter().zip(["sealing key", "", "", ""]) {
            writeln!(out, "{name:<13} {line}")?;
        }
    }
    for canary in &keys.keks {
        let fingerprint = bundle::kek::fingerprint(canary);
        for (line, name) in fingerprint_lines(&fingerprint).iter().zip(["kek", "", "", ""]) {
            writeln!(out, "{name:<13} {line}")?;
        }
    }
    writeln!(out, "attestation   {}", hex::encode(keys.attestation))?;
    writeln!(out, "checkpoint    {}", hex::encode(keys.checkpoint))
}

/// What `init` made and found.
struct Made {
    keys: TokenKeys,
    /// Names of the keys that are new; none where that is not known, since the answer that said so was an error.
    made: Option<Vec<String>>,
    info: TokenInfo,
    carried: Carried,
}

/// With keys written down before, the token must hold exactly those: no second set is ever made. A sealing key alone is
/// made beside them, for a token from before there were any.
fn make_keys(config: &TokenConfig, state_dir: &Path) -> anyhow::Result<Made> {
    let file = KeyFile::in_dir(state_dir);
    let known = file.read()?;
    if let Some(keys) = &known
        && keys.sealing_spki.is_some()
    {
        let (info, carried) = bind(config, state_dir, keys)?;
        return Ok(Made { keys: keys.clone(), made: Some(Vec::new()), info, carried });
    }
    let made = make_missing(config, state_dir, true)?;
    let Some(known) = known else {
        file.write(&made.keys)?;
        return Ok(made);
    };
    let (born, keks) = (known.born.clone(), known.keks.clone());
    let forgotten_keks = known.forgotten_keks.clone();
    let keys = TokenKeys { born, keks, forgotten_keks, ..made.keys };
    let others = TokenKeys { sealing_spki: None, ..keys.clone() };
    anyhow::ensure!(others == known, "the token holds other keys than those written down");
    file.write(&keys)?;
    Ok(Made { keys, ..made })
}

/// The token's keys, made where they are missing if it may make any. Where the canary of one tier alone fails, the token
/// carries the others, as at a start.
fn make_missing(config: &TokenConfig, state_dir: &Path, write: bool) -> anyhow::Result<Made> {
    let mut line = Line::open(config, &Latch::in_dir(state_dir), write)?;
    let refused = match line.init() {
        Ok((keys, made)) => {
            let info = line.info().clone();
            line.close();
            let carried = Carried::all(&keys);
            return Ok(Made { keys, made: Some(made), info, carried });
        }
        Err(refused) => refused,
    };
    let one_tier = line.failed().is_some();
    line.close();
    if !one_tier {
        return Err(refused.into());
    }
    tracing::warn!("looking whether the token carries the other tiers: {refused}");
    let mut line = Line::open(config, &Latch::in_dir(state_dir), false)?;
    let keys = line.init_untried()?;
    line.close();
    let (info, carried) = bind(config, state_dir, &keys)?;
    Ok(Made { keys, made: None, info, carried })
}

/// Has the token prove these keys; what it is, and which tiers it carries.
fn bind(
    config: &TokenConfig,
    state_dir: &Path,
    keys: &TokenKeys,
) -> anyhow::Result<(TokenInfo, Carried)> {
    let mut line = Line::open(config, &Latch::in_dir(state_dir), false)?;
    let carried = Carried::bind(&mut line, config, keys)?;
    let info = line.info().clone();
    line.close();
    Ok((info, carried))
}

/// Writes down the keys of a token that has all of them, through a session in which the token makes none.
///
/// # Errors
/// When it lacks one, or refuses.
pub(crate) async fn find_again(config: &TokenConfig, state_dir: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(state_dir)
        .with_context(|| format!("cannot make {}", state_dir.display()))?;
    let (config, state_dir) = (config.clone(), state_dir.to_path_buf());
    let find = move || {
        let found = make_missing(&config, &state_dir, false).context("the log was begun, and token-keys.toml is not there: then the token must have every key, and none is made. Put the file back in state_dir from a copy")?;
        KeyFile::in_dir(&state_dir).write(&found.keys)?;
        anyhow::Ok(())
    };
    tokio::task::spawn_blocking(find).await?
}

/// What a ceremony is to use must be of a tier that the token carries.
fn find_keys(config: &TokenConfig, state_dir: &Path, sealed: bool) -> anyhow::Result<TokenKeys> {
    let keys = KeyFile::in_dir(state_dir).require()?;
    let mut line = Line::open(config, &Latch::in_dir(state_dir), false)?;
    let carried = Carried::bind(&mut line, config, &keys)?;
    line.close();
    match carried.bars(sealed) {
        Some(why) => anyhow::bail!("this token cannot use such an account: {why}"),
        None => Ok(keys),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_are_read_in_groups_of_four() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at).unwrap());
        assert_eq!(
            fingerprint_lines(&bytes),
            [
                "0001 0203 0405 0607",
                "0809 0a0b 0c0d 0e0f",
                "1011 1213 1415 1617",
                "1819 1a1b 1c1d 1e1f"
            ]
        );
    }
}
