//! The test kit itself, on every engine of the machine.

use std::time::{Duration, Instant};

use shardwright_testkit::tls::Certificates;
use shardwright_testkit::{
    Cluster, Load, LoadOptions, Persistence, Server, TestResult, each_engine, engines, until,
};

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_server_lives_dies_and_comes_back(engine) {
        let mut server = Server::builder(&engine).persistence(Persistence::AofAlways).start()?;
        server.ask::<()>(&["SET", "a", "1"]).await?;
        let pid = server.pid();
        server.kill9()?;
        assert!(!server.is_running());
        assert!(server.ask::<String>(&["PING"]).await.is_err(), "a dead server answers nothing");
        server.restart()?;
        assert_ne!(server.pid(), pid);
        assert_eq!(server.ask::<String>(&["GET", "a"]).await?, "1");

        let port = server.port();
        server.terminate(Duration::from_secs(10))?;
        server.restart_at_new_port()?;
        assert_ne!(server.port(), port);
        assert_eq!(server.ask::<String>(&["GET", "a"]).await?, "1");

        server.kill9()?;
        server.wipe()?;
        server.restart()?;
        assert_eq!(server.ask::<Option<String>>(&["GET", "a"]).await?, None);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_frozen_server_is_silent_until_it_is_thawed(engine) {
        let server = Server::builder(&engine).start()?;
        let mut connection = server.connection().await?;
        server.freeze()?;
        let ping = redis::cmd("PING");
        let silent = Duration::from_millis(150);
        let asked = ping.query_async::<String>(&mut connection);
        assert!(tokio::time::timeout(silent, asked).await.is_err());
        server.thaw()?;
        assert_eq!(ping.query_async::<String>(&mut connection).await?, "PONG");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn no_acknowledged_write_is_lost_by_a_switchover_and_losses_are_seen(engine) {
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let load = Load::start(&cluster.addresses(), LoadOptions::default());
        load.until_more(500, Duration::from_secs(20)).await?;
        cluster[3].ask::<()>(&["CLUSTER", "FAILOVER"]).await?;
        until("the replica is the primary", Duration::from_secs(10), || async {
            let role: Result<(String,), _> = cluster[3].ask(&["ROLE"]).await.map(|role: Vec<redis::Value>| {
                (redis::from_redis_value(role[0].clone()).expect("ROLE begins with a word"),)
            });
            match role {
                Ok((role,)) if role == "master" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        load.until_more(500, Duration::from_secs(20)).await?;
        let report = load.stop().await;
        assert_eq!(report.lost(&cluster.addresses()).await?, []);
        let gap = report.longest_gap(0, 16_383).expect("lanes were written");
        assert!(gap.length < Duration::from_secs(5), "{gap:?}");

        // The check can fail: take one key away.
        let (first, last) = cluster.slots(1);
        let lane = report.lanes.iter().find(|lane| (first..=last).contains(&lane.slot));
        let slot = lane.expect("a lane in the second shard").slot;
        let key = format!("{{{}}}:load:3", shardwright_testkit::slots::tag_for(slot));
        cluster[1].ask::<()>(&["DEL", &key]).await?;
        let lost = report.lost(&cluster.addresses()).await?;
        assert_eq!(lost.len(), 1, "{lost:?}");
        assert_eq!((&lost[0].key, &lost[0].found), (&key, &None));
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn a_tls_server_answers_no_plain_client(engine) {
        let server = Server::builder(&engine).tls(Certificates::generate()?).start()?;
        assert!(server.ask::<String>(&["PING"]).await.is_err());
        Ok(())
    }
}

#[test]
fn a_dropped_server_leaves_no_process() -> TestResult {
    let Some(engine) = engines().usable.first() else {
        shardwright_testkit::skip::skipped("a_dropped_server_leaves_no_process", "no engine");
        return Ok(());
    };
    let server = Server::builder(engine).start()?;
    let pid = server.pid().expect("it runs");
    drop(server);
    let gone = Instant::now();
    assert!(
        !std::path::Path::new(&format!("/proc/{pid}")).exists(),
        "{:?}",
        gone.elapsed()
    );
    Ok(())
}
