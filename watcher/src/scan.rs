//! Finds what is ours in transactions: a pure function of transactions and the match set. It never reads a
//! database or a node, and never derives an address.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use asset::Amount;
use bitcoin::{OutPoint, ScriptBuf, Transaction, Txid};

/// One of a wallet's two branches (BIP-44 "change" level).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Branch {
    /// 0: addresses given to others.
    External,
    /// 1: change.
    Change,
}

impl Branch {
    /// Its number in paths and in the database.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::External => 0,
            Self::Change => 1,
        }
    }

    /// Reads the number.
    #[must_use]
    pub const fn read(number: i64) -> Option<Self> {
        match number {
            0 => Some(Self::External),
            1 => Some(Self::Change),
            _ => None,
        }
    }
}

/// Whose a script is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// Wallet name.
    pub wallet: Arc<str>,
    /// Branch.
    pub branch: Branch,
    /// Index on it.
    pub index: u32,
}

/// Everything the follower looks for, in memory.
#[derive(Clone, Debug, Default)]
pub struct MatchSet {
    scripts: HashMap<ScriptBuf, Place>,
    coins: HashSet<OutPoint>,
    /// What unconfirmed transactions of interest spend, theirs and ours: whoever spends one of these in
    /// another transaction takes their place.
    pending: HashMap<OutPoint, Txid>,
}

impl MatchSet {
    /// Looks for one more script.
    pub fn add_script(&mut self, script: ScriptBuf, place: Place) {
        let _ = self.scripts.insert(script, place);
    }

    /// Looks for spends of one more coin.
    pub fn add_coin(&mut self, coin: OutPoint) {
        let _ = self.coins.insert(coin);
    }

    /// Watches what an unconfirmed transaction spends.
    pub fn add_pending(&mut self, spends: OutPoint, by: Txid) {
        let _ = self.pending.insert(spends, by);
    }

    /// Forgets every unconfirmed transaction.
    pub fn clear_pending(&mut self) {
        self.pending.clear();
    }

    /// How many scripts it looks for.
    #[must_use]
    pub fn scripts(&self) -> usize {
        self.scripts.len()
    }

    /// Takes in what a scan of the mempool found, once that is durable.
    pub fn learn_mempool(&mut self, scan: &Scan) {
        for found in &scan.found {
            self.learn_coins(found);
            for input in &found.transaction.input {
                self.add_pending(input.previous_output, found.txid);
            }
        }
    }

    /// Takes in what a scan of a block found, once that is durable.
    pub fn learn_block(&mut self, scan: &Scan) {
        for found in &scan.found {
            self.learn_coins(found);
            for input in &found.transaction.input {
                let _ = self.pending.remove(&input.previous_output);
            }
        }
        for conflict in &scan.conflicts {
            self.pending.retain(|_, by| *by != conflict.victim);
        }
    }

    fn learn_coins(&mut self, found: &Found) {
        for received in &found.received {
            self.add_coin(OutPoint::new(found.txid, received.vout));
        }
    }
}

/// A transaction that pays us or spends our coins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its id.
    pub txid: Txid,
    /// All of it.
    pub transaction: Transaction,
    /// Outputs that pay our scripts.
    pub received: Vec<Received>,
    /// Our coins it spends.
    pub spent: Vec<OutPoint>,
}

/// An output that pays one of our scripts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Output index.
    pub vout: u32,
    /// How much.
    pub amount: Amount,
    /// The script paid.
    pub script: ScriptBuf,
    /// Whose it is.
    pub place: Place,
}

/// A transaction that makes an unconfirmed one of interest impossible, or takes its place in the mempool.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Conflict {
    /// The one that lost.
    pub victim: Txid,
    /// The one that spends the same output.
    pub by: Txid,
}

/// What a scan found, in the order of the transactions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// Transactions of interest.
    pub found: Vec<Found>,
    /// Unconfirmed transactions of interest that lost.
    pub conflicts: Vec<Conflict>,
}

