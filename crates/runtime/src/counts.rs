//! Which slots a node holds keys of: of those that are open or nobody's, and of those that it should have none of.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use shardwright_engine::{Client, Error, MigrationState};
use shardwright_planner::Memory;
use shardwright_topology::{
    Address, EngineKind, NodeId, NodeView, OpenSlot, Replication, Role, Seen, ServerName, Slot,
    SlotSet, Why,
};

use crate::{Links, Seat};

/// For how long it is taken that a primary has got no key of a slot that was not its own when all were counted, while its
/// databases and the connection are the same: in a cluster of up to [`PRIMARIES_AT_ONCE`] primaries. In larger ones it is
/// longer in proportion, so that the same number of questions a second is asked. Slots that it has given away since are
/// counted each time: while slots move, that asks of few, and not of all sixteen thousand at each look.
const COUNTED_FOR: Duration = Duration::from_secs(30);
const PRIMARIES_AT_ONCE: usize = 32;

/// What was counted of a primary's slots, by which connection and when.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    client: Client,
    at: Instant,
    own: SlotSet,
    databases: BTreeSet<u32>,
    strays: BTreeMap<Slot, u64>,
}

/// A server to be asked, and what it said.
struct Asked<'a> {
    links: &'a Links,
    name: &'a ServerName,
    address: &'a Address,
    view: &'a NodeView,
}

/// Counts at all servers that were heard: keys of slots that are open or nobody's, and keys of others' slots. Of a replica
/// that is remembered with a link to its primary nothing has to be counted: its copy is known.
pub(crate) async fn count(
    links: &Links,
    seats: &[Seat],
    heard: &mut [Seen<NodeView>],
    memory: &Memory,
) {
    let wanted = wanted(heard);
    let primaries = heard.iter().filter_map(Seen::known);
    let primaries = primaries.filter(|v| v.own().is_some_and(|own| !own.slots.is_empty()));
    let times = u32::try_from(primaries.count() / PRIMARIES_AT_ONCE).unwrap_or(u32::MAX);
    let counted_for = COUNTED_FOR.saturating_mul(times.max(1));
    let wanted = &wanted;
    let speak: BTreeSet<NodeId> = heard.iter().filter_map(Seen::known).map(|v| v.id).collect();
    let speak = &speak;
    let counts = seats.iter().zip(&*heard).map(|(seat, seen)| async move {
        let view = seen.known()?;
        let asked = Asked {
            links,
            name: &seat.name,
            address: seat.address.known()?,
            view,
        };
        let slots = wanted.of(view);
        Some((
            asked.counts(&slots).await,
            if memory.saw_linked(view) {
                Seen::Unknown(Why::NotAsked)
            } else {
                asked.stray_keys(counted_for, speak).await
            },
        ))
    });
    let counts = join_all(counts).await;
    for (seen, counts) in heard.iter_mut().zip(counts) {
        if let (Seen::Known(view), Some((keys, strays))) = (seen, counts) {
            view.keys_in_slot = keys;
            view.stray_keys = strays;
        }
    }
}

/// The slots that have to be counted.
struct Wanted {
    /// At every primary and at both ends, whatever their role: a move that was broken off may have left keys anywhere.
    open: Vec<Slot>,
    ends: BTreeSet<NodeId>,
    /// At every node: whoever holds keys of them should get them.
    unowned: Vec<Slot>,
}

impl Wanted {
    fn of(&self, view: &NodeView) -> Vec<Slot> {
        let primary = view.own().is_some_and(|own| own.role == Role::Primary);
        let at_end = primary || self.ends.contains(&view.id);
        let open = self.open.iter().filter(|_| at_end);
        // One without a key holds none of any slot: that needs no list of them.
        let unowned = self.unowned.iter().filter(|_| view.server.keys > 0);
        open.chain(unowned).copied().collect()
    }
}

