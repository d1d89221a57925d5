//! What officers take back of what is signed and waits for a witness: a no, a veto, the approval that it had. It is given to nobody
//! any more, by no call, also after a restart; what was let out is called back by nothing.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use officer::witness::memory::Memory;
use policy::intent::RequestId;
use proto::officers_client::OfficersClient;
use proto::{
    Notification, NotificationsRequest, PendingReply, PendingRequest, ShowRequest, Standing,
    Withheld,
};
use signer::ledger::Given;
use statement::{About, PolicyRef, Says, Statement};
use tokio::task::JoinHandle;
use tonic::{Code, Status, Streaming};

use crate::approving::{Desk, Payout, people};
use crate::house::{said, standing, until};
use crate::withheld::{
    ask, ask_witnessed, invoice, is_withheld, slow_token, statement, submit, told,
};
use crate::witnessing::Scene;

const ASKED: &str = "[[require]]\nname = \"asked\"\nwhen = { lanes = [\"withdraw\"] }\n\
    approvals = \"1 of treasury\"\n";

/// A signer with a witness that comes and goes, and a token that takes its time.
struct Stage {
    scene: Scene,
    rules: PathBuf,
    witness: JoinHandle<anyhow::Result<()>>,
    number: u64,
}

impl Stage {
    async fn new() -> Self {
        let mut scene = Box::pin(Scene::with(1, people(ASKED))).await;
        let rules = slow_token(&mut scene.house);
        scene.serve();
        let witness = scene.witness("w1");
        Self { scene, rules, witness, number: 0 }
    }

    fn seen(&self) -> u64 {
        Memory::open(&self.scene.house.folder().join("w1")).unwrap().size()
    }

