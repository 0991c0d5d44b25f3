//! The start gate of a pod, seen from outside: is its server held, and release it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use shardwright_engine::Secret;
use shardwright_manifest::SHARDWRIGHT_USER;
use shardwright_topology::Claim;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::names::GATE_PORT;
use crate::seats::GateReport;

/// A gate in a live pod answers in a millisecond. A look at all pods must not wait for one that is cut off.
const LIMIT: Duration = Duration::from_millis(500);
/// No answer of a gate is longer: a node that owns every other slot has a line of 46 KiB.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// A gate could not be asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GateError {
    /// It can't be reached, or broke off.
    #[error("cannot talk to the start gate at {ip}")]
    Io {
        /// Where.
        ip: IpAddr,
        /// Why.
        source: io::Error,
    },
    /// It did not answer in time.
    #[error("the start gate at {ip} did not answer within {} ms", LIMIT.as_millis())]
    TimedOut {
        /// Where.
        ip: IpAddr,
    },
    /// It refused; its own words say why.
    #[error("the start gate at {ip} refused: {said}")]
    Refused {
        /// Where.
        ip: IpAddr,
        /// What it said.
        said: String,
    },
}

/// Asks the gate of the pod at this address whether it holds its server. A port on which nothing listens holds none.
pub(crate) async fn ask(ip: IpAddr, password: &Secret) -> Result<GateReport, GateError> {
    within(ip, async {
        let Some(mut gate) = Gate::open(ip, password).await? else {
            return Ok(GateReport::NotHeld);
        };
        let said = gate.say("STATE").await?;
        Ok(report(&said))
    })
    .await
}

/// The same over a way that was opened to the gate, by whoever limits the time. Such a way opens whether or not
/// something listens.
pub(crate) async fn ask_over<S>(
    stream: S,
    ip: IpAddr,
    password: &Secret,
) -> Result<GateReport, GateError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    match Gate::enter(stream, ip, password).await {
        Ok(mut gate) => Ok(report(&gate.say("STATE").await?)),
        Err(GateError::Io { source, .. }) if is_refusal(&source) => Ok(GateReport::NotHeld),
        Err(error) => Err(error),
    }
}

fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ConnectionRefused
}

/// What a gate is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Tell {
    /// Let the server start.
    Release,
    /// Keep its directory aside, and let it start as a new node.
    Afresh,
}

/// Lets the server start. Where nothing listens, it has been let already.
pub(crate) async fn tell(ip: IpAddr, password: &Secret, what: Tell) -> Result<(), GateError> {
    let line = match what {
        Tell::Release => "RELEASE",
        Tell::Afresh => "AFRESH",
    };
    within(ip, async {
        if let Some(mut gate) = Gate::open(ip, password).await? {
            gate.say(line).await?;
        }
        Ok(())
    })
    .await
}

async fn within<T>(
    ip: IpAddr,
    work: impl Future<Output = Result<T, GateError>>,
) -> Result<T, GateError> {
    timeout(LIMIT, work)
        .await
        .unwrap_or(Err(GateError::TimedOut { ip }))
}

/// `held stale-primary LINE`, with the node's own line of its table.
fn report(said: &str) -> GateReport {
    let line = said.strip_prefix("held stale-primary ").unwrap_or(said);
    GateReport::Held {
        claim: Claim::read(line.as_bytes()),
    }
}

struct Gate<S> {
    ip: IpAddr,
    stream: BufReader<S>,
}

impl Gate<TcpStream> {
    /// A connection that is logged in; none where nothing listens.
    async fn open(ip: IpAddr, password: &Secret) -> Result<Option<Self>, GateError> {
        match TcpStream::connect((ip, GATE_PORT)).await {
            Ok(stream) => Self::enter(stream, ip, password).await.map(Some),
            Err(e) if is_refusal(&e) => Ok(None),
            Err(source) => Err(GateError::Io { ip, source }),
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Gate<S> {
    /// Logs in.
    async fn enter(stream: S, ip: IpAddr, password: &Secret) -> Result<Self, GateError> {
        let stream = BufReader::new(stream);
        let mut gate = Self { ip, stream };
        let login = format!("AUTH {SHARDWRIGHT_USER} {}", password.expose());
        gate.say(&login).await?;
        Ok(gate)
    }

    /// Sends a line; what the gate answered to it.
    async fn say(&mut self, line: &str) -> Result<String, GateError> {
        let said = self.exchange(line).await.map_err(|source| GateError::Io {
            ip: self.ip,
            source,
        })?;
        match said.split_at_checked(1) {
            Some(("+", rest)) => Ok(rest.to_owned()),
            Some(("-", rest)) => Err(self.refused(rest)),
            Some(_) | None => Err(self.refused("it speaks another language")),
        }
    }

    fn refused(&self, said: &str) -> GateError {
        GateError::Refused {
            ip: self.ip,
            said: said.to_owned(),
        }
    }

    async fn exchange(&mut self, line: &str) -> io::Result<String> {
        self.stream
            .write_all(format!("{line}\r\n").as_bytes())
            .await?;
        let mut said = String::new();
        let mut bounded = (&mut self.stream).take(LINE_BYTES_MAX);
        bounded.read_line(&mut said).await?;
        if said.ends_with('\n') {
            Ok(said.trim_end().to_owned())
        } else {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gate_says_is_held_whatever_else_it_says() {
        let unknown = GateReport::Held {
            claim: Claim::Unreadable,
        };
        for said in [
            "held stale-primary",
            "held",
            "",
            "held stale-primary unknown",
        ] {
            assert_eq!(report(said), unknown, "{said}");
        }
    }
}
