//! What a connection is waiting for, and until when it may.
//!
//! No timer runs for each request: the state is a few numbers that reads, writes and requests move, and the one timer of
//! the connection is set to whatever follows from them when it is next looked at.

use super::Limits;
use crate::metrics::Cut;
use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Duration, Instant, Sleep},
};

/// No moment.
const NEVER: u64 = u64::MAX;

/// The state of one connection. Moments are in milliseconds since it was accepted.
#[derive(Debug)]
pub(super) struct Watch {
    limits: Limits,
    accepted: Instant,
    /// Requests that are being answered.
    running: AtomicUsize,
    /// Whether there was one yet.
    begun: AtomicUsize,
    /// Since when nothing has happened.
    quiet: AtomicU64,
    /// When the head of the next request began to arrive; tells nothing on HTTP/2, whose frames go both ways at any time.
    head: AtomicU64,
    /// Since when the client has not taken what is sent to it.
    stalled: AtomicU64,
    frames: AtomicUsize,
}

impl Watch {
    pub(super) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self {
            limits,
            accepted: Instant::now(),
            running: AtomicUsize::new(0),
            begun: AtomicUsize::new(0),
            quiet: AtomicU64::new(0),
            head: AtomicU64::new(NEVER),
            stalled: AtomicU64::new(NEVER),
            frames: AtomicUsize::new(0),
        })
    }

    fn now(&self) -> u64 {
        u64::try_from(self.accepted.elapsed().as_millis()).unwrap_or(NEVER)
    }

    /// A request began; it is being answered until what this returns is dropped.
    pub(super) fn request(self: &Arc<Self>, frames: bool) -> Running {
        self.running.fetch_add(1, Relaxed);
        self.begun.store(1, Relaxed);
        self.head.store(NEVER, Relaxed);
        self.frames.store(usize::from(frames), Relaxed);
        Running(self.clone())
    }

    fn has_read(&self) {
        if self.running.load(Relaxed) == 0 && self.head.load(Relaxed) == NEVER {
            self.head.store(self.now(), Relaxed);
        }
    }

    fn has_written(&self) {
        self.stalled.store(NEVER, Relaxed);
        self.quiet.store(self.now(), Relaxed);
    }

    fn waits_to_write(&self) {
        if self.stalled.load(Relaxed) == NEVER {
            self.stalled.store(self.now(), Relaxed);
        }
    }

    /// Until when the connection may go on as it is, and what it is cut for then. While a request is being answered,
    /// the request's own limits hold.
    fn deadline(&self) -> Option<(Instant, Cut)> {
        // A limit beyond all time is none.
        let at = |since: u64, limit: Duration, cut| {
            let at = self
                .accepted
                .checked_add(Duration::from_millis(since).checked_add(limit)?)?;
            Some((at, cut))
        };
        let stalled = self.stalled.load(Relaxed);
        if stalled != NEVER {
            return at(stalled, self.limits.stall, Cut::Stall);
        }
        if self.running.load(Relaxed) > 0 {
            return None;
        }
        if self.begun.load(Relaxed) == 0 {
            return at(0, self.limits.head, Cut::Head);
        }
        let head = self.head.load(Relaxed);
        if head != NEVER && self.frames.load(Relaxed) == 0 {
            return at(head, self.limits.head, Cut::Head);
        }
        at(self.quiet.load(Relaxed), self.limits.idle, Cut::Idle)
    }

    /// Done when the connection has waited for too long. It must be polled whenever the connection is.
    pub(super) async fn expired(&self, mut alarm: Pin<&mut Sleep>) -> Cut {
        poll_fn(|cx| {
            while let Some((at, cut)) = self.deadline() {
                // A timer that is set too early is set anew when it rings: most requests never touch it.
                if alarm.is_elapsed() || alarm.deadline() > at {
                    if at <= Instant::now() {
                        return Poll::Ready(cut);
                    }
                    alarm.as_mut().reset(at);
                }
                if alarm.as_mut().poll(cx).is_pending() {
                    break;
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A request that is being answered.
pub(super) struct Running(Arc<Watch>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.quiet.store(self.0.now(), Relaxed);
        self.0.running.fetch_sub(1, Relaxed);
    }
}

/// A stream whose reads and writes are seen.
pub(super) struct Watched<S> {
    stream: S,
    watch: Arc<Watch>,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, watch: Arc<Watch>) -> Self {
        Self { stream, watch }
    }

    fn wrote<T>(&self, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_pending() {
            self.watch.waits_to_write();
        } else {
            self.watch.has_written();
        }
        outcome
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let outcome = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.has_read();
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        if outcome.is_pending() {
            self.watch.waits_to_write();
        } else if self.watch.stalled.load(Relaxed) != NEVER {
            self.watch.has_written();
        }
        outcome
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_shutdown(cx);
        if outcome.is_pending() {
            self.watch.waits_to_write();
        }
        outcome
    }
}
