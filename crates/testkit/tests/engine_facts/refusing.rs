//! What a server still answers while it refuses commands: whoever refuses is there.

use std::time::Duration;

use shardwright_testkit::{Cluster, Kind, Server, each_engine, until};

use crate::scene::SOON;

/// What an observation asks.
const VIEW: [&[&str]; 4] = [
    &["CLUSTER", "MYID"],
    &["CLUSTER", "NODES"],
    &["CLUSTER", "INFO"],
    &["INFO"],
];

/// What is in the refusal of a replica that lost its link.
const NO_OLD_DATA: &str = "replica-serve-stale-data";

async fn answers(server: &Server, words: &[&str]) -> Result<(), String> {
    let reply = server.ask::<redis::Value>(words).await;
    reply.map(|_| ()).map_err(|e| format!("{e:?}"))
}

async fn refuses(server: &Server, words: &[&str], code: &str) {
    let said = answers(server, words).await.expect_err("it is refused");
    // The client library has names of its own for these.
    let named = match code {
        "BUSY" => "busy",
        "LOADING" => "BusyLoading",
        other => other,
    };
    let known = said.contains(code) || said.contains(named);
    assert!(known, "{words:?}, not {code}: {said}");
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_a_replica_that_serves_no_old_data_still_tells_of_itself(engine) {
        let mut cluster = Cluster::formed(&engine, 3, 1, |b| b.config("replica-serve-stale-data", "no")).await?;
        cluster[0].kill9()?;
        let replica = &cluster[3];
        until("it refuses to count its keys", SOON, || async {
            match answers(replica, &["DBSIZE"]).await {
                Err(said) if said.contains(NO_OLD_DATA) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        refuses(replica, &["PING"], NO_OLD_DATA).await;
        for words in VIEW.iter().chain(&[&["ROLE"][..], &["INFO", "keyspace"], &["CONFIG", "GET", "port"]]) {
            answers(replica, words).await?;
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_a_busy_server_answers_nothing_but_what_ends_the_script(engine) {
        let server = Server::builder(&engine).cluster().config("busy-reply-threshold", "100").start()?;
        server.ask::<()>(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await?;
        let runs = server.ask::<redis::Value>(&["EVAL", "while true do end", "0"]);
        let watched = async {
            until("it is busy", SOON, || async {
                match answers(&server, &["PING"]).await {
                    Err(said) if said.to_lowercase().contains("busy") => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await?;
            for words in VIEW.iter().chain(&[&["ROLE"][..], &["DBSIZE"]]) {
                refuses(&server, words, "BUSY").await;
            }
            server.ask::<()>(&["SCRIPT", "KILL"]).await
        };
        let (ended, watched) = tokio::join!(runs, watched);
        watched?;
        assert!(ended.is_err(), "the script was ended");
        for words in VIEW {
            answers(&server, words).await?;
        }
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn fact_a_loading_server_says_so_in_info(engine) {
        let server = Server::builder(&engine).cluster()
            .config("key-load-delay", "2000")
            .config("loading-process-events-interval-bytes", "1024")
            .start()?;
        server.ask::<()>(&["DEBUG", "POPULATE", "2000"]).await?;
        let loads = server.ask::<redis::Value>(&["DEBUG", "RELOAD"]);
        let valkey = engine.kind == Kind::Valkey;
        let watched = async {
            let says = || async {
                let said = server.field(&["INFO"], "loading").await.map_err(|e| e.to_string())?;
                if said.as_deref() == Some("1") { Ok(()) } else { Err(format!("{said:?}")) }
            };
            until("it loads", SOON, says).await?;
            refuses(&server, &["PING"], "LOADING").await;
            refuses(&server, &["DBSIZE"], "LOADING").await;
            answers(&server, &["ROLE"]).await?;
            // Valkey tells its table of nodes meanwhile, Redis does not.
            if valkey {
                answers(&server, &["CLUSTER", "NODES"]).await?;
            } else {
                refuses(&server, &["CLUSTER", "NODES"], "LOADING").await;
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        };
        let (loaded, watched) = tokio::join!(tokio::time::timeout(Duration::from_secs(30), loads), watched);
        watched?;
        loaded??;
        Ok(())
    }
}
