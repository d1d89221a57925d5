//! A witness's visits to the signer: it says what it saw last, and answers each question. It never trusts an answer of the
//! signer's, and never goes on once the log did not grow from what it saw.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow};
use audit::Hash;
use proto::log_client::LogClient;
use proto::witness_says::Said;
use proto::{WitnessAsked, WitnessSays};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::memory::{Memory, Refusal};
use crate::text::words;

/// The next signer, or the same one again, is visited after this when one was away.
const COME_AGAIN_AFTER: Duration = Duration::from_secs(2);
/// How often a silent signer is asked whether it lives, and how long it may take to say so.
const ALIVE_EVERY: Duration = Duration::from_secs(2);
const ALIVE_PATIENCE: Duration = Duration::from_secs(4);
/// A note and a path of at most 64 hashes.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// Visits the signers of one log in turn, each as long as it serves, until something is wrong that a person must look at.
///
/// # Errors
/// [`Refusal`], above all when the log did not grow.
pub async fn again_and_again(
    memory: &mut Memory,
    signers: &[Endpoint],
    out: &mut impl Write,
) -> Result<()> {
    let mut said = vec![String::new(); signers.len()];
    loop {
        for (signer, said) in signers.iter().zip(&mut said) {
            match visit(memory, signer).await {
                Ok(()) => said.clear(),
                Err(error) if error.is::<Refusal>() => return Err(error),
                Err(error) => {
                    // Each trouble once: a signer that is away or stands by stays so for a while.
                    let text = words(&format!("{error:#}"));
                    if text != *said {
                        writeln!(out, "{}: {}: {text}", memory.name(), signer.uri())?;
                        out.flush()?;
                        *said = text;
                    }
                }
            }
            tokio::time::sleep(COME_AGAIN_AFTER).await;
        }
    }
}

/// One visit: ends when the signer goes.
///
/// # Errors
/// [`Refusal`], or whatever kept it from the signer.
pub async fn visit(memory: &mut Memory, signer: &Endpoint) -> Result<()> {
    // One that stands still keeps its connections: the other must hear of what was seen all the same.
    let signer = signer.clone().http2_keep_alive_interval(ALIVE_EVERY);
    let signer = signer.keep_alive_timeout(ALIVE_PATIENCE).keep_alive_while_idle(true);
    let channel = signer.connect().await?;
    let mut client = LogClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (says, stream) = mpsc::channel(1);
    says.send(say(Said::Hello(memory.note().to_owned()))).await?;
    let mut asks = client.witness(ReceiverStream::new(stream)).await?.into_inner();
    while let Some(asked) = asks.message().await? {
        let line = answer(memory, &asked)?;
        says.send(say(Said::Cosignature(line))).await?;
    }
    Ok(())
}

fn answer(memory: &mut Memory, asked: &WitnessAsked) -> Result<String> {
    let path = asked.path.iter().map(|hash| Hash::try_from(hash.as_slice()));
    let path: Vec<Hash> = path
        .collect::<Result<_, _>>()
        .map_err(|_| anyhow!("a hash in the path is not 32 bytes"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(memory.cosign(&asked.note, &path, now)?)
}

fn say(said: Said) -> WitnessSays {
    WitnessSays { said: Some(said) }
}
