//! Some keys of one slot go from one node to another, in every database that has some: of a slot that was left half
//! moved, or of one that the node does not own.

use std::time::Duration;

use shardwright_engine::movers::{MoveError, Room, bounds, why_not_moved};
use shardwright_engine::{Client, Endpoint, Error, Migrate, Migrated};
use shardwright_planner::evidence::LiveAt;
use shardwright_topology::{NodeId, Observed, Slot};

use crate::Links;
use crate::execute::{StepError, place_of};

/// How long a source may wait for a target that takes in little. It blocks meanwhile, so this is short.
const LIMIT: Duration = Duration::from_secs(1);
/// What a slow target takes in of one great value, in bytes per millisecond.
const SLOW_BYTES_PER_MS: u64 = 10_000;
/// How many bytes of memory go by one command: the source serves nobody else meanwhile. A greater key goes alone.
const TOGETHER_BYTES: u64 = 1 << 20;
/// How many bytes go in one pass, unless it is one key: then the cluster is looked at again.
const PASS_BYTES: u64 = 16 << 20;
/// By how many times more keys are listed where none of those that were listed could go.
const MORE: u32 = 4;
/// How many keys are named at most.
const NAMED_MAX: usize = 5;

/// A key, and the database that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAt {
    /// The database's number.
    pub database: u32,
    /// The key.
    pub key: Vec<u8>,
}

/// The first few of these keys by name, for people.
pub(crate) fn named(keys: &[KeyAt]) -> String {
    let name = |k: &KeyAt| {
        let key = format!("{:?}", String::from_utf8_lossy(&k.key));
        match k.database {
            0 => key,
            number => format!("{key} (database {number})"),
        }
    };
    let names: Vec<String> = keys.iter().take(NAMED_MAX).map(name).collect();
    let more = keys.len().saturating_sub(NAMED_MAX);
    let names = names.join(", ");
    match more {
        0 => format!("keys {names}"),
        more => format!("keys {names} and {more} more"),
    }
}

/// Which keys of a slot go, and where.
pub(crate) struct KeysToMove<'a> {
    pub(crate) links: &'a Links,
    pub(crate) o: &'a Observed,
    pub(crate) from: NodeId,
    /// The receiver, at the address where the source reaches it.
    pub(crate) to: &'a LiveAt,
    pub(crate) slot: Slot,
    /// At most so many of each database.
    pub(crate) keys_max: u32,
    /// Whether the receiver's values of the same keys are replaced.
    pub(crate) replace: bool,
    /// Whether the receiver's memory limit is kept.
    pub(crate) keeps_limit: bool,
}

/// One database of the source that has keys of the slot, and the receiver's database of the same number.
struct Database {
    source: Client,
    target: Client,
}

/// What became of the keys that were listed.
#[derive(Default)]
struct Ended {
    /// How many were sent.
    moved: u64,
    /// Which are at both ends, and stayed where they are.
    conflicts: Vec<KeyAt>,
    /// Why a key is too great to be sent.
    refused: Option<MoveError>,
}

