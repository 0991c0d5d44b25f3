//! `bench failover`: how long a shard takes no writes after kill -9 of its primary.
//!
//! Under `up --watch`, over many runs and three times in a row on each shard; and for comparison
//! without a watch, where the engine's own failover waits for its node-timeout. A writer on each
//! shard writes every 2 ms; the gap is the longest time between two acknowledged writes. Every
//! acknowledged write is read back: those that are missing were in the tail that had not reached
//! the replica (the policy is Availability). That takes many writes a second to see, hence a
//! series with many writers that do not pause.

use std::time::{Duration, Instant, SystemTime};

use shardwright_testkit::{Engine, Load};

use crate::Options;
use crate::figures::{Series, median, ms, p95};
use crate::local::Failure;
use crate::scene::{LIMIT, SLOTS, Scene, Watch, primary_of, time_until};
use crate::view::connect;

/// Acknowledged writes before the kill, and again after the gap.
const SOME_WRITES: u64 = 150;
/// Above this a run is shown with what the watch did meanwhile.
const GOAL_P95: Duration = Duration::from_millis(300);
/// What the engine waits before it fails over by itself: our default, and its own.
const NODE_TIMEOUTS_MS: [&str; 2] = ["5000", "15000"];

/// One kill.
struct Run {
    gap: Duration,
    /// From the kill until all six nodes agree again, where that was waited for.
    healed: Option<Duration>,
    acked: usize,
    lost: usize,
}

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let mut all = Vec::new();
    for engine in options.engines()? {
        println!("\n== {engine}");
        bench(&engine, options, &mut all).await?;
    }
    println!("\nwrite gap after kill -9 of a primary, three shards with a replica each");
    println!(
        "{:<11} {:<34} {:>4} {:>9} {:>9} {:>9} {:>11} {:>7} {:>5}",
        "engine", "who fails over", "runs", "median", "p95", "max", "healed med.", "acked", "lost"
    );
    for series in &all {
        let gaps: Vec<_> = series.runs.iter().map(|run| run.gap).collect();
        let healed: Vec<_> = series.runs.iter().filter_map(|run| run.healed).collect();
        println!(
            "{:<11} {:<34} {:>4} {:>9} {:>9} {:>9} {:>11} {:>7} {:>5}",
            series.engine,
            series.what,
            gaps.len(),
            ms(median(&gaps)),
            ms(p95(&gaps)),
            ms(gaps.iter().max().copied()),
            ms(median(&healed)),
            series.runs.iter().map(|run| run.acked).sum::<usize>(),
            series.runs.iter().map(|run| run.lost).sum::<usize>(),
        );
    }
    Ok(())
}

async fn bench(
    engine: &Engine,
    options: &Options,
    all: &mut Vec<Series<Run>>,
) -> Result<(), Failure> {
    let scene = Scene::up(engine, "everysec").await?;
    let series = |what: &str, runs| Series {
        engine: engine.name.clone(),
        what: what.to_owned(),
        runs,
    };
    let watch = scene.watch().await?;
    let count = options.runs.unwrap_or(30);
    let turns: Vec<usize> = (0..count).map(|run| run % 3).collect();
    let rows: Vec<usize> = (0..9).map(|run| run / 3).collect();
    for (name, what, shards, full) in [
        ("turn", "watch, shards in turn", &turns, false),
        ("row", "watch, three in a row on each", &rows, false),
        (
            "full",
            "watch, in turn, full load",
            &turns[..count.min(6)].to_vec(),
            true,
        ),
    ] {
        let kind = Watched {
            name,
            full,
            trace: options.trace,
        };
        let runs = watched(&scene, &watch, &kind, shards).await?;
        all.push(series(what, runs));
    }
    watch.end().await?;
    for timeout in NODE_TIMEOUTS_MS {
        let mut runs = Vec::new();
        for shard in 0..2 {
            runs.push(unwatched(&scene, timeout, shard).await?);
        }
        let what = format!("the engine, node-timeout {timeout}");
        all.push(series(&what, runs));
    }
    Ok(())
}

/// A kind of watched runs.
struct Watched {
    name: &'static str,
    /// As many writes as the machine can do, instead of one every 2 ms on each shard.
    full: bool,
    trace: bool,
}

