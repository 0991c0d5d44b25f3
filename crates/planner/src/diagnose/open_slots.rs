//! Slots that are half moved: by a move that was broken off, or by one that goes on.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{NodeId, Observed, OpenSlot, Slot};

use super::{Found, Problem, ProblemKind, Severity, add};

/// One end of a half-moved slot: who shows it open, the slot, from where and to where it goes.
type End = (NodeId, Slot, NodeId, NodeId);

fn ends(o: &Observed) -> BTreeSet<End> {
    let of = |node: NodeId, end: &OpenSlot| match *end {
        OpenSlot::Migrating { slot, to } => (node, slot, node, to),
        OpenSlot::Importing { slot, from } => (node, slot, from, node),
    };
    o.views()
        .flat_map(|(_, view)| view.open_slots().iter().map(move |end| of(view.id, end)))
        .collect()
}

/// One problem for all slots that go from one node to another and are open at the same of the two.
pub(super) fn open_slots(o: &Observed, found: &mut Found) {
    let mut open_at: BTreeMap<(NodeId, NodeId, Slot), BTreeSet<NodeId>> = BTreeMap::new();
    for (node, slot, from, to) in ends(o) {
        open_at.entry((from, to, slot)).or_default().insert(node);
    }
    let mut alike: BTreeMap<(NodeId, NodeId, BTreeSet<NodeId>), Vec<Slot>> = BTreeMap::new();
    for ((from, to, slot), nodes) in open_at {
        alike.entry((from, to, nodes)).or_default().push(slot);
    }
    for ((from, to, open_at), slots) in alike {
        let kind = ProblemKind::OpenSlots {
            slots: slots.into_iter().collect(),
            from,
            to,
            open_at,
            under_way: false,
        };
        add(found, Severity::Fatal, kind);
    }
}

/// Whether somebody moves slots: one that was half moved at a node that is still heard is so no more.
pub fn slots_are_moving(before: &Observed, now: &Observed) -> bool {
    let (before, after) = (ends(before), ends(now));
    let mut closed = before.difference(&after);
    closed.any(|(node, ..)| now.view_of(*node).is_some())
}

/// The same problems where [`slots_are_moving`]: half-moved slots are then no fault.
pub fn while_slots_move(problems: Vec<Problem>) -> Vec<Problem> {
    let told = |mut problem: Problem| {
        if let ProblemKind::OpenSlots { under_way, .. } = &mut problem.kind {
            *under_way = true;
            problem.severity = Severity::Note;
        }
        problem
    };
    super::worst_first(problems.into_iter().map(told))
}

pub(super) fn text(kind: &ProblemKind) -> String {
    let ProblemKind::OpenSlots {
        slots,
        from,
        to,
        open_at,
        under_way,
    } = kind
    else {
        return String::new();
    };
    let (from, to) = (from.short(), to.short());
    let (what, is, moves) = if slots.count() == 1 {
        (format!("slot {slots}"), "is", "moves")
    } else {
        (format!("slots {slots}"), "are", "move")
    };
    if *under_way {
        return format!("{what} {moves} from {from} to {to} just now");
    }
    let at = super::text::list(open_at);
    format!("{what} {is} half moved from {from} to {to} (open at {at})")
}
