//! The report as people and programs read it: a table, Markdown to send to a vendor, JSON. It never leaves a need out.

use std::fmt::Write as _;

use token_wire::conformance::{Need, Outcome};

use super::{Report, schemes, verdicts};

/// How a report looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// For a terminal.
    Text,
    /// To send to a vendor.
    Markdown,
    /// For programs.
    Json,
}

pub(super) fn show(report: &Report, form: Form) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = match form {
        Form::Text => text(report, &mut out),
        Form::Markdown => markdown(report, &mut out),
        Form::Json => json(report, &mut out),
    };
    out
}

type Written = std::fmt::Result;

fn text(report: &Report, out: &mut String) -> Written {
    for (name, value) in about(report) {
        writeln!(out, "{name:<9} {value}")?;
    }
    writeln!(out)?;
    for need in &report.needs {
        let gap = if need.seen.is_empty() { "" } else { ": " };
        writeln!(out, "{:<9} {}{gap}{}", word(need), need.what, need.seen)?;
    }
    writeln!(out)?;
    for (tier, verdict) in verdict_lines(report) {
        writeln!(out, "{tier:<9} {verdict}")?;
    }
    writeln!(out)?;
    for (scheme, verdict) in scheme_lines(report) {
        writeln!(out, "{scheme:<15} {verdict}")?;
    }
    Ok(())
}

fn markdown(report: &Report, out: &mut String) -> Written {
    for (name, value) in about(report) {
        writeln!(out, "- {name}: {}", cell(&value))?;
    }
    writeln!(out, "\n| need | outcome | seen |\n|---|---|---|")?;
    for need in &report.needs {
        writeln!(out, "| {} | {} | {} |", cell(&need.what), word(need), cell(&need.seen))?;
    }
    writeln!(out, "\n| tier | verdict |\n|---|---|")?;
    for (tier, verdict) in verdict_lines(report) {
        writeln!(out, "| {tier} | {} |", cell(&verdict))?;
    }
    writeln!(out, "\n| wrapping scheme | verdict |\n|---|---|")?;
    for (scheme, verdict) in scheme_lines(report) {
        writeln!(out, "| {scheme} | {} |", cell(&verdict))?;
    }
    Ok(())
}

fn json(report: &Report, out: &mut String) -> Written {
    writeln!(out, "{{")?;
    for (name, value) in about(report) {
        writeln!(out, "  {}: {},", quoted(name), quoted(&value))?;
    }
    writeln!(out, "  \"needs\": [")?;
    let mut needs = report.needs.iter().peekable();
    while let Some(need) = needs.next() {
        let comma = if needs.peek().is_some() { "," } else { "" };
        let (id, what) = (quoted(&need.id), quoted(&need.what));
        let (outcome, seen) = (quoted(word(need)), quoted(&need.seen));
        writeln!(
            out,
            "    {{\"id\": {id}, \"need\": {what}, \"outcome\": {outcome}, \"seen\": {seen}}}{comma}"
        )?;
    }
    writeln!(out, "  ],\n  \"tiers\": {{")?;
    let mut tiers = verdicts(report).into_iter().peekable();
    while let Some(verdict) = tiers.next() {
        let comma = if tiers.peek().is_some() { "," } else { "" };
        let unmet: Vec<String> = verdict.unmet.iter().map(|id| quoted(id)).collect();
        let (tier, carried) = (quoted(verdict.tier.as_str()), verdict.unmet.is_empty());
        let unmet = unmet.join(", ");
        writeln!(out, "    {tier}: {{\"carried\": {carried}, \"unmet\": [{unmet}]}}{comma}")?;
    }
    writeln!(out, "  }},\n  \"schemes\": {{")?;
    let mut schemes = schemes(report).into_iter().peekable();
    while let Some((scheme, unmet)) = schemes.next() {
        let comma = if schemes.peek().is_some() { "," } else { "" };
        let carried = unmet.is_empty();
        let unmet: Vec<String> = unmet.iter().map(|id| quoted(id)).collect();
        let (scheme, unmet) = (quoted(scheme), unmet.join(", "));
        writeln!(out, "    {scheme}: {{\"carried\": {carried}, \"unmet\": [{unmet}]}}{comma}")?;
    }
    writeln!(out, "  }}\n}}")
}

/// What the report is about, line by line.
fn about(report: &Report) -> Vec<(&'static str, String)> {
    let mut lines = vec![("signer", env!("CARGO_PKG_VERSION").to_owned())];
    if let Some(module) = &report.module {
        let token = &module.token;
        lines.extend([
            (
                "module",
                format!("{} ({}) {}", module.description, module.manufacturer, module.library),
            ),
            ("cryptoki", module.cryptoki.clone()),
            ("token", format!("{} {}", token.manufacturer, token.model)),
            ("firmware", module.firmware.clone()),
        ]);
    }
    if let Some(why) = &report.cut_short {
        lines.push(("cut short", why.clone()));
    }
    lines
}

fn verdict_lines(report: &Report) -> Vec<(&'static str, String)> {
    let line = |verdict: super::Verdict| (verdict.tier.as_str(), verdict_on(&verdict.unmet));
    verdicts(report).into_iter().map(line).collect()
}

fn scheme_lines(report: &Report) -> Vec<(&'static str, String)> {
    let lines = schemes(report).into_iter().map(|(name, unmet)| (name, verdict_on(&unmet)));
    let rsa_aes = "not tried: workers do not ask for CKM_RSA_AES_KEY_WRAP (0x1054)";
    lines.chain([("rsa-aes", rsa_aes.to_owned())]).collect()
}

fn verdict_on(unmet: &[String]) -> String {
    match unmet {
        [] => "can be carried".to_owned(),
        unmet => format!("REFUSED: {}", unmet.join(", ")),
    }
}

fn word(need: &Need) -> &'static str {
    match need.outcome {
        Outcome::Met => "met",
        Outcome::Unmet => "UNMET",
        Outcome::Untried => "untried",
        Outcome::Measured => "measured",
    }
}

/// A module chooses some of these words: they must not break a table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_words_break_neither_table_nor_json() {
        assert_eq!(cell("a|b\nc"), "a\\|b c");
        assert_eq!(quoted("a\"\\\n\u{7f}"), "\"a\\\"\\\\\\u000a\\u007f\"");
    }
}
