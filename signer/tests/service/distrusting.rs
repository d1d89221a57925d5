//! The whole signer with two tokens of the same keys, one of which signs wrongly: it is left out, and people hear of it.

use std::fs;
use std::path::PathBuf;

use audit::entry::{Entry, Event};
use signer::config::Limits;
use signer::token::TokenConfig;

use crate::common::{Knobs, coin, header, own, psbt};
use crate::faulty::{prepare_faulty, rule};
use crate::house::{House, moved, until};
use crate::moving::copy_moved;
use crate::sweeping::verify;
use crate::watching::{ask, free, number, until_number};

/// A house whose standby `second`, a copy of its token, is behind the faulty module; and the folder of that one's rules.
pub(crate) fn twins(house: &mut House) -> PathBuf {
    let first = house.config.state_dir.join("softhsm");
    let second = house.folder().join("second");
    copy_moved(&first, &second);
    let sound = house.config.token.alone();
    let folder = prepare_faulty(house);
    let token = &mut house.config.token;
    let standby = TokenConfig { workers: sound.workers, ..moved(token, &first, &second) };
    *token = sound;
    token.standby.insert("second".into(), standby);
    folder
}

async fn sweep(house: &House, number: u32) {
    let coins = [coin(&house.descriptors.deposits, false, number, 50_000, number.into(), 2)];
    let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
    let ask = header(&format!("k{number}"), "sweep", "deposits", &psbt(&coins, &outs));
    let reply = house.sign(ask, &coins).await.unwrap();
    verify(&reply.transaction, &coins);
}

fn distrusted(entries: Vec<Entry>) -> Vec<Event> {
    let events = entries.into_iter().map(|entry| entry.event);
    events.filter(|event| matches!(event, Event::TokenDistrusted { .. })).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_signs_wrongly_is_left_out_with_an_entry_an_alarm_and_a_number_of_its_own() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let folder = twins(&mut house);
    let page = free().await;
    house.config.metrics = Some(page);
    house.open().await;
    let serial = house.app().token.info().serial;
    let warning = "cofferdam_token_warning";
    assert_eq!(number(&ask(page, "GET /metrics HTTP/1.1").await, warning), 0);
    let mut heard = house.app().notices.listen();

    rule(&folder, "C_Sign always flip");
    let before = house.log_size();
    let mut sweeps = 0;
    while house.app().token.warning().is_none() {
        // The other makes every one of them good.
        sweep(&house, sweeps).await;
        sweeps += 1;
    }
    let alarm = async {
        loop {
            let told = heard.recv().await.unwrap();
            if told.kind == "alarm" {
                return told.reasons[0].clone();
            }
        }
    };
    let minute = std::time::Duration::from_secs(60);
    let (code, text) = tokio::time::timeout(minute, alarm).await.expect("an alarm");
    assert_eq!(code, "token");
    assert!(text.contains("standby second") && text.contains("signer token clear"), "{text}");
    until_number(page, warning, |value| value == 1).await;
    assert_eq!(number(&ask(page, "GET /metrics HTTP/1.1").await, "cofferdam_token_ready"), 1);

    let app = house.app();
    let unlogged = house.config.state_dir.join("standby/second/token-distrusted-unlogged");
    until("a checkpoint covers the entry", || !unlogged.exists()).await;
    assert!(app.log.status().checkpointed > before && app.problem().is_none());
    drop(app);
    let logged = distrusted(house.entries(before).await);
    let [Event::TokenDistrusted { name, label, serial: of, what, wallet, key, request, seen_unix }] =
        &logged[..]
    else {
        panic!("{logged:?}")
    };
    let named = house.config.token.standby["second"].label.clone().unwrap();
    assert_eq!((name.as_str(), label, of), ("second", &named, &serial));
    assert!(what.contains("did not verify") && *seen_unix > 1_600_000_000, "{what}");
    // Which of the two it was asked for first, a child's signature or a statement's, is chance.
    match key.len() {
        33 => assert!(wallet.as_deref() == Some("deposits") && request.is_some(), "{logged:?}"),
        _ => assert!(key.len() == 32 && wallet.is_none() && request.is_none(), "{logged:?}"),
    }
    // Said once, and it stays so after a restart.
    house.close().await;
    house.open().await;
    sweep(&house, sweeps).await;
    assert!(house.app().token.warning().unwrap().contains("standby second"));
    assert_eq!(distrusted(house.entries(0).await), logged);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_token_did_wrong_while_the_log_took_nothing_is_written_by_whoever_opens_it_next() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let folder = prepare_faulty(&mut house);
    house.open().await;
    rule(&folder, "C_Sign always flip");
    let coins = [coin(&house.descriptors.deposits, false, 1, 50_000, 1, 2)];
    let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
    house.sign(header("k1", "sweep", "deposits", &psbt(&coins, &outs)), &coins).await.unwrap_err();
    fs::remove_file(folder.join("rules")).unwrap();
    // No token is left that could sign a checkpoint over it.
    house.close().await;
    house.open().await;
    assert!(house.running().app().is_none());
    house.close().await;
    signer::init::clear_token(&house.config.state_dir, &mut Vec::new()).unwrap();
    house.open().await;
    let entries = house.entries(0).await;
    let at = |is: fn(&Event) -> bool| {
        let found = entries.iter().enumerate().filter(|(_, entry)| is(&entry.event));
        found.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let wrong = at(|event| matches!(event, Event::TokenDistrusted { name, .. } if name == "first"));
    let cleared =
        at(|event| matches!(event, Event::Waived { said, .. } if said == "signer token clear"));
    assert!(wrong.len() == 1 && cleared.len() == 1 && wrong < cleared, "{wrong:?} {cleared:?}");
    house.close().await;
    house.open().await;
    assert_eq!(distrusted(house.entries(0).await).len(), 1);
}
