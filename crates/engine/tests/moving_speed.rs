//! How fast slots move, beside redis-cli. Run by hand, on an idle machine:
//! `cargo test --release -p shardwright-engine --test moving_speed -- --ignored --test-threads 1`

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use shardwright_engine::movers::{Allowance, Burst, End, Moved, key_wise, native};
use shardwright_testkit::{Engine, TestResult};
use shardwright_topology::SlotSet;

#[path = "moving/stage.rs"]
#[expect(dead_code, reason = "what only the other tests need")]
mod stage;

use stage::{Stage, fill, range, unheard};

/// As many keys in each slot as a million keys have in all slots.
const PER_SLOT: usize = 61;
const BYTES: usize = 100;
/// How long clients may wait for a burst.
const BUDGET: Duration = Duration::from_millis(10);

fn slots() -> SlotSet {
    let count = std::env::var("SLOTS").ok().and_then(|n| n.parse().ok());
    range(0, count.unwrap_or(4915) - 1)
}

fn say(what: &str, keys: u64, took: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a speed")]
    let speed = keys as f64 / took.as_secs_f64();
    let line = format!("{what}: {keys} keys in {took:.2?}, {speed:.0} keys/s\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr takes a line");
}

/// Seconds of processor time that a process has used: steadier than the clock on a busy machine.
fn busy(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let ticks = text.split(' ').skip(13).take(2);
    ticks
        .map(|ticks| ticks.parse::<f64>().expect("a number"))
        .sum::<f64>()
        / 100.0
}

fn busy_all(stage: &Stage) -> [f64; 3] {
    let pid = |at: usize| stage.cluster[at].pid().expect("it runs");
    [std::process::id(), pid(0), pid(1)].map(busy)
}

async fn stage(engine: &str) -> Result<Stage, Box<dyn std::error::Error + Send + Sync>> {
    let engine: Engine = shardwright_testkit::engine(engine)?;
    let stage = Stage::set(&engine, 3, 0, |b| b).await?;
    fill(&stage.cluster[0], &slots(), PER_SLOT, BYTES).await?;
    Ok(stage)
}

/// Doubles or cuts the keys of a burst by how long the last one took.
fn steered() -> impl FnMut(Option<&Burst>) -> Allowance {
    let mut keys = 100;
    move |last| {
        if let Some(last) = last.filter(|last| last.keys >= u64::from(keys) / 2) {
            keys = if last.took > BUDGET {
                keys * 2 / 3
            } else {
                keys + keys / 4
            };
            keys = keys.clamp(10, 5000);
        }
        Allowance {
            keys,
            bytes: 1 << 20,
            pause: Duration::ZERO,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn key_wise_on_each_engine() -> TestResult {
    for engine in ["redis-7.0", "redis-7.4", "valkey-8.0", "valkey-9.1"] {
        let stage = stage(engine).await?;
        let mut bursts = Vec::new();
        let mut steer = steered();
        let mut pace = |last: Option<&Burst>| {
            bursts.extend(last.map(|last| (last.took, last.keys)));
            steer(last)
        };
        let before = busy_all(&stage);
        let begun = Instant::now();
        let out = key_wise(&stage.pair(), &slots(), &mut pace, &|| false, &mut unheard).await;
        say(
            &format!("{engine} key-wise"),
            out.moved.keys,
            begun.elapsed(),
        );
        assert!(matches!(out.end, End::Done), "{out:?}");
        let after = busy_all(&stage);
        let spent = [0, 1, 2].map(|at| after[at] - before[at]);
        bursts.sort();
        let at = |part: usize| bursts[(bursts.len() - 1) * part / 100];
        let busy: Duration = bursts.iter().map(|burst| burst.0).sum();
        let line = format!(
            "  {} bursts, {busy:.2?} in all; time and keys: median {:?}, p99 {:?}, most {:?}; processor seconds of mover, source, target: {spent:.2?}\n",
            bursts.len(),
            at(50),
            at(99),
            at(100)
        );
        std::io::stderr().write_all(line.as_bytes())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn native_on_valkey() -> TestResult {
    let stage = stage("valkey-9.1").await?;
    let begun = Instant::now();
    let out = native(&stage.pair(), &slots(), &|| false, &mut |_: &Moved| {}).await;
    say("valkey-9.1 native", out.moved.keys, begun.elapsed());
    assert!(matches!(out.end, End::Done), "{out:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn redis_cli() -> TestResult {
    for pipeline in ["10", "200"] {
        let stage = stage("redis-7.0").await?;
        let slots = slots();
        let begun = Instant::now();
        let done = Command::new("redis-cli")
            .args(["--cluster", "reshard", &stage.cluster[0].address()])
            .args(["--cluster-from", &stage.ids[0].to_string()])
            .args(["--cluster-to", &stage.ids[1].to_string()])
            .args(["--cluster-slots", &slots.count().to_string()])
            .args(["--cluster-yes", "--cluster-pipeline", pipeline])
            .stdout(Stdio::null())
            .status()?;
        assert!(done.success());
        let keys = stage.keys(1, &slots).await?;
        say(
            &format!("redis-7.0 redis-cli --cluster-pipeline {pipeline}"),
            keys,
            begun.elapsed(),
        );
    }
    Ok(())
}
