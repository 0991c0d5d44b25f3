//! A replica that is older than its primary can't read its copy: refused before it joins, and named where it is.

use std::time::Duration;

use shardwright_testkit::{Cluster, Engine, Server, each_engine, engine as find_engine, until};

use crate::rig::{Home, args, states_of};

const LIMIT: Duration = Duration::from_secs(30);

/// The older version of the same engine.
fn older(engine: &Engine) -> Option<Engine> {
    let name = if engine.name.starts_with("redis") {
        "redis-7.0"
    } else {
        "valkey-8.0"
    };
    find_engine(name).ok()
}

each_engine! {
    [redis_7_4, valkey_9_1]
    async fn an_older_replica_is_refused_before_it_joins(engine) {
        let Some(older) = older(&engine) else { return Ok(()) };
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |b| b).await?;
        let old = Server::builder(&older).cluster().start()?;
        let (target, joiner) = (cluster[1].address(), old.address());
        let primary = cluster[0].id().await?;
        let before = states_of([&old]).await?;
        for more in [&[][..], &["--replica-of", &primary][..], &["--dry-run"][..]] {
            let words = [&["add-node", &target, &joiner], more].concat();
            home.run(&words).must(3, &["can't join as a replica", "can't read all that", "lack what it does not know"]);
        }
        assert_eq!(states_of([&old]).await?, before, "nobody met it");

        // One that is there all the same is named, and not waited for.
        let (host, port) = (old.host().to_owned(), old.port().to_string());
        cluster[0].ask::<()>(&["CLUSTER", "MEET", &host, &port]).await?;
        let follow = || async {
            old.ask::<()>(&["CLUSTER", "REPLICATE", &primary]).await.map_err(|e| e.to_string())
        };
        until("it follows", LIMIT, follow).await?;
        let named = || async {
            let ran = home.run(&["check", &target]);
            let told = format!("{}\n{}", ran.out, ran.err);
            let words = ["can't read all that its primary", "lacks what it does not know", "remove-node"];
            let all = ran.code == Some(1) && words.iter().all(|w| told.contains(w));
            if all { Ok(()) } else { Err(told) }
        };
        until("check names it", LIMIT, named).await?;
        home.run(&["fix", &target, "--timeout", "20"]).must(3, &["lacks what it does not know"]);
        let id = old.id().await?;
        home.run(&["remove-node", &target, &id]).must(0, &["has left"]);
        home.run(&["check", &target]).must(0, &["[OK]"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_4, valkey_9_1]
    async fn a_cluster_with_replicas_is_not_formed_of_versions_that_cannot_read_each_other(engine) {
        let Some(older) = older(&engine) else { return Ok(()) };
        let home = Home::new()?;
        let mut servers = Vec::new();
        for i in 0..6 {
            let engine = if i < 3 { &engine } else { &older };
            servers.push(Server::builder(engine).cluster().start()?);
        }
        let before = states_of(&servers).await?;
        let addresses: Vec<String> = servers.iter().map(Server::address).collect();
        home.run(&args(&["create", "--replicas", "1", "--yes"], &addresses))
            .must(3, &["can't read all that", "bring all nodes to one version"]);
        assert_eq!(states_of(&servers).await?, before, "nothing was done");
        Ok(())
    }
}

each_engine! {
    [redis_7_4, valkey_9_1]
    async fn who_could_not_follow_is_said_before_a_switchover(engine) {
        let Some(older) = older(&engine) else { return Ok(()) };
        let home = Home::new()?;
        let cluster = Cluster::formed(&older, 3, 1, |b| b).await?;
        let new = Server::builder(&engine).cluster().start()?;
        let (target, primary) = (cluster[1].address(), cluster[0].id().await?);
        home.run(&["add-node", &target, &new.address(), "--replica-of", &primary]).must(0, &["has joined"]);
        let id = new.id().await?;
        let old = [cluster[0].address()];
        home.run(&["failover", &target, &id, "--dry-run"]).must(0, &["can't follow it", &old[0]]);
        home.run(&["failover", &target, &id]).must(1, &["can't follow it", "Nothing was changed"]);
        let role: Vec<redis::Value> = new.ask(&["ROLE"]).await?;
        // A primary says three things, a replica five.
        assert_eq!(role.len(), 5, "it is a replica still: {role:?}");
        home.run(&["failover", &target, &id, "--yes"]).must(0, &["is the primary"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_4, valkey_9_1]
    async fn keys_of_a_newer_server_are_not_imported(engine) {
        let Some(older) = older(&engine) else { return Ok(()) };
        let home = Home::new()?;
        let cluster = Cluster::formed(&older, 3, 0, |b| b).await?;
        let newer = Server::builder(&engine).start()?;
        newer.ask::<()>(&["SET", "k", "v"]).await?;
        let before = states_of(&cluster.servers).await?;
        let (at, from) = (cluster[0].address(), newer.address());
        for more in [&["--dry-run"][..], &[][..]] {
            let words = [&["import", &at, "--from", &from][..], more].concat();
            home.run(&words).must(3, &["can't read keys that it writes", "bring the cluster to that version"]);
        }
        assert_eq!(states_of(&cluster.servers).await?, before, "nothing was done");
        Ok(())
    }
}
