//! Two clusters that are made one by a `CLUSTER MEET` of a node of the other: of two owners of a slot the one with the greater
//! config epoch stays.

use std::time::{Duration, Instant};

use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{
    Cluster, Engine, Error, Kind, Server, ServerBuilder, Version, each_engine, until,
};

use crate::scene::{SOON, measured, refusal, role, row, until_role};

/// From this Valkey on a primary that loses its last slots deletes their keys, and nodes introduce themselves again.
const VALKEY_8_1: Version = Version {
    major: 8,
    minor: 1,
    patch: 0,
};

/// From this Redis on nodes tell others whom they forgot.
const REDIS_7_2: Version = Version {
    major: 7,
    minor: 2,
    patch: 0,
};

/// How long a primary of the other cluster waits before it begins a copy: so that what comes before that can be looked at.
fn slowly(builder: ServerBuilder) -> ServerBuilder {
    builder.config("repl-diskless-sync-delay", "60")
}

/// Two clusters of so many shards without replicas. The second has the greater epochs, and nobody has met yet.
async fn two_clusters(engine: &Engine, shards: [usize; 2]) -> Result<[Cluster; 2], Error> {
    let [few, many] = shards;
    let ours = Cluster::formed(engine, few, 0, slowly).await?;
    let theirs = Cluster::formed_above(engine, many, 0, 20, slowly).await?;
    Ok([ours, theirs])
}

async fn meet(from: &Server, to: &Server) -> Result<(), Error> {
    let port = to.port().to_string();
    from.ask(&["CLUSTER", "MEET", to.host(), &port]).await
}

async fn replication_id(server: &Server) -> Result<Option<String>, Error> {
    server
        .field(&["INFO", "replication"], "master_replid")
        .await
}

