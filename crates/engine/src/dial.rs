//! Ways to a server that its address alone does not lead to.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{Endpoint, Unreachable};

/// Bytes to and from a server.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// An open way to a server.
pub struct Dialled {
    /// The bytes. A read that fails with `ConnectionRefused` means that the server's own host said that nothing
    /// listens there.
    pub stream: Box<dyn Stream>,
    /// Where the server is, as its peers know it.
    pub peer: SocketAddr,
}

impl fmt::Debug for Dialled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialled")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The work of opening a way.
pub type Dialling<'a> = Pin<Box<dyn Future<Output = Result<Dialled, Unreachable>> + Send + 'a>>;

/// Opens ways to servers, in place of a TCP connection to their address. It is given the time for a connection.
pub trait Dial: fmt::Debug + Send + Sync {
    /// Opens a way to the server that listens there.
    fn dial<'a>(&'a self, endpoint: &'a Endpoint) -> Dialling<'a>;
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use shardwright_topology::Why;
    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;
    use crate::{Access, Client};

    /// Takes every byte, and ends as it is told to.
    struct End(Option<io::ErrorKind>);

    impl AsyncRead for End {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Ready(self.0.map_or(Ok(()), |kind| Err(kind.into())))
        }
    }

    impl AsyncWrite for End {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[derive(Debug)]
    struct Always(Option<io::ErrorKind>);

    impl Dial for Always {
        fn dial<'a>(&'a self, _: &'a Endpoint) -> Dialling<'a> {
            let stream = Box::new(End(self.0));
            let peer = SocketAddr::from(([10, 0, 0, 1], 6379));
            Box::pin(async move { Ok(Dialled { stream, peer }) })
        }
    }

    async fn why(end: Option<io::ErrorKind>) -> Why {
        let access = Access {
            dial: Some(Arc::new(Always(end))),
            ..Access::default()
        };
        // A name that nobody has: the way is dialled, not looked up.
        let endpoint = Endpoint::new("nowhere.invalid", 6379);
        let client = Client::connect(&endpoint, &access)
            .await
            .expect("a way was opened");
        assert_eq!(client.ip().to_string(), "10.0.0.1");
        client.observe().await.expect_err("nobody answers").why()
    }

    #[tokio::test]
    async fn only_a_refusal_at_the_far_end_says_that_nothing_listens() {
        let refused = why(Some(io::ErrorKind::ConnectionRefused)).await;
        assert_eq!(refused, Why::Refused);
        for end in [None, Some(io::ErrorKind::BrokenPipe)] {
            let why = why(end).await;
            assert!(matches!(why, Why::Unreachable(_)), "{why:?}");
        }
    }
}
