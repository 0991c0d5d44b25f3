//! A small cluster with keys, and connections to all of it.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use shardwright_engine::movers::{Allowance, Burst, Moved, Outcome, Pair, key_wise};
use shardwright_engine::{Access, Client, Endpoint, Error};
use shardwright_testkit::slots::{COUNT, slot_of};
use shardwright_testkit::{Cluster, Engine, Server, ServerBuilder, TestResult};
use shardwright_topology::{EngineKind, NodeId, NodeView, Slot, SlotRange, SlotSet};
use tokio::sync::{Mutex, RwLock};

/// Nodes 0 and 1 are the source and the target; the others only hear of it.
pub(crate) struct Stage {
    pub(crate) cluster: Cluster,
    pub(crate) clients: Vec<Client>,
    pub(crate) reader: Client,
    pub(crate) probe: Client,
    pub(crate) ids: Vec<NodeId>,
    pub(crate) target_is: EngineKind,
    pub(crate) target_at: Endpoint,
    pub(crate) finishing: Mutex<()>,
    pub(crate) turns: RwLock<()>,
}

impl Stage {
    /// So many primaries, each with so many replicas.
    pub(crate) async fn set(
        engine: &Engine,
        shards: usize,
        replicas: usize,
        adjust: impl Fn(ServerBuilder) -> ServerBuilder,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let cluster = Cluster::formed(engine, shards, replicas, adjust).await?;
        Self::of(cluster, shards).await
    }

    pub(crate) async fn of(
        cluster: Cluster,
        shards: usize,
    ) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let mut clients = Vec::new();
        let mut ids = Vec::new();
        for server in &cluster.servers[..shards] {
            let client = connect(server, &Access::default()).await?;
            ids.push(client.my_id().await?);
            clients.push(client);
        }
        let reader = connect(&cluster[0], &Access::default()).await?;
        let probe = connect(&cluster[0], &Access::default()).await?;
        let target_at = Endpoint::new(cluster[1].host(), cluster[1].port());
        let target_is = clients[1].view().await?.server.engine;
        let finishing = Mutex::new(());
        Ok(Self {
            cluster,
            clients,
            reader,
            probe,
            ids,
            target_is,
            target_at,
            finishing,
            turns: RwLock::new(()),
        })
    }

    pub(crate) fn pair(&self) -> Pair<'_> {
        Pair {
            source: &self.clients[0],
            reader: &self.reader,
            probe: &self.probe,
            from: self.ids[0],
            target: &self.clients[1],
            to: self.ids[1],
            target_is: Some(self.target_is),
            target_at: &self.target_at,
            credentials: None,
            others: &self.clients[2..],
            keeps_limit: false,
            finishing: &self.finishing,
            turns: &self.turns,
        }
    }

    /// Moves to the end, at a usual pace.
    pub(crate) async fn move_all(&self, slots: &SlotSet) -> Outcome {
        key_wise(&self.pair(), slots, &mut usual, &|| false, &mut |_| {}).await
    }

    /// What the server at `at` says of itself.
    pub(crate) async fn view(&self, at: usize) -> Result<NodeView, Error> {
        self.clients[at].view().await
    }

    /// All primaries agree that the target owns these slots, and nothing is open.
    pub(crate) async fn is_given(&self, slots: &SlotSet) -> TestResult {
        for client in &self.clients {
            let view = client.view().await?;
            let row = view.rows.get(self.ids[1]).ok_or("the target is known")?;
            let missing = slots.difference(&row.slots);
            assert!(missing.is_empty(), "{} misses {missing}", client.endpoint());
        }
        self.is_closed().await
    }

    /// Neither end shows an open slot.
    pub(crate) async fn is_closed(&self) -> TestResult {
        for at in [0, 1] {
            let open = self.open(at).await?;
            assert!(open.is_empty(), "{at} has {open} open");
        }
        Ok(())
    }

    /// The slots that are open at a node.
    pub(crate) async fn open(&self, at: usize) -> Result<SlotSet, Error> {
        let view = self.view(at).await?;
        let open = view.own().into_iter().flat_map(|own| &own.open);
        Ok(open.map(|open| open.slot()).collect())
    }

    /// How many keys of the slots the node at `at` holds.
    pub(crate) async fn keys(&self, at: usize, slots: &SlotSet) -> Result<u64, Error> {
        let slots: Vec<Slot> = slots.slots().collect();
        Ok(self.clients[at].count_keys_of(&slots).await?.iter().sum())
    }
}

pub(crate) async fn connect(server: &Server, access: &Access) -> Result<Client, Error> {
    let endpoint = Endpoint::new(server.host(), server.port());
    let patient = Access {
        timeouts: shardwright_engine::Timeouts {
            connect: Duration::from_secs(5),
            command: Duration::from_secs(10),
        },
        ..access.clone()
    };
    Client::connect(&endpoint, &patient).await
}

/// 500 keys at once and no pause.
pub(crate) fn usual(_: Option<&Burst>) -> Allowance {
    Allowance {
        keys: 500,
        bytes: 1 << 20,
        pause: Duration::ZERO,
        alone: false,
    }
}

/// Nobody listens.
pub(crate) fn unheard(_: &Moved) {}

pub(crate) fn range(first: u64, last: u64) -> SlotSet {
    SlotSet::from(SlotRange::new(first, last).expect("a range"))
}

/// The key number `n` of a slot.
pub(crate) fn key(slot: u16, n: usize) -> String {
    static TAGS: OnceLock<BTreeMap<u16, u32>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| {
        let mut tags = BTreeMap::new();
        let mut n = 0;
        while tags.len() < usize::from(COUNT) {
            tags.entry(slot_of(n.to_string().as_bytes())).or_insert(n);
            n += 1;
        }
        tags
    });
    format!("{{{}}}:{n}", tags[&slot])
}

/// Writes `per_slot` keys of `bytes` bytes into each of these slots.
pub(crate) async fn fill(
    server: &Server,
    slots: &SlotSet,
    per_slot: usize,
    bytes: usize,
) -> TestResult {
    let mut connection = server.connection().await?;
    let value = "x".repeat(bytes);
    for slot in slots.slots() {
        let numbers: Vec<usize> = (0..per_slot).collect();
        for numbers in numbers.chunks(2000) {
            let mut set = redis::cmd("MSET");
            for n in numbers {
                set.arg(key(slot.number(), *n)).arg(&value);
            }
            set.exec_async(&mut connection).await?;
        }
    }
    Ok(())
}
