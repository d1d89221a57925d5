//! kill -9 of signer, token workers or watcher at every step of the story, then start again: no coin is lost, no
//! payout is paid twice, no deposit is missed or counted twice.

use std::future::Future;
use std::time::Duration;

use bitcoin::Amount;
use devnet::Stack;
use devnet::stack::{Children, Options, Wish};
use devnet::wait::until;
use tonic::Status;

use crate::books::Books;

const DEPOSIT: Amount = Amount::from_sat(10_000_000);
const PAYOUT: Amount = Amount::from_sat(1_000_000);
/// Workers that are killed again and again come back after up to 30 s each.
const PATIENCE: Duration = Duration::from_secs(240);
/// How long after a call has begun its server is killed. A round takes the next few.
const DELAYS_MS: [u64; 9] = [2, 25, 60, 8, 120, 0, 40, 15, 250];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    Signer,
    TokenWorkers,
    Watcher,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_signer_is_killed_at_every_step() {
    crash_everywhere(Victim::Signer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_token_workers_are_killed_at_every_step() {
    crash_everywhere(Victim::TokenWorkers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watcher_is_killed_at_every_step() {
    crash_everywhere(Victim::Watcher).await;
}

async fn crash_everywhere(victim: Victim) {
    let rounds: usize = std::env::var("COFFERDAM_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let more = u32::try_from(rounds).unwrap() * 4;
    let children = Children { external: 100 + more, change: 50 + more };
    let mut stack = Stack::start(Options { children, ..Options::default() }).await.unwrap();
    let hot = stack.issue("hot", "hot-funds", "").await.unwrap();
    stack.node.pay(&hot.address, Amount::from_sat(400_000_000)).await.unwrap();
    stack.node.mine(3).await.unwrap();
    stack.deposit_in(&hot.address, "final").await.unwrap();
    let mut world = World { victim, books: Books::default(), delays: DELAYS_MS.iter().cycle() };
    for round in 0..rounds {
        let customers = world.addresses(&mut stack, round).await;
        world.payments(&mut stack, &customers).await;
        world.sweep(&mut stack, round).await;
        world.payout(&mut stack, round).await;
        world.books.check(&stack).await;
    }
}

struct World<'a> {
    victim: Victim,
    books: Books,
    delays: std::iter::Cycle<std::slice::Iter<'a, u64>>,
}

impl World<'_> {
    /// Two addresses; their calls are in flight when the victim dies.
    async fn addresses(&mut self, stack: &mut Stack, round: usize) -> Vec<String> {
        let mut addresses = Vec::new();
        for number in 0..2 {
            let customer = format!("customer-{round}-{number}");
            let request = proto::IssueAddressRequest {
                wallet: "deposits".into(),
                idempotency_key: format!("address-{round}-{number}"),
                customer_reference: customer.clone(),
            };
            let shop = stack.watcher_as("shop").unwrap();
            let call = move || {
                let (mut shop, request) = (shop.clone(), request.clone());
                async move { Ok(shop.issue_address(request).await?.into_inner()) }
            };
            let issued = self.killed_during(stack, "an address", call).await;
            stack.verify_address(&issued, &customer).unwrap();
            assert!(!addresses.contains(&issued.address), "one address for two customers");
            assert!(
                !self.books.paid.contains_key(&issued.address),
                "one address for two customers"
            );
            addresses.push(issued.address);
        }
        addresses
    }

    /// The victim dies after each step of the payments' way to finality.
    async fn payments(&mut self, stack: &mut Stack, addresses: &[String]) {
        for address in addresses {
            let txid = stack.node.pay(address, DEPOSIT).await.unwrap();
            self.books.paid.insert(address.clone(), (txid, DEPOSIT));
        }
        self.kill(stack).await;
        for address in addresses {
            stack.deposit_in(address, "seen").await.unwrap();
        }
        stack.node.mine(1).await.unwrap();
        self.kill(stack).await;
        for address in addresses {
            stack.deposit_in(address, "confirming").await.unwrap();
        }
        stack.node.mine(2).await.unwrap();
        self.kill(stack).await;
        for address in addresses {
            stack.deposit_in(address, "final").await.unwrap();
        }
    }

    async fn sweep(&mut self, stack: &mut Stack, round: usize) {
        let request = proto::CreateSweepRequest {
            wallet: "deposits".into(),
            idempotency_key: format!("sweep-{round}"),
            max_inputs: 0,
            feerate: "5 sat/vB".into(),
        };
        let operator = stack.watcher_as("operator").unwrap();
        let call = move || {
            let (mut operator, request) = (operator.clone(), request.clone());
            async move { Ok(operator.create_sweep(request).await?.into_inner()) }
        };
        let id = self.killed_during(stack, "a sweep", call).await.id;
        self.kill(stack).await;
        stack.sweep_in(&id, "broadcast").await.unwrap();
        self.kill(stack).await;
        stack.node.mine(1).await.unwrap();
        self.kill(stack).await;
        stack.sweep_in(&id, "confirming").await.unwrap();
        stack.node.mine(2).await.unwrap();
        stack.sweep_in(&id, "final").await.unwrap();
    }

    async fn payout(&mut self, stack: &mut Stack, round: usize) {
        let (id, to) = (format!("order-{round}"), stack.node.new_address().await.unwrap());
        let wish = Wish { id: &id, amount: PAYOUT, to: &to, expires_in: "1h" };
        let order = stack.sign_order(&wish).unwrap();
        self.books.ordered.push((id.clone(), to.clone(), PAYOUT));
        let request = proto::SubmitPayoutRequest { order: Some(order), wallet: "hot".into() };
        let desk = stack.watcher_as("payout-desk").unwrap();
        let call = move || {
            let (mut desk, request) = (desk.clone(), request.clone());
            async move { Ok(desk.submit_payout(request).await?.into_inner()) }
        };
        self.killed_during(stack, "a payout", call).await;
        self.kill(stack).await;
        stack.payout_in(&id, "broadcast").await.unwrap();
        self.kill(stack).await;
        stack.node.mine(1).await.unwrap();
        self.kill(stack).await;
        stack.payout_in(&id, "confirming").await.unwrap();
        stack.node.mine(2).await.unwrap();
        stack.payout_in(&id, "final").await.unwrap();
    }

    /// Begins a call, kills the victim while it is in flight, and repeats the same call until it is answered.
    async fn killed_during<T, F>(
        &mut self,
        stack: &mut Stack,
        what: &str,
        call: impl Fn() -> F,
    ) -> T
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let in_flight = tokio::spawn(call());
        self.kill(stack).await;
        let _ = in_flight.await.unwrap(); // answered, or lost with the connection: both may be
        until(what, PATIENCE, || async { Ok(Some(call().await?)) }).await.unwrap()
    }

    /// Kills the victim after the next delay, and starts it again where it does not come back by itself.
    async fn kill(&mut self, stack: &mut Stack) {
        tokio::time::sleep(Duration::from_millis(*self.delays.next().unwrap())).await;
        match self.victim {
            Victim::Signer => stack.crash_signer().await.unwrap(),
            Victim::Watcher => stack.crash_watcher().await.unwrap(),
            Victim::TokenWorkers => {
                // The signer starts new ones by itself; a victim must have been there to be killed. Not in the
                // middle of a login: that counts as a try with the PIN, as the token's own tests show.
                let logging_in = stack.dir().join("signer").join("state").join("pin-attempt");
                until("token workers", PATIENCE, || async {
                    if logging_in.with_file_name("pin-refused").exists() {
                        // Too many logins died: a person looks, and allows the next one.
                        let config = stack.signer.config().display().to_string();
                        stack.run("signer", &["--config", &config, "pin", "clear"])?;
                    }
                    let killed = stack.signer.kill_workers(|| logging_in.exists())?;
                    Ok((killed > 0).then_some(()))
                })
                .await
                .unwrap_or_else(|error| {
                    panic!("{error}; its log ends:\n{}", stack.signer.log_tail())
                });
                stack.signer.check_running().unwrap();
            }
        }
    }
}
