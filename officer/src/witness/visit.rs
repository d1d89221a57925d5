//! A witness's visits to the signer: it says what it saw last, and answers each question. It never trusts an answer of the
//! signer's, and never goes on once the log did not grow from what it saw.

use std::io::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, anyhow, ensure};
use audit::Hash;
use proto::log_client::LogClient;
use proto::witness_says::Said;
use proto::{WitnessAsked, WitnessSays};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::memory::{Memory, Refusal};
use crate::text::words;

/// The next signer, or the same one again, is visited after this: soon when a visit ended in order, and later each time that
/// one is away.
const COME_AGAIN_SOON: Duration = Duration::from_millis(200);
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
    let mut pause = COME_AGAIN_AFTER;
    loop {
        for (signer, said) in signers.iter().zip(&mut said) {
            match visit(memory, signer).await {
                Ok(()) => {
                    said.clear();
                    pause = COME_AGAIN_SOON;
                }
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
            tokio::time::sleep(pause).await;
            pause = pause.saturating_mul(2).min(COME_AGAIN_AFTER);
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
    let mut first = true;
    while let Some(asked) = asks.message().await? {
        let line = answer(memory, &asked, std::mem::take(&mut first))?;
        says.send(say(Said::Cosignature(line))).await?;
    }
    Ok(())
}

/// Its line. The first question of a visit is from what was just said; a later one may be from before the last answer, if
/// that was late: no set-back log, but a reason to visit again.
fn answer(memory: &mut Memory, asked: &WitnessAsked, first: bool) -> Result<String> {
    ensure!(
        first || asked.from == memory.size(),
        "the signer asks from {} entries on and has not heard of the {} that were seen",
        asked.from,
        memory.size()
    );
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

#[cfg(test)]
mod tests {
    use audit::checkpoint::{Checkpoint, origin};
    use audit::tree::Frontier;
    use ed25519_dalek::{Signer as _, SigningKey};

    use super::*;

    /// A question about a log of so many entries that are all alike, from one of so many; those so short need no path.
    fn asked(from: u64, size: u64) -> WitnessAsked {
        let token = SigningKey::from_bytes(&[7; 32]);
        let key = token.verifying_key().to_bytes();
        let mut tree = Frontier::new();
        (0..size).for_each(|_| tree.append([1; 32]));
        let checkpoint =
            Checkpoint { origin: origin(&key), size, root: tree.root(), officers: None };
        let signature = token.sign(checkpoint.text().as_bytes()).to_bytes();
        WitnessAsked { from, path: Vec::new(), note: checkpoint.note(&key, &signature) }
    }

    #[test]
    fn a_question_from_before_a_late_answer_ends_the_visit_and_the_first_one_raises_the_alarm() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("w1");
        let token = SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
        Memory::make(&dir, "w1", token).unwrap();
        let mut memory = Memory::open(&dir).unwrap();
        answer(&mut memory, &asked(0, 4), true).unwrap();
        let late = answer(&mut memory, &asked(0, 5), false).unwrap_err();
        assert!(!late.is::<Refusal>() && late.to_string().contains("from 0 entries"), "{late}");
        let alarm = answer(&mut memory, &asked(0, 5), true).unwrap_err();
        assert!(matches!(alarm.downcast_ref(), Some(Refusal::NotGrown { seen: 4, said: 5, .. })));
        assert_eq!(memory.size(), 4);
        answer(&mut memory, &asked(4, 4), false).unwrap();
    }
}
