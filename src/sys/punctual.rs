//! A connection whose writes end: a caller that does not read would otherwise hold its place, and what is answered to it,
//! for ever.
//!
//! The clock starts when a write has to wait and stops when one gets through, so a long answer may take as long as it
//! keeps moving. Reads are bounded where requests are read.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// `inner`, whose writes fail when they have waited for `deadline`.
pub(crate) struct Punctual<S> {
    inner: S,
    deadline: Duration,
    /// Runs while a write waits.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl<S> Punctual<S> {
    pub(crate) const fn new(inner: S, deadline: Duration) -> Self {
        Self { inner, deadline, waiting: None }
    }

    /// What a write came to: `outcome`, or the end of waiting for it.
    fn bound<T>(&mut self, context: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.waiting = None;
            return outcome;
        }
        let deadline = self.deadline;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(deadline)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the caller does not read")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Punctual<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Punctual<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.bound(context, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_write_vectored(context, bytes);
        this.bound(context, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.inner).poll_flush(context);
        this.bound(context, outcome)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // Under TLS, a goodbye that has to be written.
        let outcome = Pin::new(&mut this.inner).poll_shutdown(context);
        this.bound(context, outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, duplex};

    #[tokio::test]
    async fn a_write_that_nobody_reads_ends() {
        let (near, mut far) = duplex(1024);
        let mut near = Punctual::new(near, Duration::from_millis(20));
        near.write_all(&[7; 1024]).await.expect("there is room");
        let unread = near.write_all(&[7]).await;
        assert_eq!(unread.expect_err("nobody reads").kind(), io::ErrorKind::TimedOut);
        far.read_exact(&mut [0; 1024]).await.expect("what got through");
        near.write_all(&[7; 1024]).await.expect("the clock starts anew");
    }

    #[tokio::test]
    async fn an_end_that_has_something_left_to_write_ends() {
        let (near, _far) = duplex(1);
        let mut near = Punctual::new(BufWriter::new(near), Duration::from_millis(20));
        near.write_all(&[7; 2]).await.expect("there is room in the buffer");
        assert_eq!(near.shutdown().await.expect_err("nobody reads").kind(), io::ErrorKind::TimedOut);
    }
}
