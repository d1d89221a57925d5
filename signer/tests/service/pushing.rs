//! A policy comes in over the wire: by what its officers signed, and by nobody who has the signer's machine. What only tightens is in
//! force at once; anything else waits and may be vetoed; a file that is behind brings nothing back.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use audit::entry::Event;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::Trace;
use policy::decide::Granted;
use policy::evidence::FreezeScope;
use policy::governance::veto_message;
use policy::names::{ClientName, KeyName};
use policy::sign_message;
use proto::officers_client::OfficersClient;
use proto::signer_client::SignerClient;
use proto::{
    NotificationsRequest, PendingRequest, PushPolicyReply, PushPolicyRequest, SubmitRequest,
};
use sha2::{Digest as _, Sha256};
use signer::log::Step;
use signer::receive::{Seen, open, receive};
use signer::serve::serve;
use signer::sign::sign;
use statement::{Says, Statement};
use tokio::sync::oneshot;
use tonic::{Code, Status};

use crate::commanding::run;
use crate::common::{Coin, coin, header, own, policy_signatures, psbt};
use crate::governing::{by, governed, key, later, settle, version, write};
use crate::house::{House, parts, said, until};
use crate::revocations::with_list_due;
use crate::settings::settings;
use crate::watching::free;
use crate::withheld::slow_token;

fn text(house: &House, version: u64, fee_budget: u64) -> String {
    governed(house, version, fee_budget)
        + "[[client]]\nname = \"officers-desk\"\nattest = []\nstatus = false\nofficers = true\n"
}

/// Under a governed policy, closed; its file stays as it is.
async fn house() -> House {
    house_under(|text| text).await
}

async fn house_under(change: impl FnOnce(String) -> String) -> House {
    let mut house = House::new().await;
    house.close().await;
    let first = change(text(&house, 2, 50_000));
    write(&house, &first, &policy_signatures(&first));
    assert_eq!(version(&mut house, 0).await, 2);
    house
}

async fn push_signed(
    house: &House,
    (port, client): (u16, &str),
    (text, signatures): (&str, &str),
) -> Result<PushPolicyReply, Status> {
    let channel = house.channel_at(port, client).await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let (text, signatures) = (text.to_owned(), signatures.to_owned());
    let request = PushPolicyRequest { text, signatures };
    Ok(OfficersClient::new(channel).push_policy(request).await?.into_inner())
}

async fn push(house: &House, text: &str, names: &[&str]) -> Result<PushPolicyReply, Status> {
    let port = house.running().address().port();
    push_signed(house, (port, "officers-desk"), (text, &by(&sign_message(text), names))).await
}

/// A sweep of one coin, at this fee.
fn sweep(house: &House, number: u32, fee: u64) -> (proto::SignHeader, [Coin; 1]) {
    let coins = [coin(&house.descriptors.deposits, false, number, 50_000, u64::from(number), 1)];
    let outs = [own(&house.descriptors.cold, false, 0, 50_000 - fee)];
    (header(&format!("k{number}"), "sweep", "deposits", &psbt(&coins, &outs)), coins)
}

async fn sign_at(
    house: &House,
    port: u16,
    (header, coins): (proto::SignHeader, [Coin; 1]),
) -> Result<(), Status> {
    let channel = house.channel_at(port, "watcher-1").await;
    let channel = channel.map_err(|error| Status::unavailable(error.to_string()))?;
    let asked = SignerClient::new(channel).sign(tokio_stream::iter(parts(header, &coins))).await;
    asked.map(drop)
}

fn patience() -> impl Fn(&dyn std::fmt::Debug) {
    let deadline = Instant::now() + Duration::from_secs(120);
    move |what| assert!(Instant::now() < deadline, "waited in vain: {what:?}")
}

