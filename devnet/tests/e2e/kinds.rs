//! Every kind of script through the real signer on a real token: a sweep and a payout of each are mined, and random
//! transactions over all kinds are what the node's mempool would take, one by one, and their PSBTs say to the node what they
//! say to the signer. `COFFERDAM_RANDOM_TRANSACTIONS` says how many.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash as _;
use bitcoin::transaction::Version as TxVersion;
use bitcoin::{
    Address, Amount, Network, PubkeyHash, ScriptBuf, ScriptHash, Sequence, Transaction,
    WPubkeyHash, WScriptHash,
};
use devnet::forge::{self, Coin, Output};
use order::Order;
use proto::SignedOrder;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng, SeedableRng as _};
use signer::request::psbt::Version;

use crate::cross::Reader;
use crate::world::{Ask, CHILDREN, Held, World};

/// Random transactions in a normal run.
const FEW: usize = 150;
/// As many of them spend one funding's coins.
const ROUND: usize = 400;
/// Of each wallet's coins, as many are kept for payouts: what was swept cannot be paid out any more.
const FOR_PAYOUTS: usize = 8;
const LEAST_OUTPUT: u64 = 600;

#[tokio::test(flavor = "multi_thread")]
async fn the_node_takes_sweeps_payouts_and_random_transactions_of_every_kind() {
    let count = counted();
    let mut rng = seeded("random transactions");
    let mut world = World::open().await;
    let mut reader = Reader::new(&world.policy());
    world.fund(&mut rng).await;
    one_of_each(&world, &mut rng).await;

    let (mut made, begun) = (BTreeMap::new(), Instant::now());
    let mut number = 0;
    while number < count {
        world.fund(&mut rng).await;
        let upto = count.min(number + ROUND);
        random(&world, &mut rng, number..upto, &mut made, &mut reader).await;
        number = upto;
    }
    let seconds = begun.elapsed().as_secs_f64();
    println!("random transactions: {count} in {seconds:.1} s, {made:?}");
    assert_eq!(made.values().sum::<usize>(), count);
    let [compared, fees] = reader.compared;
    println!("random transactions: {compared} PSBTs as bitcoind reads them, {fees} fees");
    assert!(compared >= 2 * count && fees >= count, "{compared}, {fees}");
    assert!(count < FEW || made.len() == 2 * world.wallets.len(), "{made:?}");
    world.close();
}

/// How many random transactions are asked for.
pub(crate) fn counted() -> usize {
    let count = std::env::var("COFFERDAM_RANDOM_TRANSACTIONS").ok();
    count.map_or(FEW, |count| count.parse().unwrap())
}

