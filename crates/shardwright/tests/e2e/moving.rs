//! Slots that move: a local cluster takes another shape, and those that others run are rebalanced.

use std::collections::BTreeMap;
use std::time::Duration;

use shardwright_testkit::{Cluster, Load, LoadOptions, Server, each_engine};

use crate::local::{Local, Outcome};
use crate::rig::{Home, cli_check, state_of, states_of};

const LIMIT: Duration = Duration::from_secs(30);

/// How many slots each shard has, in the order of their first slots.
pub(crate) fn counts(status: &serde_json::Value) -> Vec<u64> {
    let shards = status["shards"].as_array().expect("there are shards");
    let count = |shard: &serde_json::Value| shard["slot_count"].as_u64().expect("a number");
    let mut counts: Vec<u64> = shards.iter().map(count).collect();
    counts.sort_unstable();
    counts
}

/// How many slots each member has, by the port.
fn by_port(home: &Home, target: &str) -> Outcome<BTreeMap<String, u64>> {
    let status: serde_json::Value =
        serde_json::from_str(&home.run(&["status", target, "-o", "json"]).out)?;
    let shards = status["shards"].as_array().ok_or("no shards")?;
    let one = |shard: &serde_json::Value| {
        let at = shard["nodes"][0]["address"].as_str()?.to_owned();
        Some((at, shard["slot_count"].as_u64()?))
    };
    Ok(shards.iter().filter_map(one).collect())
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_local_cluster_grows_and_shrinks_under_load(engine) {
        let local = Local::with_ports(&engine, "", 8)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        let load = local.load("a")?;
        load.until_more(500, LIMIT).await?;
        local.run(&["plan", "local", "--shards", "4"])
            .must(0, &["start the new server c-6 at", "c-7", "to a new shard", "In all 4096 slots move"]);
        assert!(!local.dir().join("nodes/c-6").exists(), "a plan changes nothing");
        local.run(&["scale", "--replicas", "0", "--dry-run"])
            .must(0, &["these servers and their directories are gone: c-5, c-4, c-3"]);

        local.run(&["scale", "--shards", "4"]).must(0, &["moved 4096 slots", "[OK] c has 4 shards with 1 replica(s) each"]);
        assert_eq!(counts(&local.status()?), [4096; 4]);
        local.until_healthy()?;
        local.run(&["rebalance"]).must(0, &["nothing to do"]);
        load.until_more(500, LIMIT).await?;
        local.run(&["scale", "--shards", "3", "-v"])
            .must(0, &["moved 4096 slots", "tells clients for 15 s who has its slots now", "[OK] c has 3 shards"]);
        assert_eq!(counts(&local.status()?), [5461, 5461, 5462]);
        for gone in ["c-6", "c-7"] {
            assert!(!local.dir().join("nodes").join(gone).exists(), "{gone} is taken away");
        }
        load.until_more(500, LIMIT).await?;
        let report = load.stop().await;
        local.all_there(&report).await?;
        local.until_healthy()
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn what_was_planned_is_what_moves(engine) {
        let local = Local::with_ports(&engine, "", 10)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        let load = local.load("a")?;
        load.until_more(500, LIMIT).await?;
        let plan = local.run(&["plan", "local", "--shards", "5"]).must(0, &["start the new server c-9 at"]);
        let planned = plan.out.lines().find_map(|line| line.strip_prefix("In all ")).ok_or("no sum")?;
        let slots = planned.split(' ').next().ok_or("no number")?;
        local.run(&["scale", "--shards", "5"]).must(0, &[&format!("moved {slots} slots"), "[OK] c has 5 shards"]);
        assert_eq!(counts(&local.status()?), [3276, 3277, 3277, 3277, 3277]);
        load.until_more(500, LIMIT).await?;
        let report = load.stop().await;
        local.all_there(&report).await?;
        local.until_healthy()
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_scale_that_was_killed_is_brought_to_its_end_by_up(engine) {
        let local = Local::with_ports(&engine, "", 8)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        let load = local.load("a")?;
        load.until_more(1_000, LIMIT).await?;
        for (shards, verb) in [("4", vec!["scale"]), ("3", vec!["up", "--name", "c", "--watch"])] {
            let slowly = ["--shards", shards, "--max-pause", "1ms", "--bandwidth", "20KB"];
            let words = [verb.as_slice(), &slowly].concat();
            let mut scale = local.home.start(local.home.command(&words));
            scale.until_said("moved ", LIMIT * 4);
            scale.signal("KILL", false);
            let ended = scale.end();
            assert!(ended.code.is_none() || ended.code == Some(0), "{ended:?}");
            local.run(&["up", "--name", "c", "--timeout", "120"]).must(0, &["[OK] c is healthy"]);
            let even = if shards == "4" { vec![4096; 4] } else { vec![5461, 5461, 5462] };
            assert_eq!(counts(&local.status()?), even);
        }
        load.until_more(500, LIMIT).await?;
        let report = load.stop().await;
        local.all_there(&report).await?;
        local.until_healthy()
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_change_of_shape_is_taken_back_half_way(engine) {
        let local = Local::with_ports(&engine, "", 10)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        let load = local.load("a")?;
        load.until_more(300, LIMIT).await?;
        let scale = local.home.command(&["scale", "--shards", "5", "--max-pause", "1ms", "--bandwidth", "2KB"]);
        let mut scale = local.home.start(scale);
        scale.until_said("moved ", LIMIT);
        scale.signal("INT", false);
        // On a fast machine all has moved by then.
        let ended = scale.end();
        assert!(ended.code == Some(0) || ended.err.contains("running the command again goes on"), "{ended:?}");
        local.run(&["scale", "--shards", "3"]).must(0, &["[OK] c has 3 shards"]);
        assert_eq!(counts(&local.status()?), [5461, 5461, 5462]);
        assert!(!local.dir().join("nodes/c-6").exists());
        let report = load.stop().await;
        local.all_there(&report).await?;
        local.until_healthy()
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn moves_are_paused_go_on_and_are_cancelled(engine) {
        let local = Local::with_ports(&engine, "", 10)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        let load = local.load("a")?;
        load.until_more(300, LIMIT).await?;
        local.run(&["cancel"]).must(0, &["nothing to cancel"]);
        local.run(&["pause"]).must(0, &["[OK] no further slots are given out", "no slots have to move"]);
        // Verbose: so it would say that the engine's own move was refused.
        let scale = local.home.command(&["scale", "--shards", "4", "-v"]);
        let mut scale = local.home.start(scale);
        scale.until_said("paused until a person resumes them", LIMIT);
        let told = local.run(&["status"]);
        assert!(told.err.contains("slots left to move: 4096, and that is paused"), "{told:?}");
        assert_eq!(counts(&local.status()?), [5461, 5461, 5462]);
        local.run(&["down", "--dry-run"]).must(0, &["nothing was changed"]);
        local.run(&["resume"]).must(0, &["[OK] slots may move again"]);
        scale.end().must(0, &["[OK] c has 4 shards"]).without(&["goes on key by key"]);
        assert_eq!(counts(&local.status()?), [4096; 4]);

        local.run(&["pause"]).must(0, &["[OK]"]);
        local.run(&["pause"]).must(0, &["it was paused already"]);
        let mut scale = local.home.start(local.home.command(&["scale", "--shards", "5"]));
        scale.until_said("paused until a person resumes them", LIMIT);
        scale.signal("INT", false);
        scale.end().must(130, &["running the command again goes on"]);
        local.run(&["cancel", "--dry-run"]).must(0, &["back to 4 shards"]);
        local.run(&["cancel"]).must(0, &["back to 4 shards", "[OK] c has 4 shards"]);
        assert!(!local.dir().join("nodes/c-8").exists());
        local.run(&["cancel"]).must(0, &["nothing to cancel"]);
        local.run(&["resume"]).must(0, &["it was not paused"]);
        let report = load.stop().await;
        local.all_there(&report).await?;
        local.until_healthy()
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_cluster_of_others_is_rebalanced_and_resharded(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let target = cluster[0].address();
        let load = Load::start(&cluster.addresses(), LoadOptions::default());
        load.until_more(300, LIMIT).await?;
        home.run(&["rebalance", &target]).must(0, &["nothing to do"]);

        let fourth = Server::builder(&engine).cluster().start()?;
        home.run(&["add-node", &target, &fourth.address(), "--primary"]).must(0, &["has joined"]);
        home.run(&["rebalance", &target]).must(0, &["nothing to do"]);
        let all = ["rebalance", &target, "--use-empty-primaries"];
        let before = states_of(&cluster.servers).await?;
        home.run(&[&all[..], &["--dry-run"]].concat()).must(0, &["because", "about", "In all 4096 slots move"]);
        assert_eq!(states_of(&cluster.servers).await?.len(), before.len());
        home.run(&all).must(0, &["moved 4096 slots", "[OK]"]);
        let fourth_has = |slots: &BTreeMap<String, u64>| slots.get(&fourth.address()).copied();
        assert_eq!(fourth_has(&by_port(&home, &target)?), Some(4096));

        let (from, to) = (cluster[1].address(), fourth.address());
        home.run(&["reshard", &target, "--from", &from, "--to", &to, "--slots", "100", "--yes"])
            .must(0, &["moved 100 slots", "[OK]"]);
        assert_eq!(fourth_has(&by_port(&home, &target)?), Some(4196));
        home.run(&["reshard", &target, "--from", "all", "--to", &from, "--slots", "0-9", "--yes"])
            .must(0, &["moved 10 slots"]);
        let unsure = ["reshard", &target, "--from", "all", "--to", &to, "--slots", "10"];
        home.run(&unsure).must(1, &["(4) from", "Nothing was changed"]);
        let weights = format!("{to}=0.5");
        home.run(&["rebalance", &target, "--weights", &weights]).must(0, &["[OK]"]);
        assert_eq!(fourth_has(&by_port(&home, &target)?), Some(2341));

        // Drained, and drained again.
        let drain = ["reshard", &target, "--from", &to, "--to", &from, "--slots", "2341", "--yes"];
        home.run(&drain).must(0, &["moved 2341 slots", "[OK]"]);
        home.run(&drain).must(0, &["[OK] nothing to do: no slots at"]);
        let none = format!("{to}=0");
        home.run(&["rebalance", &target, "--weights", &none]).must(0, &["[OK]"]);
        home.run(&["rebalance", &target, "--weights", &none]).must(0, &["[OK] nothing to do"]);

        home.run(&["remove-node", &target, &to]).must(0, &["has left"]);
        assert_eq!(by_port(&home, &target)?.len(), 3);
        let report = load.stop().await;
        assert_eq!(report.lost(&cluster.addresses()).await?, [], "of {}", report.acked());
        home.run(&["check", &target]).must(0, &["[OK] 6 nodes agree"]);
        cli_check(&engine, &target, &[])?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn moves_that_make_no_sense_are_refused(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let [a, b, replica] = [0, 1, 3].map(|i| cluster[i].address());
        let before = (states_of(&cluster.servers).await?, state_of(&cluster[0]).await?);
        let reshard = |from: &str, to: &str, slots: &str| {
            home.run(&["reshard", &a, "--yes", "--from", from, "--to", to, "--slots", slots])
        };
        reshard(&a, &a, "1").must(2, &["to itself"]);
        reshard(&a, &replica, "1").must(2, &["is a replica"]);
        // As one that was drained is.
        reshard(&replica, &a, "1").must(0, &["nothing to do: no slots at", "(a replica)"]);
        let two = ["reshard", &a, "--yes", "--to", &a, "--slots", "1", "--from", &b, "--from", &replica];
        home.run(&two).must(2, &["is a replica"]);
        reshard("nobody", &a, "1").must(2, &["no node \"nobody\""]);
        reshard(&a, "nobody", "1").must(2, &["no node \"nobody\""]);
        reshard(&a, &b, "6000").must(2, &["more than the 546"]);
        reshard(&a, &b, "0").must(2, &["how many"]);
        reshard(&a, &b, "16000-17000").must(2, &["0 to 16383"]);
        reshard(&a, &b, "16383-16383").must(2, &["of none of those"]);
        reshard(&a, &b, "0-5460").must(3, &["needs 3"]);
        let weigh = |weights: &str| home.run(&["rebalance", &a, "--weights", weights]);
        weigh(&format!("{a}=0")).must(3, &["needs 3"]);
        weigh(&format!("{replica}=2")).must(2, &["is a replica"]);
        weigh("nonsense").must(2, &["NODE=WEIGHT"]);
        weigh(&format!("{a}=1,{a}=2")).must(2, &["two weights"]);
        home.run(&["remove-node", &a, &b]).must(3, &["needs 3"]);
        for flags in [["--max-pause", "5"], ["--bandwidth", "fast"], ["--threshold", "101"]] {
            home.run(&[&["rebalance", &a][..], &flags].concat()).must(2, &[flags[0]]);
        }
        let after = (states_of(&cluster.servers).await?, state_of(&cluster[0]).await?);
        assert_eq!(before, after, "a refusal changes nothing");
        Ok(())
    }
}
