//! What those see who watch: numbers that move, and three yes-or-no answers.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::approving::{Desk, SLOW, clock, people};
use crate::common::{Knobs, coin, header, own, psbt};
use crate::house::{House, until};
use signer::config::Limits;

pub(crate) async fn ask(address: SocketAddr, line: &str) -> String {
    let mut io = TcpStream::connect(address).await.unwrap();
    io.write_all(format!("{line}\r\nHost: here\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    let _ = io.read_to_string(&mut text).await;
    text
}

/// An address that is free; somebody else may take it before it is used, which the test would say.
pub(crate) async fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

pub(crate) fn number(page: &str, name: &str) -> u64 {
    let line = page.lines().find(|line| line.split(' ').next() == Some(name));
    line.unwrap_or_else(|| panic!("no {name} in {page}"))
        .split(' ')
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

/// Asks for the page until a number is as it should be.
pub(crate) async fn until_number(address: SocketAddr, name: &str, is: impl Fn(u64) -> bool) {
    let begun = std::time::Instant::now();
    loop {
        let found = number(&ask(address, "GET /metrics HTTP/1.1").await, name);
        if is(found) {
            return;
        }
        assert!(begun.elapsed() < std::time::Duration::from_secs(60), "{name} stays {found}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

fn limits_are_as_full_as_they_are(page: &str) {
    let ratio = |rule: &str, limit: &str| {
        let start =
            format!("cofferdam_limit_used_ratio{{rule=\"{rule}\",limit=\"{limit}\",seconds=\"");
        let line = page.lines().find(|line| line.starts_with(&start)).map(str::to_owned);
        line.unwrap_or_else(|| panic!("no {limit} in {page}"))
            .split(' ')
            .next_back()
            .unwrap()
            .to_owned()
    };
    assert_eq!(ratio("fee-budget", "lane sweep"), "1", "1,000 sat of 1,000");
    assert_eq!(ratio("fee-budget", "lane withdraw"), "0");
    assert_eq!(ratio("external-limit", "lane withdraw"), "0");
    assert_eq!(ratio("limit-sum", "each-client"), "0.5", "1,000 sat of 2,000");
    assert_eq!(ratio("limit-count", "each-client"), "0", "one of four");
}

#[tokio::test]
async fn numbers_move_and_name_nobody() {
    let more = "[[limit]]\nname = \"each-client\"\nwindow = \"1d\"\nby = \"client\"\nsum = \"2000 sat\"\ncount = 4\n";
    let knobs = Knobs { fee_budget: 1_000, more: more.into(), ..Knobs::default() };
    let mut house = House::closed(&knobs, Limits::default()).await;
    let address = free().await;
    house.config.metrics = Some(address);
    house.open().await;
    for (key, salt, out) in [("a", 1, 49_000), ("b", 2, 49_000), ("c", 3, 50_000)] {
        let coins =
            [coin(&house.descriptors.deposits, false, salt, 50_000, 600 + u64::from(salt), 1)];
        let outs = [own(&house.descriptors.cold, false, 0, out)];
        let _ = house.sign(header(key, "sweep", "deposits", &psbt(&coins, &outs)), &coins).await;
    }
    let page = ask(address, "GET /metrics HTTP/1.1").await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    for (name, expected) in [
        ("cofferdam_decisions_total{outcome=\"signed\",code=\"fresh\"}", 1),
        ("cofferdam_decisions_total{outcome=\"denied\",code=\"fee-budget\"}", 1),
        ("cofferdam_decisions_total{outcome=\"refused\",code=\"no-fee\"}", 1),
        ("cofferdam_sign_seconds_count", 3),
        ("cofferdam_token_seconds_count", 1),
        ("cofferdam_token_errors_total", 0),
        ("cofferdam_ready", 1),
        ("cofferdam_live", 1),
        ("cofferdam_token_ready", 1),
        ("cofferdam_crl_used", 0),
        ("cofferdam_clients_locked", 0),
        ("cofferdam_policy_version", 2),
        ("cofferdam_log_entries", house.log_size()),
        ("cofferdam_log_unread_entries", 0),
        ("cofferdam_recovery_proposed", 0),
        ("cofferdam_policy_due_unix_seconds", 0),
        ("cofferdam_pending_requests", 0),
        ("cofferdam_freezes", 0),
        ("cofferdam_witnesses_required", 0),
        ("cofferdam_limits_not_shown", 0),
    ] {
        assert_eq!(number(&page, name), expected, "{name}");
    }
    limits_are_as_full_as_they_are(&page);
    assert!(number(&page, "cofferdam_certificate_expires_unix_seconds") > 1_700_000_000);
    assert!(number(&page, "cofferdam_connections_taken_total") >= 3);
    // Names of limits and lanes, and nobody's.
    for name in ["watcher-1", "deposits", "bcrt1", "alice", "shop", "payout"] {
        assert!(!page.contains(name), "{name}");
    }
    // The heart goes on beating.
    let first = number(&page, "cofferdam_heartbeat_unix_seconds");
    loop {
        let page = ask(address, "GET /metrics HTTP/1.0").await;
        if number(&page, "cofferdam_heartbeat_unix_seconds") > first {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    for (line, answer) in [
        ("GET /live HTTP/1.1", "HTTP/1.1 200"),
        ("GET /ready HTTP/1.1", "HTTP/1.1 200"),
        ("GET /token HTTP/1.1", "HTTP/1.1 200"),
        ("GET / HTTP/1.1", "HTTP/1.1 404"),
        ("POST /metrics HTTP/1.1", "HTTP/1.1 404"),
    ] {
        assert!(ask(address, line).await.starts_with(answer), "{line}");
    }
    // Longer than any question: hung up on.
    let long = ask(address, &format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(8_192))).await;
    assert_eq!(long, "");
    house.close().await;
    until("the address to be free", || std::net::TcpListener::bind(address).is_ok()).await;
}

/// A limit that one sweep uses up, a denial and a delay, each by the policy's own name.
#[tokio::test]
async fn decisions_are_counted_by_the_names_of_the_policys_rules() {
    const RULES: &str = "[[limit]]\nname = \"one-a-day\"\nlanes = [\"sweep\"]\nwindow = \"1d\"\nby = \"client\"\ncount = 1\n\
        [[limit]]\nname = \"one-a-week\"\nlanes = [\"sweep\"]\nwindow = \"7d\"\nby = \"client\"\ncount = 1\n\
        [[deny]]\nname = \"nobody-pays\"\nwhen = { lanes = [\"withdraw\"] }\n";
    let mut desk = Desk::open_with(&people(&[RULES, SLOW].concat()), |_| ()).await;
    let address = free().await;
    desk.house.close().await;
    desk.house.config.metrics = Some(address);
    desk.house.open_at(clock(&desk.now)).await;
    let house = &desk.house;
    for (key, salt) in [("a", 1), ("b", 2), ("c", 3)] {
        let coins =
            [coin(&house.descriptors.deposits, false, salt, 50_000, 600 + u64::from(salt), 1)];
        let outs = [own(&house.descriptors.cold, false, 0, 49_000)];
        let _ = house.sign(header(key, "sweep", "deposits", &psbt(&coins, &outs)), &coins).await;
    }
    desk.ask(&desk.payout(1)).await.unwrap_err();
    let page = ask(address, "GET /metrics HTTP/1.1").await;
    let by = |outcome: &str, code: &str, rule: &str| {
        let name = "cofferdam_decisions_by_rule_total";
        format!("{name}{{outcome=\"{outcome}\",code=\"{code}\",rule=\"{rule}\"}}")
    };
    for (name, expected) in [
        (by("denied", "limit-count", "one-a-day"), 2),
        (by("denied", "limit-count", "one-a-week"), 2),
        (by("denied", "deny-rule", "nobody-pays"), 1),
        ("cofferdam_decisions_total{outcome=\"denied\",code=\"limit-count\"}".to_owned(), 2),
    ] {
        assert_eq!(number(&page, &name), expected, "{name}");
    }
    // Rules that were kept, and what a request said of itself, have no line.
    let lines = page.lines().filter(|line| line.starts_with("cofferdam_decisions_by_rule_total{"));
    assert_eq!(lines.count(), 3, "{page}");
}

#[tokio::test]
async fn what_waits_is_counted_by_the_names_of_the_policys_rules() {
    let mut desk = Desk::new(SLOW).await;
    let address = free().await;
    desk.house.close().await;
    desk.house.config.metrics = Some(address);
    desk.house.open_at(clock(&desk.now)).await;
    desk.waits(&desk.payout(1), &["delay"]).await;
    let page = ask(address, "GET /metrics HTTP/1.1").await;
    let name =
        "cofferdam_decisions_by_rule_total{outcome=\"waiting\",code=\"delay\",rule=\"slow\"}";
    assert_eq!(number(&page, name), 1);
}

#[tokio::test]
async fn a_signer_that_only_refuses_is_alive_and_not_ready() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    std::fs::write(house.config.token.pin_file.as_ref().unwrap(), "000000").unwrap();
    let address = free().await;
    house.config.metrics = Some(address);
    house.open().await;
    assert!(ask(address, "GET /live HTTP/1.1").await.starts_with("HTTP/1.1 200"));
    assert!(ask(address, "GET /ready HTTP/1.1").await.starts_with("HTTP/1.1 503"));
    assert!(ask(address, "GET /token HTTP/1.1").await.starts_with("HTTP/1.1 503"));
    assert_eq!(number(&ask(address, "GET /metrics HTTP/1.1").await, "cofferdam_ready"), 0);
}
