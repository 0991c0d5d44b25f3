//! Plays simulated histories on all cores, and says what was played. `--help` says how.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is what the program is for"
)]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use shardwright_sim::{Outcome, Tally, play};

const HELP: &str = "\
sim: simulated histories of a cluster with faults, judged by an oracle

  sim [--seeds N] [--from K]   plays N histories (2000), the first of seed K (1)
  sim --seed K                 plays one, and prints all that happened

Exit status: 0 no violation and everything occurred, 1 otherwise, 2 usage.";

/// Above so many histories every kind of action and of fault must have occurred.
const COMPLETE_FROM: u64 = 2_000;
/// How many failing histories are shown before it gives up.
const FAILURES_MAX: usize = 10;

enum Wish {
    Many { seeds: u64, from: u64 },
    One(u64),
    Help,
}

fn wish(args: impl Iterator<Item = String>) -> Option<Wish> {
    let (mut seeds, mut from, mut one) = (2_000, 1, None);
    let mut args = args.peekable();
    while let Some(arg) = args.next() {
        if arg == "--help" || arg == "-h" {
            return Some(Wish::Help);
        }
        let number: u64 = args.next()?.parse().ok()?;
        match arg.as_str() {
            "--seeds" => seeds = number,
            "--from" => from = number,
            "--seed" => one = Some(number),
            _ => return None,
        }
    }
    Some(one.map_or(Wish::Many { seeds, from }, Wish::One))
}

fn main() -> ExitCode {
    match wish(std::env::args().skip(1)) {
        None => {
            eprintln!("{HELP}");
            ExitCode::from(2)
        }
        Some(Wish::Help) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Some(Wish::One(seed)) => one(seed),
        Some(Wish::Many { seeds, from }) => many(seeds, from),
    }
}

fn one(seed: u64) -> ExitCode {
    let outcome = play(seed, true);
    for line in &outcome.lines {
        println!("{line}");
    }
    println!("hash {:016x}", outcome.hash);
    if outcome.violations.is_empty() {
        println!("no violation");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn many(seeds: u64, from: u64) -> ExitCode {
    let begun = Instant::now();
    let (next, failures, stop) = (
        AtomicU64::new(from),
        Mutex::new(Vec::<Outcome>::new()),
        AtomicBool::new(false),
    );
    let tally = Mutex::new(Tally::default());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    let outcome = play(seed, false);
                    let mut tally = tally.lock().expect("no player panics while it counts");
                    tally.add(&outcome);
                    if tally.histories.is_multiple_of(500) {
                        let s = begun.elapsed().as_secs();
                        eprintln!("{} histories, {s} s", tally.histories);
                    }
                    if let Some(first) = outcome.violations.first() {
                        // Said at once too: a long run may be cut off.
                        eprintln!("seed {seed} FAILS: {first}");
                        let mut failures = failures.lock().expect("no player panics here");
                        failures.push(outcome);
                        stop.store(failures.len() >= FAILURES_MAX, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no player panicked");
    let mut failures = failures.into_inner().expect("no player panicked");
    failures.sort_by_key(|o| o.seed);
    let ms = begun.elapsed().as_millis();
    report(&tally, &failures, ms);
    let missing = if seeds >= COMPLETE_FROM {
        tally.missing()
    } else {
        Vec::new()
    };
    if !missing.is_empty() {
        println!("never occurred, and must: {}", missing.join(", "));
    }
    if failures.is_empty() && missing.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn report(tally: &Tally, failures: &[Outcome], ms: u128) {
    print!("{tally}");
    let per_s = u128::from(tally.histories) * 1000 / ms.max(1);
    println!("{} s, {per_s} histories/s", ms / 1000);
    for outcome in failures {
        println!("\nseed {} FAILS:", outcome.seed);
        for violation in &outcome.violations {
            println!("  {violation}");
        }
        println!(
            "  replay: cargo run --release -p shardwright-sim --bin sim -- --seed {}",
            outcome.seed
        );
    }
    if failures.is_empty() {
        println!("no violation");
    }
}
