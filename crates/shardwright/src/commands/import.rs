//! `import`: the keys of a server outside come into the cluster.
//!
//! The source sends each key to the shard that owns its slot, and lets go of it once the shard has it. So at any moment
//! each key is at one end at least, and what is left when it is broken off is found again by the next run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use shardwright_engine::{
    Access, Capabilities, Client, Credentials, Endpoint, Error, Keyspace, Migrate, Migrated, Secret,
};
use shardwright_planner::{Batch, Went, next_batch};
use shardwright_topology::{NodeId, Observed, Slot, reads};

use super::rebalance::all_served;
use crate::cli::{Import, Login};
use crate::connect::{AnyKeeper, Purpose, open, person};
use crate::exit::{ExitStatus, Refusal, UsageError};
use crate::printer::Printer;
use crate::status::bytes;
use crate::stop::{signal_that_came, stop};
use crate::target::Target;

/// How many keys are looked at together.
const PAGE: u32 = 1_000;
/// How long the source may wait for a shard at each step. It blocks meanwhile.
const STEP_MAX: Duration = Duration::from_secs(1);
/// How often the same keys are tried where slots move or shards fail over meanwhile.
const TRIES: u32 = 6;
/// How long to look for another owner before the next try.
const LOOK_MAX: Duration = Duration::from_secs(5);
/// How often it is told how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(2);
/// How far the times to live of two copies of a key may be apart, in milliseconds: both are asked one after the other, and keys on their
/// way keep the time that is left.
const LIVES_ALIKE_MS: u64 = 2_000;
/// How many conflicting keys are named.
const NAMED: usize = 10;

/// What came of it.
#[derive(Debug, Default, Serialize)]
struct Tally {
    /// Keys that the cluster has now by this.
    imported: u64,
    /// Of those, keys that were looked for afterwards and found; the others expired or were deleted meanwhile.
    confirmed: u64,
    /// Keys that the cluster had already, with the same value and time to live.
    there_already: u64,
    /// Keys that the cluster has with another value or time to live.
    conflicts: u64,
    /// The first of them.
    conflicting: Vec<String>,
    /// Whether all keys were looked at.
    complete: bool,
    /// How many keys the source holds at the end.
    left_at_source: Option<u64>,
}

pub(super) async fn run(
    args: Import,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let target: Target = args.target.parse()?;
    if let Target::Kubernetes(key) = &target {
        let text = format!(
            "the source can't reach the pods of k8s:{key}; run it there, with HOST:PORT of a pod"
        );
        return Err(UsageError(text).into());
    }
    let source = source(&args).await?;
    let held = source.keyspace().await?;
    must_be_alone(&args.from, &held)?;
    let access = person(&target, args.dir.clone(), login, out)?;
    let (keeper, observed) = open(&target, args.dir.clone(), login, Purpose::Read, out).await?;
    all_served(&observed)?;
    must_read(&args.from, &source.capabilities().await?, &observed)?;
    let keys = source.key_count().await?;
    if args.dry_run {
        let what = if args.copy { "copy" } else { "move" };
        let memory = held
            .used_memory_bytes
            .map_or_else(String::new, |n| format!(", {} of memory", bytes(n)));
        let shards = observed.voters().count();
        out.would(&format!(
            "{what} {keys} keys{memory} from {} to {shards} shards",
            args.from
        ))?;
        return Ok(ExitStatus::Success);
    }
    let mut work = Work {
        args: &args,
        source,
        access,
        keeper,
        observed,
        shards: BTreeMap::new(),
        last: None,
        tally: Tally::default(),
    };
    out.record.begin();
    let ended = work.all(keys, out).await;
    let tally = work.tally;
    if tally.imported > 0 || tally.complete {
        out.record.changed(tally.imported > 0);
    }
    told(&args, &tally, out)?;
    ended?;
    Ok(match signal_that_came() {
        Some(signal) if !tally.complete => ExitStatus::Interrupted(signal),
        _ if tally.complete && tally.conflicts == 0 => ExitStatus::Success,
        _ => ExitStatus::Failure,
    })
}

/// A connection to the source, as itself asks for it.
async fn source(args: &Import) -> anyhow::Result<Client> {
    let credentials = match &args.from_password_file {
        None => None,
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read the password file {}", path.display()))?;
            Some(Credentials {
                user: args.from_user.clone(),
                password: Secret::new(text.trim_end_matches(['\r', '\n'])),
            })
        }
    };
    let access = Access {
        credentials,
        ..Access::default()
    };
    Ok(Client::connect(&args.from, &access).await?)
}

