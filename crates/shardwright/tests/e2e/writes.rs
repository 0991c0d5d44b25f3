//! A server that answers everything but what clients write is not healthy, and it is said why.

use std::time::{Duration, Instant};

use shardwright_testkit::slots::tag_for;
use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Cluster, each_engine, until};

use crate::rig::{Home, paste};

const LIMIT: Duration = Duration::from_secs(20);

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_primary_that_refuses_writes_is_named_and_what_mends_it_helps(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let target = cluster[1].address();
        let primary = &cluster[0];
        let well = || until_blocking("all is well", LIMIT, || {
            let ran = home.run(&["check", &target]);
            if ran.code == Some(0) { Ok(()) } else { Err(ran.out + &ran.err) }
        });
        let set = |key: &'static str, value: &'static str| async move {
            primary.ask::<()>(&["CONFIG", "SET", key, value]).await
        };
        let slots = cluster.slots(0);
        let key = tag_for(slots.0);
        let refused = || async {
            match primary.ask::<()>(&["SET", &key, "1"]).await {
                Ok(()) => Err("it takes writes".to_owned()),
                Err(_) => Ok(()),
            }
        };
        well()?;

        set("maxmemory", "1").await?;
        until("it refuses writes", LIMIT, refused).await?;
        home.run(&["check", &target])
            .must(1, &["[ERR]", "refuses writes: its memory limit is reached", "CONFIG SET maxmemory"]);
        home.run(&["status", &target]).must(1, &["not healthy"]);
        set("maxmemory", "0").await?;
        well()?;

        // One of two that are asked for is too few as well.
        set("min-replicas-to-write", "1").await?;
        well()?;
        set("min-replicas-to-write", "2").await?;
        let few = ["[ERR]", "fewer replicas keep up than min-replicas-to-write asks for"];
        home.run(&["check", &target]).must(1, &few);
        cluster[3].ask::<()>(&["CLUSTER", "RESET", "SOFT"]).await?;
        until("it refuses writes", LIMIT, refused).await?;
        let named = || {
            let ran = home.run(&["check", &target]);
            let all = ran.code == Some(1) && ran.out.contains(few[1]);
            if all { Ok(()) } else { Err(ran.out + &ran.err) }
        };
        until_blocking("check names it", LIMIT, named)?;
        set("min-replicas-to-write", "0").await?;
        home.run(&["add-node", &target, &cluster[3].address()]).must(0, &["has joined"]);
        well()?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_failed_snapshot_is_named_where_it_stops_writes(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let (target, primary) = (cluster[1].address(), &cluster[0]);
        let failed = || async {
            match primary.field(&["INFO", "persistence"], "rdb_last_bgsave_status").await {
                Ok(Some(status)) if status == "err" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        };
        // The snapshot can't take the place of a directory.
        let file = primary.dir().join("dump.rdb");
        if file.exists() {
            std::fs::remove_file(&file)?;
        }
        std::fs::create_dir(&file)?;
        primary.ask::<()>(&["BGSAVE"]).await?;
        until("the snapshot fails", LIMIT, failed).await?;
        // It takes none by itself: then it goes on.
        primary.ask::<()>(&["CONFIG", "SET", "save", ""]).await?;
        home.run(&["check", &target]).must(0, &["[OK]"]);
        primary.ask::<()>(&["CONFIG", "SET", "save", "3600 1"]).await?;
        let key = tag_for(cluster.slots(0).0);
        let ran = primary.ask::<()>(&["SET", &key, "1"]).await;
        assert!(format!("{ran:?}").contains("MISCONF"), "{ran:?}");
        let replica = cluster[3].id().await?;
        let instead = format!("shardwright failover {target} {}", &replica[..8]);
        home.run(&["check", &target]).must(1, &["[ERR]", "refuses writes: its last snapshot failed", "BGSAVE", &instead]);
        // Both remedies help: room on its disk, and a replica in its place.
        std::fs::remove_dir(&file)?;
        primary.ask::<()>(&["BGSAVE"]).await?;
        until_blocking("all is well", LIMIT, || {
            let ran = home.run(&["check", &target]);
            if ran.code == Some(0) { Ok(()) } else { Err(ran.out + &ran.err) }
        })?;
        primary.ask::<()>(&["SET", &key, "1"]).await?;
        std::fs::remove_file(&file)?;
        std::fs::create_dir(&file)?;
        primary.ask::<()>(&["BGSAVE"]).await?;
        until("the snapshot fails", LIMIT, failed).await?;
        home.run(&["failover", &target, &replica[..8]]).must(0, &["is the primary"]);
        cluster[3].ask::<()>(&["SET", &key, "2"]).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn slots_that_are_to_move_where_writes_are_refused_wait_and_it_is_said_at_once(engine) {
        let home = Home::new()?;
        let mut cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let [from, to] = [cluster[0].address(), cluster[1].address()];
        let key = format!("{{{}}}", tag_for(0));
        cluster[0].ask::<()>(&["SET", &key, "1"]).await?;
        cluster[1].ask::<()>(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await?;
        cluster[4].kill9()?;
        let theirs = tag_for(cluster.slots(1).0);
        until("it refuses writes", LIMIT, || async {
            match cluster[1].ask::<()>(&["SET", &theirs, "1"]).await {
                Ok(()) => Err("it takes writes".to_owned()),
                Err(_) => Ok(()),
            }
        }).await?;
        let words = ["reshard", &from, "--from", &from, "--to", &to, "--slots", "0-0", "--yes"];
        let begun = Instant::now();
        let command = format!("redis-cli -h {} -p {} CONFIG SET min-replicas-to-write 0", cluster[1].host(), cluster[1].port());
        home.run(&words).must(3, &["slots left to move: 1", "refuses writes: fewer replicas keep up", &command]);
        assert!(begun.elapsed() < LIMIT, "it does not go on until --timeout");
        let nodes: String = cluster[0].ask(&["CLUSTER", "NODES"]).await?;
        assert!(!nodes.contains("->-"), "nothing was begun: {nodes}");
        // The command that was printed.
        paste(&home, &engine, &command);
        home.run(&words).must(0, &["moved 1 slots"]);
        Ok(())
    }
}
