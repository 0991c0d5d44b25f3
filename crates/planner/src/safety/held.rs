//! Who holds keys of slots that nobody owns, and why such slots are not given out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use shardwright_topology::{NodeId, NodeView, Observed, Role, Slot, SlotSet, Source};

/// Why slots that nobody owns are not given out.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Ungiven {
    /// They are about to be, or another wait says it.
    SaidElsewhere,
    /// Somebody was not heard who may own them, or hold their keys.
    Unheard,
    /// A node that all others were made to forget may own them, and have their keys.
    Forgotten,
    /// This node has keys and knows no other: it may have lost its table of nodes, and others own the slots.
    TableLost(NodeId),
}

impl fmt::Display for Ungiven {
    /// Follows the slots, as the end of a sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SaidElsewhere | Self::Unheard => Ok(()),
            Self::Forgotten => f.write_str(
                ", and a node that all others were made to forget may own them and have their keys",
            ),
            Self::TableLost(node) => write!(
                f,
                ", and {node:?}, which has keys and knows no other node, may have lost its table of nodes"
            ),
        }
    }
}

/// Slots that nobody owns, by who holds keys of them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Held {
    /// No node has a key of these, and every node was counted.
    pub(crate) by_nobody: SlotSet,
    /// This primary has keys of these, and beside it at most its replicas.
    pub(crate) by_one: BTreeMap<NodeId, SlotSet>,
    /// These nodes have keys of these, and it is not clear whose they are: several primaries, or replicas alone.
    pub(crate) unclear: BTreeMap<BTreeSet<NodeId>, SlotSet>,
    /// This node has keys, and did not count those of these slots.
    pub(crate) uncounted: BTreeMap<NodeId, SlotSet>,
}

impl Held {
    /// What the nodes that were heard tell of these slots.
    pub(crate) fn of(o: &Observed, slots: &SlotSet) -> Self {
        let views: Vec<&NodeView> = o.views().map(|(_, v)| v).collect();
        let mut nobody = Vec::new();
        let mut one: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
        let mut unclear: BTreeMap<BTreeSet<NodeId>, Vec<Slot>> = BTreeMap::new();
        let mut uncounted: BTreeMap<NodeId, Vec<Slot>> = BTreeMap::new();
        for slot in slots.slots() {
            let untold = views.iter().find(|v| v.keys_of(slot).is_none());
            if let Some(view) = untold {
                uncounted.entry(view.id).or_default().push(slot);
                continue;
            }
            let has = |v: &&&NodeView| v.keys_of(slot).is_some_and(|keys| keys > 0);
            let holders: BTreeSet<NodeId> = views.iter().filter(has).map(|v| v.id).collect();
            if holders.is_empty() {
                nobody.push(slot);
            } else if let Some(node) = owner_to_be(o, &holders) {
                one.entry(node).or_default().push(slot);
            } else {
                unclear.entry(holders).or_default().push(slot);
            }
        }
        Self {
            by_nobody: nobody.into_iter().collect(),
            by_one: by_key(one),
            unclear: by_key(unclear),
            uncounted: by_key(uncounted),
        }
    }
}

/// The primary among these whose replicas all the others are.
fn owner_to_be(o: &Observed, holders: &BTreeSet<NodeId>) -> Option<NodeId> {
    let row = |id: NodeId| o.view_of(id).and_then(NodeView::own);
    let mut primaries = holders.iter().copied();
    let primary = primaries.find(|id| row(*id).is_some_and(|own| own.role == Role::Primary))?;
    let copies =
        |id: &NodeId| *id == primary || row(*id).is_some_and(|own| own.primary == Some(primary));
    holders.iter().all(copies).then_some(primary)
}

fn by_key<K: Ord>(slots: BTreeMap<K, Vec<Slot>>) -> BTreeMap<K, SlotSet> {
    let set = |(key, slots): (K, Vec<Slot>)| (key, slots.into_iter().collect());
    slots.into_iter().map(set).collect()
}

/// Whether anybody was not heard who may own slots, or hold keys, that nobody else does.
pub(crate) fn someone_unheard(o: &Observed) -> bool {
    o.members().values().any(|m| m.source == Source::Others)
        || o.servers().values().any(|s| s.view.known().is_none())
}
