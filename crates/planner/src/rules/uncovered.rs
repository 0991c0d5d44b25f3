//! Slots that nobody owns: each goes to the node that holds its keys, and where no node holds any, to where the shape
//! wants it. A person decides only where several nodes hold keys of one slot, or a node that is not seen may.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{Member, NodeId, Role, Slot, SlotSet, Source};

use crate::balance::{Owned, drain};
use crate::draft::Draft;
use crate::safety::{Held, someone_unheard, ungiven};
use crate::{Action, Authority, Precondition, Reason, Request, Shape, Ungiven, Waiting, layout};

/// How many slots a node is told to take one by one in one pass: each is a round trip, and writes its table.
const TAKEN_PER_PASS_MAX: usize = 256;

/// Gives every slot that nobody owns to a node; says which ones wait, and for what.
pub(crate) fn cover(p: &mut Draft<'_>) {
    if !p.o.contested().is_empty() {
        p.wait(Waiting::Contested {
            slots: p.o.contested().clone(),
        });
    }
    let slots = p.o.uncovered();
    if slots.is_empty() || p.ours.is_empty() {
        return;
    }
    // Whoever is not heard may own them, or hold their keys; and so may the other of two processes with one id.
    if someone_unheard(p.o) || !p.o.duplicates().is_empty() {
        let unheard = someone_unheard(p.o);
        let why = if unheard {
            Ungiven::Unheard
        } else {
            Ungiven::SaidElsewhere
        };
        return p.wait(Waiting::Uncovered { slots, why });
    }
    let held = Held::of(p.o, &slots);
    for (node, slots) in held.uncounted {
        p.wait(Waiting::KeysUncounted { node, slots });
    }
    for (node, slots) in held.by_one {
        if p.is_ours(node) {
            claim(p, node, &slots, &Reason::HoldsKeys);
        } else {
            let nodes = BTreeSet::from([node]);
            p.wait(Waiting::KeysUnclaimed { nodes, slots });
        }
    }
    for (nodes, slots) in held.unclear {
        if p.d.consent.lose_data {
            for (node, slots) in by_most_keys(p, &nodes, &slots) {
                claim(p, node, &slots, &Reason::HoldsMostKeys);
            }
        }
        p.wait(Waiting::KeysUnclaimed { nodes, slots });
    }
    let recorded = p.d.authority == Authority::Managed;
    let kept = ungiven(p.o, recorded, &held.by_nobody).filter(|_| !p.d.consent.lose_data);
    let (kept, why) = kept.unwrap_or((SlotSet::empty(), Ungiven::SaidElsewhere));
    // What is remembered may be older than what others believe.
    let (back, rest) = believed(p, &held.by_nobody.difference(&kept));
    let (owned, rest) = owned_last(p, &rest);
    for (node, slots) in back.into_iter().chain(owned) {
        claim(p, node, &slots, &Reason::NoKeys);
    }
    for (node, slots) in division(p, &rest) {
        claim(p, node, &slots, &Reason::NoKeys);
    }
    let why_of = [
        (slots.difference(&kept), Ungiven::SaidElsewhere),
        (kept, why),
    ];
    for (slots, why) in why_of.into_iter().filter(|(slots, _)| !slots.is_empty()) {
        p.wait(Waiting::Uncovered { slots, why });
    }
}

/// Lets a node own slots. Where its table gives some to others, it is told of each by itself: the engine adds only
/// slots that its table gives to nobody. One node at a time: taking a slot that it imports, it chooses an epoch.
fn claim(p: &mut Draft<'_>, node: NodeId, slots: &SlotSet, because: &Reason) {
    let Some(view) = p.o.view_of(node) else {
        return;
    };
    let rows = view.rows.iter().map(|row| &row.slots);
    let taken = rows.fold(SlotSet::empty(), |all, slots| all.union(slots));
    let busy = slots.intersection(&taken);
    let slots = slots.difference(&busy);
    if !slots.is_empty() {
        let requires = vec![Precondition::SlotsFree {
            node,
            slots: slots.clone(),
        }];
        p.act_if(Action::AddSlots { node, slots }, because.clone(), requires);
    }
    let asked = |a: &Action| matches!(a, Action::AssignSlot { node, owner, .. } if node == owner);
    if p.steps.iter().any(|s| asked(&s.action)) {
        return;
    }
    for slot in busy.slots().take(TAKEN_PER_PASS_MAX) {
        let owner = node;
        p.act(Action::AssignSlot { node, slot, owner }, because.clone());
    }
}

/// Of these slots, which goes to whom of the primaries that hold keys of it: to the one that holds most.
fn by_most_keys(
    p: &Draft<'_>,
    nodes: &BTreeSet<NodeId>,
    slots: &SlotSet,
) -> BTreeMap<NodeId, SlotSet> {
    let primary = |id: &&NodeId| {
        let member = p.o.member(**id);
        member.is_some_and(|m| m.role == Role::Primary) && p.is_ours(**id)
    };
    let keys = |id: NodeId, slot: Slot| p.o.view_of(id).and_then(|v| v.keys_of(slot));
    let mut out: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
    for slot in slots.slots() {
        let most = nodes
            .iter()
            .filter(primary)
            .max_by_key(|id| (keys(**id, slot), std::cmp::Reverse(**id)));
        if let Some(node) = most {
            out.entry(*node).or_default().push(slot);
        }
    }
    sets(out)
}

