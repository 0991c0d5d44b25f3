//! `-o json`: whatever a verb does or refuses, programs read one object of one type.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use shardwright_testkit::{Cluster, Server, each_engine};

use crate::local::{Local, Outcome};
use crate::rig::{Home, Ran, TestResult, args, feed};

/// The fields that every result has, in their order.
const FIELDS: [&str; 11] = [
    "verb",
    "cluster",
    "outcome",
    "exit_code",
    "dry_run",
    "changed",
    "message",
    "warnings",
    "steps",
    "waiting",
    "error",
];

/// A run that was asked for JSON, and what it wrote: one object, which says the exit status too.
#[track_caller]
fn told(ran: &Ran, verb: Option<&str>) -> Value {
    let result: Value =
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("no JSON ({e}): {ran:?}"));
    for field in FIELDS {
        assert!(
            result.get(field).is_some(),
            "no field {field:?} in: {ran:?}"
        );
    }
    assert_eq!(result["verb"], json!(verb), "{ran:?}");
    assert_eq!(result["exit_code"], json!(ran.code), "{ran:?}");
    whole_ids(&result, ran);
    result
}

/// Wherever a node is named by `id`, the id is whole.
#[track_caller]
fn whole_ids(value: &Value, ran: &Ran) {
    match value {
        Value::Object(fields) => {
            if let Some(id) = fields.get("id").and_then(Value::as_str) {
                assert_eq!(id.len(), 40, "a short id: {ran:?}");
            }
            fields.values().for_each(|value| whole_ids(value, ran));
        }
        Value::Array(list) => list.iter().for_each(|value| whole_ids(value, ran)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Every verb that the program has, by its own help.
fn verbs(home: &Home) -> BTreeSet<String> {
    let help = home.run(&["--help"]).must(0, &["Commands:"]).out;
    let commands = help.split("Commands:\n").nth(1).unwrap_or("");
    let lines = commands
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = lines.filter_map(|line| line.split_whitespace().next());
    names
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

/// Runs each line with `-o json`. A line is the words, the exit status, the outcome, and whether anything was changed.
type Line<'a> = (&'a [&'a str], i32, &'a str, Value);

#[track_caller]
fn all(run: impl Fn(&[&str]) -> Ran, lines: &[Line<'_>], seen: &mut BTreeSet<String>) {
    for (words, code, outcome, changed) in lines {
        let ran = run(&[&["-o", "json"], *words].concat());
        let ran = ran.must(*code, &[]);
        let result = told(&ran, Some(words[0]));
        assert_eq!(result["outcome"], json!(outcome), "{ran:?}");
        assert_eq!(result["changed"], *changed, "{ran:?}");
        seen.insert(words[0].to_owned());
    }
}

#[test]
fn what_the_grammar_refuses_is_told_as_json_of_every_verb() -> TestResult {
    let home = Home::new()?;
    let verbs = verbs(&home);
    assert!(verbs.len() > 25, "{verbs:?}");
    for verb in &verbs {
        for wrong in [
            &["-o", "json", verb, "--no-such-flag"][..],
            &[verb, "--no-such-flag", "--output=json"],
        ] {
            let ran = home.run(wrong).must(2, &[]);
            let result = told(&ran, Some(verb));
            assert_eq!(result["outcome"], "usage-error", "{ran:?}");
            assert_eq!(result["error"]["code"], "usage", "{ran:?}");
            assert_eq!(result["changed"], false, "{ran:?}");
            assert!(ran.err.contains("error:"), "people read it too: {ran:?}");
        }
    }
    let ran = home.run(&["no-such-verb", "-o", "json"]).must(2, &[]);
    assert_eq!(told(&ran, None)["error"]["code"], "usage");
    // Help is no mistake.
    home.run(&["scale", "-o", "json", "--help"])
        .must(0, &["Usage:"]);
    // Without the flag standard output stays empty.
    assert_eq!(home.run(&["scale", "--no-such-flag"]).must(2, &[]).out, "");
    Ok(())
}

#[test]
fn errors_have_a_code_a_message_and_a_remedy() -> TestResult {
    let home = Home::new()?;
    // Nothing listens at port 1.
    let dead = "127.0.0.1:1";
    let lines: [(&[&str], i32, &str, &str); 12] = [
        (&["status"], 2, "no-cluster", "shardwright up"),
        (&["down"], 2, "no-cluster", "shardwright up"),
        (&["scale", "--shards", "4"], 2, "no-cluster", "up"),
        (&["pause"], 2, "no-cluster", "up"),
        (&["cancel"], 2, "no-cluster", "up"),
        (&["status", "local:"], 2, "usage", "local:NAME"),
        (&["up", "--shards", "2"], 2, "manifest-invalid", ""),
        (&["create", "a:1", "b:2"], 2, "usage", "give 3 nodes"),
        (&["check", dead], 1, "server-unreachable", ""),
        (&["fix", dead], 1, "server-unreachable", ""),
        (&["add-node", "local", dead], 2, "usage", "HOST:PORT"),
        (
            &[
                "reshard", "local", "--from", "all", "--to", "ab", "--slots", "1",
            ],
            2,
            "usage",
            "scale",
        ),
    ];
    for (words, code, error, remedy) in lines {
        let ran = home.run(&[words, &["-o", "json"]].concat()).must(code, &[]);
        let result = told(&ran, Some(words[0]));
        assert_eq!(result["error"]["code"], error, "{ran:?}");
        assert_eq!(result["changed"], false, "{ran:?}");
        let message = result["error"]["message"].as_str().unwrap_or("");
        assert!(!message.is_empty(), "{ran:?}");
        let told = result["error"]["remedy"].as_str().unwrap_or("");
        assert!(told.contains(remedy), "no {remedy:?}: {ran:?}");
    }
    Ok(())
}

/// The verbs that neither the local cluster nor the one that others run is asked by in these tests, and why.
const ELSEWHERE: [(&str, &str); 2] = [
    (
        "connect",
        "it becomes another program, which writes what it likes",
    ),
    (
        "operator",
        "it runs until it is ended, and needs Kubernetes",
    ),
];

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn every_verb_ends_in_one_object(engine) {
        let local = Local::new(&engine, "")?;
        let mut seen: BTreeSet<String> = ELSEWHERE.iter().map(|(verb, _)| (*verb).to_owned()).collect();
        of_a_local_cluster(&local, &mut seen)?;
        drop(local);
        let home = Home::new()?;
        of_documents(&home, &mut seen)?;
        of_others(&engine, &home, &mut seen).await?;
        assert_eq!(seen, verbs(&home), "every verb is in the table");
        Ok(())
    }
}

fn of_a_local_cluster(local: &Local, seen: &mut BTreeSet<String>) -> Outcome<()> {
    let (yes, no) = (json!(true), json!(false));
    let run = |words: &[&str]| local.run(words);
    let planned = local.up(&["--dry-run", "-o", "json"]).must(0, &[]);
    assert_eq!(told(&planned, Some("up"))["outcome"], "planned");
    let formed = told(&local.up(&["-o", "json"]).must(0, &[]), Some("up"));
    assert_eq!(
        (&formed["changed"], &formed["cluster"]),
        (&yes, &json!("local:c"))
    );
    let steps = formed["steps"].as_array().ok_or("steps")?;
    assert!(
        steps
            .iter()
            .any(|s| s["slots"] == "0-5460" && s["state"] == "done"),
        "{steps:?}"
    );
    assert!(steps.iter().all(|s| s["because"].is_string()), "{steps:?}");
    let again = told(&local.up(&["-o", "json"]).must(0, &[]), Some("up"));
    assert_eq!(
        (&again["changed"], &again["steps"]),
        (&no, &json!([])),
        "{again}"
    );
    seen.insert("up".to_owned());

    let replica =
        told(&run(&["status", "-o", "json"]), Some("status"))["shards"][0]["nodes"][1]["server"]
            .as_str()
            .ok_or("a replica")?
            .to_owned();
    let scale = ["scale", "--shards", "4", "--dry-run"];
    all(
        run,
        &[
            (&["status"], 0, "done", no.clone()),
            (&["ls"], 0, "done", no.clone()),
            (&["info"], 0, "done", no.clone()),
            (&["check"], 0, "done", no.clone()),
            (&["plan"], 0, "planned", no.clone()),
            (&["logs", "c-0"], 0, "done", no.clone()),
            (&["call", "local", "ping"], 0, "done", Value::Null),
            (&["rebalance"], 0, "done", no.clone()),
            (&["cancel"], 0, "done", no.clone()),
            (&["pause", "--dry-run"], 0, "planned", no.clone()),
            (&["pause"], 0, "done", yes.clone()),
            (&["pause"], 0, "done", no.clone()),
            (&["resume", "--dry-run"], 0, "planned", no.clone()),
            (&["resume"], 0, "done", yes.clone()),
            (&scale, 0, "planned", no.clone()),
            (&["scale", "--shards", "3"], 0, "done", no.clone()),
            (
                &["failover", "local", &replica, "--dry-run"],
                0,
                "planned",
                no.clone(),
            ),
            (&["failover", "local", &replica], 0, "done", yes.clone()),
            (&["failover", "local", &replica], 0, "done", no.clone()),
            (
                &["failover", "local", &replica, "--timeout", "x"],
                2,
                "usage-error",
                no.clone(),
            ),
            (&["fix"], 0, "done", no.clone()),
            (&["down", "--dry-run"], 0, "planned", no.clone()),
            (&["down"], 0, "done", yes.clone()),
            (&["check"], 1, "unhealthy", no.clone()),
            (&["down", "--purge"], 1, "declined", no.clone()),
            (&["down", "--purge", "--yes"], 0, "done", yes),
        ],
        seen,
    );
    Ok(())
}

/// What is for another program, and takes the place of the result.
fn of_documents(home: &Home, seen: &mut BTreeSet<String>) -> TestResult {
    let manifest = home.write(
        "c.yaml",
        "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {name: c}\nspec: {shards: 3}\n",
    )?;
    let passwords = home.path("passwords").display().to_string();
    let render = [
        "render",
        "-f",
        &manifest,
        "--secrets",
        &passwords,
        "--make-passwords",
    ];
    for words in [&["crd"][..], &["install"], &render] {
        let ran = home.run(&[words, &["-o", "json"]].concat()).must(0, &[]);
        let document: Value = serde_json::from_str(&ran.out)?;
        assert!(document["kind"].is_string(), "{ran:?}");
        seen.insert(words[0].to_owned());
    }
    // What an older API server would refuse is left out.
    for (words, policies, rules) in [
        (&["install"][..], true, true),
        (&["install", "--kubernetes", "1.29"], false, true),
        (&["install", "--kubernetes", "v1.24.3"], false, false),
        (&["install", "--without-cel"], false, false),
    ] {
        let out = home
            .run(&[words, &["-o", "json"]].concat())
            .must(0, &[])
            .out;
        assert_eq!(
            out.contains("ValidatingAdmissionPolicy"),
            policies,
            "{words:?}"
        );
        assert_eq!(out.contains("x-kubernetes-validations"), rules, "{words:?}");
    }
    for verb in ["crd", "install"] {
        home.run(&[verb, "--kubernetes", "new"])
            .must(2, &["--kubernetes new: write a version such as 1.20"]);
    }
    let no = json!(false);
    let lines: [Line<'_>; 3] = [
        (&["completions", "bash"], 0, "done", no.clone()),
        (&["man"], 0, "done", no),
        (&["man", "--dir", "pages"], 0, "done", json!(true)),
    ];
    all(|words| home.run(words), &lines, seen);
    Ok(())
}

async fn of_others(
    engine: &shardwright_testkit::Engine,
    home: &Home,
    seen: &mut BTreeSet<String>,
) -> TestResult {
    let (yes, no) = (json!(true), json!(false));
    let quick = || {
        Server::builder(engine)
            .cluster()
            .config("repl-diskless-sync-delay", "0")
            .start()
    };
    let nodes = [quick()?, quick()?, quick()?];
    let at: Vec<String> = nodes.iter().map(Server::address).collect();
    let run = |words: &[&str]| home.run(words);
    let create = args(&["create"], &at);
    let agreed = args(&["create", "--yes"], &at);
    let showed = args(&["create", "--dry-run"], &at);
    let again = args(&["create", "--unless-formed"], &at);
    all(
        run,
        &[
            (&showed, 0, "planned", no.clone()),
            (&create, 1, "declined", no.clone()),
            (&agreed, 0, "done", yes.clone()),
            (&again, 0, "done", no.clone()),
        ],
        seen,
    );
    let asked = feed(home, home.command(&["info", &at[0], "-o", "json"]), "");
    assert_eq!(
        told(&asked, Some("info"))["primaries"]
            .as_array()
            .map(Vec::len),
        Some(3)
    );

    let (new, outside) = (quick()?, Server::builder(engine).start()?);
    outside.ask::<String>(&["SET", "k", "v"]).await?;
    let (target, node, from) = (&at[0], new.address(), outside.address());
    a_node_joins(home, target, &node, seen);
    keys_come_and_a_node_leaves(home, target, &node, &from, seen);
    Ok(())
}

fn a_node_joins(home: &Home, target: &str, node: &str, seen: &mut BTreeSet<String>) {
    let (yes, no) = (json!(true), json!(false));
    let reshard = [
        "reshard", target, "--from", "all", "--to", node, "--slots", "3",
    ];
    all(
        |words| home.run(words),
        &[
            (
                &["set-timeout", target, "6000", "--dry-run"],
                0,
                "planned",
                no.clone(),
            ),
            (&["set-timeout", target, "6000"], 0, "done", yes.clone()),
            (
                &["add-node", target, node, "--primary", "--dry-run"],
                0,
                "planned",
                no.clone(),
            ),
            (
                &["add-node", target, node, "--primary"],
                0,
                "done",
                yes.clone(),
            ),
            (
                &["add-node", target, node, "--primary", "--replica-of", "x"],
                2,
                "usage-error",
                no.clone(),
            ),
            (
                &[&reshard[..], &["--dry-run"]].concat(),
                0,
                "planned",
                no.clone(),
            ),
            (&reshard, 1, "declined", no.clone()),
            (&[&reshard[..], &["--yes"]].concat(), 0, "done", yes.clone()),
        ],
        seen,
    );
}

fn keys_come_and_a_node_leaves(
    home: &Home,
    target: &str,
    node: &str,
    from: &str,
    seen: &mut BTreeSet<String>,
) {
    let (yes, no) = (json!(true), json!(false));
    let import = ["import", target, "--from", from];
    all(
        |words| home.run(words),
        &[
            (
                &["rebalance", target, "--dry-run"],
                0,
                "planned",
                no.clone(),
            ),
            (&["rebalance", target], 0, "done", yes.clone()),
            (&["rebalance", target], 0, "done", no.clone()),
            (
                &[&import[..], &["--dry-run"]].concat(),
                0,
                "planned",
                no.clone(),
            ),
            (&import, 0, "done", yes.clone()),
            (&import, 0, "done", no.clone()),
            (
                &["remove-node", target, node, "--dry-run"],
                0,
                "planned",
                no.clone(),
            ),
            (&["remove-node", target, node], 0, "done", yes.clone()),
            (&["fix", target], 0, "done", no.clone()),
        ],
        seen,
    );
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn what_is_refused_or_late_says_so_to_programs(engine) {
        let home = Home::new()?;
        let cluster = Cluster::formed(&engine, 3, 1, |builder| builder).await?;
        let (target, replica) = (cluster[1].address(), cluster[3].address());
        let ran = home.run(&["failover", &target, &replica, "--force", "-o", "json"]).must(3, &[]);
        let result = told(&ran, Some("failover"));
        assert_eq!((&result["outcome"], &result["error"]["code"]), (&json!("refused"), &json!("request-refused")), "{ran:?}");
        assert_eq!(result["changed"], false, "{ran:?}");

        // A frozen primary is waited for: nothing proves it dead.
        cluster[0].freeze()?;
        let late = ["--command-timeout", "300", "fix", &target, "--timeout", "2", "-o", "json"];
        let ran = home.run(&late);
        cluster[0].thaw()?;
        let result = told(&ran.must(1, &[]), Some("fix"));
        assert_eq!((&result["outcome"], &result["error"]["code"]), (&json!("timed-out"), &json!("timed-out")), "{result}");
        let waits = result["waiting"].as_array().ok_or("waits")?;
        assert!(waits.iter().any(|w| w["code"].is_string() && w["manual"].is_boolean()), "{result}");
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn what_a_running_watch_carries_out_ends_in_one_object_too(engine) {
        let local = Local::with_ports(&engine, "", 8)?;
        let watch = local.watch();
        let (yes, no) = (json!(true), json!(false));
        let mut seen = BTreeSet::new();
        let run = |words: &[&str]| local.run(words);
        let four = ["scale", "--shards", "4"];
        all(run, &[(&four, 0, "done", yes.clone()), (&four, 0, "done", no.clone())], &mut seen);
        let replica = local.status()?["shards"][1]["nodes"][1]["server"].as_str().ok_or("a replica")?.to_owned();
        let promote = ["failover", "local", &replica];
        let promoted = told(&run(&[&promote[..], &["-o", "json"]].concat()).must(0, &[]), Some("failover"));
        assert_eq!((&promoted["outcome"], &promoted["changed"]), (&json!("done"), &yes), "{promoted}");
        let steps = promoted["steps"].as_array().ok_or("steps")?;
        assert!(steps.iter().any(|s| s["state"] == "done" && s["nodes"][0]["server"] == *replica), "{promoted}");
        assert!(promoted["message"].as_str().is_some_and(|m| m.contains("is the primary")), "{promoted}");
        all(
            run,
            &[
                (&promote, 0, "done", no.clone()),
                (&["rebalance"], 0, "done", no.clone()),
                (&["fix"], 0, "done", no.clone()),
                (&["scale", "--shards", "2"], 2, "usage-error", no),
                (&["pause"], 0, "done", yes.clone()),
            ],
            &mut seen,
        );

        let late = told(&run(&["scale", "--shards", "3", "--timeout", "2", "-o", "json"]).must(1, &[]), Some("scale"));
        assert_eq!((&late["outcome"], &late["error"]["code"]), (&json!("timed-out"), &json!("timed-out")), "{late}");
        assert!(late["error"]["remedy"].is_string(), "{late}");
        assert!(late["waiting"].as_array().is_some_and(|w| !w.is_empty()), "{late}");
        let mut waits = local.home.start(local.home.command(&["scale", "--shards", "3", "-o", "json"]));
        waits.until_said("paused until a person resumes them", std::time::Duration::from_secs(60));
        all(run, &[(&["cancel"], 0, "done", yes.clone())], &mut seen);
        let overruled = told(&waits.end().must(1, &[]), Some("scale"));
        assert_eq!((&overruled["outcome"], &overruled["error"]["code"]), (&json!("failed"), &json!("overruled")), "{overruled}");
        all(run, &[(&["down"], 0, "done", yes)], &mut seen);
        watch.end().must(0, &["the watch has ended"]);
        Ok(())
    }
}
