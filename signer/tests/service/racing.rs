//! Everybody at once for the last of a limit: what is signed is what fits, to the satoshi, and one wallet's token work
//! holds up nobody else's decisions.

use std::fs;
use std::num::NonZeroU8;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use audit::entry::Event;
use proto::signer_client::SignerClient;
use signer::config::Limits;
use signer::log::Clock;
use tokio::sync::Barrier;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::common::{
    Coin, FAR, Knobs, Out, address, coin, header, order, own, psbt, signed, stranger, to,
};
use crate::failing::kill_workers;
use crate::faulty::{prepare_faulty, rule};
use crate::house::{House, parts, said, until};
use crate::postgres::move_to_postgres;
use crate::sweeping::{deposits, verify};

const CALLERS: u64 = 64;
/// What one payment takes from the limit, with its fee.
const PAID: u64 = 30_000;
const FEE: u64 = 1_000;
pub(crate) const EACH: u64 = PAID + FEE;
/// So many fit, and almost one more.
pub(crate) const FIT: u64 = 12;
const LIMIT: u64 = FIT * EACH + EACH - 1;

/// Two wallets, two lanes, two clients, one limit over everything.
pub(crate) fn shared_limit() -> Knobs {
    let more = format!(
        "[[withdraw]]\nname = \"withdraw-2\"\nclients = [\"watcher-1\", \"payout-desk\"]\nwallets = [\"deposits\"]\n\
         order_keys = [\"shop\"]\nper_transaction = \"2 BTC\"\nlimits = [{{ sum = \"50 BTC\", window = \"1h\" }}]\n\
         fee = {{ max_total = \"0.01 BTC\", max_feerate = \"100 sat/vB\", max_percent = \"5%\" }}\n\
         fee_budget = [{{ sum = \"1 BTC\", window = \"1d\" }}]\n\
         [[withdraw]]\nname = \"withdraw-3\"\nclients = [\"payout-desk\"]\nwallets = [\"hot\"]\n\
         order_keys = [\"shop\"]\nper_transaction = \"2 BTC\"\nlimits = [{{ sum = \"50 BTC\", window = \"1h\" }}]\n\
         fee = {{ max_total = \"0.01 BTC\", max_feerate = \"100 sat/vB\", max_percent = \"5%\" }}\n\
         fee_budget = [{{ sum = \"1 BTC\", window = \"1d\" }}]\n\
         [[limit]]\nname = \"everything\"\nby = \"global\"\nwindow = \"1h\"\nsum = \"{LIMIT} sat\"\n"
    );
    Knobs { more, ..Knobs::default() }
}

/// A payment that nobody else asks for: whose, over which lane, what.
pub(crate) struct Payment {
    pub(crate) header: proto::SignHeader,
    pub(crate) coins: [Coin; 1],
}

/// The certificate and the lane of a caller.
pub(crate) fn way(caller: u64) -> (&'static str, &'static str, &'static str) {
    match caller % 4 {
        0 => ("watcher-1", "withdraw", "hot"),
        1 => ("payout-desk", "withdraw-2", "deposits"),
        2 => ("watcher-1", "withdraw-2", "deposits"),
        _ => ("payout-desk", "withdraw-3", "hot"),
    }
}

impl Payment {
    pub(crate) fn new(house: &House, caller: u64, number: u64) -> Self {
        let (_, lane, wallet) = way(caller);
        let descriptor =
            if wallet == "hot" { &house.descriptors.hot } else { &house.descriptors.deposits };
        let coins = [coin(descriptor, false, 1, 500_000, number, 1)];
        let change = own(descriptor, true, 0, 500_000 - EACH);
        let outs: [Out; 2] = [to(stranger(4), PAID), change];
        let wanted = order(&format!("o{number}"), PAID, &address(&stranger(4)), FAR);
        let mut header = header(&format!("k{number}"), lane, wallet, &psbt(&coins, &outs));
        header.orders = vec![signed(&wanted)];
        Self { header, coins }
    }

    /// Whether it was signed; else the limit denied it, and nothing else. Asked again as long as too many ask.
    async fn ask(&self, client: &mut SignerClient<Channel>) -> bool {
        loop {
            let parts = tokio_stream::iter(parts(self.header.clone(), &self.coins));
            match client.sign(parts).await {
                Ok(reply) => {
                    verify(&reply.into_inner().transaction, &self.coins);
                    return true;
                }
                Err(status) if status.code() == Code::ResourceExhausted => {
                    tokio::task::yield_now().await;
                }
                Err(status) => {
                    assert_eq!(said(&status).1, ["policy-denied"], "{status}");
                    return false;
                }
            }
        }
    }
}

