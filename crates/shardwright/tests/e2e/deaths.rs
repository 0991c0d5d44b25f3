//! What lives though it is not heard is not passed over, and nothing without data starts where it would be copied.

use std::fs;
use std::time::Duration;

use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Cluster, Load, LoadOptions, each_engine, until};
use shardwright_topology::Role;

use crate::local::Local;
use crate::rig::{Block, Home, shell, standing};

const LIMIT: Duration = Duration::from_secs(30);

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_living_primary_that_announces_a_wrong_port_is_not_passed_over(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let target = cluster[1].address();
        let closed = Block::take(1)?;
        let wrong = closed.first().to_string();
        cluster[0].ask::<()>(&["CONFIG", "SET", "cluster-announce-port", &wrong]).await?;
        let suspect = "nothing listens at its announced address";
        let named = || {
            let ran = home.run(&["check", &target]);
            // Until the news is everywhere it is still found at the address that some have.
            let all = [suspect, "not heard, but lives"].iter().all(|words| ran.out.contains(words));
            if ran.code == Some(1) && all { Ok(()) } else { Err(ran.out + &ran.err) }
        };
        until_blocking("check names the address", LIMIT, named)?;
        let real = cluster[0].port().to_string();
        let mend = format!("redis-cli -h 127.0.0.1 -p {real} CONFIG SET cluster-announce-port {real}");
        home.run(&["check", &target]).must(1, &["nodes have a bus link to", &wrong, &mend]).without(&["start it again"]);
        // The replica looks for it at the announced port, and loses its link.
        let replica = &cluster[3];
        let address = replica.address();
        home.run(&["fix", &target]).must(3, &["a person has to decide", "which proves no death"]);
        for how in ["--force", "--takeover"] {
            let ran = home.run(&["failover", &target, &address, how]);
            assert_ne!(ran.code, Some(0), "{ran:?}");
        }
        assert_eq!(standing(replica).await?.role, Role::Replica, "nobody was promoted");
        // What is written to it meanwhile stays.
        let words: Vec<&str> = mend.split(' ').skip(5).collect();
        cluster[0].ask::<()>(&words).await?;
        let well = || {
            let ran = home.run(&["check", &target]);
            if ran.code == Some(0) { Ok(()) } else { Err(ran.out + &ran.err) }
        };
        until_blocking("the remedy mends it", LIMIT, well)?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_busy_and_a_paused_server_are_not_to_be_started_again(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |b| b.config("busy-reply-threshold", "100")).await?;
        let target = cluster[1].address();
        let runs = cluster[0].ask::<()>(&["EVAL", "while true do end", "0"]);
        let watched = async {
            until("check says how to end it", LIMIT, || async {
                let ran = home.run(&["check", &target]);
                if ran.out.contains("SCRIPT KILL") { Ok(()) } else { Err(ran.out + &ran.err) }
            }).await?;
            cluster[0].ask::<()>(&["SCRIPT", "KILL"]).await
        };
        let (ended, watched) = tokio::join!(runs, watched);
        watched?;
        assert!(ended.is_err(), "the script was ended");
        cluster[0].ask::<()>(&["CLIENT", "PAUSE", "20000", "ALL"]).await?;
        home.run(&["check", &target])
            .must(1, &["answers other nodes, but no client", "CLIENT PAUSE"])
            .without(&["start it again,"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn an_empty_server_waits_for_the_replica_that_would_copy_it(engine) {
        let local = Local::with_ports(&engine, "  config: {replica-serve-stale-data: 'no'}\n", 6)?;
        local.up(&[]).must(0, &["[OK]"]);
        let load = local.load("kept")?;
        load.until_more(300, LIMIT).await?;
        let written = load.stop().await;
        // Its replica does not answer, and its directory is lost.
        let primary = 0;
        let status = local.status()?;
        let shards = status["shards"].as_array().ok_or("no shards")?;
        let shard = shards.iter().find(|s| s["nodes"][0]["server"] == "c-0").ok_or("c-0 is no primary")?;
        let replica: usize = shard["nodes"][1]["server"].as_str().ok_or("no replica")?.trim_start_matches("c-").parse()?;
        let frozen = local.pid(replica)?;
        shell(&format!("kill -STOP {frozen}"));
        local.kill9([primary])?;
        fs::remove_dir_all(local.node(primary).join("data"))?;
        fs::create_dir(local.node(primary).join("data"))?;
        let ran = local.up(&["--timeout", "6"]);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains("starts once nobody copies it"), "{said}");
        shell(&format!("kill -CONT {frozen}"));
        local.up(&[]).must(0, &["[OK]"]);
        local.all_there(&written).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn the_only_copy_comes_back_although_its_table_of_nodes_is_empty(engine) {
        let local = Local::with_ports(&engine, "  replicasPerShard: 1\n", 6)?;
        local.up(&[]).must(0, &["[OK]"]);
        let load = local.load("one")?;
        load.until_more(300, LIMIT).await?;
        let written = load.stop().await;
        // Its replica's directory is lost as well.
        local.kill9([0, 3])?;
        fs::remove_dir_all(local.node(3).join("data"))?;
        fs::write(local.node(0).join("data/nodes.conf"), "")?;
        local.up(&[]).must(0, &["[OK] c is healthy"]);
        local.all_there(&written).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_4, valkey_8_0]
    async fn a_locale_that_is_not_installed_stops_nothing(engine) {
        let local = Local::with_ports(&engine, "", 6)?;
        let port = local.ports.first().to_string();
        let mut command = local.home.command(&local.up_args(&port, &[]));
        command.env("LC_ALL", "xx_XX.UTF-8");
        local.home.finish(command).must(0, &["[OK]"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_4, valkey_8_0]
    async fn a_server_that_ends_at_once_is_shown_with_its_log(engine) {
        let local = Local::with_ports(&engine, "  config: {locale-collate: xx_XX.UTF-8}\n", 6)?;
        let ran = local.up(&["--timeout", "20"]);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        assert!(ran.err.contains("ended at once"), "{ran:?}");
        assert!(ran.err.to_lowercase().contains("locale"), "{ran:?}");
        assert!(!local.dir().exists(), "it was tried before anything was changed");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn what_clients_write_to_a_primary_that_announces_a_wrong_port_stays(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let (target, replica) = (cluster[1].address(), cluster[3].address());
        let closed = Block::take(1)?;
        let wrong = closed.first().to_string();
        // Clients that know where it listens, and nothing else: three lanes of its own slots.
        let own = LoadOptions { slots: vec![7, 1_827, 3_647], ..LoadOptions::default() };
        let load = Load::start(&[cluster[0].address()], own);
        load.until_more(300, LIMIT).await?;
        cluster[0].ask::<()>(&["CONFIG", "SET", "cluster-announce-port", &wrong]).await?;
        // From now on its replica looks for it where nobody listens: what is written is nowhere else.
        until("the replica has lost its link", LIMIT, || async {
            match cluster[3].has_no_link().await {
                Ok(true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        }).await?;
        let told = |view: &str| view.contains(&format!(":{wrong}@"));
        cluster.until_views("all have the announced port", told).await?;
        load.until_more(300, LIMIT).await?;
        let announced = format!("nothing listens at its announced address 127.0.0.1:{wrong}");
        // Whoever asks the primary itself is told the same, and nobody else is blamed.
        let itself = cluster[0].address();
        for asked in [&target, &itself] {
            let ran = home.run(&["check", asked]);
            ran.must(1, &["[ERR]", &announced, "announced port wrong?"]).without(&["a wrong address of"]);
        }
        for (words, why) in [
            (&["fix", &target][..], "a person has to decide"),
            (&["fix", &itself][..], "set what it announces: CONFIG SET cluster-announce-port"),
            (&["failover", &target, &replica, "--force"], "is not proved dead"),
            (&["failover", &target, &replica, "--takeover"], "is not proved dead"),
            (&["failover", &target, &replica], "its primary is not heard"),
        ] {
            home.run(words).must(3, &[why]);
            assert_eq!(standing(&cluster[3]).await?.role, Role::Replica, "{words:?}");
            load.until_more(100, LIMIT).await?;
        }
        let real = cluster[0].port().to_string();
        cluster[0].ask::<()>(&["CONFIG", "SET", "cluster-announce-port", &real]).await?;
        load.until_more(300, LIMIT).await?;
        until_blocking("all is well", LIMIT, || {
            let ran = home.run(&["check", &target]);
            if ran.code == Some(0) { Ok(()) } else { Err(ran.out + &ran.err) }
        })?;
        let report = load.stop().await;
        assert_eq!(report.lost(&cluster.addresses()).await?, [], "of {}", report.acked());
        Ok(())
    }
}
