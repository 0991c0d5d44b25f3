//! The program with real servers behind it.

#[path = "real_servers/copies.rs"]
mod copies;
#[path = "real_servers/pod.rs"]
mod pod;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use shardwright_node::ballast;
use shardwright_node::client::{Client, NoAnswer};
use shardwright_testkit::skip::skipped;
use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Engine, TestResult, engine};

use crate::pod::{Failure, PASSWORD, PATIENCE, PROGRAM, Pod, exists, wait_for_end};

const CLUSTER: &str = "cluster-enabled yes";
const CLUSTER_WITH_LOG: &str = "cluster-enabled yes\nappendonly yes";
const CLUSTER_WITH_SNAPSHOT: &str = "cluster-enabled yes\nsave 3600 1";

fn on_each(test: &str, body: fn(&Engine) -> TestResult) -> TestResult {
    on(&["redis-7.0", "valkey-9.1"], test, body)
}

fn on(engines: &[&str], test: &str, body: fn(&Engine) -> TestResult) -> TestResult {
    for name in engines {
        match engine(name) {
            Ok(engine) => body(&engine).map_err(|e| format!("{name}: {e}"))?,
            Err(why) => skipped(&format!("{test} on {name}"), &why.to_string()),
        }
    }
    Ok(())
}

/// A node that was restarted serves after a while.
fn wait_for_key(pod: &Pod) -> TestResult {
    until_blocking("the key is served", PATIENCE, || {
        pod.ask(&["GET", "k"]).map(|value| assert_eq!(value, "v"))
    })?;
    Ok(())
}

fn login() -> String {
    format!("AUTH {PASSWORD}")
}

/// A primary with slots and one key, killed: its memory is lost.
fn killed_primary(engine: &Engine, conf: &str) -> Result<(Pod, String), Failure> {
    let mut pod = Pod::new(engine, conf)?;
    pod.start_server()?;
    pod.own_all_slots()?;
    let id = pod.id()?;
    pod.kill9()?;
    Ok((pod, id))
}

