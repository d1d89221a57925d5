//! One officer's statement: verified, held against what it is about, written down, once. It never counts one that was
//! for another signer, another network, another policy, or another intent, and never looks at how it came.

use std::collections::BTreeSet;
use std::sync::Arc;

use audit::entry::Event;
use policy::evidence::FreezeScope;
use policy::intent::RequestId;
use policy::names::{KeyName, ListName, RuleName};
use policy::order::OrderRef;
use policy::people::OfficerKey;
use statement::fact::Fact;
use statement::{About, Deed, Says, Signed, Statement, Task, scope_text};

use super::notices::Topic;
use super::paper::policy_ref;
use super::{doubt, taking_back, testify, unbinding, vetoing, wait};
use crate::app::App;
use crate::facts;
use crate::freeing;
use crate::gate;
use crate::ledger::{Ledger, Wait};
use crate::log::{LogError, Step};
use crate::refusal::{Reason, Refusal};

/// A statement may be valid for no longer than this, in seconds.
pub(crate) const VALID_SECONDS_MAX: u64 = 31 * 86_400;

/// What came of a statement.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heard {
    /// SHA-256 of it.
    pub statement: [u8; 32],
    /// In a sentence.
    pub said: String,
}

/// Takes a statement in. `way` is a client's name, or `file`.
///
/// # Errors
/// [`Refusal`] saying why it does not count.
pub async fn hear(app: &App, signed: Signed, way: &str) -> Result<Heard, Refusal> {
    if Fact::is_meant(&signed.statement) {
        return facts::hear::hear(app, signed, way).await;
    }
    let (said, key) = verify(app, &signed)?;
    // What it is about may be large: read before the lock, and held against the wait under it.
    let rules_asked = match said.says.about() {
        Some(about) => asked(app, about).await?,
        None => Vec::new(),
    };
    let mut taken = None;
    // A yes of somebody whom the policy that comes revokes must not count in the meantime; every no does.
    let allows = said.says.is_yes() || matches!(said.says, Says::Time(_));
    let step = |ledger: &Ledger| match take(app, ledger, &said, &rules_asked) {
        Ok(_) if allows && app.is_tightened(ledger) => Step::nothing(Err(gate::shut())),
        Ok((mut events, sentence)) => {
            let withheld = events.iter().find_map(taking_back::told);
            let withheld =
                withheld.map(|(request, code, text)| (topic(app, ledger, request), code, text));
            let unbound = events.iter().find_map(unbinding::told);
            let topic = about(app, ledger, &said.says);
            taken = Some((sentence.clone(), topic, withheld, unbound));
            events.insert(0, entry(&signed, &key, way));
            Step::write(events, Ok(sentence))
        }
        Err(refusal) => Step::nothing(Err(refusal)),
    };
    let committed = app.log.commit(step).await;
    // Told also while witnesses or the token are away: it holds, and heard once more it is only used.
    let holds = committed.as_ref().map_or_else(LogError::is_written, |_| true);
    if let Some((sentence, topic, withheld, unbound)) = taken.filter(|_| holds) {
        tell(app, &said, topic, &sentence);
        if let Some((topic, code, text)) = withheld {
            app.notices.tell("withheld", topic, &[(code, text)]);
        }
        if let Some(text) = unbound {
            app.notices.tell("unbound", Topic::NONE, &[("unbound", text.clone())]);
            app.notices.tell("alarm", Topic::NONE, &[("unbound", text)]);
        }
        tracing::warn!(officer = %said.officer, way, "an officer said {}: {sentence}", said.says.verb());
    }
    committed?.1.map(|sentence| Heard { statement: said.digest(), said: sentence })
}

/// The entry that keeps it.
pub(crate) fn entry(signed: &Signed, key: &OfficerKey, way: &str) -> Event {
    let (statement, signature) = (signed.statement.clone(), signed.signature.to_vec());
    let way = way.to_owned();
    match key {
        OfficerKey::Ed25519(key) => Event::OfficerSaid { statement, signature, key: *key, way },
        OfficerKey::P256(point) => {
            let key = point.compressed().to_vec();
            Event::OfficerSaidP256 { statement, signature, key, way }
        }
    }
}

