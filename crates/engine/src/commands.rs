//! The typed commands of administration.

use std::net::IpAddr;
use std::time::Duration;

use redis::Value;
use shardwright_topology::wire::Reply;
use shardwright_topology::{ConfigEpoch, NodeId, Slot, SlotSet};

use crate::client::{Request, to_reply};
use crate::{Client, Error, Secret};

/// The ACL rules of a user that can use every command of this crate, and nothing else.
pub const ACL_RULES: &[&str] = &[
    "+ping",
    "+cluster",
    "+info",
    "+role",
    "+dbsize",
    "+command|info",
    "+config|get",
    "+config|set",
    "+client|setname",
    "+client|list",
    "+wait",
    "+shutdown",
    "+acl|setuser",
    "+acl|load",
    "+memory|usage",
    "+migrate",
    "+select",
    "+dump",
    "+restore",
    "+restore-asking",
    "+function|list",
    "+function|load",
    "+del",
    "~*",
];

/// How a replica takes its primary's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failover {
    /// With the primary's help: it pauses its clients until the replica has every write.
    Switchover,
    /// Without the primary, by vote of a majority of primaries (`FORCE`).
    Force,
    /// Without the primary and without votes (`TAKEOVER`).
    Takeover,
}

/// How thoroughly a node forgets its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Forgets nodes and slots, keeps its id.
    Soft,
    /// Becomes a new node: new id, epoch 0.
    Hard,
}

/// What `CLUSTER SETSLOT` is to say of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetSlot {
    /// It is not being moved.
    Stable,
    /// It belongs to this node.
    Owner(NodeId),
    /// Said at its owner: it goes to this node.
    MigratingTo(NodeId),
    /// Said at the receiver: it comes from this node.
    ImportingFrom(NodeId),
}

/// Whether a server saves a snapshot before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Save {
    /// It does, also where its configuration does not ask for it.
    Snapshot,
    /// It does not.
    Nothing,
}

/// Reading.
impl Client {
    /// `PING`.
    pub async fn ping(&self) -> Result<(), Error> {
        let answer = self.ask(Request::new("PING")).await?;
        match answer {
            Value::SimpleString(text) if text == "PONG" => Ok(()),
            other => Err(self.asked("PING").strange(format!("{other:?}"))),
        }
    }

    /// The node's own id (`CLUSTER MYID`).
    pub async fn my_id(&self) -> Result<NodeId, Error> {
        let text = self.text(Request::new("CLUSTER MYID")).await?;
        NodeId::parse(&text).map_err(|e| self.asked("CLUSTER MYID").strange(e))
    }

    /// `CLUSTER NODES` as it came.
    pub async fn cluster_nodes(&self) -> Result<Vec<u8>, Error> {
        self.text(Request::new("CLUSTER NODES")).await
    }

    /// `CLUSTER SHARDS`, of Redis and Valkey 7 and later.
    pub async fn cluster_shards(&self) -> Result<Reply, Error> {
        self.ask(Request::new("CLUSTER SHARDS")).await.map(to_reply)
    }

    /// `CLUSTER INFO` as it came.
    pub async fn cluster_info(&self) -> Result<Vec<u8>, Error> {
        self.text(Request::new("CLUSTER INFO")).await
    }

    /// `INFO` of one section (`replication`, `all`), or of the default ones for `None`.
    pub async fn info(&self, section: Option<&str>) -> Result<Vec<u8>, Error> {
        self.text(Request::new("INFO").arg(section)).await
    }

    /// `INFO` of several sections, of Redis and Valkey 7 and later.
    pub(crate) async fn info_of(&self, sections: &[&str]) -> Result<Vec<u8>, Error> {
        let request = sections
            .iter()
            .fold(Request::new("INFO"), |request, section| {
                request.arg(*section)
            });
        self.text(request).await
    }

