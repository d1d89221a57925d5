//! The bump lane: what is out already at a higher fee, and change that pays for its parent; nothing else, and by nobody else.

use audit::entry::Event;
use bitcoin::Transaction;
use proto::SignHeader;
use signer::config::Limits;

use crate::common::{
    Coin, FAR, Knobs, Out, address, child, coin, header, order, own, psbt, signed, stranger, to,
};
use crate::house::{House, said};
use crate::replaying::officer;
use crate::sweeping::verify;

/// Watcher-1 pays, and payout-desk bumps.
pub(crate) const BUMP: &str = "[[bump]]\nname = \"bump\"\nclients = [\"payout-desk\"]\nwallets = [\"hot\"]\n\
    package = { max_total = \"11500 sat\", max_feerate = \"100 sat/vB\" }\n\
    fee = { max_total = \"0.01 BTC\", max_feerate = \"100 sat/vB\", max_percent = \"20%\" }\n\
    fee_budget = [{ sum = \"15000 sat\", window = \"1d\" }]\n\
    [[limit]]\nname = \"all\"\nby = \"global\"\nwindow = \"1d\"\nsum = \"130000 sat\"\n";

struct Desk(House);

impl Desk {
    async fn new() -> Self {
        let knobs = Knobs { more: BUMP.into(), ..Knobs::default() };
        Self(House::with(&knobs, Limits::default()).await)
    }

    fn hot(&self, change: bool, index: u32, sat: u64) -> Out {
        own(&self.0.descriptors.hot, change, index, sat)
    }

    /// A payout of 100,000 sat out of these coins, at this fee, with these outputs besides.
    fn payout(&self, lane: &str, coins: &[Coin], fee: u64, more: &[Out]) -> SignHeader {
        let given: u64 = coins.iter().map(|coin| coin.output().value.to_sat()).sum();
        let besides: u64 = more.iter().map(|out| out.sat).sum();
        let change = self.hot(true, 0, given - 100_000 - besides - fee);
        let outs = [&[to(stranger(4), 100_000), change], more].concat();
        let mut header = header(
            &format!("{lane}-{fee}-{}-{}-{}", first(coins), coins.len(), more.len()),
            lane,
            "hot",
            &psbt(coins, &outs),
        );
        header.orders = vec![signed(&wanted())];
        header
    }

    /// Coins spent back to change at this fee.
    fn carry(&self, coins: &[Coin], outs: impl Fn(u64) -> Vec<Out>, fee: u64) -> SignHeader {
        let given: u64 = coins.iter().map(|coin| coin.output().value.to_sat()).sum();
        let outs = outs(given - fee);
        let key = format!("carry-{}-{fee}-{}", first(coins), outs.len());
        header(&key, "bump", "hot", &psbt(coins, &outs))
    }

    fn change_of(&self, transaction: &[u8]) -> Coin {
        self.change_at(transaction, 0)
    }

    fn change_at(&self, transaction: &[u8], index: u32) -> Coin {
        let parent: Transaction = bitcoin::consensus::deserialize(transaction).unwrap();
        let (key, script) = child(&self.0.descriptors.hot, true, index);
        let vout = parent.output.iter().position(|output| output.script_pubkey == script).unwrap();
        Coin { parent, vout: u32::try_from(vout).unwrap(), key, change: true, index }
    }

    /// The codes of a no; none if it was signed.
    async fn ask(&self, client: &str, header: SignHeader, coins: &[Coin]) -> Vec<String> {
        match self.0.sign_as(client, header, coins).await {
            Ok(reply) => {
                verify(&reply.transaction, coins);
                Vec::new()
            }
            Err(status) => said(&status).1,
        }
    }

    /// It is denied for these rules, of which the caller hears nothing.
    async fn denied(&self, header: SignHeader, coins: &[Coin], rules: &[&str]) {
        let status = self.0.sign_as("payout-desk", header, coins).await.unwrap_err();
        self.0.denied(&status, rules).await;
    }

    async fn bump(&self, header: SignHeader, coins: &[Coin]) -> Vec<String> {
        self.ask("payout-desk", header, coins).await
    }
}