/// Keys are taken from a primary in no cluster, out of database 0.
fn must_be_alone(from: &Endpoint, held: &Keyspace) -> anyhow::Result<()> {
    let text = if held.cluster {
        format!(
            "{from} runs in cluster mode; slots of a cluster move by reshard, and its keys by replication or a backup"
        )
    } else if held.replica {
        format!("{from} is a replica, which gives no keys away; name its primary")
    } else if let Some((number, keys)) = held.databases.iter().find(|(number, _)| *number != 0) {
        format!(
            "{from} holds {keys} keys in database {number}, and only those of database 0 are imported; move them there first"
        )
    } else {
        return Ok(());
    };
    Err(Refusal(text).into())
}

/// Every shard must be able to load what the source writes: a key that is refused in the middle helps nobody.
fn must_read(from: &Endpoint, source: &Capabilities, o: &Observed) -> anyhow::Result<()> {
    // Of other engines it is not known.
    let Some(engine) = source.engine.kind() else {
        return Ok(());
    };
    let mut shards = o.voters().filter_map(|m| o.view_of(m.id));
    let older = shards.find(|v| {
        let reader = (v.server.engine, v.server.version);
        !reads(reader, (engine, source.version))
    });
    let Some(older) = older else { return Ok(()) };
    Err(Refusal(format!(
        "{from} runs {engine} {}, and shards of the cluster run {} {}, which can't read keys that it writes; \
         bring the cluster to that version first, and import then",
        source.version, older.server.engine, older.server.version
    ))
    .into())
}

/// A key on its way.
#[derive(Clone, Debug)]
struct Item {
    key: Vec<u8>,
    slot: Slot,
    bytes: u64,
}

struct Work<'a> {
    args: &'a Import,
    source: Client,
    access: Access,
    keeper: AnyKeeper,
    observed: Observed,
    shards: BTreeMap<NodeId, Client>,
    last: Option<(Batch, Went)>,
    tally: Tally,
}

