//! Frames: a length of four bytes, little-endian, then that many bytes of postcard. It never reads past a
//! frame, and never makes room for more than [`FRAME_BYTES_MAX`].

use std::io::{self, ErrorKind, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::FRAME_BYTES_MAX;

/// Why a frame could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The other side is gone, or the pipe broke.
    #[error("the connection between signer and token worker broke: {0}")]
    Io(#[from] io::Error),
    /// A frame longer than allowed.
    #[error("a frame of {0} bytes is longer than the {FRAME_BYTES_MAX} allowed")]
    TooLong(usize),
    /// Bytes that are no message, or a message with bytes after it.
    #[error("a frame is not a message of this protocol version")]
    Malformed,
}

/// Writes one message as one frame.
///
/// # Errors
/// [`FrameError`] when the message is too long or the connection broke.
pub fn write<M: Serialize>(out: &mut impl Write, message: &M) -> Result<(), FrameError> {
    let body = postcard::to_allocvec(message).map_err(|_| FrameError::Malformed)?;
    if body.len() > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(body.len()));
    }
    let length = u32::try_from(body.len()).map_err(|_| FrameError::TooLong(body.len()))?;
    // One write, so that a frame is never torn by a signal between its parts.
    let mut frame = Vec::with_capacity(body.len().saturating_add(4));
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    out.write_all(&frame)?;
    out.flush()?;
    Ok(())
}

/// Reads one message; `None` when the other side closed between two frames.
///
/// # Errors
/// [`FrameError`] for a frame that is too long, cut short or not a message.
pub fn read<M: DeserializeOwned>(from: &mut impl Read) -> Result<Option<M>, FrameError> {
    let mut header = [0_u8; 4];
    if !fill_or_end(from, &mut header)? {
        return Ok(None);
    }
    let length = usize::try_from(u32::from_le_bytes(header)).unwrap_or(usize::MAX);
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(length));
    }
    let mut body = vec![0_u8; length];
    from.read_exact(&mut body)?;
    match postcard::take_from_bytes(&body) {
        Ok((message, [])) => Ok(Some(message)),
        _ => Err(FrameError::Malformed),
    }
}

/// Fills `buffer`; false when the stream ended before its first byte.
fn fill_or_end(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    let mut filled = 0_usize;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) if filled == 0 => return Ok(false),
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled = filled.saturating_add(count),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{Batch, Job, JobOutcome, RawSignature, Reply, Request, VERSION, WrappedBy};

    #[test]
    fn an_end_between_frames_is_an_end() {
        assert!(matches!(read::<Request>(&mut [].as_slice()), Ok(None)));
    }

    #[test]
    fn an_end_within_a_frame_is_an_error() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Request::Hello { version: VERSION }).unwrap();
        for cut in 1..bytes.len() {
            let mut short = bytes.get(..cut).unwrap();
            assert!(matches!(read::<Request>(&mut short), Err(FrameError::Io(_))), "cut at {cut}");
        }
    }

    #[test]
    fn a_long_frame_is_refused_before_room_is_made_for_it() {
        let mut bytes = u32::MAX.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 16]);
        assert!(matches!(
            read::<Request>(&mut bytes.as_slice()),
            Err(FrameError::TooLong(4_294_967_295))
        ));
        let huge = Request::Statement {
            key: crate::StatementKey::Checkpoint,
            message: vec![0; FRAME_BYTES_MAX],
        };
        assert!(matches!(write(&mut Vec::new(), &huge), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn bytes_after_a_message_are_refused() {
        let mut body = postcard::to_allocvec(&Request::Counters).unwrap();
        body.push(0);
        let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
        bytes.extend_from_slice(&body);
        assert!(matches!(read::<Request>(&mut bytes.as_slice()), Err(FrameError::Malformed)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = read::<Request>(&mut bytes.as_slice());
            let _ = read::<Reply>(&mut bytes.as_slice());
        }

        #[test]
        fn any_body_is_a_message_or_an_error(body in prop::collection::vec(any::<u8>(), 0..600)) {
            let mut bytes = u32::try_from(body.len()).unwrap().to_le_bytes().to_vec();
            bytes.extend_from_slice(&body);
            if let Ok(Some(message)) = read::<Request>(&mut bytes.as_slice()) {
                // Whatever was let in means the same when it is said again.
                let mut again = Vec::new();
                write(&mut again, &message).unwrap();
                prop_assert_eq!(read::<Request>(&mut again.as_slice()).unwrap().unwrap(), message);
            }
        }

        #[test]
        fn batches_come_back_whole(
            id in any::<u64>(),
            permit in any::<[u8; 16]>(),
            jobs in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..400), any::<[u8; 32]>()), 0..40),
            flip in any::<prop::sample::Index>(),
        ) {
            let jobs: Vec<Job> = jobs
                .into_iter()
                .map(|(wrapped, digest)| Job { permit, by: WrappedBy::OaepSha1, wrapped, digest })
                .collect();
            let sent = Request::Sign(Batch { id, jobs });
            let mut bytes = Vec::new();
            write(&mut bytes, &sent).unwrap();
            prop_assert_eq!(read::<Request>(&mut bytes.as_slice()).unwrap().unwrap(), sent);
            // One damaged byte never panics and never reads past the frame.
            let at = flip.index(bytes.len());
            bytes[at] ^= 0x41;
            let _ = read::<Request>(&mut bytes.as_slice());
        }

        #[test]
        fn answers_come_back_whole(id in any::<u64>(), signatures in prop::collection::vec((any::<[u8; 32]>(), any::<[u8; 32]>()), 0..40)) {
            let outcomes = signatures.into_iter().map(|(r, s)| JobOutcome::Signed(RawSignature { r, s })).collect();
            let sent = Reply::Signed { id, outcomes };
            let mut bytes = Vec::new();
            write(&mut bytes, &sent).unwrap();
            prop_assert_eq!(read::<Reply>(&mut bytes.as_slice()).unwrap().unwrap(), sent);
        }
    }
}
