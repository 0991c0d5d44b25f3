//! Keys that are where nobody looks for them: of slots that nobody owns, and of slots that another node owns.

use std::collections::BTreeSet;

use shardwright_topology::{NodeId, NodeView, Observed, Role, Seen, SlotSet};

use super::text::list;
use super::{Found, ProblemKind, add};
use crate::safety::{Held, someone_unheard, ungiven};
use crate::{Severity, Ungiven};

/// Slots without an owner. Where everyone was heard and counted, it is known who holds their keys.
pub(super) fn uncovered(o: &Observed, found: &mut Found) {
    let uncovered = o.uncovered();
    let mut unknown = uncovered.clone();
    let silent = o.servers().values().filter(|s| s.view.known().is_none());
    let not_heard = (silent.count(), o.servers().len());
    if !uncovered.is_empty() && not_heard.0 > 0 {
        let slots = uncovered;
        let kind = ProblemKind::CoverageUnknown { slots, not_heard };
        return add(found, Severity::Fatal, kind);
    }
    if !uncovered.is_empty() && !someone_unheard(o) {
        let held = Held::of(o, &uncovered);
        let one = held.by_one.into_iter();
        let one = one.map(|(node, slots)| (BTreeSet::from([node]), slots, true));
        let several = held.unclear.into_iter();
        let several = several.map(|(nodes, slots)| (nodes, slots, false));
        let kept = ungiven(o, o.formed.is_some(), &held.by_nobody);
        let mut nobodys = held.by_nobody;
        if let Some((slots, why)) = kept {
            unknown = unknown.difference(&slots);
            nobodys = nobodys.difference(&slots);
            add(
                found,
                Severity::Fatal,
                ProblemKind::NotGivenOut { slots, why },
            );
        }
        let nobody = (BTreeSet::new(), nobodys, true);
        for (nodes, slots, clear) in one.chain(several).chain([nobody]) {
            unknown = unknown.difference(&slots);
            if !slots.is_empty() {
                let kind = ProblemKind::Unowned {
                    slots,
                    nodes,
                    clear,
                };
                add(found, Severity::Fatal, kind);
            }
        }
    }
    if !unknown.is_empty() {
        add(found, Severity::Fatal, ProblemKind::Uncovered(unknown));
    }
}

/// Keys that a primary holds of others' slots. Slots that are open, or nobody's, are named as such.
pub(super) fn stray_keys(o: &Observed, found: &mut Found) {
    let open: SlotSet = o
        .views()
        .flat_map(|(_, v)| v.open_slots().iter().map(|end| end.slot()))
        .collect();
    let primary = |v: &NodeView| v.own().is_some_and(|own| own.role == Role::Primary);
    for view in o.views().map(|(_, view)| view).filter(|view| primary(view)) {
        let node = view.id;
        match &view.stray_keys {
            Seen::Known(strays) => {
                let owned = |slot| o.owner(slot).is_some_and(|owner| owner != node);
                let strays = strays
                    .iter()
                    .filter(|(slot, _)| !open.contains(**slot) && owned(**slot));
                let slots: SlotSet = strays.clone().map(|(slot, _)| *slot).collect();
                let owners = slots.slots().filter_map(|slot| o.owner(slot)).collect();
                let keys = strays.map(|(_, n)| *n).sum();
                if !slots.is_empty() {
                    let kind = ProblemKind::StrayKeys {
                        node,
                        keys,
                        slots,
                        owners,
                    };
                    add(found, Severity::Fatal, kind);
                }
            }
            Seen::Unknown(why) => {
                let why = why.clone();
                let kind = ProblemKind::StrayKeysUnknown { node, why };
                add(found, Severity::Note, kind);
            }
        }
    }
}

pub(super) fn coverage_unknown(slots: &SlotSet, (silent, of): (usize, usize)) -> String {
    let count = slots.count();
    if silent == of {
        return format!("no server was heard, so it is not known who owns the {count} slots");
    }
    format!(
        "nobody who was heard knows an owner of {count} slots, and {silent} of {of} servers were not heard: {slots}"
    )
}

pub(super) fn not_given_out(slots: &SlotSet, why: Ungiven) -> String {
    format!("{} slots have no owner: {slots}{why}", slots.count())
}

pub(super) fn unowned(slots: &SlotSet, nodes: &BTreeSet<NodeId>) -> String {
    let count = slots.count();
    if nodes.is_empty() {
        format!("{count} slots have no owner, and no node has a key of them: {slots}")
    } else {
        let nodes = list(nodes);
        format!("{count} slots have no owner, and {nodes} hold keys of them: {slots}")
    }
}
