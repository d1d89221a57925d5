//! What reaches the signer from outside and bears on its decisions: grants that end, lists, statements by others.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use signer::config::Limits;
use signer::log::Clock;
use tonic::Code;

use crate::common::{
    FAR, Knobs, address, coin, header, order, own, policy_signatures, psbt, signed, stranger, to,
};
use crate::house::{House, said};

/// A signer whose policy and clock a test changes.
struct Desk {
    house: House,
    now: Arc<AtomicU64>,
}

impl Desk {
    /// Not open yet; `change` is done to the policy's text.
    async fn new(knobs: &Knobs, change: impl Fn(&str, u64) -> String) -> Self {
        let house = House::closed(knobs, Limits::default()).await;
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let now = Arc::new(AtomicU64::new(u64::try_from(since.as_millis()).unwrap()));
        let desk = Self { house, now };
        let path = &desk.house.config.policy;
        let text = change(&fs::read_to_string(path).unwrap(), desk.now());
        let text = text.replacen("version = 1\n", "version = 2\n", 1);
        fs::write(path, &text).unwrap();
        fs::write(path.with_extension("toml.sig"), policy_signatures(&text)).unwrap();
        desk
    }

    async fn open(&mut self) {
        let now = Arc::clone(&self.now);
        self.house.open_at(Clock::from_fn(move || now.load(Ordering::Relaxed))).await;
    }

    fn now(&self) -> u64 {
        self.now.load(Ordering::Relaxed) / 1000
    }

    fn pass(&self, seconds: u64) {
        self.now.fetch_add(seconds * 1000, Ordering::Relaxed);
    }

    /// Asks for a payout of 100,000 sat to this stranger, of a coin of its own; the codes, none if it was signed.
    async fn pay(&self, number: u64, to_whom: u8) -> Vec<String> {
        let coins = [coin(&self.house.descriptors.hot, false, 1, 500_000, number, 1)];
        let script = stranger(to_whom);
        let order = order(&format!("invoice-{number}"), 100_000, &address(&script), FAR);
        let change = own(&self.house.descriptors.hot, true, 0, 399_000);
        let outs = [to(script, 100_000), change];
        let mut header = header(&format!("p{number}"), "withdraw", "hot", &psbt(&coins, &outs));
        header.orders = vec![signed(&order)];
        match self.house.sign(header, &coins).await {
            Ok(_) => Vec::new(),
            Err(status) => {
                let (code, codes) = said(&status);
                assert!(matches!(code, Code::PermissionDenied | Code::FailedPrecondition));
                codes
            }
        }
    }
}

#[tokio::test]
async fn a_client_and_an_order_key_do_nothing_after_their_ends() {
    let ends = |text: &str, now: u64| {
        let (client, key) = (now + 200, now + 100);
        text.replacen(
            "name = \"watcher-1\"\n",
            &format!("name = \"watcher-1\"\nexpires_unix = {client}\n"),
            1,
        )
        .replacen(
            "name = \"shop\"\n",
            &format!("name = \"shop\"\nexpires_unix = {key}\n"),
            1,
        )
    };
    let mut desk = Desk::new(&Knobs::default(), ends).await;
    desk.open().await;
    assert_eq!(desk.pay(1, 4).await, [""; 0]);
    desk.pass(150);
    assert_eq!(desk.pay(2, 4).await, ["order-key-expired"]);
    desk.pass(100);
    assert_eq!(desk.pay(3, 4).await, ["unknown-client"], "not even the status");
}
