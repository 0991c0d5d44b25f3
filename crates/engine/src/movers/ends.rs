//! What the two ends of a move say of slots, and what they are told of them.

use redis::Value;
use shardwright_topology::wire::parse_nodes;
use shardwright_topology::{EngineKind, NodeId, OpenSlot, Row, Slot};
use tokio::sync::{RwLockReadGuard, RwLockWriteGuard};
use tokio::task::JoinSet;

use super::traffic::served;
use super::{MoveError, Pair, Unclean};
use crate::client::Request;
use crate::{Client, Error, SetSlot};

/// How many slots change their owner at once while clients are there, where they do so one by one: each makes every
/// server look through all slots.
const GIVEN_ALONE: usize = 4;

/// What one end says.
pub(super) struct Look {
    /// Changes with every start of the server.
    pub(super) run_id: String,
    /// Its own row.
    own: Row,
    /// How many commands of clients it has served, if it says so.
    pub(super) served: Option<u64>,
    /// How many keys of each slot it holds.
    pub(super) counts: Vec<u64>,
}

impl Look {
    /// Whether it is this node and owns the slot.
    pub(super) fn owns(&self, node: NodeId, slot: Slot) -> bool {
        self.own.id == node && self.own.slots.contains(slot)
    }

    /// Whether it gives this slot to that node.
    pub(super) fn gives(&self, slot: Slot, to: NodeId) -> bool {
        self.own.open.contains(&OpenSlot::Migrating { slot, to })
    }

    fn is_open(&self, slot: Slot) -> bool {
        self.own.open.iter().any(|open| open.slot() == slot)
    }
}

/// Asks an end about itself and these slots, in one round trip.
pub(super) async fn look(client: &Client, slots: &[Slot]) -> Result<Look, Error> {
    const NODES: &str = "CLUSTER NODES";
    const INFO: &str = "INFO";
    const COUNT: &str = "CLUSTER COUNTKEYSINSLOT";
    let mut requests = vec![
        Request::new(NODES),
        Request::new(INFO).arg("server"),
        Request::new(INFO).arg("commandstats"),
    ];
    requests.extend(slots.iter().map(|s| Request::new(COUNT).arg(s.number())));
    let replies = client.ask_all("a look at slots", requests).await?;
    let replies: Vec<Value> = replies.into_iter().collect::<Result<_, _>>()?;
    let mut replies = replies.into_iter();
    let mut text = |name| {
        let value = replies
            .next()
            .ok_or_else(|| client.asked(name).strange("no reply"))?;
        client.expect_text(name, value)
    };
    let (nodes, info, stats) = (text(NODES)?, text(INFO)?, text(INFO)?);
    let rows = parse_nodes(&nodes).map_err(|error| client.asked(NODES).strange(&error))?;
    let own = rows.myself().cloned();
    let own = own.ok_or_else(|| client.asked(NODES).strange("no row of its own"))?;
    let info = String::from_utf8_lossy(&info);
    let run_id = info.lines().find_map(|line| line.strip_prefix("run_id:"));
    let run_id = run_id.ok_or_else(|| client.asked(INFO).strange("no run_id"))?;
    let counts = replies.map(|value| client.expect_number(COUNT, &value));
    Ok(Look {
        run_id: run_id.trim_end().to_owned(),
        own,
        served: served(&String::from_utf8_lossy(&stats)),
        counts: counts.collect::<Result<_, _>>()?,
    })
}

/// Looks at the source and the target. The slots must be the source's, closed, and unknown to the target.
pub(super) async fn look_at_clean(
    pair: &Pair<'_>,
    slots: &[Slot],
) -> Result<(Look, Look), MoveError> {
    let (source, target) = tokio::join!(look(pair.source, slots), look(pair.target, slots));
    let (source, target) = (source?, target?);
    for (at, slot) in slots.iter().enumerate() {
        let slot = *slot;
        let unclean = |client: &Client, why| MoveError::NotClean {
            slot,
            at: client.endpoint().clone(),
            why,
        };
        let not_owner = |client: &Client, node| MoveError::NotOwner {
            at: client.endpoint().clone(),
            node,
            slot,
        };
        if !source.owns(pair.from, slot) {
            return Err(not_owner(pair.source, pair.from));
        }
        if target.own.id != pair.to {
            return Err(not_owner(pair.target, pair.to));
        }
        if source.is_open(slot) {
            return Err(unclean(pair.source, Unclean::Open));
        }
        if target.is_open(slot) {
            return Err(unclean(pair.target, Unclean::Open));
        }
        let held = target.counts.get(at).copied();
        if let Some(keys) = held.filter(|keys| *keys > 0) {
            return Err(unclean(pair.target, Unclean::Holds(keys)));
        }
    }
    Ok((source, target))
}

/// Keys move out of the first database only: the source must have none in another one.
pub(super) async fn must_have_one_database(source: &Client) -> Result<(), MoveError> {
    let databases = source.database_sizes().await?.databases;
    let other = databases
        .into_iter()
        .find(|(number, _)| *number != source.database());
    other.map_or(Ok(()), |(database, keys)| {
        Err(MoveError::SeveralDatabases {
            at: source.endpoint().clone(),
            database,
            keys,
        })
    })
}

