//! Measurements on a real Kubernetes, the way by hand beside ours. They print figures and judge
//! nothing but failures: a machine that is busy with other things makes every figure worse.
//!
//!   bench-kubernetes [by-hand | ours | memory[=CLUSTERS]]...      all three by default
//!
//! `memory` makes clusters of three pods each: 10 unless said otherwise, for 2 cores are busy with
//! the probes of 90 pods.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing figures is what this program is for"
)]

mod by_hand;
mod ours;

use std::process::ExitCode;

use shardwright_e2e::operator::Operator;
use shardwright_e2e::{Error, Kube, Result, World, table};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let done = match runtime {
        Ok(runtime) => runtime.block_on(run(&words)),
        Err(error) => Err(shardwright_e2e::Error::io("start the executor")(error)),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-kubernetes: {}", error.with_causes());
            ExitCode::FAILURE
        }
    }
}

/// Clusters that the operator's memory is measured with.
const CLUSTERS: usize = 10;

async fn run(words: &[String]) -> Result<()> {
    let wanted = |word: &str| words.is_empty() || words.iter().any(|w| w == word);
    let many = words.iter().find_map(|word| word.strip_prefix("memory="));
    let clusters = many.map_or(Ok(CLUSTERS), |many| {
        many.parse()
            .map_err(|_| Error::Wrong(format!("memory={many} is no number")))
    })?;
    let kube = Kube::connect().await?;
    if wanted("by-hand") {
        let world = World::new(&kube, None, "by hand", "bench-by-hand");
        let measured = by_hand::run(&world).await;
        finish(&world, measured).await?;
    }
    if !wanted("ours") && !wanted("memory") && many.is_none() {
        return Ok(());
    }
    let operator = Operator::install(&kube).await?;
    if wanted("ours") {
        let world = World::new(&kube, Some(operator.clone()), "ours", "bench-ours");
        let measured = ours::run(&world).await;
        finish(&world, measured).await?;
    }
    if wanted("memory") || many.is_some() {
        // A new process: what earlier clusters left behind is not to be counted.
        operator.stop().await?;
        operator.start().await?;
        let world = World::new(&kube, Some(operator), "memory", "bench-memory");
        let measured = ours::memory(&world, clusters).await;
        finish(&world, measured).await?;
    }
    Ok(())
}

/// Prints what was measured, also before a failure, and tidies up.
async fn finish(world: &World, measured: Result<()>) -> Result<()> {
    println!("{}", table::render(&world.figures()));
    let closed = world.close().await;
    measured?;
    closed
}
