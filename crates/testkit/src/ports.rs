//! Pairs of free ports, safe between test processes that run at the same time.
//!
//! A lease holds an exclusive lock on a file named after the port, so two processes never
//! pick the same one; a bind proves that no stranger listens there.

use std::fs::{File, OpenOptions};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;

use crate::Error;

/// The bus port is the port plus this.
pub const BUS_OFFSET: u16 = 10_000;
/// Below this nothing is tried: services of the machine live there.
const LOW: u16 = 11_000;
/// With [`BUS_OFFSET`] below 32768, where the ephemeral ports of Linux begin.
const HIGH: u16 = 22_700;
const NO_PORT: Error = Error::NoPort {
    low: LOW,
    high: HIGH,
};

/// A port (and its bus port) that belongs to this process until the lease is dropped.
#[derive(Debug)]
pub struct Lease {
    port: u16,
    // The lock ends when the file is closed, also when the process is killed.
    _lock: File,
}

impl Lease {
    /// Takes a free pair.
    ///
    /// # Errors
    /// When none is free, or the locks can't be had.
    pub fn take() -> Result<Self, Error> {
        Self::take_row(1)?.pop().ok_or(NO_PORT)
    }

    /// Takes so many free pairs whose ports follow one another.
    ///
    /// # Errors
    /// When there is no such row, or the locks can't be had.
    pub fn take_row(count: u16) -> Result<Vec<Self>, Error> {
        let folder = std::env::temp_dir().join("shardwright-test-ports");
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let span = HIGH - LOW;
        // Processes start at different places, so that they rarely meet.
        let start = u16::try_from(std::process::id().wrapping_mul(37) % u32::from(span))
            .expect("a remainder of a u16");
        let mut row: Vec<Self> = Vec::new();
        for step in 0..span {
            let port = LOW + (start + step) % span;
            let follows = row.last().is_none_or(|last| last.port + 1 == port);
            match Self::of(port, &folder)? {
                Some(lease) => {
                    if !follows {
                        row.clear();
                    }
                    row.push(lease);
                }
                None => row.clear(),
            }
            if row.len() >= usize::from(count) {
                return Ok(row);
            }
        }
        Err(NO_PORT)
    }

    /// This very pair, if it is free.
    fn of(port: u16, folder: &Path) -> Result<Option<Self>, Error> {
        let path = folder.join(port.to_string());
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        let free = lock.try_lock().is_ok() && is_free(port) && is_free(port + BUS_OFFSET);
        Ok(free.then_some(Self { port, _lock: lock }))
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
    fn a_row_passes_over_a_port_in_use() -> Result<(), Error> {
        let mut row = Lease::take_row(4)?;
        let first = row[0].port();
        let ports = |row: &[Lease]| row.iter().map(Lease::port).collect::<Vec<_>>();
        assert_eq!(ports(&row), (first..first + 4).collect::<Vec<_>>());
        // Two are free again before the one in use, too few for the next row.
        let held = row.remove(2);
        drop(row);
        let next = ports(&Lease::take_row(4)?);
        assert!(next[0] > held.port() || next[3] < first, "{next:?}");
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
