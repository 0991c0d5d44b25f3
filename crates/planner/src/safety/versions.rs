//! Who can take a copy of whom: a server reads what it or an older one writes.

use shardwright_topology::{NodeId, Observed};

/// Whether this node can take a copy of that one. What is not known speaks against nothing: a node that was not heard is
/// given no primary, and none to copy, for that reason alone.
pub fn can_copy(o: &Observed, replica: NodeId, primary: NodeId) -> bool {
    let server = |id| o.view_of(id).map(|v| &v.server);
    match (server(replica), server(primary)) {
        (Some(reads), Some(writes)) => reads.reads(writes),
        (None, _) | (_, None) => true,
    }
}

/// The nodes of its shard that could not take a copy of this replica once it is their primary: the primary of now, and
/// its other replicas.
pub fn left_behind(o: &Observed, replica: NodeId) -> Vec<NodeId> {
    let Some(primary) = o.member(replica).and_then(|m| m.primary) else {
        return Vec::new();
    };
    let siblings = o.replicas_of(primary).map(|m| m.id);
    let shard = [primary].into_iter().chain(siblings);
    let others = shard.filter(|id| *id != replica);
    others.filter(|id| !can_copy(o, *id, replica)).collect()
}