fn wanted() -> order::Order {
    order("invoice-1", 100_000, &address(&stranger(4)), FAR)
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one payout's story")]
async fn what_is_out_is_bumped_and_nothing_else_is() {
    let desk = Desk::new().await;
    let hot = desk.0.descriptors.hot.clone();
    let coins = [coin(&hot, false, 1, 500_000, 1, 1)];
    let more = [coins[0].clone(), coin(&hot, false, 2, 300_000, 3, 1)];
    let others = [coin(&hot, false, 2, 300_000, 3, 1)];
    let none = desk.bump(desk.payout("bump", &coins, 1_000, &[]), &coins).await;
    assert_eq!(none, ["bump-nothing", "bump-coins", "bump-fee"], "nothing is out");

    let first = desk.payout("withdraw", &coins, 2_000, &[]);
    // Its change pays for it only once it is out; the same request is decided on again then.
    let planned = bitcoin::Psbt::deserialize(&first.psbt).unwrap().unsigned_tx;
    let early = [desk.change_of(&bitcoin::consensus::serialize(&planned))];
    let early_back = |sat| vec![desk.hot(true, 1, sat)];
    let too_early = desk.bump(desk.carry(&early, early_back, 9_000), &early).await;
    assert!(too_early.contains(&"bump-nothing".to_owned()), "{too_early:?}");
    let first = desk.0.sign(first, &coins).await.unwrap();
    // Who may do the one may not do the other.
    let bump = |fee| desk.payout("bump", &coins, fee, &[]);
    assert_eq!(desk.ask("watcher-1", bump(5_000), &coins).await, ["lane-caller"]);
    let again = desk.payout("withdraw", &coins, 5_000, &[]);
    assert_eq!(desk.bump(again, &coins).await, ["lane-caller"]);

    // Only a higher fee, out of our change, over the same coins.
    for fee in [1_999, 2_000] {
        assert_eq!(desk.bump(bump(fee), &coins).await, ["bump-fee"]);
    }
    let foreign = [to(stranger(5), 5_000)];
    let asked = desk.payout("bump", &coins, 5_000, &foreign);
    assert_eq!(desk.bump(asked, &coins).await, ["output-unordered"]);
    let asked = desk.payout("bump", &more, 5_000, &[]);
    assert_eq!(desk.bump(asked, &more).await, ["bump-coins"]);
    let asked = desk.payout("bump", &others, 5_000, &[]);
    let nothing = ["bump-nothing", "bump-coins", "bump-fee"];
    let beside = desk.bump(asked, &others).await;
    assert_eq!(beside, nothing, "it could confirm beside the first");
    for (paid, sat) in [(4, 99_999), (5, 100_000)] {
        let outs = [to(stranger(paid), sat), desk.hot(true, 0, 394_000)];
        let order = order("invoice-1", sat, &address(&stranger(paid)), FAR);
        for (order, wrong) in [
            (wanted(), ["order-mismatch", "order-unpaid"]),
            (order, ["bump-nothing", "bump-nothing"]),
        ] {
            let key = format!("other-{paid}-{}", wrong[0]);
            let mut asked = header(&key, "bump", "hot", &psbt(&coins, &outs));
            asked.orders = vec![signed(&order)];
            let codes = desk.bump(asked, &coins).await;
            assert!(wrong.iter().any(|code| codes.contains(&(*code).to_owned())), "{codes:?}");
        }
    }
    assert_eq!(desk.bump(bump(5_000), &coins).await, [""; 0]);
    assert_eq!(desk.bump(bump(5_000), &coins).await, [""; 0], "the stored answer");
    assert_eq!(desk.bump(bump(4_999), &coins).await, ["bump-fee"]);

    // Change pays for its parent: the package has a cap, and nothing else gets any.
    let change = desk.change_of(&first.transaction);
    let alone = [change.clone()];
    let back = |sat| vec![desk.hot(true, 1, sat)];
    desk.denied(desk.carry(&alone, back, 9_501), &alone, &["bump-package"]).await;
    let split = |sat: u64| vec![desk.hot(true, 1, sat - 1_000), desk.hot(true, 2, 1_000)];
    assert_eq!(desk.bump(desk.carry(&alone, split, 9_000), &alone).await, ["bump-own"]);
    let away = |sat: u64| vec![to(stranger(5), sat)];
    assert_eq!(desk.bump(desk.carry(&alone, away, 8_998), &alone).await, ["bump-own"]);
    let outside = |sat| vec![own(&desk.0.descriptors.cold, false, 0, sat)];
    assert_eq!(desk.bump(desk.carry(&alone, outside, 8_999), &alone).await, ["bump-own"]);
    for (fee, stranger) in [(9_001, coin(&hot, true, 0, 500_000, 2, 1)), (9_002, others[0].clone())]
    {
        let both = [change.clone(), stranger];
        assert_eq!(desk.bump(desk.carry(&both, back, fee), &both).await, ["bump-nothing"]);
    }
    let carry = desk.carry(&alone, back, 9_000);
    let carried = desk.0.sign_as("payout-desk", carry, &alone).await.unwrap();

    // Its own change carries nothing: one after the other they would pay any sum.
    let chained = [desk.change_at(&carried.transaction, 1)];
    let on = |sat| vec![desk.hot(true, 2, sat)];
    assert_eq!(desk.bump(desk.carry(&chained, on, 9_499), &chained).await, ["bump-nothing"]);

    // Of what can never confirm twice the largest counts, in budgets of fees as in limits; beside it what else is asked for.
    desk.denied(bump(6_001), &coins, &["fee-budget"]).await;
    assert_eq!(desk.bump(bump(6_000), &coins).await, [""; 0]);
    // The higher fee counts.
    desk.denied(desk.carry(&alone, back, 9_003), &alone, &["fee-budget"]).await;

    // Decided again from the log, all of it comes out as it did.
    let Event::Opened { checkpoint_key, .. } = desk.0.entries(0).await.remove(0).event else {
        panic!("the log does not begin")
    };
    let mut house = desk.0;
    house.close().await;
    let (policy, database) = (house.config.policy.clone(), house.config.database_url());
    let again = tokio::task::spawn_blocking(move || {
        let (policy, key) = (policy.to_str().unwrap(), hex::encode(checkpoint_key));
        officer(&["policy", "simulate", policy, "--database", &database, "--key", &key])
    });
    let (text, differs) = again.await.unwrap();
    assert_eq!(differs, None, "{text}");
}

/// The beginning of the first coin's name, for keys.
fn first(coins: &[Coin]) -> String {
    coins[0].outpoint().to_string().chars().take(8).collect()
}
