//! Replicas whose full copy begins again and again, as their primary closes the link before it is done.

use std::fmt;

use shardwright_topology::{Address, NodeId, Observed};

use crate::evidence::in_sync;

/// A replica has no full copy, and its primary has begun more of them than its replicas need.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RepeatedCopy {
    /// The replica.
    pub node: NodeId,
    /// Its primary.
    pub primary: NodeId,
    /// Where the primary answers.
    pub address: Address,
    /// The limit of its replicas' output buffers, in bytes.
    pub limit_bytes: u64,
}

/// The least limit that is proposed, in bytes: four times what the engines begin with.
const PROPOSED_MIN: u64 = 1 << 30;

impl RepeatedCopy {
    /// The copy of this replica, if the likely reason why it is not done is that its primary closes it for its output.
    ///
    /// That is so where the primary has such a limit, has begun one copy for each of its replicas and two more and, where
    /// the engine counts that, has closed clients for their output. All counts are of the run of its process.
    pub(crate) fn of(o: &Observed, node: NodeId) -> Option<Self> {
        let view = o.view_of(node).filter(|view| !in_sync(o, view))?;
        let primary = view.own()?.primary?;
        let copies = o.view_of(primary)?.server.full_copies?;
        let limit_bytes = copies.buffer_limit_bytes?;
        let replicas = u64::try_from(o.replicas_of(primary).count()).ok()?;
        let closed = copies.closed.is_none_or(|closed| closed > 0);
        let again = closed && copies.begun >= replicas.saturating_add(2);
        let address = o.server_of(primary)?.address.known().filter(|_| again)?;
        Some(Self {
            node,
            primary,
            address: address.clone(),
            limit_bytes,
        })
    }

    /// What lets the copy end.
    pub fn remedy(&self) -> String {
        let proposed = self.limit_bytes.saturating_mul(4).max(PROPOSED_MIN);
        format!(
            "redis-cli -h {} -p {} CONFIG SET client-output-buffer-limit \"replica {proposed} 0 0\"",
            self.address.host, self.address.port
        )
    }
}

impl fmt::Display for RepeatedCopy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the full copy of replica {} begins again and again: its primary {} closes the link, likely as more is written \
             meanwhile than client-output-buffer-limit allows for replicas ({} bytes)",
            self.node.short(),
            self.primary.short(),
            self.limit_bytes
        )
    }
}