/// Opens the slots: at the target first, or clients that the source sends there are sent back.
pub(super) async fn open(pair: &Pair<'_>, slots: &[Slot]) -> Result<(), MoveError> {
    let importing = SetSlot::ImportingFrom(pair.from);
    tell(pair.target, slots, importing, pair.from).await?;
    tell(pair.source, slots, SetSlot::MigratingTo(pair.to), pair.to).await
}

async fn tell(
    client: &Client,
    slots: &[Slot],
    what: SetSlot,
    about: NodeId,
) -> Result<(), MoveError> {
    for reply in client.set_slots(slots, what).await? {
        reply.map_err(|error| match error {
            Error::Server { message, .. } if message.contains("know about node") => {
                MoveError::Stranger {
                    at: client.endpoint().clone(),
                    node: about,
                }
            }
            other => MoveError::Node(other),
        })?;
    }
    Ok(())
}

/// Closes slots of which the target held no key just now. Returns those of which it has got
/// keys meanwhile, by clients on their way: they are open again.
///
/// The source first: from then on it sends nobody to the target. Then the target, which from
/// then on takes nothing: what it holds then is all it will ever hold.
pub(super) async fn close(pair: &Pair<'_>, slots: &[Slot]) -> Result<Vec<Slot>, MoveError> {
    tell(pair.source, slots, SetSlot::Stable, pair.from).await?;
    tell(pair.target, slots, SetSlot::Stable, pair.to).await?;
    let counts = pair.target.count_keys_of(slots).await?;
    let held = slots.iter().zip(counts).filter(|(_, keys)| *keys > 0);
    let held: Vec<Slot> = held.map(|(slot, _)| *slot).collect();
    open(pair, &held).await?;
    Ok(held)
}

/// Leave to ask something of the two ends that keeps them from their clients for a while.
pub(super) enum Turn<'a> {
    /// Others may do so at the same time.
    Shared(#[expect(dead_code, reason = "it is held")] RwLockReadGuard<'a, ()>),
    /// Nobody else does.
    Alone(#[expect(dead_code, reason = "it is held")] RwLockWriteGuard<'a, ()>),
}

/// Waits for such leave; it ends with what is returned.
pub(super) async fn turn<'a>(pair: &Pair<'a>, alone: bool) -> Turn<'a> {
    if alone {
        Turn::Alone(pair.turns.write().await)
    } else {
        Turn::Shared(pair.turns.read().await)
    }
}

/// What came of giving slots to the target.
#[derive(Default)]
pub(super) struct Finished {
    /// The slots that the target and the source agree on.
    pub(super) slots: Vec<Slot>,
    /// Others that could not be told.
    pub(super) untold: Vec<Error>,
    /// The first refusal.
    pub(super) failed: Option<Error>,
}

/// Gives slots whose keys are all at the target to it: at the target first, so that somebody
/// serves them at every moment, then at the source, then at the others. Alone, and where they go one by one: a few at a time.
pub(super) async fn finish(
    pair: &Pair<'_>,
    slots: &[Slot],
    alone: bool,
) -> Result<Finished, (Finished, Error)> {
    let mut all = Finished::default();
    let portion = if alone && takes_one_by_one(pair) {
        GIVEN_ALONE
    } else {
        slots.len().max(1)
    };
    for some in slots.chunks(portion) {
        let finishing = pair.finishing.lock().await;
        let turn = turn(pair, alone).await;
        let ended = give(pair, some, &mut all).await;
        drop((turn, finishing));
        if let Err(error) = ended {
            return Err((all, error));
        }
        if all.failed.is_some() {
            break;
        }
    }
    Ok(all)
}

/// Whether the target is told of each slot by itself: see [`Client::take_slots`].
fn takes_one_by_one(pair: &Pair<'_>) -> bool {
    match pair.target_is {
        Some(EngineKind::Redis) => false,
        Some(EngineKind::Valkey) | None => true,
    }
}

/// Gives these slots to the target.
async fn give(pair: &Pair<'_>, slots: &[Slot], all: &mut Finished) -> Result<(), Error> {
    let owner = SetSlot::Owner(pair.to);
    let mut keep = |slots: &[Slot], replies: Vec<Result<(), Error>>| {
        let mut told = Vec::with_capacity(slots.len());
        for (slot, reply) in slots.iter().zip(replies) {
            match reply {
                Err(error) if !is_heir(&error) => {
                    all.failed.get_or_insert(error);
                }
                Ok(()) | Err(_) => told.push(*slot),
            }
        }
        told
    };
    let taken = if takes_one_by_one(pair) {
        pair.target.set_slots(slots, owner).await?
    } else {
        pair.target.take_slots(slots, pair.to).await?
    };
    let taken = keep(slots, taken);
    let given = keep(&taken, pair.source.set_slots(&taken, owner).await?);
    let mut tasks = JoinSet::new();
    for other in pair.others {
        let (other, slots) = (other.clone(), given.clone());
        tasks.spawn(async move {
            let replies = other.set_slots(&slots, owner).await?;
            replies.into_iter().collect::<Result<(), _>>()
        });
    }
    let told = tasks.join_all().await;
    all.untold.extend(told.into_iter().filter_map(Result::err));
    all.slots.extend(given);
    Ok(())
}

/// A source that gave its last slot away, or heard by gossip that it did, has become a replica
/// of the target and takes no more orders about slots: it knows already.
fn is_heir(error: &Error) -> bool {
    matches!(error, Error::Server { message, .. } if message.contains("SETSLOT only with"))
}