/// Whose it is, whether they signed it, and whether it is for this signer, now.
pub(super) fn verify(app: &App, signed: &Signed) -> Result<(Statement, OfficerKey), Refusal> {
    verify_by(&app.rules, &app.log.opening().origin, signed)
}

/// The same by these rules, at the signer with this log.
pub(crate) fn verify_by(
    rules: &policy::Rules,
    log: &str,
    signed: &Signed,
) -> Result<(Statement, OfficerKey), Refusal> {
    let wrong = |text: String| Refusal::new(Reason::StatementFormat, text);
    let claimed = Statement::parse(&signed.statement).map_err(|error| wrong(error.to_string()))?;
    let officer = rules.officer(&claimed.officer).ok_or_else(|| {
        let (name, version) = (&claimed.officer, rules.version());
        let text = format!("policy version {version} has no officer \"{name}\"");
        Refusal::new(Reason::StatementOfficer, text)
    })?;
    let key = officer.key;
    let said = signed
        .verify(&key)
        .map_err(|error| Refusal::new(Reason::StatementSignature, error.to_string()))?;
    let elsewhere = |text: String| Refusal::new(Reason::StatementElsewhere, text);
    if said.log != log {
        return Err(elsewhere(format!(
            "it is for the signer with log {}, and this is {log}",
            said.log
        )));
    }
    let network = rules.network().chain_id().to_string();
    if said.network != network {
        return Err(elsewhere(format!(
            "it is for {}, and this signer is for {network}",
            said.network
        )));
    }
    Ok((said, key))
}

/// The names of the policy's rules that the request waited for when it was asked.
async fn asked(app: &App, about: &About) -> Result<Vec<RuleName>, Refusal> {
    let wait = app.log.read(|ledger| {
        let people = ledger.people();
        people.wait(about.request).or_else(|| people.leaving(about.request)).cloned()
    });
    let wait = wait.ok_or_else(not_waiting)?;
    let entry = app.log.entry(wait.seq).await?;
    match entry.event {
        Event::Awaiting(awaiting)
            if statement::intent::digest(awaiting.intent.as_bytes()) == wait.intent =>
        {
            let names = awaiting.requirements.iter();
            Ok(names.filter_map(|asked| RuleName::parse(&asked.rule).ok()).collect())
        }
        _ => {
            let text = "the waiting request is not what was written: the database was edited while this signer runs";
            Err(Refusal::new(Reason::LogUnavailable, text))
        }
    }
}

/// Whether it is in time, counts for the first time, and is by somebody whose word of that kind counts.
pub(super) fn countable(app: &App, ledger: &Ledger, said: &Statement) -> Result<(), Refusal> {
    let officer = &said.officer;
    let now = ledger.not_before_latest(app.clock.unix_seconds());
    // A start with a clock ahead leaves the log's time ahead for as long: nobody's no may end by that.
    let at = if said.says.is_yes() { now } else { app.clock.unix_seconds() };
    in_time(said, at, now)?;
    if ledger.people().is_used(officer, said.nonce) {
        let text = "this statement was counted before, and counts once: sign another one";
        return Err(Refusal::new(Reason::StatementUsed, text));
    }
    not_revoked(&app.rules, said)
}

/// Whether it has not ended, and ends in time.
pub(crate) fn in_time(said: &Statement, at: u64, now: u64) -> Result<(), Refusal> {
    if at > said.expires_unix {
        let text = format!("it ended at {}, and it is {at}", said.expires_unix);
        return Err(Refusal::new(Reason::StatementExpired, text));
    }
    if said.expires_unix > now.saturating_add(VALID_SECONDS_MAX) {
        let text = "a statement is valid for at most 31 days: sign one that ends earlier";
        return Err(Refusal::new(Reason::StatementFormat, text));
    }
    Ok(())
}

