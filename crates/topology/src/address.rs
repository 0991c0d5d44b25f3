//! Where a node is reached.

use std::fmt;
use std::net::IpAddr;

/// A host: an IP address, a name, or not told (the engine writes `?` or nothing).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Host {
    /// An IP address.
    Ip(IpAddr),
    /// A host name.
    Name(Box<str>),
    /// The engine does not know, or was told not to say.
    Unstated,
}

impl Host {
    /// Reads a host as written: an IP address (IPv6 also in brackets), a name, or nothing.
    pub fn parse(text: &str) -> Self {
        let bare = text
            .strip_prefix('[')
            .and_then(|t| t.strip_suffix(']'))
            .unwrap_or(text);
        match bare.parse() {
            Ok(ip) => Self::Ip(ip),
            Err(_) if bare.is_empty() || bare == "?" => Self::Unstated,
            Err(_) => Self::Name(bare.into()),
        }
    }

    /// The IP address, if this is one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Ip(ip) => Some(*ip),
            Self::Name(_) | Self::Unstated => None,
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(ip) => write!(f, "{ip}"),
            Self::Name(name) => f.write_str(name),
            Self::Unstated => f.write_str("?"),
        }
    }
}

/// Where a node is reached: host, client port and bus port.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The host.
    pub host: Host,
    /// The port for clients; 0 when the engine does not know it.
    pub port: u16,
    /// The port of the cluster bus; by default `port + 10000`.
    pub bus_port: u16,
}

impl Address {
    /// How far the bus port lies above the client port by default (Redis Cluster specification, "The cluster bus").
    pub const BUS_OFFSET: u16 = 10_000;

    /// An address with the default bus port.
    pub fn new(host: Host, port: u16) -> Self {
        Self {
            host,
            port,
            bus_port: port.saturating_add(Self::BUS_OFFSET),
        }
    }

    /// An address on 127.0.0.1.
    pub fn loopback(port: u16) -> Self {
        Self::new(Host::Ip(IpAddr::from([127, 0, 0, 1])), port)
    }

    /// True when the two name one socket: same host and client port.
    pub fn same_socket(&self, other: &Self) -> bool {
        self.port == other.port && self.host == other.host
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
