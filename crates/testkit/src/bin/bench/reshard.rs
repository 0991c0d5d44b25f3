//! `bench reshard`: slots and their keys to a new shard, by redis-cli and by shardwright, in turn.
//!
//! The cluster grows from three shards to four: a quarter of the slots goes from all three to an
//! empty one. Each way gets a fresh cluster with the same data, and is timed from the start of
//! its program to its end. Each is measured twice: in silence, and beside a client that asks at a
//! fixed rate, whose latency counts from the moment each request was due. The client is first measured
//! for some seconds in which nothing moves.

use std::time::{Duration, Instant};

use shardwright_testkit::server::ask_on;
use shardwright_testkit::{Cluster, Engine, Server};
use tokio::task::JoinHandle;

use self::client::{Client, Felt};
use self::data::Data;
use self::ways::{Way, newest};
use crate::Options;
use crate::figures::ms;
use crate::local::Failure;
use crate::view::ticks;

mod client;
mod data;
mod plot;
mod table;
mod ways;

/// Shards that have slots at first.
const SHARDS: usize = 3;
/// The engines of the goals: one that moves key by key, and one that moves slots by itself.
const ENGINES: [&str; 2] = ["redis-7.0", "valkey-9.1"];
/// For so many seconds the client is measured before anything moves.
const CALM_S: u64 = 4;
/// For so many it warms up before that: connections, first touches of memory.
const WARM_S: u64 = 1;

/// What is moved, and beside what.
#[derive(Debug)]
pub(crate) struct Scope {
    /// Only data sets of these names; all where there is none.
    pub(crate) data: Vec<String>,
    /// Only ways whose name has one of these texts in it; all where there is none.
    pub(crate) ways: Vec<String>,
    /// Only in silence.
    pub(crate) still: bool,
    /// Keys of 100 B.
    pub(crate) keys: u64,
    /// Keys of 10 kB.
    pub(crate) large_keys: u64,
    /// Memory of the one zset.
    pub(crate) zset_mb: u64,
    /// Requests of the client in a second.
    pub(crate) rate: u64,
}

impl Default for Scope {
    fn default() -> Self {
        Self {
            data: Vec::new(),
            ways: Vec::new(),
            still: false,
            keys: 1_000_000,
            large_keys: 100_000,
            zset_mb: 200,
            rate: 2_000,
        }
    }
}

impl Scope {
    fn data(&self) -> Result<Vec<Data>, Failure> {
        let mut all = vec![
            Data::small(self.keys),
            Data::large(self.large_keys),
            Data::zset(self.zset_mb),
        ];
        for name in &self.data {
            if !all.iter().any(|data| data.name == name) {
                return Err(format!("--data {name}: write small, large or zset").into());
            }
        }
        all.retain(|data| self.data.is_empty() || self.data.iter().any(|name| data.name == name));
        Ok(all)
    }

    fn ways(&self, engine: &Engine) -> Vec<Way> {
        let mut all = Way::all(engine);
        let named = |way: &Way| self.ways.iter().any(|text| way.name().contains(text));
        all.retain(|way| self.ways.is_empty() || named(way));
        all
    }
}

/// One move.
pub(crate) struct Run {
    /// From the start of the program to its end.
    took: Duration,
    /// Keys that are at the new shard.
    keys: u64,
    /// Bytes of their names and values.
    bytes: u64,
    /// Until the new shard had its first slot.
    first: Option<Duration>,
    /// What the client felt before anything moved, and meanwhile.
    felt: Option<(Felt, Felt)>,
}

/// All runs of one way with one data set, in silence or beside the client.
pub(crate) struct Series {
    engine: String,
    data: Data,
    way: Way,
    loaded: bool,
    runs: Vec<Run>,
}

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let scope = &options.scope;
    let sets = scope.data()?;
    let mut all = Vec::new();
    let begun = Instant::now();
    for engine in options.engines_or(&ENGINES)? {
        println!("\n== {engine}");
        for data in &sets {
            let mut rows = begin(&engine, *data, scope);
            for round in 1..=options.runs.unwrap_or(1) {
                for series in &mut rows {
                    let run = one(&engine, series, scope.rate).await?;
                    show(round, series, &run);
                    series.runs.push(run);
                }
            }
            all.extend(rows);
        }
    }
    table::print(&all, scope.rate);
    let path = plot::write(&all)?;
    println!("\nplot: {}", path.display());
    println!("took {:.0} s in all", begun.elapsed().as_secs_f64());
    Ok(())
}

fn begin(engine: &Engine, data: Data, scope: &Scope) -> Vec<Series> {
    let mut rows = Vec::new();
    for loaded in [false, true] {
        if loaded && scope.still {
            continue;
        }
        rows.extend(scope.ways(engine).into_iter().map(|way| Series {
            engine: engine.name.clone(),
            data,
            way,
            loaded,
            runs: Vec::new(),
        }));
    }
    rows
}

