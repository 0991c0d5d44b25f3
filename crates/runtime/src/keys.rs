//! Some keys of one slot go from one node to another, in every database that has some.

use std::time::Duration;

use shardwright_engine::{Client, Endpoint, Error, Migrate};
use shardwright_planner::evidence::LiveAt;
use shardwright_topology::{NodeId, Observed, Slot};

use crate::Links;
use crate::execute::{StepError, place_of};

/// How long a source may wait for a target while it moves keys. It blocks meanwhile, so this is short.
const MIGRATE_LIMIT: Duration = Duration::from_secs(1);
/// By how many more keys are asked for where all that were listed are in the way.
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

/// These keys for people: the first few by name.
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
    let more = (more > 0).then(|| format!(" and {more} more"));
    format!("keys {}{}", names.join(", "), more.unwrap_or_default())
}

/// What a step is to move.
pub(crate) struct KeysToMove<'a> {
    pub(crate) links: &'a Links,
    pub(crate) o: &'a Observed,
    pub(crate) from: NodeId,
    pub(crate) to: &'a LiveAt,
    pub(crate) slot: Slot,
    /// Of each database at most so many.
    pub(crate) keys_max: u32,
    /// Whether they overwrite what is there.
    pub(crate) replace: bool,
}

impl KeysToMove<'_> {
    /// Moves them. A key that is at both ends stays where it is, and keeps no other from moving: it is an error only once
    /// nothing else is left to move.
    pub(crate) async fn go(&self) -> Result<(), StepError> {
        let mut moved = false;
        let mut conflicts = Vec::new();
        for source in self.sources().await? {
            let (some, more) = self.of_one_database(&source).await?;
            moved |= some;
            conflicts.extend(more);
        }
        if moved || conflicts.is_empty() {
            return Ok(());
        }
        Err(StepError::BothSides {
            slot: self.slot,
            from: self.from,
            to: self.to.node(),
            keys: conflicts,
        })
    }

    /// Connections to the source, one for each database that has keys of the slot. The target must have those databases.
    async fn sources(&self) -> Result<Vec<Client>, StepError> {
        let (server, address) = place_of(self.o, self.from)?;
        let (there, there_at) = place_of(self.o, self.to.node())?;
        let client = self.links.client(server, address).await?;
        let mut sources = Vec::new();
        for database in client.database_sizes().await?.databases.into_keys() {
            let source = self.links.client_of_database(server, address, database);
            let source = source.await?;
            if source.count_keys(self.slot).await? == 0 {
                continue;
            }
            let target = self.links.client_of_database(there, there_at, database);
            match target.await {
                Ok(_) => sources.push(source),
                Err(error) if error.is_no_database() => {
                    return Err(StepError::NoDatabase {
                        from: self.from,
                        to: self.to.node(),
                        database,
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(sources)
    }

    /// Whether some moved, and the keys that are at both ends.
    async fn of_one_database(&self, source: &Client) -> Result<(bool, Vec<KeyAt>), StepError> {
        let mut most = self.keys_max.max(1);
        loop {
            let keys = source.keys_in_slot(self.slot, most).await?;
            if keys.is_empty() {
                return Ok((false, Vec::new()));
            }
            match source.migrate(&self.order(&self.endpoint(), &keys)).await {
                Ok(_) => return Ok((true, Vec::new())),
                Err(error) if error.is_busy_key() && !self.replace => {}
                Err(error) => return Err(error.into()),
            }
            let (moved, conflicts) = self.one_by_one(source, &keys).await?;
            let all = keys.len() < usize::try_from(most).unwrap_or(usize::MAX);
            if moved || all || most == u32::MAX {
                return Ok((moved, conflicts));
            }
            most = most.saturating_mul(MORE);
        }
    }

    async fn one_by_one(
        &self,
        source: &Client,
        keys: &[Vec<u8>],
    ) -> Result<(bool, Vec<KeyAt>), Error> {
        let endpoint = self.endpoint();
        let orders: Vec<_> = keys
            .chunks(1)
            .map(|key| self.order(&endpoint, key))
            .collect();
        let mut moved = false;
        let mut conflicts = Vec::new();
        for (key, ended) in keys.iter().zip(source.migrate_all(&orders).await?) {
            match ended {
                Ok(_) => moved = true,
                Err(error) if error.is_busy_key() => conflicts.push(KeyAt {
                    database: source.database(),
                    key: key.clone(),
                }),
                Err(error) => return Err(error),
            }
        }
        Ok((moved, conflicts))
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from(self.to.address())
    }

    fn order<'k>(&'k self, to: &'k Endpoint, keys: &'k [Vec<u8>]) -> Migrate<'k> {
        Migrate {
            to,
            keys,
            replace: self.replace,
            limit: MIGRATE_LIMIT,
            credentials: self.links.access().credentials.as_ref(),
        }
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
