//! Measurements on a real Kubernetes, the way by hand beside ours. They print figures and judge
//! nothing but failures: a machine that is busy with other things makes every figure worse.
//!
//!   bench-kubernetes [by-hand | ours | memory]...      all three by default

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing figures is what this program is for"
)]

mod by_hand;

use std::process::ExitCode;

use shardwright_e2e::{Kube, Result, World, table};

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

async fn run(words: &[String]) -> Result<()> {
    let wanted = |word: &str| words.is_empty() || words.iter().any(|w| w == word);
    let kube = Kube::connect().await?;
    let mut figures = Vec::new();
    if wanted("by-hand") {
        let world = World::new(&kube, None, "by hand", "bench-by-hand");
        let measured = by_hand::run(&world).await;
        figures.extend(world.figures());
        world.close().await?;
        measured?;
    }
    println!("{}", table::render(&figures));
    Ok(())
}