/// Matches transactions against the set. A transaction that spends an output of an earlier one in the same
/// list is matched too; blocks and mempool listings put parents first.
#[must_use]
pub fn scan<'a>(transactions: impl IntoIterator<Item = &'a Transaction>, set: &MatchSet) -> Scan {
    let mut result = Scan::default();
    let mut fresh = HashSet::new();
    for transaction in transactions {
        let received = received(transaction, set);
        let is_ours = |coin: &OutPoint| set.coins.contains(coin) || fresh.contains(coin);
        let inputs = || transaction.input.iter().map(|input| input.previous_output);
        let spent: Vec<_> = inputs().filter(is_ours).collect();
        let rivals: HashSet<_> = inputs().filter_map(|input| set.pending.get(&input)).collect();
        if received.is_empty() && spent.is_empty() && rivals.is_empty() {
            continue; // nearly every transaction there is: its id need not even be computed
        }
        let txid = transaction.compute_txid();
        let losers = rivals.into_iter().filter(|victim| **victim != txid);
        result.conflicts.extend(losers.map(|victim| Conflict { victim: *victim, by: txid }));
        if received.is_empty() && spent.is_empty() {
            continue;
        }
        fresh.extend(received.iter().map(|received| OutPoint::new(txid, received.vout)));
        result.found.push(Found { txid, transaction: transaction.clone(), received, spent });
    }
    result
}

fn received(transaction: &Transaction, set: &MatchSet) -> Vec<Received> {
    let outputs = (0_u32..).zip(&transaction.output);
    outputs
        .filter_map(|(vout, output)| {
            let place = set.scripts.get(&output.script_pubkey)?.clone();
            let amount = Amount::from(output.value.to_sat());
            Some(Received { vout, amount, script: output.script_pubkey.clone(), place })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use bitcoin::{Sequence, TxIn, TxOut, Witness};

    use super::*;

    fn script(n: u8) -> ScriptBuf {
        ScriptBuf::from_bytes(vec![0x51, n])
    }

    fn pays(inputs: &[OutPoint], outputs: &[u8]) -> Transaction {
        Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: inputs
                .iter()
                .map(|outpoint| TxIn {
                    previous_output: *outpoint,
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::MAX,
                    witness: Witness::new(),
                })
                .collect(),
            output: outputs
                .iter()
                .map(|n| TxOut {
                    value: bitcoin::Amount::from_sat(u64::from(*n) * 1000),
                    script_pubkey: script(*n),
                })
                .collect(),
        }
    }

    fn foreign(n: u8) -> OutPoint {
        OutPoint::new(pays(&[], &[n]).compute_txid(), u32::from(n))
    }

    fn set() -> MatchSet {
        let mut set = MatchSet::default();
        let place = Place { wallet: "w".into(), branch: Branch::External, index: 7 };
        set.add_script(script(1), place);
        set
    }

    #[test]
    fn outputs_to_our_scripts_are_found_with_their_place() {
        let transaction = pays(&[foreign(9)], &[5, 1, 6, 1]);
        let scan = scan([&transaction, &pays(&[foreign(8)], &[5])], &set());
        assert_eq!(scan.found.len(), 1);
        let vouts: Vec<_> = scan.found[0].received.iter().map(|r| r.vout).collect();
        assert_eq!(vouts, [1, 3]);
        assert_eq!(scan.found[0].received[0].amount, Amount::from(1000_u64));
        assert_eq!(scan.found[0].received[0].place.index, 7);
    }

    #[test]
    fn spends_are_found_within_one_block_and_after_learning() {
        let parent = pays(&[foreign(9)], &[1]);
        let coin = OutPoint::new(parent.compute_txid(), 0);
        let child = pays(&[coin], &[5]);
        let mut set = set();
        assert!(scan([&child], &set).found.is_empty());
        let both = scan([&parent, &child], &set);
        assert_eq!(both.found[1].spent, [coin]);
        set.learn_block(&scan([&parent], &set));
        assert_eq!(scan([&child], &set).found[0].spent, [coin]);
    }

    #[test]
    fn a_rival_for_a_pending_input_is_a_conflict_even_if_it_pays_us_nothing() {
        let ours = pays(&[foreign(9), foreign(8)], &[1]);
        let rival = pays(&[foreign(8), foreign(7)], &[5]);
        let mut set = set();
        let seen = scan([&ours], &set);
        set.learn_mempool(&seen);
        assert!(scan([&ours], &set).conflicts.is_empty(), "it is no rival of itself");
        let found = scan([&rival], &set);
        let conflict = Conflict { victim: ours.compute_txid(), by: rival.compute_txid() };
        assert_eq!((found.found.len(), &found.conflicts[..]), (0, &[conflict][..]));
        set.learn_block(&found);
        assert!(scan([&rival], &set).conflicts.is_empty());
    }
}
