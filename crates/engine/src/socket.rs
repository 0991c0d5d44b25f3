//! Opening a TCP connection, with an answer that tells facts from silence.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use crate::{Endpoint, Unreachable};

/// Asks whether anything listens there, and hangs up. The address that answered comes back.
///
/// After a held connection closed, this tells a dead process ([`Unreachable::Refused`], said by
/// a living host) from a silent host or network ([`Unreachable::TimedOut`], which says nothing).
pub async fn probe(endpoint: &Endpoint, limit: Duration) -> Result<SocketAddr, Unreachable> {
    open(endpoint, limit).await.map(|(_, peer)| peer)
}

/// Opens a connection to the first address of the host that takes it.
pub(crate) async fn open(
    endpoint: &Endpoint,
    limit: Duration,
) -> Result<(TcpStream, SocketAddr), Unreachable> {
    let attempt = async {
        let found = lookup_host((endpoint.host.as_str(), endpoint.port)).await;
        let addresses: Vec<_> = found
            .map_err(|e| Unreachable::Name(e.to_string()))?
            .collect();
        let mut last = Unreachable::Name("the name has no address".to_owned());
        for (tried, address) in addresses.into_iter().enumerate() {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Administration is question and answer: waiting for more bytes only delays.
                    stream.set_nodelay(true).map_err(|e| classify(&e))?;
                    return Ok((stream, address));
                }
                Err(error) => {
                    let why = classify(&error);
                    // "Refused" is a fact about the server only where every address refuses.
                    if tried == 0 || last == Unreachable::Refused {
                        last = why;
                    }
                }
            }
        }
        Err(last)
    };
    timeout(limit, attempt)
        .await
        .unwrap_or(Err(Unreachable::TimedOut))
}

fn classify(error: &io::Error) -> Unreachable {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Unreachable::Refused,
        io::ErrorKind::TimedOut => Unreachable::TimedOut,
        _ => Unreachable::Other(error.to_string()),
    }
}
