//! Files that change while the service runs: good ones at once and without a lost call, bad ones never.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mtls::{TlsFiles, Turned};
use rcgen::SerialNumber;

use crate::house::{House, PLACES, SOON, check};
use crate::pki::{Authority, authority, client, put};

/// Server files with an empty list.
fn with_list(ours: &Authority, dir: &Path) -> TlsFiles {
    let mut files = ours.files(dir, "signer", true, &ours.pem);
    let crl = dir.join("crl.pem");
    put(&crl, &ours.list(&[], -10, 7));
    files.crl = Some(crl);
    files
}

fn numbered(ours: &Authority, dir: &Path, name: &str, serial: u64) -> TlsFiles {
    let files = ours.files(dir, name, false, &ours.pem);
    let mut params = client(&[name]);
    params.serial_number = Some(SerialNumber::from(serial));
    ours.write(&files, &params);
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_replaced_under_load_without_a_failed_call() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (authority("old"), authority("new"));
    let server = with_list(&old, dir.path());
    let house = Arc::new(House::open(&server, PLACES).await);
    let both = format!("{}{}", old.pem, new.pem);
    // Clients that know both authorities, by the old one now; each call on a new connection, or all on one.
    let by_old = old.files(dir.path(), "watcher-1", false, &both);
    let by_new = new.files(dir.path(), "watcher-2", false, &both);
    let use_new = Arc::new(AtomicBool::new(false));
    let (calls, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let caller = |lasting: bool| {
        let (house, calls, stop) = (Arc::clone(&house), Arc::clone(&calls), Arc::clone(&stop));
        let (by_old, by_new, use_new) = (by_old.clone(), by_new.clone(), Arc::clone(&use_new));
        tokio::spawn(async move {
            let mut current = None;
            while !stop.load(Ordering::Relaxed) {
                let moved = use_new.load(Ordering::Relaxed);
                let files = if moved { &by_new } else { &by_old };
                if !current.as_ref().is_some_and(|(with_new, _)| lasting && *with_new == moved) {
                    current = Some((moved, house.client(files).await.unwrap()));
                }
                check(&mut current.as_mut().unwrap().1, "").await.unwrap();
                calls.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let callers = [caller(false), caller(false), caller(true)];
    let some_calls = async || {
        let wanted = calls.load(Ordering::Relaxed) + 15;
        house
            .until("calls to go on", |_| {
                callers.iter().any(tokio::task::JoinHandle::is_finished)
                    || calls.load(Ordering::Relaxed) >= wanted
            })
            .await;
    };
    let crl = server.crl.clone().unwrap();
    let changed = async || {
        assert!(house.server.look(), "the new files work");
        some_calls().await;
    };
    some_calls().await;
    // Our own certificate, by the same authority and then by the new one.
    for by in [&old, &new] {
        let mut params = client(&["signer"]);
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
        by.write(&server, &params);
        changed().await;
    }
    // A newer list, then one of the new authority beside it, then that authority.
    put(&crl, &old.list(&[1], -5, 7));
    changed().await;
    put(&crl, &format!("{}{}", old.list(&[1], -5, 7), new.list(&[], -5, 7)));
    changed().await;
    put(&server.ca, &both);
    changed().await;
    // Clients move over; then the old one goes.
    use_new.store(true, Ordering::Relaxed);
    some_calls().await;
    let moved = calls.load(Ordering::Relaxed) + 30;
    house
        .until("everybody to have moved", |_| {
            callers.iter().any(tokio::task::JoinHandle::is_finished)
                || calls.load(Ordering::Relaxed) >= moved
        })
        .await;
    put(&server.ca, &new.pem);
    changed().await;
    stop.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(house.call(&by_old, "").await.is_err(), "the old authority is gone");
    assert!(house.seen().len() >= 100);
}

#[tokio::test]
async fn a_revoked_clients_connection_ends_and_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let server = with_list(&ours, dir.path());
    let house = House::open(&server, PLACES).await;
    let (good, bad) =
        (numbered(&ours, dir.path(), "good", 1), numbered(&ours, dir.path(), "bad", 2));
    let mut good = house.client(&good).await.unwrap();
    let mut revoked = house.client(&bad).await.unwrap();
    check(&mut good, "").await.unwrap();
    check(&mut revoked, "").await.unwrap();
    assert_eq!(house.server.connected(), 2);
    put(&server.crl.clone().unwrap(), &ours.list(&[2], -1, 7));
    // As it runs in service: nobody says that there is a new file.
    let watching = tokio::spawn(Arc::clone(&house.server).watch());
    house.until("the revoked client's end", |house| house.server.connected() == 1).await;
    // A call that met the end of the old connection has not come back yet.
    let turned_away = async {
        while house.turned(Turned::Revoked) < 1 {
            check(&mut revoked, "").await.unwrap_err();
        }
    };
    tokio::time::timeout(SOON, turned_away).await.unwrap();
    check(&mut good, "").await.unwrap();
    assert_eq!(house.seen(), ["good", "bad", "good"]);
    watching.abort();
}

#[tokio::test]
async fn unknown_revocation_stops_everything_but_a_freeze() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let impostor = authority("ours");
    let lists = [
        ("expired", ours.list(&[], -10, -1)),
        ("expired and revoking", ours.list(&[2], -10, -1)),
        ("another's", other.list(&[], -1, 7)),
        ("forged", impostor.list(&[1], -1, 7)),
        ("no list", "nothing".to_owned()),
        ("missing", String::new()),
    ];
    for (name, list) in lists {
        let dir = dir.path().join(name);
        std::fs::create_dir(&dir).unwrap();
        let mut server = ours.files(&dir, "signer", true, &ours.pem);
        server.crl = Some(dir.join("crl.pem"));
        if !list.is_empty() {
            put(&dir.join("crl.pem"), &list);
        }
        let house = House::open(&server, PLACES).await;
        let officer = numbered(&ours, &dir, "officer-1", 1);
        let refused = house.call(&officer, "").await.unwrap_err();
        assert!(refused.contains("Unavailable: revocation-unknown"), "{name}: {refused}");
        house.call(&officer, "freeze").await.unwrap();
        assert_eq!(house.seen(), ["officer-1"], "{name}");
        // Who is known to be revoked freezes nothing, however old the list.
        let revoked = house.call(&numbered(&ours, &dir, "officer-2", 2), "freeze").await;
        assert_eq!(revoked.is_err(), name == "expired and revoking", "{name}: {revoked:?}");
        // A fresh list opens the same connections again.
        let mut lasting = house.client(&officer).await.unwrap();
        check(&mut lasting, "").await.unwrap_err();
        put(&dir.join("crl.pem"), &ours.list(&[], -1, 7));
        assert!(house.server.look(), "{name}");
        check(&mut lasting, "").await.unwrap();
    }
}

#[tokio::test]
async fn an_intermediate_needs_a_list_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority("ours");
    let server = with_list(&ours, dir.path());
    let house = House::open(&server, PLACES).await;
    let below = ours.below("between", rcgen::BasicConstraints::Constrained(0));
    let client = below.files(dir.path(), "watcher-1", false, &ours.pem);
    let leaf = std::fs::read_to_string(&client.certificate).unwrap();
    put(&client.certificate, &format!("{leaf}{}", below.pem));
    let refused = house.call(&client, "").await.unwrap_err();
    assert!(refused.contains("revocation-unknown"), "{refused}");
    let lists = format!("{}{}", ours.list(&[], -1, 7), below.list(&[], -1, 7));
    put(&server.crl.clone().unwrap(), &lists);
    assert!(house.server.look());
    house.call(&client, "").await.unwrap();
}

#[tokio::test]
async fn bad_new_files_leave_the_old_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, other) = (authority("ours"), authority("other"));
    let server = with_list(&ours, dir.path());
    let house = House::open(&server, PLACES).await;
    let client_files = ours.files(dir.path(), "watcher-1", false, &ours.pem);
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    let crl = server.crl.clone().unwrap();
    let expired = {
        let files = TlsFiles {
            certificate: dir.path().join("x.pem"),
            key: dir.path().join("x.key"),
            ..server.clone()
        };
        let mut params = client(&["signer"]);
        params.not_after = rcgen::date_time_ymd(2024, 1, 1);
        ours.write(&files, &params);
        read(&files.certificate)
    };
    let mut truncated = read(&server.certificate);
    truncated.truncate(truncated.len() / 2);
    let impostor = authority("ours");
    let bad: Vec<(&str, &Path, String)> = vec![
        ("half a certificate", &server.certificate, truncated),
        ("another's certificate", &server.certificate, read(&client_files.certificate)),
        ("an expired certificate", &server.certificate, expired),
        ("another's key", &server.key, read(&client_files.key)),
        ("no key", &server.key, "nothing".to_owned()),
        ("no authority", &server.ca, String::new()),
        ("a key as authority", &server.ca, read(&client_files.key)),
        ("no list", &crl, String::new()),
        ("an expired list", &crl, ours.list(&[], -9, -1)),
        ("an older list", &crl, ours.list(&[], -20, 7)),
        ("a forged list", &crl, impostor.list(&[], -1, 7)),
        ("a certificate as list", &crl, other.pem.clone()),
    ];
    for (name, path, text) in bad {
        let good = read(path);
        put(path, &text);
        assert!(!house.server.look(), "{name}");
        house.call(&client_files, "").await.unwrap();
        // Said once, not at every look.
        assert!(!house.server.look(), "{name}");
        put(path, &good);
        assert!(house.server.look(), "{name}");
    }
    std::fs::remove_file(&crl).unwrap();
    assert!(!house.server.look());
    house.call(&client_files, "").await.unwrap();
}
