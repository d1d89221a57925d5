//! The clock in doubt: set while the signer runs, or after it stood still. What must wait comes no nearer until an officer says
//! what time it is, and everything else goes on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use audit::entry::Event;
use signer::ledger::{Doubt, Ledger};
use statement::{Says, TimeIs};

use crate::approving::{Desk, SLOW, clock, sign};
use crate::common::Knobs;
use crate::house::until;
use crate::watching::{ask, free, number};

impl Desk {
    fn doubt(&self) -> Option<Doubt> {
        self.house.app().log.read(Ledger::doubt)
    }

    /// Starts it again after so many seconds.
    async fn stand_still(&mut self, seconds: u64) {
        self.house.close().await;
        self.pass(seconds);
        self.house.open_at(clock(&self.now)).await;
    }

    async fn say_time(
        &self,
        officer: &str,
        unix: u64,
        doubt: u64,
    ) -> Result<String, tonic::Status> {
        self.say(officer, Says::Time(TimeIs { unix, doubt })).await
    }
}

#[tokio::test]
async fn a_clock_that_is_set_while_it_runs_holds_delays_until_an_officer_says_the_time() {
    let mut desk = Desk::new(SLOW).await;
    desk.house.close().await;
    let ahead = Arc::new(AtomicU64::new(0));
    let machine = {
        let (now, ahead) = (Arc::clone(&desk.now), Arc::clone(&ahead));
        move || now.load(Ordering::Relaxed) + ahead.load(Ordering::Relaxed)
    };
    let watched = free().await;
    desk.house.config.metrics = Some(watched);
    desk.house.open_at(clock(&desk.now).beside(machine)).await;
    let payout = desk.payout(1);
    desk.waits(&payout, &["delay"]).await;
    assert_eq!(desk.doubt(), None);
    // A minute is what time services do.
    ahead.store(60_000, Ordering::Relaxed);
    signer::officers::doubt::look(&desk.house.app(), &mut 0).await.unwrap();
    assert_eq!(desk.doubt(), None);
    let page = ask(watched, "GET /metrics HTTP/1.1").await;
    assert_eq!(number(&page, "cofferdam_clock_in_doubt"), 0);
    assert!(number(&page, "cofferdam_pending_oldest_seconds") < 60);
    let before = desk.now();
    ahead.store(3_600_000, Ordering::Relaxed);
    until("a doubt", || desk.doubt().is_some()).await;
    let doubt = desk.doubt().unwrap();
    assert!((before..=desk.now()).contains(&doubt.held_unix), "{doubt:?}");
    desk.pass(4_000);
    desk.waits(&payout, &["delay"]).await;
    let page = ask(watched, "GET /metrics HTTP/1.1").await;
    assert_eq!(number(&page, "cofferdam_clock_in_doubt"), 1);
    assert!((4_000..4_060).contains(&number(&page, "cofferdam_pending_oldest_seconds")));
    let told = desk.pending().await.clock.unwrap();
    assert_eq!((told.entry, told.held_unix), (doubt.seq, doubt.held_unix));

    for (unix, entry) in [(desk.now() + 601, doubt.seq), (desk.now(), doubt.seq + 1)] {
        let wrong = desk.statement("alice", Says::Time(TimeIs { unix, doubt: entry }));
        desk.refused(&wrong, "statement-other").await;
    }
    desk.waits(&payout, &["delay"]).await;
    desk.say_time("alice", desk.now() + 30, doubt.seq).await.unwrap();
    assert_eq!((desk.doubt(), desk.pending().await.clock), (None, None));
    desk.ask(&payout).await.unwrap();
    let page = ask(watched, "GET /metrics HTTP/1.1").await;
    assert_eq!(number(&page, "cofferdam_clock_in_doubt"), 0);
    assert_eq!(number(&page, "cofferdam_pending_oldest_seconds"), 0);
    // Said and done: the two clocks stay apart, and that is no new doubt.
    signer::officers::doubt::look(&desk.house.app(), &mut 3_600_000).await.unwrap();
    let again = desk.statement("alice", Says::Time(TimeIs { unix: desk.now(), doubt: doubt.seq }));
    desk.refused(&again, "statement-nothing").await;
}

/// Also where another signer takes over whose clock is five minutes off: it starts from the same log.
#[tokio::test]
async fn a_limits_window_does_not_shrink_when_the_clock_steps_back() {
    const LIMIT: &[&str] = &["external-limit"];
    let mut desk = Desk::open(&Knobs { limit: 150_000, ..Knobs::default() }).await;
    let begun = desk.now();
    let set = |desk: &Desk, unix: u64| desk.now.store(unix * 1_000, Ordering::Relaxed);
    desk.ask(&desk.payout(1)).await.unwrap();
    // 100,000 of 150,000 sat an hour are gone, whatever the clock says before that hour is over.
    for back in [1, 300, 1_800, 86_400] {
        set(&desk, begun - back);
        desk.denied(&desk.payout(2), LIMIT).await;
    }
    set(&desk, begun - 300);
    desk.reopen().await;
    desk.denied(&desk.payout(2), LIMIT).await;
    set(&desk, begun + 3_300 - 1);
    desk.denied(&desk.payout(2), LIMIT).await;
    // One that is ahead brings the end nearer by as much, and no more.
    desk.pass(300);
    desk.reopen().await;
    desk.denied(&desk.payout(2), LIMIT).await;
    desk.pass(2);
    desk.ask(&desk.payout(2)).await.unwrap();
    desk.denied(&desk.payout(3), LIMIT).await;
}

