//! A network namespace with one address, which reaches only those addresses of this machine that it is told to.

use std::net::Ipv4Addr;
use std::process::Command;

use crate::Error;
use crate::ports::Lease;

/// The range for tests of networks (RFC 2544): nobody's real one. It has room for so many blocks of eight addresses.
const RANGE: u32 = 0xC612_0000;
const BLOCKS: u32 = 16_384;
/// How many addresses this machine has on its end of the link.
pub const OUTSIDE: u32 = 6;

/// A namespace, and a link between it and this machine. Both end with it.
#[derive(Debug)]
pub struct Namespace {
    // Its number makes the names and addresses unique among tests that run at the same time.
    lease: Lease,
}

impl Namespace {
    /// Makes one that reaches nobody yet. This machine has [`OUTSIDE`] addresses at the other end of the link, and reaches it.
    ///
    /// # Errors
    /// Where this machine can't: it takes root, and `ip` of iproute2.
    pub fn make() -> Result<Self, Error> {
        let lease = Lease::take()?;
        let made = Self { lease };
        let (name, ours, its) = (made.name(), made.link("o"), made.link("i"));
        ip(&format!("netns add {name}"))?;
        ip(&format!(
            "link add name {ours} type veth peer name {its} netns {name}"
        ))?;
        for n in 0..OUTSIDE {
            ip(&format!("addr add {}/32 dev {ours}", made.outside(n)))?;
        }
        ip(&format!("link set {ours} up"))?;
        ip(&format!(
            "-n {name} addr add {}/32 dev {its}",
            made.inside()
        ))?;
        ip(&format!("-n {name} link set {its} up"))?;
        ip(&format!("-n {name} link set lo up"))?;
        let (to, from) = (made.inside(), made.outside(0));
        ip(&format!("route add {to}/32 dev {ours} src {from}"))?;
        Ok(made)
    }

    /// Lets it reach the address number `n` of this machine from now on, and be reached from there.
    ///
    /// # Errors
    /// When the route can't be added.
    pub fn reaches(&self, n: u32) -> Result<(), Error> {
        let (name, its) = (self.name(), self.link("i"));
        ip(&format!(
            "-n {name} route add {}/32 dev {its}",
            self.outside(n)
        ))
    }

    /// The address in it.
    #[must_use]
    pub fn inside(&self) -> String {
        self.address(OUTSIDE)
    }

    /// Address number `n`, below [`OUTSIDE`], of this machine.
    #[must_use]
    pub fn outside(&self, n: u32) -> String {
        self.address(n)
    }

    /// Its name, as `ip netns` knows it.
    pub(crate) fn name(&self) -> String {
        format!("shardwright-test-{}", self.lease.port())
    }

    fn address(&self, n: u32) -> String {
        let block = u32::from(self.lease.port()) % BLOCKS;
        Ipv4Addr::from(RANGE + 8 * block + n).to_string()
    }

    fn link(&self, end: &str) -> String {
        format!("swt{}{end}", self.lease.port())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The link goes with it, at both ends. Nothing is left to tell a failure to.
        ip(&format!("netns del {}", self.name())).ok();
    }
}

fn ip(words: &str) -> Result<(), Error> {
    let told = Command::new("ip").args(words.split(' ')).output();
    let said = told.map_err(Error::io("run", "ip"))?;
    if said.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&said.stderr).trim().to_owned();
    Err(Error::Network {
        asked: format!("ip {words}"),
        why,
    })
}
