//! Writes that one node alone has, or had: its copy of its primary drops them.

use std::fmt;

use shardwright_topology::{
    DroppedBytes, DroppedWrites, NodeId, NodeView, Observed, Replication, writes_max,
};

use super::{Found, ProblemKind, add};
use crate::Severity;

/// A replica without its link that has more of a stream than its primary had when that was promoted, whoever wrote it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AheadOfPrimary {
    /// The replica.
    pub node: NodeId,
    /// Its primary.
    pub primary: NodeId,
    /// By how many bytes of that stream.
    pub bytes: u64,
}

/// What was found of former primaries lately, and replicas that are ahead of their primaries: no command brings any of it
/// back.
pub(super) fn of(o: &Observed, found: &mut Found) {
    for dropped in o.dropped_writes.values() {
        let kind = ProblemKind::WritesDropped(dropped.clone());
        add(found, Severity::Note, kind);
    }
    let told = |id: NodeId| o.dropped_writes.contains_key(&id) || o.has_duplicate(id);
    let views = o.views().map(|(_, view)| view).filter(|v| !told(v.id));
    for ahead in views.filter_map(|view| AheadOfPrimary::of(o, view)) {
        add(found, Severity::Note, ProblemKind::AheadOfPrimary(ahead));
    }
}

impl AheadOfPrimary {
    /// This replica, if it waits for a full copy that drops a write.
    fn of(o: &Observed, replica: &NodeView) -> Option<Self> {
        let Replication::Replica { link_up: false, .. } = replica.server.replication else {
            return None;
        };
        let primary = replica.own()?.primary?;
        let has = replica.server.stream.as_ref()?;
        let before = o.view_of(primary)?.server.stream.as_ref()?.before.as_ref();
        let (_, until) = before.filter(|(id, _)| *id == has.id)?;
        let bytes = replica.server.stream_end?.checked_sub(*until)?;
        (writes_max(bytes) > 0).then_some(Self {
            node: replica.id,
            primary,
            bytes,
        })
    }
}

impl fmt::Display for AheadOfPrimary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "replica {} has {} bytes of a replication stream that its primary {} does not have: up to {} write(s), which \
             its full copy drops",
            self.node.short(),
            self.bytes,
            self.primary.short(),
            writes_max(self.bytes)
        )
    }
}

/// Who could write them again, how the next are spared that, and where the number is where it is not known.
pub(super) fn remedy(dropped: Option<&DroppedWrites>) -> String {
    let again = "only whoever wrote them can write them again";
    match dropped.map(|dropped| (dropped.bytes, dropped.successor)) {
        Some((DroppedBytes::All(_), _)) => format!(
            "{again}; a client whose command time-out is shorter than cluster-node-timeout does not take such writes for done"
        ),
        Some((DroppedBytes::Unknown { .. }, successor)) => format!(
            "{again}; if there were any, the log of {} says how many bytes, A - B: \"Requested offset for second ID was A, but I can \
             reply up to B\"",
            successor.short()
        ),
        None => again.to_owned(),
    }
}
