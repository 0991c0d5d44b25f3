//! What is moved: data sets whose values do not compress, as real ones hardly do.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use redis::aio::MultiplexedConnection;
use shardwright_testkit::Cluster;
use shardwright_testkit::slots::{COUNT, slot_of};
use tokio::task::JoinSet;

use crate::local::Failure;

/// Small values, as of a session or a counter.
const SMALL_BYTES: usize = 100;
/// Large ones, as of a rendered page.
const LARGE_BYTES: usize = 10_000;
/// The clients' keys beside the one great zset.
const BESIDE_ZSET: u64 = 10_000;
/// Elements of one `ZADD`.
const ZADD_ELEMENTS: u64 = 500;
/// From the slot of one key to the slot of the next; odd, so that every slot has its turn.
const STRIDE: u64 = 6_007;
/// One write of the fill.
const FILL_BYTES: usize = 1 << 20;
/// The great zset. Its slot is 0, the first of the first shard.
const ZSET_NAME: &str = "zset";

/// A data set, spread evenly over all slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Data {
    pub(crate) name: &'static str,
    /// Plain keys.
    pub(crate) keys: u64,
    /// Bytes of each one's value.
    pub(crate) value_bytes: usize,
    /// Memory of the one great zset, in MB; 0 for none. Only its slot moves then.
    pub(crate) zset_mb: u64,
}

impl Data {
    pub(crate) fn small(keys: u64) -> Self {
        Self {
            name: "small",
            keys,
            value_bytes: SMALL_BYTES,
            zset_mb: 0,
        }
    }

    pub(crate) fn large(keys: u64) -> Self {
        Self {
            name: "large",
            keys,
            value_bytes: LARGE_BYTES,
            zset_mb: 0,
        }
    }

    pub(crate) fn zset(mb: u64) -> Self {
        Self {
            name: "zset",
            keys: BESIDE_ZSET,
            value_bytes: SMALL_BYTES,
            zset_mb: mb,
        }
    }

    /// What a person calls it.
    pub(crate) fn title(&self) -> String {
        if self.zset_mb > 0 {
            format!("one zset of {} MB", self.zset_mb)
        } else {
            format!("{} keys of {} B", self.keys, self.value_bytes)
        }
    }

    /// How many slots go from all shards to the new one: as many as growing from three to four takes.
    pub(crate) fn slots(&self) -> u16 {
        if self.zset_mb > 0 { 1 } else { COUNT / 4 }
    }

    /// Bytes of names and values of so many plain keys, and of the zset.
    pub(crate) fn bytes(&self, keys: u64) -> u64 {
        if self.zset_mb > 0 {
            return self.zset_mb * 1_000_000;
        }
        let each = Self::key(0).len() + self.value_bytes;
        keys * u64::try_from(each).unwrap_or(u64::MAX)
    }

    /// All keys of the cluster.
    pub(crate) fn total(&self) -> u64 {
        self.keys + u64::from(self.zset_mb > 0)
    }

    /// The plain key of this number.
    pub(crate) fn key(number: u64) -> String {
        let turn = number / u64::from(COUNT);
        format!("{{{}}}:{turn}", tag(Self::slot(number)))
    }

    /// The slot of the plain key of this number: each in its turn, far from the one before, so that
    /// few keys are spread evenly too.
    pub(crate) fn slot(number: u64) -> u16 {
        let slots = u64::from(COUNT);
        u16::try_from(number % slots * STRIDE % slots).expect("it is below the number of slots")
    }

    /// A value of the plain keys, different for each number.
    pub(crate) fn value(&self, number: u64) -> Vec<u8> {
        noise(number, self.value_bytes)
    }

    /// Writes all of it, each shard by a connection of its own.
    pub(crate) async fn fill(&self, cluster: &Cluster, shards: usize) -> Result<(), Failure> {
        let mut work = JoinSet::new();
        for shard in 0..shards {
            let connection = cluster[shard].connection().await?;
            work.spawn(fill_slots(*self, connection, cluster.slots(shard)));
        }
        if self.zset_mb > 0 {
            let connection = cluster[0].connection().await?;
            work.spawn(fill_zset(connection, self.zset_mb * 1_000_000));
        }
        while let Some(done) = work.join_next().await {
            done??;
        }
        Ok(())
    }
}

/// The name of the great zset.
pub(crate) fn zset_name() -> String {
    format!("{{{}}}:{ZSET_NAME}", tag(0))
}

async fn fill_slots(
    data: Data,
    mut connection: MultiplexedConnection,
    (first, last): (u16, u16),
) -> Result<(), Failure> {
    let mut pipe = redis::pipe();
    let mut bytes = 0;
    for start in 0..u64::from(COUNT) {
        if !(first..=last).contains(&Data::slot(start)) {
            continue;
        }
        let numbers = (start..data.keys).step_by(usize::from(COUNT));
        let mut mset = redis::cmd("MSET");
        let mut any = false;
        for number in numbers {
            mset.arg(Data::key(number)).arg(data.value(number));
            bytes += data.value_bytes;
            any = true;
        }
        if any {
            pipe.add_command(mset);
        }
        if bytes > FILL_BYTES {
            pipe.exec_async(&mut connection).await?;
            pipe.clear();
            bytes = 0;
        }
    }
    if !pipe.is_empty() {
        pipe.exec_async(&mut connection).await?;
    }
    Ok(())
}

async fn fill_zset(mut connection: MultiplexedConnection, wanted: u64) -> Result<(), Failure> {
    let name = zset_name();
    let mut element = 0;
    loop {
        let mut pipe = redis::pipe();
        for _ in 0..20 {
            let mut zadd = redis::cmd("ZADD");
            zadd.arg(&name);
            for _ in 0..ZADD_ELEMENTS {
                zadd.arg(element).arg(noise(element, 24));
                element += 1;
            }
            pipe.add_command(zadd);
        }
        pipe.exec_async(&mut connection).await?;
        let usage = redis::cmd("MEMORY").arg("USAGE").arg(&name).to_owned();
        let bytes: u64 = usage.query_async(&mut connection).await?;
        if bytes >= wanted {
            return Ok(());
        }
    }
}

/// Letters that do not compress, the same for the same number.
fn noise(number: u64, bytes: usize) -> Vec<u8> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    // xorshift64*: any start but 0 will do.
    let mut state = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(bytes + 8);
    while out.len() < bytes {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        let word = state.wrapping_mul(0x2545_F491_4F6C_DD1D);
        out.extend(
            word.to_le_bytes()
                .map(|byte| LETTERS[usize::from(byte % 64)]),
        );
    }
    out.truncate(bytes);
    out
}

/// A tag of the slot.
fn tag(slot: u16) -> u32 {
    static TAGS: OnceLock<BTreeMap<u16, u32>> = OnceLock::new();
    let tags = TAGS.get_or_init(|| {
        let mut tags = BTreeMap::new();
        let mut n = 0_u32;
        while tags.len() < usize::from(COUNT) {
            tags.entry(slot_of(n.to_string().as_bytes())).or_insert(n);
            n += 1;
        }
        tags
    });
    tags[&slot]
}
