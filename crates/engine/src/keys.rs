//! Keys of a slot: counting, listing and moving them.

use std::time::Duration;

use redis::Value;
use shardwright_topology::Slot;

use crate::client::Request;
use crate::{Client, Credentials, Endpoint, Error};

/// Keys to move to another server.
#[derive(Clone, Debug)]
pub struct Migrate<'a> {
    /// The receiver, as the *sender* reaches it.
    pub to: &'a Endpoint,
    /// The keys, all of one slot.
    pub keys: &'a [Vec<u8>],
    /// Overwrite what the receiver has.
    pub replace: bool,
    /// How long the sender may wait for the receiver at each step. It blocks meanwhile.
    pub limit: Duration,
    /// Whom the sender logs in as at the receiver.
    pub credentials: Option<&'a Credentials>,
}

/// How a move of keys ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrated {
    /// Every key that existed was moved.
    Moved,
    /// None of them existed any more.
    NoKeys,
}

impl Client {
    /// How many keys of the slot this server holds.
    pub async fn count_keys(&self, slot: Slot) -> Result<u64, Error> {
        self.number(count(slot)).await
    }

    /// The same for many slots in one round trip, in their order.
    pub async fn count_keys_of(&self, slots: &[Slot]) -> Result<Vec<u64>, Error> {
        let requests = slots.iter().map(|slot| count(*slot)).collect();
        let replies = self.ask_all("CLUSTER COUNTKEYSINSLOT", requests).await?;
        let counts = replies
            .into_iter()
            .map(|reply| self.expect_number("CLUSTER COUNTKEYSINSLOT", &reply?));
        counts.collect()
    }

    /// Up to `limit` keys of the slot.
    pub async fn keys_in_slot(&self, slot: Slot, limit: u32) -> Result<Vec<Vec<u8>>, Error> {
        let keys = self.ask(list(slot, limit)).await?;
        self.expect_keys(keys)
    }

    /// The same for many slots in one round trip, in their order, each with its own limit.
    pub async fn keys_in_slots(&self, slots: &[(Slot, u32)]) -> Result<Vec<Vec<Vec<u8>>>, Error> {
        let requests = slots
            .iter()
            .map(|(slot, limit)| list(*slot, *limit))
            .collect();
        let replies = self.ask_all(LIST, requests).await?;
        let lists = replies.into_iter().map(|reply| self.expect_keys(reply?));
        lists.collect()
    }

    fn expect_keys(&self, value: Value) -> Result<Vec<Vec<u8>>, Error> {
        match value {
            Value::Array(keys) => keys
                .into_iter()
                .map(|key| self.expect_text(LIST, key))
                .collect(),
            other => Err(self.asked(LIST).strange(format!("{other:?}"))),
        }
    }

    /// How many bytes of memory each key and its value take, in one round trip; 0 for a key
    /// that is not there. Of a value with many elements five are looked at and the rest is
    /// taken to be like them, so that the question costs little.
    ///
    /// `None` for each where the server has no `MEMORY`, or keeps it from this user: unknown, which is not 0.
    pub async fn memory_usage_of<'a>(
        &self,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Option<u64>>, Error> {
        const NAME: &str = "MEMORY USAGE";
        let requests = keys.map(|key| Request::new(NAME).arg(key).arg("SAMPLES").arg(5));
        let replies = self.ask_all(NAME, requests.collect()).await?;
        let sizes = replies.into_iter().map(|reply| match reply {
            Ok(Value::Nil) => Ok(Some(0)),
            Ok(value) => self.expect_number(NAME, &value).map(Some),
            // The key of a slot that is given away is looked for at the receiver once it is gone.
            Err(Error::Server { code, .. }) if code == "ASK" => Ok(Some(0)),
            // Of a slot that another owns, as after a failover of the source, it does not say.
            Err(Error::Server { code, .. }) if code == "MOVED" => Ok(None),
            Err(error) if error.is_withheld() => Ok(None),
            Err(error) => Err(error),
        });
        sizes.collect()
    }

    /// Moves keys of one slot to another server. This server blocks while it does.
    ///
    /// After an error some of the keys may have moved and others not.
    pub async fn migrate(&self, what: &Migrate<'_>) -> Result<Migrated, Error> {
        // The server bounds its own waiting; ours must be longer, or its answer is lost.
        let limit = what.limit * 2 + self.command_limit();
        let reply = self.ask_within(self.order(what), limit).await?;
        self.expect_migrated(&reply)
    }

    /// Many moves, one right after the other, in one round trip. Each has its own result.
    pub async fn migrate_all(
        &self,
        moves: &[Migrate<'_>],
    ) -> Result<Vec<Result<Migrated, Error>>, Error> {
        let waits: Duration = moves.iter().map(|what| what.limit * 2).sum();
        let requests = moves.iter().map(|what| self.order(what)).collect();
        let limit = waits + self.command_limit();
        let replies = self.ask_all_within("MIGRATE", requests, limit).await?;
        let each = replies
            .into_iter()
            .map(|reply| self.expect_migrated(&reply?));
        Ok(each.collect())
    }

    /// The receiver's database is the one that this connection works on.
    fn order(&self, what: &Migrate<'_>) -> Request {
        order_to(what, self.database(), false)
    }

    pub(crate) fn expect_migrated(&self, value: &Value) -> Result<Migrated, Error> {
        match value {
            Value::Okay => Ok(Migrated::Moved),
            Value::SimpleString(text) if text == "NOKEY" => Ok(Migrated::NoKeys),
            other => Err(self.asked("MIGRATE").strange(format!("{other:?}"))),
        }
    }
}

const LIST: &str = "CLUSTER GETKEYSINSLOT";

fn list(slot: Slot, limit: u32) -> Request {
    Request::new(LIST).arg(slot.number()).arg(limit)
}

/// The command that moves keys, or copies them.
pub(crate) fn order_to(what: &Migrate<'_>, database: u32, copy: bool) -> Request {
    let mut request = Request::new("MIGRATE")
        .arg(&what.to.host)
        .arg(what.to.port)
        .arg("")
        .arg(database)
        .arg(what.limit.as_millis().max(1).to_string());
    if copy {
        request = request.arg("COPY");
    }
    if what.replace {
        request = request.arg("REPLACE");
    }
    if let Some(credentials) = what.credentials {
        request = match &credentials.user {
            Some(user) => request.arg("AUTH2").arg(user),
            None => request.arg("AUTH"),
        }
        .arg(credentials.password.expose());
    }
    request.arg("KEYS").arg(what.keys)
}

fn count(slot: Slot) -> Request {
    Request::new("CLUSTER COUNTKEYSINSLOT").arg(slot.number())
}
