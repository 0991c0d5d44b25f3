//! Primaries that were told to end hand their role to a replica while they still can.

use shardwright_topology::{AttemptKind, Member, NodeId, NodeView, Observed, Source};

use crate::draft::Draft;
use crate::evidence::read;
use crate::{Action, Precondition, Reason, Waiting, safety};

/// Switches over from every primary with slots whose server is leaving.
pub(crate) fn leaving_primaries(p: &mut Draft<'_>) {
    let primaries: Vec<NodeId> =
        p.o.voters()
            .filter(|m| m.source == Source::Itself && is_leaving(p.o, m.id) && p.is_ours(m.id))
            .map(|m| m.id)
            .collect();
    for primary in primaries {
        switch_over(p, primary, &Reason::PrimaryLeaves, |p, id| {
            !is_leaving(p.o, id)
        });
    }
}

/// Switches over from a primary whose server is not wanted any more.
pub(crate) fn hand_over_to_those_who_stay(p: &mut Draft<'_>, primary: NodeId) {
    switch_over(p, primary, &Reason::NotWanted, |p, id| {
        !is_leaving(p.o, id) && !p.is_surplus(id)
    });
}

/// What must still be so right before a node that leaves is reset: what it holds is a copy, and the original lives.
pub(crate) fn before_reset(o: &Observed, node: NodeId) -> Vec<Precondition> {
    let primary = o.member(node).and_then(|m| o.member(m.primary?));
    // One that has no slots yet has nothing that could be lost with its replica.
    let primary = primary.filter(|m| !m.slots.is_empty());
    let lives = primary.map(|m| Precondition::OwnsSlots { node: m.id });
    let unburdened = Precondition::IsUnburdened { node };
    [unburdened].into_iter().chain(lives).collect()
}

/// Who has a handshake with this node's address that is not done. Once the node is reset it would go on with that, under its
/// new id, and be a member again.
pub(crate) fn greeter_of(o: &Observed, node: NodeId) -> Option<NodeId> {
    let address = &o.member(node)?.address;
    let greets = |v: &NodeView| {
        v.rows
            .iter()
            .any(|r| !r.is_member() && r.address == *address)
    };
    let mut others = o.views().filter(|(_, v)| v.id != node);
    others.find(|(_, v)| greets(v)).map(|(_, v)| v.id)
}

/// Where every replica leaves too, as when the whole cluster stops, there is nobody to hand over to.
fn switch_over(
    p: &mut Draft<'_>,
    primary: NodeId,
    because: &Reason,
    may: fn(&Draft<'_>, NodeId) -> bool,
) {
    let stays = |m: &&Member| m.source == Source::Itself && may(p, m.id);
    let heirs: Vec<NodeId> =
        p.o.replicas_of(primary)
            .filter(stays)
            .map(|m| m.id)
            .collect();
    let asked = |id: &NodeId| p.asked_within(*id, AttemptKind::Switchover, p.l.switchover_retry_ms);
    if let Some(replica) = heirs.iter().copied().find(asked) {
        return p.wait(Waiting::Promotion { replica });
    }
    let ready = |id: &NodeId| safety::why_not_switch_over(p.o, p.l, *id, p.now).is_empty();
    let offset = |id: NodeId| p.o.view_of(id).and_then(read);
    let best = heirs.iter().copied().filter(ready).max_by_key(|id| {
        // Whoever stays must be able to copy the new primary; the one that leaves need not.
        let left = safety::left_behind(p.o, *id);
        let left = left.iter().filter(|id| **id != primary).count();
        (std::cmp::Reverse(left), offset(*id), std::cmp::Reverse(*id))
    });
    if let Some(replica) = best {
        let requires = vec![Precondition::IsReplicaOf {
            node: replica,
            primary,
        }];
        p.act_if(
            Action::Switchover { replica, primary },
            because.clone(),
            requires,
        );
    }
}

fn is_leaving(o: &Observed, node: NodeId) -> bool {
    o.server_of(node).is_some_and(|s| s.leaving)
}
