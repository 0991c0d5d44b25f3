//! What a person sees of a cluster: short where it is long, whole where it is asked for, again and again.

use std::time::Duration;

use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Cluster, Server, each_engine};

use crate::rig::{Home, Ran};

const LIMIT: Duration = Duration::from_secs(30);
/// A line that a person can take in. Every third slot in a list takes 26 KB.
const LINE_MAX: usize = 400;

/// No line of it is longer than a person can take in.
#[track_caller]
fn is_short(ran: &Ran) {
    for line in ran.out.lines().chain(ran.err.lines()) {
        let start: String = line.chars().take(LINE_MAX).collect();
        assert!(line.chars().count() <= LINE_MAX, "{}: {start}", ran.args);
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn slots_in_pieces_are_cut_for_people_and_whole_for_programs(engine) {
        let home = Home::new()?;
        let mut nodes = Vec::new();
        for n in 0..3 {
            let node = Server::builder(&engine).cluster().start()?;
            let slots: Vec<String> = (n..16_384).step_by(3).map(|slot: u16| slot.to_string()).collect();
            let add: Vec<&str> = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
            node.ask::<String>(&add).await?;
            let epoch = (n + 1).to_string();
            node.ask::<String>(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch]).await?;
            nodes.push(node);
        }
        let at: Vec<String> = nodes.iter().map(Server::address).collect();
        for other in &at[1..] {
            let (host, port) = other.split_once(':').ok_or("an address")?;
            nodes[0].ask::<String>(&["CLUSTER", "MEET", host, port]).await?;
        }
        let healthy = || {
            let ran = home.run(&["check", &at[0]]);
            if ran.code == Some(0) { Ok(()) } else { Err(ran.out + &ran.err) }
        };
        until_blocking("the nodes agree", LIMIT, healthy)?;

        let short = home.run(&["status", &at[0]]).must(0, &["0, … (5462)", "1, … (5461)"]);
        is_short(&short);
        assert!(short.out.lines().all(|line| line.chars().count() <= 80), "{}", short.out);
        let wide = home.run(&["status", &at[0], "--wide"]).must(0, &["HOST"]);
        assert!(wide.out.matches(',').count() > 16_000, "every slot is there");
        let json: serde_json::Value = serde_json::from_str(&home.run(&["status", &at[0], "-o", "json"]).out)?;
        let slots = json["shards"][0]["slots"].as_str().ok_or("slots")?;
        assert_eq!(slots.split(',').count(), 5_462);

        let node = nodes[2].id().await?;
        let plan = ["remove-node", &at[0], &node, "--dry-run"];
        // Three shards are the fewest: the plan is refused, or shown; either is told in short lines.
        is_short(&home.run(&plan));
        nodes[2].kill9()?;
        is_short(&home.run(&["check", &at[0]]).must(1, &["(5461)"]));
        is_short(&home.run(&["fix", &at[0], "--timeout", "2"]));
        is_short(&home.run(&["plan", &at[0]]));
        let json = home.run(&["check", &at[0], "-o", "json"]).must(1, &[]);
        let json: serde_json::Value = serde_json::from_str(&json.out)?;
        let problems = json["problems"].as_array().ok_or("problems")?;
        let whole = |p: &serde_json::Value| p["slots"].as_str().is_some_and(|s| s.split(',').count() == 5_461);
        assert!(problems.iter().any(whole), "{problems:?}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn status_is_shown_again_until_it_is_ended(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 0, |builder| builder).await?;
        let target = cluster[0].address();
        for wrong in ["0", "x", "3601"] {
            home.run(&["status", &target, "--watch", wrong]).must(2, &["--watch"]);
        }
        for form in ["table", "json"] {
            let watch = home.start(home.command(&["status", &target, "-o", form, "--watch", "1"]));
            let shown = || {
                let times = watch.said().matches("3 shards, 16384 of 16384").count();
                let lines = watch.written().lines().filter(|l| l.contains("\"shards\"")).count();
                let times = if form == "json" { lines } else { times };
                if times >= 3 { Ok(()) } else { Err(format!("{times} times")) }
            };
            until_blocking("it was shown three times", LIMIT, shown)?;
            watch.signal("INT", false);
            let ran = watch.end().must(130, &[]);
            if form == "table" {
                assert!(ran.out.matches("SLOTS").count() >= 3, "{ran:?}");
                continue;
            }
            let results: Result<Vec<serde_json::Value>, _> = ran.out.lines().map(serde_json::from_str).collect();
            let results = results?;
            assert_eq!(results[0]["outcome"], "done", "{ran:?}");
            let last = results.last().ok_or("a result")?;
            assert_eq!((&last["outcome"], &last["exit_code"]), (&"interrupted".into(), &130.into()), "{ran:?}");
        }
        Ok(())
    }
}