fn wanted(heard: &[Seen<NodeView>]) -> Wanted {
    let views = || heard.iter().filter_map(Seen::known);
    let mut open: BTreeSet<Slot> = BTreeSet::new();
    let mut ends: BTreeSet<NodeId> = BTreeSet::new();
    for view in views() {
        for end in view.own().into_iter().flat_map(|own| &own.open) {
            let (OpenSlot::Migrating { to: other, .. } | OpenSlot::Importing { from: other, .. }) =
                end;
            open.insert(end.slot());
            ends.extend([view.id, *other]);
        }
    }
    // What is said for a node that speaks for itself does not count.
    let speakers: BTreeSet<NodeId> = views().map(|view| view.id).collect();
    let mut unowned: SlotSet = Slot::all().collect();
    for view in views() {
        let counts = |id| id == view.id || !speakers.contains(&id);
        for row in view.rows.iter().filter(|row| !row.slots.is_empty()) {
            if !unowned.is_empty() && counts(row.id) {
                unowned = unowned.difference(&row.slots);
            }
        }
    }
    let unowned = unowned.slots().filter(|slot| !open.contains(slot));
    Wanted {
        unowned: unowned.collect(),
        open: open.into_iter().collect(),
        ends,
    }
}

impl Asked<'_> {
    /// The keys of these slots, in all databases.
    async fn counts(&self, slots: &[Slot]) -> BTreeMap<Slot, u64> {
        match self.keys_of(slots).await {
            Ok(counts) => counts,
            // Without the counts the slot's direction is not known: the planner then leaves it alone.
            Err(error) => {
                tracing::warn!(server = %self.name, %error, "keys of slots not counted");
                BTreeMap::new()
            }
        }
    }

    /// The same, or why they were not counted. Where it has no key at all, nothing is asked.
    async fn keys_of(&self, slots: &[Slot]) -> Result<BTreeMap<Slot, u64>, Error> {
        let databases = self.view.server.databases.keys();
        keys_of_slots(self.links, self.name, self.address, databases, slots).await
    }

    /// The keys that a node holds of slots that are not its shard's, of every such slot that it has keys of. Replicas are
    /// asked only where they have no link, and their primary is not among those that speak.
    async fn stray_keys(
        &self,
        counted_for: Duration,
        speak: &BTreeSet<NodeId>,
    ) -> Seen<BTreeMap<Slot, u64>> {
        let Some(own) = self.view.own() else {
            return Seen::Unknown(Why::NotAsked);
        };
        let linked = matches!(
            self.view.server.replication,
            Replication::Replica { link_up: true, .. }
        );
        let counted = match (own.role, own.primary) {
            (Role::Primary, _) => self.try_stray_keys(&own.slots, counted_for).await,
            (Role::Replica, Some(primary)) if !linked && !speak.contains(&primary) => {
                let theirs = self.view.rows.get(primary).map(|row| &row.slots);
                // Nobody takes the place of one that owns nothing.
                let Some(slots) = theirs.filter(|slots| !slots.is_empty()) else {
                    return Seen::Unknown(Why::NotAsked);
                };
                // What it held as another's replica, a moment ago, is no longer of use.
                self.try_stray_keys(slots, Duration::ZERO).await
            }
            (Role::Replica, _) => return Seen::Unknown(Why::NotAsked),
        };
        match counted {
            Ok(strays) => Seen::Known(strays),
            Err(error) => {
                tracing::warn!(server = %self.name, %error, "keys of others' slots not counted");
                Seen::Unknown(error.why())
            }
        }
    }

    async fn try_stray_keys(
        &self,
        own: &SlotSet,
        counted_for: Duration,
    ) -> Result<BTreeMap<Slot, u64>, Error> {
        if self.view.server.keys == 0 {
            return Ok(BTreeMap::new());
        }
        let client = self.links.client(self.name, self.address).await?;
        let databases: BTreeSet<u32> = self.view.server.databases.keys().copied().collect();
        let before = self.links.counted(self.name).filter(|c| {
            c.client.is_same(&client) && c.databases == databases && c.at.elapsed() < counted_for
        });
        if let Some(before) = before {
            // Those that were found are being taken away, and what it gave away may have left keys behind.
            let given: Vec<Slot> = before.own.difference(own).slots().collect();
            let strays = before.strays.into_keys();
            let slots: Vec<Slot> = strays.filter(|s| !own.contains(*s)).chain(given).collect();
            return Ok(held(self.keys_of(&slots).await?));
        }
        let at = Instant::now();
        let strays = if self.adds_up(&client, own).await? {
            BTreeMap::new()
        } else {
            self.count_all_others(&client, own).await?
        };
        let counted = Counted {
            client,
            at,
            own: own.clone(),
            databases,
            strays: strays.clone(),
        };
        self.links.note_counted(self.name, counted);
        Ok(strays)
    }

    /// Whether its own slots have all keys that it has, with no key coming or going meanwhile.
    async fn adds_up(&self, client: &Client, own: &SlotSet) -> Result<bool, Error> {
        let before = client.database_sizes().await?;
        let mut counted = BTreeMap::new();
        for database in before.databases.keys() {
            let client = self.client_of(*database).await?;
            let keys = client.keys_of_slots(own).await?;
            counted.insert(*database, keys.values().sum::<u64>());
        }
        let after = client.database_sizes().await?;
        Ok(before.changes.is_some() && before == after && counted == after.databases)
    }

    /// Asks of every slot that is not its own. What a move of the engine is bringing there is not astray.
    async fn count_all_others(
        &self,
        client: &Client,
        own: &SlotSet,
    ) -> Result<BTreeMap<Slot, u64>, Error> {
        let others: SlotSet = Slot::all().collect();
        let others: Vec<Slot> = others.difference(own).slots().collect();
        let mut strays = held(self.keys_of(&others).await?);
        let server = &self.view.server;
        let moves = server.engine == EngineKind::Valkey && server.version.major >= 9;
        if moves && !strays.is_empty() {
            for job in client.slot_migrations().await? {
                if matches!(job.state, MigrationState::Running(_)) {
                    strays.retain(|slot, _| !job.slots.contains(*slot));
                }
            }
        }
        Ok(strays)
    }

    async fn client_of(&self, database: u32) -> Result<Client, Error> {
        let links = self.links;
        links
            .client_of_database(self.name, self.address, database)
            .await
    }
}

