//! Takes a request off the wire: one header, then parents in batches, each read and dropped before the next is
//! taken. It never reads a parent for a caller without the lane, never holds more than one batch, and never waits
//! past the deadline.

use std::sync::Arc;

use policy::intent::RequestId;
use policy::names::{ClientName, LaneName, WalletName};
use proto::sign_request::Part;
use proto::{SignHeader, SignRequest, SignedOrder};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status};

use crate::app::{App, blocking_if};
use crate::grants;
use crate::refusal::{Reason, Refusal};
use crate::request::signing::not_imported;
use crate::request::{Asked, Draft, ORDERS_MAX, SigningRequest, asked, request_id};
use crate::token::SigningJobs;

/// Bytes, and inputs or orders, that are looked at without waking another thread: well below a millisecond's work.
const SMALL_BYTES: usize = 4 << 10;
const SMALL_COUNT: usize = 8;

/// What came in so far, for the log's entry if it ends in a refusal.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Known once the header was readable.
    pub request: Option<RequestId>,
    /// Its orders, verified or not.
    pub orders: Vec<SignedOrder>,
    hash: Sha256,
}

/// A header whose caller may ask on its lane.
#[derive(Debug)]
pub struct Opened {
    asked: Asked,
    header: SignHeader,
    wallet: Option<WalletName>,
}

impl Opened {
    /// The wallet that it asks for, if the policy has it.
    #[must_use]
    pub fn wallet(&self) -> Option<&WalletName> {
        self.wallet.as_ref()
    }
}

/// Takes the header and asks whether its caller has the lane at all. Nothing is parsed yet, so that this needs no
/// place among those who work.
///
/// # Errors
/// [`Refusal`] when there is no header, or no grant.
pub async fn open(
    app: &Arc<App>,
    caller: &ClientName,
    parts: &mut (impl Stream<Item = Result<SignRequest, Status>> + Unpin),
    deadline: Instant,
    seen: &mut Seen,
) -> Result<Opened, Refusal> {
    // Whoever may ask for nothing, any more, hears nothing of an order either.
    let text = format!("client \"{caller}\" is not granted any lane");
    grants::has_any(app, caller, app.rules.lanes().iter(), text)?;
    let Some(Part::Header(header)) = next(parts, deadline).await? else {
        return Err(Refusal::new(Reason::BadRequest, "a request begins with its header"));
    };
    let asked = asked(caller.clone(), &header.idempotency_key)?;
    seen.request = Some(request_id(&asked));
    // Headers wait in memory: empty orders would unfold to many times their bytes.
    let orders = header.orders.len();
    if orders > ORDERS_MAX {
        let text = format!("{orders} orders came, at most {ORDERS_MAX} may: split the payment");
        return Err(Refusal::new(Reason::Oversize, text));
    }
    seen.orders.clone_from(&header.orders);
    let mut hash = seen.hash.clone();
    let (header, hash) = blocking_if(is_large(&header), move || {
        add_header(&mut hash, &header);
        Ok((header, hash))
    })
    .await?;
    keep(seen, hash);
    let wallet = granted(app, caller, &header)?;
    Ok(Opened { asked, header, wallet })
}

/// Reads and proves the rest of a request, and computes what the token would sign.
///
/// # Errors
/// [`Refusal`] naming what is wrong; `seen` then says how far it came.
pub async fn receive(
    app: &Arc<App>,
    Opened { asked, header, .. }: Opened,
    mut parts: impl Stream<Item = Result<SignRequest, Status>> + Unpin,
    deadline: Instant,
    seen: &mut Seen,
) -> Result<(SigningRequest, SigningJobs), Refusal> {
    let mut hash = seen.hash.clone();
    let mut draft = blocking_if(is_large(&header), {
        let app = Arc::clone(app);
        move || Draft::read(asked, &header, &app.rules, &app.wallets)
    })
    .await?;

    while let Some(part) = next(&mut parts, deadline).await? {
        let Part::Parents(batch) = part else {
            return Err(Refusal::new(
                Reason::BadRequest,
                "a request has one header, and it comes first",
            ));
        };
        let bytes = batch.transactions.iter().map(Vec::len).fold(0, usize::saturating_add);
        let (read, hashed) = blocking_if(bytes > SMALL_BYTES, move || {
            let mut draft = draft;
            let mut read = Ok(());
            for parent in &batch.transactions {
                hash.update(parent);
                read = read.and_then(|()| draft.add_parent(parent));
            }
            Ok((read.map(|()| draft), hash))
        })
        .await?;
        hash = keep(seen, hashed);
        draft = read?;
    }
    let app = Arc::clone(app);
    blocking_if(draft.inputs() > SMALL_COUNT, move || prove(&app, draft)).await
}

