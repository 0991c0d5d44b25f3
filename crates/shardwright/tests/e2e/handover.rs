//! Requests to the run that holds the lock of a local cluster, and verbs by HOST:PORT beside it.

use std::time::Duration;

use shardwright_testkit::each_engine;
use shardwright_testkit::wait::until_blocking;

use crate::local::{Local, Outcome};
use crate::moving::counts;
use crate::rig::{living_in, mode};

const LIMIT: Duration = Duration::from_secs(60);
const PAUSED: &str = "paused until a person resumes them";

/// The name of a server that is a replica now.
fn a_replica(local: &Local) -> Outcome<String> {
    let status = local.status()?;
    let server = status["shards"][1]["nodes"][1]["server"].as_str();
    Ok(server.ok_or("no replica")?.to_owned())
}

/// Names a connection.
async fn name(connection: &mut redis::aio::MultiplexedConnection, to: &str) -> Outcome<()> {
    let mut command = redis::cmd("CLIENT");
    command.arg("SETNAME").arg(to);
    Ok(command.query_async(connection).await?)
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_running_watch_carries_out_what_is_asked_for(engine) {
        let local = Local::with_ports(&engine, "", 8)?;
        let watch = local.watch();
        let socket = local.dir().join("control.sock");
        assert_eq!(mode(&socket), 0o600);
        let load = local.load("a")?;
        load.until_more(300, LIMIT).await?;
        local.run(&["scale", "--shards", "4"]).must(0, &["moved", "[OK] c has 4 shards"]);
        assert_eq!(counts(&local.status()?), [4096; 4]);
        let replica = a_replica(&local)?;
        local.run(&["failover", "local", &replica]).must(0, &["[OK]", &replica, "is the primary"]);
        local.run(&["failover", "local", &replica]).must(0, &["is a primary already"]);
        local.run(&["failover", "local", "nobody"]).must(2, &["no node \"nobody\""]);
        local.run(&["fix"]).must(0, &["[OK] the cluster is healthy"]);
        local.run(&["rebalance"]).must(0, &["[OK] nothing to do"]);
        local.run(&["scale", "--shards", "2"]).must(2, &["spec.shards"]);
        local.run(&["up", "--name", "c"]).must(0, &["[OK] c is healthy"]);
        let report = load.stop().await;
        local.all_there(&report).await?;
        assert!(watch.said().contains("`failover`"), "{}", watch.said());

        local.run(&["down"]).must(0, &["8 server(s) stopped, data saved"]);
        watch.end().must(0, &["the servers were stopped, so the watch has ended"]);
        assert!(living_in(&local.dir()).is_empty(), "nobody started them again");
        assert!(!socket.exists());
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_change_of_shape_makes_way_for_another(engine) {
        let local = Local::with_ports(&engine, "", 10)?;
        for watched in [false, true] {
            let watch = if watched {
                Some(local.watch())
            } else {
                local.up(&[]).must(0, &["[OK] c is healthy"]);
                None
            };
            local.run(&["pause"]).must(0, &["[OK]"]);
            let mut five = local.home.start(local.home.command(&["scale", "--shards", "5"]));
            five.until_said(PAUSED, LIMIT);
            let mut four = local.home.start(local.home.command(&["scale", "--shards", "4"]));
            five.end().must(1, &["`scale`", "was asked for meanwhile, and takes its place"]);
            four.until_said(PAUSED, LIMIT);
            local.run(&["cancel"]).must(0, &["back to 3 shards", "[OK] c has 3 shards"]);
            four.end().must(1, &["`cancel`", "takes its place"]);
            assert_eq!(counts(&local.status()?), [5461, 5461, 5462]);
            assert!(!local.dir().join("nodes/c-6").exists());
            local.run(&["scale", "--shards", "4"]).must(0, &["[OK] c has 4 shards"]);
            local.run(&["scale", "--shards", "3"]).must(0, &["[OK] c has 3 shards"]);
            if let Some(watch) = watch {
                watch.signal("TERM", false);
                watch.end().must(0, &["the watch has ended; the servers run on"]);
            }
            local.until_healthy()?;
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_failover_beside_a_scale_leaves_it_to_go_on(engine) {
        let local = Local::with_ports(&engine, "", 8)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        local.run(&["pause"]).must(0, &["[OK]"]);
        let mut scale = local.home.start(local.home.command(&["scale", "--shards", "4"]));
        scale.until_said(PAUSED, LIMIT);
        // What leaves the goal as it is comes into each other too.
        let mut rebalance = local.home.start(local.home.command(&["rebalance"]));
        rebalance.until_said(PAUSED, LIMIT);
        let replica = a_replica(&local)?;
        let failover = local.home.command(&["failover", "local", &replica]);
        let mut failover = local.home.start(failover);
        failover.until_said(PAUSED, LIMIT);
        local.run(&["resume"]).must(0, &["[OK] slots may move again"]);
        failover.end().must(0, &["is the primary"]);
        rebalance.end().must(0, &["`failover`", "[OK]"]);
        scale.end().must(0, &["`rebalance`", "[OK] c has 4 shards"]);
        assert_eq!(counts(&local.status()?), [4096; 4]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn an_up_that_declares_nothing_new_waits_for_a_scale(engine) {
        let local = Local::with_ports(&engine, "", 8)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        local.run(&["pause"]).must(0, &["[OK]"]);
        let mut scale = local.home.start(local.home.command(&["scale", "--shards", "4"]));
        scale.until_said(PAUSED, LIMIT);
        let mut up = local.home.start(local.home.command(&["up", "--name", "c"]));
        up.until_said(PAUSED, LIMIT);
        local.run(&["resume"]).must(0, &["[OK] slots may move again"]);
        up.end().must(0, &["[OK] c is healthy"]);
        scale.end().must(0, &["`up`", "[OK] c has 4 shards"]);
        assert_eq!(counts(&local.status()?), [4096; 4]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn of_two_that_a_third_makes_way_for_none_is_refused(engine) {
        let local = Local::with_ports(&engine, "", 10)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        local.run(&["pause"]).must(0, &["[OK]"]);
        let mut five = local.home.start(local.home.command(&["scale", "--shards", "5"]));
        five.until_said(PAUSED, LIMIT);
        let four = || local.home.start(local.home.command(&["scale", "--shards", "4"]));
        let two = [four(), four()];
        five.end().must(1, &["takes its place"]);
        local.run(&["resume"]).must(0, &["[OK] slots may move again"]);
        for four in two {
            four.end().must(0, &["[OK] c has 4 shards"]);
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn what_is_refused_for_a_run_by_address_is_not_declared(engine) {
        let local = Local::with_ports(&engine, "", 8)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        let stored = local.dir().join("manifest.yaml");
        let before = std::fs::read_to_string(&stored)?;
        // As such a run of another machine is connected.
        let mut elsewhere = local.administrator(0).await?;
        name(&mut elsewhere, "shardwright/00000000000000000000000000000007").await?;
        local.run(&["scale", "--shards", "4"]).must(3, &["another"]);
        assert_eq!(std::fs::read_to_string(&stored)?, before);
        assert!(!local.dir().join("nodes/c-6").exists());
        name(&mut elsewhere, "").await?;
        local.run(&["scale", "--shards", "4"]).must(0, &["[OK] c has 4 shards"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn nobody_trips_over_the_socket_of_a_killed_watch(engine) {
        let local = Local::new(&engine, "")?;
        let watch = local.watch();
        watch.signal("KILL", false);
        watch.end();
        assert!(local.dir().join("control.sock").exists(), "it is left behind");
        local.run(&["fix"]).must(0, &["[OK] the cluster is healthy"]);
        local.run(&["up", "--name", "c"]).must(0, &["[OK] c is healthy"]);
        let watch = local.watch();
        watch.signal("KILL", false);
        watch.end();
        local.run(&["down"]).must(0, &["6 server(s) stopped"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_verb_by_address_notices_a_run_for_the_local_cluster(engine) {
        let local = Local::new(&engine, "")?;
        let watch = local.watch();
        let target = local.ports.addresses()[0].clone();
        let file = local.dir().join("secrets/default").display().to_string();
        let login = ["--user", "default", "--password-file", &file];
        let by_address = |words: &[&str]| local.run(&[words, &login].concat());
        let replica = a_replica(&local)?;
        let index: usize = replica.trim_start_matches("c-").parse()?;
        let node = local.ports.addresses()[index].clone();
        let (pid, dir) = (watch.pid().to_string(), local.dir().display().to_string());
        let before = local.status()?["shards"].clone();
        let refused = ["is a server of the local cluster in", &dir, &pid, "local --dir"];
        by_address(&["failover", &target, &node]).must(3, &refused);
        by_address(&["fix", &target]).must(3, &refused);
        by_address(&["rebalance", &target]).must(3, &refused);
        by_address(&["remove-node", &target, &node]).must(3, &refused);
        by_address(&["check", &target]).must(0, &["[OK] 6 nodes agree"]);
        let roles = |shards: &serde_json::Value| shards[1]["nodes"][1]["server"].clone();
        assert_eq!(roles(&before), roles(&local.status()?["shards"]), "a refusal changes nothing");
        // The target that the refusal names is asked.
        local.run(&["failover", "local", &replica, "--dir", &dir]).must(0, &["is the primary"]);

        watch.signal("TERM", false);
        watch.end().must(0, &["the servers run on"]);
        // Nobody works on it now.
        let ended = || {
            let ran = by_address(&["fix", &target]);
            if ran.code == Some(0) { Ok(()) } else { Err(ran.err) }
        };
        until_blocking("it is repaired by address", LIMIT, ended)?;
        Ok(())
    }
}
