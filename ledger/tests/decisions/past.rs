//! Pasts: what was signed, what waited and what became of it, and what officers said, step by step. They decide nothing.

use asset::Network;
use bitcoin::{ScriptBuf, Transaction, TxOut};
use policy::evidence::FreezeScope;
use policy::intent::SlotId;
use policy::order::OrderRef;

/// What a request would do, or did.
#[derive(Clone, Debug)]
pub struct Spent {
    pub request: u8,
    pub digest: [u8; 32],
    pub lane: &'static str,
    pub client: &'static str,
    pub wallet: &'static str,
    pub coins: Vec<(SlotId, u128)>,
    pub orders: Vec<Paid>,
    /// Scripts, and what each gets.
    pub outputs: Vec<(u8, u64)>,
    /// Whether the log's transaction can be read.
    pub readable: bool,
    pub fee: u128,
    pub change: Option<u32>,
    pub cold: Option<(&'static str, u32)>,
}

/// An order that is paid.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paid {
    pub order: OrderRef,
    pub digest: [u8; 32],
    pub ends: u64,
}

/// An officer's word; a yes that is taken back, and a freeze that is lifted, by its number.
#[derive(Clone, Debug)]
pub enum Word {
    Yes { ends: u64 },
    No { veto: bool },
    Back(u8),
    Freeze(FreezeScope),
}

#[derive(Clone, Debug)]
pub enum What {
    Allowed(Spent),
    /// Allowed once more.
    Again(u8),
    Signed(u8),
    /// Officers took it back, signed.
    Withheld {
        request: u8,
        may_have_left: bool,
    },
    Waits(Spent),
    WaitEnded(u8),
    /// Who says it, about the request that is decided; words are numbered.
    Said(u8, &'static str, Word),
    Lifted(u8),
    /// Officers said that what was signed for this request can never confirm, and unbound an order of its from that.
    Unbound(u8, OrderRef),
    ClockDoubted(u64),
}

/// What happened, and when.
pub type Past = Vec<(u64, What)>;

/// The number of the request that is decided, in a past that has it already.
pub const OWN: u8 = 5;
/// How far change of both wallets is proven.
pub const PROVEN: u32 = 1_000;

impl Spent {
    pub fn external(&self) -> u128 {
        self.outputs.iter().map(|(_, sat)| u128::from(*sat)).sum()
    }

    /// With an input, so that it can be read again.
    pub fn transaction(&self) -> Transaction {
        let output = |(script, sat): &(u8, u64)| TxOut {
            value: bitcoin::Amount::from_sat(*sat),
            script_pubkey: ScriptBuf::from_bytes(vec![*script; 22]),
        };
        let change = TxOut {
            value: bitcoin::Amount::from_sat(1_000 + u64::from(self.request)),
            script_pubkey: ScriptBuf::from_bytes(vec![0xcc; 22]),
        };
        Transaction {
            version: bitcoin::transaction::Version::TWO,
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![bitcoin::TxIn::default()],
            output: self.outputs.iter().map(output).chain([change]).collect(),
        }
    }
}

pub fn id(spent: &Spent) -> [u8; 32] {
    use bitcoin::hashes::Hash as _;
    spent.transaction().compute_txid().to_byte_array()
}

/// CAIP-2 id of the chain.
pub fn chain() -> String {
    Network::Regtest.chain_id().to_string()
}