impl Seen {
    /// SHA-256 over header and parents as far as they were read.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        self.hash.clone().finalize().into()
    }
}

/// The policy asks this again, with all the rest, of what passes here. An unknown wallet is named as such later.
fn granted(
    app: &App,
    caller: &ClientName,
    header: &SignHeader,
) -> Result<Option<WalletName>, Refusal> {
    let rules = &app.rules;
    let name = LaneName::parse(&header.lane)
        .map_err(|error| Refusal::new(Reason::BadRequest, error.to_string()))?;
    let Some(lane) = rules.lane(&name) else {
        let text = format!("lane \"{name}\" is not in policy version {}", rules.version());
        return Err(Refusal::new(Reason::UnknownLane, text));
    };
    let Some(grant) = lane.grant(caller) else {
        let text = format!("client \"{caller}\" is not granted lane \"{name}\"");
        return Err(Refusal::new(Reason::LaneCaller, text));
    };
    grants::has_not_ended(app, grant, &name)?;
    let wallet = WalletName::parse(&header.wallet).ok();
    let wallet = wallet.filter(|wallet| rules.wallet(wallet).is_some());
    let Some(wallet) = wallet else { return Ok(None) };
    // First, so that a client with some of the lane's wallets does not hear which others there are.
    grants::spends(grant, &name, &wallet)?;
    if !lane.wallets.contains(&wallet) {
        let text = format!("lane \"{name}\" is not allowed to spend wallet \"{wallet}\"");
        return Err(Refusal::new(Reason::LaneWallet, text));
    }
    Ok(Some(wallet))
}

fn is_large(header: &SignHeader) -> bool {
    header.psbt.len() > SMALL_BYTES || header.orders.len() > SMALL_COUNT
}

fn keep(seen: &mut Seen, hash: Sha256) -> Sha256 {
    seen.hash = hash.clone();
    hash
}

/// The watermarks are looked up last: they rise while a request is on its way.
fn prove(app: &App, draft: Draft) -> Result<(SigningRequest, SigningJobs), Refusal> {
    let proven = app.log.read(|ledger| {
        let imported = ledger.imports().wallet(draft.wallet())?;
        Some([imported.proven(false), imported.proven(true)])
    });
    let proven = proven.ok_or_else(|| not_imported(draft.wallet()))?;
    let request = draft.prove(&app.rules, &app.wallets, proven)?;
    let jobs = request.jobs()?;
    Ok((request, jobs))
}

async fn next(
    parts: &mut (impl Stream<Item = Result<SignRequest, Status>> + Unpin),
    deadline: Instant,
) -> Result<Option<Part>, Refusal> {
    let part = tokio::time::timeout_at(deadline, parts.next()).await.map_err(|_| late())?;
    match part {
        None => Ok(None),
        Some(Ok(SignRequest { part: Some(part) })) => Ok(Some(part)),
        Some(Ok(SignRequest { part: None })) => {
            Err(Refusal::new(Reason::BadRequest, "a part of the request is empty"))
        }
        Some(Err(status)) if status.code() == Code::OutOfRange => {
            let text =
                "a message is too large: send parents without witness, in batches of at most 1 MB";
            Err(Refusal::new(Reason::Oversize, text))
        }
        Some(Err(status)) => {
            let text = format!("the request could not be read to its end: {}", status.message());
            Err(Refusal::new(Reason::BadRequest, text))
        }
    }
}

/// What to say when the time is up.
pub(crate) fn late() -> Refusal {
    let text =
        "the time for this request is up: ask again with the same key, which gives the same answer";
    Refusal::new(Reason::Deadline, text)
}

fn add_header(hash: &mut Sha256, header: &SignHeader) {
    for text in [&header.idempotency_key, &header.lane, &header.wallet] {
        hash.update(text);
        hash.update([0]);
    }
    hash.update(&header.psbt);
    for order in &header.orders {
        hash.update(&order.order);
    }
}
