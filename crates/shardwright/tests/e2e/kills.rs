//! Slots move, something is killed, and every acknowledged write is there afterwards. `make bench-kills` plays many more.

#![expect(
    clippy::print_stderr,
    reason = "the seed of a run that fails has to be known"
)]

use std::path::PathBuf;

use shardwright_testkit::kills::{Kills, Victim};
use shardwright_testkit::{Engine, Persistence, each_engine};

/// How often each victim is killed.
const ROUNDS: u64 = 1;

/// Redis does not tell a replica which slots are half moved. Where a source is failed over and a client then writes a
/// key anew that the target has, nobody can prove which value is newer: the slot stays open, with both, until a person
/// decides.
fn may_be_undecided(engine: &Engine, victim: Victim) -> bool {
    let failed_over = matches!(victim, Victim::Source | Victim::SourceFailedOver);
    engine.name.starts_with("redis") && failed_over
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn no_acknowledged_write_is_lost_when_something_dies_while_slots_move(engine) {
        let program = PathBuf::from(env!("CARGO_BIN_EXE_shardwright"));
        // Every write is on the disk before it is acknowledged: a kill takes nothing that the engine had not written.
        let begin = || Kills::begin(&engine, program.clone(), Persistence::AofAlways);
        let mut kills = begin().await?;
        let mut seed = 1;
        for _ in 0..ROUNDS {
            for victim in Victim::ALL {
                if !victim.keeps_all() {
                    continue;
                }
                eprintln!("{engine}, seed {seed}: {victim}");
                let run = kills.run(victim, seed).await?;
                assert_eq!(run.lost, [], "{victim}, seed {seed}, of {} acknowledged writes", run.acked);
                if run.undecided {
                    assert!(may_be_undecided(&engine, victim), "{victim}, seed {seed}");
                    kills = begin().await?;
                }
                seed += 1;
            }
        }
        Ok(())
    }
}