fn setting(name: &str, normal: u64) -> u64 {
    std::env::var(name).map_or(normal, |value| value.parse().unwrap())
}

async fn race(mut house: House) {
    let hours = Arc::new(AtomicU64::new(0));
    let clock = {
        let (now, hours) = (Clock::system(), Arc::clone(&hours));
        Clock::from_fn(move || now.unix_ms() + hours.load(Ordering::SeqCst) * 3_600_000)
    };
    house.open_at(clock).await;
    let house = Arc::new(house);
    let mut clients = Vec::new();
    for caller in 0..CALLERS {
        clients.push(house.client(way(caller).0).await);
    }
    let (races, requests) = (setting("COFFERDAM_RACES", 2), setting("COFFERDAM_RACE_REQUESTS", 2));
    for race in 0..races {
        let before = house.log_size();
        let start = Arc::new(Barrier::new(clients.len()));
        let mut racing = tokio::task::JoinSet::new();
        for (caller, mut client) in (0..).zip(clients.clone()) {
            let (house, start) = (Arc::clone(&house), Arc::clone(&start));
            racing.spawn(async move {
                let number = |at| (race * CALLERS + caller) * requests + at;
                let payments = (0..requests).map(|at| Payment::new(&house, caller, number(at)));
                let payments: Vec<_> = payments.collect();
                start.wait().await;
                let mut signed = 0;
                for payment in payments {
                    signed += u64::from(payment.ask(&mut client).await);
                }
                signed
            });
        }
        let signed: u64 = racing.join_all().await.into_iter().sum();
        assert_eq!(signed, FIT, "race {race}: all that fits, and no more");
        let (mut leaves, mut denied) = (0, 0);
        for entry in house.entries(before).await {
            match entry.event {
                Event::Spend(spend) => leaves += spend.fee + spend.external,
                Event::Denied { .. } => denied += 1,
                _ => {}
            }
        }
        assert_eq!(leaves, u128::from(FIT * EACH), "race {race}");
        assert_eq!(denied, CALLERS * requests - FIT, "race {race}");
        // The window is over, and all of the limit is there again.
        hours.fetch_add(2, Ordering::SeqCst);
    }
    println!(
        "{races} races of {CALLERS} callers, {requests} requests each: {FIT} signed each time"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_for_the_last_of_a_limit_is_signed_to_the_satoshi_on_sqlite() {
    race(House::closed(&shared_limit(), Limits::default()).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_race_for_the_last_of_a_limit_is_signed_to_the_satoshi_on_postgres() {
    let mut house = House::closed(&shared_limit(), Limits::default()).await;
    move_to_postgres(&mut house).await;
    race(house).await;
}

/// How long nobody may wait for what somebody else has hanging in the token, for minutes.
const SOON: Duration = Duration::from_secs(20);

/// A house with a faulty token of two workers, at which whatever unwraps a key hangs.
async fn hanging(limits: Limits) -> (Arc<House>, PathBuf) {
    let limits = Limits { request_seconds: 600.try_into().unwrap(), ..limits };
    let mut house = House::closed(&shared_limit(), limits).await;
    house.config.token.batch_seconds_max = NonZeroU8::new(250);
    let folder = prepare_faulty(&mut house);
    house.open().await;
    rule(&folder, "C_UnwrapKey always hang\n");
    (Arc::new(house), folder)
}

/// How often it hung so far.
fn hung(folder: &Path) -> usize {
    let said = fs::read_to_string(folder.join("faults")).unwrap_or_default();
    said.lines().filter(|line| line.contains("hang")).count()
}

/// A sweep of one coin, by the watcher, that hangs as long as the rule is there.
fn hangs(house: &Arc<House>, number: u64) -> tokio::task::JoinHandle<()> {
    let house = Arc::clone(house);
    tokio::spawn(async move {
        let coins = [coin(&house.descriptors.deposits, false, 1, 50_000, 9_000 + number, 1)];
        let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
        let ask = header(&format!("stuck{number}"), "sweep", "deposits", &psbt(&coins, &outs));
        let reply = house.sign(ask, &coins).await.unwrap();
        verify(&reply.transaction, &coins);
    })
}

/// This caller's payment of more than the limit is denied soon, and the denial is covered.
async fn is_denied_soon(house: &House, caller: u64, number: u64) {
    let (client, lane, wallet) = way(caller);
    assert_eq!(wallet, "hot");
    let coins = [coin(&house.descriptors.hot, false, 1, 500_000, number, 1)];
    let outs = [to(stranger(4), 450_000), own(&house.descriptors.hot, true, 0, 49_000)];
    let wanted = order(&format!("o{number}"), 450_000, &address(&stranger(4)), FAR);
    let mut header = header(&format!("k{number}"), lane, wallet, &psbt(&coins, &outs));
    header.orders = vec![signed(&wanted)];
    let answer = tokio::time::timeout(SOON, house.sign_as(client, header, &coins)).await;
    let status = answer.expect("somebody else's work hangs").unwrap_err();
    house.denied(&status, &["limit-sum"]).await;
    let status = house.app().log.status();
    assert_eq!((status.checkpointed, status.checkpoint_problem), (house.log_size(), None));
}

/// What hung is done by new workers.
async fn end_hanging(house: &House, folder: &Path, stuck: Vec<tokio::task::JoinHandle<()>>) {
    assert!(stuck.iter().all(|stuck| !stuck.is_finished()), "it hangs all the while");
    fs::remove_file(folder.join("rules")).unwrap();
    kill_workers(house);
    for stuck in stuck {
        stuck.await.unwrap();
    }
}

/// Every worker that signs transactions hangs over one client's sweeps. Statements are signed, so others are decided, and that
/// client's payments out of another wallet.
#[tokio::test(flavor = "multi_thread")]
async fn while_every_worker_hangs_over_one_wallet_others_are_decided() {
    let (house, folder) = hanging(Limits::default()).await;
    let mut stuck = Vec::new();
    for number in 0..2 {
        stuck.push(hangs(&house, number));
        let so_many = usize::try_from(number).unwrap() + 1;
        until("the sweep to hang in the token", || hung(&folder) == so_many).await;
    }
    is_denied_soon(&house, 3, 100).await;
    is_denied_soon(&house, 0, 101).await;
    end_hanging(&house, &folder, stuck).await;
}

/// One client has more hanging than may be worked on at once, and asks for one of them again. Its payments out of another
/// wallet are decided all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_every_request_hangs_is_answered_for_another_wallet() {
    let concurrent = 4.try_into().unwrap();
    let (house, folder) = hanging(Limits { concurrent, ..Limits::default() }).await;
    let mut stuck = vec![hangs(&house, 0)];
    until("the first to hang in the token", || hung(&folder) == 1).await;
    stuck.push(hangs(&house, 0));
    stuck.extend((1..6).map(|number| hangs(&house, number)));
    // As many of the wallet as a client may have places; the others wait.
    until("all to be in", || house.app().gate.crowd() == (3, 4)).await;
    for number in 0..3 {
        is_denied_soon(&house, 0, 200 + number).await;
        is_denied_soon(&house, 3, 300 + number).await;
    }
    assert_eq!(house.app().gate.crowd(), (3, 4));
    end_hanging(&house, &folder, stuck).await;
}

/// A sweep's token work hangs, for as long as the test likes: others are decided, denied and signed meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn token_work_of_one_wallet_that_hangs_holds_up_no_other() {
    let mut house = House::closed(&shared_limit(), Limits::default()).await;
    house.config.token.batch_seconds_max = NonZeroU8::new(250);
    house.config.limits.request_seconds = 600.try_into().unwrap();
    let folder = prepare_faulty(&mut house);
    house.open().await;
    let house = Arc::new(house);
    // Statements are signed without it: what hangs is the sweep.
    rule(&folder, "C_UnwrapKey once hang\n");
    let stuck: tokio::task::JoinHandle<Result<Vec<u8>, Status>> = tokio::spawn({
        let house = Arc::clone(&house);
        async move {
            let coins = deposits(&house, 1);
            let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
            let ask = header("stuck", "sweep", "deposits", &psbt(&coins, &outs));
            let reply = house.sign(ask, &coins).await?;
            verify(&reply.transaction, &coins);
            Ok(reply.transaction)
        }
    });
    let hangs =
        || fs::read_to_string(folder.join("faults")).is_ok_and(|said| said.contains("hang"));
    until("the sweep to hang in the token", hangs).await;
    let mut client = house.client("payout-desk").await;
    // The sweep's fee is reserved already; of the limit the rest is left.
    let mut signed = 0;
    for number in 0..FIT + 2 {
        signed += u64::from(Payment::new(&house, 3, 100 + number).ask(&mut client).await);
    }
    assert_eq!(signed, (LIMIT - 1_000) / EACH);
    assert!(!stuck.is_finished(), "it hangs all the while");
    // Its worker gone, another one takes the sweep up.
    kill_workers(&house);
    stuck.await.unwrap().unwrap();
}
