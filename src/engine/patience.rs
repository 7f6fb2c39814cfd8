//! How long an HTTP connection is waited for: not long for a request that has begun, longer between two
//! requests, and not at all limited while the server is what the client waits for.
//!
//! A proxy keeps connections open for its next request. Whoever closes such a connection at the moment
//! at which that request is sent makes the proxy answer its client with an error; so the silence between
//! requests gets a limit of its own, above what proxies have (nginx: 60 s). The time for a request's head
//! begins with its first byte, and on a new connection at once.
//!
//! An answer that its client does not take is silence too: what counts is any byte, in or out.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The two limits.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a request, from its first byte.
    pub head: Duration,
    /// Without a byte between two requests, or while an answer is sent.
    pub silence: Duration,
}

/// What one connection is waited for, and since when.
#[derive(Clone)]
pub struct Watch(Arc<Mutex<State>>, Patience);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The rest of a request's head.
    Head(Instant),
    /// Nothing: the request is being answered.
    Answer,
    /// The client's taking of the answer, or its next request.
    Silence(Instant),
}

impl Watch {
    /// A new connection: its first request is waited for.
    pub fn new(patience: Patience) -> Watch {
        Watch(Arc::new(Mutex::new(State::Head(Instant::now()))), patience)
    }

    /// A request's head is here.
    pub fn begun(&self) {
        *self.0.lock() = State::Answer;
    }

    /// The answer is ready to be sent.
    pub fn answered(&self) {
        *self.0.lock() = State::Silence(Instant::now());
    }

    /// When the connection will have been waited for long enough; `None`: it is not waited for.
    fn deadline(&self) -> Option<Instant> {
        match *self.0.lock() {
            State::Head(since) => Some(since + self.1.head),
            State::Answer => None,
            State::Silence(since) => Some(since + self.1.silence),
        }
    }

    /// Serves the connection to its end; `None`: it has been waited for long enough.
    pub async fn serve<C: Future>(&self, mut connection: Pin<&mut C>) -> Option<C::Output> {
        let mut alarm = std::pin::pin!(tokio::time::sleep(Duration::ZERO));
        std::future::poll_fn(|cx| {
            if let Poll::Ready(served) = connection.as_mut().poll(cx) {
                return Poll::Ready(Some(served));
            }
            let Some(deadline) = self.deadline() else {
                return Poll::Pending;
            };
            if alarm.deadline().into_std() != deadline {
                alarm.as_mut().reset(deadline.into());
            }
            alarm.as_mut().poll(cx).map(|()| None)
        })
        .await
    }

    fn read(&self) {
        let mut state = self.0.lock();
        if matches!(*state, State::Silence(_)) {
            *state = State::Head(Instant::now());
        }
    }

    fn written(&self) {
        if let State::Silence(since) = &mut *self.0.lock() {
            *since = Instant::now();
        }
    }
}

/// A connection whose bytes its [`Watch`] hears of.
pub struct Watched {
    stream: TcpStream,
    watch: Watch,
}

impl Watched {
    /// A connection and who watches it.
    pub fn new(stream: TcpStream, watch: Watch) -> Watched {
        Watched { stream, watch }
    }

    /// The connection, which is HTTP's no more.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    fn note(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.watch.written();
        }
        written
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.read();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
