//! Where a server runs, and where alone it can run.

use crate::Timestamp;

/// The place of a server: data for pairing, never an ordinal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    /// The zone, if zones are known.
    pub zone: Option<String>,
    /// The host (a Kubernetes node, a machine, or a label that stands for one), if known.
    pub host: Option<String>,
    /// Since when that host is known to be away: not well, or gone. `None` while it is not known to be.
    pub away_since: Option<Timestamp>,
    /// Whether that host is to take nothing new, as it is being emptied or soon will be (a cordoned Kubernetes node).
    pub cordoned: bool,
    /// The one host on which the server's volume can be used, where it is tied to one.
    pub tied: Option<Tied>,
    /// Servers of a higher rank leave first when the cluster shrinks.
    pub leave_rank: u32,
}

/// The host that a volume ties its server to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tied {
    /// The host.
    pub host: String,
    /// Since when it is known to be away. `None` while it is not known to be.
    pub away_since: Option<Timestamp>,
}

impl Place {
    /// True when both are known to be on one host. Two unknown hosts are not one host.
    pub fn same_host(&self, other: &Self) -> bool {
        self.host.is_some() && self.host == other.host
    }

    /// True when both are known to be in one zone.
    pub fn same_zone(&self, other: &Self) -> bool {
        self.zone.is_some() && self.zone == other.zone
    }
}
