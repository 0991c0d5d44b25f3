//! Who can take a copy of whom: a server reads what it or an older one writes, where it has as many databases.

use shardwright_topology::{NodeId, Observed, Unreadable};

/// Whether this node can take a copy of that one. What is not known speaks against nothing: a node that was not heard is
/// given no primary, and none to copy, for that reason alone.
pub fn can_copy(o: &Observed, replica: NodeId, primary: NodeId) -> bool {
    why_not_copy(o, replica, primary).is_none()
}

/// Why this node can't take a copy of that one, where that is known.
pub fn why_not_copy(o: &Observed, replica: NodeId, primary: NodeId) -> Option<Unreadable> {
    let server = |id| o.view_of(id).map(|v| &v.server);
    server(replica)?.why_not_read(server(primary)?)
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