/// The slots whose last owner is remembered, and may own them again, by that one; and the rest.
fn owned_last(p: &Draft<'_>, slots: &SlotSet) -> (BTreeMap<NodeId, SlotSet>, SlotSet) {
    let mut back: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    let mut rest = slots.clone();
    for (node, before) in &p.o.holdings {
        let owned = before.slots.intersection(&rest);
        if !owned.is_empty() && p.o.member(*node).is_some_and(|m| may_own(p, m)) {
            rest = rest.difference(&owned);
            back.insert(*node, owned);
        }
    }
    (back, rest)
}

/// The slots that some still give to a primary of ours, which no longer claims them, by that primary; and the rest.
/// Nobody else could have them: those who believe so would not take notice.
fn believed(p: &Draft<'_>, slots: &SlotSet) -> (BTreeMap<NodeId, SlotSet>, SlotSet) {
    let mut believers: BTreeMap<Slot, BTreeMap<NodeId, usize>> = BTreeMap::new();
    for (_, view) in p.o.views().filter(|_| !slots.is_empty()) {
        for row in view.rows.iter().filter(|row| !row.slots.is_empty()) {
            let fit = |m: &Member| m.role == Role::Primary && p.is_ours(m.id);
            if !p.o.member(row.id).is_some_and(fit) {
                continue;
            }
            for slot in row.slots.intersection(slots).slots() {
                *believers
                    .entry(slot)
                    .or_default()
                    .entry(row.id)
                    .or_default() += 1;
            }
        }
    }
    let mut out: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
    for (slot, by) in believers {
        let most = by
            .iter()
            .max_by_key(|(id, n)| (**n, std::cmp::Reverse(**id)));
        if let Some((node, _)) = most {
            out.entry(*node).or_default().push(slot);
        }
    }
    let back = sets(out);
    let rest = back
        .values()
        .fold(slots.clone(), |rest, back| rest.difference(back));
    (back, rest)
}

/// How slots without keys are divided among the shards that are wanted: where a whole declared shard is gone, an empty
/// primary takes its place; the rest goes to those that own fewest, so that they come as even as they can. What is given
/// to one that has enough already would have to be moved away again.
fn division(p: &Draft<'_>, slots: &SlotSet) -> BTreeMap<NodeId, SlotSet> {
    let mut owned: Owned = BTreeMap::new();
    let mut empty: Vec<NodeId> = Vec::new();
    for m in p.o.members().values().filter(|m| may_own(p, m)) {
        if m.slots.is_empty() {
            empty.push(m.id);
        } else {
            owned.insert(m.id, m.slots.clone());
        }
    }
    // One whose server is too many only where there is no other.
    empty.sort_by_key(|id| (p.is_surplus(*id), *id));
    let mut empty = empty.into_iter();
    let wanted = match p.d.shape {
        Shape::Declared { shards, .. } => shards,
        Shape::AsFound => 1,
    };
    let mut out: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
    let mut rest = slots.clone();
    for range in layout(wanted).into_iter().map(SlotSet::from) {
        let lacks = owned.len() < usize::from(wanted) && range.difference(&rest).is_empty();
        if let Some(node) = lacks.then(|| empty.next()).flatten() {
            rest = rest.difference(&range);
            owned.insert(node, range.clone());
            out.insert(node, range);
        }
    }
    let lack = usize::from(wanted).saturating_sub(owned.len());
    owned.extend(empty.take(lack).map(|node| (node, SlotSet::empty())));
    // The rest is put as if a node that is nobody owned it.
    let stay: BTreeSet<NodeId> = owned.keys().copied().collect();
    let nobody = NodeId::from_bytes([0; 20]);
    owned.insert(nobody, rest);
    let given = drain(&owned, &BTreeSet::from([nobody]), &stay);
    for to in given.into_iter().filter(|t| t.from == nobody) {
        let more = out.entry(to.to).or_insert_with(SlotSet::empty);
        *more = more.union(&to.slots);
    }
    out
}

/// Whether slots may be given to a node: a primary that was heard, and that keeps what it has.
fn may_own(p: &Draft<'_>, m: &Member) -> bool {
    let leaves = matches!(&p.d.request, Some(Request::Leave { node }) if *node == m.id);
    let lives = m.role == Role::Primary && m.source == Source::Itself && p.is_ours(m.id);
    lives && !leaves && !p.reshaping.drains.contains(&m.id)
}

fn sets(slots: BTreeMap<NodeId, Vec<Slot>>) -> BTreeMap<NodeId, SlotSet> {
    let set = |(node, slots): (NodeId, Vec<Slot>)| (node, slots.into_iter().collect());
    slots.into_iter().map(set).collect()
}
