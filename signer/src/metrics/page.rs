//! The page of numbers, as Prometheus reads it (text format 0.0.4). It never holds a name that a caller chose, nor whose coins
//! they are: of names it has those of lanes and of the policy's own rules (limits, denials, requirements) alone.

use std::fmt::{Display, Write as _};
use std::sync::atomic::Ordering;
use std::time::UNIX_EPOCH;

use mtls::{Facts, Turned};

use super::{Watched, limits};
use crate::anchoring;
use crate::app::App;

/// All numbers.
pub(super) fn write(watched: &Watched) -> String {
    let mut page = Page(String::with_capacity(8 << 10));
    page.one(
        "cofferdam_heartbeat_unix_seconds",
        "gauge",
        "when the service last turned once",
        watched.beat.load(Ordering::Relaxed),
    );
    page.one("cofferdam_live", "gauge", "the heart beats", u8::from(watched.is_alive()));
    page.one("cofferdam_ready", "gauge", "signs if asked", u8::from(watched.problem().is_none()));
    page.one(
        "cofferdam_token_ready",
        "gauge",
        "the token can be used",
        u8::from(watched.token_problem().is_none()),
    );
    page.one(
        "cofferdam_token_warning",
        "gauge",
        "one of the tokens is away, latched or distrusted, or a tier is not served",
        u8::from(watched.token_warning().is_some()),
    );
    page.one(
        "cofferdam_standby",
        "gauge",
        "waits for its turn: another signer has the log",
        u8::from(watched.stands_by()),
    );
    certificates(&watched.tls.facts(), &mut page);
    connections(&watched.tls, &mut page);
    if let Some(app) = watched.about.app() {
        decisions(app, &mut page);
        people(app, &mut page);
        limits::write(app, &mut page);
        log(app, &mut page);
        witnesses(app, &mut page);
        anchors(app, &mut page);
    }
    page.0
}

pub(super) struct Page(String);

impl Page {
    pub(super) fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.head(name, kind, help);
        let _ = writeln!(self.0, "{name} {value}");
    }

    /// With labels, whose values are ours: codes and numbers.
    pub(super) fn labelled(&mut self, name: &str, labels: impl Display, value: impl Display) {
        let _ = writeln!(self.0, "{name}{{{labels}}} {value}");
    }
}

fn certificates(facts: &Facts, page: &mut Page) {
    page.one(
        "cofferdam_certificate_expires_unix_seconds",
        "gauge",
        "our certificate's end",
        facts.certificate.until,
    );
    let name = "cofferdam_authority_expires_unix_seconds";
    page.head(name, "gauge", "the end of each authority that certifies clients");
    for (number, authority) in facts.authorities.iter().enumerate() {
        page.labelled(name, format_args!("number=\"{number}\""), authority.until);
    }
    page.one(
        "cofferdam_crl_used",
        "gauge",
        "revocation lists are configured",
        u8::from(facts.lists.is_some()),
    );
    let lists = facts.lists.as_deref().unwrap_or_default();
    page.one("cofferdam_crls", "gauge", "revocation lists in force", lists.len());
    for (name, help, until) in [
        ("cofferdam_crl_made_unix_seconds", "when each revocation list was made", false),
        ("cofferdam_crl_due_unix_seconds", "when the next of each is due", true),
    ] {
        page.head(name, "gauge", help);
        for (number, list) in lists.iter().enumerate() {
            let value = if until { list.validity.until } else { list.validity.from };
            page.labelled(name, format_args!("number=\"{number}\""), value);
        }
    }
}

fn connections(tls: &mtls::Server, page: &mut Page) {
    page.one("cofferdam_connections", "gauge", "clients' connections open now", tls.connected());
    page.one(
        "cofferdam_connections_taken_total",
        "counter",
        "clients' connections so far",
        tls.counts().taken(),
    );
    let name = "cofferdam_connections_turned_away_total";
    page.head(name, "counter", "connections turned away, by reason");
    for reason in Turned::ALL {
        page.labelled(name, format_args!("reason=\"{reason}\""), tls.counts().of(*reason));
    }
}

