//! A wallet's life after its ceremony: it grows by an extension, outlives its token, and in the end everything is
//! taken out with shares, descriptors and the node's own wallet alone.

use std::path::Path;
use std::time::Duration;

use bitcoin::Amount;
use devnet::Stack;
use devnet::stack::{Children, Options, Script, Tier};
use devnet::wait::until;

use crate::leaving::{Keys, by_hand, by_program, spent, text};

pub(crate) const COIN: Amount = Amount::from_sat(5_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn a_wallet_grows_outlives_its_token_and_can_be_left() {
    let children = Children { external: 4, change: 3 };
    let mut stack = Stack::start(Options { children, ..Options::default() }).await.unwrap();
    let first = extended(&mut stack).await;
    let second = resealed(&mut stack, &first).await;
    left(stack, &[first, second]).await;
}

/// Up to the watermark addresses are issued, beyond it not before the extension is imported; a sweep signs there.
async fn extended(stack: &mut Stack) -> String {
    for index in 0..4 {
        let issued = stack.issue("deposits", &format!("a{index}"), "customer").await.unwrap();
        assert_eq!(issued.index, index);
    }
    let refused = format!("{:#}", stack.issue("deposits", "a4", "customer").await.unwrap_err());
    assert!(refused.contains("not proven"), "{refused}");

    stack.signer.stop().unwrap();
    let bundle = stack.dir().join("ceremony").join("extended.bundle");
    let old = stack.bundle("deposits");
    let more = ["--external", "9", "--change", "5"];
    again(stack, ("extend", Tier::TokenHd), "deposits", &old, &bundle, &more).unwrap();
    let said = stack.run_signer(&["import", text(&bundle)]).unwrap();
    assert!(said.contains("in place of the bundle before, 9 external and 5 change"), "{said}");
    stack.start_signer().await.unwrap();

    let issued = until("an address beyond the first bundle", Duration::from_secs(60), || async {
        Ok(Some(stack.issue("deposits", "a4", "customer").await?))
    });
    let issued = issued.await.unwrap();
    assert_eq!(issued.index, 4);
    stack.verify_address(&issued, "customer").unwrap();
    pay_and_sweep(stack, std::slice::from_ref(&issued.address), "extended").await;
    issued.address
}

/// The token is lost with everything the signer knew. A new one signs for the same addresses.
async fn resealed(stack: &mut Stack, earlier: &str) -> String {
    stack.signer.stop().unwrap();
    let audited = stack.verify_log().unwrap();
    assert!(audited.contains("records replaced"), "{audited}");
    let attested_by = stack.token().attestation.clone();
    stack.lose_token().unwrap();
    assert_ne!(stack.token().attestation, attested_by);
    let folder = stack.dir().join("ceremony");
    for (wallet, old) in
        [("deposits", folder.join("extended.bundle")), ("hot", stack.bundle("hot"))]
    {
        let bundle = folder.join(format!("{wallet}.resealed"));
        again(stack, ("reseal", Tier::TokenHd), wallet, &old, &bundle, &[]).unwrap();
        let foreign = stack.run_signer(&["import", text(&old)]).unwrap_err().to_string();
        assert!(foreign.contains("wrapped for another token"), "{foreign}");
        let said = stack.run_signer(&["import", text(&bundle)]).unwrap();
        assert!(said.contains(": imported, "), "{said}");
    }
    stack.start_signer().await.unwrap();
    stack.crash_watcher().await.unwrap();

    // The same key is the same address; a new one goes on above, attested by the new token.
    let same = stack.issue("deposits", "a4", "customer").await.unwrap();
    assert_eq!(same.address, earlier);
    let issued = until("an address by the new token", Duration::from_secs(60), || async {
        Ok(Some(stack.issue("deposits", "a5", "customer").await?))
    });
    let issued = issued.await.unwrap();
    assert_eq!(issued.index, 5);
    stack.verify_address(&issued, "customer").unwrap();
    // What the old token attested, the new one attested again before anything new.
    let same = stack.issue("deposits", "a4", "customer").await.unwrap();
    assert_eq!(same.address, earlier);
    stack.verify_address(&same, "customer").unwrap();
    let addresses = [earlier.to_owned(), issued.address.clone()];
    pay_and_sweep(stack, &addresses, "resealed").await;
    issued.address
}

/// No signer, no token, no watcher: shares, descriptors and the node's wallet give every coin back.
async fn left(mut stack: Stack, deposits: &[String]) {
    let hot = stack.issue("hot", "hot", "").await.unwrap();
    for address in deposits.iter().chain([&hot.address]) {
        stack.node.pay(address, COIN).await.unwrap();
    }
    stack.node.mine(1).await.unwrap();
    stack.watcher.stop().unwrap();
    stack.signer.stop().unwrap();

    let keys = |wallet: &str, numbers: [u8; 2]| Keys {
        shares: numbers.map(|number| stack.share(wallet, number)),
        descriptor: stack.dir().join("ceremony").join(format!("{wallet}.descriptor")),
    };
    let deposits_private = by_program(
        |arguments| stack.run("ceremony", arguments),
        &keys("deposits", [3, 1]),
        (0, Script::Wpkh),
    );
    let hot_private = by_hand(&stack.node, &keys("hot", [2, 3]), "m/84h/1h/1h").await;
    for (wallet, private, coins) in [("deposits", deposits_private, 2), ("hot", hot_private, 1)] {
        let amount = spent(&stack.node, wallet, &private).await;
        assert_eq!(amount, COIN * coins, "{wallet}");
    }
}

/// Pays to addresses and has all of it swept.
pub(crate) async fn pay_and_sweep(stack: &Stack, addresses: &[String], key: &str) {
    for address in addresses {
        stack.node.pay(address, COIN).await.unwrap();
    }
    stack.node.mine(3).await.unwrap();
    for address in addresses {
        stack.deposit_in(address, "final").await.unwrap();
    }
    let before = stack.node.balance(&stack.descriptors().cold, 100).await.unwrap();
    let sweep = stack.create_sweep(key).await.unwrap();
    stack.sweep_in(&sweep.id, "broadcast").await.unwrap();
    stack.node.mine(3).await.unwrap();
    stack.sweep_in(&sweep.id, "final").await.unwrap();
    let cold = stack.node.balance(&stack.descriptors().cold, 100).await.unwrap() - before;
    let coins = u64::try_from(addresses.len()).unwrap();
    assert!(cold > COIN * coins - Amount::from_sat(10_000), "{cold}");
}

/// `ceremony extend` or `reseal` with two of the wallet's shares and the token's key for the tier as it is now.
pub(crate) fn again(
    stack: &Stack,
    (what, tier): (&str, Tier),
    wallet: &str,
    old: &Path,
    new: &Path,
    more: &[&str],
) -> anyhow::Result<String> {
    let (key, fingerprint) = match tier {
        Tier::SealedHd => ("sealing-key.pem", stack.token().sealing.concat()),
        Tier::TokenHd | Tier::TokenHdKwp => {
            ("wrapping-key.pem", stack.token().fingerprint.concat())
        }
    };
    let key = stack.dir().join("ceremony").join(key);
    let (one, two) = (stack.share(wallet, 1), stack.share(wallet, 2));
    let mut arguments = vec![
        what,
        "--bundle",
        text(old),
        "--out",
        text(new),
        "--wrapping-key",
        text(&key),
        "--fingerprint",
        &fingerprint,
        "--share",
        text(&one),
        "--share",
        text(&two),
    ];
    arguments.extend(more);
    stack.run("ceremony", &arguments)
}