each_engine! {
    [redis_7_0, redis_7_4]
    async fn fact_a_met_cluster_takes_slots_by_its_epochs(engine) {
        let [ours, theirs] = two_clusters(&engine, [3, 3]).await?;
        let key = format!("{{{}}}", tag_for(0));
        ours[0].ask::<()>(&["SET", &key, "ours"]).await?;
        let stream = replication_id(&ours[0]).await?;
        meet(&ours[0], &theirs[0]).await?;
        let met = Instant::now();
        // A primary that loses all its slots to one node follows that one.
        until_role(&ours[0], "slave").await?;
        measured("a shard of a met cluster is taken", &engine, met.elapsed());
        // Until its copy is done it has its own data, in its own stream.
        assert_eq!(replication_id(&ours[0]).await?, stream);
        assert_eq!(ours[0].ask::<u64>(&["DBSIZE"]).await?, 1);
        for (shard, server) in ours.servers.iter().enumerate() {
            until_role(server, "slave").await?;
            let (id, by) = (server.id().await?, theirs[shard].id().await?);
            assert!(row(server, &id).await?.contains(&by), "it follows who has its slots");
        }
        measured("all shards of a met cluster are taken", &engine, met.elapsed());
        // It can't forget whom it follows; by a takeover it owns its slots again, with its data, and then it can.
        let foreign = theirs[0].id().await?;
        let refused = refusal(&ours[0], &["CLUSTER", "FORGET", &foreign]).await;
        assert!(refused.contains("Can't forget my"), "{refused}");
        ours[0].ask::<()>(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await?;
        assert_eq!(role(&ours[0]).await?, "master");
        ours[0].ask::<()>(&["CLUSTER", "FORGET", &foreign]).await?;
        assert_eq!(ours[0].ask::<u64>(&["DBSIZE"]).await?, 1);
        let id = ours[0].id().await?;
        assert!(row(&ours[0], &id).await?.contains("0-5460"));
        // The other cluster knows it still, and believes its greater epoch.
        until_role(&theirs[0], "slave").await?;
        Ok(())
    }
}

each_engine! {
    [valkey_8_0, valkey_9_1]
    async fn fact_a_valkey_that_loses_its_last_slots_to_a_met_cluster_stays_a_primary(engine) {
        // Of another shard it follows nobody by itself, with cluster-allow-replica-migration no.
        let [ours, theirs] = two_clusters(&engine, [3, 3]).await?;
        let key = format!("{{{}}}", tag_for(0));
        ours[0].ask::<()>(&["SET", &key, "ours"]).await?;
        meet(&ours[0], &theirs[0]).await?;
        let id = ours[0].id().await?;
        until("its slots are taken", SOON, || async {
            let own = row(&ours[0], &id).await.map_err(|e| e.to_string())?;
            if own.contains("0-5460") { Err(own) } else { Ok(()) }
        })
        .await?;
        assert_eq!(role(&ours[0]).await?, "master");
        let kept = u64::from(engine.version < VALKEY_8_1);
        assert_eq!(ours[0].ask::<u64>(&["DBSIZE"]).await?, kept);
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn fact_a_forgotten_node_introduces_itself_again(engine) {
        let [ours, theirs] = two_clusters(&engine, [3, 3]).await?;
        meet(&ours[0], &theirs[0]).await?;
        let mut foreign = Vec::new();
        for server in &theirs.servers {
            foreign.push(server.id().await?);
        }
        until("all know all", SOON, || async {
            for server in ours.servers.iter().chain(&theirs.servers) {
                let nodes = server.ask::<String>(&["CLUSTER", "NODES"]).await;
                let nodes = nodes.map_err(|e| e.to_string())?;
                if nodes.lines().filter(|row| row.contains(" connected")).count() < 6 {
                    return Err(nodes);
                }
            }
            Ok(())
        })
        .await?;
        for server in &ours.servers {
            for id in &foreign {
                server.ask::<()>(&["CLUSTER", "FORGET", id]).await?;
            }
        }
        assert_eq!(row(&ours[0], &foreign[0]).await?, "");
        // Whom others tell of is banned for 60 s; these tell of themselves, and know ours still. Which of them does so first,
        // and to whom, is a matter of their links.
        let again = until("one is listed again", Duration::from_secs(40), || async {
            for server in &ours.servers {
                let nodes = server.ask::<String>(&["CLUSTER", "NODES"]).await;
                let nodes = nodes.map_err(|e| e.to_string())?;
                if foreign.iter().any(|id| nodes.contains(id.as_str())) {
                    return Ok(());
                }
            }
            Err("none is listed".to_owned())
        });
        let ((), took) = again.await?;
        measured("a forgotten node introduces itself again", &engine, took);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_who_is_forgotten_forgets_whom_the_same_node_forgot(engine) {
        // From Redis 7.2 on a pong names whom its sender forgot; so does Valkey, but not yet 8.0. Who still knows the
        // sender believes it, be it forgotten itself. In one transaction as well.
        let gossiped = match engine.kind {
            Kind::Redis => engine.version >= REDIS_7_2,
            Kind::Valkey => engine.version >= VALKEY_8_1,
        };
        let cluster = Cluster::formed(&engine, 3, 0, slowly).await?;
        let (b, c) = (cluster[1].id().await?, cluster[2].id().await?);
        let mut forget = redis::pipe();
        forget.atomic();
        for id in [&b, &c] {
            forget.cmd("CLUSTER").arg("FORGET").arg(id.as_str());
        }
        let mut connection = cluster[0].connection().await?;
        forget.query_async::<()>(&mut connection).await?;
        let forgotten = until("they forget each other", Duration::from_secs(3), || async {
            match row(&cluster[1], &c).await {
                Ok(row) if row.is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        assert_eq!(forgotten.is_ok(), gossiped, "{forgotten:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_9_1]
    async fn fact_a_primary_that_loses_slots_to_a_met_cluster_deletes_their_keys(engine) {
        // Who takes its slots has others beside them: with cluster-allow-replica-migration no, nobody follows that. Valkey 8.0
        // keeps the keys of the last slots that it loses.
        let [ours, theirs] = two_clusters(&engine, [3, 2]).await?;
        let key = format!("{{{}}}", tag_for(0));
        ours[0].ask::<()>(&["SET", &key, "ours"]).await?;
        meet(&ours[0], &theirs[0]).await?;
        let gone = until("its keys are gone", SOON, || async {
            match ours[0].ask::<u64>(&["DBSIZE"]).await {
                Ok(0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        });
        let ((), took) = gone.await?;
        measured("keys of slots that a met cluster took are deleted", &engine, took);
        assert_eq!(role(&ours[0]).await?, "master");
        // Once it has forgotten the other, its slots are nobody's, and it may have them by its old epoch.
        let foreign = theirs[0].id().await?;
        ours[0].ask::<()>(&["CLUSTER", "FORGET", &foreign]).await?;
        let id = ours[0].id().await?;
        assert!(!row(&ours[0], &id).await?.contains("0-5460"));
        ours[0].ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "5460"]).await?;
        assert!(row(&ours[0], &id).await?.contains("0-5460"));
        assert_eq!(role(&theirs[0]).await?, "master", "its epoch is the greater one still");
        Ok(())
    }
}
