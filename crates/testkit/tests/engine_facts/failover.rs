//! Failovers: with the primary, by vote, and without votes.

use std::time::{Duration, Instant};

use shardwright_engine::{Access, Client, Endpoint, Unreachable, probe};
use shardwright_testkit::slots::tag_for;
use shardwright_testkit::{Cluster, Error, each_engine};

use crate::scene::{
    AT_ONCE, measured, never_role, role_not_yet_known, row, seen_as_replica, until_role,
};

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_held_connection_reports_death_in_ms(engine) {
        let mut cluster = Cluster::start(&engine, 1, |builder| builder)?;
        let endpoint = Endpoint::new(cluster[0].host(), cluster[0].port());
        let client = Client::connect(&endpoint, &Access::default()).await?;
        client.ping().await?;
        let watching = tokio::spawn(async move {
            client.closed().await;
            Instant::now()
        });
        let killed = Instant::now();
        cluster[0].kill9()?;
        let noticed = watching.await?;
        let refused = probe(&endpoint, Duration::from_secs(1)).await;
        measured("death noticed on a held connection", &engine, noticed - killed);
        assert!(noticed - killed < Duration::from_millis(100), "{:?}", noticed - killed);
        assert_eq!(refused.expect_err("nothing listens"), Unreachable::Refused);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_switchover_takes_ms(engine) {
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER"]).await?;
        let took = until_role(&cluster[3], "master").await?;
        measured("switchover", &engine, took);
        assert!(took < AT_ONCE, "{took:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_force_after_death_with_agreed_views_takes_ms(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        cluster[0].kill9()?;
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
        let took = until_role(&cluster[3], "master").await?;
        measured("FORCE after kill -9", &engine, took);
        assert!(took < AT_ONCE, "{took:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_takeover_needs_no_vote(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        cluster[0].kill9()?;
        cluster[1].kill9()?;
        // One of three primaries is no majority.
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
        never_role(&cluster[3], "master", Duration::from_millis(800)).await?;
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await?;
        let took = until_role(&cluster[3], "master").await?;
        measured("TAKEOVER", &engine, took);
        assert!(took < AT_ONCE, "{took:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_frozen_voter_delays_force(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        cluster[1].freeze()?;
        cluster[0].kill9()?;
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
        never_role(&cluster[3], "master", Duration::from_millis(800)).await?;
        cluster[1].thaw()?;
        let took = until_role(&cluster[3], "master").await?;
        measured("FORCE after a frozen voter thawed", &engine, took);
        assert!(took < AT_ONCE, "{took:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn fact_force_denied_while_voters_see_a_primary(engine) {
        let mut cluster = role_not_yet_known(&engine).await?;
        cluster[0].kill9()?;
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
        never_role(&cluster[3], "master", Duration::from_millis(600)).await?;
        let logs = cluster[1].log() + &cluster[2].log();
        assert!(logs.contains("it is a master node"), "{logs}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn fact_denied_election_blocks_new_force(engine) {
        let mut cluster = role_not_yet_known(&engine).await?;
        let id = cluster[3].id().await?;
        cluster[0].kill9()?;
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
        never_role(&cluster[3], "master", Duration::from_millis(600)).await?;
        // Now every voter learns the role; a new election would be won.
        let dead = cluster.servers.remove(0);
        cluster.meet_all().await?;
        cluster.until_views("the role is known", |view| {
            view.lines().any(|row| row.starts_with(&id) && row.contains("slave"))
        })
        .await?;
        let replica = &cluster[2];
        replica.ask::<()>(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
        never_role(replica, "master", Duration::from_millis(2500)).await?;
        drop(dead);
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn fact_role_change_is_told_at_once(engine) {
        // On Valkey the voters know the new role before the replica is even synced, so the
        // scene of a role that is not known cannot be set; FORCE right after works.
        let mut cluster = Cluster::start(&engine, 4, |builder| {
            builder.config("repl-diskless-sync-delay", "0").config("cluster-node-timeout", "5000")
        })?;
        let spare = cluster.servers.pop().expect("four were started");
        cluster.form(3).await?;
        cluster.servers.push(spare);
        cluster.meet_all().await?;
        cluster.until_known().await?;
        let (primary, id) = (cluster[0].id().await?, cluster[3].id().await?);
        cluster[3].ask::<()>(&["CLUSTER", "REPLICATE", &primary]).await?;
        let begun = Instant::now();
        for viewer in 0..3 {
            shardwright_testkit::until("the role is known", crate::scene::SOON, || async {
                match seen_as_replica(&cluster[viewer], &id).await {
                    Ok(true) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
        }
        measured("role known everywhere by itself", &engine, begun.elapsed());
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn fact_switchover_is_ignored_by_a_primary_that_does_not_know_its_replica(engine) {
        let cluster = role_not_yet_known(&engine).await?;
        // The answer is OK, and nothing happens.
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER"]).await?;
        never_role(&cluster[3], "master", Duration::from_millis(600)).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_second_vote_about_a_primary_waits_two_node_timeouts(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        // Votes about server 0, then about server 3, each for the first time.
        for (dies, to) in [(0, 3), (3, 0)] {
            cluster[dies].kill9()?;
            cluster[to].ask::<()>(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
            until_role(&cluster[to], "master").await?;
            cluster[dies].restart()?;
            until_role(&cluster[dies], "slave").await?;
            cluster.meet_all().await?;
            cluster.until_agreed().await?;
        }
        // The second vote about server 0, within 2 × 5 s of the first.
        cluster[0].kill9()?;
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER", "FORCE"]).await?;
        if engine.name == "redis-7.0" {
            never_role(&cluster[3], "master", Duration::from_millis(1500)).await?;
            let logs = cluster[1].log() + &cluster[2].log();
            assert!(logs.contains("can't vote about this master before"), "{logs}");
        } else {
            let took = until_role(&cluster[3], "master").await?;
            assert!(took < AT_ONCE, "{took:?}");
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_recent_winner_promotes_itself_with_old_votes(engine) {
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        for to in [3, 0] {
            cluster[to].ask::<()>(&["CLUSTER", "FAILOVER"]).await?;
            until_role(&cluster[to], "master").await?;
            cluster.meet_all().await?;
            cluster.until_agreed().await?;
        }
        // Server 3 won an election less than 2 × 5 s ago, without having been restarted since.
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER"]).await?;
        until_role(&cluster[3], "master").await?;
        let key = format!("{{{}}}:lost", tag_for(7));
        let winner = if engine.name == "redis-7.0" { 0 } else { 3 };
        match cluster[3].ask::<()>(&["SET", &key, "v"]).await {
            // It may be a replica again so soon.
            Err(Error::Redis { source, .. }) if winner == 0 && source.code() == Some("MOVED") => {}
            answer => answer?,
        }
        cluster.until_agreed().await?;
        until_role(&cluster[winner], "master").await?;
        let found: Option<String> = cluster[winner].ask(&["GET", &key]).await?;
        if winner == 0 {
            // No new election: its old votes counted, with its old epoch. The others take no
            // notice, it is made a replica again, and what it acknowledged is gone.
            assert_eq!(found, None);
        } else {
            assert_eq!(found.as_deref(), Some("v"));
        }
        Ok(())
    }
}

each_engine! {
    [valkey_9_1]
    async fn fact_shutdown_on_sigterm_failover(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| {
            builder.config("shutdown-on-sigterm", "failover")
        })
        .await?;
        cluster[0].terminate(crate::scene::SOON)?;
        let took = until_role(&cluster[3], "master").await?;
        measured("replica is primary after SIGTERM had ended the primary", &engine, took);
        assert!(took < AT_ONCE, "{took:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn fact_wait_is_refused_by_replicas(engine) {
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let said = crate::scene::refusal(&cluster[3], &["WAIT", "1", "10"]).await;
        assert!(said.contains("WAIT cannot be used with replica"), "{said}");
        assert_eq!(cluster[0].ask::<u32>(&["WAIT", "1", "2000"]).await?, 1);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_a_first_copy_is_elected(engine) {
        // One that followed another before has an offset and a link that it lost lately. Its new primary has sent nothing
        // yet when it dies.
        for may in [true, false] {
            let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
            let key = format!("{{{}}}:k", tag_for(cluster.slots(1).0));
            cluster[1].ask::<()>(&["SET", &key, "v"]).await?;
            cluster[1].ask::<()>(&["CONFIG", "SET", "repl-diskless-sync-delay", "60"]).await?;
            cluster[4].kill9()?;
            if !may {
                cluster[3].ask::<()>(&["CONFIG", "SET", "cluster-replica-no-failover", "yes"]).await?;
            }
            let id = cluster[1].id().await?;
            cluster[3].ask::<()>(&["CLUSTER", "REPLICATE", &id]).await?;
            let port = format!("port={},", cluster[3].port());
            shardwright_testkit::until("its first copy is asked for", crate::scene::SOON, || async {
                // The primary lists it, and has begun no copy for it.
                let waits = cluster[1].field(&["INFO", "replication"], "slave0").await;
                match waits {
                    Ok(Some(waits)) if waits.contains(&port) && waits.contains("state=wait_bgsave") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
            cluster[1].kill9()?;
            if may {
                until_role(&cluster[3], "master").await?;
                let found: Option<String> = cluster[3].ask(&["GET", &key]).await.unwrap_or(None);
                assert_eq!(found, None);
            } else {
                never_role(&cluster[3], "master", Duration::from_secs(10)).await?;
            }
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_a_returned_primary_is_deposed(engine) {
        // A primary with slots is held to have failed for 2 × node-timeout, although it is back and serves. Its replica,
        // which had no link to it since its own start, has one then, and is elected.
        for may in [true, false] {
            let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
            let id = cluster[0].id().await?;
            cluster[0].kill9()?;
            cluster[3].kill9()?;
            cluster[3].restart()?;
            if !may {
                cluster[3].ask::<()>(&["CONFIG", "SET", "cluster-replica-no-failover", "yes"]).await?;
            }
            shardwright_testkit::until("it holds its primary to have failed", crate::scene::SOON, || async {
                let row = row(&cluster[3], &id).await.map_err(|e| e.to_string())?;
                let flags = row.split(' ').nth(2).unwrap_or_default().to_owned();
                if flags.split(',').any(|flag| flag == "fail") { Ok(()) } else { Err(row) }
            })
            .await?;
            never_role(&cluster[3], "master", Duration::from_secs(2)).await?;
            cluster[0].restart()?;
            if may {
                let took = until_role(&cluster[3], "master").await?;
                measured("a returned primary is deposed", &engine, took);
            } else {
                never_role(&cluster[3], "master", Duration::from_secs(12)).await?;
            }
        }
        Ok(())
    }
}
