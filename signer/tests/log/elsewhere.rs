//! A witness as the signer sees one: it remembers, checks and cosigns in a task of the test, at once or never.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use audit::checkpoint::{Checkpoint, origin};
use audit::cosignature::{line, message, verify};
use audit::proof::verify_consistency;
use audit::tree::empty_root;
use ed25519_dalek::{Signer as _, SigningKey};
use policy::names::ClientName;
use policy::witnesses::Witness;
use signer::log::{Ask, Witnesses};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::support::token_key;

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Manner {
    Honest,
    /// Takes every question and answers none.
    Silent,
    /// Answers with what somebody else would sign.
    Lying,
    /// Answers as an honest one, but not before it is told to go on.
    Late,
}

#[derive(Clone)]
pub(crate) struct Elsewhere {
    pub(crate) name: &'static str,
    seed: u8,
    manner: Manner,
    seen: Arc<Mutex<(Checkpoint, String)>>,
    pub(crate) asked: Arc<AtomicU64>,
    /// Lets a late one go on.
    pub(crate) go_on: Arc<Notify>,
}

pub(crate) const NAMES: [&str; 3] = ["w1", "w2", "w3"];

/// The seats of the first `count`, of whom so many are required.
pub(crate) fn seats(count: usize, required: usize) -> Arc<Witnesses> {
    let seats = Witnesses::with_patience(std::time::Duration::from_millis(400));
    seats.seat(&named(count), required);
    Arc::new(seats)
}

/// The first `count`, as a policy names them.
pub(crate) fn named(count: usize) -> Vec<Witness> {
    let named = NAMES.iter().take(count).enumerate().map(|(number, name)| Witness {
        name: ClientName::parse(name).unwrap(),
        public_key: key(number).verifying_key().to_bytes(),
    });
    named.collect()
}

fn key(number: usize) -> SigningKey {
    SigningKey::from_bytes(&[100 + u8::try_from(number).unwrap(); 32])
}

/// How many of the first three cosigned this note.
pub(crate) fn cosigners(note: &str) -> Vec<&'static str> {
    let signed = NAMES.iter().enumerate().filter(|(number, name)| {
        verify(note, name, &key(*number).verifying_key().to_bytes()).is_ok()
    });
    signed.map(|(_, name)| *name).collect()
}

impl Elsewhere {
    pub(crate) fn new(number: usize, manner: Manner) -> Self {
        let origin = origin(&token_key(1).verifying_key().to_bytes());
        let seen = Checkpoint { origin, size: 0, root: empty_root(), officers: None };
        Self {
            name: NAMES[number],
            seed: u8::try_from(number).unwrap(),
            manner,
            seen: Arc::new(Mutex::new((seen, String::new()))),
            asked: Arc::default(),
            go_on: Arc::default(),
        }
    }

    /// What it saw last.
    pub(crate) fn note(&self) -> String {
        self.seen.lock().unwrap().1.clone()
    }

    pub(crate) fn size(&self) -> u64 {
        self.seen.lock().unwrap().0.size
    }

    /// Says what it saw last and takes its seat; answers until its task is ended.
    pub(crate) fn come(&self, seats: &Arc<Witnesses>) -> JoinHandle<()> {
        seats.told(self.name, self.note());
        let (number, mut asks) = seats.come(self.name, self.size(), seats.opening()).unwrap();
        let (seats, own) = (Arc::clone(seats), self.clone());
        tokio::spawn(async move {
            let mut unanswered = Vec::new();
            while let Some(ask) = asks.recv().await {
                own.asked.fetch_add(1, Ordering::SeqCst);
                match own.manner {
                    Manner::Silent => unanswered.push(ask),
                    Manner::Honest | Manner::Lying => own.answer(ask),
                    Manner::Late => {
                        own.go_on.notified().await;
                        own.answer(ask);
                    }
                }
            }
            seats.go(own.name, number);
        })
    }

    fn answer(&self, Ask { from, path, note, answer }: Ask) {
        let log = token_key(1).verifying_key().to_bytes();
        let mut seen = self.seen.lock().unwrap();
        let shown = Checkpoint::open(&note, &origin(&log), &log).unwrap();
        assert_eq!(from, seen.0.size, "asked from what it saw last");
        let grown = verify_consistency(from, &seen.0.root, shown.size, &shown.root, &path);
        assert!(grown, "from {from} to {}", shown.size);
        let key = key(usize::from(self.seed));
        let text = if self.manner == Manner::Lying { "another\n".to_owned() } else { shown.text() };
        let signature = key.sign(&message(&text, 1_000)).to_bytes();
        let line = line(self.name, &key.verifying_key().to_bytes(), 1_000, &signature);
        *seen = (shown, format!("{note}{line}"));
        let _ = answer.send(line);
    }
}
