//! The real signer, by its real program: what its policy denies is asked for again at its turn, until a newer policy allows it.

use std::fs;

use bitcoin::Amount;
use devnet::Stack;
use devnet::stack::{Options, Wish};
use devnet::wait::until;

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);

/// Six are denied for good, and are tried before the one that a newer policy allows: it is paid all the same, and each has left one row
/// and one request.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_policy_allows_is_paid_beside_what_it_never_will() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    let hot = stack.issue("hot", "hot-funds", "").await.unwrap();
    stack.node.pay(&hot.address, Amount::from_sat(1_000_000_000)).await.unwrap();
    stack.node.mine(3).await.unwrap();
    stack.deposit_in(&hot.address, "final").await.unwrap();
    let config = stack.dir().join("watcher").join("watcher.toml");
    let text = fs::read_to_string(&config).unwrap();
    let quick = text.replace("[spend]\n", "[spend]\ndenied_tries_per_hour = 7200\n");
    assert_ne!(quick, text);
    fs::write(&config, quick).unwrap();
    stack.crash_watcher().await.unwrap();

    let to = stack.node.new_address().await.unwrap();
    // The policy's most is 2 BTC in one transaction, and 5 in an hour.
    let bad: Vec<_> = (0..6).map(|n| (format!("bad-{n}"), 600_000_000)).collect();
    let all = bad.iter().cloned().chain([("good".to_owned(), 250_000_000)]);
    for (id, sat) in all {
        let wish = Wish { id: &id, amount: Amount::from_sat(sat), to: &to, expires_in: "1h" };
        stack.submit(&stack.sign_order(&wish).unwrap()).await.unwrap();
        denied(&stack, &id).await;
    }
    allow_more(&mut stack).await;
    let turns = "UPDATE payouts SET tried_unix = tried_unix - 7200";
    execute(&stack, turns).await;
    stack.payout_in("good", "broadcast").await.unwrap();
    let tries = "SELECT COUNT(*) FROM payouts WHERE tries = 2 AND state = 'accepted'";
    until("each of the others to be tried again", PATIENCE, || async {
        Ok((count(&stack, tries).await == 6).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(count(&stack, "SELECT COUNT(*) FROM payout_versions").await, 7);
    stack.signer.stop().unwrap();
    stack.verify_log().unwrap();
}

/// Waits until the payout was denied.
async fn denied(stack: &Stack, id: &str) {
    let desk = stack.watcher_as("payout-desk").unwrap();
    until("a denial", PATIENCE, || {
        let mut desk = desk.clone();
        async move {
            let payout = desk.get_payout(proto::GetPayoutRequest { id: id.into() }).await?;
            let mut reasons = payout.into_inner().reasons.into_iter();
            Ok(reasons.any(|reason| reason.code == "policy-denied").then_some(()))
        }
    })
    .await
    .unwrap();
}

/// The officer signs the policy's next version, and the signer takes it in.
async fn allow_more(stack: &mut Stack) {
    let policy = stack.dir().join("signer").join("policy.toml");
    let text = fs::read_to_string(&policy).unwrap();
    let newer = text
        .replace("version = 1\n", "version = 2\n")
        .replace("per_transaction = \"2 BTC\"", "per_transaction = \"3 BTC\"")
        .replace("per_destination = \"1 BTC\"", "per_destination = \"3 BTC\"");
    fs::write(&policy, newer).unwrap();
    let key = stack.dir().join("officer").join("alice.key");
    let [policy, key] = [&policy, &key].map(|path| path.to_str().unwrap());
    stack.run("officer", &["policy", "sign", policy, "--key", key, "--yes"]).unwrap();
    stack.crash_signer().await.unwrap();
}

async fn tables(stack: &Stack) -> sqlx::SqlitePool {
    let database = stack.dir().join("watcher").join("watcher.sqlite");
    sqlx::SqlitePool::connect(&format!("sqlite://{}", database.display())).await.unwrap()
}

async fn execute(stack: &Stack, statement: &'static str) {
    let pool = tables(stack).await;
    let _ = sqlx::query(statement).execute(&pool).await.unwrap();
    pool.close().await;
}

async fn count(stack: &Stack, statement: &'static str) -> i64 {
    let pool = tables(stack).await;
    let count = sqlx::query_scalar(statement).fetch_one(&pool).await.unwrap();
    pool.close().await;
    count
}
