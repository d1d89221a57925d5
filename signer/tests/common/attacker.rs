//! Whoever holds a client's certificate, its database and every order it was ever given, and no key: requests at random,
//! many of them nearly right.

use std::collections::HashMap;

use bitcoin::{ScriptBuf, Transaction};
use order::Order;

use crate::common::{
    Coin, Descriptors, FAR, Out, address, child, coin, header, order, own, psbt, signed, stranger,
    to,
};

/// Orders that the shop signed, each for somebody of its own.
const ORDERS: u64 = 8;
/// Coins there are: few, so that they come again.
const COINS: u64 = 300;
/// Indexes that the attacker tries.
const COLD: u64 = 45;
const CHANGE: u64 = 14;

pub(crate) struct Attacker {
    wallets: Descriptors,
    state: u64,
    number: u64,
    /// Everything that is ours, and in whose lane it may be paid.
    ours: HashMap<ScriptBuf, &'static str>,
    orders: Vec<Order>,
}

pub(crate) struct Attempt {
    pub(crate) header: proto::SignHeader,
    pub(crate) coins: Vec<Coin>,
}

impl Attacker {
    pub(crate) fn new(wallets: &Descriptors, seed: u64) -> Self {
        let mut ours = HashMap::new();
        for index in 0..COLD as u32 {
            ours.insert(child(&wallets.cold, false, index).1, "cold");
        }
        for index in 0..CHANGE as u32 {
            ours.insert(child(&wallets.deposits, true, index).1, "deposits");
            ours.insert(child(&wallets.hot, true, index).1, "hot");
        }
        let made = |number: u64| {
            let payee = stranger(100 + number as u8);
            order(&format!("o{number}"), 30_000 + number, &address(&payee), FAR)
        };
        Self {
            wallets: wallets.clone(),
            state: seed | 1,
            number: 0,
            ours,
            orders: (0..ORDERS).map(made).collect(),
        }
    }

    /// A number below this one.
    fn below(&mut self, bound: u64) -> u64 {
        // xorshift64*: repeats itself for a seed, on purpose.
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }

    fn rarely(&mut self) -> bool {
        self.below(12) == 0
    }

    pub(crate) fn attempt(&mut self) -> Attempt {
        self.number += 1;
        let withdraws = self.below(2) == 0;
        let (lane, wallet) = if withdraws { ("withdraw", "hot") } else { ("sweep", "deposits") };
        let lane = match self.below(48) {
            0..4 => "sweep",
            // The attacker knows of it, and it is granted to nobody.
            4 => "evacuate",
            5..10 => "consolidate",
            _ => lane,
        };
        let coins: Vec<Coin> = (0..=self.below(3)).map(|_| self.coin(wallet)).collect();
        let total: u64 = coins.iter().map(|coin| coin.output().value.to_sat()).sum();
        let orders = if withdraws && lane != "consolidate" {
            self.below(3)
        } else {
            u64::from(self.rarely())
        };
        let orders: Vec<Order> = (0..orders).map(|_| self.order()).collect();
        let outs = if lane == "consolidate" && !self.rarely() {
            let mine =
                if withdraws { self.wallets.hot.clone() } else { self.wallets.deposits.clone() };
            vec![own(&mine, true, self.below(3) as u32, total - 400 * coins.len() as u64)]
        } else {
            self.outs(wallet, total, &orders)
        };
        let mut psbt = psbt(&coins, &outs);
        if self.rarely()
            && let Some(claimed) = psbt.inputs[0].witness_utxo.as_mut()
        {
            claimed.value = bitcoin::Amount::from_sat(claimed.value.to_sat() / 2);
        }
        let mut header = header(&format!("a{}", self.number), lane, wallet, &psbt);
        if self.rarely() {
            header.idempotency_key = format!("a{}", 1 + self.below(self.number));
        }
        header.orders = orders.iter().map(signed).collect();
        for signed in &mut header.orders {
            match self.below(10) {
                0 => signed.signature[5] ^= 1,
                1 => {
                    // What the shop signed was another amount.
                    let text = String::from_utf8(signed.order.clone()).unwrap();
                    signed.order = text.replace("3000", "9000").into_bytes();
                }
                _ => {}
            }
        }
        Attempt { header, coins }
    }

