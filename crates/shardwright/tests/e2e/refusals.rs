//! What an engine refuses for good ends the verb, with the engine's words; and every wait ends on a signal.

use std::time::{Duration, Instant};

use shardwright_testkit::{Cluster, Server, ServerBuilder, TestResult, each_engine, until};

use crate::rig::Home;

const LIMIT: Duration = Duration::from_secs(30);
/// A key of slot 0.
const TAG: &str = "{06S}";

/// Writes so many keys of slot 0, of so many bytes each.
async fn fill(server: &Server, keys: usize, bytes: usize) -> TestResult {
    let value = "x".repeat(bytes);
    let mut connection = server.connection().await?;
    for n in 0..keys {
        let mut set = redis::cmd("SET");
        set.arg(format!("{TAG}{n}")).arg(&value);
        set.exec_async(&mut connection).await?;
    }
    Ok(())
}

/// What moves slot 0 from the first to the second.
fn reshard<'a>(cluster: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let (from, to) = (cluster[0].as_str(), cluster[1].as_str());
    let words = [
        "reshard", from, "--from", from, "--to", to, "--slots", "0-0", "--yes",
    ];
    [&words, more].concat()
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0]
    async fn a_command_that_was_taken_away_ends_the_verb_with_the_servers_words(engine) {
        let home = Home::new()?;
        let gone = |b: ServerBuilder| b.config("rename-command", "MIGRATE \"\"");
        let cluster = Cluster::formed(&engine, 3, 0, gone).await?;
        fill(&cluster[0], 20, 10).await?;
        let begun = Instant::now();
        home.run(&reshard(&cluster.addresses(), &[])).must(1, &[
            &format!("{} does not know MIGRATE (unknown command", cluster[0].address()),
            "rename-command",
        ]);
        assert!(begun.elapsed() < LIMIT, "it does not go on until --timeout");
        let left: u64 = cluster[0].ask(&["CLUSTER", "COUNTKEYSINSLOT", "0"]).await?;
        assert_eq!(left, 20);
        let nodes: String = cluster[0].ask(&["CLUSTER", "NODES"]).await?;
        assert!(!nodes.contains("->-"), "the slot is closed again: {nodes}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn without_memory_slots_move_and_their_size_is_unknown(engine) {
        let home = Home::new()?;
        let gone = |b: ServerBuilder| b.config("rename-command", "MEMORY \"\"");
        let cluster = Cluster::formed(&engine, 3, 0, gone).await?;
        fill(&cluster[0], 200, 1_000).await?;
        let ran = home.run(&reshard(&cluster.addresses(), &[])).must(0, &["moved 1 slots"]);
        assert!(!ran.err.contains("MB/s"), "what is not known is not told: {ran:?}");
        let there: u64 = cluster[1].ask(&["CLUSTER", "COUNTKEYSINSLOT", "0"]).await?;
        assert_eq!(there, 200);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_8_0]
    async fn a_move_that_may_give_little_in_a_second_ends_on_a_signal(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |b| b).await?;
        fill(&cluster[0], 400, 1_000).await?;
        for bad in ["5", "5000000", "999B"] {
            home.run(&reshard(&cluster.addresses(), &["--bandwidth", bad])).must(2, &["with its unit"]);
        }
        let addresses = cluster.addresses();
        let words = reshard(&addresses, &["--bandwidth", "1KB", "-v"]);
        let moving = home.start(home.command(&words));
        until("keys move", LIMIT, || async {
            let here: Result<u64, _> = cluster[0].ask(&["CLUSTER", "COUNTKEYSINSLOT", "0"]).await;
            match here {
                Ok(here) if here < 400 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        moving.signal("INT", false);
        let begun = Instant::now();
        let ended = moving.end();
        assert!(begun.elapsed() < Duration::from_secs(20), "{ended:?}");
        assert!(ended.code == Some(130) || ended.code == Some(0), "{ended:?}");
        home.run(&["fix", &addresses[0]]).must(0, &["[OK] the cluster is healthy"]);
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn the_engines_own_move_needs_no_migrate_and_where_it_is_forbidden_the_verb_ends(engine) {
        let home = Home::new()?;
        let gone = |b: ServerBuilder| b.config("rename-command", "MIGRATE \"\"");
        let cluster = Cluster::formed(&engine, 3, 0, gone).await?;
        fill(&cluster[0], 20, 10).await?;
        home.run(&reshard(&cluster.addresses(), &[])).must(0, &["moved 1 slots"]);
        let counted = async |server: usize| cluster[server].ask::<u64>(&["CLUSTER", "COUNTKEYSINSLOT", "0"]).await;
        assert_eq!((counted(0).await?, counted(1).await?), (0, 20));

        // Back again, where that is forbidden.
        cluster[1].ask::<()>(&["ACL", "SETUSER", "default", "-cluster|migrateslots"]).await?;
        let begun = Instant::now();
        let at = cluster.addresses();
        home.run(&["reshard", &at[0], "--from", &at[1], "--to", &at[0], "--slots", "0-0", "--yes"]).must(1, &[
            &format!("{} forbids CLUSTER MIGRATESLOTS to this user", at[1]),
            "give the user the right to it",
        ]);
        assert!(begun.elapsed() < LIMIT, "it does not go on until --timeout");
        assert_eq!((counted(0).await?, counted(1).await?), (0, 20));
        let nodes: String = cluster[1].ask(&["CLUSTER", "NODES"]).await?;
        assert!(!nodes.contains("->-"), "the slot is closed again: {nodes}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn without_memory_slots_move_to_a_receiver_that_has_a_limit(engine) {
        let home = Home::new()?;
        let gone = |b: ServerBuilder| {
            b.config("rename-command", "MEMORY \"\"").config("maxmemory", "200mb").config("maxmemory-policy", "allkeys-lru")
        };
        let cluster = Cluster::formed(&engine, 3, 0, gone).await?;
        fill(&cluster[0], 200, 1_000).await?;
        home.run(&reshard(&cluster.addresses(), &[])).must(0, &["moved 1 slots"]);
        let there: u64 = cluster[1].ask(&["CLUSTER", "COUNTKEYSINSLOT", "0"]).await?;
        assert_eq!(there, 200);
        Ok(())
    }
}
