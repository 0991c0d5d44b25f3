//! Any command at all, and what keys need that come from a server outside the cluster.

use redis::Value;
use shardwright_topology::Slot;
use shardwright_topology::wire::Reply;

use crate::client::{Request, to_reply};
use crate::keys::order_to;
use crate::{Client, Error, Migrate, Migrated};

/// What a server holds, and whether it is one that keys can be taken from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keyspace {
    /// It runs in cluster mode.
    pub cluster: bool,
    /// It is a replica, which gives no keys away.
    pub replica: bool,
    /// The databases that hold keys, and how many each.
    pub databases: Vec<(u32, u64)>,
    /// The memory that it uses, in bytes, where it says so.
    pub used_memory_bytes: Option<u64>,
}

impl Client {
    /// Any command. Nothing of it is told in errors.
    pub async fn call(&self, words: &[Vec<u8>]) -> Result<Reply, Error> {
        let mut request = Request::new("");
        request.name = "the command";
        request.cmd = redis::Cmd::new();
        for word in words {
            request = request.arg(word.as_slice());
        }
        self.ask(request).await.map(to_reply)
    }

    /// Writes what was set into the server's configuration file (`CONFIG REWRITE`).
    pub async fn config_rewrite(&self) -> Result<(), Error> {
        self.done(Request::new("CONFIG REWRITE")).await
    }

    /// What it holds (`INFO`).
    pub async fn keyspace(&self) -> Result<Keyspace, Error> {
        let text = self.info(None).await?;
        let text = String::from_utf8_lossy(&text);
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.trim_end().split_once(':'))
                .find_map(|(key, value)| (key == name).then_some(value))
        };
        let databases = text.lines().filter_map(|line| {
            let (name, rest) = line.trim_end().split_once(":keys=")?;
            let number = name.strip_prefix("db")?.parse().ok()?;
            let keys = rest.split(',').next()?.parse().ok()?;
            Some((number, keys))
        });
        Ok(Keyspace {
            cluster: field("cluster_enabled") == Some("1"),
            replica: field("role") == Some("slave"),
            databases: databases.collect(),
            used_memory_bytes: field("used_memory").and_then(|n| n.parse().ok()),
        })
    }

    /// One step through all keys: where the next one begins, 0 at the end, and about `count` keys.
    pub async fn scan(&self, cursor: u64, count: u32) -> Result<(u64, Vec<Vec<u8>>), Error> {
        const NAME: &str = "SCAN";
        let request = Request::new(NAME).arg(cursor).arg("COUNT").arg(count);
        let strange = |what: &dyn std::fmt::Debug| self.asked(NAME).strange(format!("{what:?}"));
        let Value::Array(parts) = self.ask(request).await? else {
            return Err(strange(&"no list"));
        };
        let Ok([next, keys]) = <[Value; 2]>::try_from(parts) else {
            return Err(strange(&"not two parts"));
        };
        let next = self.utf8(NAME, next)?.parse();
        let next = next.map_err(|error| strange(&error))?;
        let Value::Array(keys) = keys else {
            return Err(strange(&keys));
        };
        let keys = keys.into_iter().map(|key| self.expect_text(NAME, key));
        Ok((next, keys.collect::<Result<_, _>>()?))
    }

    /// The slots of these keys, by the cluster's own word, in one round trip.
    pub async fn slots_of(&self, keys: &[Vec<u8>]) -> Result<Vec<Slot>, Error> {
        const NAME: &str = "CLUSTER KEYSLOT";
        let requests = keys.iter().map(|key| Request::new(NAME).arg(key));
        let replies = self.ask_all(NAME, requests.collect()).await?;
        let slots = replies.into_iter().map(|reply| {
            let number = self.expect_number(NAME, &reply?)?;
            Slot::new(number).map_err(|error| self.asked(NAME).strange(error))
        });
        slots.collect()
    }

    /// Which of these keys are here, in one round trip.
    pub async fn exist(&self, keys: &[Vec<u8>]) -> Result<Vec<bool>, Error> {
        const NAME: &str = "EXISTS";
        let requests = keys.iter().map(|key| Request::new(NAME).arg(key));
        let replies = self.ask_all(NAME, requests.collect()).await?;
        let found = replies
            .into_iter()
            .map(|reply| Ok(self.expect_number(NAME, &reply?)? > 0));
        found.collect()
    }

    /// The value of a key in the engine's own form without its version and checksum; None where there is none.
    pub async fn value_of(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        const NAME: &str = "DUMP";
        /// Two bytes of version, eight of checksum, at the end.
        const TAIL: usize = 10;
        match self.ask(Request::new(NAME).arg(key)).await? {
            Value::Nil => Ok(None),
            value => {
                let mut bytes = self.expect_text(NAME, value)?;
                bytes.truncate(bytes.len().saturating_sub(TAIL));
                Ok(Some(bytes))
            }
        }
    }

    /// How long a key has yet to live, in milliseconds; None where it lives for ever, or is not there.
    pub async fn time_to_live(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        const NAME: &str = "PTTL";
        let reply = self.ask(Request::new(NAME).arg(key)).await?;
        // -1 is for ever, -2 no key.
        let Value::Int(ms) = reply else {
            return Err(self.asked(NAME).strange(format!("{reply:?}")));
        };
        Ok(u64::try_from(ms).ok())
    }

    /// Moves keys as [`Client::migrate`] does, or copies them. They may be of many slots where this server is in no cluster.
    pub async fn hand_over(&self, what: &Migrate<'_>, copy: bool) -> Result<Migrated, Error> {
        let limit = what.limit * 2 + self.command_limit();
        let reply = self
            .ask_within(order_to(what, self.database(), copy), limit)
            .await?;
        self.expect_migrated(&reply)
    }
}