/// Whether a server holds no key of a slot that is not its own, asked anew: its view was read just now.
pub(crate) async fn has_no_stray_key(
    links: &Links,
    name: &ServerName,
    address: &Address,
    view: &NodeView,
) -> Result<bool, Error> {
    let Some(own) = view.own().filter(|own| own.role == Role::Primary) else {
        return Ok(false);
    };
    let asked = Asked {
        links,
        name,
        address,
        view,
    };
    let client = links.client(name, address).await?;
    if view.server.keys == 0 || asked.adds_up(&client, &own.slots).await? {
        return Ok(true);
    }
    Ok(asked
        .count_all_others(&client, &own.slots)
        .await?
        .is_empty())
}

/// Those slots that have keys.
fn held(counts: BTreeMap<Slot, u64>) -> BTreeMap<Slot, u64> {
    counts.into_iter().filter(|(_, keys)| *keys > 0).collect()
}

/// How many keys a server holds of each of these slots, in these databases together.
async fn keys_of_slots(
    links: &Links,
    name: &ServerName,
    address: &Address,
    databases: impl Iterator<Item = &u32>,
    slots: &[Slot],
) -> Result<BTreeMap<Slot, u64>, Error> {
    let mut counts: BTreeMap<Slot, u64> = slots.iter().map(|slot| (*slot, 0)).collect();
    if slots.is_empty() {
        return Ok(counts);
    }
    let asked: SlotSet = slots.iter().copied().collect();
    for database in databases {
        let client = links.client_of_database(name, address, *database).await?;
        for (slot, keys) in client.keys_of_slots(&asked).await? {
            *counts.entry(slot).or_default() += keys;
        }
    }
    Ok(counts)
}

/// How many keys of the slot a server holds in all databases, asked anew.
pub(crate) async fn keys_in_all_databases(
    links: &Links,
    name: &ServerName,
    address: &Address,
    slot: Slot,
) -> Result<u64, Error> {
    let client = links.client(name, address).await?;
    let sizes = client.database_sizes().await?;
    let databases = sizes.databases.keys();
    let counts = keys_of_slots(links, name, address, databases, &[slot]).await?;
    Ok(counts.values().sum())
}
