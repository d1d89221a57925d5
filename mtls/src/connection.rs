//! One connection whose client showed a good certificate. It ends when nothing comes for long, or when the certificate is
//! not good any more; it never outlives either.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep};
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use crate::peers::{Peer, Place};

/// A connection with its place.
#[derive(Debug)]
pub struct Connection {
    io: TlsStream<Quiet>,
    peer: Peer,
    /// `None` once it was heard.
    ended: Option<oneshot::Receiver<()>>,
    _place: Place,
}

/// Bytes of a connection that ends when none come for long: also before and during the TLS handshake.
#[derive(Debug)]
pub(crate) struct Quiet {
    io: TcpStream,
    silence: Pin<Box<Sleep>>,
    patience: Duration,
}

impl Quiet {
    pub(crate) fn new(io: TcpStream, patience: Duration) -> Self {
        Self { io, silence: Box::pin(tokio::time::sleep(patience)), patience }
    }
}

impl Connection {
    pub(crate) fn new(
        io: TlsStream<Quiet>,
        peer: Peer,
        ended: oneshot::Receiver<()>,
        place: Place,
    ) -> Self {
        Self { io, peer, ended: Some(ended), _place: place }
    }

    /// Whether its certificate is not good any more.
    fn is_ended(&mut self, cx: &mut Context<'_>) -> bool {
        if let Some(ended) = &mut self.ended
            && Pin::new(ended).poll(cx).is_ready()
        {
            self.ended = None;
        }
        self.ended.is_none()
    }
}

impl AsyncRead for Quiet {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(cx, buf) {
            if buf.filled().len() > before
                && let Some(until) = Instant::now().checked_add(self.patience)
            {
                self.silence.as_mut().reset(until);
            }
            return Poll::Ready(read);
        }
        ready!(self.silence.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came for too long")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.is_ended(cx) {
            let text = "the client's certificate is not good any more";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, text)));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

macro_rules! writes_through {
    ($($name:ty),*) => { $(
        impl AsyncWrite for $name {
            fn poll_write(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bytes: &[u8],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.io).poll_write(cx, bytes)
            }

            fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.io).poll_flush(cx)
            }

            fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Pin::new(&mut self.io).poll_shutdown(cx)
            }

            fn poll_write_vectored(
                mut self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                parts: &[io::IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                Pin::new(&mut self.io).poll_write_vectored(cx, parts)
            }

            fn is_write_vectored(&self) -> bool {
                self.io.is_write_vectored()
            }
        }
    )* };
}

writes_through!(Quiet, Connection);

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}
