//! What moves has to fit: into the receiver's memory, and into the time that its source may be silent.

use std::time::{Duration, Instant};

use shardwright_testkit::{Cluster, Server, ServerBuilder, TestResult, each_engine, until};

use crate::rig::Home;

/// A key of slot 0.
const TAG: &str = "{06S}";
const MB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(20);

/// Writes so many keys of slot 0, of so many bytes each.
async fn fill(server: &Server, keys: usize, bytes: usize) -> TestResult {
    let value = "x".repeat(bytes);
    let mut connection = server.connection().await?;
    let numbers: Vec<usize> = (0..keys).collect();
    for some in numbers.chunks(200) {
        let mut set = redis::cmd("MSET");
        for n in some {
            set.arg(format!("{TAG}{n}")).arg(&value);
        }
        set.exec_async(&mut connection).await?;
    }
    Ok(())
}

async fn keys(server: &Server) -> Result<u64, shardwright_testkit::Error> {
    server.ask(&["CLUSTER", "COUNTKEYSINSLOT", "0"]).await
}

async fn evicted(server: &Server) -> Result<Option<String>, shardwright_testkit::Error> {
    server.field(&["INFO", "stats"], "evicted_keys").await
}

/// So much more than it uses now.
async fn limit(server: &Server, more: u64, policy: &str) -> TestResult {
    let used = server.field(&["INFO", "memory"], "used_memory").await?;
    let used: u64 = used.ok_or("it is told")?.parse()?;
    let most = (used + more).to_string();
    server
        .ask::<()>(&["CONFIG", "SET", "maxmemory-policy", policy])
        .await?;
    server
        .ask::<()>(&["CONFIG", "SET", "maxmemory", &most])
        .await?;
    Ok(())
}

/// What moves slot 0 from the first to the second.
fn reshard<'a>(cluster: &'a [String], more: &[&'a str]) -> Vec<&'a str> {
    let (from, to) = (cluster[0].as_str(), cluster[1].as_str());
    let words = [
        "reshard", from, "--from", from, "--to", to, "--slots", "0-0",
    ];
    [&words, more].concat()
}

/// Opens slot 0 between the first two, and moves some of its keys by hand.
async fn half_move(cluster: &Cluster, some: usize) -> TestResult {
    let (from, to) = (&cluster[0], &cluster[1]);
    let [a, b]: [String; 2] = [
        from.ask(&["CLUSTER", "MYID"]).await?,
        to.ask(&["CLUSTER", "MYID"]).await?,
    ];
    to.ask::<()>(&["CLUSTER", "SETSLOT", "0", "IMPORTING", &a])
        .await?;
    from.ask::<()>(&["CLUSTER", "SETSLOT", "0", "MIGRATING", &b])
        .await?;
    let port = to.port().to_string();
    for n in 0..some {
        let key = format!("{TAG}{n}");
        from.ask::<()>(&["MIGRATE", to.host(), &port, &key, "0", "1000"])
            .await?;
    }
    Ok(())
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_slot_goes_to_no_primary_that_would_delete_keys_for_it(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |b| b).await?;
        let at = cluster.addresses();
        fill(&cluster[0], 2_400, 16_000).await?;
        limit(&cluster[1], 20 * MB, "allkeys-lru").await?;

        home.run(&reshard(&at, &["--yes"])).must(3, &[
            "a person has to decide",
            "bytes of memory, about ",
            "at which it deletes keys",
            "--force",
        ]);
        assert_eq!((keys(&cluster[0]).await?, keys(&cluster[1]).await?), (2_400, 0));
        assert_eq!(evicted(&cluster[1]).await?.as_deref(), Some("0"));
        // What it amounts to is told by the slot's own keys, not by the average of all slots.
        let told = home.run(&reshard(&at, &[]));
        assert!(told.err.contains("about 2400 keys, ") || told.out.contains("about 2400 keys, "), "{told:?}");
        assert!(!format!("{told:?}").contains("estimated"), "{told:?}");

        home.run(&reshard(&at, &["--yes", "--force"]))
            .must(0, &["[OK]", "keys for lack of memory (evicted_keys) while slots moved, which --force allows"]);
        // It may still be deleting between the two questions.
        until("every key is there or was deleted for lack of room", LIMIT, || async {
            let told = evicted(&cluster[1]).await.map_err(|e| e.to_string())?;
            let deleted: u64 = told.and_then(|n| n.parse().ok()).ok_or("it is not told")?;
            let there = keys(&cluster[1]).await.map_err(|e| e.to_string())?;
            assert!(deleted > 0, "so it was right to refuse it");
            if there + deleted == 2_400 { Ok(()) } else { Err(format!("{there} and {deleted}")) }
        }).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_slot_that_stays_half_moved_for_lack_of_room_says_so(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |b| b).await?;
        let at = cluster.addresses();
        fill(&cluster[0], 600, 16_000).await?;
        half_move(&cluster, 50).await?;
        for (policy, does) in [("noeviction", "it refuses writes"), ("allkeys-lru", "it deletes keys")] {
            limit(&cluster[1], 4 * MB, policy).await?;
            home.run(&["fix", &at[0]])
                .must(3, &["slot 0 stays half moved", does, "raise its maxmemory"]);
            assert_eq!((keys(&cluster[0]).await?, keys(&cluster[1]).await?), (550, 50));
        }
        assert_eq!(evicted(&cluster[1]).await?.as_deref(), Some("0"));
        cluster[1].ask::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await?;
        home.run(&["fix", &at[0]]).must(0, &["[OK] the cluster is healthy"]);
        assert_eq!((keys(&cluster[0]).await?, keys(&cluster[1]).await?), (0, 600));
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_key_that_would_keep_its_source_silent_for_too_long_is_named(engine) {
        let home = Home::new()?;
        let brisk = |b: ServerBuilder| b.config("cluster-node-timeout", "1000");
        let cluster = Cluster::formed(&engine, 3, 0, brisk).await?;
        let at = cluster.addresses();
        fill(&cluster[0], 20, 10).await?;
        let great = format!("{TAG}great");
        cluster[0].ask::<()>(&["SETRANGE", &great, "150000000", "x"]).await?;
        let named = [great.as_str(), "node-timeout (1000 ms)", "set-timeout"];
        let begun = Instant::now();
        if !engine.name.starts_with("valkey-9") {
            home.run(&reshard(&at, &["--yes"])).must(1, &named);
            let nodes: String = cluster[0].ask(&["CLUSTER", "NODES"]).await?;
            assert!(!nodes.contains("->-"), "it is not left open: {nodes}");
            assert_eq!((keys(&cluster[0]).await?, keys(&cluster[1]).await?), (21, 0));
        }
        // A value of 150 MB keeps its server silent for a while itself.
        cluster.until_ok().await?;
        half_move(&cluster, 5).await?;
        // All others go, and what is left is named.
        home.run(&["fix", &at[0]]).must(1, &named);
        assert_eq!((keys(&cluster[0]).await?, keys(&cluster[1]).await?), (1, 20));
        assert!(begun.elapsed() < Duration::from_secs(60), "it ends by itself");
        home.run(&["set-timeout", &at[0], "10000"]).must(0, &[]);
        home.run(&["fix", &at[0]]).must(0, &["[OK] the cluster is healthy"]);
        assert_eq!((keys(&cluster[0]).await?, keys(&cluster[1]).await?), (0, 21));
        Ok(())
    }
}