/// Whether a yes is by somebody whose yes counts.
pub(crate) fn not_revoked(rules: &policy::Rules, said: &Statement) -> Result<(), Refusal> {
    let officer = &said.officer;
    if said.says.is_yes() && rules.is_revoked(officer) {
        let text = format!("\"{officer}\" is revoked: only their no counts");
        return Err(Refusal::new(Reason::StatementOfficer, text));
    }
    Ok(())
}

/// What is to be written beside the statement, and what came of it.
fn take(
    app: &App,
    ledger: &Ledger,
    said: &Statement,
    asked: &[RuleName],
) -> Result<(Vec<Event>, String), Refusal> {
    countable(app, ledger, said)?;
    let (people, officer) = (ledger.people(), &said.officer);
    let now = ledger.not_before_latest(app.clock.unix_seconds());
    let objects = |about: &About,
                   rule: fn(&policy::Rules, &RuleName, &KeyName) -> bool,
                   what: &str| {
        let is_signed = match taking_back::leaving(app, ledger, about) {
            Some(_) => true,
            None => waiting(app, ledger, about, now).map(|_| false)?,
        };
        if !asked.iter().any(|name| rule(&app.rules, name, officer)) {
            let text = format!("nothing that this request waits for gives \"{officer}\" a {what}");
            return Err(Refusal::new(Reason::StatementOfficer, text));
        }
        if is_signed {
            return Ok(taking_back::objected(app, ledger, about.request, (what, officer)));
        }
        let ended = wait::over(about.request, what, &format!("by {officer}"));
        let orders = people.wait(about.request).map(|wait| wait.orders.as_slice());
        let others =
            others_over(ledger, (about.request, orders.unwrap_or_default()), what, officer);
        let ended = std::iter::once(ended).chain(others).collect();
        let text = "it will never be signed, nor under another request those of its orders that nothing signed binds yet";
        Ok((ended, text.to_owned()))
    };
    match &said.says {
        Says::Approve(about) => {
            waiting(app, ledger, about, now)?;
            if !asked.iter().any(|rule| app.rules.asks(rule, officer)) {
                let text = format!("nothing that this request waits for asks \"{officer}\"");
                return Err(Refusal::new(Reason::StatementOfficer, text));
            }
            Ok((
                Vec::new(),
                "written down; it counts when the request is asked for again".to_owned(),
            ))
        }
        Says::Reject(about) => objects(about, policy::Rules::asks, "rejected"),
        Says::Veto(about) => objects(about, policy::Rules::lets_veto, "vetoed"),
        Says::Revoke(statement) => revoke(app, ledger, officer, statement, now),
        Says::Freeze(scope) => {
            freezable(app, ledger, scope, officer)?;
            Ok((Vec::new(), format!("{} is frozen", scope_text(scope))))
        }
        Says::Unfreeze(statement) => unfreeze(app, ledger, said, statement, now),
        Says::Unbind { unbinding, .. } => unbinding::unbind(app, ledger, said, unbinding, now),
        // Heard by the command that does it, which alone knows the token: nothing is held ready here.
        Says::Administer(Task { deed: Deed::Revocations(_), .. }) => {
            let text = "this statement comes with its list: officer crl push LIST";
            Err(Refusal::new(Reason::StatementNothing, text))
        }
        Says::Administer(_) => {
            let text = "give this statement to the command at the signer's machine that it is for (--statement FILE)";
            Err(Refusal::new(Reason::StatementNothing, text))
        }
        Says::Time(time) => doubt::settle(app, ledger, officer, *time),
        Says::Unlist { list, label } => unlist(app, ledger, list, label),
        Says::VetoPolicy(policy) => vetoing::veto(app, ledger, officer, policy),
        Says::Free { client, lock, reason } => {
            freeing::by_statement(ledger, officer, (client, *lock, reason))
        }
    }
}

