//! The demo: a cluster on this machine, a primary that dies, and every key still there.
//!
//! It does what a person would do, through the `shardwright` program and an ordinary cluster
//! client. It fails loudly where anything is not as promised; the cluster itself runs on.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "telling what happens is what this program is for"
)]

#[path = "../bench/local.rs"]
#[expect(dead_code, reason = "the benches use more of it")]
mod local;
mod steps;
mod watch;

use std::process::ExitCode;

fn main() -> ExitCode {
    let done = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(local::Failure::from)
        .and_then(|runtime| runtime.block_on(until_signalled()));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("\ndemo: FAILED: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Leaving by a signal drops what runs, and so ends the watch.
async fn until_signalled() -> Result<(), local::Failure> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        done = steps::all() => done,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}