    async fn pending(&self) -> PendingReply {
        let begun = Instant::now();
        loop {
            let channel = self.scene.channel("officers-desk").await;
            match OfficersClient::new(channel).pending(PendingRequest {}).await {
                Ok(reply) => return reply.into_inner(),
                Err(status) => assert!(begun.elapsed() < Duration::from_secs(90), "{status:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn about(&self) -> About {
        let pending = self.pending().await;
        assert_eq!(pending.waiting.len(), 1, "{:?}", pending.waiting);
        let waiting = &pending.waiting[0];
        About {
            request: RequestId(waiting.request_id.clone().try_into().unwrap()),
            intent: waiting.intent_digest.clone().try_into().unwrap(),
            policy: PolicyRef {
                version: pending.policy_version,
                digest: pending.policy_digest.try_into().unwrap(),
            },
        }
    }

    /// Until a witness saw it.
    async fn say(&self, officer: &str, says: Says) -> Statement {
        let statement = statement(&self.scene, officer, says);
        let begun = Instant::now();
        while let Err(status) = submit(&self.scene, &statement).await {
            let code = said(&status).1;
            if code == ["statement-used"] {
                break;
            }
            assert_eq!(code, ["witness-unavailable"]);
            assert!(begun.elapsed() < Duration::from_secs(90), "{status:?}");
        }
        statement
    }

    /// The next payout, approved by these, is signed while the witness is away.
    async fn signs_unseen(&mut self, approving: &[&str]) -> (About, Vec<[u8; 32]>) {
        self.number += 1;
        let waits = ask_witnessed(&self.scene, self.number).await.unwrap_err();
        assert_eq!(said(&waits).1, ["waiting", "approvals"]);
        let about = self.about().await;
        let mut approvals = Vec::new();
        for officer in approving {
            approvals.push(self.say(officer, Says::Approve(about)).await.digest());
        }
        let before = self.seen();
        fs::write(&self.rules, "C_Sign always delay=1000\n").unwrap();
        let leaving = async {
            while self.seen() < before + 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            self.witness.abort();
        };
        let (asked, ()) = tokio::join!(ask(&self.scene, self.number), leaving);
        assert_eq!(said(&asked.unwrap_err()).1, ["witness-unavailable"]);
        (about, approvals)
    }

    /// It is heard, also where nobody can be told so yet.
    async fn heard(&self, officer: &str, says: Says) {
        let heard = submit(&self.scene, &statement(&self.scene, officer, says)).await;
        assert_eq!(said(&heard.unwrap_err()).1, ["witness-unavailable"]);
    }

    async fn listener(&self) -> Streaming<Notification> {
        let mut client = OfficersClient::new(self.scene.channel("officers-desk").await);
        client.notifications(NotificationsRequest::default()).await.unwrap().into_inner()
    }

    /// The witness is there again: what comes of the payout.
    async fn comes_back(&mut self) -> Result<Vec<u8>, Status> {
        let _ = fs::remove_file(&self.rules);
        self.witness = self.scene.witness("w1");
        ask_witnessed(&self.scene, self.number).await
    }

    async fn restart(&mut self) {
        self.scene.end().await;
        self.scene.serve();
    }

    async fn end(mut self) {
        self.scene.end().await;
        self.witness.abort();
    }
}

fn is_denied(status: &Status) {
    assert_eq!(said(status), (Code::PermissionDenied, vec!["policy-denied".to_owned()]));
}

/// What officers say of a request and the approvals that it had.
type Word = fn(About, &[[u8; 32]]) -> Says;

const WORDS: [(&str, &str, Word); 3] = [
    ("rejected", "bob", |about, _| Says::Reject(about)),
    ("vetoed", "dan", |about, _| Says::Veto(about)),
    ("revoked", "alice", |_, approvals| Says::Revoke(approvals[0])),
];

#[tokio::test(flavor = "multi_thread")]
async fn a_no_and_a_revoked_approval_hold_back_for_good_what_is_signed_and_waits_for_a_witness() {
    let mut stage = Stage::new().await;
    let mut held = Vec::new();
    for (code, officer, word) in [WORDS[0], WORDS[2]] {
        // Now and then the witness goes before it is signed.
        let begun = stage.number;
        let about = loop {
            let (about, approvals) = stage.signs_unseen(&["alice"]).await;
            let mut listener = stage.listener().await;
            let word = word(about, &approvals);
            let verb = word.verb();
            stage.heard(officer, word).await;
            // Whoever listens knows it at once: nothing tells it later.
            is_told(&mut listener, "said", verb, &about).await;
            let status = stage.comes_back().await.unwrap_err();
            if standing(&status) == Standing::Signed {
                is_denied(&status);
                is_told(&mut listener, "withheld", code, &about).await;
                break about;
            }
            if code == "revoked" {
                stage.say("bob", Says::Reject(about)).await;
            }
            assert!(stage.number < begun + 5, "it was never signed before the witness went");
        };
        let order = invoice(stage.number);
        is_withheld(&told(stage.scene.channel("watcher-1").await, &order).await);
        held.push((code, stage.number, about));
    }
    stage.restart().await;
    for (code, number, about) in held {
        let status = ask_witnessed(&stage.scene, number).await.unwrap_err();
        is_denied(&status);
        assert_eq!(standing(&status), Standing::Signed, "{code}");
        is_withheld(&told(stage.scene.channel("watcher-1").await, &invoice(number)).await);
        is_shown(&stage.pending().await, code, &about);
    }
    stage.end().await;
}

/// Among what else happens.
async fn is_told(heard: &mut Streaming<Notification>, kind: &str, code: &str, about: &About) {
    let wanted = async {
        loop {
            let notice = heard.message().await.unwrap().unwrap();
            if notice.kind == kind {
                return notice;
            }
        }
    };
    let notice = tokio::time::timeout(Duration::from_secs(60), wanted).await.expect(kind);
    assert_eq!(notice.reasons[0].code, code, "{notice:?}");
    if kind == "withheld" {
        assert_eq!(notice.request_id, about.request.0, "{notice:?}");
        assert_eq!((notice.wallet.as_str(), notice.tier.as_str()), ("hot", "token-hd"));
    }
}

fn is_shown(pending: &PendingReply, code: &str, about: &About) -> Withheld {
    let is = |one: &&Withheld| one.request_id == about.request.0;
    let shown = pending.withheld.iter().find(is).unwrap();
    assert_eq!(shown.reason.as_ref().unwrap().code, code);
    assert_eq!((shown.wallet.as_str(), shown.tier.as_str()), ("hot", "token-hd"));
    assert!(!shown.may_have_left && pending.waiting.is_empty(), "{pending:?}");
    shown.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_signed_goes_on_where_enough_others_approve_it() {
    let mut stage = Stage::new().await;
    let (_, approvals) = stage.signs_unseen(&["alice", "dan"]).await;
    stage.heard("alice", Says::Revoke(approvals[0])).await;
    stage.comes_back().await.unwrap();
    assert_eq!(stage.pending().await.withheld, []);
    stage.end().await;
}

const VETOED: &str = "[[require]]\nname = \"asked\"\nwhen = { lanes = [\"withdraw\"] }\n\
    approvals = \"1 of treasury\"\ndelay = \"60s\"\nveto = \"risk\"\n";

/// One that waited long enough, and is approved by alice.
async fn approved(desk: &Desk, payout: &Payout) -> (About, Vec<[u8; 32]>) {
    desk.waits(payout, &["approvals", "delay"]).await;
    desk.pass(61);
    let about = desk.about().await;
    let approval = desk.statement("alice", Says::Approve(about));
    desk.submit(&approval).await.unwrap();
    (about, vec![approval.digest()])
}

/// Without witnesses there is the moment until the token covered it, which takes its time here.
#[tokio::test(flavor = "multi_thread")]
async fn every_word_comes_in_time_until_the_signature_is_covered_and_calls_its_order_off_if_it_is_a_no()
 {
    let mut rules = PathBuf::new();
    let knobs = people(VETOED);
    let mut desk = Desk::open_with(&knobs, |house| rules = slow_token(house)).await;
    let mut number = 0;
    let mut held = Vec::new();
    for (code, officer, word) in WORDS {
        let (payout, about) = loop {
            number += 1;
            assert!(number < 9, "it always was covered before the word came");
            let payout = desk.payout(number);
            let (about, approvals) = approved(&desk, &payout).await;
            let said = desk.statement(officer, word(about, &approvals));
            fs::write(&rules, "C_Sign always delay=1000\n").unwrap();
            let app = desk.house.app();
            let is_signed = || app.log.read(|l| l.given(about.request) == Given::Signed);
            let taking_back = async {
                until("it is signed", is_signed).await;
                desk.submit(&said).await
            };
            let (asked, heard) = tokio::join!(desk.ask(&payout), taking_back);
            fs::remove_file(&rules).unwrap();
            let Err(status) = asked else {
                assert_eq!(said_codes(&heard.unwrap_err()), ["statement-nothing"]);
                continue;
            };
            heard.unwrap();
            is_denied(&status);
            assert_eq!(standing(&status), Standing::Signed);
            break (payout, about);
        };
        held.push((code, payout, about));
    }
    desk.reopen().await;
    let pending = desk.pending().await;
    for (code, payout, about) in held {
        let status = desk.ask(&payout).await.unwrap_err();
        is_denied(&status);
        assert_eq!(standing(&status), Standing::Signed);
        let shown = is_shown(&pending, code, &about);
        let request = ShowRequest { request_id: about.request.0.to_vec() };
        let exhibit = desk.client().await.show(request).await.unwrap().into_inner();
        assert_eq!(exhibit.withheld, Some(shown));
        assert!(!exhibit.intent.is_empty());
        // Said once more it holds nothing, and lifts nothing.
        desk.refused(&desk.statement("bob", Says::Reject(about)), "statement-nothing").await;
        desk.refused(&desk.statement("bob", Says::Approve(about)), "statement-nothing").await;
        // Under another key, with the same coin.
        let again = Payout { key: format!("{}-again", payout.key), change: 1, ..payout };
        let status = desk.ask(&again).await.unwrap_err();
        match code {
            "revoked" => {
                assert_eq!(said_codes(&status)[0], "waiting", "it may be approved anew");
                let no = Says::Reject(desk.about().await);
                desk.submit(&desk.statement("bob", no)).await.unwrap();
            }
            code => desk.house.denied(&status, &[code]).await,
        }
        // A new order for the same payee is paid with the same coin: the two can never pay both.
        let key = format!("{}-anew", again.key);
        let anew = Payout { key, order: desk.payout(number + 1).order, change: 2, ..again };
        number += 1;
        approved(&desk, &anew).await;
        desk.ask(&anew).await.unwrap();
    }
}

fn said_codes(status: &Status) -> Vec<String> {
    said(status).1
}

#[tokio::test]
async fn what_was_let_out_is_taken_back_by_nobody() {
    let desk = Desk::new(VETOED).await;
    let payout = desk.payout(1);
    let (about, approvals) = approved(&desk, &payout).await;
    let transaction = desk.ask(&payout).await.unwrap();
    for (_, officer, word) in WORDS {
        desk.refused(&desk.statement(officer, word(about, &approvals)), "statement-nothing").await;
    }
    assert_eq!(desk.ask(&payout).await.unwrap(), transaction);
}
