//! What the token itself remembers of the log, on SoftHSM: database and state folder that were set back together are refused, and
//! so is an anchor that is foreign, cut, empty or gone, until officers give it up.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use audit::checkpoint::Checkpoint;
use audit::entry::Event;
use ed25519_dalek::{Signer as _, SigningKey};
use signer::anchoring;
use signer::clearing::{Clearing, by_officers};
use signer::config::{Config, Limits};
use signer::doctor::{self, Finding, Level};
use signer::log::{Clock, Step};
use signer::start::start;
use signer::token::TokenConfig;
use statement::{Deed, NO_TOKEN, Task};
use token_wire::{AnchorAsk, Answered, Mechanisms, Reply, Request, VERSION};

use crate::administering;
use crate::common::Knobs;
use crate::distrusting::twins;
use crate::faulty::{prepare_faulty, rule};
use crate::house::House;

/// Closed, with an anchor in the token over all that it has.
async fn anchored() -> House {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    house.config.token.anchor = true;
    a_day(&mut house).await;
    house
}

pub(crate) async fn a_day(house: &mut House) {
    house.open().await;
    assert!(house.running().app().is_some(), "it serves");
    house.close().await;
}

/// The files of the state folder, the database's among them, but not the token's.
fn files(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| path.is_file()).collect()
}

pub(crate) fn keep(house: &House, name: &str) -> PathBuf {
    let kept = house.folder().join(name);
    fs::create_dir(&kept).unwrap();
    for file in files(&house.config.state_dir) {
        fs::copy(&file, kept.join(file.file_name().unwrap())).unwrap();
    }
    kept
}

pub(crate) fn set_back(house: &House, kept: &Path) {
    files(&house.config.state_dir).iter().for_each(|file| fs::remove_file(file).unwrap());
    for file in files(kept) {
        fs::copy(&file, house.config.state_dir.join(file.file_name().unwrap())).unwrap();
    }
}

/// Why it does not start; one that starts is ended in order.
pub(crate) async fn refusal(config: &Config) -> Option<String> {
    match Box::pin(start(config, Clock::system(), &Arc::default())).await {
        Ok(app) => {
            app.log.close().await.unwrap();
            let token = Arc::clone(&app.token);
            drop(app);
            Arc::into_inner(token).unwrap().stop().await;
            None
        }
        Err(error) => Some(error.to_string()),
    }
}

/// As somebody who has the PIN, past the signer.
pub(crate) fn at_token(token: &TokenConfig, ask: AnchorAsk) -> Vec<Vec<u8>> {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let mut worker = Command::new(token.worker.as_ref().unwrap())
        .arg("--module")
        .arg(token.module.as_ref().unwrap())
        .args(["--token-label", token.label.as_ref().unwrap(), "--pin-file"])
        .arg(token.pin_file.as_ref().unwrap())
        .arg("--allow-root")
        .env_clear()
        .envs(&token.env)
        .stdin(OwnedFd::from(theirs))
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut say = |question: Request| {
        token_wire::write(&mut ours, &question).unwrap();
        loop {
            let answered: Answered = token_wire::read(&mut ours).unwrap().unwrap();
            if answered.reply != Reply::SendingPin {
                return answered.reply;
            }
        }
    };
    say(Request::Hello { version: VERSION });
    say(Request::Open { write: false, mechanisms: Mechanisms::default() });
    assert_eq!(say(Request::Login), Reply::LoggedIn);
    let Reply::Anchor(said) = say(Request::Anchor(ask)) else { panic!("no anchor") };
    say(Request::Shutdown);
    worker.wait().unwrap();
    said
}

pub(crate) fn note(house: &House) -> String {
    let mut said = at_token(&house.config.token, AnchorAsk::Read);
    assert_eq!(said.len(), 1);
    String::from_utf8(said.remove(0)).unwrap()
}