    fn coin(&mut self, wallet: &str) -> Coin {
        let salt = self.below(COINS);
        let mine = if wallet == "hot" { &self.wallets.hot } else { &self.wallets.deposits };
        // The same coin looks the same each time.
        let (change, index) = (salt.is_multiple_of(7), salt as u32 % 12);
        coin(mine, change, index, 40_000 + salt * 100, 77_000 + salt, 1 + salt as usize % 3)
    }

    fn order(&mut self) -> Order {
        let which = self.below(ORDERS) as usize;
        self.orders[which].clone()
    }

    /// Outputs that come to about as much as the coins.
    fn outs(&mut self, wallet: &str, total: u64, orders: &[Order]) -> Vec<Out> {
        let fee = [0, 300, 900, 1_500, total / 20, total / 2][self.below(6) as usize];
        let mut left = total.saturating_sub(fee);
        let mut outs = Vec::new();
        for order in orders {
            let number = self.orders.iter().position(|one| one == order).unwrap() as u8;
            let more = if self.rarely() { 1_000 } else { 0 };
            let sat = u64::try_from(order.amount.units()).unwrap() + more;
            let payee = if self.rarely() { stranger(66) } else { stranger(100 + number) };
            outs.push(to(payee, sat));
            left = left.saturating_sub(sat);
        }
        let more = 1 + self.below(2);
        for rest in (1..=more).rev() {
            let sat = left / rest;
            left -= sat;
            if sat > 0 {
                outs.push(self.out(wallet, sat));
            }
        }
        outs
    }

    fn out(&mut self, wallet: &str, sat: u64) -> Out {
        let mine = if wallet == "hot" { &self.wallets.hot } else { &self.wallets.deposits };
        let (mine, cold) = (mine.clone(), self.wallets.cold.clone());
        // Mostly near the beginning, where it is allowed.
        let index = |it: &mut Self, most: u64| {
            let near = it.below(4) > 0;
            it.below(if near { 3 } else { most }) as u32
        };
        match self.below(12) {
            0 => to(stranger(66), sat),
            1 => own(&mine, false, 3, sat),
            2 => {
                // A stranger's script under a name of ours.
                let mut out = own(&cold, false, 0, sat);
                out.script = stranger(66);
                out
            }
            3..=6 if wallet == "deposits" => own(&cold, false, index(self, COLD), sat),
            7 => own(&cold, false, index(self, COLD), sat),
            8 if wallet == "deposits" => own(&cold, false, 0, sat),
            _ => own(&mine, true, index(self, CHANGE), sat),
        }
    }

    /// What leaves with this transaction for anybody but ourselves and whom the shop ordered to be paid, and whom it pays.
    pub(crate) fn stolen(&self, lane: &str, transaction: &Transaction) -> (u64, Vec<usize>) {
        let (mut stolen, mut paid) = (0, Vec::new());
        for output in &transaction.output {
            let sat = output.value.to_sat();
            let order = self.orders.iter().position(|order| {
                u64::try_from(order.amount.units()).unwrap() == sat
                    && address(&output.script_pubkey) == order.destination.to_string()
            });
            match (self.ours.get(&output.script_pubkey), order, lane) {
                (Some(&"cold" | &"deposits"), _, "sweep") | (Some(&"hot"), _, "withdraw") => {}
                (Some(&"deposits" | &"hot"), _, "consolidate") => {}
                (None, Some(order), "withdraw") if !paid.contains(&order) => paid.push(order),
                _ => stolen += sat,
            }
        }
        (stolen, paid)
    }
}

/// Beside sweeps and payouts the watcher may put a wallet's change together.
pub(crate) fn consolidations(fee_budget: u64) -> String {
    format!(
        "[[consolidate]]\nname = \"consolidate\"\nclients = [\"watcher-1\"]\nwallets = [\"deposits\", \"hot\"]\n\
         fee = {{ max_total = \"0.01 BTC\", max_feerate = \"100 sat/vB\", max_percent = \"5%\" }}\n\
         fee_budget = [{{ sum = \"{fee_budget} sat\", window = \"1d\" }}]\n"
    )
}

/// How many attempts: `COFFERDAM_ATTACKS` says how many in the long mode.
pub(crate) fn attempts(usually: u64) -> u64 {
    std::env::var("COFFERDAM_ATTACKS").ok().and_then(|text| text.parse().ok()).unwrap_or(usually)
}