#[test]
fn the_program_becomes_the_server_under_the_same_process_id() -> TestResult {
    on_each("exec", |engine| {
        let mut pod = Pod::new(engine, CLUSTER)?;
        pod.start_server()?;
        let info = pod.ask(&["INFO", "server"])?;
        assert!(
            info.contains(&format!("process_id:{}\r\n", pod.pid())),
            "{info}"
        );
        let cwd = fs::read_link(format!("/proc/{}/cwd", pod.pid()))?;
        assert_eq!(cwd, fs::canonicalize(&pod.data)?);
        assert!(exists(&pod.data, ballast::NAME) && exists(&pod.data, "nodes.conf"));
        assert!(pod.log().contains("the disk is blank"), "{}", pod.log());
        for verb in ["started", "ready", "live"] {
            let output = pod.verb(verb)?;
            assert!(
                output.status.success() && output.stderr.is_empty(),
                "{output:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn auto_takes_the_server_in_the_path() -> TestResult {
    on_each("auto", |engine| {
        let folder = engine.path.parent().ok_or("it lies in a folder")?;
        let output = Command::new(PROGRAM)
            .args(["run", "--data", "/tmp", "--", "auto", "--version"])
            .env("PATH", folder)
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains(" server v="), "{output:?}");
        Ok(())
    })
}

#[test]
fn a_killed_primary_without_a_log_is_held_until_it_is_released() -> TestResult {
    on_each("held", |engine| {
        let (mut pod, id) = killed_primary(engine, CLUSTER)?;
        pod.start_held()?;
        // Refused: the proof for everybody that the old process is gone.
        let server = Client::connect(pod.port(), Duration::from_secs(1));
        assert!(matches!(server, Err(NoAnswer::Refused)), "{server:?}");
        let ready = pod.verb("ready")?;
        assert_eq!(ready.status.code(), Some(1));
        let said = String::from_utf8_lossy(&ready.stderr);
        assert!(said.contains("the start gate holds"), "{said}");
        for verb in ["started", "live"] {
            assert!(pod.verb(verb)?.status.success(), "{verb}");
        }

        let refused = pod.tell_gate(&["AUTH wrong"])?;
        assert!(refused.starts_with("-ERR wrong password"), "{refused}");
        let refused = pod.tell_gate(&["RELEASE"])?;
        assert!(refused.starts_with("-ERR log in first"), "{refused}");
        let refused = pod.tell_gate(&["AUTH wrong", "RELEASE"]);
        assert!(refused.is_err(), "it is closed: {refused:?}");

        let state = pod.tell_gate(&[&login(), "STATE"])?;
        let claims = state.strip_prefix("+held stale-primary ");
        let claims = claims.ok_or(format!("it says {state}"))?;
        assert!(
            claims.starts_with(&id) && claims.ends_with(" 0-16383"),
            "{claims}"
        );
        let named = format!("AUTH shardwright {PASSWORD}");
        assert_eq!(pod.tell_gate(&[&named, "RELEASE"])?, "+OK");
        pod.wait_for_server()?;
        let info = pod.ask(&["INFO", "server"])?;
        assert!(info.contains(&format!("process_id:{}\r\n", pod.pid())));
        assert!(matches!(pod.gate(), Err(NoAnswer::Refused)));
        assert_eq!(pod.id()?, id);
        Ok(())
    })
}

#[test]
fn a_held_primary_may_start_as_another_node_and_its_directory_is_kept() -> TestResult {
    on_each("afresh", |engine| {
        let (mut pod, id) = killed_primary(engine, CLUSTER)?;
        pod.start_held()?;
        assert_eq!(pod.tell_gate(&[&login(), "AFRESH"])?, "+OK");
        pod.wait_for_server()?;
        assert_ne!(pod.id()?, id);
        assert_eq!(pod.ask(&["DBSIZE"])?, "0");
        let kept = pod.data.join("set-aside-1/nodes.conf");
        assert!(fs::read_to_string(kept)?.contains(&id));
        Ok(())
    })
}

#[test]
fn silent_and_flooding_clients_delay_nobody() -> TestResult {
    on_each("flood", |engine| {
        let (mut pod, _) = killed_primary(engine, CLUSTER)?;
        pod.start_held()?;
        let gate = ("127.0.0.1", pod.gate_port());
        // More than the gate keeps, all at once, and none says a word.
        let silent = (0..100)
            .map(|_| TcpStream::connect(gate))
            .collect::<Result<Vec<_>, _>>()?;
        let over = AtomicBool::new(false);
        let flood = |bytes: &[u8]| {
            while !over.load(Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(gate) else {
                    continue;
                };
                stream.set_write_timeout(Some(Duration::from_secs(1))).ok();
                while !over.load(Ordering::Relaxed) && stream.write_all(bytes).is_ok() {
                    std::hint::spin_loop();
                }
            }
        };
        std::thread::scope(|scope| -> TestResult {
            scope.spawn(|| flood(&[b'x'; 4096]));
            scope.spawn(|| flood(b"AUTH wrong\nSTATE\nRELEASE\n"));
            let asked = (0..20).map(|_| {
                let begin = Instant::now();
                let state = pod.tell_gate(&[&login(), "STATE"])?;
                assert!(state.starts_with("+held stale-primary"), "{state}");
                Ok(begin.elapsed())
            });
            let asked = asked.collect::<Result<Vec<Duration>, Failure>>();
            over.store(true, Ordering::Relaxed);
            let slowest = asked?.into_iter().max().ok_or("it was asked")?;
            // A silent client alone would hold a gate with one seat for 2 s.
            assert!(slowest < Duration::from_millis(1500), "{slowest:?}");
            Ok(())
        })?;
        // The flood was refused, and fills no log.
        assert!(pod.log().lines().count() < 60, "{}", pod.log());
        // A silent client is not kept: it reads the end.
        let mut last = silent.into_iter().next_back().ok_or("there are some")?;
        last.set_read_timeout(Some(PATIENCE))?;
        assert!(matches!(last.read(&mut [0; 9]), Ok(0)));
        Ok(())
    })
}

#[test]
fn a_stop_that_was_asked_for_and_saved_is_not_held() -> TestResult {
    on_each("clean stop", |engine| {
        let mut pod = Pod::new(engine, CLUSTER_WITH_SNAPSHOT)?;
        pod.start_server()?;
        pod.own_all_slots()?;
        assert!(pod.verb("prestop")?.status.success());
        assert!(exists(&pod.data, "stopping"));
        assert!(pod.terminate()?.success());
        pod.start_server()?;
        assert!(pod.log().contains("the disk is clean"), "{}", pod.log());
        wait_for_key(&pod)?;
        assert!(!exists(&pod.data, "stopping"), "the mark is for one start");
        // The snapshot of that stop is no good for the next, which nobody asked for.
        pod.kill9()?;
        pod.start_held()?;
        Ok(())
    })
}

#[test]
fn a_marked_primary_that_was_killed_is_held_unless_its_snapshot_is_younger() -> TestResult {
    on_each("killed after the mark", |engine| {
        let mut pod = Pod::new(engine, CLUSTER_WITH_SNAPSHOT)?;
        pod.start_server()?;
        pod.own_all_slots()?;
        pod.ask(&["SAVE"])?;
        assert!(pod.verb("prestop")?.status.success());
        pod.kill9()?;
        pod.start_held()?;
        // Held or not, the next stop is marked anew; a held node has saved nothing since.
        assert_eq!(pod.tell_gate(&[&login(), "RELEASE"])?, "+OK");
        pod.wait_for_server()?;
        assert!(pod.verb("prestop")?.status.success());
        pod.ask(&["SAVE"])?;
        pod.kill9()?;
        pod.start_server()?;
        assert!(pod.log().contains("the disk is clean"), "{}", pod.log());
        Ok(())
    })
}

#[test]
fn a_primary_with_its_log_is_not_held() -> TestResult {
    on_each("log", |engine| {
        let (mut pod, _) = killed_primary(engine, CLUSTER_WITH_LOG)?;
        pod.start_server()?;
        assert!(pod.log().contains("the disk is log"), "{}", pod.log());
        wait_for_key(&pod)
    })
}

#[test]
fn a_frozen_server_fails_all_probes_and_a_locked_one_none() -> TestResult {
    on_each("frozen", |engine| {
        let mut pod = Pod::new(engine, CLUSTER)?;
        pod.start_server()?;
        pod.signal(Signal::STOP)?;
        for verb in ["started", "ready", "live"] {
            let output = pod.verb(verb)?;
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(said.contains(&format!("not {verb}")), "{said}");
        }
        pod.signal(Signal::CONT)?;
        pod.wait_for_server()?;
        // Nobody is let in, by a mistake with passwords: that is an answer.
        pod.ask(&["ACL", "SETUSER", "shardwright", "off"])?;
        pod.ask(&["ACL", "SETUSER", "default", "off"])?;
        for verb in ["started", "ready", "live"] {
            assert!(pod.verb(verb)?.status.success(), "{verb}");
        }
        pod.kill9()?;
        for verb in ["started", "ready"] {
            assert_eq!(pod.verb(verb)?.status.code(), Some(1), "{verb}");
        }
        assert!(
            pod.verb("live")?.status.success(),
            "a closed port says nothing"
        );
        Ok(())
    })
}

#[test]
fn the_hook_lets_a_primary_without_replicas_go_at_once() -> TestResult {
    on_each("prestop alone", |engine| {
        let mut pod = Pod::new(engine, "")?;
        pod.start_server()?;
        let begin = Instant::now();
        let output = pod.verb("prestop")?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(
            said.contains("a primary without connected replicas"),
            "{said}"
        );
        assert!(
            begin.elapsed() < Duration::from_secs(3),
            "{:?}",
            begin.elapsed()
        );
        // Nor does it fail or wait where there is no server.
        pod.kill9()?;
        assert!(pod.verb("prestop")?.status.success());
        Ok(())
    })
}

/// A primary and the replica that copies from it.
fn pair(engine: &Engine) -> Result<(Pod, Pod), Failure> {
    let conf = "repl-diskless-sync-delay 0";
    let (mut primary, mut replica) = (Pod::new(engine, conf)?, Pod::new(engine, conf)?);
    primary.start_server()?;
    replica.start_server()?;
    replica.ask(&["REPLICAOF", "127.0.0.1", &primary.port().to_string()])?;
    until_blocking("the replica is in sync", PATIENCE, || {
        match primary.ask(&["INFO", "replication"])? {
            info if info.contains("state=online") => Ok(()),
            info => Err(info),
        }
    })?;
    Ok((primary, replica))
}

#[test]
fn the_hook_holds_a_primary_until_it_is_none_and_renews_its_mark() -> TestResult {
    on_each("prestop with a replica", |engine| {
        let (primary, replica) = pair(engine)?;
        assert!(replica.verb("prestop")?.status.success());
        let mut hook = primary
            .verb_command("prestop")
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stderr = hook.stderr.take().ok_or("it is piped")?;
        read_until(&mut stderr, "a primary with 1 connected replicas\n")?;
        let mark = primary.data.join("stopping");
        let first = fs::metadata(&mark)?.modified()?;
        assert!(hook.try_wait()?.is_none(), "it waits");
        replica.ask(&["REPLICAOF", "NO", "ONE"])?;
        assert!(wait_for_end(&mut hook)?.success());
        assert!(fs::metadata(&mark)?.modified()? > first);
        Ok(())
    })
}

/// Reads what a hook says up to the end of this line.
fn read_until(stderr: &mut impl Read, line: &str) -> TestResult {
    let mut said = String::new();
    while !said.contains(line) {
        let mut byte = [0];
        stderr
            .read_exact(&mut byte)
            .map_err(|e| format!("{e}, before {line:?}: {said}"))?;
        said.push(char::from(byte[0]));
    }
    Ok(())
}

#[test]
fn the_hook_ends_after_ten_seconds_whatever_it_sees() -> TestResult {
    let Ok(engine) = engine("redis-7.0") else {
        skipped("prestop's limit", "no redis-7.0");
        return Ok(());
    };
    let (primary, _replica) = pair(&engine)?;
    let begin = Instant::now();
    let output = primary.verb("prestop")?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("stopping after 10 s"), "{said}");
    let took = begin.elapsed();
    assert!(took >= Duration::from_secs(10) && took < Duration::from_secs(14));
    Ok(())
}

#[test]
fn the_hook_ends_a_held_node() -> TestResult {
    on_each("prestop held", |engine| {
        let (mut pod, _) = killed_primary(engine, CLUSTER)?;
        pod.start_held()?;
        let output = pod.verb("prestop")?;
        assert!(output.status.success(), "{output:?}");
        assert!(pod.wait_end()?.success());
        pod.start_held()?;
        Ok(())
    })
}

/// A small disk; it goes with this value.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: PathBuf) -> Result<Self, String> {
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(&at)
            .output()
            .map_err(|e| e.to_string())?;
        if output.status.success() {
            Ok(Self(at))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    fn fill(&self) -> Result<(), Failure> {
        let mut file = fs::File::create(self.0.join("filler"))?;
        let full = std::iter::repeat_with(|| file.write_all(&[1; 4096]))
            .find_map(Result::err)
            .ok_or("it is endless")?;
        assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
        Ok(())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

#[test]
fn the_ballast_lets_a_server_with_a_full_disk_start_again() -> TestResult {
    let engine = match engine("valkey-9.1") {
        Ok(engine) => engine,
        Err(why) => {
            skipped("ballast", &why.to_string());
            return Ok(());
        }
    };
    let mut pod = Pod::new(&engine, CLUSTER)?;
    let disk = match SmallDisk::mount(pod.data.clone()) {
        Ok(disk) => disk,
        Err(why) => {
            skipped("ballast", &format!("no small disk can be mounted: {why}"));
            return Ok(());
        }
    };
    pod.start_server()?;
    assert!(exists(&pod.data, ballast::NAME));
    disk.fill()?;
    // It has to write its table, cannot, and gives up.
    pod.ask(&["CLUSTER", "BUMPEPOCH"]).ok();
    assert!(!pod.wait_end()?.success(), "{}", pod.log());
    pod.start_server()?;
    assert!(
        pod.log().contains("the disk is full: removed"),
        "{}",
        pod.log()
    );
    assert!(!exists(&pod.data, ballast::NAME));
    pod.ask(&["CLUSTER", "BUMPEPOCH"])?;
    // The other way round: without a ballast it cannot start. So it was the ballast.
    pod.kill9()?;
    disk.fill()?;
    pod.start()?;
    assert!(!pod.wait_end()?.success(), "{}", pod.log());
    assert!(pod.log().contains("there is no"), "{}", pod.log());
    // And with room it is made again.
    fs::remove_file(pod.data.join("filler"))?;
    pod.start_server()?;
    assert!(exists(&pod.data, ballast::NAME));
    drop(pod);
    Ok(())
}

#[test]
fn the_exit_status_tells_a_wrong_command_line_from_a_failure() -> TestResult {
    let run = |args: &[&str]| Command::new(PROGRAM).args(args).output();
    for (args, status, part) in [
        (&["run", "--data", "/tmp"][..], 2, "run needs `-- SERVER`"),
        (&["begin"], 2, "no verb `begin`"),
        (&[], 2, "no verb given"),
        (
            &["run", "--", "redis-server", "/none/redis.conf"],
            1,
            "cannot read /none/redis.conf: ",
        ),
        (
            &["run", "--data", "/none", "--", "x"],
            1,
            "cannot read the directory /none: ",
        ),
        (&["install", "/none/x"], 1, "cannot write /none/x.new: "),
    ] {
        let output = run(args)?;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {said}");
        assert!(
            said.starts_with("shardwright-node: ") && said.contains(part),
            "{said}"
        );
    }
    let help = run(&["--help"])?;
    assert!(help.status.success() && help.stdout.starts_with(b"The start gate"));
    Ok(())
}

#[test]
fn the_installed_copy_runs() -> TestResult {
    let dir = tempfile::tempdir()?;
    let dest = dir.path().join("shardwright-node");
    assert!(
        Command::new(PROGRAM)
            .arg("install")
            .arg(&dest)
            .status()?
            .success()
    );
    let output = Command::new(&dest).arg("--version").output()?;
    assert!(output.stdout.starts_with(b"shardwright-node "));
    Ok(())
}
