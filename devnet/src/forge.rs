//! Writes the signing requests that a compromised watcher could send. Only for attacks that must fail, and for tests.

use std::collections::BTreeMap;
use std::str::FromStr as _;

use anyhow::{Context as _, Result};
use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode;
use bitcoin::transaction::Version;
use bitcoin::{Address, Amount, Network, OutPoint, Psbt, Sequence, Transaction, TxIn, TxOut};
use miniscript::psbt::{PsbtExt as _, PsbtInputExt as _};
use miniscript::{DefiniteDescriptorKey, Descriptor, DescriptorPublicKey};
use proto::sign_request::Part;
use proto::{ParentBatch, SignHeader, SignRequest, SignedOrder};

/// A coin of a wallet: where its address is, and the transaction that paid it.
#[derive(Debug, Clone)]
pub struct Coin {
    /// The paying transaction, whole.
    pub parent: Transaction,
    /// Which of its outputs.
    pub output: u32,
    /// 0 for customers' addresses, 1 for change.
    pub branch: usize,
    /// Index on that branch.
    pub index: u32,
}

impl Coin {
    /// The coin at `script` in `parent`.
    pub fn find(parent: Transaction, address: &Address, branch: usize, index: u32) -> Result<Self> {
        let script = address.script_pubkey();
        let output = parent.output.iter().position(|output| output.script_pubkey == script);
        let output = u32::try_from(output.context("the transaction does not pay that address")?)?;
        Ok(Self { parent, output, branch, index })
    }

    /// The coin's amount and script.
    pub fn paid(&self) -> Result<&TxOut> {
        Ok(self.parent.tx_out(usize::try_from(self.output)?)?)
    }

    fn outpoint(&self) -> OutPoint {
        OutPoint::new(self.parent.compute_txid(), self.output)
    }
}

/// Where coins go.
#[derive(Debug, Clone)]
pub struct Output {
    /// Amount and script.
    pub paid: TxOut,
    /// For an address of ours: its descriptor, branch and index, which the signer asks for.
    pub ours: Option<(String, usize, u32)>,
}

impl Output {
    /// To somebody else's regtest address.
    pub fn foreign(address: &str, value: Amount) -> Result<Self> {
        let address = Address::from_str(address)?.require_network(Network::Regtest)?;
        Ok(Self { paid: TxOut { value, script_pubkey: address.script_pubkey() }, ours: None })
    }

    /// To an address of a wallet's descriptor.
    pub fn ours(descriptor: &str, branch: usize, index: u32, value: Amount) -> Result<Self> {
        let script_pubkey = address(descriptor, branch, index)?.script_pubkey();
        Ok(Self {
            paid: TxOut { value, script_pubkey },
            ours: Some((descriptor.to_owned(), branch, index)),
        })
    }
}

/// The regtest address at an index of a multipath descriptor.
pub fn address(descriptor: &str, branch: usize, index: u32) -> Result<Address> {
    Ok(definite(descriptor, branch, index)?.address(Network::Regtest)?)
}

/// An unsigned PSBT that spends `coins` of `descriptor` to `outputs`, with everything the signer asks for but the parents.
pub fn psbt(descriptor: &str, coins: &[Coin], outputs: &[Output]) -> Result<Psbt> {
    let input = |coin: &Coin| TxIn {
        previous_output: coin.outpoint(),
        sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
        ..TxIn::default()
    };
    let mut psbt = Psbt::from_unsigned_tx(Transaction {
        version: Version::TWO,
        lock_time: LockTime::ZERO,
        input: coins.iter().map(input).collect(),
        output: outputs.iter().map(|output| output.paid.clone()).collect(),
    })?;
    for (at, coin) in coins.iter().enumerate() {
        let input = psbt.inputs.get_mut(at).context("no such input")?;
        let paid = coin.paid()?;
        // Of inputs without witness nobody believes an amount beside the parent.
        input.witness_utxo = (!paid.script_pubkey.is_p2pkh()).then(|| paid.clone());
        input.update_with_descriptor_unchecked(&definite(descriptor, coin.branch, coin.index)?)?;
    }
    for (at, output) in outputs.iter().enumerate() {
        if let Some((descriptor, branch, index)) = &output.ours {
            psbt.update_output_with_descriptor(at, &definite(descriptor, *branch, *index)?)?;
        }
    }
    Ok(psbt)
}

/// A whole signing request as the stream wants it: the header, then every parent once.
pub fn request(
    key: &str,
    lane: &str,
    wallet: &str,
    psbt: &Psbt,
    coins: &[Coin],
    orders: Vec<SignedOrder>,
) -> Vec<SignRequest> {
    let header = SignHeader {
        idempotency_key: key.to_owned(),
        lane: lane.to_owned(),
        wallet: wallet.to_owned(),
        psbt: psbt.serialize(),
        orders,
    };
    stream(header, coins)
}

/// The same for a header that is written already, whatever version its PSBT has.
pub fn stream(header: SignHeader, coins: &[Coin]) -> Vec<SignRequest> {
    let parents: BTreeMap<_, _> = coins
        .iter()
        .map(|coin| (coin.parent.compute_txid(), encode::serialize(&coin.parent)))
        .collect();
    let parents = ParentBatch { transactions: parents.into_values().collect() };
    vec![
        SignRequest { part: Some(Part::Header(header)) },
        SignRequest { part: Some(Part::Parents(parents)) },
    ]
}

fn definite(
    descriptor: &str,
    branch: usize,
    index: u32,
) -> Result<Descriptor<DefiniteDescriptorKey>> {
    let descriptor = Descriptor::<DescriptorPublicKey>::from_str(descriptor)?;
    let branches = descriptor.into_single_descriptors()?;
    Ok(branches
        .get(branch)
        .context("the descriptor has no such branch")?
        .at_derivation_index(index)?)
}
