//! What a cluster that was met by mistake did to ours, as far as it can be told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use shardwright_topology::{
    Address, Holding, Member, NodeId, NodeView, Observed, Role, SlotSet, Source,
};

use crate::evidence::{has_foreign_data, has_its_data, slots_not_known_ours};

/// How many nodes of each kind a text names.
const NAMED_MAX: usize = 6;

/// A node of ours that has not the data any more that it had.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Replaced {
    /// Which.
    pub node: NodeId,
    /// The foreign node that it copied, be it by another of ours; `None` where it only lost slots, whose keys the engine
    /// then deletes.
    pub by: Option<NodeId>,
    /// How many keys it had.
    pub keys_before: u64,
    /// How many it has now.
    pub keys_now: u64,
}

/// Slots of a foreign node of which nobody remembers that they were ours: it is not forgotten without consent to lose data.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Unremembered {
    /// Which.
    pub slots: SlotSet,
    /// The primary of ours that answers and owns fewest slots, which they may be moved to; `None` where there is none.
    pub to: Option<NodeId>,
}

/// Nodes of another cluster that nodes of ours list, since somebody let the two meet (`CLUSTER MEET`), and what they took.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ForeignNodesMet {
    /// Which, and where they are listed; where all were forgotten, those that were listed lately.
    pub nodes: BTreeMap<NodeId, Address>,
    /// The nodes of ours that they may know: all that are listed.
    pub ours: BTreeSet<NodeId>,
    /// The slots that they own by their greater epochs, and those of ours that they are forgotten with, and nobody owns yet.
    pub slots: SlotSet,
    /// Those of them that own slots of which nobody remembers that they were ours.
    pub unremembered: BTreeMap<NodeId, Unremembered>,
    /// Whose these were, as far as that is remembered: primaries of ours.
    pub taken_from: BTreeMap<NodeId, SlotSet>,
    /// Nodes of ours that follow them, with whom. Some may have their own data still.
    pub followers: BTreeMap<NodeId, NodeId>,
    /// Nodes of ours whose data was replaced, or deleted in part.
    pub replaced: Vec<Replaced>,
}

impl ForeignNodesMet {
    /// What is seen of these foreign nodes; where there are none any more, of those that were forgotten lately.
    pub(crate) fn of(o: &Observed, foreign: &BTreeSet<NodeId>) -> Self {
        let ids = o.members().keys().copied();
        let members = || foreign.iter().filter_map(|id| o.member(*id));
        let slots = members().fold(unowned_since(o), |all, m| all.union(&m.slots));
        let taken = |(id, before): (&NodeId, &Holding)| {
            let taken = before.slots.intersection(&slots);
            (!taken.is_empty()).then_some((*id, taken))
        };
        let held = o.holdings.iter().filter(|(id, _)| o.member(**id).is_some());
        let followed = |view: &NodeView| {
            let own = view.own().filter(|own| own.role == Role::Replica)?;
            Some((view.id, own.primary.filter(|id| foreign.contains(id))?))
        };
        let followers: BTreeMap<NodeId, NodeId> =
            o.views().filter_map(|(_, view)| followed(view)).collect();
        let lost = |view: &NodeView| {
            let primary = view.own().and_then(|own| own.primary);
            let by = primary.and_then(|id| foreign_head(o, foreign, id));
            replaced(o, view, by, &slots)
        };
        let replaced = o.views().filter_map(|(_, view)| lost(view)).collect();
        let listed = members().map(|m| (m.id, m.address.clone()));
        let forgotten = o.met.iter().filter(|_| foreign.is_empty());
        let forgotten = forgotten.map(|(id, met)| (*id, met.address.clone()));
        Self {
            ours: ids.filter(|id| !foreign.contains(id)).collect(),
            nodes: listed.chain(forgotten).collect(),
            unremembered: unremembered(o, foreign),
            taken_from: held.filter_map(taken).collect(),
            slots,
            followers,
            replaced,
        }
    }
}

/// The slots of ours that nobody owns, where nodes of another cluster are listed or were lately: such a one owned them until
/// it was forgotten, be it that no look saw it.
fn unowned_since(o: &Observed) -> SlotSet {
    if o.met.is_empty() {
        return SlotSet::empty();
    }
    let ours = o.holdings.values().map(|held| &held.slots);
    let ours = ours.fold(SlotSet::empty(), |all, slots| all.union(slots));
    o.uncovered().intersection(&ours)
}

/// The foreign node that this is, or that it follows.
fn foreign_head(o: &Observed, foreign: &BTreeSet<NodeId>, node: NodeId) -> Option<NodeId> {
    let next = || o.member(node)?.primary;
    let mut heads = [Some(node), next()].into_iter().flatten();
    heads.find(|id| foreign.contains(id))
}

