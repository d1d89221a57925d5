//! The anchor while a signer serves: it follows the log, numbers say how far, and a token that was away is believed for no more
//! than the log holds against it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use audit::entry::Event;
use signer::anchoring::forget;
use signer::app::App;
use signer::config::Limits;
use signer::log::{Clock, Step, Store};
use signer::serve::run;
use signer::start::{Claim, open_token, start_from};
use token_wire::AnchorAsk;

use crate::anchoring::{a_day, at_token, keep, note, refusal, set_back, size};
use crate::common::Knobs;
use crate::distrusting::twins;
use crate::faulty::{prepare_faulty, rule};
use crate::house::{House, until};
use crate::watching::{ask, free, number, until_number};

const LAG: [&str; 2] = [
    "cofferdam_token_anchor_lag_entries{number=\"0\"}",
    "cofferdam_token_anchor_lag_entries{number=\"1\"}",
];
const AGE: &str = "cofferdam_token_anchor_age_seconds{number=\"0\"}";

/// Looks at its anchors every second.
async fn hurried() -> House {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    house.config.token.anchor = true;
    house.config.token.anchor_seconds = std::num::NonZeroU16::new(1);
    house.config.metrics = Some(free().await);
    house
}

/// The same with a second token, and the folder of that one's rules. Both have an anchor.
async fn two() -> (House, PathBuf) {
    let mut house = hurried().await;
    let rules = twins(&mut house);
    house.config.token.standby.get_mut("second").unwrap().anchor = true;
    a_day(&mut house).await;
    (house, rules)
}

/// Takes the second token away, or brings it back.
fn move_second(house: &House, away: bool) {
    let (here, there) = (house.folder().join("second/tokens"), house.folder().join("second/away"));
    let (from, to) = if away { (here, there) } else { (there, here) };
    fs::rename(from, to).unwrap();
}

/// The log is so long afterwards.
async fn grow(app: &App) -> u64 {
    let event = Event::Service { state: "running".into(), version: "0".into() };
    app.log.commit(|_| Step::write(vec![event], ())).await.unwrap();
    app.log.status().head.size
}

#[tokio::test]
async fn the_anchor_follows_the_log_while_the_signer_serves_and_numbers_say_how_far_it_is() {
    let mut house = hurried().await;
    let rules = prepare_faulty(&mut house);
    let watched = house.config.metrics.unwrap();
    house.open().await;
    until_number(watched, LAG[0], |lag| lag == 0).await;
    let long = grow(&house.app()).await;
    until_number(watched, LAG[0], |lag| lag == 0).await;
    assert!(size(&note(&house)) >= long);
    // One that takes nothing falls behind, and its age shows it.
    rule(&rules, "C_CreateObject,C_SetAttributeValue always CKR_FUNCTION_FAILED\n");
    grow(&house.app()).await;
    until_number(watched, AGE, |age| age >= 3).await;
    assert!(number(&ask(watched, "GET /metrics HTTP/1.1").await, LAG[0]) > 0);
    rule(&rules, "");
    until_number(watched, AGE, |age| age < 3).await;
    until_number(watched, LAG[0], |lag| lag == 0).await;
    house.close().await;
}

#[tokio::test]
async fn a_standby_that_comes_back_with_an_old_anchor_stops_nobody_and_is_given_the_new_one() {
    let (mut house, _) = two().await;
    let watched = house.config.metrics.unwrap();
    let twin = house.config.token.standby["second"].clone();
    let old = note(&house);
    move_second(&house, true);
    house.open().await;
    let app = house.app();
    let long = grow(&app).await;
    until_number(watched, LAG[0], |lag| lag == 0).await;
    let behind = number(&ask(watched, "GET /metrics HTTP/1.1").await, LAG[1]);
    assert!(behind >= long, "nobody knows what it remembers: {behind}");
    move_second(&house, false);
    until("the second to be back", || app.token.warning().is_none()).await;
    until_number(watched, LAG[1], |lag| lag == 0).await;
    let held = |said: Vec<Vec<u8>>| size(std::str::from_utf8(&said[0]).unwrap());
    assert!(held(at_token(&twin, AnchorAsk::Read)) >= long);
    // While it was away for a moment, too, and the log did not grow.
    at_token(&twin, AnchorAsk::Write(old.clone().into()));
    until("the new one to be there", || held(at_token(&twin, AnchorAsk::Read)) >= long).await;
    // Another token in its place is none of ours to write to.
    let mut notices = app.notices.listen();
    at_token(&twin, AnchorAsk::Write(b"x".to_vec()));
    grow(&app).await;
    let alarm = async {
        loop {
            let notice = notices.recv().await.unwrap();
            if notice.kind == "alarm" && notice.reasons[0].0 == "anchor" {
                return notice.reasons[0].1.clone();
            }
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(60), alarm).await.expect("an alarm");
    assert!(told.contains("token second does not keep") && told.contains("trusted"), "{told}");
    grow(&app).await;
    until_number(watched, LAG[0], |lag| lag == 0).await;
    assert_eq!(at_token(&twin, AnchorAsk::Read), [b"x".to_vec()]);
    assert_eq!(app.problem(), None);
    drop(app);
    house.close().await;
}

#[tokio::test]
async fn a_standby_that_cannot_be_asked_for_its_anchor_keeps_nobody_from_starting() {
    let (house, rules) = two().await;
    let token = open_token(&house.config, house.config.token.clone()).await.unwrap();
    let store = Store::open(&house.config.database_url()).await.unwrap();
    rule(&rules, "C_FindObjectsInit always CKR_DEVICE_ERROR\n");
    let (claim, nobody) = (Some(Claim { token, store }), Arc::default());
    let started = start_from(&house.config, Clock::system(), &nobody, claim);
    let app = Box::pin(started).await.unwrap();
    assert_eq!(app.problem(), None);
    app.log.close().await.unwrap();
    let token = Arc::clone(&app.token);
    drop(app);
    Arc::into_inner(token).unwrap().stop().await;
}

#[tokio::test]
async fn an_anchor_that_was_not_given_up_while_its_token_was_away_stops_a_log_that_was_set_back() {
    let (mut house, _) = two().await;
    let yesterday = keep(&house, "yesterday");
    a_day(&mut house).await;
    set_back(&house, &yesterday);
    move_second(&house, true);
    let mut given_up = Vec::new();
    forget(&house.config, None, Some("the disk died"), &mut given_up).await.unwrap();
    let said = String::from_utf8(given_up).unwrap();
    assert!(said.contains("token second: not reached") && said.contains("forget it too"), "{said}");
    let running = Box::pin(run(&house.config, Clock::system())).await.unwrap();
    let app = Arc::clone(running.app().unwrap());
    assert_eq!(app.problem(), None);
    move_second(&house, false);
    until("the second to be heard", || app.problem().is_some()).await;
    let problem = app.problem().unwrap();
    assert!(problem.contains("anchor in token second"), "{problem}");
    drop(app);
    running.stop().await.unwrap_err();
    assert!(refusal(&house.config).await.unwrap().contains("anchor in token second"));
    forget(&house.config, None, Some("it too"), &mut Vec::new()).await.unwrap();
    assert_eq!(refusal(&house.config).await, None);
}
