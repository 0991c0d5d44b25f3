//! Who owns a slot, and what is refused.

use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{Cluster, Server, each_engine, until};

use crate::scene::{never_role, refusal, until_role};

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_setslot_node_refused_at_source_with_keys(engine) {
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let to = cluster[1].id().await?;
        let key = format!("{{{}}}:1", tag_for(7));
        cluster[0].ask::<()>(&["SET", &key, "v"]).await?;
        let said = refusal(&cluster[0], &["CLUSTER", "SETSLOT", "7", "NODE", &to]).await;
        assert!(said.contains("while I still hold keys for this hash slot"), "{said}");
        cluster[0].ask::<()>(&["DEL", &key]).await?;
        cluster[0].ask::<()>(&["CLUSTER", "SETSLOT", "7", "NODE", &to]).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_setslot_of_an_unknown_node_is_refused(engine) {
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let stranger = "0123456789012345678901234567890123456789";
        for state in ["MIGRATING", "NODE"] {
            let said = refusal(&cluster[0], &["CLUSTER", "SETSLOT", "7", state, stranger]).await;
            assert!(said.to_lowercase().contains("know"), "{said}");
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_keys_of_others_slots_end_with_a_restart(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 0, |builder| builder.config("appendonly", "yes")).await?;
        let (from, to) = (cluster[0].id().await?, cluster[1].id().await?);
        let key = format!("{{{}}}:1", tag_for(7));
        let port = cluster[1].port().to_string();
        cluster[0].ask::<()>(&["SET", &key, "v"]).await?;
        cluster[1].ask::<()>(&["CLUSTER", "SETSLOT", "7", "IMPORTING", &from]).await?;
        cluster[0].ask::<()>(&["CLUSTER", "SETSLOT", "7", "MIGRATING", &to]).await?;
        cluster[0].ask::<()>(&["MIGRATE", cluster[1].host(), &port, &key, "0", "5000"]).await?;
        for server in &cluster.servers[..2] {
            server.ask::<()>(&["CLUSTER", "SETSLOT", "7", "STABLE"]).await?;
        }
        assert_eq!(cluster[1].ask::<u64>(&["CLUSTER", "COUNTKEYSINSLOT", "7"]).await?, 1, "it stays");
        cluster.servers[1].kill9()?;
        cluster.servers[1].restart()?;
        until("it has loaded its data", std::time::Duration::from_secs(10), || async {
            let keys = cluster[1].ask::<u64>(&["CLUSTER", "COUNTKEYSINSLOT", "7"]).await;
            let nodes = cluster[1].ask::<String>(&["CLUSTER", "NODES"]).await;
            let shows = nodes.map_err(|e| e.to_string())?.contains(&format!("[7-<-{from}]"));
            let valkey = engine.name.starts_with("valkey");
            match keys.map_err(|e| e.to_string())? {
                0 if valkey => Ok(()),
                1 if !valkey && shows => Ok(()),
                other => Err(format!("{other} keys, taken in: {shows}")),
            }
        })
        .await?;
        Ok(())
    }
}

/// Two primaries, the second with the last slot only, which it gives to the first.
async fn give_last_slot(
    engine: &shardwright_testkit::Engine,
    migration: &str,
) -> Result<Cluster, shardwright_testkit::Error> {
    let cluster = Cluster::start(engine, 2, |builder| {
        builder.config("cluster-allow-replica-migration", migration)
    })?;
    let ranges = [("1", "0", "16382"), ("2", "16383", "16383")];
    for (server, (epoch, first, last)) in cluster.servers.iter().zip(ranges) {
        server
            .ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", epoch])
            .await?;
        server
            .ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", first, last])
            .await?;
    }
    cluster.meet_all().await?;
    cluster.until_known().await?;
    cluster.until_ok().await?;
    let (to, from) = (cluster[0].id().await?, cluster[1].id().await?);
    cluster[0]
        .ask::<()>(&["CLUSTER", "SETSLOT", "16383", "IMPORTING", &from])
        .await?;
    cluster[1]
        .ask::<()>(&["CLUSTER", "SETSLOT", "16383", "MIGRATING", &to])
        .await?;
    cluster[0]
        .ask::<()>(&["CLUSTER", "SETSLOT", "16383", "NODE", &to])
        .await?;
    // The receiver's new epoch may have told it already; then there is nothing left to set.
    match cluster[1]
        .ask::<()>(&["CLUSTER", "SETSLOT", "16383", "NODE", &to])
        .await
    {
        Err(shardwright_testkit::Error::Redis { source, .. })
            if source
                .detail()
                .is_some_and(|said| said.contains("SETSLOT only with")) => {}
        other => other?,
    }
    Ok(cluster)
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_last_slot_primary_becomes_replica(engine) {
        let cluster = give_last_slot(&engine, "yes").await?;
        until_role(&cluster[1], "slave").await?;
        let to = cluster[0].id().await?;
        let said = refusal(&cluster[1], &["CLUSTER", "SETSLOT", "16383", "NODE", &to]).await;
        assert!(said.contains("Please use SETSLOT only with"), "{said}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_last_slot_primary_stays_without_replica_migration(engine) {
        let cluster = give_last_slot(&engine, "no").await?;
        never_role(&cluster[1], "slave", std::time::Duration::from_millis(1500)).await?;
        Ok(())
    }
}

/// Who reads what, by the versions of sender and receiver.
const READS: [(&str, [&str; 4]); 4] = [
    (
        "redis-7.0",
        ["redis-7.0", "redis-7.4", "valkey-8.0", "valkey-9.1"],
    ),
    ("redis-7.4", ["redis-7.4", "", "", ""]),
    ("valkey-8.0", ["redis-7.4", "valkey-8.0", "valkey-9.1", ""]),
    ("valkey-9.1", ["valkey-9.1", "", "", ""]),
];

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_keys_are_read_by_their_format(engine) {
        let source = Server::builder(&engine).start()?;
        source.ask::<()>(&["SET", "k", "v"]).await?;
        let mut connection = source.connection().await?;
        let payload: Vec<u8> = redis::cmd("DUMP").arg("k").query_async(&mut connection).await?;
        for (_, receivers) in READS.iter().filter(|(sender, _)| *sender == engine.name) {
            for (other, _) in READS {
                let Ok(found) = shardwright_testkit::engine(other) else { continue };
                let target = Server::builder(&found).start()?;
                let mut connection = target.connection().await?;
                let mut restore = redis::cmd("RESTORE");
                restore.arg("k").arg(0).arg(&payload[..]);
                let loaded: Result<(), redis::RedisError> = restore.query_async(&mut connection).await;
                let reads = receivers.contains(&other);
                assert_eq!(loaded.is_ok(), reads, "{} → {other}: {loaded:?}", engine.name);
            }
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_a_copy_is_read_by_its_format(engine) {
        // A whole copy as a replica takes it: what can't be read is asked for again and again, and never there.
        let primary = Server::builder(&engine).config("repl-diskless-sync-delay", "0").start()?;
        primary.ask::<()>(&["SET", "k", "v"]).await?;
        let (host, port) = (primary.host().to_owned(), primary.port().to_string());
        for (_, receivers) in READS.iter().filter(|(sender, _)| *sender == engine.name) {
            for (other, _) in READS {
                let Ok(found) = shardwright_testkit::engine(other) else { continue };
                let replica = Server::builder(&found).start()?;
                replica.ask::<()>(&["REPLICAOF", &host, &port]).await?;
                // Valkey 9 writes the older form for whoever asks for it, as long as no key needs the newer one.
                let older = engine.name == "valkey-9.1" && ["valkey-8.0", "redis-7.4"].contains(&other);
                let reads = receivers.contains(&other) || older;
                let ended = || async {
                    let link = replica.field(&["INFO", "replication"], "master_link_status").await;
                    let up = link.is_ok_and(|link| link.as_deref() == Some("up"));
                    let log = replica.log();
                    let refused = log.contains("Can't handle RDB format version") || log.contains("RDB version");
                    if up || refused { Ok(up) } else { Err(log) }
                };
                let (up, _) = shardwright_testkit::until("the copy is taken or refused", std::time::Duration::from_secs(20), ended).await?;
                assert_eq!(up, reads, "{} → {other}", engine.name);
            }
        }
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn fact_an_older_replica_lacks_what_it_does_not_know(engine) {
        let Ok(older) = shardwright_testkit::engine("valkey-8.0") else { return Ok(()) };
        let primary = Server::builder(&engine).config("repl-diskless-sync-delay", "0").start()?;
        primary.ask::<()>(&["HSET", "h", "f", "v"]).await?;
        let (host, port) = (primary.host().to_owned(), primary.port().to_string());
        let replica = Server::builder(&older).start()?;
        replica.ask::<()>(&["REPLICAOF", &host, &port]).await?;
        crate::scene::until_synced(&replica).await?;
        // The stream goes on, without the command.
        primary.ask::<()>(&["HEXPIRE", "h", "1000", "FIELDS", "1", "f"]).await?;
        primary.ask::<()>(&["SET", "after", "v"]).await?;
        shardwright_testkit::until("what came after is there", crate::scene::SOON, || async {
            match replica.ask::<Option<String>>(&["GET", "after"]).await {
                Ok(Some(_)) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        assert!(replica.log().contains("unknown command"), "{}", replica.log());
        // And a whole copy with such a key is none.
        let another = Server::builder(&older).start()?;
        another.ask::<()>(&["REPLICAOF", &host, &port]).await?;
        shardwright_testkit::until("the copy fails", crate::scene::SOON, || async {
            let log = primary.log();
            if log.contains("in RDB version 11") { Ok(()) } else { Err(log) }
        })
        .await?;
        let link = another.field(&["INFO", "replication"], "master_link_status").await?;
        assert_eq!(link.as_deref(), Some("down"));
        Ok(())
    }
}