impl Work<'_> {
    /// Brings all keys in, until a person stops it.
    async fn all(&mut self, keys: u64, out: &mut Printer) -> anyhow::Result<()> {
        let mut stop = Box::pin(stop().context("cannot listen to signals")?);
        let (begun, mut told) = (Instant::now(), Instant::now());
        let mut cursor = 0;
        loop {
            let (next, page) = self.source.scan(cursor, PAGE).await?;
            let mut items = self.items(page).await?;
            while !items.is_empty() {
                let (allowed, batch) = self.take(&mut items);
                tokio::select! {
                    biased;
                    () = &mut stop => {
                        self.tally.left_at_source = Some(self.source.key_count().await?);
                        return Ok(());
                    }
                    () = tokio::time::sleep(allowed.rest) => {}
                }
                self.bring((allowed, batch)).await?;
                if told.elapsed() > TOLD_EVERY {
                    told = Instant::now();
                    let done =
                        self.tally.imported + self.tally.there_already + self.tally.conflicts;
                    let rate = u128::from(done) * 1_000 / begun.elapsed().as_millis().max(1);
                    out.say(&format!("{done} of {keys} keys ({rate} keys/s)"));
                }
            }
            if next == 0 {
                break;
            }
            cursor = next;
        }
        self.tally.complete = true;
        self.tally.left_at_source = Some(self.source.key_count().await?);
        Ok(())
    }

    /// These keys with their slots and sizes, those of one owner together.
    async fn items(&mut self, keys: Vec<Vec<u8>>) -> anyhow::Result<Vec<Item>> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let sizes = self
            .source
            .memory_usage_of(keys.iter().map(Vec::as_slice))
            .await?;
        // Where the source does not tell them, keys are paced by what they take on average.
        let average = if sizes.contains(&None) {
            self.source.average_key_bytes().await?
        } else {
            0
        };
        let sizes = sizes.into_iter().map(|bytes| bytes.unwrap_or(average));
        let any = self.observed.voters().next().map(|m| m.id);
        let any = self.shard(any.context("no primary was seen")?).await?;
        let slots = any.slots_of(&keys).await?;
        let mut items: Vec<Item> = keys
            .into_iter()
            .zip(slots)
            .zip(sizes)
            .map(|((key, slot), bytes)| Item { key, slot, bytes })
            .collect();
        items.sort_by_key(|item| self.observed.owner(item.slot));
        Ok(items)
    }

    /// The next keys of one owner, as many as the pace allows; one at least.
    fn take(&mut self, items: &mut Vec<Item>) -> (Batch, Vec<Item>) {
        let allowed = next_batch(self.last, &self.args.budget());
        let owner = |item: &Item| self.observed.owner(item.slot);
        let mut room = allowed.bytes_max;
        let mut batch: Vec<Item> = Vec::new();
        while let Some(item) = items.last() {
            let first = batch.first();
            let fits = batch.len() < allowed.keys_max as usize && item.bytes <= room;
            if first.is_some_and(|first| !fits || owner(first) != owner(item)) {
                break;
            }
            room = room.saturating_sub(item.bytes);
            batch.extend(items.pop());
        }
        (allowed, batch)
    }

    /// Brings a batch in: first what the cluster has already is set aside.
    async fn bring(&mut self, (allowed, batch): (Batch, Vec<Item>)) -> anyhow::Result<()> {
        let mut left = batch;
        for attempt in 1..=TRIES {
            match self.attempt(allowed, &left).await {
                Ok(()) => return Ok(()),
                Err(Trouble::Fatal(error)) => return Err(error.into()),
                Err(Trouble::Passing(error)) if attempt == TRIES => return Err(error.into()),
                Err(Trouble::Passing(_)) => self.look_again(left[0].slot).await?,
                // What was taken in between the look and the order is looked at again.
                Err(Trouble::Busy) => {}
            }
            let keys: Vec<Vec<u8>> = left.iter().map(|item| item.key.clone()).collect();
            let mut here = self.source.exist(&keys).await?.into_iter();
            if !self.args.copy {
                let before = left.len();
                left.retain(|_| here.next().unwrap_or(true));
                self.tally.imported += (before - left.len()) as u64;
                self.tally.confirmed += (before - left.len()) as u64;
            }
            if left.is_empty() {
                return Ok(());
            }
        }
        anyhow::bail!(
            "the cluster takes in keys that are being brought in from elsewhere too; try again later"
        )
    }

    async fn attempt(&mut self, allowed: Batch, batch: &[Item]) -> Result<(), Trouble> {
        let owner = self.observed.owner(batch[0].slot);
        let owner = owner.ok_or_else(|| Trouble::Passing(self.unowned(batch[0].slot)))?;
        let shard = self.shard(owner).await.map_err(Trouble::Passing)?;
        let mut keys: Vec<Vec<u8>> = batch.iter().map(|item| item.key.clone()).collect();
        let mut aside = Tally::default();
        if !self.args.replace {
            let there = shard.exist(&keys).await.map_err(Trouble::of)?;
            let mut there = there.into_iter();
            let (mut fresh, mut held) = (Vec::new(), Vec::new());
            for key in keys {
                if there.next() == Some(true) {
                    held.push(key);
                } else {
                    fresh.push(key);
                }
            }
            for key in held {
                self.compare(&shard, key, &mut aside).await?;
            }
            keys = fresh;
        }
        if !keys.is_empty() {
            self.send(
                &shard,
                allowed,
                &keys,
                batch.iter().map(|item| item.bytes).sum(),
            )
            .await?;
            let found = shard.exist(&keys).await.map_err(Trouble::of)?;
            self.tally.imported += keys.len() as u64;
            self.tally.confirmed += found.iter().filter(|found| **found).count() as u64;
        }
        self.tally.there_already += aside.there_already;
        self.tally.conflicts += aside.conflicts;
        let room = NAMED.saturating_sub(self.tally.conflicting.len());
        self.tally
            .conflicting
            .extend(aside.conflicting.into_iter().take(room));
        Ok(())
    }

    /// The source sends these keys, and we see how long it took.
    async fn send(
        &mut self,
        shard: &Client,
        allowed: Batch,
        keys: &[Vec<u8>],
        bytes: u64,
    ) -> Result<(), Trouble> {
        let what = Migrate {
            to: shard.endpoint(),
            keys,
            replace: self.args.replace,
            limit: STEP_MAX,
            credentials: self.access.credentials.as_ref(),
        };
        let begun = Instant::now();
        match self
            .source
            .hand_over(&what, self.args.copy)
            .await
            .map_err(Trouble::of)?
        {
            // They expired, or somebody deleted them.
            Migrated::NoKeys | Migrated::Moved => {}
        }
        let took = begun.elapsed();
        // Whoever waited meanwhile is served before this.
        self.source.ping().await.map_err(Trouble::of)?;
        let went = Went {
            keys: keys.len() as u64,
            bytes,
            took,
            lag: begun.elapsed().saturating_sub(took),
            asked_per_s: None,
        };
        self.last = Some((allowed, went));
        Ok(())
    }

    /// A key that both have: is it the same?
    async fn compare(
        &self,
        shard: &Client,
        key: Vec<u8>,
        tally: &mut Tally,
    ) -> Result<(), Trouble> {
        let (here, there) = tokio::join!(self.source.value_of(&key), shard.value_of(&key));
        let values_alike = here.map_err(Trouble::of)? == there.map_err(Trouble::of)?;
        let (here, there) = tokio::join!(self.source.time_to_live(&key), shard.time_to_live(&key));
        let lives_alike = match (here.map_err(Trouble::of)?, there.map_err(Trouble::of)?) {
            (Some(here), Some(there)) => here.abs_diff(there) <= LIVES_ALIKE_MS,
            (here, there) => here == there,
        };
        if values_alike && lives_alike {
            tally.there_already += 1;
        } else {
            tally.conflicts += 1;
            tally
                .conflicting
                .push(String::from_utf8_lossy(&key).into_owned());
        }
        Ok(())
    }

    /// Waits for another owner of a slot whose owner does not take keys; not for long.
    async fn look_again(&mut self, slot: Slot) -> anyhow::Result<()> {
        let before = self.observed.owner(slot);
        self.shards.clear();
        let other = |o: &Observed| o.owner(slot).is_some() && o.owner(slot) != before;
        self.observed = self.keeper.observe_until(other, LOOK_MAX).await?;
        Ok(())
    }

    async fn shard(&mut self, id: NodeId) -> Result<Client, Error> {
        if let Some(open) = self.shards.get(&id).filter(|c| c.is_closed().is_none()) {
            return Ok(open.clone());
        }
        let address = self.observed.member(id).map(|m| Endpoint::from(&m.address));
        let address = address.unwrap_or_else(|| self.args.from.clone());
        let client = Client::connect(&address, &self.access).await?;
        self.shards.insert(id, client.clone());
        Ok(client)
    }

    fn unowned(&self, slot: Slot) -> Error {
        Error::Server {
            endpoint: self.args.from.clone(),
            command: "MIGRATE",
            code: "CLUSTERDOWN".to_owned(),
            message: format!("nobody owns slot {slot}"),
        }
    }
}