#[tokio::test]
async fn a_signer_that_stood_still_for_too_long_believes_no_clock() {
    let mut desk = Desk::new(SLOW).await;
    let payout = desk.payout(1);
    desk.waits(&payout, &["delay"]).await;
    // An hour and a half is believed; a second one on the same day is not.
    desk.stand_still(5_400).await;
    assert_eq!(desk.doubt(), None);
    let held = desk.now();
    desk.stand_still(5_400).await;
    let doubt = desk.doubt().unwrap();
    assert!(doubt.held_unix <= held, "{doubt:?}");
    // By its own clock the delay is over since long.
    desk.ask(&payout).await.unwrap();
    let other = desk.payout(2);
    desk.waits(&other, &["delay"]).await;
    desk.pass(4_000);
    desk.waits(&other, &["delay"]).await;
    // It is still in doubt after a restart, by the same entry, and a file settles it as well.
    desk.stand_still(1).await;
    assert_eq!(desk.doubt(), Some(doubt));
    let time = desk.statement("bob", Says::Time(TimeIs { unix: desk.now(), doubt: doubt.seq }));
    let folder = signer::officers::inbox::folder(&desk.house.config.state_dir);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("time.statement"), sign(&time).to_file()).unwrap();
    until("the clock to be believed", || desk.doubt().is_none()).await;
    desk.ask(&other).await.unwrap();
    let believed = desk.house.entries(0).await.into_iter().filter_map(|entry| match entry.event {
        Event::ClockBelieved { doubt, officers, .. } => Some((doubt, officers)),
        _ => None,
    });
    assert_eq!(believed.collect::<Vec<_>>(), [(doubt.seq, vec!["bob".to_owned()])]);
    // What was settled does not count again.
    desk.stand_still(5_400).await;
    assert_eq!(desk.doubt(), None);
    let Event::Opened { checkpoint_key, .. } = desk.house.entries(0).await.remove(0).event else {
        panic!("the log does not begin")
    };
    desk.house.close().await;
    let database = desk.house.config.database_url();
    let key = hex::encode(checkpoint_key);
    let verified = tokio::task::spawn_blocking(move || {
        let arguments = ["officer", "log", "verify", "--database", &database, "--key", &key];
        let parsed = clap::Parser::try_parse_from(arguments).unwrap();
        officer::cli::run(parsed, &mut Vec::new())
    });
    verified.await.unwrap().unwrap();
}

/// A command at the machine opens the log as well: with a clock ahead it brings nothing nearer.
#[tokio::test]
async fn a_command_under_a_clock_ahead_hides_no_time_from_the_start_after_it() {
    let mut desk = Desk::new(SLOW).await;
    let payout = desk.payout(1);
    desk.waits(&payout, &["delay"]).await;
    let token = desk.house.app().token.clone();
    desk.house.close().await;
    desk.pass(3 * 3_600);
    let log = signer::start::open_log(&desk.house.config, &token, clock(&desk.now)).await.unwrap();
    let doubt = log.read(Ledger::doubt).expect("a doubt");
    log.commit(|_| {
        signer::log::Step::write(vec![Event::PinChanged { serial: "t".to_owned() }], ())
    })
    .await
    .unwrap();
    log.close().await.unwrap();
    desk.house.open_at(clock(&desk.now)).await;
    assert_eq!(desk.doubt(), Some(doubt));
    let other = desk.payout(2);
    desk.waits(&other, &["delay"]).await;
    desk.pass(4_000);
    desk.waits(&other, &["delay"]).await;
}

/// A start under a clock that was days ahead leaves the log's time there. Whoever says no is heard all the same, and the right
/// time, said then, lets nothing through that waits.
#[tokio::test]
async fn a_start_with_a_clock_ahead_silences_nobody_and_ends_no_delay() {
    let mut desk = Desk::new(SLOW).await;
    let payout = desk.payout(1);
    desk.waits(&payout, &["delay"]).await;
    let right = desk.now.load(Ordering::Relaxed);
    desk.stand_still(6 * 86_400).await;
    let doubt = desk.doubt().expect("a doubt");
    desk.house.close().await;
    desk.now.store(right + 60_000, Ordering::Relaxed);
    desk.house.open_at(clock(&desk.now).confirmed()).await;
    let time = desk.statement("alice", Says::Time(TimeIs { unix: desk.now(), doubt: doubt.seq }));
    desk.refused(&time, "statement-other").await;
    desk.pass(4_000);
    desk.waits(&payout, &["delay"]).await;
    desk.say("alice", Says::Freeze(policy::evidence::FreezeScope::Everything)).await.unwrap();
}
