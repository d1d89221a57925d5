//! The whole signer on a token that fails now and then, and on one that signs wrongly.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use audit::entry::{Entry, Event};
use bitcoin::NetworkKind;
use bitcoin::bip32::{ChildNumber, DerivationPath, Xpriv};
use officer::audit::{reconcile, source::Source};
use secp256k1::SECP256K1;
use signer::config::Limits;
use signer::counting;
use signer::token::{Operations, Token};
use tonic::Code;

use crate::common::{Coin, Knobs, coin, header, own, psbt};
use crate::failing::kill_workers;
use crate::house::{House, said, until};
use crate::sweeping::verify;
use crate::token::PROGRAMS;

const COINS: u64 = 5;

/// A house whose module is the faulty one, and the folder of its rules. What was done before is not counted there.
async fn faulty() -> (House, PathBuf) {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    let folder = prepare_faulty(&mut house);
    house.open().await;
    (house, folder)
}

/// Gives a house that is not running the faulty module, and returns the folder of its rules.
pub(crate) fn prepare_faulty(house: &mut House) -> PathBuf {
    let folder = house.folder().join("faulty");
    fs::create_dir(&folder).unwrap();
    for file in fs::read_dir(&house.config.state_dir).unwrap().flatten() {
        if file.file_name().to_str().unwrap().starts_with("operations-") {
            fs::remove_file(file.path()).unwrap();
        }
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    fs::write(folder.join("since"), since.to_string()).unwrap();
    let token = &mut house.config.token;
    let real = token.module.replace(PROGRAMS.join("libfaulty_hsm.so")).unwrap();
    token.env.insert("FAULTY_MODULE".into(), real.to_str().unwrap().into());
    token.env.insert("FAULTY_DIR".into(), folder.to_str().unwrap().into());
    folder
}

/// Holds what the module counted against the log of a house that is closed.
async fn reconcile(house: &House, folder: &Path, opened: &Event) -> Result<String, String> {
    let checkpoint_key = opened.begun().unwrap().checkpoint_key;
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let serial = read("serial");
    let text = format!(
        "cofferdam token operations, version 1\ntoken {serial}\nsince {}\n{}",
        read("since"),
        read("operations")
    );
    let vendor = folder.join("vendor");
    fs::write(&vendor, text).unwrap();
    let mut log = Source::database(&house.config.database_url()).await.unwrap();
    let mut out = Vec::new();
    let done = reconcile::reconcile(&mut log, *checkpoint_key, &vendor, &[], &mut out).await;
    let out = String::from_utf8(out).unwrap();
    done.map(|()| out.clone()).map_err(|error| format!("{out}{error}"))
}

/// The log's first entry; the token's name is kept for later.
async fn opened(house: &House, folder: &Path) -> Event {
    fs::write(folder.join("serial"), house.app().token.info().serial).unwrap();
    house.app().log.entry(0).await.unwrap().event
}

#[tokio::test]
async fn every_operation_of_the_module_is_in_the_log_until_somebody_else_uses_a_key() {
    let (mut house, folder) = faulty().await;
    let opened = opened(&house, &folder).await;
    sweep(&house, 0).await.unwrap();
    counting::count(&house.app()).await;
    let counted = |entry: &Entry| matches!(entry.event, Event::TokenOperations { .. });
    let counts = house.entries(0).await.iter().filter(|entry| counted(entry)).count();
    counting::count(&house.app()).await;
    assert_eq!(house.entries(0).await.iter().filter(|entry| counted(entry)).count(), counts);
    sweep(&house, 1).await.unwrap();
    house.close().await;
    let said = reconcile(&house, &folder, &opened).await.unwrap();
    assert!(said.ends_with("Every operation is accounted for.\n"), "{said}");
    // As whoever has the PIN may: one worker's start signs once by the canary, and no log hears of it.
    let mut stolen = house.config.token.alone();
    stolen.operations = Operations::default();
    let elsewhere = folder.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let keys = "token-keys.toml";
    fs::copy(house.config.state_dir.join(keys), elsewhere.join(keys)).unwrap();
    Token::start(stolen, &elsewhere).await.unwrap().stop().await;
    for _ in 0..2 {
        let said = reconcile(&house, &folder, &opened).await.unwrap_err();
        assert!(said.contains("EXTRA  C_Sign \"-\"") && said.contains("log: 1 more"), "{said}");
        assert!(said.contains("do not agree") && !said.contains("MISSING"), "{said}");
        // It does not go away.
        house.open().await;
        sweep(&house, 2).await.unwrap();
        house.close().await;
    }
}

/// Sums of the log, as entries.
async fn counts(house: &House) -> usize {
    let counted = |entry: &&Entry| matches!(entry.event, Event::TokenOperations { .. });
    house.entries(0).await.iter().filter(counted).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_token_did_is_counted_once_also_while_it_is_away_and_when_the_signer_ends() {
    let (mut house, folder) = faulty().await;
    let opened = opened(&house, &folder).await;
    // It ends while the count waits for its checkpoint.
    sweep(&house, 0).await.unwrap();
    let before = (house.log_size(), counts(&house).await);
    rule(&folder, "C_Sign always delay=1500\n");
    let app = house.app();
    let counting = tokio::spawn(async move { counting::count(&app).await });
    until("the count to be written", || house.log_size() > before.0).await;
    counting.abort();
    assert!(counting.await.unwrap_err().is_cancelled(), "it waits for the token");
    fs::remove_file(folder.join("rules")).unwrap();
    house.close().await;
    let said = reconcile(&house, &folder, &opened).await.unwrap();
    assert!(said.ends_with("Every operation is accounted for.\n"), "{said}");

    // Three counts while the token is away.
    house.open().await;
    sweep(&house, 1).await.unwrap();
    let before = counts(&house).await;
    let tokens = house.folder().join("state").join("softhsm");
    let aside = house.folder().join("softhsm-aside");
    fs::rename(&tokens, &aside).unwrap();
    kill_workers(&house);
    for _ in 0..3 {
        counting::count(&house.app()).await;
        assert_eq!(counts(&house).await, before + 1);
    }
    fs::rename(&aside, &tokens).unwrap();
    let app = house.app();
    until("the token to come back", || app.problem().is_none()).await;
    drop(app);
    sweep(&house, 2).await.unwrap();
    // Covered by now: what came after is worth another.
    counting::count(&house.app()).await;
    assert_eq!(counts(&house).await, before + 2);
    house.close().await;
    let said = reconcile(&house, &folder, &opened).await.unwrap();
    assert!(said.ends_with("Every operation is accounted for.\n"), "{said}");
}

pub(crate) fn rule(folder: &std::path::Path, text: &str) {
    fs::write(folder.join("rules.new"), text).unwrap();
    fs::rename(folder.join("rules.new"), folder.join("rules")).unwrap();
}

/// Coins that no other number has.
fn coins(house: &House, number: u64) -> Vec<Coin> {
    let one = |at| {
        let index = u32::try_from(at).unwrap();
        coin(&house.descriptors.deposits, false, index, 50_000, number * COINS + at, 2)
    };
    (0..COINS).map(one).collect()
}

async fn sweep(house: &House, number: u64) -> Result<(), tonic::Status> {
    let coins = coins(house, number);
    let outs = [own(&house.descriptors.cold, false, 0, COINS * 50_000 - 1_500)];
    let ask = header(&format!("k{number}"), "sweep", "deposits", &psbt(&coins, &outs));
    let reply = house.sign(ask, &coins).await?;
    verify(&reply.transaction, &coins);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn at_one_percent_of_faults_sweeps_complete_and_what_does_not_can_be_asked_again() {
    storm(100, 120, 99).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_ten_percent_of_faults_nine_sweeps_of_ten_complete_and_the_rest_can_be_asked_again() {
    storm(1_000, 60, 90).await;
}

/// So many faults in ten thousand calls, whatever is called: statements and each worker's start as well.
async fn storm(faults: u64, sweeps: u64, least_percent: u64) {
    let (house, folder) = faulty().await;
    let codes = [
        "CKR_DEVICE_ERROR",
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_GENERAL_ERROR",
        "CKR_OPERATION_ACTIVE",
    ];
    let percent = |hundredths: u64| format!("{}.{:02}%", hundredths / 100, hundredths % 100);
    let rules = codes.map(|code| format!("* {} {code}\n", percent(faults / 4))).concat();
    rule(&folder, &format!("seed 11\n{rules}C_Sign {} crash\n", percent(faults / 20)));
    let house = Arc::new(house);
    let mut refused = Vec::new();
    for first in (0..sweeps).step_by(4) {
        let mut four = tokio::task::JoinSet::new();
        for number in first..first + 4 {
            let house = Arc::clone(&house);
            four.spawn(async move { (number, sweep(&house, number).await) });
        }
        for (number, answer) in four.join_all().await {
            if let Err(status) = answer {
                assert_eq!(status.code(), Code::Unavailable, "{status}");
                refused.push(number);
            }
        }
    }
    let happened = fs::read_to_string(folder.join("faults")).unwrap().lines().count();
    println!("{} of {sweeps} sweeps refused; {happened} faults", refused.len());
    assert!(refused.len() as u64 * 100 <= sweeps * (100 - least_percent), "{refused:?}");
    // Each signature takes four calls, and each statement two.
    assert!(happened as u64 * 2 >= sweeps * COINS * 4 * faults / 10_000, "{happened}");
    fs::remove_file(folder.join("rules")).unwrap();
    let app = house.app();
    until("the token is well", || app.problem().is_none()).await;
    for number in refused {
        sweep(&house, number).await.unwrap();
    }
    drop(app);
    let opened = opened(&house, &folder).await;
    let mut house = Arc::into_inner(house).unwrap();
    house.close().await;
    // Each retry was counted, and what lost workers may have done as well.
    reconcile(&house, &folder, &opened).await.unwrap();
}

#[tokio::test]
async fn a_wrong_signature_is_caught_logged_and_suspends_the_token() {
    let (mut house, folder) = faulty().await;
    sweep(&house, 0).await.unwrap();
    // Each worker's first signature may be the checkpoint's.
    rule(&folder, "C_Sign #2 flip");
    let before = house.log_size();
    let status = sweep(&house, 1).await.unwrap_err();
    let reason = said(&status).1;
    assert!(reason == ["token-fault"] || reason == ["token-distrusted"], "{status}");
    let entries = house.entries(before).await;
    let failed = entries.iter().any(|entry| matches!(&entry.event, Event::Failed { .. }));
    assert!(failed, "{entries:?}");
    assert!(!entries.iter().any(|entry| matches!(&entry.event, Event::Signed { .. })));
    fs::remove_file(folder.join("rules")).unwrap();
    let suspended = |problem: Option<String>| problem.unwrap().contains("signer token clear");
    assert!(suspended(house.app().problem()));
    assert!(sweep(&house, 1).await.is_err());
    house.close().await;
    house.open().await;
    assert!(house.running().app().is_none(), "not after a restart either");
    house.close().await;
    signer::init::clear_token(&house.config.state_dir, &mut Vec::new()).unwrap();
    house.open().await;
    let trusted =
        |event: &Event| matches!(event, Event::Waived { said, .. } if said == "signer token clear");
    assert_eq!(house.entries(0).await.iter().filter(|entry| trusted(&entry.event)).count(), 1);
    sweep(&house, 1).await.unwrap();
}

/// Has the module sign by the deposits' children with one nonce, whatever they sign.
fn one_nonce(house: &House, folder: &std::path::Path) {
    let master = Xpriv::new_master(NetworkKind::Test, &house.seed()).unwrap();
    let path: DerivationPath = "m/84h/1h/0h/0".parse().unwrap();
    let branch = master.derive_priv(SECP256K1, &path).unwrap();
    let line = |index| {
        let child = branch.derive_priv(SECP256K1, &[ChildNumber::Normal { index }]).unwrap();
        format!("{}\n", child.private_key.display_secret())
    };
    fs::write(folder.join("keys"), (0..10).map(line).collect::<String>()).unwrap();
    rule(folder, "C_Sign always one-nonce\n");
}

/// Spends the coin at one address.
async fn spend(house: &House, index: u32) -> Result<Vec<u8>, tonic::Status> {
    let coin = coin(&house.descriptors.deposits, false, index, 50_000, 1_000 + u64::from(index), 2);
    let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
    let coins = [coin];
    let ask = header(&format!("n{index}"), "sweep", "deposits", &psbt(&coins, &outs));
    let reply = house.sign(ask, &coins).await?;
    verify(&reply.transaction, &coins);
    Ok(reply.transaction)
}

/// Two siblings of one xpub, two digests, one nonce, and a restart between: whoever saw both had every key.
#[tokio::test]
async fn a_nonce_that_comes_back_is_stopped_logged_and_suspends_the_token_also_after_a_restart() {
    let (mut house, folder) = faulty().await;
    one_nonce(&house, &folder);
    // The first use is a good signature like any other.
    let first = spend(&house, 3).await.unwrap();
    house.close().await;
    house.open().await;
    let before = house.log_size();
    let status = spend(&house, 4).await.unwrap_err();
    assert_eq!(said(&status).1, ["token-distrusted"], "{status}");
    let text = "used a nonce twice";
    assert!(status.message().contains(text), "{status}");
    let entries = house.entries(before).await;
    let logged =
        |event: &Event| matches!(event, Event::Failed { reason, .. } if reason.text.contains(text));
    assert!(entries.iter().any(|entry| logged(&entry.event)), "{entries:?}");
    assert!(!entries.iter().any(|entry| matches!(&entry.event, Event::Signed { .. })));
    let faults = fs::read_to_string(folder.join("faults")).unwrap();
    assert!(faults.lines().filter(|line| *line == "C_Sign one-nonce").count() >= 2);

    // The alarm: health, status and every later caller say it.
    let problem = house.app().problem().unwrap();
    assert!(problem.contains(text) && problem.contains("signer token clear"), "{problem}");
    let mut client = house.client("watcher-1").await;
    let shown = client.status(proto::StatusRequest {}).await.unwrap().into_inner();
    assert!(!shown.token_ready && shown.token_problem.contains(text), "{}", shown.token_problem);
    // Well again, the token is asked for nothing: not now, and not after a restart.
    fs::remove_file(folder.join("rules")).unwrap();
    assert!(spend(&house, 5).await.is_err());
    house.close().await;
    house.open().await;
    assert!(house.running().app().is_none());
    house.close().await;

    // A person has looked. The module still repeats: what was released before is remembered from the log.
    signer::init::clear_token(&house.config.state_dir, &mut Vec::new()).unwrap();
    one_nonce(&house, &folder);
    house.open().await;
    assert_eq!(said(&spend(&house, 6).await.unwrap_err()).1, ["token-distrusted"]);
    house.close().await;
    fs::remove_file(folder.join("rules")).unwrap();
    signer::init::clear_token(&house.config.state_dir, &mut Vec::new()).unwrap();
    house.open().await;
    // The first answer stands as it was given; the second request is signed with another nonce.
    assert_eq!(spend(&house, 3).await.unwrap(), first);
    spend(&house, 4).await.unwrap();
}
