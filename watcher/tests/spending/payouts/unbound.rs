//! The real signer, watcher and node, and officers at their program: a payout whose only coin disappeared for good is stuck, and is
//! paid once, out of another coin, when enough of them said so.

use std::fs;
use std::path::PathBuf;

use bitcoin::Amount;
use devnet::Stack;
use devnet::stack::{Options, Wish};
use devnet::wait::until;
use sha2::{Digest as _, Sha256};

const PATIENCE: std::time::Duration = std::time::Duration::from_secs(120);
const REASON: &str = "its coin was spent elsewhere, three blocks deep";

#[tokio::test(flavor = "multi_thread")]
async fn a_payout_whose_only_coin_was_spent_elsewhere_is_paid_once_after_officers_unbound_it() {
    let mut stack = Stack::start(Options::default()).await.unwrap();
    govern(&mut stack).await;
    // The larger one is taken; each is in a block of its own.
    let mut funded = Vec::new();
    for (customer, sat) in [("spare", 60_000_000), ("taken", 90_000_000)] {
        let hot = stack.issue("hot", customer, "").await.unwrap();
        funded.push(stack.node.pay(&hot.address, Amount::from_sat(sat)).await.unwrap());
        stack.node.mine(3).await.unwrap();
        stack.deposit_in(&hot.address, "final").await.unwrap();
    }
    let to = stack.node.new_address().await.unwrap();
    let wish = Wish { id: "o", amount: Amount::from_sat(40_000_000), to: &to, expires_in: "1h" };
    stack.submit(&stack.sign_order(&wish).unwrap()).await.unwrap();
    let first = stack.payout_in("o", "broadcast").await.unwrap();
    stack.node.mine(3).await.unwrap();
    stack.payout_in("o", "final").await.unwrap();
    // Deeper than what counted as final, and the coin's parent can never come back.
    stack.node.reorg_without(funded[1]).await.unwrap();
    stuck(&stack).await;

    let unbind = |who: &str, more: &[&str]| {
        let config = stack.dir().join(format!("{who}.toml"));
        let reason = ["unbind", "o", "--reason", REASON, "--config", config.to_str().unwrap()];
        stack.run("officer", &[&reason[..], more].concat())
    };
    let shown = unbind("ada", &["--yes"]).unwrap();
    for line in
        [&first.txid, &to, "signed by   shop", "0.4 BTC", "PAID TWICE", "spends", "written down"]
    {
        assert!(shown.contains(line), "no {line} in {shown}");
    }
    assert_eq!(shown.matches("VERSION").count(), 1, "{shown}");
    assert!(shown.contains("  change      0.49"), "{shown}");
    // One is not enough, however long one waits; without a yes nothing is said at all.
    assert!(unbind("bob", &[]).unwrap_err().to_string().contains("nobody is here to say yes"));
    stuck(&stack).await;
    unbind("bob", &["--yes"]).unwrap();

    let second = stack.payout_in("o", "broadcast").await.unwrap();
    assert_ne!(second.txid, first.txid);
    stack.node.mine(3).await.unwrap();
    assert!(stack.payout_in("o", "final").await.unwrap().reasons.is_empty());
    let scan = serde_json::json!(["start", [format!("addr({to})")]]);
    let paid: serde_json::Value = stack.node.rpc("scantxoutset", scan).await.unwrap();
    assert_eq!(paid["total_amount"].as_f64(), Some(0.4), "once: {paid}");
    stack.signer.stop().unwrap();
    stack.verify_log().unwrap();
}

/// It may be paid, and is not tried otherwise.
async fn stuck(stack: &Stack) {
    let desk = stack.watcher_as("payout-desk").unwrap();
    until("a doubt", PATIENCE, || {
        let mut desk = desk.clone();
        async move {
            let payout = desk.get_payout(proto::GetPayoutRequest { id: "o".into() }).await?;
            let payout = payout.into_inner();
            let doubt = payout.reasons.iter().any(|reason| reason.code == "order-paid");
            Ok((doubt && payout.state == "accepted" && payout.txid.is_empty()).then_some(()))
        }
    })
    .await
    .unwrap();
}

/// The next version of the policy has officers, and says which of them unbind.
async fn govern(stack: &mut Stack) {
    let checkpoint = hex::decode(&stack.token().checkpoint).unwrap();
    let log = format!("cofferdam/{}", &hex::encode(Sha256::digest(checkpoint))[..16]);
    let file = stack.dir().join("signer/policy.toml");
    let officers: String = ["ada", "bob"].map(|name| officer(stack, name, &log)).concat();
    let before = fs::read_to_string(&file).unwrap();
    let client = "name = \"officer\"\nattest = []\nstatus = true\n";
    assert!(before.contains(client));
    let after = before.replacen("version = 1", &format!("log = {log:?}\nversion = 2"), 1).replacen(
        client,
        &format!("{client}officers = true\n"),
        1,
    );
    let rules = "[[group]]\nname = \"board\"\nmembers = [\"ada\", \"bob\"]\n[governance]\ntighten = \"1 of board\"\n\
                 change = \"2 of board\"\ndelay = \"48h\"\nunbind = \"2 of board\"\n";
    fs::write(&file, after + &officers + rules).unwrap();
    let key = stack.dir().join("officer/alice.key");
    let signing = ["policy", "sign", file.to_str().unwrap(), "--key", key.to_str().unwrap()];
    stack.run("officer", &[&signing[..], &["--yes"]].concat()).unwrap();
    stack.crash_signer().await.unwrap();
}

/// A key and settings; the policy's section for it.
fn officer(stack: &Stack, name: &str, log: &str) -> String {
    let key: PathBuf = stack.dir().join(format!("officer/{name}.key"));
    let made = ["keygen", "--in-clear", "--name", name, "--out", key.to_str().unwrap()];
    let said = stack.run("officer", &made).unwrap();
    let public = said.lines().find_map(|line| line.strip_prefix("public key")).unwrap().trim();
    let of = stack.credential("officer").unwrap();
    let settings = format!(
        "signer = {:?}\nserver_name = \"localhost\"\nlog = {log:?}\npolicy = {:?}\nkey = {key:?}\n\
         [tls]\ncertificate = {:?}\nkey = {:?}\nca = {:?}\n",
        stack.signer_url(),
        stack.dir().join("signer/policy.toml"),
        of.cert,
        of.key,
        of.ca
    );
    fs::write(stack.dir().join(format!("{name}.toml")), settings).unwrap();
    format!("[[officer]]\nname = \"{name}\"\ndomain = \"{name}\"\ned25519 = \"{public}\"\n")
}
