//! Many histories, each of its own seed: none may break what must never happen, and everything must occur.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use shardwright_sim::{Tally, play};

const SEEDS: u64 = 2_000;

#[test]
fn two_thousand_histories_without_a_violation() {
    let next = AtomicU64::new(1);
    let (tally, failures) = (Mutex::new(Tally::default()), Mutex::new(Vec::new()));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed > SEEDS {
                        return;
                    }
                    let outcome = play(seed, false);
                    tally.lock().expect("no player panics").add(&outcome);
                    if !outcome.violations.is_empty() {
                        let mut failures = failures.lock().expect("no player panics");
                        failures.push((seed, outcome.violations));
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().expect("no player panicked");
    let failures = failures.into_inner().expect("no player panicked");
    assert!(
        failures.is_empty(),
        "replay one with `cargo run --release -p shardwright-sim --bin sim -- --seed N`: {failures:#?}"
    );
    assert_eq!(tally.missing(), [""; 0], "never occurred:\n{tally}");
}

/// Histories that once broke something, and what.
const ONCE_BROKEN: [(u64, &str); 13] = [
    (
        1_161,
        "a link to its former primary was taken for one to the primary that it began to follow",
    ),
    (
        6_780,
        "a directory was set aside while the owner of some slots was silent",
    ),
    (
        8_778,
        "a volume was given up while the owner of some slots was silent",
    ),
    (
        10_674,
        "a volume was given up of a primary of which only we had heard",
    ),
    (
        12_953,
        "a copy that nobody could use any more was taken for the last",
    ),
    (
        13_285,
        "a pod made anew was still taken for the stranger at its old address",
    ),
    (
        13_608,
        "a replica too many was reset just after all others of its shard had died",
    ),
    (
        13_625,
        "a primary of which nobody had heard came back empty, and emptied the one that served its slots",
    ),
    (
        17_107,
        "a volume was given up though its node had been asked to become a primary",
    ),
    (
        18_427,
        "a forming of guests was given up because something else was asked for meanwhile",
    ),
    (
        19_997,
        "an old primary was held for ever, for what a stranger had said at its address",
    ),
    (
        7_973,
        "slots moved from a primary whose replica had been told to take its place",
    ),
    (
        17_815,
        "the simulator looked a stranger's key up as a write",
    ),
];

#[test]
fn histories_that_once_broke_something() {
    for (seed, what) in ONCE_BROKEN {
        assert_eq!(play(seed, false).violations, [""; 0], "seed {seed}: {what}");
    }
}

#[test]
fn a_seed_is_a_history() {
    for seed in 1..20 {
        let (once, again) = (play(seed, false), play(seed, true));
        assert_eq!(once.hash, again.hash, "seed {seed}");
        assert!(!again.lines.is_empty());
    }
    assert_ne!(play(1, false).hash, play(2, false).hash);
}