/// What comes of it once the signer is not on its way to another policy; how often it was told to try again.
async fn sign_soon(house: &House, port: u16, fee: u64, number: u32) -> Result<(), Status> {
    let patient = patience();
    loop {
        match sign_at(house, port, sweep(house, number, fee)).await {
            // Somebody who is away for a moment, or says that it will be; whatever is on its way there is cut with it.
            Err(status) if status.code() != Code::PermissionDenied => {
                let code = status.code();
                let again = matches!(code, Code::ResourceExhausted | Code::Unavailable);
                assert!(again || status.details().is_empty(), "{status:?}");
                patient(&status);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
}

/// Eve's no.
fn veto(house: &House, text: &str) -> (Vec<u8>, Vec<u8>) {
    let veto = word(house, 1, Says::VetoPolicy(Sha256::digest(text).into())).encode();
    let signature = key("eve").sign(&veto).to_bytes().to_vec();
    (veto, signature)
}

fn recoverable(text: String) -> String {
    let recover = "recover = \"1 of board\"\nrecover_delay = \"7d\"\n";
    text.replacen("delay = \"48h\"\n", &format!("delay = \"48h\"\n{recover}"), 1)
}

fn kinds(entries: &[audit::entry::Entry]) -> Vec<&'static str> {
    let kind = |entry: &audit::entry::Entry| match entry.event {
        Event::PolicyActivated { .. } => Some("activated"),
        Event::PolicyProposed { .. } => Some("proposed"),
        Event::PolicyPushed { .. } => Some("pushed"),
        Event::PolicyWithdrawn { .. } => Some("withdrawn"),
        Event::PolicyVetoed { .. } => Some("vetoed"),
        _ => None,
    };
    entries.iter().filter_map(kind).collect()
}

async fn policies(house: &House) -> Vec<&'static str> {
    let mut all = kinds(&house.entries(0).await);
    // Those of the house, and the first.
    assert_eq!(all.drain(..2).collect::<Vec<_>>(), ["activated"; 2]);
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tightening_that_is_pushed_is_in_force_for_the_next_request_and_nobody_is_at_the_machine()
{
    let mut house = house().await;
    let address = free().await;
    house.config.listen = address;
    let port = address.port();
    let (stop, stopped) = oneshot::channel::<()>();
    let config = house.config.clone();
    let served = tokio::spawn(async move {
        let until = async {
            let _ = stopped.await;
        };
        serve(&config, false, until).await
    });
    sign_soon(&house, port, 2_000, 1).await.unwrap();
    let tighter = text(&house, 3, 1_000);
    let signed = by(&sign_message(&tighter), &["eve"]);
    let taken = push_signed(&house, (port, "officers-desk"), (&tighter, &signed)).await.unwrap();
    assert_eq!((taken.version, taken.kind.as_str()), (3, "tightening"));
    assert_eq!(taken.digest, <[u8; 32]>::from(Sha256::digest(&tighter)));
    // Before it is in force nothing is asked of the old one any more.
    let status = sign_soon(&house, port, 2_000, 2).await.unwrap_err();
    assert_eq!(said(&status).1, ["policy-denied"], "{status:?}");
    let channel = house.channel_at(port, "officers-desk").await.unwrap();
    let mut desk = OfficersClient::new(channel);
    let pending = desk.pending(PendingRequest {}).await.unwrap().into_inner();
    assert_eq!((pending.policy_version, pending.policy_text.as_str()), (3, tighter.as_str()));
    assert_eq!(pending.proposed, None);
    // Whose answer was lost asks again.
    let again = push_signed(&house, (port, "officers-desk"), (&tighter, &signed)).await.unwrap();
    assert_eq!((again.kind.as_str(), again.due_unix), ("", 0));
    drop(desk);
    by_the_program(&house).await;
    stop.send(()).unwrap();
    served.await.unwrap().unwrap();

    // The file is the one before all of these, and brings nothing back.
    house.config.listen = "127.0.0.1:0".parse().unwrap();
    for _ in 0..2 {
        house.open().await;
        assert_eq!(house.app().rules.version(), 4);
        let each = ["proposed", "pushed", "activated"];
        assert_eq!(policies(&house).await, [&each[..], &each, &["proposed", "pushed"]].concat());
        house.close().await;
    }
    let tighter = text(&house, 4, 900);
    assert_eq!(
        fs::read_to_string(house.config.state_dir.join("policy-in-force.toml")).unwrap(),
        tighter
    );
}

/// An officer's program hands in what tightens, and sees it in force; then what loosens.
async fn by_the_program(house: &House) {
    let folder = house.folder().join("officer");
    let tls = house.tls_files("officers-desk", &folder.join("tls"));
    let settings = format!(
        "signer = \"https://localhost:{}\"\nserver_name = \"signer\"\nlog = {:?}\npolicy = \"none\"\nkey = \"none\"\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n",
        house.config.listen.port(),
        house.descriptors.log.as_ref().unwrap(),
        tls.certificate,
        tls.key,
        tls.ca
    );
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    fs::write(file("officer.toml"), settings).unwrap();
    let pushes = async |more: &[&str]| {
        let settings = file("officer.toml");
        let args = ["policy", "push", "--config", &settings];
        let args: Vec<String> = args.iter().chain(more).map(ToString::to_string).collect();
        let work = move || {
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            run("", &args)
        };
        tokio::task::spawn_blocking(work).await.unwrap()
    };
    let (tighter, looser) = (text(house, 4, 900), text(house, 5, 60_000));
    let (four, five) = (file("four.toml"), file("five.toml"));
    fs::write(&four, &tighter).unwrap();
    let unsigned = pushes(&[&four]).await.unwrap_err();
    assert!(unsigned.contains("officer policy sign"), "{unsigned}");
    fs::write(file("four.toml.sig"), by(&sign_message(&tighter), &["cyd"])).unwrap();
    let pushed = pushes(&[&four]).await.unwrap();
    assert!(pushed.contains("signed by   cyd"), "{pushed}");
    assert!(pushed.contains("in force    now, as a tightening"), "{pushed}");
    let again = pushes(&[&four]).await.unwrap();
    assert!(again.contains("in force    already"), "{again}");
    // Signed by two of them, each their own copy.
    fs::write(&five, &looser).unwrap();
    let kept = ["ada", "cyd"].map(|name| {
        let kept = file(&format!("{name}.sig"));
        fs::write(&kept, by(&sign_message(&looser), &[name])).unwrap();
        kept
    });
    let [ada, cyd] = &kept;
    let few = pushes(&[&five, "--signatures", ada]).await.unwrap_err();
    assert!(few.contains("policy-follows") && few.contains("2 of board"), "{few}");
    let pushed =
        pushes(&[&five, "--signatures", ada, "--signatures", cyd, "--json"]).await.unwrap();
    let pushed: serde_json::Value = serde_json::from_str(&pushed).unwrap();
    assert_eq!((&pushed["kind"], &pushed["in_force"]), (&"change".into(), &false.into()));
    assert_eq!(pushed["version"], 5);
}

#[tokio::test]
async fn what_may_not_follow_the_policy_in_force_is_refused_and_changes_nothing() {
    let mut house = house().await;
    house.open().await;
    let port = house.running().address().port();
    let refused = async |client: &str, text: &str, signatures: &str| {
        let pushed = push_signed(&house, (port, client), (text, signatures)).await;
        said(&pushed.unwrap_err()).1.remove(0)
    };
    let (tighter, looser) = (text(&house, 3, 40_000), text(&house, 3, 60_000));
    let signed = |text: &str, names: &[&str]| by(&sign_message(text), names);
    let desk = "officers-desk";
    for (client, text, signatures, code) in [
        ("watcher-1", &tighter, signed(&tighter, &["eve"]), "officers-not-granted"),
        (desk, &tighter, String::new(), "policy-follows"),
        (desk, &looser, signed(&looser, &["eve"]), "policy-follows"),
        (desk, &tighter, signed(&looser, &["eve"]), "policy-unfit"),
        // The configuration's officers have no say.
        (desk, &tighter, policy_signatures(&tighter), "policy-unfit"),
    ] {
        assert_eq!(refused(client, text, &signatures).await, code);
    }
    let stale = text(&house, 1, 40_000);
    assert_eq!(refused(desk, &stale, &signed(&stale, &["ada", "cyd"])).await, "policy-follows");
    let far = text(&house, 2_000_000, 40_000);
    assert_eq!(refused(desk, &far, &signed(&far, &["ada", "cyd"])).await, "policy-follows");
    let line = format!("log = {:?}\n", house.descriptors.log.clone().unwrap());
    let elsewhere = tighter.replacen(&line, "log = \"cofferdam/0123456789abcdef\"\n", 1);
    let by_all = signed(&elsewhere, &["ada", "cyd", "eve"]);
    assert_eq!(refused(desk, &elsewhere, &by_all).await, "policy-follows");
    let mainnet = tighter.replacen("network = \"regtest\"", "network = \"bitcoin\"", 1);
    assert_eq!(refused(desk, &mainnet, &signed(&mainnet, &["ada", "cyd"])).await, "policy-unfit");
    let odd = format!("{tighter}\nodd = [");
    assert_eq!(refused(desk, &odd, &signed(&odd, &["ada", "cyd"])).await, "policy-unfit");
    // Another key under the wallet's name: it could not be served.
    let other = tighter.replace(&house.descriptors.hot, &crate::common::descriptor(9));
    let by_two = signed(&other, &["ada", "cyd"]);
    let pushed = push_signed(&house, (port, desk), (&other, &by_two)).await.unwrap_err();
    let code = said(&pushed).1.remove(0);
    assert!(pushed.message().contains("could not be served here"), "{pushed:?}");
    assert_eq!(house.last_reasons().await, [code]);
    assert_eq!(policies(&house).await, [""; 0]);
    let app = house.app();
    assert_eq!((app.rules.version(), app.upcoming.proposed()), (2, None));
    drop(app);
    house.close().await;
    assert_eq!(version(&mut house, 0).await, 2);
}

#[tokio::test]
async fn a_loosening_that_is_pushed_is_shown_and_waits_its_delay_over_restarts_and_without_a_file()
{
    let mut house = house().await;
    house.open().await;
    let mut desk = OfficersClient::new(house.channel("officers-desk").await);
    let mut heard = desk.notifications(NotificationsRequest::default()).await.unwrap().into_inner();
    let looser = text(&house, 3, 60_000);
    let taken = push(&house, &looser, &["ada", "cyd"]).await.unwrap();
    assert_eq!((taken.kind.as_str(), taken.version), ("change", 3));
    let notice = tokio::time::timeout(Duration::from_secs(60), heard.message()).await;
    let notice = notice.expect("nothing is heard").unwrap().unwrap();
    assert_eq!((notice.kind.as_str(), notice.reasons[0].code.as_str()), ("proposed", "change"));
    let shown = desk.pending(PendingRequest {}).await.unwrap().into_inner().proposed.unwrap();
    assert_eq!((shown.version, shown.due_unix, shown.vetoed), (3, taken.due_unix, false));
    assert_eq!(shown.officers, ["ada", "cyd"]);
    assert_eq!(house.app().next_policy_due_unix(), Some(taken.due_unix));
    // Asked once more, it is the same proposal.
    assert_eq!(push(&house, &looser, &["ada", "cyd"]).await.unwrap(), taken);
    drop((heard, desk));
    house.close().await;
    for hours in [0, 47] {
        assert_eq!(version(&mut house, hours).await, 2, "{hours}");
    }
    house.open_at(later(47)).await;
    settle(&house).await;
    assert_eq!(house.app().upcoming.proposed().map(|proposed| proposed.version), Some(3));
    assert_eq!(policies(&house).await, ["proposed", "pushed"]);
    house.close().await;
    assert_eq!(version(&mut house, 49).await, 3);
    // The file is behind from now on.
    assert_eq!(version(&mut house, 50).await, 3);
}

#[tokio::test]
async fn a_loosening_that_is_pushed_is_vetoed_over_the_wire_or_beside_the_policy_file_for_good() {
    let mut house = house().await;
    house.open().await;
    let looser = text(&house, 3, 60_000);
    push(&house, &looser, &["ada", "cyd"]).await.unwrap();
    let (veto, signature) = veto(&house, &looser);
    let mut desk = OfficersClient::new(house.channel("officers-desk").await);
    desk.submit(SubmitRequest { statement: veto, signature }).await.unwrap();
    assert_eq!(house.app().next_policy_due_unix(), None);
    let again = push(&house, &looser, &["ada", "cyd"]).await.unwrap_err();
    assert_eq!(said(&again).1, ["policy-follows"]);
    drop(desk);
    house.close().await;
    assert_eq!(version(&mut house, 60).await, 2);
    // By a person at the machine, also over what no file there has.
    house.open_at(later(60)).await;
    let other = text(&house, 4, 70_000);
    push(&house, &other, &["ada", "cyd"]).await.unwrap();
    house.close().await;
    let path = house.config.policy.with_extension("toml.veto");
    fs::write(&path, by(&veto_message(&other), &["eve"])).unwrap();
    assert_eq!(version(&mut house, 60 + 60).await, 2);
    house.open_at(later(120)).await;
    assert_eq!(
        policies(&house).await,
        ["proposed", "pushed", "vetoed", "proposed", "pushed", "vetoed"]
    );
}

#[tokio::test]
async fn only_what_is_newer_takes_the_place_of_a_proposal_and_no_recovery_that_of_a_change() {
    let mut house = house_under(recoverable).await;
    let text = |house: &House, version, fees| recoverable(text(house, version, fees));
    let refused = async |house: &House, text: &str, names: &[&str]| {
        said(&push(house, text, names).await.unwrap_err()).1.remove(0)
    };
    house.open().await;
    let (four, five, six) =
        (text(&house, 4, 60_000), text(&house, 5, 70_000), text(&house, 6, 80_000));
    push(&house, &five, &["ada", "cyd"]).await.unwrap();
    assert_eq!(refused(&house, &four, &["ada", "cyd"]).await, "policy-follows");
    assert_eq!(refused(&house, &six, &["ada"]).await, "policy-follows", "a recovery");
    assert_eq!(push(&house, &six, &["ada", "cyd"]).await.unwrap().kind, "change");
    assert_eq!(policies(&house).await, ["proposed", "pushed", "withdrawn", "proposed", "pushed"]);
    house.close().await;
    // The same at a start, over the policy file's.
    write(&house, &five, &by(&sign_message(&five), &["ada", "cyd"]));
    house.open().await;
    assert_eq!(house.app().upcoming.proposed().map(|proposed| proposed.version), Some(6));
    house.close().await;
    let seven = text(&house, 7, 90_000);
    write(&house, &seven, &by(&sign_message(&seven), &["ada"]));
    house.open().await;
    assert_eq!(house.app().upcoming.proposed().map(|proposed| proposed.version), Some(6));
    house.close().await;
    write(&house, &seven, &by(&sign_message(&seven), &["ada", "cyd"]));
    house.open().await;
    assert_eq!(house.app().upcoming.proposed().map(|proposed| proposed.version), Some(7));
    // What tightens ends them all, and the file is looked at anew under it.
    let tighter = text(&house, 3, 40_000);
    assert_eq!(push(&house, &tighter, &["eve"]).await.unwrap().kind, "tightening");
    assert_eq!(refused(&house, &five, &["ada", "cyd"]).await, "busy");
    house.close().await;
    house.open().await;
    let app = house.app();
    assert_eq!(app.rules.version(), 3);
    let proposed = app.upcoming.proposed().unwrap();
    assert_eq!((proposed.version, proposed.recovery), (7, false));
    drop(app);
    house.close().await;
}

/// A thief with the keys for a recovery hangs up, or comes while the token is away: their delay does not run unseen.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_is_told_and_shown_also_where_whoever_pushed_it_is_gone_or_the_token_is() {
    let mut house = house_under(recoverable).await;
    let rules = slow_token(&mut house);
    let text = |version, fees| recoverable(text(&house, version, fees));
    let (three, four, five) = (text(3, 60_000), text(4, 70_000), text(5, 40_000));
    house.open().await;
    let mut desk = OfficersClient::new(house.channel("officers-desk").await);
    let mut heard = desk.notifications(NotificationsRequest::default()).await.unwrap().into_inner();
    let mut hears = async || loop {
        let notice = tokio::time::timeout(Duration::from_secs(60), heard.message()).await;
        let notice = notice.expect("nothing is heard").unwrap().unwrap();
        let code = notice.reasons[0].code.clone();
        if !["health", "token"].contains(&code.as_str()) {
            return (notice.kind, code);
        }
    };
    let pair = |kind: &str, code: &str| (kind.to_owned(), code.to_owned());
    // It is written, and waits for a checkpoint.
    fs::write(&rules, "C_Sign always delay=1500\n").unwrap();
    let port = house.running().address().port();
    let channel = house.channel_at(port, "officers-desk").await.unwrap();
    let request =
        PushPolicyRequest { signatures: by(&sign_message(&three), &["ada"]), text: three.clone() };
    let pushing =
        tokio::spawn(
            async move { OfficersClient::new(channel).push_policy(request).await.map(drop) },
        );
    let app = house.app();
    until("the policy to be written", || app.log.read(|ledger| ledger.pushed().is_some())).await;
    pushing.abort();
    assert!(pushing.await.unwrap_err().is_cancelled(), "it waits for the token");
    assert_eq!(hears().await, pair("alarm", "recovery"));
    assert_eq!(hears().await, pair("proposed", "recovery"));
    fs::remove_file(&rules).unwrap();
    let shown = desk.pending(PendingRequest {}).await.unwrap().into_inner().proposed.unwrap();
    assert_eq!((shown.version, shown.kind.as_str()), (3, "recovery"));

    // Written, and not covered.
    fs::write(&rules, "C_Sign always CKR_FUNCTION_FAILED\n").unwrap();
    let refused = push(&house, &four, &["ada", "cyd"]).await.unwrap_err();
    assert_eq!(said(&refused).1, ["token-unavailable"]);
    assert_eq!(hears().await, pair("proposed", "change"));
    assert_eq!(app.open_proposal().map(|proposed| proposed.version), Some(4));
    // What tightens holds from then on, and nobody has a veto over it.
    let refused = push(&house, &five, &["eve"]).await.unwrap_err();
    assert_eq!(said(&refused).1, ["token-unavailable"]);
    assert_eq!(hears().await, pair("proposed", "tightening"));
    assert!(app.gate.is_shut());
    fs::remove_file(&rules).unwrap();
    until("only the policy to be in the way", || {
        app.problem().is_some_and(|why| why.contains("version 5 was handed in"))
    })
    .await;
    let refused = sign_at(&house, port, sweep(&house, 1, 2_000)).await.unwrap_err();
    assert_eq!(said(&refused).1, ["busy"]);
    let (statement, signature) = veto(&house, &five);
    let no = desk.submit(SubmitRequest { statement, signature }).await.unwrap_err();
    assert_eq!(said(&no).1, ["statement-other"]);
    drop((app, desk, heard));
    house.close().await;
    assert_eq!(version(&mut house, 0).await, 5);
}

/// Who was let in before it came does not slip through.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_when_a_tightening_is_pushed_is_neither_decided_nor_released_under_the_old_policy()
 {
    let mut house = house().await;
    let rules = slow_token(&mut house);
    let tighter = text(&house, 3, 1_000);
    house.open().await;
    let app = house.app();
    let (ask, coins) = sweep(&house, 1, 2_000);
    let caller = ClientName::parse("watcher-1").unwrap();
    let mut stream = tokio_stream::iter(parts(ask, &coins).into_iter().map(Ok));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut seen = Seen::default();
    let opened = open(&app, &caller, &mut stream, deadline, &mut seen).await.unwrap();
    let place = app.gate.enter(&caller, None).await.unwrap();
    let (request, jobs) = receive(&app, opened, stream, deadline, &mut seen).await.unwrap();
    // Another is being signed.
    fs::write(&rules, "C_Sign always delay=1500\n").unwrap();
    let port = house.running().address().port();
    let before = house.log_size();
    let signing = sign_at(&house, port, sweep(&house, 2, 2_000));
    let pushing = async {
        until("it to be allowed", || house.log_size() > before).await;
        let pushed = push(&house, &tighter, &["eve"]).await.unwrap();
        assert_eq!(pushed.kind, "tightening");
    };
    let (signed, ()) = tokio::join!(signing, pushing);
    assert_eq!(said(&signed.unwrap_err()).1, ["busy"]);
    fs::remove_file(&rules).unwrap();
    let before = app.log.status().head.size;
    let refused = sign(&app, &request, jobs, place).await.unwrap_err();
    assert_eq!(refused.reason.code(), "busy");
    assert!(refused.text.contains("another policy"), "{refused}");
    assert_eq!(app.log.status().head.size, before, "nothing is written of it");
    drop((request, app));
    house.close().await;
    house.open().await;
    assert_eq!(house.app().rules.version(), 3);
    for number in [1, 2] {
        let (ask, coins) = sweep(&house, number, 2_000);
        let status = house.sign(ask, &coins).await.unwrap_err();
        house.denied(&status, &["fee-budget"]).await;
    }
}

#[tokio::test]
async fn once_a_tightening_came_in_no_officers_yes_counts_by_the_policy_before_it_and_every_no_does()
 {
    let one_lifts = |text: String| format!("unfreeze = \"1 of board\"\n{text}");
    let mut house = house_under(one_lifts).await;
    house.open().await;
    let frozen = word(&house, 1, Says::Freeze(FreezeScope::Everything));
    submit(&house, &frozen).await.unwrap();
    push(&house, &one_lifts(text(&house, 3, 1_000)), &["eve"]).await.unwrap();
    let lifts = word(&house, 2, Says::Unfreeze(frozen.digest()));
    let refused = submit(&house, &lifts).await.unwrap_err();
    assert_eq!(said(&refused).1, ["busy"], "{refused}");
    submit(&house, &word(&house, 3, Says::Freeze(FreezeScope::Evacuation))).await.unwrap();
    house.close().await;
    house.open().await;
    assert_eq!(house.app().rules.version(), 3);
    submit(&house, &lifts).await.unwrap();
    house.close().await;
}

/// Eve's.
fn word(house: &House, nonce: u8, says: Says) -> Statement {
    Statement {
        says,
        log: house.descriptors.log.clone().unwrap(),
        network: asset::Network::Regtest.chain_id().to_string(),
        officer: KeyName::parse("eve").unwrap(),
        expires_unix: later(1).unix_seconds(),
        nonce: [nonce; 16],
    }
}

async fn submit(house: &House, statement: &Statement) -> Result<(), Status> {
    let statement = statement.encode();
    let signature = key("eve").sign(&statement).to_bytes().to_vec();
    let mut desk = OfficersClient::new(house.channel("officers-desk").await);
    desk.submit(SubmitRequest { statement, signature }).await.map(drop)
}

#[tokio::test]
async fn a_file_that_was_vetoed_does_not_take_the_place_of_what_was_pushed() {
    let mut house = house().await;
    house.open().await;
    let (three, four) = (text(&house, 3, 40_000), text(&house, 4, 60_000));
    let digest = Sha256::digest(&three).into();
    let events = vec![
        proposed(3, &three, &["ada", "cyd"]),
        Event::PolicyVetoed { digest, officers: vec!["eve".to_owned()] },
    ];
    house.app().log.commit(|_| Step::write(events, ())).await.unwrap();
    push(&house, &four, &["ada", "cyd"]).await.unwrap();
    house.close().await;
    write(&house, &three, &by(&sign_message(&three), &["eve"]));
    house.open().await;
    let app = house.app();
    assert_eq!(app.rules.version(), 2);
    assert_eq!(app.open_proposal().map(|proposed| proposed.version), Some(4));
    drop(app);
    house.close().await;
}

fn proposed(version: u64, text: &str, officers: &[&str]) -> Event {
    Event::PolicyProposed {
        version,
        digest: Sha256::digest(text).into(),
        text: text.to_owned(),
        officers: officers.iter().map(ToString::to_string).collect(),
        due_unix: later(0).unix_seconds(),
    }
}

/// Another machine took it, and this one has the log now: it does not go on under what was tightened.
#[tokio::test]
async fn a_tightening_that_this_machine_cannot_serve_leaves_nothing_served_and_says_so() {
    let mut house = house().await;
    house.open().await;
    let tighter = text(&house, 3, 40_000)
        + "[[list]]\nname = \"odd\"\nentries = [{ label = \"odd\", address = \"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\" }]\n\
           [[deny]]\nname = \"odd\"\nwhen = { listed = [\"odd\"] }\n";
    let events = vec![
        proposed(3, &tighter, &["eve"]),
        Event::PolicyPushed {
            digest: Sha256::digest(&tighter).into(),
            signatures: by(&sign_message(&tighter), &["eve"]),
            way: "officers-desk".to_owned(),
        },
    ];
    house.app().log.commit(|_| Step::write(events, ())).await.unwrap();
    house.close().await;
    house.open().await;
    let app = house.app();
    assert_eq!(app.rules.version(), 2);
    let problem = app.problem().unwrap();
    assert!(problem.contains("version 3") && problem.contains("odd"), "{problem}");
    let (ask, coins) = sweep(&house, 1, 2_000);
    let refused = house.sign(ask, &coins).await.unwrap_err();
    assert_eq!(said(&refused).1, ["busy"]);
    let mut desk = OfficersClient::new(house.channel("officers-desk").await);
    let shown = desk.pending(PendingRequest {}).await.unwrap().into_inner().proposed.unwrap();
    assert_eq!((shown.version, shown.kind.as_str()), (3, "tightening"));
    let mut heard = desk.notifications(NotificationsRequest::default()).await.unwrap().into_inner();
    let notice = tokio::time::timeout(Duration::from_secs(60), heard.message()).await;
    let notice = notice.expect("nothing is heard").unwrap().unwrap();
    assert_eq!((notice.kind.as_str(), notice.reasons[0].code.as_str()), ("alarm", "unserved"));
    let four = text(&house, 4, 30_000);
    let refused = push(&house, &four, &["eve"]).await.unwrap_err();
    assert_eq!(said(&refused).1, ["policy-follows"]);
    drop((app, desk, heard));
    house.close().await;
}

/// What stops things must come through; what lets something happen waits for a list.
#[tokio::test]
async fn without_a_fresh_revocation_list_what_tightens_comes_in_and_what_loosens_does_not() {
    let mut house = house().await;
    with_list_due(&mut house, -60);
    house.open().await;
    let looser = text(&house, 3, 60_000);
    let refused = push(&house, &looser, &["ada", "cyd"]).await.unwrap_err();
    assert_eq!(said(&refused).1, ["revocation-unknown"]);
    assert_eq!(policies(&house).await, [""; 0]);
    let tighter = text(&house, 3, 40_000);
    assert_eq!(push(&house, &tighter, &["eve"]).await.unwrap().kind, "tightening");
    house.close().await;
    assert_eq!(version(&mut house, 0).await, 3);
}

/// At three in the morning: what lies on the machine may be anything, and the word of those who tighten counts.
#[tokio::test]
async fn a_file_that_may_not_follow_what_was_pushed_keeps_nobody_from_serving_under_it() {
    let mut house = house().await;
    let looser = text(&house, 3, 60_000);
    write(&house, &looser, &by(&sign_message(&looser), &["ada", "eve"]));
    house.open().await;
    assert_eq!(house.app().upcoming.proposed().map(|proposed| proposed.version), Some(3));
    let revoked =
        |text: String| text.replacen("name = \"eve\"\n", "name = \"eve\"\nrevoked = true\n", 1);
    let without = revoked(text(&house, 4, 50_000));
    let taken = push(&house, &without, &["ada", "cyd"]).await.unwrap();
    assert_eq!(taken.kind, "tightening");
    house.close().await;
    assert_eq!(version(&mut house, 0).await, 4);
    assert_eq!(version(&mut house, 60).await, 4);
    // Such a file is told of where nothing was pushed since.
    let five = revoked(text(&house, 5, 50_000));
    write(&house, &five, &by(&sign_message(&five), &["ada", "cyd"]));
    assert_eq!(version(&mut house, 60).await, 5);
    write(&house, &looser, &by(&sign_message(&looser), &["ada", "eve"]));
    let refused = signer::serve::run(&house.config, later(60)).await.err().unwrap();
    assert!(refused.to_string().contains("version 3 does not follow 5"), "{refused}");
}

/// Who is asked before a log is opened, and what is served, is a matter of what was in force here last, whatever the file has become.
#[tokio::test]
async fn a_policy_file_that_is_of_long_ago_broken_or_gone_keeps_nobody_from_serving_what_was_pushed()
 {
    let mut house = house().await;
    house.open().await;
    push(&house, &text(&house, 3, 40_000), &["eve"]).await.unwrap();
    house.close().await;
    assert_eq!(version(&mut house, 0).await, 3);
    let witness = hex::encode(SigningKey::from_bytes(&[77; 32]).verifying_key().to_bytes());
    let stale = format!(
        "witnesses_required = 1\n{}[[witness]]\nname = \"retired-1\"\ned25519 = \"{witness}\"\n",
        text(&house, 2, 50_000)
    );
    write(&house, &stale, &by(&sign_message(&stale), &["ada", "cyd"]));
    assert_eq!(version(&mut house, 0).await, 3, "nobody waits for a witness of long ago");
    // A proposal of the file whose signatures go away is withdrawn: no delay runs on for what nobody is shown.
    let looser = text(&house, 4, 60_000);
    write(&house, &looser, &by(&sign_message(&looser), &["ada", "cyd"]));
    house.open().await;
    assert_eq!(house.app().upcoming.proposed().map(|proposed| proposed.version), Some(4));
    house.close().await;
    fs::remove_file(house.config.policy.with_extension("toml.sig")).unwrap();
    assert_eq!(version(&mut house, 0).await, 3);
    fs::write(&house.config.policy, "version = 4\nnetw").unwrap();
    assert_eq!(version(&mut house, 0).await, 3);
    fs::remove_file(&house.config.policy).unwrap();
    house.open().await;
    assert_eq!(house.app().rules.version(), 3);
    let last = policies(&house).await.split_off(3);
    assert_eq!(last, ["proposed", "withdrawn"]);
}

/// The smallest quorum keeps nobody from governing by handing in one policy after the other.
#[tokio::test]
async fn few_hand_in_little_at_a_time_and_nothing_that_changes_nothing() {
    let mut house = house().await;
    house.open().await;
    let refused = async |house: &House, text: &str, names: &[&str]| {
        let status = push(house, text, names).await.unwrap_err();
        (said(&status).1.remove(0), status.message().to_owned())
    };
    let same = text(&house, 3, 50_000);
    for same in [same.clone(), format!("# As before.\n{same}")] {
        let (code, why) = refused(&house, &same, &["ada", "cyd"]).await;
        assert_eq!(code, "policy-follows");
        assert!(why.contains("changes nothing"), "{why}");
    }
    // What nobody signed is not even read.
    let (code, _) = refused(&house, "no policy at all", &[]).await;
    assert_eq!(code, "policy-follows");
    assert_eq!(policies(&house).await, [""; 0]);
    for (version, fees) in [(3, 49_000), (4, 48_000), (5, 47_000)] {
        let tighter = text(&house, version, fees);
        assert_eq!(push(&house, &tighter, &["eve"]).await.unwrap().kind, "tightening");
        house.close().await;
        house.open().await;
        assert_eq!(house.app().rules.version(), version);
    }
    let tighter = text(&house, 6, 46_000);
    let (code, why) = refused(&house, &tighter, &["eve"]).await;
    assert_eq!(code, "busy");
    assert!(why.contains("try again in"), "{why}");
    // As many as may change anything are never too many.
    assert_eq!(push(&house, &tighter, &["ada", "cyd"]).await.unwrap().kind, "tightening");
    house.close().await;
    assert_eq!(version(&mut house, 0).await, 6);
    house.open_at(later(1)).await;
    settle(&house).await;
    push(&house, &text(&house, 7, 45_000), &["eve"]).await.unwrap();
}

/// What the old policy allowed, and nobody has yet, is decided again by the new one.
#[tokio::test]
async fn what_was_allowed_and_not_released_is_weighed_again_by_a_policy_that_was_pushed() {
    let mut house = house().await;
    house.open().await;
    let app = house.app();
    let (ask, coins) = sweep(&house, 1, 2_000);
    let caller = ClientName::parse("watcher-1").unwrap();
    let mut stream = tokio_stream::iter(parts(ask, &coins).into_iter().map(Ok));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut seen = Seen::default();
    let opened = open(&app, &caller, &mut stream, deadline, &mut seen).await.unwrap();
    let (request, _) = receive(&app, opened, stream, deadline, &mut seen).await.unwrap();
    let granted = Granted {
        request: request.intent().request,
        digest: request.intent().digest,
        policy_version: 2,
        trace: Trace::default(),
    };
    let events =
        vec![Event::Admitted(request.admitted()), Event::Spend(request.spend(&granted, "1"))];
    app.log.commit(|_| Step::write(events, ())).await.unwrap();
    drop((request, app));
    push(&house, &text(&house, 3, 1_000), &["eve"]).await.unwrap();
    house.close().await;
    house.open().await;
    let (ask, coins) = sweep(&house, 1, 2_000);
    let status = house.sign(ask, &coins).await.unwrap_err();
    house.denied(&status, &["fee-budget"]).await;
    let signed = house.entries(0).await.into_iter();
    assert_eq!(signed.filter(|entry| matches!(entry.event, Event::Signed { .. })).count(), 0);
}

/// Its process is killed at another moment each time, from before the log heard of it to after it is in force.
#[tokio::test(flavor = "multi_thread")]
async fn a_signer_that_is_killed_has_the_policy_that_was_pushed_whole_or_has_no_trace_of_it() {
    let mut house = house().await;
    let listen = house.config.listen;
    let mut before = 2;
    let mut outcomes = Vec::new();
    for (round, wait_ms) in [0_u64, 3, 10, 30, 100, 400, 1_500].into_iter().enumerate() {
        let port = free().await.port();
        house.config.listen = format!("127.0.0.1:{port}").parse().unwrap();
        let mut child = process(&house);
        let patient = patience();
        while house.channel_at(port, "officers-desk").await.is_err() {
            patient(&round);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let next = text(&house, before + 1, 50_000 - 1_000 * (before + 1));
        // Of so many one after the other only what the big quorum signs is taken.
        let signed = by(&sign_message(&next), &["ada", "cyd"]);
        let answered = {
            let pushing = push_signed(&house, (port, "officers-desk"), (&next, &signed));
            let dying = async {
                tokio::time::sleep(Duration::from_millis(wait_ms)).await;
                child.kill().unwrap();
                child.wait().unwrap();
            };
            let (answer, ()) = tokio::join!(pushing, dying);
            answer.is_ok()
        };
        house.config.listen = listen;
        house.open().await;
        let app = house.app();
        let found = app.rules.version();
        let entries = kinds(&house.entries(0).await);
        let expected = usize::try_from(found - 2).unwrap();
        let all = ["proposed", "pushed", "activated"].repeat(expected);
        assert_eq!(entries[2..], all, "round {round}");
        assert!(found == before || app.rules.text() == next, "round {round}");
        assert!(!answered || found == before + 1, "round {round}: it was told so");
        assert_eq!(app.upcoming.proposed(), None, "round {round}");
        drop(app);
        house.close().await;
        outcomes.push((wait_ms, answered, found > before));
        before = found;
    }
    println!("killed after ms, answered, in force: {outcomes:?}");
    assert!(outcomes.last().unwrap().2, "{outcomes:?}");
}

fn process(house: &House) -> Child {
    let file = house.folder().join("signer.toml");
    fs::write(&file, settings(house, "", "workers = 2\n", "[limits]\nrequest_seconds = 60\n"))
        .unwrap();
    Command::new(env!("CARGO_BIN_EXE_signer"))
        .arg("--config")
        .arg(&file)
        .arg("serve")
        .stdin(Stdio::null())
        .stderr(fs::File::create(house.folder().join("signer.log")).unwrap())
        .spawn()
        .unwrap()
}