pub(crate) fn size(note: &str) -> u64 {
    note.lines().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn database_and_state_folder_set_back_together_meet_the_tokens_own_anchor() {
    let mut house = anchored().await;
    let (yesterday, short) = (keep(&house, "yesterday"), size(&note(&house)));
    a_day(&mut house).await;
    let (today, long) = (keep(&house, "today"), size(&note(&house)));
    assert!(short < long, "it is written at an orderly end");
    set_back(&house, &yesterday);
    let refused = refusal(&house.config).await.unwrap();
    for word in [
        "rolled back",
        &format!("{short} entries"),
        &format!("signed {long}"),
        "anchor in token first",
        "anchor-forget",
    ] {
        assert!(refused.contains(word), "{word}: {refused}");
    }
    // It is the anchor alone that knows: without it the old log goes on, and is another one from there.
    let mut blind = house.config.clone();
    blind.token.anchor = false;
    for _ in 0..4 {
        assert_eq!(refusal(&blind).await, None);
    }
    let refused = refusal(&house.config).await.unwrap();
    assert!(
        refused.contains("the log was edited") && refused.contains("anchor in token"),
        "{refused}"
    );
    set_back(&house, &today);
    assert_eq!(refusal(&house.config).await, None);
}

#[tokio::test]
async fn an_anchor_that_is_foreign_cut_empty_or_gone_is_refused() {
    let house = anchored().await;
    let good = note(&house);
    let other = SigningKey::from_bytes(&[9; 32]);
    let origin = house.descriptors.log.clone().unwrap();
    let forged = Checkpoint { origin, size: 3, root: [0; 32], officers: None };
    let signature = other.sign(forged.text().as_bytes()).to_bytes();
    let foreign = forged.note(&other.verifying_key().to_bytes(), &signature);
    let token = &house.config.token;
    for (what, planted) in
        [("foreign", foreign.as_str()), ("cut", good.split_at(good.len() - 9).0), ("empty", "")]
    {
        at_token(token, AnchorAsk::Write(planted.into()));
        let refused = refusal(&house.config).await.unwrap();
        let why = "the anchor in token first cannot be trusted";
        assert!(refused.contains(why) && refused.contains("anchor-forget"), "{what}: {refused}");
    }
    at_token(token, AnchorAsk::Forget);
    let refused = refusal(&house.config).await.unwrap();
    assert!(
        refused.contains("holds none any more") && refused.contains("anchor-forget"),
        "{refused}"
    );
    // An old one is the token's own word, and the log grew from it: whoever has the PIN can put it back.
    at_token(token, AnchorAsk::Write(good.into()));
    assert_eq!(refusal(&house.config).await, None);
}

#[tokio::test]
async fn a_second_token_gets_an_anchor_once_the_log_was_verified_and_is_asked_for_it() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    twins(&mut house);
    house.config.token.anchor = true;
    a_day(&mut house).await;
    let (name, twin) = house.config.token.standby.iter_mut().next().unwrap();
    twin.anchor = true;
    let (name, twin) = (name.clone(), twin.clone());
    assert_eq!(at_token(&twin, AnchorAsk::Read).len(), 0);
    // A start that is refused gives it none.
    at_token(&house.config.token, AnchorAsk::Write(b"x".to_vec()));
    house.open().await;
    assert!(house.running().app().is_none());
    house.close().await;
    assert_eq!(at_token(&twin, AnchorAsk::Read).len(), 0);
    at_token(&house.config.token, AnchorAsk::Forget);
    fs::remove_file(house.config.state_dir.join("anchored")).unwrap();
    a_day(&mut house).await;
    let both = [note(&house).into_bytes()];
    assert_eq!(at_token(&twin, AnchorAsk::Read), both);
    at_token(&twin, AnchorAsk::Write(b"x".to_vec()));
    let refused = refusal(&house.config).await.unwrap();
    assert!(
        refused.contains(&format!("the anchor in token {name} cannot be trusted")),
        "{refused}"
    );
}

#[tokio::test]
async fn a_token_that_keeps_no_anchor_is_an_alarm_and_stops_nothing() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    house.config.token.anchor = true;
    let folder = prepare_faulty(&mut house);
    house.open().await;
    let app = house.app();
    anchoring::hold(&app).await;
    anchoring::write(&app).await;
    rule(&folder, "C_CreateObject,C_SetAttributeValue always CKR_FUNCTION_FAILED\n");
    let mut notices = app.notices.listen();
    let mut grow = async || {
        let event = Event::Service { state: "running".into(), version: "0".into() };
        app.log.commit(|_| Step::write(vec![event], ())).await.unwrap();
        anchoring::write(&app).await;
        let told = notices.try_recv().ok().map(|notice| notice.reasons[0].clone());
        told.map_or_else(String::new, |(code, text)| format!("{code}: {text}"))
    };
    let said = grow().await;
    assert!(said.starts_with("anchor: token first does not keep"), "{said}");
    assert_eq!(grow().await, "", "told once");
    assert_eq!(app.problem(), None);
    rule(&folder, "");
    let said = grow().await;
    assert!(said.contains("keeps the log's anchor again"), "{said}");
    drop(app);
    house.close().await;
}

