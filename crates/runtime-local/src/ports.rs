//! Who listens on a port of this machine.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Who listens on a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Listener {
    /// This process.
    Process {
        /// Its number.
        pid: i32,
        /// The name of its program.
        program: String,
    },
    /// The system does not tell us: it is another user's process, or no process listens there and a connection that was
    /// made from this port is still open.
    Unknown {
        /// The port.
        port: u16,
    },
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, program } => write!(f, " by process {pid} ({program})"),
            Self::Unknown { port } => write!(f, " (who it is: {})", asked_for(*port)),
        }
    }
}

/// The command that tells who uses a port; of other users' processes only root is told.
pub(crate) fn asked_for(port: u16) -> String {
    format!("ss -tanp 'sport = :{port}'")
}

/// The state of a socket that listens, as `/proc/net/tcp` has it.
const LISTENS: &str = "0A";

/// Who listens on this port at this address, or at all.
pub(crate) fn listener(ip: IpAddr, port: u16) -> Listener {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let read = tables
        .iter()
        .filter_map(|table| fs::read_to_string(table).ok());
    let inodes: BTreeSet<u64> = read.flat_map(|table| listening(&table, ip, port)).collect();
    holder(&inodes).unwrap_or(Listener::Unknown { port })
}

/// The inodes of the sockets in such a table that listen on this port, and keep others from this address.
fn listening(table: &str, ip: IpAddr, port: u16) -> Vec<u64> {
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (host, number) = fields.get(1)?.split_once(':')?;
        let host = address(host)?;
        let meets = host == ip || host.is_unspecified() || ip.is_unspecified();
        let same = u16::from_str_radix(number, 16).ok()? == port;
        let listens = *fields.get(3)? == LISTENS;
        let inode = fields.get(9)?.parse().ok()?;
        (meets && same && listens).then_some(inode)
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// An address as these tables have it: words of 32 bits in hexadecimal digits, in the order of this machine's bytes.
fn address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let digits = hex.get(at * 8..at * 8 + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut bytes = [0; 16];
            bytes.copy_from_slice(words.as_flattened());
            Some(IpAddr::from(Ipv6Addr::from(bytes)).to_canonical())
        }
        _ => None,
    }
}

/// The process that has one of these sockets open, of those that we may look at.
fn holder(inodes: &BTreeSet<u64>) -> Option<Listener> {
    if inodes.is_empty() {
        return None;
    }
    let sockets: BTreeSet<String> = inodes.iter().map(|n| format!("socket:[{n}]")).collect();
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Ok(pid) = process.file_name().to_string_lossy().parse::<i32>() else {
            continue;
        };
        let Ok(open) = fs::read_dir(process.path().join("fd")) else {
            continue;
        };
        let is_one = |to: &Path| sockets.contains(&*to.to_string_lossy());
        let mut targets = open
            .flatten()
            .filter_map(|fd| fs::read_link(fd.path()).ok());
        if targets.any(|to| is_one(&to)) {
            let program = fs::read_to_string(process.path().join("comm")).ok()?;
            let program = program.trim().to_owned();
            return Some(Listener::Process { pid, program });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn who_listens_is_found_at_its_address_and_at_all_of_them() -> std::io::Result<()> {
        let local = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = local.local_addr()?.port();
        let me = i32::try_from(std::process::id()).expect("a pid fits");
        for ip in [Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
            let found = listener(ip.into(), port);
            assert!(
                matches!(found, Listener::Process { pid, .. } if pid == me),
                "{found:?}"
            );
        }
        let elsewhere = Ipv4Addr::new(127, 0, 0, 2);
        let unknown = Listener::Unknown { port };
        assert_eq!(listener(elsewhere.into(), port), unknown);
        drop(local);
        assert_eq!(listener(Ipv4Addr::LOCALHOST.into(), port), unknown);
        Ok(())
    }

    #[test]
    fn addresses_of_both_kinds_are_read() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        assert_eq!(
            address(&word([10, 0, 0, 9])),
            Some(Ipv4Addr::new(10, 0, 0, 9).into())
        );
        let (zero, mapped) = (word([0; 4]), word([0, 0, 0xff, 0xff]));
        let of_four = format!("{zero}{zero}{mapped}{}", word([127, 0, 0, 1]));
        assert_eq!(address(&of_four), Some(Ipv4Addr::LOCALHOST.into()));
        let last = word([0, 0, 0, 1]);
        let own = format!("{zero}{zero}{zero}{last}");
        assert_eq!(address(&own), Some(Ipv6Addr::LOCALHOST.into()));
        assert_eq!(address("0100"), None);
    }
}
