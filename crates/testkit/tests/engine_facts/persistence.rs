//! What a restart keeps.

use std::time::{Duration, Instant};

use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{Cluster, Persistence, Server, each_engine, until};

use crate::scene::{SOON, measured, until_synced};

const KEYS: u64 = 500;

/// Writes keys to the first shard and waits until its replica has them.
async fn fill(cluster: &Cluster) -> Result<(), shardwright_testkit::Error> {
    let mut connection = cluster[0].connection().await?;
    for n in 0..KEYS {
        let key = format!("{{{}}}:{n}", tag_for(7));
        let words = ["SET", key.as_str(), "v"];
        let address = cluster[0].address();
        shardwright_testkit::server::ask_on::<()>(&mut connection, &address, &words).await?;
    }
    until("the replica has the keys", SOON, || async {
        match cluster[3].ask::<u64>(&["DBSIZE"]).await {
            Ok(KEYS) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
    .map(|_| ())
}

each_engine! {
    [valkey_9_1]
    async fn fact_a_replica_with_fewer_databases_mixes_keys(engine) {
        let primary = Server::builder(&engine).cluster().config("cluster-databases", "2").start()?;
        let replica = Server::builder(&engine).cluster().config("cluster-databases", "1").start()?;
        primary.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await?;
        primary.ask::<()>(&["CLUSTER", "MEET", "127.0.0.1", &replica.port().to_string()]).await?;
        let id = primary.id().await?;
        let follows = || async {
            replica.ask::<()>(&["CLUSTER", "REPLICATE", &id]).await.map_err(|e| e.to_string())
        };
        until("it follows", SOON, follows).await?;
        until_synced(&replica).await?;
        let mut connection = primary.connection().await?;
        for (database, value) in [("0", "zero"), ("1", "one")] {
            redis::cmd("SELECT").arg(database).query_async::<()>(&mut connection).await?;
            redis::cmd("SET").arg("k").arg(value).query_async::<()>(&mut connection).await?;
        }
        let mixed = || async {
            let keys: String = replica.ask(&["INFO", "keyspace"]).await.map_err(|e| e.to_string())?;
            let mut own = replica.connection().await.map_err(|e| e.to_string())?;
            redis::cmd("READONLY").query_async::<()>(&mut own).await.map_err(|e| e.to_string())?;
            let value: String = redis::cmd("GET").arg("k").query_async(&mut own).await.map_err(|e| e.to_string())?;
            if value == "one" && keys.contains("db0:keys=1") { Ok(()) } else { Err(format!("{value} {keys}")) }
        };
        until("database 0 has what was written to database 1", SOON, mixed).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_empty_primary_restart_empties_its_replica(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        fill(&cluster).await?;
        cluster[0].kill9()?;
        cluster[0].restart()?;
        let ((), took) = until("the replica is as empty as its primary", SOON, || async {
            match cluster[3].ask::<u64>(&["DBSIZE"]).await {
                Ok(0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        measured("replica emptied by an empty primary", &engine, took);
        assert_eq!(cluster[0].ask::<u64>(&["DBSIZE"]).await?, 0);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_aof_restart_in_place_keeps_keys(engine) {
        let mut cluster =
            Cluster::formed(&engine, 3, 1, |builder| builder.persistence(Persistence::AofAlways)).await?;
        fill(&cluster).await?;
        cluster[0].kill9()?;
        let begun = Instant::now();
        cluster[0].restart()?;
        let key = format!("{{{}}}:new", tag_for(7));
        until("it takes writes again", SOON, || async {
            cluster[0].ask::<String>(&["SET", &key, "v"]).await.map_err(|e| format!("{e:?}"))
        })
        .await?;
        let took = begun.elapsed();
        measured("AOF restart in place to the first write", &engine, took);
        assert!(took > Duration::from_millis(1800) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(cluster[0].ask::<u64>(&["DBSIZE"]).await?, KEYS + 1);
        Ok(())
    }
}