impl KeysToMove<'_> {
    /// Moves them. A key that is at both ends, or too great, stays where it is and keeps no other from going: it is an
    /// error only once nothing else is left to move.
    pub(crate) async fn go(&self) -> Result<(), StepError> {
        let mut all = Ended::default();
        for database in self.databases().await? {
            let ended = self.of_one(&database).await?;
            all.moved += ended.moved;
            all.conflicts.extend(ended.conflicts);
            all.refused = all.refused.or(ended.refused);
        }
        if all.moved > 0 {
            return Ok(());
        }
        if !all.conflicts.is_empty() {
            return Err(StepError::BothSides {
                slot: self.slot,
                from: self.from,
                to: self.to.node(),
                keys: all.conflicts,
            });
        }
        all.refused.map_or(Ok(()), |why| Err(StepError::Move(why)))
    }

    /// The databases of the source that have keys of the slot. The receiver must have them as well.
    async fn databases(&self) -> Result<Vec<Database>, StepError> {
        let (server, address) = place_of(self.o, self.from)?;
        let (there, there_at) = place_of(self.o, self.to.node())?;
        let client = self.links.client(server, address).await?;
        let mut databases = Vec::new();
        for number in client.database_sizes().await?.databases.into_keys() {
            let links = self.links;
            let source = links.client_of_database(server, address, number).await?;
            if source.count_keys(self.slot).await? == 0 {
                continue;
            }
            let target = links.client_of_database(there, there_at, number).await;
            let target = target.map_err(|error| {
                if error.is_no_database() {
                    StepError::NoDatabase {
                        from: self.from,
                        to: self.to.node(),
                        database: number,
                    }
                } else {
                    error.into()
                }
            })?;
            databases.push(Database { source, target });
        }
        Ok(databases)
    }

    /// Lists some keys of one database and sends them; more, where none of them could go.
    async fn of_one(&self, database: &Database) -> Result<Ended, StepError> {
        let mut most = self.keys_max.max(1);
        loop {
            let keys = database.source.keys_in_slot(self.slot, most).await?;
            let all = keys.len() < usize::try_from(most).unwrap_or(usize::MAX);
            let ended = self.send_all(database, keys).await?;
            if ended.moved > 0 || all || most == u32::MAX {
                return Ok(ended);
            }
            most = most.saturating_mul(MORE);
        }
    }

    async fn send_all(&self, database: &Database, keys: Vec<Vec<u8>>) -> Result<Ended, StepError> {
        let (source, target) = (&database.source, &database.target);
        let mut ended = Ended::default();
        if keys.is_empty() {
            return Ok(ended);
        }
        let sizes = source
            .memory_usage_of(keys.iter().map(Vec::as_slice))
            .await?;
        let average = if sizes.contains(&None) {
            source.average_key_bytes().await?
        } else {
            0
        };
        let bounds = bounds(source, target).await?;
        let mut room = Room::new(self.keeps_limit);
        let mut together = Together::default();
        for (key, size) in keys.into_iter().zip(sizes) {
            let size = size.unwrap_or(average);
            if let Err(why) = bounds.refuse(source, self.slot, &key, size).await {
                match why {
                    MoveError::TooGreat { .. } => ended.refused = Some(why),
                    other => return Err(moved(other)),
                }
                continue;
            }
            if together.begun > 0 && together.begun.saturating_add(size) > PASS_BYTES {
                break;
            }
            if !together.keys.is_empty() && together.bytes.saturating_add(size) > TOGETHER_BYTES {
                let some = together.take();
                self.send(database, &mut room, &some, &mut ended).await?;
            }
            together.add(key, size);
        }
        let rest = together.take();
        self.send(database, &mut room, &rest, &mut ended).await?;
        Ok(ended)
    }

    /// Sends these by one command; each by its own, where one of them is at both ends.
    async fn send(
        &self,
        database: &Database,
        room: &mut Room,
        some: &Together,
        ended: &mut Ended,
    ) -> Result<(), StepError> {
        if some.keys.is_empty() {
            return Ok(());
        }
        let (source, target) = (&database.source, &database.target);
        room.require(target, some.bytes, some.greatest)
            .await
            .map_err(moved)?;
        let to = Endpoint::from(self.to.address());
        let all = self.order(&to, &some.keys, some.bytes);
        let Err(error) = source.migrate(&all).await else {
            ended.moved += some.keys.len() as u64;
            return Ok(());
        };
        if !error.is_busy_key() || self.replace {
            return Err(not_moved(target, error));
        }
        let orders: Vec<_> = some
            .keys
            .chunks(1)
            .map(|key| self.order(&to, key, some.greatest))
            .collect();
        for (key, reply) in some.keys.iter().zip(source.migrate_all(&orders).await?) {
            match reply {
                // One that is no longer there went by the first command, which sent all that could go.
                Ok(Migrated::Moved | Migrated::NoKeys) => ended.moved += 1,
                Err(error) if error.is_busy_key() => ended.conflicts.push(KeyAt {
                    database: source.database(),
                    key: key.clone(),
                }),
                Err(error) => return Err(not_moved(target, error)),
            }
        }
        Ok(())
    }

    fn order<'k>(&'k self, to: &'k Endpoint, keys: &'k [Vec<u8>], bytes: u64) -> Migrate<'k> {
        Migrate {
            to,
            keys,
            replace: self.replace,
            limit: LIMIT + Duration::from_millis(bytes / SLOW_BYTES_PER_MS),
            credentials: self.links.access().accepted(),
        }
    }
}

/// The keys that go by one command.
#[derive(Default)]
struct Together {
    keys: Vec<Vec<u8>>,
    bytes: u64,
    greatest: u64,
    /// How many bytes have gone in this pass, with these.
    begun: u64,
}

impl Together {
    fn add(&mut self, key: Vec<u8>, size: u64) {
        self.keys.push(key);
        self.bytes = self.bytes.saturating_add(size);
        self.greatest = self.greatest.max(size);
        self.begun = self.begun.saturating_add(size).max(1);
    }

    /// These, and none of them any more.
    fn take(&mut self) -> Self {
        let begun = self.begun;
        std::mem::replace(
            self,
            Self {
                begun,
                ..Self::default()
            },
        )
    }
}

fn not_moved(target: &Client, error: Error) -> StepError {
    moved(why_not_moved(target.endpoint(), error))
}

fn moved(error: MoveError) -> StepError {
    match error {
        MoveError::Node(error) => StepError::Server(error),
        why => StepError::Move(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_keys_are_named() {
        let key = |database, name: &str| KeyAt {
            database,
            key: name.as_bytes().to_vec(),
        };
        let two = [key(0, "a"), key(3, "b\n")];
        assert_eq!(named(&two), r#"keys "a", "b\n" (database 3)"#);
        let many: Vec<KeyAt> = (0..7).map(|n| key(0, &n.to_string())).collect();
        assert!(named(&many).ends_with(r#""4" and 2 more"#));
    }
}
