//! `bench kills`: slots move all the time, and something is killed at a random moment; is every acknowledged write
//! there when the cluster is whole again?
//!
//! The seed of a run is told before it: `--seed N --runs 1` plays it again. The victims take turns by the seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shardwright_testkit::kills::{Kills, Run, Victim};
use shardwright_testkit::{Engine, Persistence};

use crate::Options;
use crate::figures::{median, ms};
use crate::local::{Failure, program};

/// No new run begins after this, on each engine: 200 runs take about half of it on a quiet machine.
const TIME_MAX: Duration = Duration::from_secs(40 * 60);
/// Keys that are named where some are lost.
const NAMED: usize = 3;

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let count = options.runs.unwrap_or(200);
    let seed = match options.seed {
        Some(seed) => seed,
        None => SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs(),
    };
    let mut all = Vec::new();
    for engine in options.engines()? {
        println!("\n== {engine}");
        let begun = Instant::now();
        let runs = bench(&engine, count, seed).await?;
        let minutes = begun.elapsed().as_secs() / 60;
        println!("{} of {count} runs in {minutes} min", runs.len());
        all.push((engine, runs));
    }
    let mut bad = 0;
    println!(
        "\nthree shards with a replica each, AOF (everysec), writers on every shard, slots move back and forth"
    );
    println!(
        "{:<11} {:<20} {:>4} {:>6} {:>8} {:>5} {:>9} {:>5} {:>10} {:>10}  guarantee",
        "engine",
        "killed",
        "runs",
        "failed",
        "acked",
        "lost",
        "undecided",
        "open",
        "whole med.",
        "whole max"
    );
    for (engine, runs) in &all {
        for (victim, runs) in runs {
            bad += usize::from(!row(&engine.name, *victim, runs));
        }
    }
    if bad > 0 {
        return Err(format!("{bad} row(s) are not as they must be").into());
    }
    Ok(())
}

/// The runs of each victim; none for one that failed.
type Runs = BTreeMap<Victim, Vec<Option<Run>>>;

async fn bench(engine: &Engine, count: usize, seed: u64) -> Result<Runs, Failure> {
    let mut runs = Runs::new();
    let mut kills = None;
    let begun = Instant::now();
    for number in 0..count as u64 {
        if begun.elapsed() > TIME_MAX {
            println!("time is up");
            break;
        }
        let seed = seed + number;
        let victim = Victim::ALL[usize::try_from(seed)? % Victim::ALL.len()];
        let mut at = match kills.take() {
            Some(at) => at,
            None => Kills::begin(engine, program()?, Persistence::Aof).await?,
        };
        let told = match at.run(victim, seed).await {
            Ok(run) => {
                println!(
                    "seed {seed}  {victim:<20} acked {:>6}  lost {:>3}  open {:>2}  whole {:>9}  moves before {}",
                    run.acked,
                    run.lost.len(),
                    run.open,
                    ms(Some(run.whole)),
                    run.moves
                );
                for lost in run.lost.iter().take(NAMED) {
                    let found = lost.found.as_ref().map(|f| f.trim_end_matches('x'));
                    println!("      lost: {}, found {found:?}", lost.key);
                }
                if run.undecided {
                    println!("      a key stands at both ends with two values: left to a person");
                } else {
                    // What is lost is found again in no later run: keys are flushed.
                    kills = Some(at);
                }
                Some(run)
            }
            Err(failure) => {
                println!("seed {seed}  {victim:<20} FAILED: {failure}");
                None
            }
        };
        runs.entry(victim).or_default().push(told);
    }
    Ok(runs)
}

/// Prints a victim's row. Whether it is as it must be.
fn row(engine: &str, victim: Victim, runs: &[Option<Run>]) -> bool {
    let done: Vec<&Run> = runs.iter().flatten().collect();
    let failed = runs.len() - done.len();
    let whole: Vec<Duration> = done.iter().map(|run| run.whole).collect();
    let lost: usize = done.iter().map(|run| run.lost.len()).sum();
    println!(
        "{engine:<11} {victim:<20} {:>4} {failed:>6} {:>8} {lost:>5} {:>9} {:>5} {:>10} {:>10}  {}",
        runs.len(),
        done.iter().map(|run| run.acked).sum::<usize>(),
        done.iter().filter(|run| run.undecided).count(),
        done.iter().map(|run| run.open).sum::<usize>(),
        ms(median(&whole)),
        ms(whole.iter().max().copied()),
        victim.guarantee()
    );
    failed == 0 && (lost == 0 || !victim.keeps_all())
}
