//! Pairs of free ports, safe between test processes that run at the same time.
//!
//! A lease holds an exclusive lock on a file named after the port, so two processes never
//! pick the same one; a bind proves that no stranger listens there.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};

use crate::Error;

/// The bus port is the port plus this.
pub const BUS_OFFSET: u16 = 10_000;
/// Below this nothing is tried: services of the machine live there.
const LOW: u16 = 11_000;
/// With [`BUS_OFFSET`] below 32768, where the ephemeral ports of Linux begin.
const HIGH: u16 = 22_700;

/// A port (and its bus port) that belongs to this process until the lease is dropped.
#[derive(Debug)]
pub struct Lease {
    port: u16,
    // The lock ends when the file is closed, also when the process is killed.
    _lock: File,
}

impl Lease {
    /// Takes a free pair.
    pub fn take() -> Result<Self, Error> {
        let folder = std::env::temp_dir().join("shardwright-test-ports");
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let span = HIGH - LOW;
        // Processes start at different places, so that they rarely meet.
        let start = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(span))
            .expect("a remainder of a u16");
        for step in 0..span {
            let port = LOW + (start + step) % span;
            let path = folder.join(port.to_string());
            let lock = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&path)
                .map_err(Error::io("open", &path))?;
            if lock.try_lock().is_ok() && is_free(port) && is_free(port + BUS_OFFSET) {
                return Ok(Self { port, _lock: lock });
            }
        }
        Err(Error::NoPort {
            low: LOW,
            high: HIGH,
        })
    }

    /// The client port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The cluster bus port.
    #[must_use]
    pub fn bus_port(&self) -> u16 {
        self.port + BUS_OFFSET
    }
}

/// Nobody listens on it, at any address of this machine.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_differ_and_stay_below_the_ephemeral_ports() -> Result<(), Error> {
        let leases = (0..20)
            .map(|_| Lease::take())
            .collect::<Result<Vec<_>, _>>()?;
        let mut ports: Vec<_> = leases.iter().map(Lease::port).collect();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 20);
        assert!(leases.iter().all(|lease| lease.bus_port() < 32_768));
        Ok(())
    }

    #[test]
    fn a_port_in_use_is_not_leased() -> Result<(), Error> {
        let port = Lease::take()?.port();
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).expect("it was free");
        assert_ne!(Lease::take()?.port(), port);
        Ok(())
    }
}
