//! Forming a cluster.

use std::time::{Duration, Instant};

use shardwright_testkit::{Cluster, Server, each_engine};

use crate::scene::{AT_ONCE, SOON, greet, measured, refusal, seen_as_replica, until_synced};

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_meet_full_mesh_is_known_within_1s(engine) {
        let cluster = Cluster::start(&engine, 6, |builder| builder)?;
        let begun = Instant::now();
        cluster.meet_all().await?;
        cluster.until_known().await?;
        let took = begun.elapsed();
        measured("full mesh known", &engine, took);
        assert!(took < 2 * AT_ONCE, "{took:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_meet_wants_an_ip(engine) {
        let cluster = Cluster::start(&engine, 2, |builder| builder)?;
        let port = cluster[1].port().to_string();
        let said = refusal(&cluster[0], &["CLUSTER", "MEET", "localhost", &port]).await;
        assert!(said.contains("Invalid node address specified"), "{said}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_replicate_unknown_node_while_handshake(engine) {
        let cluster = Cluster::start(&engine, 2, |builder| builder)?;
        let id = cluster[1].id().await?;
        let mut a = cluster[0].connection().await?;
        let (host, port) = (cluster[1].host(), cluster[1].port());
        // One batch: nothing can happen between its commands.
        let mut batch = redis::pipe();
        batch.cmd("MULTI").ignore();
        batch.cmd("CLUSTER").arg(&["MEET", host]).arg(port);
        batch.cmd("CLUSTER").arg("INFO");
        batch.cmd("CLUSTER").arg("NODES");
        batch.cmd("CLUSTER").arg("REPLICATE").arg(&id);
        batch.cmd("EXEC");
        let replies = a.send_packed_commands(&batch, 0, 6).await?;
        let Some(redis::Value::Array(replies)) = replies.last() else {
            return Err(format!("{replies:?}").into());
        };
        let info: String = redis::from_redis_value(replies[1].clone())?;
        let nodes: String = redis::from_redis_value(replies[2].clone())?;
        assert!(info.contains("cluster_known_nodes:2"), "it counts the handshake: {info}");
        assert!(nodes.contains("handshake") && !nodes.contains(&id), "{nodes}");
        let redis::Value::ServerError(error) = &replies[3] else {
            return Err(format!("{:?}", replies[3]).into());
        };
        assert!(error.details().is_some_and(|said| said.contains("Unknown node")), "{error}");
        cluster.until_known().await?;
        cluster[0].ask::<()>(&["CLUSTER", "REPLICATE", &id]).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_set_config_epoch_only_when_alone(engine) {
        let cluster = Cluster::start(&engine, 2, |builder| builder)?;
        cluster[0].ask::<()>(&["CLUSTER", "SET-CONFIG-EPOCH", "1"]).await?;
        let said = refusal(&cluster[0], &["CLUSTER", "SET-CONFIG-EPOCH", "2"]).await;
        assert!(said.contains("already non-zero"), "{said}");
        cluster.meet_all().await?;
        cluster.until_known().await?;
        let said = refusal(&cluster[1], &["CLUSTER", "SET-CONFIG-EPOCH", "2"]).await;
        assert!(said.contains("only when the node does not know any other node"), "{said}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_mesh_meet_spreads_role(engine) {
        let mut cluster = Cluster::start(&engine, 6, |builder| {
            builder.config("repl-diskless-sync-delay", "0")
        })?;
        let spare = cluster.servers.split_off(3);
        cluster.form(3).await?;
        cluster.servers.extend(spare);
        cluster.meet_all().await?;
        cluster.until_known().await?;
        for at in 3..6 {
            let primary = cluster[at - 3].id().await?;
            cluster[at].ask::<()>(&["CLUSTER", "REPLICATE", &primary]).await?;
        }
        let begun = Instant::now();
        cluster.meet_all().await?;
        cluster.until_views("all roles are known", |view| view.matches("slave").count() == 3).await?;
        let took = begun.elapsed();
        measured("roles spread by mesh MEET", &engine, took);
        assert!(took < AT_ONCE, "{took:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_state_ok_after_writable_delay(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        // A restarted primary waits 2 s, counted from its own start, before it takes writes.
        cluster[0].kill9()?;
        let begun = Instant::now();
        cluster[0].restart()?;
        cluster.until_ok().await?;
        let took = begun.elapsed();
        measured("restart in place to cluster_state:ok", &engine, took);
        assert!(took > Duration::from_millis(1800), "{took:?}");
        assert!(took < Duration::from_secs(4), "{took:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_rejoin_delay_is_node_timeout(engine) {
        // A primary without slots and company counts as a minority. One that has lived longer
        // than the writable delay says ok only a node timeout (500 to 5000 ms) after that
        // ended, which is when it was given slots. The time-out can be changed live.
        let start = || Cluster::start(&engine, 3, |b| b.config("cluster-node-timeout", "5000"));
        let (mut slow, mut fast) = (start()?, start()?);
        let alone = Instant::now();
        shardwright_testkit::until("2.5 s of life", SOON, || async {
            let old = alone.elapsed() > Duration::from_millis(2500);
            if old { Ok(()) } else { Err("younger".to_owned()) }
        })
        .await?;
        for (cluster, ms, low, high) in [(&mut slow, 2500, 2300, 5000), (&mut fast, 500, 400, 1800)] {
            for server in &cluster.servers {
                let timeout = ms.to_string();
                server.ask::<()>(&["CONFIG", "SET", "cluster-node-timeout", &timeout]).await?;
            }
            let begun = Instant::now();
            cluster.form(3).await?;
            let took = begun.elapsed();
            measured(&format!("forming of servers older than 2 s, node timeout {ms}"), &engine, took);
            assert!(took > Duration::from_millis(low), "{took:?}");
            assert!(took < Duration::from_millis(high), "{took:?}");
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_repl_diskless_sync_delay(engine) {
        let primary = Server::builder(&engine).start()?;
        let first = Server::builder(&engine).start()?;
        let second = Server::builder(&engine).start()?;
        let port = primary.port().to_string();
        assert_eq!(
            primary.ask::<Vec<String>>(&["CONFIG", "GET", "repl-diskless-sync-delay"]).await?[1],
            "5"
        );
        first.ask::<()>(&["REPLICAOF", primary.host(), &port]).await?;
        let slow = until_synced(&first).await?;
        primary.ask::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "0"]).await?;
        second.ask::<()>(&["REPLICAOF", primary.host(), &port]).await?;
        let fast = until_synced(&second).await?;
        measured("first sync, delay 5", &engine, slow);
        measured("first sync, delay 0", &engine, fast);
        assert!(slow > Duration::from_secs(4), "{slow:?}");
        assert!(fast < Duration::from_millis(2500), "{fast:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn fact_role_is_learned_only_by_pings(engine) {
        let cluster = crate::scene::role_not_yet_known(&engine).await?;
        let id = cluster[3].id().await?;
        let begun = Instant::now();
        for viewer in 0..3 {
            shardwright_testkit::until("the role is known", SOON, || async {
                match seen_as_replica(&cluster[viewer], &id).await {
                    Ok(true) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }
        let took = begun.elapsed();
        measured("role known everywhere by gossip alone", &engine, took);
        assert!(took > Duration::from_millis(50), "{took:?}");
        assert!(took < Duration::from_secs(8), "{took:?}");
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn fact_replica_of_a_lesser_epoch_may_never_be_believed(engine) {
        // No other engine has this. No word of the replica's helps, greetings neither; a greater epoch does.
        let cluster = crate::scene::replica_heard_in_the_wrong_order(&engine).await?;
        let id = cluster[2].id().await?;
        let ignored = || cluster[1].log().matches("Ignore stale message").count();
        shardwright_testkit::until("many words are ignored", SOON, || async {
            greet(&cluster, 2, 1).await.map_err(|e| e.to_string())?;
            let count = ignored();
            if count > 20 { Ok(()) } else { Err(count.to_string()) }
        })
        .await?;
        assert!(!seen_as_replica(&cluster[1], &id).await?);
        cluster[0].ask::<()>(&["CLUSTER", "BUMPEPOCH"]).await?;
        let ((), took) = shardwright_testkit::until("the role is believed", SOON, || async {
            match seen_as_replica(&cluster[1], &id).await {
                Ok(true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        measured("role believed after the primary raised its epoch", &engine, took);
        Ok(())
    }
}
