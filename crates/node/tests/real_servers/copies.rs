//! The probes and the hook beside data that is loaded or copied.

use std::process::Stdio;

use rustix::process::Signal;
use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Engine, TestResult};

use crate::pod::{Failure, PATIENCE, Pod, exists, wait_for_end};
use crate::{on, read_until};

/// For what the engines say in words of their own: on all that are supported.
fn on_all(test: &str, body: fn(&Engine) -> TestResult) -> TestResult {
    let all = ["redis-7.0", "redis-7.4", "valkey-8.0", "valkey-9.1"];
    on(&all, test, body)
}

/// What a probe says that fails.
fn refusal(pod: &Pod, verb: &str) -> Result<String, Failure> {
    let output = pod.verb(verb)?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    match output.status.code() {
        Some(1) => Ok(said),
        code => Err(format!("{verb} ends with {code:?}: {said}").into()),
    }
}

#[test]
fn a_loading_server_is_live_and_neither_started_nor_ready() -> TestResult {
    on_all("loading", |engine| {
        // 2 ms for each key, and a look at the connections after each kilobyte.
        let slowly = "save 3600 1\nkey-load-delay 2000\nloading-process-events-interval-bytes 1024";
        let mut pod = Pod::new(engine, slowly)?;
        pod.start_server()?;
        let fill =
            "for i = 1, 3000 do redis.call('SET', 'k' .. i, string.rep('x', 100)) end return 1";
        pod.ask(&["EVAL", fill, "0"])?;
        pod.ask(&["SAVE"])?;
        pod.kill9()?;
        pod.start()?;
        until_blocking("the server loads", PATIENCE, || match pod.ask(&["PING"]) {
            Err(said) if said.contains("LOADING") => Ok(()),
            other => Err(format!("{other:?}")),
        })?;
        for verb in ["started", "ready"] {
            let said = refusal(&pod, verb)?;
            assert!(
                said.contains(&format!("not {verb}: the server loads")),
                "{said}"
            );
        }
        assert!(pod.verb("live")?.status.success());
        pod.wait_for_server()?;
        for verb in ["started", "ready"] {
            assert!(pod.verb(verb)?.status.success(), "{verb}");
        }
        Ok(())
    })
}

#[test]
fn a_replica_is_ready_once_it_has_had_its_copy_and_stays_so_without_its_link() -> TestResult {
    on_all("ready with a copy", |engine| {
        let conf = "repl-diskless-sync-delay 0";
        let (mut primary, mut replica) = (Pod::new(engine, conf)?, Pod::new(engine, conf)?);
        primary.start_server()?;
        replica.start_server()?;
        assert!(
            replica.verb("ready")?.status.success(),
            "nobody knows it yet"
        );
        // Frozen: it takes connections and says nothing.
        primary.signal(Signal::STOP)?;
        replica.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()])?;
        let said = refusal(&replica, "ready")?;
        assert!(said.contains("has had no copy since it started"), "{said}");
        for verb in ["started", "live"] {
            assert!(replica.verb(verb)?.status.success(), "{verb}");
        }
        primary.signal(Signal::CONT)?;
        until_blocking("the replica is ready", PATIENCE, || {
            match replica.verb("ready") {
                Ok(output) if output.status.success() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })?;
        assert!(exists(&replica.data, "copied"));
        primary.kill9()?;
        until_blocking("the link is down", PATIENCE, || {
            match replica.ask(&["INFO", "replication"])? {
                info if info.contains("_link_status:down") => Ok(()),
                info => Err(info),
            }
        })?;
        assert!(replica.verb("ready")?.status.success());
        // What it had in an earlier run says nothing.
        replica.kill9()?;
        replica.start_server()?;
        assert!(!exists(&replica.data, "copied"));
        Ok(())
    })
}

#[test]
fn the_hook_waits_for_a_replica_that_is_still_copying() -> TestResult {
    on_all("prestop with a copying replica", |engine| {
        let conf = "repl-diskless-sync-delay 0";
        let (mut primary, mut replica) = (Pod::new(engine, conf)?, Pod::new(engine, conf)?);
        primary.start_server()?;
        replica.start_server()?;
        // 20 ms for each key: 4 s for all.
        let fill = "for i = 1, 200 do redis.call('SET', 'k' .. i, i) end return 1";
        primary.ask(&["EVAL", fill, "0"])?;
        primary.ask(&["CONFIG", "SET", "rdb-key-save-delay", "20000"])?;
        replica.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()])?;
        until_blocking("the copy has begun", PATIENCE, || {
            match primary.ask(&["INFO", "replication"])? {
                info if info.contains(",state=") => Ok(()),
                info => Err(info),
            }
        })?;
        let mut hook = primary
            .verb_command("prestop")
            .args(["--wait-seconds", "60"])
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stderr = hook.stderr.take().ok_or("it is piped")?;
        read_until(
            &mut stderr,
            "a primary with 1 replicas, all still copying\n",
        )?;
        read_until(&mut stderr, "a primary with 1 connected replicas\n")?;
        assert!(hook.try_wait()?.is_none(), "it waits for the handover");
        replica.ask(&["REPLICAOF", "NO", "ONE"])?;
        assert!(wait_for_end(&mut hook)?.success());
        Ok(())
    })
}