#[tokio::test]
async fn an_anchor_is_given_up_by_officers_alone_where_the_policy_asks_them() {
    let mut house = administering::house().await;
    house.config.token.anchor = true;
    a_day(&mut house).await;
    let config = house.config.clone();
    let (log, folder) = (house.descriptors.log.clone().unwrap(), house.folder().to_owned());
    at_token(&config.token, AnchorAsk::Forget);
    assert!(refusal(&config).await.unwrap().contains("holds none any more"));
    let asked = |files: &[PathBuf]| {
        by_officers(&config, Clearing::Anchor, files).map_err(|error| format!("{error:#}"))
    };
    let none = asked(&[]).unwrap_err();
    assert!(none.contains("2 of board") && none.contains("administer anchor-forget "), "{none}");
    let mut site = [0; 16];
    let text = fs::read_to_string(config.state_dir.join("site")).unwrap();
    hex::decode_to_slice(text.trim_end(), &mut site).unwrap();
    let of = |deed| Task { deed, token: NO_TOKEN.to_owned() };
    let mut desk = administering::Desk { folder, log, nonce: 0 };
    let ada = desk.file("ada", &of(Deed::ForgetAnchor(site)), |_| {});
    assert!(asked(std::slice::from_ref(&ada)).unwrap_err().contains("[ada]"));
    let other = desk.file("cyd", &of(Deed::ClearToken(site)), |_| {});
    assert!(asked(&[ada.clone(), other]).unwrap_err().contains("not for `anchor-forget"));
    let both = [ada, desk.file("cyd", &of(Deed::ForgetAnchor(site)), |_| {})];
    let allowed = asked(&both).unwrap().unwrap();
    anchoring::forget(&config, Some(&allowed), None, &mut Vec::new()).await.unwrap();
    assert!(asked(&both).unwrap_err().contains("counts once"));
    house.open().await;
    let done = |event: &Event| matches!(event, Event::Administered { what, site: at, .. } if what == "anchor-forget" && *at == site);
    assert_eq!(house.entries(0).await.iter().filter(|entry| done(&entry.event)).count(), 1);
    house.close().await;
    assert_eq!(refusal(&house.config).await, None);
}

#[tokio::test]
async fn where_no_officers_are_asked_an_anchor_is_given_up_for_a_reason_that_the_log_says() {
    let mut house = anchored().await;
    let yesterday = keep(&house, "yesterday");
    a_day(&mut house).await;
    let before = size(&note(&house));
    set_back(&house, &yesterday);
    let config = house.config.clone();
    assert_eq!(by_officers(&config, Clearing::Anchor, &[]).unwrap(), None);
    let said = async |reason| {
        let mut out = Vec::new();
        let done = anchoring::forget(&config, None, reason, &mut out).await;
        done.map(|()| String::from_utf8(out).unwrap()).map_err(|error| format!("{error:#}"))
    };
    assert!(said(None).await.unwrap_err().contains("--reason"));
    assert!(refusal(&config).await.is_some());
    let out = said(Some("the disk died")).await.unwrap();
    assert!(out.contains(&format!("it was over {before} entries")), "{out}");
    house.open().await;
    let why = |event: &Event| matches!(event, Event::Waived { safeguard, said } if safeguard == "anchor in the token" && said.contains("the disk died"));
    assert!(house.entries(0).await.iter().any(|entry| why(&entry.event)));
    assert!(said(Some("again")).await.unwrap_err().contains("must be down"));
    house.close().await;
    assert_eq!(refusal(&config).await, None);
}

/// What the doctor says in one area.
async fn seen(config: &Config, area: &str) -> String {
    found(config, area).await.text
}

async fn found(config: &Config, area: &str) -> Finding {
    let seen = doctor::examine(config).await.findings;
    seen.into_iter().find(|found| found.area == area).unwrap()
}

#[tokio::test]
async fn the_doctor_says_where_data_objects_lie_and_how_far_the_anchor_goes() {
    let mut house = House::new().await;
    house.close().await;
    let off = found(&house.config, "anchor").await;
    assert_eq!(off.level, Level::Well);
    for word in ["kept, changed and hidden", "files of this machine", "anchor: off"] {
        assert!(off.text.contains(word), "{}", off.text);
    }
    house.config.token.anchor = true;
    assert!(seen(&house.config, "anchor").await.contains("a start writes it"));
    a_day(&mut house).await;
    let yesterday = keep(&house, "yesterday");
    a_day(&mut house).await;
    let long = size(&note(&house));
    let on = found(&house.config, "anchor").await;
    assert!(on.text.contains(&format!("over {long} entries, written 0 min ago")), "{}", on.text);
    assert_eq!(on.level, Level::Warning, "SoftHSM");
    set_back(&house, &yesterday);
    let back = found(&house.config, "anchor").await;
    assert!(back.level == Level::Broken && back.text.contains("it was set back"), "{}", back.text);
    assert_eq!(size(&note(&house)), long, "it only looks");
}