/// By the seed that is asked for, or one of its own, which it says.
pub(crate) fn seeded(what: &str) -> StdRng {
    let seed = std::env::var("PROPTEST_RNG_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(rand::random);
    println!("{what}: seed {seed}");
    StdRng::seed_from_u64(seed)
}

/// A sweep and a payout of every kind, mined, with inputs of the form that their kind has.
async fn one_of_each(world: &World, rng: &mut StdRng) {
    let tip = world.node.height().await.unwrap();
    for held in &world.wallets {
        let mut maker = Maker { world, rng, held, tip };
        let sweep = maker.sweep(format!("one.{}", held.name), &held.coins[..3]);
        let payout = maker.payout(format!("pay.{}", held.name), &held.coins[3..5], None);
        for ask in [sweep, payout] {
            let (transaction, _) = world.sign(held.name, &ask).await.unwrap();
            accepted(world, held, &ask, &transaction).await;
            for input in &transaction.input {
                let (script, items) = (input.script_sig.len(), input.witness.len());
                let right = match held.name {
                    "p2pkh" => (105..=107).contains(&script) && items == 0,
                    "p2sh-p2wpkh" => script == 23 && items == 2,
                    "p2tr" => script == 0 && items == 1,
                    "p2wsh" => script == 0 && items == 4,
                    _ => script == 0 && items == 2,
                };
                assert!(right, "{}: {input:?}", held.name);
            }
            let txid = world.node.send(&transaction).await.unwrap();
            world.node.mine(1).await.unwrap();
            assert_eq!(world.node.confirmations(txid).await.unwrap(), Some(1));
        }
    }
}

/// Random transactions over the coins that are there; nothing is sent, so that coins are spent again and again.
async fn random(
    world: &World,
    rng: &mut StdRng,
    numbers: std::ops::Range<usize>,
    made: &mut BTreeMap<String, usize>,
    reader: &mut Reader,
) {
    let tip = world.node.height().await.unwrap();
    let mut fresh: Vec<Vec<Coin>> =
        world.wallets.iter().map(|held| held.coins[..FOR_PAYOUTS].to_vec()).collect();
    let mut again: Option<(usize, Ask)> = None;
    for number in numbers {
        // A payout is sometimes made again: the same orders, the same coins, everything else anew.
        let before = again.take();
        let at = before.as_ref().map_or_else(|| number % world.wallets.len(), |(at, _)| *at);
        let held = &world.wallets[at];
        let mut maker = Maker { world, rng, held, tip };
        let key = format!("random.{number}");
        let ask = match before {
            Some((_, before)) => maker.payout(key, &before.coins, Some(&before)),
            None if fresh[at].len() > 1 && maker.rng.gen_bool(0.3) => {
                let count = maker.rng.gen_range(1..=2);
                let kept = fresh[at].len() - count;
                let coins = fresh[at].split_off(kept);
                maker.payout(key, &coins, None)
            }
            None => {
                let swept = &held.coins[FOR_PAYOUTS..];
                let count = maker.rng.gen_range(1..=swept.len().min(6));
                let coins: Vec<Coin> = swept.choose_multiple(maker.rng, count).cloned().collect();
                maker.sweep(key, &coins)
            }
        };
        let fee = reader.asked(&world.node, held.name, &ask).await;
        let (transaction, shared) = world.sign(held.name, &ask).await.unwrap_or_else(|refusal| {
            panic!("{number}, {}: {refusal}\n{:?}", held.name, ask.psbt.unsigned_tx)
        });
        accepted(world, held, &ask, &transaction).await;
        if let Some(shared) = shared {
            reader.read(&world.node, &shared, fee).await;
        }
        reader.finished(&world.node, &ask, &transaction).await;
        *made.entry(format!("{} {}", held.name, ask.lane)).or_default() += 1;
        if ask.lane == "withdraw" && rng.gen_bool(0.4) {
            again = Some((at, ask));
        }
    }
}

/// It is what was asked for, and the node would take it.
async fn accepted(world: &World, held: &Held, ask: &Ask, transaction: &Transaction) {
    let mut bare = transaction.clone();
    for input in &mut bare.input {
        input.script_sig = ScriptBuf::new();
        input.witness.clear();
    }
    assert_eq!(bare, ask.psbt.unsigned_tx, "{}", held.name);
    let verdict = world.node.test_accept(transaction).await.unwrap();
    let bytes = bitcoin::consensus::encode::serialize_hex(transaction);
    assert!(verdict.allowed, "{}, {}: {}: {bytes}", held.name, ask.key, verdict.reason);
}

/// Makes random transactions of one wallet.
struct Maker<'a> {
    world: &'a World,
    rng: &'a mut StdRng,
    held: &'a Held,
    tip: u32,
}