/// An approval is taken back, until what it approved is let out.
fn revoke(
    app: &App,
    ledger: &Ledger,
    officer: &KeyName,
    statement: &[u8; 32],
    now_unix: u64,
) -> Result<(Vec<Event>, String), Refusal> {
    let people = ledger.people();
    match people.approval(statement) {
        Some((request, given)) if given.officer == *officer => {
            if people.wait(request).is_none() {
                return taking_back::revoked(app, ledger, (request, given), now_unix);
            }
            Ok((Vec::new(), "the approval counts no longer".to_owned()))
        }
        _ => {
            let text = "there is no such approval of yours: it was taken back, its request is over, or it was signed and let out: nothing calls that back";
            Err(Refusal::new(Reason::StatementNothing, text))
        }
    }
}

/// A label of the address book is taken back, also one that has no entry yet. It can only let less through: no rule asks who
/// is in the book.
fn unlist(
    app: &App,
    ledger: &Ledger,
    list: &ListName,
    label: &str,
) -> Result<(Vec<Event>, String), Refusal> {
    let has_book = app.rules.list(list).is_some_and(|list| !list.book_keys.is_empty());
    if !has_book {
        let text = format!("the policy in force has no list \"{list}\" with an address book");
        return Err(Refusal::new(Reason::StatementNothing, text));
    }
    Ok((Vec::new(), facts::hear::taken_back(ledger, list, label)))
}

/// The ends of other requests that wait to pay an order that a no to this one calls off.
pub(super) fn others_over(
    ledger: &Ledger,
    (about, orders): (RequestId, &[OrderRef]),
    what: &str,
    officer: &KeyName,
) -> Vec<Event> {
    let others = called_off_too(ledger, about, orders).into_iter();
    let text = format!("{officer} called an order off that it pays");
    others.map(|request| wait::over(request, what, &text)).collect()
}

/// Other requests that wait to pay an order that a no to this one calls off.
fn called_off_too(ledger: &Ledger, about: RequestId, orders: &[OrderRef]) -> Vec<RequestId> {
    let off: Vec<&OrderRef> =
        orders.iter().filter(|order| !ledger.may_have_left(order, about)).collect();
    let others = ledger.people().waits().filter(|(request, wait)| {
        **request != about && wait.orders.iter().any(|order| off.contains(&order))
    });
    others.map(|(request, _)| *request).collect()
}

/// What the policy does not name, or is frozen by the same officer already, needs no freeze: most likely it is a mistake.
fn freezable(
    app: &App,
    ledger: &Ledger,
    scope: &FreezeScope,
    officer: &KeyName,
) -> Result<(), Refusal> {
    named(&app.rules, scope)?;
    let what = scope_text(scope);
    let mut freezes = ledger.people().freezes();
    if freezes.any(|(_, frozen)| frozen.scope == *scope && frozen.officer == *officer) {
        let text = format!("{what} is frozen by {officer} already");
        return Err(Refusal::new(Reason::StatementUsed, text));
    }
    Ok(())
}

/// Whether the policy names what is to be frozen.
pub(super) fn named(rules: &policy::Rules, scope: &FreezeScope) -> Result<(), Refusal> {
    let is_known = match scope {
        // Whoever quarantines a coin may know of it before its wallet does.
        FreezeScope::Everything | FreezeScope::Evacuation | FreezeScope::Slot(_) => true,
        FreezeScope::Wallet(name) => rules.wallet(name).is_some(),
        FreezeScope::Lane(name) => rules.lane(name).is_some(),
        FreezeScope::Client(name) => rules.knows(name),
    };
    if is_known {
        return Ok(());
    }
    let text = format!("the policy in force has no {}: nothing was frozen", scope_text(scope));
    Err(Refusal::new(Reason::StatementNothing, text))
}

