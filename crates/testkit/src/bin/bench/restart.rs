//! `bench restart`: a whole cluster back, after all addresses changed and after all processes died.
//!
//! The kill is of processes, not of the machine: what they gave to the kernel survives, so that
//! `everysec` may lose nothing here. Also: how large the program is, and how long it takes to start.

use std::time::{Duration, Instant};

use shardwright_testkit::{Engine, Load};

use crate::Options;
use crate::figures::{Series, median, ms};
use crate::local::{Failure, program, run as run_shardwright};
use crate::scene::{LIMIT, SLOTS, Scene, free_block, time_until};

/// Acknowledged writes before the servers are stopped or killed.
const SOME_WRITES: u64 = 10_000;

/// One return.
struct Run {
    /// Every node says `cluster_state:ok`.
    ok: Duration,
    /// The views agree and every replica has its copy.
    agreed: Duration,
    /// `up` has ended.
    returned: Duration,
    /// Acknowledged keys, and how many of them are missing.
    keys: usize,
    lost: usize,
}

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let mut all = Vec::new();
    for engine in options.engines()? {
        println!("\n== {engine}");
        for fsync in ["everysec", "always"] {
            bench(&engine, fsync, options.runs.unwrap_or(5), &mut all).await?;
        }
    }
    println!("\nfrom the start of `up`, three shards with a replica each; medians (worst)");
    println!(
        "{:<11} {:<41} {:>4} {:>17} {:>17} {:>17} {:>7} {:>5}",
        "engine",
        "what happened",
        "runs",
        "ok everywhere",
        "agreed, synced",
        "up returned",
        "acked",
        "lost"
    );
    for series in &all {
        let column = |time: fn(&Run) -> Duration| {
            let times: Vec<_> = series.runs.iter().map(time).collect();
            format!(
                "{} ({})",
                ms(median(&times)),
                ms(times.iter().max().copied())
            )
        };
        println!(
            "{:<11} {:<41} {:>4} {:>17} {:>17} {:>17} {:>7} {:>5}",
            series.engine,
            series.what,
            series.runs.len(),
            column(|run| run.ok),
            column(|run| run.agreed),
            column(|run| run.returned),
            series.runs.iter().map(|run| run.keys).sum::<usize>(),
            series.runs.iter().map(|run| run.lost).sum::<usize>(),
        );
    }
    println!();
    footprint().await
}

async fn bench(
    engine: &Engine,
    fsync: &str,
    count: usize,
    all: &mut Vec<Series<Run>>,
) -> Result<(), Failure> {
    let scene = Scene::up(engine, fsync).await?;
    for killed in [false, true] {
        let what = if killed {
            "all six killed at once"
        } else {
            "down, up at six other addresses"
        };
        let mut runs = Vec::new();
        for number in 0..count {
            let run = one(&scene, killed, &format!("{killed}{number}")).await?;
            println!(
                "{what}, {fsync} {:>2}  ok {:>8}  agreed {:>8}  up returned {:>8}  acked {:>6}  lost {}",
                number + 1,
                ms(Some(run.ok)),
                ms(Some(run.agreed)),
                ms(Some(run.returned)),
                run.keys,
                run.lost
            );
            runs.push(run);
        }
        all.push(Series {
            engine: engine.name.clone(),
            what: format!("{what}, {fsync}"),
            runs,
        });
    }
    Ok(())
}

async fn one(scene: &Scene, killed: bool, prefix: &str) -> Result<Run, Failure> {
    scene.observer()?.until_agreed(LIMIT).await?;
    let mut options = scene.load(&[], prefix)?;
    // Eight writers for each shard that do not pause: the more is under way, the more can be lost.
    options.slots = SLOTS.iter().flat_map(|slot| *slot..slot + 8).collect();
    options.pause = Duration::ZERO;
    let load = Load::start(&scene.cluster.addresses()?, options);
    load.until_more(SOME_WRITES, LIMIT).await?;
    let mut port = None;
    let report = if killed {
        // The writers write until the last server is dead.
        let mut pids = Vec::new();
        for address in scene.cluster.addresses()? {
            pids.push(scene.cluster.kill9(&address)?);
        }
        time_until("the killed servers are gone", Instant::now(), async || {
            let gone = |pid: &i32| !std::path::Path::new(&format!("/proc/{pid}/cwd")).exists();
            pids.iter().all(gone)
        })
        .await?;
        load.stop().await
    } else {
        let report = load.stop().await;
        scene.shardwright(&["down"]).await?;
        port = Some(free_block()?.to_string());
        report
    };
    let begun = Instant::now();
    let up = async {
        match &port {
            Some(port) => scene.shardwright(&["up", "--port", port]).await?,
            None => scene.shardwright(&["up"]).await?,
        }
        Ok::<_, Failure>(begun.elapsed())
    };
    let looked = async {
        // The new ports are noted before the first server starts; until then nobody answers.
        let ok = time_until("ok everywhere", begun, async || match scene.observer() {
            Ok(mut observer) => observer.ok_everywhere().await.is_ok(),
            Err(_) => false,
        })
        .await?;
        let mut observer = scene.observer()?;
        let agreed = time_until("agreement", begun, async || observer.agreed().await.is_ok());
        Ok::<_, Failure>((ok, agreed.await?))
    };
    let (returned, (ok, agreed)) = tokio::try_join!(up, looked)?;
    let lost = report.lost(&scene.cluster.addresses()?).await?;
    Ok(Run {
        ok,
        agreed,
        returned,
        keys: report.acked(),
        lost: lost.len(),
    })
}

/// The program's size on disk, and the time from its start to the end of `--version`.
async fn footprint() -> Result<(), Failure> {
    let program = program()?;
    let bytes = std::fs::metadata(&program)?.len();
    let mut times = Vec::new();
    for _ in 0..21 {
        let begun = Instant::now();
        run_shardwright(&program, &["--version"]).await?;
        times.push(begun.elapsed());
    }
    let tenths = bytes * 10 / 1_000_000;
    let exact = |time: Option<Duration>| {
        time.map_or_else(
            || "-".to_owned(),
            |t| format!("{:.1} ms", t.as_secs_f64() * 1000.0),
        )
    };
    println!(
        "the program: {}.{} MB; started and ended in {} (median of {}, worst {})",
        tenths / 10,
        tenths % 10,
        exact(median(&times)),
        times.len(),
        exact(times.iter().max().copied())
    );
    Ok(())
}
