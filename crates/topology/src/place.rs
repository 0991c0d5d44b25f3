//! Where a server runs, as far as pairing cares.

/// The place of a server: data for pairing, never an ordinal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Place {
    /// The zone, if zones are known.
    pub zone: Option<String>,
    /// The host (a Kubernetes node, a machine, or a label that stands for one), if known.
    pub host: Option<String>,
    /// True when the server's volume ties it to its host.
    pub pinned_by_volume: bool,
    /// Servers of a higher rank leave first when the cluster shrinks.
    pub leave_rank: u32,
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