impl Maker<'_> {
    fn sweep(&mut self, key: String, coins: &[Coin]) -> Ask {
        let (colds, changes) = (self.rng.gen_range(1..=3), self.rng.gen_range(0..=2));
        let values = self.split(coins, colds + changes, 0);
        let mut outputs = Vec::new();
        for (number, value) in values.into_iter().enumerate() {
            outputs.push(if number < colds {
                let index = self.rng.gen_range(0..900);
                Output::ours(&self.world.cold, 0, index, value).unwrap()
            } else {
                self.change(value)
            });
        }
        self.ask(key, "sweep", coins, outputs, Vec::new())
    }

    /// Pays new orders, or those that were paid `before`.
    fn payout(&mut self, key: String, coins: &[Coin], before: Option<&Ask>) -> Ask {
        let orders = match before {
            Some(before) => before.orders.clone(),
            None => {
                let total = total(coins);
                let count = self.rng.gen_range(1..=3_u64);
                (0..count).map(|n| self.order(&format!("{key}.{n}"), total / (2 * count))).collect()
            }
        };
        let mut outputs: Vec<Output> = orders.iter().map(paid).collect();
        let ordered: u64 = outputs.iter().map(|output| output.paid.value.to_sat()).sum();
        // Without change, whatever is left goes to the miners; the caps of this policy allow it.
        let changes = self.rng.gen_range(1..=2);
        for value in self.split(coins, changes, ordered) {
            outputs.push(self.change(value));
        }
        self.ask(key, "withdraw", coins, outputs, orders)
    }

    fn change(&mut self, value: Amount) -> Output {
        let index = self.rng.gen_range(0..CHILDREN.change);
        Output::ours(&self.held.descriptor, 1, index, value).unwrap()
    }

    /// What coins hold, less a fee and what is paid already, in random parts.
    fn split(&mut self, coins: &[Coin], parts: usize, paid: u64) -> Vec<Amount> {
        // Larger than any of them is.
        let vsize = 11 + 150 * coins.len() + 43 * (parts + 3);
        let vsize = u64::try_from(vsize).unwrap();
        let rest = total(coins) - paid;
        // Less than the least part is: nobody's policy allows a fee above what is moved.
        let most = (total(coins) / (50 * vsize)).clamp(1, 300);
        let rest = rest - vsize * self.rng.gen_range(1..=most);
        let weights: Vec<u64> = (0..parts).map(|_| self.rng.gen_range(20..=100)).collect();
        let all: u64 = weights.iter().sum();
        let free = rest - LEAST_OUTPUT * u64::try_from(parts).unwrap();
        weights.iter().map(|w| Amount::from_sat(LEAST_OUTPUT + free * w / all)).collect()
    }

    fn order(&mut self, id: &str, most: u64) -> SignedOrder {
        let bytes: [u8; 32] = self.rng.r#gen();
        let hash = |n: usize| <[u8; 20]>::try_from(&bytes[n..n + 20]).unwrap();
        let script = match self.rng.gen_range(0..5) {
            0 => ScriptBuf::new_p2pkh(&PubkeyHash::from_byte_array(hash(0))),
            1 => ScriptBuf::new_p2sh(&ScriptHash::from_byte_array(hash(1))),
            2 => ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array(hash(2))),
            3 => ScriptBuf::new_p2wsh(&WScriptHash::from_byte_array(bytes)),
            _ => {
                let pair = bitcoin::key::Keypair::from_seckey_slice(secp256k1::SECP256K1, &bytes);
                let key = pair.unwrap().x_only_public_key().0;
                ScriptBuf::new_p2tr(secp256k1::SECP256K1, key, None)
            }
        };
        let address = Address::from_script(&script, Network::Regtest).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let order = Order {
            id: order::OrderId::parse(id).unwrap(),
            asset: asset::Network::Regtest.asset_id(),
            amount: self.rng.gen_range(most / 4..=most).into(),
            destination: order::AddressText::parse(&address.to_string()).unwrap(),
            expires_unix: now + 86_400,
        };
        let signature = order.sign(&self.world.shop).to_vec();
        SignedOrder { order: order.encode(), signature, signer: "shop".to_owned() }
    }

    /// Puts it together: order of outputs, sequences, lock time and versions as they come.
    fn ask(
        &mut self,
        key: String,
        lane: &'static str,
        coins: &[Coin],
        mut outputs: Vec<Output>,
        orders: Vec<SignedOrder>,
    ) -> Ask {
        outputs.shuffle(self.rng);
        let mut psbt = forge::psbt(&self.held.descriptor, coins, &outputs).unwrap();
        for input in &mut psbt.unsigned_tx.input {
            input.sequence =
                Sequence(*[0xffff_ffff, 0xffff_fffe, 0xffff_fffd].choose(self.rng).unwrap());
        }
        let height = self.rng.gen_range(0..=self.tip);
        // Some nodes relay none with 21, which tokens of theirs are made with (`parasite-cat21`).
        if self.rng.r#gen() && height != 21 {
            psbt.unsigned_tx.lock_time = LockTime::from_consensus(height);
        }
        if self.rng.r#gen() {
            psbt.unsigned_tx.version = TxVersion::ONE;
        }
        if self.rng.gen_bool(0.2) {
            // Parents may also be inside; beside it they come all the same.
            for (fields, coin) in psbt.inputs.iter_mut().zip(coins) {
                fields.non_witness_utxo = Some(coin.parent.clone());
            }
        }
        let version = if self.rng.r#gen() { Version::Zero } else { Version::Two };
        let (coins, turned) = (coins.to_vec(), self.rng.r#gen());
        Ask { key, lane, psbt, version, coins, orders, turned }
    }
}

fn total(coins: &[Coin]) -> u64 {
    coins.iter().map(|coin| coin.paid().unwrap().value.to_sat()).sum()
}

/// What an order wants paid.
fn paid(signed: &SignedOrder) -> Output {
    let order = Order::parse(&signed.order).unwrap();
    let amount = Amount::from_sat(u64::try_from(order.amount).unwrap());
    Output::foreign(order.destination.as_str(), amount).unwrap()
}