async fn watched(
    scene: &Scene,
    watch: &Watch,
    kind: &Watched,
    shards: &[usize],
) -> Result<Vec<Run>, Failure> {
    let name = kind.name;
    let mut observer = scene.observer()?;
    let mut runs = Vec::new();
    for (number, shard) in shards.iter().enumerate() {
        let rows = observer.until_agreed(LIMIT).await?;
        let primary = primary_of(&rows, *shard)?;
        let prefix = format!("{name}{number}");
        let mut options = scene.load(&SLOTS, &prefix)?;
        if kind.full {
            options.slots = SLOTS.iter().flat_map(|slot| *slot..slot + 8).collect();
            options.pause = Duration::ZERO;
        }
        let load = Load::start(&scene.cluster.addresses()?, options);
        load.until_more(SOME_WRITES, LIMIT).await?;
        let (at, begun) = (SystemTime::now(), Instant::now());
        scene.cluster.kill9(&primary)?;
        // The dead one is a replica again.
        let healed = time_until("the cluster has healed", begun, async || {
            match observer.agreed().await {
                Ok(rows) => primary_of(&rows, *shard).is_ok_and(|now| now != primary),
                Err(_) => false,
            }
        })
        .await?;
        load.until_more(SOME_WRITES, LIMIT).await?;
        let run = finish(scene, load, *shard, begun, Some(healed)).await?;
        show(name, number, *shard, &run);
        if kind.trace || run.gap > GOAL_P95 {
            let span = if kind.trace { healed } else { run.gap };
            let span = span + Duration::from_millis(50);
            for (after_ms, line) in watch.lines(at, span) {
                println!("      {after_ms:>8.1}  {line}");
            }
        }
        runs.push(run);
    }
    Ok(runs)
}

/// The same kill while nobody watches: the engine fails over, and `up` brings the dead one back.
async fn unwatched(scene: &Scene, timeout_ms: &str, shard: usize) -> Result<Run, Failure> {
    let mut observer = scene.observer()?;
    let rows = observer.until_agreed(LIMIT).await?;
    let admin = scene.admin()?;
    for address in scene.cluster.addresses()? {
        let mut connection = connect(&address, &admin).await?;
        let mut command = redis::cmd("CONFIG");
        command
            .arg("SET")
            .arg("cluster-node-timeout")
            .arg(timeout_ms);
        command.query_async::<()>(&mut connection).await?;
    }
    let primary = primary_of(&rows, shard)?;
    let prefix = format!("alone{timeout_ms}-{shard}");
    // Only this shard: a write every 2 ms for half a minute is enough to read back.
    let slots = [SLOTS[shard]];
    let load = Load::start(&scene.cluster.addresses()?, scene.load(&slots, &prefix)?);
    load.until_more(SOME_WRITES, LIMIT).await?;
    let begun = Instant::now();
    let pid = scene.cluster.kill9(&primary)?;
    time_until("the killed server is gone", begun, async || {
        !std::path::Path::new(&format!("/proc/{pid}/cwd")).exists()
    })
    .await?;
    load.until_more(SOME_WRITES, LIMIT).await?;
    let run = finish(scene, load, shard, begun, None).await?;
    show(&format!("alone, {timeout_ms}"), 0, shard, &run);
    scene.shardwright(&["up"]).await?;
    Ok(run)
}

async fn finish(
    scene: &Scene,
    load: Load,
    shard: usize,
    killed: Instant,
    healed: Option<Duration>,
) -> Result<Run, Failure> {
    let report = load.stop().await;
    let slot = SLOTS[shard];
    let gap = report.longest_gap(slot, slot).ok_or("no writer wrote")?;
    // The gap must be the kill's: an earlier or later one would mean that something else is wrong.
    let until = gap.begun + gap.length;
    if gap.begun > killed + Duration::from_secs(1) || until < killed {
        println!("      note: the longest gap is not around the kill");
    }
    let lost = report.lost(&scene.cluster.addresses()?).await?;
    Ok(Run {
        gap: gap.length,
        healed,
        acked: report.acked(),
        lost: lost.len(),
    })
}

fn show(name: &str, number: usize, shard: usize, run: &Run) {
    println!(
        "{name:<12} {:>3}  shard {shard}  gap {:>8}  healed {:>8}  acked {:>6}  lost {}",
        number + 1,
        ms(Some(run.gap)),
        ms(run.healed),
        run.acked,
        run.lost
    );
}