/// Why keys were not taken in.
enum Trouble {
    /// The cluster has one of them.
    Busy,
    /// It may work once the cluster was looked at again.
    Passing(Error),
    Fatal(Error),
}

impl Trouble {
    fn of(error: Error) -> Self {
        const PREFIX: &str = "Target instance replied with error: ";
        let Error::Server { code, message, .. } = &error else {
            return match error {
                Error::Closed { .. }
                | Error::Unreachable { .. }
                | Error::TimedOut { .. }
                | Error::Loading { .. } => Self::Passing(error),
                other => Self::Fatal(other),
            };
        };
        let said = message
            .strip_prefix(PREFIX)
            .and_then(|said| said.split(' ').next());
        match said.unwrap_or(code) {
            "BUSYKEY" => Self::Busy,
            "MOVED" | "ASK" | "TRYAGAIN" | "CLUSTERDOWN" | "LOADING" | "IOERR" | "READONLY" => {
                Self::Passing(error)
            }
            _ => Self::Fatal(error),
        }
    }
}

fn told(args: &Import, tally: &Tally, out: &mut Printer) -> anyhow::Result<()> {
    if out.is_json() {
        out.record.put_fields(tally)?;
    }
    if tally.there_already > 0 {
        let left = if args.copy {
            ""
        } else {
            "; the source keeps them"
        };
        out.say(&format!(
            "{} keys were in the cluster already, with the same value and time to live{left}",
            tally.there_already
        ));
    }
    if tally.confirmed < tally.imported {
        let gone = tally.imported - tally.confirmed;
        out.warn(&format!(
            "{gone} keys expired or were deleted as soon as they were in the cluster"
        ));
    }
    for key in &tally.conflicting {
        out.say(&format!(
            "conflict: the cluster has another value or time to live of {key:?}"
        ));
    }
    if tally.conflicts > 0 {
        out.warn(&format!(
            "{} keys were left at the source, for the cluster has other values; --replace overwrites those",
            tally.conflicts
        ));
    }
    let n = tally.imported;
    let left = tally
        .left_at_source
        .map_or_else(|| "an unknown number of".to_owned(), |n| n.to_string());
    out.say(&if tally.complete && tally.conflicts == 0 {
        format!("[OK] imported {n} keys; the source holds {left} keys")
    } else if tally.complete {
        format!("imported {n} keys, and all but {} conflicting ones; the source holds {left} keys", tally.conflicts)
    } else {
        format!("imported {n} keys, and not all; running the command again goes on; the source holds {left} keys")
    });
    Ok(())
}
