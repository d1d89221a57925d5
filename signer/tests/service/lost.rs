//! A state folder that was served from and has no checkpoint any more, on SoftHSM and without any witness: no database is served
//! from it until people say so, and the log says that they did.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::entry::Event;
use signer::administer;
use signer::config::{Config, Limits};
use signer::log::Clock;
use signer::start::{open_log, open_token};
use statement::{Deed, Task};

use crate::administering::{self, Desk};
use crate::anchoring::{a_day, keep, refusal};
use crate::common::Knobs;
use crate::house::House;

const GONE: &str = "its checkpoint is gone";

/// Yesterday's database alone, and no checkpoint that knows better.
fn put_back(config: &Config, yesterday: &Path) {
    let at = |name: &str| config.state_dir.join(name);
    for wal in ["log.sqlite-wal", "log.sqlite-shm"] {
        let _ = fs::remove_file(at(wal));
    }
    fs::copy(yesterday.join("log.sqlite"), at("log.sqlite")).unwrap();
    fs::remove_file(at("checkpoint")).unwrap();
}

/// Why a command at the machine does not open the log.
async fn command(config: &Config) -> Option<String> {
    let token = open_token(config, config.token.alone()).await.unwrap();
    let opened = open_log(config, &token, Clock::system()).await;
    let refused = match opened {
        Ok(log) => {
            log.close().await.unwrap();
            None
        }
        Err(error) => Some(error.to_string()),
    };
    Arc::into_inner(token).unwrap().stop().await;
    refused
}

/// As `signer activate` does it.
async fn activate(config: &Config, files: &[PathBuf], reason: Option<&str>) -> Result<(), String> {
    let token = open_token(config, config.token.alone()).await.unwrap();
    let done = administer::activate_here(config, &token, files, reason).await;
    Arc::into_inner(token).unwrap().stop().await;
    done.map_err(|error| format!("{error:#}"))
}

#[tokio::test]
async fn yesterdays_database_without_the_checkpoint_is_refused_without_a_witness() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    a_day(&mut house).await;
    let yesterday = keep(&house, "yesterday");
    a_day(&mut house).await;
    let config = house.config.clone();
    put_back(&config, &yesterday);
    // Nothing that is refused leaves a checkpoint by which the next one would go on.
    for _ in 0..2 {
        let refused = refusal(&config).await.unwrap();
        assert!(refused.contains(GONE) && refused.contains("signer activate"), "{refused}");
        let refused = command(&config).await.unwrap();
        assert!(refused.contains(GONE), "{refused}");
        assert!(activate(&config, &[], None).await.unwrap_err().contains("--reason"));
    }
    // A folder from which nothing was served is another machine's, or this one's after its disk was lost.
    let kept = fs::read(config.state_dir.join("policy-in-force.toml")).unwrap();
    fs::remove_file(config.state_dir.join("policy-in-force.toml")).unwrap();
    assert_eq!(refusal(&config).await, None);
    assert_eq!(fs::read(config.state_dir.join("policy-in-force.toml")).unwrap(), kept);
}

#[tokio::test]
async fn where_no_officers_are_asked_a_lost_checkpoint_needs_a_reason_that_the_log_says() {
    let mut house = House::closed(&Knobs::default(), Limits::default()).await;
    a_day(&mut house).await;
    let config = house.config.clone();
    let needless = activate(&config, &[], Some("for nothing")).await.unwrap_err();
    assert!(needless.contains("no reason is asked for"), "{needless}");
    fs::remove_file(config.state_dir.join("checkpoint")).unwrap();
    activate(&config, &[], Some("the file system lost it")).await.unwrap();
    assert_eq!(refusal(&config).await, None);
    house.open().await;
    let why = |event: &Event| matches!(event, Event::Waived { safeguard, said } if safeguard == "checkpoint in the state folder" && said.contains("the file system lost it"));
    let entries = house.entries(0).await;
    assert_eq!(entries.iter().filter(|entry| why(&entry.event)).count(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_lost_checkpoint_makes_a_new_site_that_officers_alone_let_serve() {
    let mut house = administering::house().await;
    a_day(&mut house).await;
    let yesterday = keep(&house, "yesterday");
    a_day(&mut house).await;
    let config = house.config.clone();
    let site = || {
        let text = fs::read_to_string(config.state_dir.join("site")).unwrap();
        let mut site = [0; 16];
        hex::decode_to_slice(text.trim_end(), &mut site).unwrap();
        site
    };
    let before = site();
    put_back(&config, &yesterday);
    assert!(refusal(&config).await.unwrap().contains(GONE));
    let alone = activate(&config, &[], Some("I say so")).await.unwrap_err();
    assert!(alone.contains("not a reason"), "{alone}");
    let none = activate(&config, &[], None).await.unwrap_err();
    assert!(none.contains("2 of board"), "{none}");
    let number = site();
    assert!(number != before && none.contains(&hex::encode(number)), "{none}");
    // The log was opened for that, and left a checkpoint: nothing goes on by it.
    assert!(config.state_dir.join("checkpoint").exists());
    assert!(refusal(&config).await.unwrap().contains(GONE));
    assert!(command(&config).await.unwrap().contains(GONE));

    let token = open_token(&config, config.token.alone()).await.unwrap();
    let serial = token.info().serial;
    Arc::into_inner(token).unwrap().stop().await;
    let log = house.descriptors.log.clone().unwrap();
    let mut desk = Desk { folder: house.folder().to_owned(), log, nonce: 0 };
    let of = |site| Task { deed: Deed::Activate(site), token: serial.clone() };
    // Words for what this machine was do not count for what it is.
    let old = ["ada", "eve"].map(|name| desk.file(name, &of(before), |_| {}));
    activate(&config, &old, None).await.unwrap_err();
    let new = ["ada", "eve"].map(|name| desk.file(name, &of(number), |_| {}));
    activate(&config, &new[..1], None).await.unwrap_err();
    assert!(refusal(&config).await.unwrap().contains(GONE));
    activate(&config, &new[1..], None).await.unwrap();
    house.open().await;
    let done = |event: &Event| matches!(event, Event::Administered { what, site: at, .. } if what == "activate" && *at == number);
    let entries = house.entries(0).await;
    assert_eq!(entries.iter().filter(|entry| done(&entry.event)).count(), 1);
    house.close().await;
}

#[tokio::test]
async fn a_restored_site_that_waits_for_its_officers_has_lost_no_checkpoint() {
    let mut house = administering::house().await;
    a_day(&mut house).await;
    let config = house.config.clone();
    for file in ["checkpoint", "site", "policy-in-force.toml"] {
        fs::remove_file(config.state_dir.join(file)).unwrap();
    }
    for _ in 0..2 {
        let refused = refusal(&config).await.unwrap();
        assert!(refused.contains("was not activated"), "{refused}");
    }
    let none = activate(&config, &[], None).await.unwrap_err();
    assert!(none.contains("2 of board"), "{none}");
}
