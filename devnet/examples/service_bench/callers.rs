//! Callers who ask at once, each over a connection of its own, one request after the other. Their requests are made
//! before the clock runs; it never counts an answer that is not what it should be.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut, WPubkeyHash};
use devnet::forge::{self, Coin, Output};
use devnet::{Stack, load};
use proto::signer_client::SignerClient;
use proto::{SignReply, SignRequest};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A sweep to the cold wallet.
    Signed,
    /// A sweep to a stranger, which the policy denies.
    Denied,
}

/// How often a request is sent again while the service is unavailable.
const AGAIN_MAX: u32 = 100;

/// One request, as the stream wants it.
type Parts = Vec<SignRequest>;

/// Their connections.
pub(crate) struct Callers(Vec<SignerClient<Channel>>);

/// What came of a round.
pub(crate) struct Answered {
    /// From the first request to the last answer.
    pub(crate) took: Duration,
    /// How long each caller waited for each answer, in order.
    waits: Vec<Duration>,
}

/// So many requests of one input each, from coins that no other round has.
pub(crate) fn requests(
    stack: &Stack,
    kind: Kind,
    round: u32,
    count: u32,
    addresses: u32,
) -> Result<Vec<Parts>> {
    let descriptors = stack.descriptors();
    let coins = load::coins(&descriptors.deposits, round, count, addresses, 2)?;
    let one = |(number, coin): (usize, Coin)| {
        let coins = [coin];
        let psbt = match kind {
            Kind::Signed => load::sweep(descriptors, &coins, 2)?,
            Kind::Denied => forge::psbt(&descriptors.deposits, &coins, &[stranger()])?,
        };
        Ok(load::stream(&format!("bench-{round}-{number}"), "deposits", &psbt, &coins))
    };
    coins.into_iter().enumerate().map(one).collect()
}

/// Where no sweep may go.
fn stranger() -> Output {
    let script_pubkey = ScriptBuf::new_p2wpkh(&WPubkeyHash::from_byte_array([0x22; 20]));
    Output { paid: TxOut { value: Amount::from_sat(999_000), script_pubkey }, ours: None }
}

impl Callers {
    pub(crate) async fn connect(stack: &Stack, count: u32) -> Result<Self> {
        let mut clients = Vec::new();
        for _ in 0..count {
            let mut client = stack.signer_as("watcher-1")?;
            client.status(proto::StatusRequest {}).await?; // connects
            clients.push(client);
        }
        Ok(Self(clients))
    }

    /// Has every caller ask for its share, and waits for all.
    pub(crate) async fn ask(&self, requests: Vec<Parts>, kind: Kind) -> Result<Answered> {
        let count = requests.len();
        let mut shares: Vec<Vec<Parts>> = self.0.iter().map(|_| Vec::new()).collect();
        for (number, parts) in requests.into_iter().enumerate() {
            let share = number.checked_rem(self.0.len()).context("nobody calls")?;
            shares.get_mut(share).context("no such caller")?.push(parts);
        }
        let begin = Instant::now();
        let calls = self.0.iter().zip(shares);
        let calls: Vec<_> =
            calls.map(|(client, share)| tokio::spawn(call(client.clone(), share))).collect();
        let mut answers = Vec::with_capacity(count);
        for call in calls {
            answers.extend(call.await?);
        }
        let took = begin.elapsed();
        let mut waits = Vec::with_capacity(count);
        for (answer, wait) in answers {
            is(kind, answer)?;
            waits.push(wait);
        }
        ensure!(waits.len() == count, "{} of {count} requests were answered", waits.len());
        waits.sort_unstable();
        Ok(Answered { took, waits })
    }
}

async fn call(
    mut client: SignerClient<Channel>,
    share: Vec<Parts>,
) -> Vec<(Result<SignReply, Status>, Duration)> {
    let mut answers = Vec::with_capacity(share.len());
    for parts in share {
        let begin = Instant::now();
        let mut answer = client.sign(tokio_stream::iter(parts.clone())).await;
        // A witness on a busy machine can be late: as the refusal says, the same again.
        for _ in 0..AGAIN_MAX {
            if !matches!(&answer, Err(status) if status.code() == Code::Unavailable) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            answer = client.sign(tokio_stream::iter(parts.clone())).await;
        }
        answers.push((answer.map(tonic::Response::into_inner), begin.elapsed()));
    }
    answers
}

/// Whether an answer is of this kind.
fn is(kind: Kind, answer: Result<SignReply, Status>) -> Result<()> {
    match (kind, answer) {
        (Kind::Signed, Ok(reply)) => {
            let transaction: Transaction = deserialize(&reply.transaction)?;
            let signed = transaction.input.iter().all(|input| input.witness.len() == 2);
            ensure!(signed, "an answer is not signed");
        }
        (Kind::Denied, Err(status)) => {
            ensure!(status.code() == Code::PermissionDenied, "refused, not denied: {status}");
        }
        (Kind::Signed, Err(status)) => anyhow::bail!("not signed: {status}"),
        (Kind::Denied, Ok(_)) => anyhow::bail!("signed, and should have been denied"),
    }
    Ok(())
}

impl Answered {
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.waits.len()).unwrap_or(u32::MAX)
    }

    /// So many in a hundred waited no longer.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let last = self.waits.len().saturating_sub(1);
        let at = self.waits.len().saturating_mul(percent) / 100;
        self.waits.get(at.min(last)).copied().unwrap_or_default()
    }
}
