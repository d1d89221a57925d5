//! What a confined signer and the starter of token workers say to each other: short messages with open sockets
//! beside them. It never says which program to start: the starter knows one.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// Sockets and pipes that one answer brings.
const FDS_MAX: usize = 2;
const BYTES: usize = 9;

/// What the signer asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAsk {
    /// A worker.
    Start,
    /// The end of this one, now.
    Kill(u32),
    /// Whether this one has ended.
    Look(u32),
}

/// What the starter answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StartAnswer {
    /// A worker's process id (0: somebody else's process), with the socket to it, then its standard error.
    Started(u32),
    /// It has ended, with this wait status.
    Ended(i32),
    /// It runs.
    Running,
    /// The system's error number.
    Failed(i32),
}

impl StartAsk {
    fn encode(self) -> [u8; BYTES] {
        match self {
            Self::Start => pack(1, 0, 0),
            Self::Kill(pid) => pack(2, pid, 0),
            Self::Look(pid) => pack(3, pid, 0),
        }
    }

    fn decode(bytes: [u8; BYTES]) -> Option<Self> {
        match unpack(bytes) {
            (1, 0, 0) => Some(Self::Start),
            (2, pid, 0) => Some(Self::Kill(pid)),
            (3, pid, 0) => Some(Self::Look(pid)),
            _ => None,
        }
    }
}

impl StartAnswer {
    fn encode(self) -> [u8; BYTES] {
        match self {
            Self::Started(pid) => pack(1, pid, 0),
            Self::Ended(status) => pack(2, 0, status),
            Self::Running => pack(3, 0, 0),
            Self::Failed(errno) => pack(4, 0, errno),
        }
    }

    fn decode(bytes: [u8; BYTES]) -> Option<Self> {
        match unpack(bytes) {
            (1, pid, 0) => Some(Self::Started(pid)),
            (2, 0, status) => Some(Self::Ended(status)),
            (3, 0, 0) => Some(Self::Running),
            (4, 0, errno) => Some(Self::Failed(errno)),
            _ => None,
        }
    }
}

/// Asks the starter and waits for its answer.
///
/// # Errors
/// When the starter is gone or does not keep to this.
pub fn ask_starter(starter: &UnixStream, ask: StartAsk) -> io::Result<(StartAnswer, Vec<OwnedFd>)> {
    send(starter, &ask.encode(), &[])?;
    let (bytes, fds) = receive(starter)?.ok_or(ErrorKind::UnexpectedEof)?;
    Ok((StartAnswer::decode(bytes).ok_or(ErrorKind::InvalidData)?, fds))
}

/// The signer's next question; `None` when it is gone.
///
/// # Errors
/// When it does not keep to this.
pub fn next_ask(signer: &UnixStream) -> io::Result<Option<StartAsk>> {
    match receive(signer)? {
        Some((bytes, _)) => {
            StartAsk::decode(bytes).map(Some).ok_or_else(|| ErrorKind::InvalidData.into())
        }
        None => Ok(None),
    }
}

/// Answers the signer.
///
/// # Errors
/// When it is gone.
pub fn answer(signer: &UnixStream, answer: StartAnswer, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    send(signer, &answer.encode(), fds)
}

fn pack(kind: u8, pid: u32, number: i32) -> [u8; BYTES] {
    let ([a, b, c, d], [e, f, g, h]) = (pid.to_le_bytes(), number.to_le_bytes());
    [kind, a, b, c, d, e, f, g, h]
}

fn unpack([kind, a, b, c, d, e, f, g, h]: [u8; BYTES]) -> (u8, u32, i32) {
    (kind, u32::from_le_bytes([a, b, c, d]), i32::from_le_bytes([e, f, g, h]))
}

fn send(to: &UnixStream, bytes: &[u8; BYTES], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let sent = sendmsg(to.as_fd(), &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    if sent == BYTES { Ok(()) } else { Err(ErrorKind::WriteZero.into()) }
}

fn receive(from: &UnixStream) -> io::Result<Option<([u8; BYTES], Vec<OwnedFd>)>> {
    let mut bytes = [0_u8; BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(FDS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL;
    let received = loop {
        match recvmsg(from.as_fd(), &mut into, &mut control, flags) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?.bytes,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            fds.extend(received);
        }
    }
    match received {
        0 => Ok(None),
        BYTES => Ok(Some((bytes, fds))),
        _ => Err(ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn questions_and_answers_arrive_with_their_sockets() {
        let (signer, starter) = UnixStream::pair().unwrap();
        let answering = std::thread::spawn(move || {
            let mut asked = Vec::new();
            while let Some(ask) = next_ask(&starter).unwrap() {
                asked.push(ask);
                let (ours, theirs) = UnixStream::pair().unwrap();
                match ask {
                    StartAsk::Start => {
                        answer(&starter, StartAnswer::Started(7), &[theirs.as_fd()]).unwrap();
                        (&ours).write_all(b"hello").unwrap();
                    }
                    StartAsk::Kill(_) => answer(&starter, StartAnswer::Ended(9), &[]).unwrap(),
                    StartAsk::Look(_) => answer(&starter, StartAnswer::Failed(-2), &[]).unwrap(),
                }
            }
            asked
        });
        let (started, mut fds) = ask_starter(&signer, StartAsk::Start).unwrap();
        assert_eq!((started, fds.len()), (StartAnswer::Started(7), 1));
        let mut said = String::new();
        UnixStream::from(fds.remove(0)).read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
        let killed = ask_starter(&signer, StartAsk::Kill(70_000)).unwrap();
        assert_eq!(killed.0, StartAnswer::Ended(9));
        assert_eq!(ask_starter(&signer, StartAsk::Look(1)).unwrap().0, StartAnswer::Failed(-2));
        drop(signer);
        let asked = answering.join().unwrap();
        assert_eq!(asked, [StartAsk::Start, StartAsk::Kill(70_000), StartAsk::Look(1)]);
    }

    #[test]
    fn nothing_but_the_three_questions_is_one() {
        for bytes in [[0; 9], [4; 9], pack(1, 1, 0), pack(3, 1, 1)] {
            assert_eq!(StartAsk::decode(bytes), None);
        }
    }
}
