//! What each slot of a cluster holds, asked of its owners.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;
use shardwright_engine::Client;
use shardwright_planner::balance::Loads;
use shardwright_topology::{NodeId, Observed, SizedBy, Slot, SlotSet, SlotSize};

use crate::Links;
use crate::execute::{StepError, place_of};

/// What is asked of slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Held {
    /// How many keys they have.
    Keys,
    /// How much memory those take, in bytes.
    Memory,
}

/// What the slots hold.
#[derive(Clone, Debug, Default)]
pub struct SlotLoads {
    /// By slot.
    pub loads: Loads,
    /// Whether some of it is estimated: of a server that tells only the memory of all its data, each key is taken to
    /// need as much as any other.
    pub estimated: bool,
}

/// Asks all owners of slots at the same time what their slots hold.
///
/// # Errors
/// When one of them does not answer: what is not known is not nothing.
pub async fn slot_loads(links: &Links, o: &Observed, what: Held) -> Result<SlotLoads, StepError> {
    let owners: Vec<(NodeId, SlotSet)> = o.voters().map(|m| (m.id, m.slots.clone())).collect();
    let asked = owners
        .iter()
        .map(|(id, slots)| of_node(links, o, *id, slots, what));
    let mut all = SlotLoads::default();
    for (loads, estimated) in try_join_all(asked).await? {
        all.loads.extend(loads);
        all.estimated |= estimated;
    }
    Ok(all)
}

/// What a node holds of these slots, in all its databases together.
pub(crate) async fn slot_sizes(
    links: &Links,
    o: &Observed,
    node: NodeId,
    slots: &SlotSet,
) -> Result<BTreeMap<Slot, SlotSize>, StepError> {
    let mut all: BTreeMap<Slot, SlotSize> = BTreeMap::new();
    for client in databases_of(links, o, node).await? {
        for (slot, size) in client.slot_sizes(slots).await? {
            let sum = match all.get(&slot) {
                Some(before) if before.keys > 0 && size.keys > 0 => together(*before, size),
                Some(before) if before.keys > 0 => *before,
                Some(_) | None => size,
            };
            all.insert(slot, sum);
        }
    }
    Ok(all)
}

/// What a slot holds in two databases. Where the server tells the memory of the slot, that is of all of them already.
fn together(a: SlotSize, b: SlotSize) -> SlotSize {
    let bytes = match a.by {
        SizedBy::Slot => a.bytes,
        SizedBy::Keys | SizedBy::Average => a.bytes.saturating_add(b.bytes),
    };
    SlotSize {
        keys: a.keys.saturating_add(b.keys),
        bytes,
        largest: a.largest.max(b.largest),
        by: if b.by == SizedBy::Average { b.by } else { a.by },
    }
}

/// A connection to each database of a node that has keys, and to its first.
async fn databases_of(links: &Links, o: &Observed, node: NodeId) -> Result<Vec<Client>, StepError> {
    let (server, address) = place_of(o, node)?;
    let first = links.client(server, address).await?;
    let filled = first.database_sizes().await?.databases;
    let mut clients = vec![first];
    for number in filled.into_keys().filter(|number| *number > 0) {
        clients.push(links.client_of_database(server, address, number).await?);
    }
    Ok(clients)
}

async fn of_node(
    links: &Links,
    o: &Observed,
    node: NodeId,
    slots: &SlotSet,
    what: Held,
) -> Result<(Loads, bool), StepError> {
    let databases = databases_of(links, o, node).await?;
    let [first, ..] = databases.as_slice() else {
        return Ok((Loads::new(), false));
    };
    if what == Held::Memory
        && let Some(memory) = first.memory_of_slots(slots).await?
    {
        return Ok((memory, false));
    }
    let mut keys = Loads::new();
    for client in &databases {
        for (slot, n) in client.keys_of_slots(slots).await? {
            *keys.entry(slot).or_default() += n;
        }
    }
    if what == Held::Keys {
        return Ok((keys, false));
    }
    let bytes = first.data_bytes().await?;
    let bytes = bytes.ok_or(StepError::Untold("how much memory its data takes"))?;
    Ok((in_proportion(&keys, bytes), true))
}

/// So many bytes, divided among slots as their keys are.
fn in_proportion(keys: &BTreeMap<Slot, u64>, bytes: u64) -> Loads {
    let all: u128 = keys.values().map(|n| u128::from(*n)).sum();
    let part = |n: u64| {
        let part = u128::from(bytes) * u128::from(n) / all.max(1);
        u64::try_from(part).unwrap_or(u64::MAX)
    };
    keys.iter().map(|(slot, n)| (*slot, part(*n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_divided_as_the_keys_are() {
        let slot = |n| Slot::new(n).expect("a slot");
        let keys = BTreeMap::from([(slot(1), 30), (slot(2), 10), (slot(3), 0)]);
        let bytes: Vec<u64> = in_proportion(&keys, 4_000).into_values().collect();
        assert_eq!(bytes, [3_000, 1_000, 0]);
        assert_eq!(
            in_proportion(&BTreeMap::from([(slot(1), 0)]), 4_000)[&slot(1)],
            0
        );
    }
}
