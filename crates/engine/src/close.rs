//! How a held connection ended, noticed without sending anything.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How a connection ended. None of these proves that a process died: see [`crate::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The other side closed it in order: a process that ended, or one that sent us away.
    Ended,
    /// The other side reset it: a process that ended with our bytes unread, or a stranger.
    Reset,
    /// The network gave up; the server may be well.
    Network(io::ErrorKind),
    /// Bytes came that are no reply, so the connection was given up on this side.
    Strange,
}

impl fmt::Display for Close {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("the server closed the connection"),
            Self::Reset => f.write_str("the server reset the connection"),
            Self::Network(kind) => write!(f, "the network gave up ({kind})"),
            Self::Strange => f.write_str("the server sent something that is no reply"),
        }
    }
}

/// Where the first end of a connection is noted.
pub(crate) type Note = Arc<OnceLock<Close>>;

/// A stream (TCP, or TLS over it) that notes how it ended, so that the protocol above cannot hide it.
#[derive(Debug)]
pub(crate) struct Noted<S> {
    stream: S,
    note: Note,
}

impl<S> Noted<S> {
    pub(crate) fn new(stream: S) -> (Self, Note) {
        let note = Note::default();
        (
            Self {
                stream,
                note: note.clone(),
            },
            note,
        )
    }

    fn mark(&self, close: Close) {
        // Only the first end counts; what follows is its consequence.
        self.note.get_or_init(|| close);
    }

    fn seen<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &poll {
            self.mark(match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Close::Reset,
                // TLS that ends without its farewell: a process that was killed.
                io::ErrorKind::UnexpectedEof => Close::Ended,
                io::ErrorKind::InvalidData => Close::Strange,
                kind => Close::Network(kind),
            });
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Noted<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let poll = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let at_end = buffer.filled().len() == before && buffer.remaining() > 0;
        if matches!(poll, Poll::Ready(Ok(()))) && at_end {
            self.mark(Close::Ended);
        }
        self.seen(poll)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noted<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.seen(poll)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_flush(cx);
        self.seen(poll)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