    /// Whether a key holds a string. False where this user may not ask: other values take longer to move.
    pub(crate) async fn is_string(&self, key: &[u8]) -> Result<bool, Error> {
        match self.ask(Request::new("TYPE").arg(key)).await {
            Ok(Value::SimpleString(text)) => Ok(text == "string"),
            Ok(other) => Err(self.asked("TYPE").strange(format!("{other:?}"))),
            Err(Error::Server { code, .. }) if code == "ASK" => Ok(false),
            Err(error) if error.is_withheld() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// `ROLE`.
    pub async fn role(&self) -> Result<Reply, Error> {
        self.ask(Request::new("ROLE")).await.map(to_reply)
    }

    /// How many keys it holds (`DBSIZE`).
    pub async fn key_count(&self) -> Result<u64, Error> {
        self.number(Request::new("DBSIZE")).await
    }

    /// The values of the configuration keys that match the pattern, as name and value.
    pub async fn config_get(&self, pattern: &str) -> Result<Vec<(String, String)>, Error> {
        let asked = self.asked("CONFIG GET");
        let words = match self.ask(Request::new("CONFIG GET").arg(pattern)).await? {
            Value::Array(words) => words,
            Value::Map(pairs) => pairs
                .into_iter()
                .flat_map(|(key, value)| [key, value])
                .collect(),
            other => return Err(asked.strange(format!("{other:?}"))),
        };
        let texts = words.into_iter().map(|word| self.utf8("CONFIG GET", word));
        let texts = texts.collect::<Result<Vec<_>, _>>()?;
        let pairs = texts
            .chunks_exact(2)
            .map(|pair| (pair[0].clone(), pair[1].clone()));
        Ok(pairs.collect())
    }

    /// The names that its clients gave themselves (`CLIENT LIST`); unnamed ones are left out.
    pub async fn client_names(&self) -> Result<Vec<String>, Error> {
        let list = self.text(Request::new("CLIENT LIST")).await?;
        let list = String::from_utf8_lossy(&list);
        let names = list.lines().filter_map(|client| {
            let name = client
                .split(' ')
                .find_map(|field| field.strip_prefix("name="))?;
            (!name.is_empty()).then(|| name.to_owned())
        });
        Ok(names.collect())
    }

    /// Waits until so many replicas have everything written on *this* connection before, or
    /// the time is over; returns how many have. Replicas refuse it.
    pub async fn wait(&self, replicas: u32, limit: Duration) -> Result<u64, Error> {
        // 0 would wait for ever.
        let ms = limit.as_millis().max(1).to_string();
        let request = Request::new("WAIT").arg(replicas).arg(ms);
        let value = self
            .ask_within(request, limit + self.command_limit())
            .await?;
        self.expect_number("WAIT", &value)
    }

    pub(crate) fn utf8(&self, name: &'static str, value: Value) -> Result<String, Error> {
        let bytes = self.expect_text(name, value)?;
        String::from_utf8(bytes).map_err(|e| self.asked(name).strange(e))
    }
}

/// Changing what nodes know of each other.
impl Client {
    /// Makes this node greet the one at that address. `OK` means only that it will try.
    pub async fn meet(&self, ip: IpAddr, port: u16, bus_port: u16) -> Result<(), Error> {
        self.done(meet(ip, port, bus_port)).await
    }

    /// Many greetings in one round trip: IP, port, bus port. The first refusal is returned,
    /// after all were sent.
    pub async fn meet_all(&self, them: &[(IpAddr, u16, u16)]) -> Result<(), Error> {
        let requests = them
            .iter()
            .map(|(ip, port, bus)| meet(*ip, *port, *bus))
            .collect();
        for reply in self.ask_all("CLUSTER MEET", requests).await? {
            self.expect_ok("CLUSTER MEET", &reply?)?;
        }
        Ok(())
    }

    /// Sets the config epoch of a node that is alone and has none yet.
    pub async fn set_config_epoch(&self, epoch: ConfigEpoch) -> Result<(), Error> {
        self.done(Request::new("CLUSTER SET-CONFIG-EPOCH").arg(epoch.0))
            .await
    }

    /// Gives the node a new, greatest config epoch without a vote. True where it did change.
    pub async fn bump_epoch(&self) -> Result<bool, Error> {
        let answer = self.text(Request::new("CLUSTER BUMPEPOCH")).await?;
        Ok(answer.starts_with(b"BUMPED"))
    }

    /// Takes slots that nobody owns. All or none.
    pub async fn add_slots(&self, slots: &SlotSet) -> Result<(), Error> {
        self.change_slots(slots, "CLUSTER ADDSLOTSRANGE", "CLUSTER ADDSLOTS")
            .await
    }

    /// Lets this node forget who owns these slots. All or none.
    pub async fn del_slots(&self, slots: &SlotSet) -> Result<(), Error> {
        self.change_slots(slots, "CLUSTER DELSLOTSRANGE", "CLUSTER DELSLOTS")
            .await
    }

    /// By ranges (version 7 and later), and one by one where the server has no ranges.
    async fn change_slots(
        &self,
        slots: &SlotSet,
        by_range: &'static str,
        one_by_one: &'static str,
    ) -> Result<(), Error> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut request = Request::new(by_range);
        for range in slots.ranges() {
            request = request
                .arg(range.first().number())
                .arg(range.last().number());
        }
        match self.done(request).await {
            Err(Error::Server { message, .. })
                if message
                    .to_ascii_lowercase()
                    .starts_with("unknown subcommand") => {}
            other => return other,
        }
        let mut request = Request::new(one_by_one);
        for slot in slots.slots() {
            request = request.arg(slot.number());
        }
        self.done(request).await
    }

    /// Makes this node a replica of that primary, which it must know (no handshake).
    pub async fn replicate(&self, primary: NodeId) -> Result<(), Error> {
        self.done(Request::new("CLUSTER REPLICATE").id(primary))
            .await
    }

    /// Makes this replica take its primary's place. `OK` means that it has begun
    /// ([`Failover::Takeover`]: that it is done).
    pub async fn failover(&self, how: Failover) -> Result<(), Error> {
        self.done(Request::new(match how {
            Failover::Switchover => "CLUSTER FAILOVER",
            Failover::Force => "CLUSTER FAILOVER FORCE",
            Failover::Takeover => "CLUSTER FAILOVER TAKEOVER",
        }))
        .await
    }

    /// Makes this node forget that one for 60 s: long enough to say the same to all others.
    pub async fn forget(&self, id: NodeId) -> Result<(), Error> {
        self.done(Request::new("CLUSTER FORGET").id(id)).await
    }

    /// Makes this node leave its cluster. Refused where it is a primary that holds keys; a
    /// replica loses its keys.
    pub async fn reset(&self, how: Reset) -> Result<(), Error> {
        self.done(Request::new(match how {
            Reset::Soft => "CLUSTER RESET SOFT",
            Reset::Hard => "CLUSTER RESET HARD",
        }))
        .await
    }

    /// Says something of a slot to this node.
    pub async fn set_slot(&self, slot: Slot, what: SetSlot) -> Result<(), Error> {
        self.done(set_slot(slot, what)).await
    }

    /// The same of many slots in one round trip; each has its own result, in their order.
    ///
    /// It may take longer than other commands: the server writes its table of nodes to the
    /// disk, and Valkey tells its replicas first.
    pub async fn set_slots(
        &self,
        slots: &[Slot],
        what: SetSlot,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        const NAME: &str = "CLUSTER SETSLOT";
        let requests = slots.iter().map(|slot| set_slot(*slot, what)).collect();
        let limit = self.command_limit().max(TABLE_LIMIT);
        let replies = self.ask_all_within(NAME, requests, limit).await?;
        let each = replies
            .into_iter()
            .map(|reply| self.expect_ok(NAME, &reply?));
        Ok(each.collect())
    }

    /// Makes this node the owner of slots that it imports, with a new, greatest config epoch, in one round trip; each
    /// has its own result, in their order. For Redis: Valkey tells its replicas between any two orders.
    ///
    /// A node that is made the owner of a slot that it imports tells all others at once, and each of them looks
    /// through all slots and writes its table to the disk. So all but the last are closed right before: others hear of
    /// them together.
    pub async fn take_slots(
        &self,
        slots: &[Slot],
        own: NodeId,
    ) -> Result<Vec<Result<(), Error>>, Error> {
        const NAME: &str = "CLUSTER SETSLOT";
        let Some((_, closed)) = slots.split_last() else {
            return Ok(Vec::new());
        };
        let mut requests = vec![Request::new("CLUSTER BUMPEPOCH")];
        requests.extend(closed.iter().map(|s| set_slot(*s, SetSlot::Stable)));
        requests.extend(slots.iter().map(|s| set_slot(*s, SetSlot::Owner(own))));
        let limit = self.command_limit().max(TABLE_LIMIT);
        let mut replies = self
            .ask_all_within(NAME, requests, limit)
            .await?
            .into_iter();
        // Without a new epoch the others would not believe it.
        replies.next().transpose()?;
        // Who can't close a slot can't take it either, and says so then.
        let owned = replies.skip(closed.len());
        let each = owned.map(|reply| self.expect_ok(NAME, &reply?));
        Ok(each.collect())
    }
}

/// Changing the server itself.
impl Client {
    /// Sets configuration keys, all or none. The values are shown nowhere.
    pub async fn config_set(&self, pairs: &[(&str, &str)]) -> Result<(), Error> {
        let mut request = Request::new("CONFIG SET");
        for (key, value) in pairs {
            request = request.arg(key).arg(value);
        }
        self.done(request).await
    }

