//! `officer policy diff`: what a new policy changes, for those who are to sign it. It never says that a change is safe
//! because nothing is known against it: what is not proven to tighten may loosen.

use std::io::Write;
use std::path::Path;

use anyhow::{Result, ensure};
use policy::compare::{Comparison, Effect, compare};
use serde_json::json;

use crate::policies::{read, view};

/// How to say it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    pub(crate) json: bool,
    pub(crate) must_tighten: bool,
}

/// Compares two texts nobody needs to have signed.
///
/// # Errors
/// When the signer would refuse either text, when the version does not rise, and, if it must tighten, when it may not.
pub(crate) fn diff(
    before: &Path,
    after: &Path,
    network: Option<&str>,
    form: Form,
    out: &mut impl Write,
) -> Result<()> {
    let (before, after) = (view(&read(before)?, network)?, view(&read(after)?, network)?);
    let (was, is) = (before.version(), after.version());
    ensure!(is > was, "version {is} does not follow version {was}: the signer would refuse it");
    let said = compare(&before, &after);
    if form.json {
        let changes = said.changes.iter();
        let changes = changes.map(|c| json!({"effect": c.effect.to_string(), "text": c.text}));
        let all = json!({
            "before": {"version": was, "sha256": hex::encode(before.digest())},
            "after": {"version": is, "sha256": hex::encode(after.digest())},
            "only_tightens": said.only_tightens(),
            "changes": changes.collect::<Vec<_>>(),
        });
        writeln!(out, "{all}")?;
    } else {
        writeln!(out, "version {was} ({})", hex::encode(before.digest()))?;
        writeln!(out, "version {is} ({})\n", hex::encode(after.digest()))?;
        show(&said, out)?;
    }
    let more = said.changes.iter().filter(|change| change.effect != Effect::Tightens).count();
    ensure!(!form.must_tighten || more == 0, "{more} changes are not proven to tighten");
    Ok(())
}

fn show(said: &Comparison, out: &mut impl Write) -> Result<()> {
    for effect in [Effect::Governs, Effect::MayLoosen, Effect::Tightens] {
        for change in said.changes.iter().filter(|change| change.effect == effect) {
            writeln!(out, "{:<11} {}", effect.to_string(), change.text)?;
        }
    }
    let verdict = if said.changes.is_empty() {
        "Nothing changes but the version."
    } else if said.only_tightens() {
        "\nIt provably only tightens."
    } else {
        "\nIt is not proven to tighten: what may loosen or governs needs a careful look."
    };
    writeln!(out, "{verdict}")?;
    Ok(())
}
