//! A replica whose first copy never ends, as its primary closes it for its output, is named with what lets it end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use shardwright_testkit::slots::tag_for;
use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Cluster, each_engine};

use crate::rig::{Home, paste};

const LIMIT: Duration = Duration::from_secs(60);
/// How many keys a copy has, each of which takes 5 ms to send.
const KEYS: usize = 300;

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_copy_that_begins_again_and_again_is_named_and_what_is_printed_lets_it_end(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let (target, primary) = (cluster[1].address(), &cluster[0]);
        let tag = tag_for(cluster.slots(0).0);
        for i in 0..KEYS {
            primary.ask::<()>(&["SET", &format!("{{{tag}}}{i}"), "x"]).await?;
        }
        for (key, value) in [
            ("repl-backlog-size", "16384"),
            ("repl-diskless-sync-delay", "0"),
            ("rdb-key-save-delay", "5000"),
            ("client-output-buffer-limit", "replica 65536 0 0"),
        ] {
            primary.ask::<()>(&["CONFIG", "SET", key, value]).await?;
        }
        // About 2 MB a second, all the time.
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (mut connection, ended) = (primary.connection().await?, Arc::clone(&stop));
        let count = Arc::clone(&written);
        let key = format!("{{{tag}}}large");
        let writer = tokio::spawn(async move {
            let value = "x".repeat(20_000);
            let mut pace = tokio::time::interval(Duration::from_millis(10));
            while !ended.load(Ordering::Relaxed) {
                let mut set = redis::cmd("SET");
                set.arg(&key).arg(&value);
                set.exec_async(&mut connection).await?;
                count.fetch_add(1, Ordering::Relaxed);
                pace.tick().await;
            }
            Ok::<(), redis::RedisError>(())
        });
        // It comes back when what it lacks is in no backlog any more: it has to take a full copy.
        let replica = &cluster[3];
        replica.freeze()?;
        primary.ask::<u64>(&["CLIENT", "KILL", "TYPE", "replica"]).await?;
        let before = written.load(Ordering::Relaxed);
        until_blocking("50 values of 20 kB are written", LIMIT, || {
            let more = written.load(Ordering::Relaxed) - before;
            if more > 50 { Ok(()) } else { Err(format!("{more}")) }
        })?;
        replica.thaw()?;
        let mut remedy = String::new();
        until_blocking("check names it", LIMIT, || {
            let ran = home.run(&["check", &target]);
            let named = ran.out.contains("begins again and again");
            let line = ran.out.lines().find(|l| l.contains("CONFIG SET client-output-buffer-limit"));
            line.unwrap_or_default().trim().clone_into(&mut remedy);
            if named && ran.code == Some(1) { Ok(()) } else { Err(ran.out + &ran.err) }
        })?;
        paste(&home, &engine, &remedy);
        until_blocking("the copy ends", LIMIT, || {
            let ran = home.run(&["check", &target]);
            if ran.code == Some(0) { Ok(()) } else { Err(ran.out + &ran.err) }
        })?;
        stop.store(true, Ordering::Relaxed);
        writer.await??;
        Ok(())
    }
}