    /// Gives this connection a name that others see in `CLIENT LIST`.
    pub async fn set_name(&self, name: &str) -> Result<(), Error> {
        self.done(Request::new("CLIENT SETNAME").arg(name)).await
    }

    /// Creates or changes a user by ACL rules, at once and in memory only.
    pub async fn acl_set_user(&self, user: &str, rules: &[Secret]) -> Result<(), Error> {
        let mut request = Request::new("ACL SETUSER").arg(user);
        for rule in rules {
            request = request.arg(rule.expose());
        }
        self.done(request).await
    }

    /// Reads the ACL file again. All of it or, where a line is wrong, nothing.
    ///
    /// Redis 7.0 then closes every connection of a user other than the default one, whether
    /// that user changed or not: this connection, the clients' and the replication links too.
    pub async fn acl_load(&self) -> Result<(), Error> {
        self.done(Request::new("ACL LOAD")).await
    }

    /// Ends the server. `Ok` means that it closed the connection, as it does when it ends;
    /// where it refuses (a snapshot that cannot be written) that is the error.
    pub async fn shutdown(&self, save: Save, limit: Duration) -> Result<(), Error> {
        let request = Request::new(match save {
            Save::Snapshot => "SHUTDOWN SAVE",
            Save::Nothing => "SHUTDOWN NOSAVE",
        });
        let name = request.name;
        match self.ask_within(request, limit).await {
            Err(Error::Closed { .. }) => Ok(()),
            Err(error) => Err(error),
            Ok(value) => Err(self.asked(name).strange(format!("{value:?}"))),
        }
    }
}

/// A busy disk takes seconds for what is synced to it.
const TABLE_LIMIT: Duration = Duration::from_secs(10);

fn set_slot(slot: Slot, what: SetSlot) -> Request {
    let request = Request::new("CLUSTER SETSLOT").arg(slot.number());
    match what {
        SetSlot::Stable => request.arg("STABLE"),
        SetSlot::Owner(id) => request.arg("NODE").id(id),
        SetSlot::MigratingTo(id) => request.arg("MIGRATING").id(id),
        SetSlot::ImportingFrom(id) => request.arg("IMPORTING").id(id),
    }
}

fn meet(ip: IpAddr, port: u16, bus_port: u16) -> Request {
    Request::new("CLUSTER MEET")
        .arg(ip.to_string())
        .arg(port)
        .arg(bus_port)
}
