//! What `up --watch` tells of what its cluster goes through.

use std::time::Duration;

use shardwright_testkit::{each_engine, until};

use crate::local::Local;
use crate::rig::shell;

const LIMIT: Duration = Duration::from_secs(60);

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_watch_tells_of_slots_that_are_down_and_of_who_promoted_whom(engine) {
        let local = Local::new(&engine, "")?;
        let port = local.ports.first().to_string();
        let words = local.up_args(&port, &["--watch", "--log-format", "json"]);
        let mut watch = local.home.start(local.home.command(&words));
        watch.until_said("\"message\":\"healthy\"", LIMIT);
        let frozen = local.pid(local.a_primary()?)?;
        shell(&format!("kill -STOP {frozen}"));
        watch.until_said("slots are not served", LIMIT);
        watch.until_said("the engine's own failover", LIMIT);
        watch.until_said("slots are served again", LIMIT);
        shell(&format!("kill -CONT {frozen}"));
        watch.until_said("healthy again", LIMIT);
        local.until_healthy()?;

        let status = local.status()?;
        let replica = status["shards"][1]["nodes"][1]["server"].as_str().ok_or("no replica")?;
        let connection = local.administrator(replica.trim_start_matches("c-").parse()?).await?;
        // The engine refuses it while the replica's bus link to its primary is just made anew.
        let takes_over = || async {
            let mut connection = connection.clone();
            let asked = redis::cmd("CLUSTER").arg("FAILOVER").query_async::<()>(&mut connection).await;
            asked.map_err(|e| e.to_string())
        };
        until("a replica is asked to take over", LIMIT, takes_over).await?;
        watch.until_said("a person or another program", LIMIT);

        watch.signal("TERM", false);
        let said = watch.end().must(0, &["the watch has ended"]).err;
        let (_, watched) = said.split_once("{\"fields\"").ok_or("no event")?;
        let watched = format!("{{\"fields\"{watched}");
        let mut down = false;
        for line in watched.lines() {
            let event: serde_json::Value = serde_json::from_str(line)?;
            assert!(event["timestamp"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
            let what = event["fields"]["message"].as_str().ok_or("no message")?;
            down = (down || what == "slots are not served") && what != "slots are served again";
            assert!(!(down && what.starts_with("healthy")), "{said}");
            if what == "slots are not served" {
                assert_eq!(event["level"], "ERROR");
                assert!(event["fields"]["cause"].is_string(), "{line}");
            }
        }
        Ok(())
    }
}
