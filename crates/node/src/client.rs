//! One connection to the server or the gate of this pod, by loopback, never longer than asked for.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::resp::{self, Parsed, Value};

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// Nobody listens on the port.
    Refused,
    /// It was closed without a whole answer.
    Closed,
    /// Nothing came in time.
    Silent,
    /// Something came that is no RESP.
    Foreign,
    /// This side failed.
    Failed(io::Error),
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("the connection was refused"),
            Self::Closed => f.write_str("the connection was closed without an answer"),
            Self::Silent => f.write_str("no answer in time"),
            Self::Foreign => f.write_str("the answer is none of a Redis or Valkey server"),
            Self::Failed(why) => write!(f, "it could not be asked: {why}"),
        }
    }
}

impl NoAnswer {
    fn of(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused,
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => Self::Silent,
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
}

impl Client {
    /// Connects to the port, over IPv4 or, where nobody listens there, over IPv6.
    ///
    /// # Errors
    /// Where nobody takes the connection within `limit`.
    pub fn connect(port: u16, limit: Duration) -> Result<Self, NoAnswer> {
        let deadline = Instant::now() + limit;
        let connect = |ip: IpAddr| {
            let stream = TcpStream::connect_timeout(&SocketAddr::new(ip, port), left(deadline)?)
                .map_err(NoAnswer::of)?;
            stream.set_nodelay(true).map_err(NoAnswer::of)?;
            Ok(Self { stream })
        };
        match connect(Ipv4Addr::LOCALHOST.into()) {
            // A pod without IPv6 can't even try: what IPv4 said stands.
            Err(NoAnswer::Refused) => match connect(Ipv6Addr::LOCALHOST.into()) {
                Err(NoAnswer::Failed(_)) => Err(NoAnswer::Refused),
                other => other,
            },
            other => other,
        }
    }

    /// Sends a command to the server and reads its answer.
    ///
    /// # Errors
    /// Where no whole answer came within `limit`. The connection is of no use then.
    pub fn ask(&mut self, words: &[&str], limit: Duration) -> Result<Value, NoAnswer> {
        self.exchange(&resp::command(words), limit, |bytes| {
            match resp::parse(bytes) {
                Parsed::Whole(value) => Some(Ok(value)),
                Parsed::Partial => None,
                Parsed::Foreign => Some(Err(NoAnswer::Foreign)),
            }
        })?
    }

    /// Sends a line to the gate and reads its line.
    ///
    /// # Errors
    /// As [`Client::ask`].
    pub fn ask_gate(&mut self, line: &str, limit: Duration) -> Result<String, NoAnswer> {
        self.exchange(format!("{line}\n").as_bytes(), limit, |bytes| {
            let line = bytes.strip_suffix(b"\n")?;
            Some(String::from_utf8_lossy(line).trim_end().to_owned())
        })
    }

    fn exchange<T>(
        &mut self,
        bytes: &[u8],
        limit: Duration,
        whole: impl Fn(&[u8]) -> Option<T>,
    ) -> Result<T, NoAnswer> {
        let deadline = Instant::now() + limit;
        let stream = &mut self.stream;
        let timeout = Some(left(deadline)?);
        stream.set_write_timeout(timeout).map_err(NoAnswer::of)?;
        stream.write_all(bytes).map_err(NoAnswer::of)?;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let timeout = Some(left(deadline)?);
            stream.set_read_timeout(timeout).map_err(NoAnswer::of)?;
            let read = match stream.read(&mut chunk) {
                Ok(0) => return Err(NoAnswer::Closed),
                Ok(read) => read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(NoAnswer::of(e)),
            };
            answer.extend_from_slice(&chunk[..read]);
            if let Some(value) = whole(&answer) {
                return Ok(value);
            }
            if answer.len() > resp::ANSWER_BYTES_MAX {
                return Err(NoAnswer::Foreign);
            }
        }
    }
}

/// The time left; a socket takes no time-out of zero.
fn left(deadline: Instant) -> Result<Duration, NoAnswer> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(NoAnswer::Silent)
    } else {
        Ok(left)
    }
}
