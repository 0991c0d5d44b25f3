//! A primary that is frozen for longer than node-timeout takes the writes that wait in its sockets, and none of them is
//! kept: that is told, with a number that covers what clients lost.

use std::time::Duration;

use serde_json::Value;
use shardwright_testkit::load::Lost;
use shardwright_testkit::{Engine, LoadOptions, each_engine};

use crate::local::{Local, Outcome};
use crate::rig::shell;

const LIMIT: Duration = Duration::from_secs(60);
/// So many writers have a write each in a socket of the frozen primary.
const WRITERS: u16 = 20;

/// What clients lost that they were told is done, and what the watch told of it.
struct Frozen {
    lost: Vec<Lost>,
    events: Vec<Value>,
}

/// Freezes a primary, until its replica took its place, under writers that wait so long for an answer.
async fn freeze(engine: &Engine, patience: Duration) -> Outcome<Frozen> {
    let local = Local::new(engine, "")?;
    let port = local.ports.first().to_string();
    let words = local.up_args(&port, &["--watch", "--log-format", "json"]);
    let mut watch = local.home.start(local.home.command(&words));
    watch.until_said("\"message\":\"healthy\"", LIMIT);
    // The primary of the second shard, and slots of it.
    let pid = local.pid(local.a_primary()?)?;
    let status = local.status()?;
    let slots = status["shards"][1]["slots"].as_str().ok_or("no slots")?;
    let first: u16 = slots.split('-').next().unwrap_or(slots).parse()?;
    let load = local.load_with(LoadOptions {
        slots: (first..first + WRITERS).collect(),
        timeout: patience,
        prefix: "frozen".to_owned(),
        ..LoadOptions::default()
    })?;
    load.until_more(500, LIMIT).await?;

    shell(&format!("kill -STOP {pid}"));
    watch.until_said("the engine's own failover", LIMIT);
    shell(&format!("kill -CONT {pid}"));
    load.until_more(500, LIMIT).await?;
    let report = load.stop().await;
    watch.until_said("acknowledged write", LIMIT);
    local.until_healthy()?;
    let lost = report.lost(&local.ports.addresses()).await?;

    watch.signal("TERM", false);
    let said = watch.end().must(0, &["the watch has ended"]).err;
    let lines = said.lines().filter(|line| line.starts_with('{'));
    let mut events = Vec::new();
    for line in lines {
        let event: Value = serde_json::from_str(line)?;
        if event["fields"].get("dropped_bytes").is_some() {
            events.push(event);
        }
    }
    Ok(Frozen { lost, events })
}

/// Up to how many writes the events tell; `None` where one says that it is not known.
fn told(events: &[Value]) -> Option<u64> {
    events
        .iter()
        .map(|event| event["fields"]["dropped_writes_max"].as_u64())
        .sum()
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn what_a_frozen_primary_took_is_told_with_a_number_that_covers_it(engine) {
        let frozen = freeze(&engine, LIMIT).await?;
        let (lost, events) = (frozen.lost.len() as u64, &frozen.events);
        assert!(lost > 0, "nothing was lost, so nothing is tested: {events:?}");
        assert_eq!(events.len(), 1, "once: {events:?}");
        assert_eq!(events[0]["level"], "ERROR");
        assert!(told(events).is_none_or(|most| most >= lost), "{lost} were lost: {events:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_client_that_gives_up_before_node_timeout_loses_nothing_that_it_was_told_is_done(engine) {
        let frozen = freeze(&engine, Duration::from_secs(1)).await?;
        assert_eq!(frozen.lost, []);
        assert_eq!(frozen.events.len(), 1, "the server can't know who gave up: {:?}", frozen.events);
        Ok(())
    }
}
