//! The verbs about clusters of this machine beside starting and stopping them, and how a cluster is named.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use shardwright_testkit::{each_engine, engine, skip};

use crate::rig::{Block, Home, TestResult, shell};

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn the_only_cluster_needs_no_name_and_is_listed(engine) {
        let home = Home::new()?;
        home.run(&["ls"]).must(0, &["no local cluster", "shardwright up"]);
        let program = engine.path.display().to_string();
        let ports = Block::take(6)?;
        let port = ports.first().to_string();
        home.run(&["up", "--name", "cache", "--engine", &program, "--port", &port])
            .must(0, &["[OK] cache is healthy"]);
        // The only one is meant, by `up` as by every other verb.
        home.run(&["up"]).must(0, &["[OK] cache is healthy"]);
        home.run(&["start", "--dry-run"]).must(0, &["Nothing to do."]);
        assert!(!home.cluster_dir("redis").exists(), "no second cluster was made");
        home.run(&["check", "cache"]).must(0, &["[OK] 6 nodes agree"]);
        home.run(&["check", &format!("redis://127.0.0.1:{port}"), "--user", "x"]).must(2, &["--user needs a password"]);
        home.run(&["check", "other"]).must(2, &["no local cluster \"other\"", "there are: cache", "HOST:PORT"]);
        home.run(&["ls"]).must(0, &["NAME", "cache", "6/6", &port]);
        home.run(&["ls", "-o", "json"]).must(0, &["\"servers_running\": 6", "\"shards\": 3"]);

        home.run(&["logs", "cache-2", "-n", "1"]).must(0, &[]);
        let log = home.run(&["logs", &format!("127.0.0.1:{port}"), "--path"]).must(0, &["cache-0/server.log"]);
        assert!(Path::new(log.out.trim()).is_file());
        home.run(&["logs", "cache-9"]).must(2, &["no server \"cache-9\"", "cache-0, cache-1"]);

        home.run(&["stop"]).must(0, &["6 server(s) stopped"]);
        home.run(&["ls"]).must(0, &["0/6"]);
        home.run(&["connect"]).must(1, &["cache is stopped", "shardwright up --name cache"]);
        // Nobody agreed: standard input is closed.
        home.run(&["down", "--purge"]).must(1, &["Nothing was changed", "--yes"]);
        assert!(home.cluster_dir("cache").exists());
        home.run(&["down", "--purge", "--yes"]).must(0, &["removed"]);
        assert!(!home.cluster_dir("cache").exists());
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_8_0]
    async fn a_client_is_opened_with_its_password(engine) {
        let home = Home::new()?;
        let program = engine.path.display().to_string();
        let ports = Block::take(6)?;
        let port = ports.first().to_string();
        home.run(&["up", "--engine", &program, "--port", &port]).must(0, &["[OK] redis is healthy"]);
        home.run(&["connect", "--", "ACL", "WHOAMI"]).must(0, &["default"]);
        home.run(&["connect", "--as", "nobody"]).must(2, &["no user \"nobody\"", "default"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0]
    async fn what_a_caller_left_open_is_not_held_by_servers(engine) {
        let home = Home::new()?;
        let program = engine.path.display().to_string();
        let ports = Block::take(6)?;
        let lock = home.path("callers.lock").display().to_string();
        let binary = env!("CARGO_BIN_EXE_shardwright");
        let line = format!(
            "exec 9>{lock}; flock 9; XDG_STATE_HOME={} {binary} up --engine {program} --port {} 2>/dev/null",
            home.path("").display(),
            ports.first()
        );
        shell(&line);
        // The caller has ended, and so has its lock; the servers run on.
        shell(&format!("flock --nonblock {lock} true"));
        home.run(&["status"]).must(0, &["3 shards"]);
        Ok(())
    }
}

#[test]
fn an_engine_that_may_not_read_the_data_is_refused() -> TestResult {
    let mut paths = Vec::new();
    for wanted in ["redis-7.4", "redis-7.0", "valkey-8.0"] {
        match engine(wanted) {
            Ok(found) => paths.push(found.path.display().to_string()),
            Err(why) => {
                let what = "an_engine_that_may_not_read_the_data_is_refused";
                skip::skipped(what, &why.to_string());
                return Ok(());
            }
        }
    }
    let [newer, older, other] = <[String; 3]>::try_from(paths).expect("three were asked for");
    let home = Home::new()?;
    let ports = Block::take(6)?;
    let port = ports.first().to_string();
    home.run(&["up", "--engine", &newer, "--port", &port])
        .must(0, &["[OK] redis is healthy"]);
    home.run(&["down"]).must(0, &["data saved"]);
    let stored = fs::read_to_string(home.cluster_dir("redis").join("cluster.json"))?;
    for engine in [&older, &other] {
        home.run(&["up", "--engine", engine])
            .must(3, &["was written by Redis 7.4", "leave out --engine"]);
    }
    let after = fs::read_to_string(home.cluster_dir("redis").join("cluster.json"))?;
    assert_eq!(stored, after, "a refusal changes nothing");
    home.run(&["up"]).must(0, &["[OK] redis is healthy"]);
    Ok(())
}

each_engine! {
    [redis_7_0]
    async fn passwords_do_not_change_under_running_servers(engine) {
        let home = Home::new()?;
        let program = engine.path.display().to_string();
        let ports = Block::take(6)?;
        let port = ports.first().to_string();
        home.run(&["up", "--engine", &program, "--port", &port]).must(0, &["[OK] redis is healthy"]);
        let secrets = home.path("new-secrets");
        fs::create_dir(&secrets)?;
        fs::write(secrets.join("default"), "another")?;
        fs::set_permissions(secrets.join("default"), fs::Permissions::from_mode(0o600))?;
        let secrets = secrets.display().to_string();
        home.run(&["up", "--secrets", &secrets])
            .must(3, &["other passwords of default", "shardwright down"]);
        home.run(&["status"]).must(0, &["3 shards"]);
        home.run(&["down"]).must(0, &["6 server(s) stopped"]);
        home.run(&["up", "--secrets", &secrets]).must(0, &["[OK] redis is healthy"]);
        let kept = fs::read_to_string(home.cluster_dir("redis").join("secrets/default"))?;
        assert_eq!(kept, "another");
        Ok(())
    }
}

#[test]
fn completions_and_manual_pages_come_from_the_grammar() -> TestResult {
    let home = Home::new()?;
    for shell in ["bash", "zsh", "fish"] {
        home.run(&["completions", shell]).must(0, &["remove-node"]);
    }
    home.run(&["man"]).must(0, &[".TH shardwright"]);
    let dir = home.path("man1");
    home.run(&["man", "--dir", &dir.display().to_string()])
        .must(0, &["pages in"]);
    assert!(dir.join("shardwright-create.1").is_file());
    Ok(())
}