/// The freeze is lifted once enough officers say so, all of them now.
fn unfreeze(
    app: &App,
    ledger: &Ledger,
    said: &Statement,
    statement: &[u8; 32],
    now_unix: u64,
) -> Result<(Vec<Event>, String), Refusal> {
    let frozen = ledger.people().freeze(statement).ok_or_else(|| {
        Refusal::new(Reason::StatementNothing, "there is no such freeze: look at what is pending")
    })?;
    let Some(quorum) = app.rules.unfreeze() else {
        let text = "the policy says nobody who lifts a freeze (`unfreeze`): a policy that does must come into force first";
        return Err(Refusal::new(Reason::StatementOfficer, text));
    };
    let lifts = |says: &Says| matches!(says, Says::Unfreeze(freeze) if freeze == statement);
    let before = frozen.lifting.iter();
    let before = before.filter(|given| testify::holds(&app.rules, given, now_unix, lifts));
    let mut by: BTreeSet<&KeyName> = before.map(|given| &given.officer).collect();
    by.insert(&said.officer);
    let scope = scope_text(&frozen.scope);
    if !app.rules.may_unfreeze(&by) {
        return Ok((
            Vec::new(),
            format!("written down; {scope} stays frozen until {quorum} said so"),
        ));
    }
    let lifted = Event::FreezeLifted {
        freeze: *statement,
        policy: app.rules.version(),
        officers: by.iter().map(ToString::to_string).collect(),
    };
    Ok((vec![lifted], format!("{scope} is no longer frozen by this statement")))
}

/// The wait that a statement is about, which must be this one.
fn waiting<'a>(
    app: &App,
    ledger: &'a Ledger,
    about: &About,
    now_unix: u64,
) -> Result<&'a Wait, Refusal> {
    let wait = ledger.people().wait(about.request).ok_or_else(not_waiting)?;
    if about.policy != wait.policy || wait.policy != policy_ref(&app.rules) {
        let text = "it is about another policy than the one that the request waits under: look again, and sign again";
        return Err(Refusal::new(Reason::StatementOther, text));
    }
    if about.intent != wait.intent {
        let text = "it is about another intent than the one that waits under this id: look again before you sign";
        return Err(Refusal::new(Reason::StatementOther, text));
    }
    if now_unix > wait.expires_unix {
        return Err(not_waiting());
    }
    Ok(wait)
}

fn not_waiting() -> Refusal {
    let text = "no such request waits: it was never asked, is over, was refused for good, or is signed and either held back already or let out: nothing calls that back";
    Refusal::new(Reason::StatementNothing, text)
}

/// What listeners hear that it is about: while it is taken, since what waits no longer has no wallet here.
fn about(app: &App, ledger: &Ledger, says: &Says) -> Topic {
    let scope = match says {
        Says::Freeze(scope) => Some(scope),
        Says::Unfreeze(statement) => ledger.people().freeze(statement).map(|frozen| &frozen.scope),
        _ => None,
    };
    match scope {
        Some(FreezeScope::Wallet(name)) => Topic::wallet(app.wallets.wallet(name).map(Arc::as_ref)),
        Some(_) => Topic::NONE,
        None => says.about().map_or(Topic::NONE, |about| topic(app, ledger, about.request)),
    }
}

/// A request that waits, or waited.
pub(super) fn topic(app: &App, ledger: &Ledger, request: RequestId) -> Topic {
    let wallet = ledger.people().wallet(request).and_then(|wallet| app.wallets.wallet(wallet));
    Topic::request(request, wallet.map(Arc::as_ref))
}

fn tell(app: &App, said: &Statement, topic: Topic, sentence: &str) {
    let kind = match &said.says {
        Says::Freeze(_) => "frozen",
        Says::Unfreeze(_) => "lifted",
        Says::Free { .. } => "freed",
        Says::Time(_) => "clock",
        _ => "said",
    };
    let text = format!("{}: {sentence}", said.officer);
    app.notices.tell(kind, topic, &[(said.says.verb(), &text)]);
}
