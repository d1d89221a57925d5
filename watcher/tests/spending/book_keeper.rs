//! A signer in memory with keys from seeds: it checks what the real one checks of a request's shape, remembers keys,
//! coins and orders, and fails when told to.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv};
use bitcoin::consensus::encode;
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{NetworkKind, OutPoint, Psbt, Transaction, TxOut, Witness};
use order::Order;
use prost::Message as _;
use proto::sign_request::Part;
use proto::signer_server::Signer;
use proto::{
    AttestReply, AttestRequest, SignHeader, SignReply, SignRequest, Standing, StatusReply,
    StatusRequest, WalletStatus,
};
use tonic::{Code, Request, Response, Status, Streaming};

type Paths = BTreeMap<PublicKey, (Fingerprint, DerivationPath)>;

/// What the signer does with one of the next requests, instead of answering it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trouble {
    /// Says no, for this reason.
    Deny(&'static str),
    /// Says that it cannot now, for this reason.
    NotNow(&'static str),
    /// Refuses, for this reason, what it has signed already.
    Withhold(&'static str),
    /// Signs, remembers, and loses the answer on the way.
    LoseAnswer,
    /// Is not there.
    Away,
    /// Sets the coins aside for the request, then fails.
    FailInToken,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub trouble: VecDeque<Trouble>,
    /// Why it cannot sign anything once the troubles are over.
    not_now: Option<&'static str>,
    answers: HashMap<String, (Vec<u8>, Option<Vec<u8>>)>,
    /// Orders of every request a coin was allowed for.
    uses: HashMap<OutPoint, Vec<BTreeSet<String>>>,
    /// Coins of every version that was allowed for an order.
    versions: HashMap<String, Vec<BTreeSet<OutPoint>>>,
    pub signed: Vec<Transaction>,
    /// Keys from this index on are not proven yet, and since when `status` says so.
    pub proven: Option<u32>,
    pub proven_in_status: Option<u32>,
    /// Below this index the addresses of deposits are attested.
    pub attested: u32,
    next_cold: u32,
    last_change: u32,
}

#[derive(Clone, Debug)]
pub struct BookKeeper {
    pub ledger: Arc<Mutex<Ledger>>,
    wallets: BTreeMap<&'static str, u8>,
}

impl BookKeeper {
    pub fn new(wallets: &[(&'static str, u8)]) -> Self {
        Self { ledger: Arc::default(), wallets: wallets.iter().copied().collect() }
    }

    pub fn expect_trouble(&self, trouble: Trouble) {
        self.ledger.lock().unwrap().trouble.push_back(trouble);
    }

    /// Nothing more is signed, for this reason.
    pub fn refuse_after_troubles(&self, code: &'static str) {
        self.ledger.lock().unwrap().not_now = Some(code);
    }

    /// Keys below `really` are proven; the status says those below `said`.
    pub fn prove(&self, really: u32, said: u32) {
        let mut ledger = self.ledger.lock().unwrap();
        (ledger.proven, ledger.proven_in_status) = (Some(really), Some(said));
    }

    /// A coin was signed for something that nobody here knows of.
    pub fn set_aside(&self, coin: OutPoint) {
        let unknown = BTreeSet::from(["unknown".to_owned()]);
        self.ledger.lock().unwrap().uses.entry(coin).or_default().push(unknown);
    }

    /// How many different transactions were signed.
    pub fn signed(&self) -> usize {
        self.ledger.lock().unwrap().signed.len()
    }

    fn account(&self, wallet: &str) -> Xpriv {
        let master = Xpriv::new_master(NetworkKind::Test, &[self.wallets[wallet]; 32]).unwrap();
        let path: DerivationPath = "m/84'/1'/0'".parse().unwrap();
        master.derive_priv(&Secp256k1::new(), &path).unwrap()
    }

    fn answer(&self, header: &SignHeader, parents: &[Vec<u8>]) -> Result<SignReply, Status> {
        let ledger = &mut *self.ledger.lock().unwrap();
        let psbt =
            Psbt::deserialize(&header.psbt).map_err(|e| refuse("bad-psbt", &e.to_string()))?;
        let content = [
            header.lane.as_bytes(),
            header.wallet.as_bytes(),
            &encode::serialize(&psbt.unsigned_tx),
            &header.orders.iter().flat_map(|order| order.order.clone()).collect::<Vec<_>>(),
        ]
        .join(&0);
        match ledger.answers.get(&header.idempotency_key) {
            Some((known, _)) if *known != content => {
                return Err(with_reason(
                    Code::AlreadyExists,
                    "idempotency-key-reused",
                    "other content",
                ));
            }
            Some((_, Some(_))) if matches!(ledger.trouble.front(), Some(Trouble::Withhold(_))) => {
                let Some(Trouble::Withhold(code)) = ledger.trouble.pop_front() else {
                    unreachable!()
                };
                return Err(refuse(code, "the policy has changed since"));
            }
            Some((_, Some(transaction))) => return Ok(reply(transaction.clone(), true)),
            _ => {}
        }
        let proven = ledger.proven.unwrap_or(u32::MAX);
        if indexes(psbt.inputs.iter().map(|input| &input.bip32_derivation)).any(|i| i >= proven) {
            return Err(with_reason(Code::FailedPrecondition, "input-not-proven", "not yet"));
        }
        let trouble = ledger.trouble.pop_front();
        match trouble.or(ledger.not_now.map(Trouble::NotNow)) {
            Some(Trouble::Away) => return Err(Status::unavailable("away")),
            Some(Trouble::NotNow(code)) => {
                return Err(with_reason(Code::FailedPrecondition, code, "not now"));
            }
            Some(Trouble::Deny(code)) if code.starts_with("order-s") => {
                return Err(refuse(code, "not by that key"));
            }
            Some(Trouble::Deny(code)) => {
                return Err(with_reason(Code::PermissionDenied, code, "denied"));
            }
            _ => {}
        }
        let coins = check_parents(&psbt, parents)?;
        let _ = ledger.answers.insert(header.idempotency_key.clone(), (content, None));
        self.allow(ledger, header, &psbt)?;
        if trouble == Some(Trouble::FailInToken) {
            return Err(Status::unavailable("token gone"));
        }
        let transaction = self.sign_inputs(&header.wallet, &psbt, &coins);
        let raw = encode::serialize(&transaction);
        ledger.answers.get_mut(&header.idempotency_key).unwrap().1 = Some(raw.clone());
        ledger.signed.push(transaction);
        if trouble == Some(Trouble::LoseAnswer) {
            return Err(Status::unknown("connection reset"));
        }
        Ok(reply(raw, false))
    }

    /// The rules that a watcher can run into: coins, orders, and where outputs go.
    fn allow(&self, ledger: &mut Ledger, header: &SignHeader, psbt: &Psbt) -> Result<(), Status> {
        let deny = |code, text: &str| Err(with_reason(Code::PermissionDenied, code, text));
        let inputs: BTreeSet<_> =
            psbt.unsigned_tx.input.iter().map(|i| i.previous_output).collect();
        let orders: Vec<_> =
            header.orders.iter().map(|o| Order::parse(&o.order).unwrap()).collect();
        let names = header.orders.iter().zip(&orders);
        let ids: BTreeSet<_> =
            names.map(|(signed, order)| format!("{}/{}", signed.signer, order.id)).collect();
        if inputs.iter().any(|coin| {
            ledger.uses.get(coin).is_some_and(|uses| uses.iter().any(|use_| *use_ != ids))
        }) {
            return deny("slot-signed", "signed before for other orders");
        }
        for id in &ids {
            let versions = ledger.versions.entry(id.clone()).or_default();
            if versions.iter().any(|version| version.is_disjoint(&inputs)) {
                return deny("order-paid", "an earlier version could confirm beside this one");
            }
        }
        match header.lane.as_str() {
            "sweep" => {
                let [index] = own_outputs(psbt)[..] else {
                    return deny("sweep-external", "not one own output");
                };
                if psbt.unsigned_tx.output.len() != 1 || index > ledger.next_cold + 20 {
                    return deny("index-window", "the cold output");
                }
                ledger.next_cold = ledger.next_cold.max(index + 1);
            }
            "withdraw" => {
                let [order] = &orders[..] else { return deny("no-order", "one order") };
                let paid = psbt.unsigned_tx.output.iter().filter(|o| {
                    u128::from(o.value.to_sat()) == order.amount.units()
                        && address(o) == order.destination.to_string()
                });
                if paid.count() != 1 || psbt.unsigned_tx.output.len() > 2 {
                    return deny("order-mismatch", "the outputs");
                }
                for index in own_outputs(psbt) {
                    ledger.last_change = ledger.last_change.max(index);
                }
            }
            other => return deny("unknown-lane", other),
        }
        for coin in &inputs {
            ledger.uses.entry(*coin).or_default().push(ids.clone());
        }
        for id in ids {
            ledger.versions.entry(id).or_default().push(inputs.clone());
        }
        Ok(())
    }

    fn sign_inputs(&self, wallet: &str, psbt: &Psbt, coins: &[TxOut]) -> Transaction {
        let (secp, account) = (Secp256k1::new(), self.account(wallet));
        let mut transaction = psbt.unsigned_tx.clone();
        let mut hashes = SighashCache::new(&psbt.unsigned_tx);
        for (n, (fields, coin)) in psbt.inputs.iter().zip(coins).enumerate() {
            let (_, (_, path)) = fields.bip32_derivation.first_key_value().unwrap();
            let end: Vec<ChildNumber> = path.into_iter().skip(3).copied().collect();
            let child = account.derive_priv(&secp, &end).unwrap().private_key;
            let public = PublicKey::from_secret_key(&secp, &child);
            let hash = hashes
                .p2wpkh_signature_hash(n, &coin.script_pubkey, coin.value, EcdsaSighashType::All)
                .unwrap();
            let signature = secp.sign_ecdsa(&Message::from(hash), &child);
            let signature =
                bitcoin::ecdsa::Signature { signature, sighash_type: EcdsaSighashType::All };
            transaction.input[n].witness = Witness::p2wpkh(&signature, &public);
        }
        transaction
    }
}

fn check_parents(psbt: &Psbt, parents: &[Vec<u8>]) -> Result<Vec<TxOut>, Status> {
    let mut known = HashMap::new();
    for raw in parents {
        let parent: Transaction = encode::deserialize(raw).unwrap();
        if known.insert(parent.compute_txid(), parent).is_some() {
            return Err(refuse("duplicate-parent", "twice"));
        }
    }
    let wanted: BTreeSet<_> =
        psbt.unsigned_tx.input.iter().map(|i| i.previous_output.txid).collect();
    if wanted.len() != known.len() || wanted.iter().any(|txid| !known.contains_key(txid)) {
        return Err(refuse("missing-parent", "parents are not those of the inputs"));
    }
    let inputs = psbt.unsigned_tx.input.iter().zip(&psbt.inputs);
    inputs
        .map(|(input, fields)| {
            let OutPoint { txid, vout } = input.previous_output;
            let coin = known[&txid].output[vout as usize].clone();
            if fields.witness_utxo.as_ref() == Some(&coin) {
                Ok(coin)
            } else {
                Err(refuse("wrong-amount", ""))
            }
        })
        .collect()
}

fn own_outputs(psbt: &Psbt) -> Vec<u32> {
    indexes(psbt.outputs.iter().map(|output| &output.bip32_derivation)).collect()
}

fn indexes<'a>(paths: impl Iterator<Item = &'a Paths>) -> impl Iterator<Item = u32> {
    paths.filter_map(|paths| match paths.first_key_value()?.1.1.into_iter().last() {
        Some(ChildNumber::Normal { index }) => Some(*index),
        _ => None,
    })
}

fn address(output: &TxOut) -> String {
    bitcoin::Address::from_script(&output.script_pubkey, bitcoin::Network::Regtest)
        .unwrap()
        .to_string()
}

fn reply(transaction: Vec<u8>, stored: bool) -> SignReply {
    SignReply {
        request_id: vec![0; 16],
        transaction,
        txid: String::new(),
        stored,
        tier: "test".into(),
        psbt: Vec::new(),
    }
}

fn refuse(code: &str, text: &str) -> Status {
    with_reason(Code::InvalidArgument, code, text)
}

fn with_reason(code: Code, reason: &str, text: &str) -> Status {
    let reasons = vec![proto::Reason { code: reason.into(), text: text.into() }];
    let details = proto::Refusal { request_id: vec![0; 16], reasons, standing: 0 };
    Status::with_details(code, format!("{reason}: {text}"), details.encode_to_vec().into())
}

/// The refusal with what is known of the request's key, as the real signer adds it.
fn with_standing(status: Status, signed: bool) -> Status {
    let Ok(mut details) = proto::Refusal::decode(status.details()) else { return status };
    if details.reasons.is_empty() {
        return status;
    }
    let standing = if signed { Standing::Signed } else { Standing::NotSigned };
    details.standing = standing.into();
    Status::with_details(status.code(), status.message(), details.encode_to_vec().into())
}

#[tonic::async_trait]
impl Signer for BookKeeper {
    async fn sign(
        &self,
        request: Request<Streaming<SignRequest>>,
    ) -> Result<Response<SignReply>, Status> {
        let mut parts = request.into_inner();
        let mut header = None;
        let mut parents = Vec::new();
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(Part::Header(first)) => header = Some(first),
                Some(Part::Parents(batch)) => parents.extend(batch.transactions),
                None => return Err(refuse("bad-request", "an empty part")),
            }
        }
        let header = header.ok_or_else(|| refuse("bad-request", "no header"))?;
        let answer = self.answer(&header, &parents);
        let ledger = self.ledger.lock().unwrap();
        let signed =
            ledger.answers.get(&header.idempotency_key).is_some_and(|known| known.1.is_some());
        answer.map(Response::new).map_err(|status| with_standing(status, signed))
    }

    async fn attest(&self, _: Request<AttestRequest>) -> Result<Response<AttestReply>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusReply>, Status> {
        let ledger = self.ledger.lock().unwrap();
        let wallets = self.wallets.keys().map(|name| WalletStatus {
            name: (*name).into(),
            change_proven: 1_000,
            external_proven: ledger.proven_in_status.unwrap_or(1_000),
            next_cold_index: ledger.next_cold,
            last_change_index: ledger.last_change,
            attested_below: if *name == "deposits" { ledger.attested } else { 0 },
            ..WalletStatus::default()
        });
        Ok(Response::new(StatusReply {
            wallets: wallets.collect(),
            token_ready: true,
            ..StatusReply::default()
        }))
    }
}
