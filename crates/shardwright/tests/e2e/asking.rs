//! The verbs that ask every node, and the one that brings keys in.

use std::time::Duration;

use shardwright_testkit::{Cluster, Server, each_engine};

use crate::local::Local;
use crate::rig::{Home, state_of, states_of};

const LIMIT: Duration = Duration::from_secs(30);

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn every_node_is_asked_and_none_is_left_out(engine) {
        let home = Home::new()?;
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let at = cluster[0].address();
        for n in 0..6 {
            home.run(&["call", &at, "PING"]).must(0, &[&format!("{} (", cluster[n].address()), "PONG"]);
        }
        let ran = home.run(&["call", "--primaries", &at, "config", "set", "maxmemory-samples", "7"]).must(0, &["OK"]);
        assert_eq!(ran.out.lines().count(), 3, "{ran:?}");
        let ran = home.run(&["call", "-o", "json", "--replicas", &at, "dbsize"]).must(0, &[]);
        let answers: serde_json::Value = serde_json::from_str(&ran.out)?;
        let answers = answers["answers"].as_array().ok_or("a list")?;
        assert_eq!(answers.len(), 3);
        assert!(answers.iter().all(|a| a["reply"] == 0 && a["role"] == "replica"), "{answers:?}");
        // Replicas refuse writes: each is told, and the status says so.
        home.run(&["call", "--replicas", &at, "set", "{a}k", "v"]).must(1, &["error:", "3 of 3 nodes did not do it"]);
        home.run(&["call", &at, "nonsense"]).must(1, &["unknown command", "6 of 6"]);
        for wrong in [&["monitor"][..], &["subscribe", "a"], &["blpop", "a", "0"], &["wait", "1", "0"], &[""]] {
            home.run(&[&["call", &at][..], wrong].concat()).must(2, &["is not called at every node"]);
        }
        home.run(&["call", &at]).must(2, &["COMMAND"]);
        home.run(&["call", "k8s:a/b", "ping"]).must(2, &["kubectl exec"]);
        home.run(&["call", &at, "config", "set", "requirepass", "hunter2"]).must(0, &[]).without(&["hunter2"]);
        let mut command = home.command(&["call", &at, "config", "get", "requirepass"]);
        command.env("REDISCLI_AUTH", "hunter2");
        home.finish(command).must(0, &["(secret)"]).without(&["hunter2"]);
        let mut command = home.command(&["call", &at, "config", "set", "requirepass", ""]);
        command.env("REDISCLI_AUTH", "hunter2");
        home.finish(command).must(0, &[]);

        let ran = home.run(&["info", &at]).must(0, &["0 keys | 5461 slots | 1 replicas", "0 keys in 3 primaries, 16384 of 16384 slots"]);
        assert_eq!(ran.out.lines().count(), 4, "{ran:?}");
        home.run(&["info", &at, "-o", "json"]).must(0, &["\"slots\": 5461"]);
        cluster[4].kill9()?;
        home.run(&["call", &at, "ping"]).must(1, &["connection refused", "1 of 6"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn the_timeout_is_set_everywhere_or_that_is_told(engine) {
        let home = Home::new()?;
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let at = cluster[0].address();
        let before = states_of(&cluster.servers).await?;
        home.run(&["set-timeout", &at, "6000", "--dry-run"]).must(0, &["set cluster-node-timeout 6000"]);
        for wrong in ["99", "0", "-1", "x", "3600001"] {
            home.run(&["set-timeout", &at, wrong]).must(2, &[]);
        }
        home.run(&["set-timeout", "local", "6000"]).must(2, &["spec.config"]);
        assert_eq!(states_of(&cluster.servers).await?, before, "nothing was changed");
        home.run(&["set-timeout", &at, "6000"]).must(0, &["cluster-node-timeout is 6000, and its configuration file says so"]);
        for server in &cluster.servers {
            let now: Vec<String> = server.ask(&["CONFIG", "GET", "cluster-node-timeout"]).await?;
            assert_eq!(now[1], "6000");
        }
        let silent = cluster[5].address();
        cluster[5].kill9()?;
        home.run(&["set-timeout", &at, "7000"]).must(3, &[&silent, "--force"]);
        let now: Vec<String> = cluster[0].ask(&["CONFIG", "GET", "cluster-node-timeout"]).await?;
        assert_eq!(now[1], "6000", "a refusal changes nothing");
        home.run(&["set-timeout", &at, "7000", "--force"]).must(1, &["is 7000", "was not told"]);
        Ok(())
    }
}

/// Keys of several types in a server that is in no cluster.
async fn fill(server: &Server, from: u32, to: u32) -> Result<(), shardwright_testkit::Error> {
    let mut connection = server.connection().await?;
    for n in from..to {
        let key = format!("k:{n}");
        let words: Vec<&str> = match n % 3 {
            0 => vec!["SET", &key, "value", "EX", "1000"],
            1 => vec!["RPUSH", &key, "a", "b"],
            _ => vec!["HSET", &key, "f", "v"],
        };
        shardwright_testkit::server::ask_on::<redis::Value>(
            &mut connection,
            &server.address(),
            &words,
        )
        .await?;
    }
    Ok(())
}

async fn keys_of(cluster: &Cluster) -> Result<u64, shardwright_testkit::Error> {
    let mut sum = 0;
    for server in &cluster.servers[..3] {
        sum += server.ask::<u64>(&["DBSIZE"]).await?;
    }
    Ok(sum)
}

/// Which primary takes this key.
async fn owner_of(
    cluster: &Cluster,
    key: &str,
) -> Result<usize, Box<dyn std::error::Error + Send + Sync>> {
    for at in 0..3 {
        if cluster[at]
            .ask::<redis::Value>(&["EXISTS", key])
            .await
            .is_ok()
        {
            return Ok(at);
        }
    }
    Err(format!("nobody serves {key}").into())
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn keys_come_in_from_outside(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let at = cluster[0].address();
        let outside = Server::builder(&engine).start()?;
        let from = outside.address();
        fill(&outside, 0, 3_000).await?;
        let import = |more: &[&str]| home.run(&[&["import", &at, "--from", &from][..], more].concat());

        import(&["--dry-run"]).must(0, &["move 3000 keys", "to 3 shards"]);
        assert_eq!((outside.ask::<u64>(&["DBSIZE"]).await?, keys_of(&cluster).await?), (3_000, 0));
        import(&["--copy"]).must(0, &["imported 3000 keys; the source holds 3000 keys"]);
        assert_eq!((outside.ask::<u64>(&["DBSIZE"]).await?, keys_of(&cluster).await?), (3_000, 3_000));
        import(&["--copy"]).must(0, &["imported 0 keys", "3000 keys were in the cluster already"]);

        // One that differs is told, and kept at both ends; the others of its batch come in.
        home.run(&["call", "--primaries", &at, "flushall"]).must(0, &[]);
        outside.ask::<()>(&["SET", "{a}x", "theirs"]).await?;
        for server in &cluster.servers[..3] {
            server.ask::<redis::Value>(&["SET", "{a}x", "ours"]).await.ok();
        }
        import(&[])
            .must(1, &["imported 3000 keys, and all but 1 conflicting", "another value or time to live of \"{a}x\"", "--replace"])
            .without(&["[OK]"]);
        assert_eq!(outside.ask::<String>(&["GET", "{a}x"]).await?, "theirs");
        assert_eq!(keys_of(&cluster).await?, 3_001);
        import(&["--replace"]).must(0, &["imported 1 keys; the source holds 0 keys"]);
        assert_eq!(keys_of(&cluster).await?, 3_001);

        // One that lives for another time is another one.
        let owner = owner_of(&cluster, "{a}x").await?;
        for (ms, code) in [("600000", 0), ("60000", 1)] {
            outside.ask::<()>(&["SET", "{a}x", "theirs", "PX", ms]).await?;
            cluster[owner].ask::<()>(&["SET", "{a}x", "theirs", "PX", "600000"]).await?;
            import(&["--copy"]).must(code, &["imported 0 keys"]);
        }
        outside.ask::<()>(&["DEL", "{a}x"]).await?;
        cluster[owner].ask::<()>(&["PERSIST", "{a}x"]).await?;

        // Broken off, it goes on.
        fill(&outside, 3_000, 6_000).await?;
        let slow = home.command(&["import", &at, "--from", &from, "--bandwidth", "20KB", "--max-pause", "1ms"]);
        let mut slow = home.start(slow);
        slow.until_said("of 3000 keys", LIMIT);
        slow.signal("INT", false);
        slow.end().must(130, &["and not all; running the command again goes on"]);
        assert!(outside.ask::<u64>(&["DBSIZE"]).await? > 0, "some are left");
        import(&[]).must(0, &["the source holds 0 keys"]);
        assert_eq!(keys_of(&cluster).await?, 6_001);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn imports_that_make_no_sense_are_refused(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let at = cluster[0].address();
        let mut outside = Server::builder(&engine).start()?;
        fill(&outside, 0, 9).await?;
        let before = states_of(&cluster.servers).await?;
        let import = |from: &str| home.run(&["import", &at, "--from", from]);
        import(&cluster[1].address()).must(3, &["runs in cluster mode"]);
        import("nonsense").must(2, &["--from"]);
        home.run(&["import", &outside.address(), "--from", &outside.address()]).must(1, &["cluster mode"]);
        home.run(&["import", "k8s:a/b", "--from", &outside.address()]).must(2, &["can't reach"]);
        let mut connection = outside.connection().await?;
        for words in [&["SELECT", "3"][..], &["SET", "a", "b"]] {
            shardwright_testkit::server::ask_on::<()>(&mut connection, "", words).await?;
        }
        import(&outside.address()).must(3, &["1 keys in database 3"]);
        let port = outside.port().to_string();
        let replica = Server::builder(&engine).config("replicaof", &format!("127.0.0.1 {port}")).start()?;
        import(&replica.address()).must(3, &["is a replica"]);
        assert_eq!(states_of(&cluster.servers).await?, before, "a refusal changes nothing");
        assert!(state_of(&outside).await?.starts_with("9 keys"));
        let gone = outside.address();
        outside.kill9()?;
        import(&gone).must(1, &["connection refused"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_local_cluster_is_asked_as_its_administrator(engine) {
        let local = Local::with_ports(&engine, "", 6)?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        let outside = Server::builder(&engine).start()?;
        fill(&outside, 0, 300).await?;
        local.run(&["import", "local", "--from", &outside.address()]).must(0, &["imported 300 keys; the source holds 0 keys"]);
        local.run(&["info"]).must(0, &["300 keys in 3 primaries"]);
        local.run(&["call", "--primaries", "local", "flushall"]).must(0, &["OK"]);
        let told = local.run(&["call", "local", "acl", "list"]).must(0, &["user default", "(secret)"]);
        let users = std::fs::read_to_string(local.dir().join("secrets/default"))?;
        told.without(&[users.trim()]);
        local.run(&["info"]).must(0, &["0 keys in 3 primaries"]);
        local.until_healthy()
    }
}