fn unremembered(o: &Observed, foreign: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Unremembered> {
    let answers = |m: &&Member| m.source == Source::Itself && !foreign.contains(&m.id);
    let ours = o.voters().filter(answers);
    let to = ours.min_by_key(|m| (m.slots.count(), m.id)).map(|m| m.id);
    let owned = |id: &NodeId| {
        let owned = &o.member(*id)?.slots;
        let slots = slots_not_known_ours(o, *id).intersection(owned);
        (!slots.is_empty()).then_some((*id, Unremembered { slots, to }))
    };
    foreign.iter().filter_map(owned).collect()
}

/// What a node of ours lost. One that follows a foreign node, or another of ours that does, has that one's data once its
/// copy is done; a primary that lost slots has fewer keys.
fn replaced(
    o: &Observed,
    view: &NodeView,
    follows: Option<NodeId>,
    slots: &SlotSet,
) -> Option<Replaced> {
    let before = o.holdings.get(&view.id)?;
    let keys_now = view.server.keys;
    let gone = if follows.is_some() {
        // Who is not remembered to have had other data may have been made to follow that node on purpose.
        has_foreign_data(o, view) && has_its_data(o, view.id) == Some(false)
    } else {
        let primary = view.own().is_some_and(|own| own.role == Role::Primary);
        let taken = !before.slots.intersection(slots).is_empty();
        primary && taken && keys_now < before.keys
    };
    gone.then_some(Replaced {
        node: view.id,
        by: follows,
        keys_before: before.keys,
        keys_now,
    })
}

impl fmt::Display for Replaced {
    /// Nodes are written short: the whole id is in the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.short();
        let (before, now) = (self.keys_before, self.keys_now);
        match self.by {
            Some(by) => {
                let by = by.short();
                write!(
                    f,
                    "the data of {node} was replaced by that of {by} ({before} keys before, {now} now)"
                )
            }
            None => write!(
                f,
                "{node} deleted the keys of slots that it lost ({before} keys before, {now} now)"
            ),
        }
    }
}

impl ForeignNodesMet {
    /// Whether another tells of the same nodes and the same losses: their figures may differ.
    pub fn is_like(&self, other: &Self) -> bool {
        let lost = |met: &Self| -> Vec<NodeId> { met.replaced.iter().map(|r| r.node).collect() };
        let unclear = |met: &Self| !met.unremembered.is_empty();
        let same = unclear(self) == unclear(other) && lost(self) == lost(other);
        same && self.nodes.keys().eq(other.nodes.keys())
    }

    /// All of it without the figures that change while the foreign nodes take writes.
    pub fn in_short(&self) -> String {
        let met = self.who_and_what();
        if self.replaced.is_empty() {
            return met;
        }
        let lost = listed(self.replaced.iter().map(|lost| lost.node.short()));
        format!("{met}; the data of {lost} was replaced, or deleted in part")
    }

    /// Which nodes were met, and which slots they took.
    fn who_and_what(&self) -> String {
        let at = |(id, address): (&NodeId, &Address)| format!("{} at {address}", id.short());
        let nodes = listed(self.nodes.iter().map(at));
        let met = format!("nodes of another cluster were met (CLUSTER MEET): {nodes}");
        let met = format!("{met}{}", self.whose_is_not_known());
        if self.taken_from.is_empty() {
            return met;
        }
        let no_slots = SlotSet::empty();
        let unclear = self.unremembered.values().map(|owned| &owned.slots);
        let unclear = unclear.fold(no_slots, |all, slots| all.union(slots));
        let took = self.slots.difference(&unclear);
        let of = listed(self.taken_from.keys().map(NodeId::short));
        format!("{met}; they took slots {took} of {of}")
    }

    /// Which of them own slots of which nobody remembers that they were ours.
    fn whose_is_not_known(&self) -> String {
        let owned = |(id, owned): (&NodeId, &Unremembered)| {
            let (id, slots) = (id.short(), &owned.slots);
            format!("; {id} owns slots {slots}, and nobody remembers whose they were")
        };
        self.unremembered.iter().map(owned).collect()
    }
}

impl fmt::Display for ForeignNodesMet {
    /// Nodes are written short: the whole id is in the value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.who_and_what())?;
        let kept = |node: &NodeId| self.replaced.iter().all(|lost| lost.node != *node);
        let followers = self.followers.iter().filter(|pair| kept(pair.0));
        let pairs = followers.map(|(node, of)| format!("{} follows {}", node.short(), of.short()));
        let pairs = listed(pairs);
        if !pairs.is_empty() {
            write!(f, "; {pairs}")?;
        }
        for lost in &self.replaced {
            write!(f, "; {lost}")?;
        }
        Ok(())
    }
}

/// The first of these, and how many more there are.
fn listed(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<String> = texts.collect();
    let more = texts.len().saturating_sub(NAMED_MAX);
    let first = texts.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>();
    match more {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
