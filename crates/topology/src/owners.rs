//! Who owns each slot: of all claims that were made, the one with the greatest config epoch.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::{ConfigEpoch, NodeId, Role, SLOT_COUNT, Server, ServerName, Slot, SlotRange, SlotSet};

/// A claim on slots: by epoch, then the node's own word before others', then the smaller id.
type Claim = (ConfigEpoch, bool, Reverse<NodeId>);

/// The best claim on each slot.
#[derive(Clone, Debug)]
pub(crate) struct Owners {
    /// By slot number: one more than the place of its owner in `nodes`; 0 where nobody claims the slot.
    by_slot: Vec<u32>,
    nodes: Vec<NodeId>,
    contested: SlotSet,
}

impl Owners {
    /// Weighs all claims that servers make, each for itself and for nodes that do not speak.
    pub(crate) fn weigh(
        servers: &BTreeMap<ServerName, Server>,
        speakers: &BTreeMap<NodeId, ServerName>,
    ) -> Self {
        let mut claims = claims(servers, speakers);
        // A later one is better, or as good.
        claims.sort_by_key(|(claim, _)| *claim);
        let mut by_slot = vec![0_u32; usize::from(SLOT_COUNT)];
        let mut tied = vec![false; usize::from(SLOT_COUNT)];
        let mut before: &[(Claim, &SlotSet)] = &[];
        for (count, (claim, slots)) in (1_u32..).zip(&claims) {
            for range in slots.ranges() {
                let (first, last) = (range.first().number(), range.last().number());
                for slot in usize::from(first)..=usize::from(last) {
                    let held = before.get((by_slot[slot] as usize).wrapping_sub(1));
                    tied[slot] = held.is_some_and(|(other, _)| {
                        other.0 == claim.0 && (tied[slot] || other.2 != claim.2)
                    });
                    by_slot[slot] = count;
                }
            }
            before = &claims[..count as usize];
        }
        let contested = runs(&tied).filter(|(tied, _)| **tied);
        Self {
            contested: contested.map(|(_, range)| range).collect(),
            nodes: claims.iter().map(|(claim, _)| claim.2.0).collect(),
            by_slot,
        }
    }

    /// The owner of a slot.
    pub(crate) fn of(&self, slot: Slot) -> Option<NodeId> {
        let claim = self.by_slot.get(usize::from(slot.number()))?;
        self.node(*claim)
    }

    /// The slots of each owner.
    pub(crate) fn by_node(&self) -> BTreeMap<NodeId, SlotSet> {
        let mut by_node: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for (claim, range) in runs(&self.by_slot) {
            if let Some(node) = self.node(*claim) {
                by_node.entry(node).or_default().insert(range);
            }
        }
        by_node
    }

    /// The slots that nobody claims.
    pub(crate) fn uncovered(&self) -> SlotSet {
        let nobodys = runs(&self.by_slot).filter(|(claim, _)| **claim == 0);
        nobodys.map(|(_, range)| range).collect()
    }

    /// The slots that two nodes claim with one epoch, and none with a greater one.
    pub(crate) fn contested(&self) -> &SlotSet {
        &self.contested
    }

    fn node(&self, claim: u32) -> Option<NodeId> {
        let place = usize::try_from(claim).ok()?.checked_sub(1)?;
        self.nodes.get(place).copied()
    }
}

/// Every claim that counts. One that others make for a node that speaks for itself is void; and a node does not speak twice.
fn claims<'a>(
    servers: &'a BTreeMap<ServerName, Server>,
    speakers: &BTreeMap<NodeId, ServerName>,
) -> Vec<(Claim, &'a SlotSet)> {
    let mut claims = Vec::new();
    for (name, server) in servers {
        let Some(view) = server.view.known() else {
            continue;
        };
        let mut speaking = speakers.iter().peekable();
        for row in &view.rows {
            if row.slots.is_empty() || row.role != Role::Primary || !row.is_member() {
                continue;
            }
            while speaking.next_if(|(id, _)| **id < row.id).is_some() {}
            let speaker = speaking.peek().filter(|(id, _)| **id == row.id);
            let own = row.id == view.id;
            if speaker.is_some_and(|(_, at)| !own || *at != name) {
                continue;
            }
            claims.push(((row.epoch, own, Reverse(row.id)), &row.slots));
        }
    }
    claims
}

/// Slots in a row of which the same is so.
fn runs<T: PartialEq>(by_slot: &[T]) -> impl Iterator<Item = (&T, SlotRange)> {
    let mut next = 0_u64;
    by_slot.chunk_by(PartialEq::eq).filter_map(move |run| {
        let first = next;
        next += run.len() as u64;
        let range = SlotRange::new(first, next - 1).ok()?;
        Some((run.first()?, range))
    })
}