fn decisions(app: &App, page: &mut Page) {
    let name = "cofferdam_decisions_total";
    page.head(name, "counter", "calls by how they ended and the rule or reason");
    for ((outcome, code), count) in app.tally.outcomes() {
        let labels = format!("outcome=\"{}\",code=\"{code}\"", outcome.word());
        page.labelled(name, labels, count);
    }
    let name = "cofferdam_decisions_by_rule_total";
    page.head(name, "counter", "requests that a rule denied or holds, by what the policy calls it");
    for ((outcome, code, rule), count) in app.tally.rules() {
        let rule = rule.as_ref().map_or("", |rule| rule.as_str());
        let labels = format!("outcome=\"{}\",code=\"{code}\",rule=\"{rule}\"", outcome.word());
        page.labelled(name, labels, count);
    }
    let (requests, token, errors) = app.tally.times();
    page.head(
        "cofferdam_sign_seconds",
        "histogram",
        "a request for a signature, whatever came of it",
    );
    requests.write("cofferdam_sign_seconds", &mut page.0);
    page.head("cofferdam_token_seconds", "histogram", "the token's part of a request");
    token.write("cofferdam_token_seconds", &mut page.0);
    page.one(
        "cofferdam_token_errors_total",
        "counter",
        "requests that the token did not sign",
        errors,
    );
    let (working, waiting) = app.gate.crowd();
    page.one("cofferdam_requests_working", "gauge", "requests worked on", working);
    page.one("cofferdam_requests_waiting", "gauge", "requests that wait for their turn", waiting);
    let locked = app.log.read(|ledger| ledger.locks().iter().count());
    page.one("cofferdam_clients_locked", "gauge", "clients that an officer must free", locked);
    let help = "how often a client was denied so often that it may feel for a limit";
    page.one("cofferdam_denial_alarms_total", "counter", help, app.feeling.alarms());
    let doubted = app.log.read(|ledger| ledger.doubt().is_some());
    let help = "the clock is in doubt, and delays are held";
    page.one("cofferdam_clock_in_doubt", "gauge", help, u8::from(doubted));
    page.one("cofferdam_policy_version", "gauge", "the policy in force", app.rules.version());
    let due = app.next_policy_due_unix().unwrap_or_default();
    let help = "when a proposed policy comes into force, if nobody vetoes it; 0: none is proposed";
    page.one("cofferdam_policy_due_unix_seconds", "gauge", help, due);
    let recovery = due > 0 && app.upcoming.proposed().is_some_and(|proposed| proposed.recovery);
    let help = "that policy is by those who are there for when keys are lost";
    page.one("cofferdam_recovery_proposed", "gauge", help, u8::from(recovery));
}

/// What waits for people.
fn people(app: &App, page: &mut Page) {
    let (waits, oldest, freezes) = app.log.read(|ledger| {
        let (people, now) = (ledger.people(), ledger.not_before_latest(app.clock.unix_seconds()));
        let asked = || people.waits().filter(|(_, wait)| now <= wait.expires_unix);
        let oldest = asked().map(|(_, wait)| wait.asked_unix).min();
        let age = oldest.map_or(0, |asked| now.saturating_sub(asked));
        (asked().count(), age, people.freezes().count())
    });
    page.one("cofferdam_pending_requests", "gauge", "requests that wait for people or time", waits);
    let help = "how long the oldest of them has waited";
    page.one("cofferdam_pending_oldest_seconds", "gauge", help, oldest);
    page.one("cofferdam_freezes", "gauge", "freezes in force", freezes);
}

/// By their place in the policy: names are not for everybody.
fn witnesses(app: &App, page: &mut Page) {
    let (seen, size) = (app.witnesses.seen(), app.log.status().head.size);
    let required = app.witnesses.required();
    page.one("cofferdam_witnesses_required", "gauge", "witnesses the policy requires", required);
    let name = "cofferdam_witness_connected";
    page.head(name, "gauge", "the witness is here to be asked");
    for (number, seen) in seen.iter().enumerate() {
        page.labelled(name, format_args!("number=\"{number}\""), u8::from(seen.is_some()));
    }
    let name = "cofferdam_witness_lag_entries";
    page.head(name, "gauge", "durable entries that a connected witness has not seen yet");
    for (number, seen) in seen.iter().enumerate() {
        if let Some(seen) = seen {
            page.labelled(name, format_args!("number=\"{number}\""), size.saturating_sub(*seen));
        }
    }
    let name = "cofferdam_witness_cosigned_unix_seconds";
    page.head(name, "gauge", "when the witness's newest cosignature came, since the signer began");
    for (number, cosigned) in app.witnesses.cosigned().iter().enumerate() {
        if let Some(at) = cosigned.and_then(|at| at.duration_since(UNIX_EPOCH).ok()) {
            page.labelled(name, format_args!("number=\"{number}\""), at.as_secs());
        }
    }
}

/// By the token's place in the configuration.
fn anchors(app: &App, page: &mut Page) {
    let standings = anchoring::standings(app);
    let name = "cofferdam_token_anchor_lag_entries";
    page.head(name, "gauge", "durable entries that a token's anchor is not known to cover");
    for at in &standings {
        page.labelled(name, format_args!("number=\"{}\"", at.number), at.lag);
    }
    let name = "cofferdam_token_anchor_age_seconds";
    page.head(name, "gauge", "since a token's anchor covered all that could be in it");
    for at in &standings {
        page.labelled(name, format_args!("number=\"{}\"", at.number), at.age_seconds);
    }
}

fn log(app: &App, page: &mut Page) {
    let status = app.log.status();
    let lag = status.head.size.saturating_sub(status.checkpointed);
    page.one("cofferdam_log_entries", "gauge", "durable entries", status.head.size);
    page.one(
        "cofferdam_log_uncovered_entries",
        "gauge",
        "durable entries that no checkpoint covers yet",
        lag,
    );
    page.one(
        "cofferdam_log_unread_entries",
        "gauge",
        "entries taken from a snapshot whose rows were not read yet",
        status.unread,
    );
    page.one(
        "cofferdam_log_stopped",
        "gauge",
        "the log takes nothing any more",
        u8::from(status.stopped.is_some()),
    );
    let latest = app.log.read(crate::ledger::Ledger::latest_unix);
    page.one(
        "cofferdam_log_latest_unix_seconds",
        "gauge",
        "when the last entry was written",
        latest,
    );
    page.one("cofferdam_log_groups_total", "counter", "transactions written", status.groups.groups);
    page.one("cofferdam_log_commits_total", "counter", "commits in them", status.groups.commits);
}
