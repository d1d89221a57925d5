//! A signer in memory with keys from seeds: it checks what the real one checks of a request's shape, remembers keys,
//! coins and orders, and fails when told to.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};

use bitcoin::bip32::{ChildNumber, DerivationPath, Fingerprint, Xpriv};
use bitcoin::consensus::encode;
use bitcoin::script::Builder;
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1};
use bitcoin::sighash::{EcdsaSighashType, SighashCache};
use bitcoin::{NetworkKind, OutPoint, Psbt, Transaction, TxOut, Witness};
use order::Order;
use prost::Message as _;
use proto::sign_request::Part;
use proto::signer_server::Signer;
use proto::{
    AttestReply, AttestRequest, OrderReply, OrderRequest, SignHeader, SignReply, SignRequest,
    SignedOrder, Standing, StatusReply, StatusRequest, WalletStatus,
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
    /// Sets the coins aside for the request, which needs the approval of officers.
    Wait,
}

#[derive(Debug, Default)]
pub struct Ledger {
    pub trouble: VecDeque<Trouble>,
    /// Orders that the policy denies, whatever is said of them.
    pub never: BTreeSet<String>,
    /// Every order that was asked for, each time.
    asked: Vec<String>,
    /// How often it was asked what it signed for an order.
    pub looked: usize,
    /// It says nothing of orders.
    pub silent: bool,
    /// Why it cannot sign anything once the troubles are over.
    not_now: Option<&'static str>,
    answers: HashMap<String, (Vec<u8>, Option<Vec<u8>>)>,
    /// Orders of every request a coin was allowed for.
    uses: HashMap<OutPoint, Vec<BTreeSet<String>>>,
    /// Coins of every version that was allowed for an order.
    versions: HashMap<String, Vec<BTreeSet<OutPoint>>>,
    /// Keys that coins were set aside under.
    allowed: BTreeSet<String>,
    /// What was signed for each order.
    paid: HashMap<String, Vec<Vec<u8>>>,
    /// A coin whose key is at fault, and whether only the token finds out.
    pub faulty: Option<(OutPoint, bool)>,
    /// Why nothing of that is given out.
    withheld: Option<&'static str>,
    pub signed: Vec<Transaction>,
    /// On which lanes.
    pub lanes: Vec<String>,
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

impl Ledger {
    fn is_unbound(&self, order: &str) -> bool {
        self.paid.contains_key(order) && self.versions.get(order).is_some_and(Vec::is_empty)
    }
}

impl BookKeeper {
    pub fn new(wallets: &[(&'static str, u8)]) -> Self {
        Self { ledger: Arc::default(), wallets: wallets.iter().copied().collect() }
    }

    pub fn expect_trouble(&self, trouble: Trouble) {
        self.ledger.lock().unwrap().trouble.push_back(trouble);
    }

    /// The key of this coin is at fault: its record, or in the token.
    pub fn spoil(&self, coin: OutPoint, in_token: bool) {
        self.ledger.lock().unwrap().faulty = Some((coin, in_token));
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

    /// Officers said that nothing which was signed for the order can ever confirm.
    pub fn unbind(&self, order: &str) {
        let mut ledger = self.ledger.lock().unwrap();
        let bound =
            ledger.versions.iter_mut().filter(|(name, _)| name.ends_with(&format!("/{order}")));
        bound.for_each(|(_, versions)| versions.clear());
    }

    /// A coin was signed for something that nobody here knows of.
    pub fn set_aside(&self, coin: OutPoint) {
        let unknown = BTreeSet::from(["unknown".to_owned()]);
        self.ledger.lock().unwrap().uses.entry(coin).or_default().push(unknown);
    }

    /// The policy denies this order as long as it is called so.
    pub fn never(&self, order: &str) {
        let _ = self.ledger.lock().unwrap().never.insert(order.to_owned());
    }

    /// Every order that was asked for, each time.
    pub fn asked(&self) -> Vec<String> {
        self.ledger.lock().unwrap().asked.clone()
    }

    /// Somebody else was allowed to pay this order, with coins that nobody here knows of.
    pub fn allow_elsewhere(&self, order: &str) {
        let coins = BTreeSet::from([OutPoint::null()]);
        self.ledger.lock().unwrap().versions.entry(order.to_owned()).or_default().push(coins);
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
                ledger.withheld = Some(code);
                return Err(refuse(code, "the policy has changed since"));
            }
            Some((_, Some(transaction))) => {
                ledger.withheld = None;
                return Ok(reply(transaction.clone(), true));
            }
            _ => {}
        }
        let proven = ledger.proven.unwrap_or(u32::MAX);
        if indexes(psbt.inputs.iter().map(|input| &input.bip32_derivation)).any(|i| i >= proven) {
            return Err(with_reason(Code::FailedPrecondition, "input-not-proven", "not yet"));
        }
        let names: Vec<_> = header.orders.iter().map(name).collect();
        ledger.asked.extend(names.iter().cloned());
        if names.iter().any(|name| ledger.never.contains(name)) {
            return Err(with_reason(Code::PermissionDenied, "policy-denied", "it is"));
        }
        let trouble = ledger.trouble.pop_front();
        stopped_by(trouble.or(ledger.not_now.map(Trouble::NotNow)))?;
        let coins = check_parents(&psbt, parents)?;
        let spent = |coin: OutPoint| {
            psbt.unsigned_tx.input.iter().position(|input| input.previous_output == coin)
        };
        let fault = ledger.faulty.and_then(|(coin, token)| Some((spent(coin)?, token)));
        if let Some((input, false)) = fault {
            return Err(faulty("records-fault", input));
        }
        let _ = ledger.answers.insert(header.idempotency_key.clone(), (content, None));
        self.allow(ledger, header, &psbt)?;
        ledger.allowed.insert(header.idempotency_key.clone());
        if let Some((input, _)) = fault {
            return Err(faulty("token-fault", input));
        }
        stopped_once_allowed(trouble)?;
        let transaction = self.sign_inputs(&header.wallet, &psbt, &coins);
        let raw = encode::serialize(&transaction);
        ledger.answers.get_mut(&header.idempotency_key).unwrap().1 = Some(raw.clone());
        ledger.signed.push(transaction);
        for order in &header.orders {
            ledger.paid.entry(name(order)).or_default().push(raw.clone());
        }
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
        let ids: BTreeSet<_> = header.orders.iter().map(name).collect();
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
            "sweep" | "escape" => {
                let [index] = own_outputs(psbt)[..] else {
                    return deny("sweep-external", "not one own output");
                };
                if psbt.unsigned_tx.output.len() != 1 || index > ledger.next_cold + 20 {
                    return deny("index-window", "the cold output");
                }
                ledger.next_cold = ledger.next_cold.max(index + 1);
            }
            "withdraw" | "bump" => {
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
        ledger.lanes.push(header.lane.clone());
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
            let (script, all) = (&coin.script_pubkey, EcdsaSighashType::All);
            let message = if script.is_p2pkh() {
                Message::from(hashes.legacy_signature_hash(n, script, all.to_u32()).unwrap())
            } else {
                let hash = hashes.p2wpkh_signature_hash(n, script, coin.value, all);
                Message::from(hash.unwrap())
            };
            let signature = secp.sign_ecdsa(&message, &child);
            let signature = bitcoin::ecdsa::Signature { signature, sighash_type: all };
            if script.is_p2pkh() {
                transaction.input[n].script_sig = Builder::new()
                    .push_slice(signature.serialize())
                    .push_slice(public.serialize())
                    .into_script();
            } else {
                transaction.input[n].witness = Witness::p2wpkh(&signature, &public);
            }
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
            let told = Some(&coin).filter(|coin| !coin.script_pubkey.is_p2pkh());
            if fields.witness_utxo.as_ref() == told {
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
    let details = proto::Refusal { request_id: vec![0; 16], reasons, ..Default::default() };
    Status::with_details(code, format!("{reason}: {text}"), details.encode_to_vec().into())
}

fn faulty(reason: &str, input: usize) -> Status {
    let reasons = vec![proto::Reason { code: reason.into(), text: "damaged".into() }];
    let faulty = vec![u32::try_from(input).unwrap()];
    let details = proto::Refusal { reasons, faulty, ..Default::default() };
    let message = format!("{reason}: damaged");
    Status::with_details(Code::Internal, message, details.encode_to_vec().into())
}

impl Ledger {
    /// What is known of an order, as the real signer says it.
    fn of_order(&self, order: &SignedOrder) -> Standing {
        let name = name(order);
        match (self.paid.contains_key(&name), self.versions.get(&name)) {
            (true, _) => Standing::Signed,
            (false, Some(versions)) if !versions.is_empty() => Standing::Allowed,
            (false, _) => Standing::NotSigned,
        }
    }

    /// The refusal with what is known of the request's key and orders.
    fn with_standing(&self, status: Status, header: &SignHeader) -> Status {
        let Ok(mut details) = proto::Refusal::decode(status.details()) else { return status };
        // Who is locked out is turned away before anybody looks.
        if details.reasons.iter().all(|reason| reason.code == "client-locked") {
            return status;
        }
        let key = &header.idempotency_key;
        let signed = self.answers.get(key).is_some_and(|known| known.1.is_some());
        details.standing = match (signed, self.allowed.contains(key)) {
            (true, _) => Standing::Signed,
            (false, true) => Standing::Allowed,
            (false, false) => Standing::NotSigned,
        }
        .into();
        // `Signed` counts for more than `Allowed`.
        let orders = header.orders.iter().map(|order| self.of_order(order));
        let most = |standing: &Standing| match standing {
            Standing::Signed => 2,
            Standing::Allowed => 1,
            _ => 0,
        };
        details.orders = orders.max_by_key(most).unwrap_or(Standing::NotSigned).into();
        Status::with_details(status.code(), status.message(), details.encode_to_vec().into())
    }
}

/// An order's name, as the watcher's.
fn name(order: &SignedOrder) -> String {
    format!("{}/{}", order.signer, Order::parse(&order.order).unwrap().id)
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
        answer.map(Response::new).map_err(|status| ledger.with_standing(status, &header))
    }

    async fn order(&self, request: Request<OrderRequest>) -> Result<Response<OrderReply>, Status> {
        let order = request.into_inner().order.unwrap();
        let mut ledger = self.ledger.lock().unwrap();
        ledger.looked += 1;
        if ledger.silent {
            return Err(Status::unavailable("not now"));
        }
        let signed = ledger.paid.get(&name(&order)).into_iter().flatten().rev();
        let withheld =
            ledger.withheld.map(|code| proto::Reason { code: code.into(), text: "so".into() });
        let signed = signed.filter(|_| withheld.is_none());
        Ok(Response::new(OrderReply {
            standing: ledger.of_order(&order).into(),
            signed: signed.map(|raw| reply(raw.clone(), true)).collect(),
            withheld,
            unbound: ledger.is_unbound(&name(&order)),
        }))
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
            tier: if *name == "cold" { "cold" } else { "token-hd" }.into(),
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

/// What stops a request before anything is written down.
fn stopped_by(trouble: Option<Trouble>) -> Result<(), Status> {
    match trouble {
        Some(Trouble::Away) => Err(Status::unavailable("away")),
        Some(Trouble::NotNow(code)) => Err(with_reason(Code::FailedPrecondition, code, "not now")),
        Some(Trouble::Deny(code)) if code.starts_with("order-s") => {
            Err(refuse(code, "not by that key"))
        }
        Some(Trouble::Deny(code)) => Err(with_reason(Code::PermissionDenied, code, "denied")),
        _ => Ok(()),
    }
}

/// What stops one whose coins are set aside.
fn stopped_once_allowed(trouble: Option<Trouble>) -> Result<(), Status> {
    match trouble {
        Some(Trouble::FailInToken) => Err(Status::unavailable("token gone")),
        Some(Trouble::Wait) => Err(with_reason(Code::FailedPrecondition, "waiting", "approvals")),
        _ => Ok(()),
    }
}
