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
        const NAME: &str = "CLUSTER GETKEYSINSLOT";
        match self
            .ask(Request::new(NAME).arg(slot.number()).arg(limit))
            .await?
        {
            Value::Array(keys) => keys
                .into_iter()
                .map(|key| self.expect_text(NAME, key))
                .collect(),
            other => Err(self.asked(NAME).strange(format!("{other:?}"))),
        }
    }

    /// Moves keys of one slot to another server. This server blocks while it does.
    ///
    /// After an error some of the keys may have moved and others not.
    pub async fn migrate(&self, what: &Migrate<'_>) -> Result<Migrated, Error> {
        let mut request = Request::new("MIGRATE")
            .arg(&what.to.host)
            .arg(what.to.port)
            .arg("")
            .arg(0)
            .arg(what.limit.as_millis().max(1).to_string());
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
        request = request.arg("KEYS").arg(what.keys);
        // The server bounds its own waiting; ours must be longer, or its answer is lost.
        let limit = what.limit * 2 + self.command_limit();
        match self.ask_within(request, limit).await? {
            Value::Okay => Ok(Migrated::Moved),
            Value::SimpleString(text) if text == "NOKEY" => Ok(Migrated::NoKeys),
            other => Err(self.asked("MIGRATE").strange(format!("{other:?}"))),
        }
    }
}

fn count(slot: Slot) -> Request {
    Request::new("CLUSTER COUNTKEYSINSLOT").arg(slot.number())
}