/// Three shards with slots and one without, nothing on disk, the engine's own defaults.
async fn cluster(engine: &Engine) -> Result<Cluster, Failure> {
    // One key that takes seconds must not look like a failed server: its default, not the tests' 5 s.
    let slow = |builder: shardwright_testkit::ServerBuilder| {
        builder.config("cluster-node-timeout", "15000")
    };
    let mut cluster = Cluster::formed(engine, SHARDS, 0, slow).await?;
    let new = slow(Server::builder(engine).cluster()).start()?;
    let epoch = (SHARDS + 1).to_string();
    new.ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
        .await?;
    cluster.servers.push(new);
    cluster.meet_all().await?;
    cluster.until_known().await?;
    cluster.until_agreed().await?;
    Ok(cluster)
}

async fn one(engine: &Engine, series: &Series, rate: u64) -> Result<Run, Failure> {
    let (data, way) = (series.data, series.way);
    let cluster = cluster(engine).await?;
    data.fill(&cluster, SHARDS).await?;
    let client = if series.loaded {
        Some(Client::start(&cluster, SHARDS, data, rate).await?)
    } else {
        None
    };
    let mut calm = None;
    if let Some(client) = &client {
        client.until_more(rate * WARM_S).await?;
        let from = Instant::now();
        client.until_more(rate * CALM_S).await?;
        calm = Some((from, Instant::now()));
    }
    let watch = first_slot(&cluster).await?;
    let begun = Instant::now();
    let done = way.carry_out(&cluster, &data).await;
    let ended = Instant::now();
    let answers = match client {
        Some(client) => Some(client.stop().await?),
        None => None,
    };
    done?;
    // It has seen the first slot, or its look at the cluster failed.
    let first = watch.await??;
    let felt = answers.zip(calm);
    let felt = felt.map(|(all, (from, until))| (all.felt(from, until), all.felt(begun, ended)));
    let keys = is_whole(&cluster, &data).await?;
    Ok(Run {
        took: ended - begun,
        keys,
        bytes: data.bytes(keys),
        first: Some(first.saturating_duration_since(begun)),
        felt,
    })
}

/// Watches for the moment at which the new shard has its first slot.
async fn first_slot(cluster: &Cluster) -> Result<JoinHandle<Result<Instant, Failure>>, Failure> {
    let (address, mut link) = (
        newest(cluster).address(),
        newest(cluster).connection().await?,
    );
    Ok(tokio::spawn(async move {
        let mut ticks = ticks();
        loop {
            ticks.tick().await;
            // Its epoch changes with the first slots, and the answer is short.
            let view: String = ask_on(&mut link, &address, &["CLUSTER", "NODES"]).await?;
            let own = view.lines().find(|row| row.contains("myself"));
            let slots = own.map(|row| row.split(' ').skip(8).filter(|word| !word.starts_with('[')));
            if slots.is_some_and(|mut slots| slots.next().is_some()) {
                return Ok(Instant::now());
            }
        }
    }))
}

/// How many keys the new shard has. All keys are there, and every view has all slots with one owner.
async fn is_whole(cluster: &Cluster, data: &Data) -> Result<u64, Failure> {
    let mut counts = Vec::new();
    for server in &cluster.servers {
        counts.push(server.ask::<u64>(&["DBSIZE"]).await?);
    }
    let total: u64 = counts.iter().sum();
    if total != data.total() {
        return Err(format!("{total} keys of {} are there: {counts:?}", data.total()).into());
    }
    cluster.until_agreed().await?;
    let view: String = newest(cluster).ask(&["CLUSTER", "NODES"]).await?;
    let own = view.lines().find(|row| row.contains("myself"));
    let ranges = own.into_iter().flat_map(|row| row.split(' ').skip(8));
    let mut slots = 0;
    for range in ranges {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        slots += last.parse::<u16>()? - first.parse::<u16>()? + 1;
    }
    if slots != data.slots() {
        return Err(format!("the new shard has {slots} slots of {}", data.slots()).into());
    }
    Ok(counts[SHARDS])
}

fn show(round: usize, series: &Series, run: &Run) {
    let beside = if series.loaded { "client" } else { "silent" };
    let felt = run.felt.as_ref().map_or(String::new(), |(calm, moving)| {
        format!(
            "  p99.9 {} (calm {}), max {}, errors {}",
            ms(moving.p999),
            ms(calm.p999),
            ms(moving.max),
            moving.errors.values().sum::<u64>()
        )
    });
    println!(
        "{round:>3}  {:<6} {beside:<6} {:<28} {:>9} for {} keys{felt}",
        series.data.name,
        series.way.name(),
        ms(Some(run.took)),
        run.keys
    );
}
