//! Connections as they come in, bounded before anybody has proven who they are: so many at once, and none that says nothing
//! for long. It never reads a byte itself, and never keeps a caller waiting who has no place: that one is hung up on.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, TcpConnectInfo};

/// A listener with so many places.
#[derive(Debug)]
pub struct Incoming {
    listener: TcpListener,
    places: Arc<Semaphore>,
    patience: Duration,
}

/// A connection that has one.
#[derive(Debug)]
pub struct Connection {
    io: TcpStream,
    silence: Pin<Box<Sleep>>,
    patience: Duration,
    _place: OwnedSemaphorePermit,
}

impl Incoming {
    /// Takes at most `places` connections at once, and ends those of which no byte came for `patience`: also before and
    /// during the TLS handshake. It must be longer than the keepalive pings are apart, which an honest client answers.
    #[must_use]
    pub fn new(listener: TcpListener, places: usize, patience: Duration) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(places)), patience }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Connection>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let (io, _) = ready!(self.listener.poll_accept(cx))?;
            // Dropped, which hangs up, when there is no place.
            if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
                // Only slower without.
                let _ = io.set_nodelay(true);
                let patience = self.patience;
                let silence = Box::pin(tokio::time::sleep(patience));
                return Poll::Ready(Some(Ok(Connection { io, silence, patience, _place: place })));
            }
        }
    }
}

impl AsyncRead for Connection {
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

impl AsyncWrite for Connection {
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

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.io.connect_info()
    }
}
