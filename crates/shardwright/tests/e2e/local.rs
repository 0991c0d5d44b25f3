//! A cluster of this machine: brought up, killed, mended, moved and removed.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use shardwright_testkit::server::connect;
use shardwright_testkit::wait::until_blocking;
use shardwright_testkit::{Engine, Load, LoadOptions, Report, each_engine};

use crate::rig::{Block, Home, Ran, Running, TestResult, changes, living_in, mode, shell, tree};

pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(30);

/// A cluster of this machine in a home of its own.
pub(crate) struct Local {
    // First, so that the servers end before their ports are free again.
    pub(crate) home: Home,
    pub(crate) ports: Block,
    program: String,
    manifest: String,
}

impl Local {
    pub(crate) fn new(engine: &Engine, spec: &str) -> Outcome<Self> {
        Self::with_ports(engine, spec, 6)
    }

    /// One with room for so many servers. It has six to begin with.
    pub(crate) fn with_ports(engine: &Engine, spec: &str, ports: u16) -> Outcome<Self> {
        let home = Home::new()?;
        let text = format!(
            "apiVersion: shardwright.dev/v1alpha1\nkind: RedisCluster\nmetadata: {{name: c}}\nspec:\n  shards: 3\n{spec}"
        );
        let manifest = home.write("c.yaml", &text)?;
        Ok(Self {
            home,
            ports: Block::take(ports)?,
            program: engine.path.display().to_string(),
            manifest,
        })
    }

    pub(crate) fn up_args<'a>(&'a self, port: &'a str, more: &[&'a str]) -> Vec<&'a str> {
        let words = [
            "up",
            "-f",
            &self.manifest,
            "--engine",
            &self.program,
            "--port",
            port,
        ];
        [&words[..], more].concat()
    }

    pub(crate) fn up(&self, more: &[&str]) -> Ran {
        let port = self.ports.first().to_string();
        self.home.run(&self.up_args(&port, more))
    }

    pub(crate) fn run(&self, words: &[&str]) -> Ran {
        self.home.run(words)
    }

    /// Starts `up --watch` and waits until it watches.
    pub(crate) fn watch(&self) -> Running {
        let port = self.ports.first().to_string();
        let mut command = self.home.command(&self.up_args(&port, &["--watch"]));
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut watch = self.home.start(command);
        watch.until_said("watching", LIMIT);
        watch
    }

    pub(crate) fn dir(&self) -> PathBuf {
        self.home.cluster_dir("c")
    }

    pub(crate) fn node(&self, index: usize) -> PathBuf {
        self.dir().join(format!("nodes/c-{index}"))
    }

    /// The process of a server, from what is noted of it.
    pub(crate) fn pid(&self, index: usize) -> Outcome<i32> {
        let noted: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(self.node(index).join("process.json"))?)?;
        let pid = noted["pid"].as_i64().ok_or("no pid")?;
        Ok(i32::try_from(pid)?)
    }

    pub(crate) fn pids(&self) -> Outcome<Vec<i32>> {
        (0..6).map(|index| self.pid(index)).collect()
    }

    pub(crate) fn kill9(&self, indexes: impl IntoIterator<Item = usize>) -> Outcome<()> {
        let pids: Vec<String> = indexes
            .into_iter()
            .map(|index| Ok(self.pid(index)?.to_string()))
            .collect::<Outcome<_>>()?;
        shell(&format!("kill -KILL {}", pids.join(" ")));
        Ok(())
    }

    /// Makes a server's log one that no engine loads, by so many sixteenths of its length, from the begin of a command on:
    /// within a value any byte may stand. Returns where its files are.
    pub(crate) fn break_log(&self, server: usize, part: Range<usize>) -> Outcome<PathBuf> {
        let log = self.node(server).join("data/appendonlydir");
        for entry in fs::read_dir(&log)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with("incr.aof") {
                let mut bytes = fs::read(&path)?;
                let sixteenth = bytes.len() / 16;
                let begins = |w: &[u8]| w == b"\r\n*";
                let after = part.start * sixteenth;
                let next = bytes[after..].windows(3).position(begins);
                let next = next.map(|at| after + at);
                let last = || bytes.windows(3).rposition(begins);
                let from = next.or_else(last).ok_or("the log is too short")? + 2;
                let to = (part.end * sixteenth).max(from + 1);
                bytes[from..to].fill(b'!');
                fs::write(&path, bytes)?;
            }
        }
        Ok(log)
    }

    /// The number of a server that is a replica now, by `status`.
    pub(crate) fn a_replica(&self) -> Outcome<usize> {
        let status = self.status()?;
        let server = status["shards"][0]["nodes"][1]["server"]
            .as_str()
            .ok_or("no replica")?;
        Ok(server.trim_start_matches("c-").parse()?)
    }

    /// Waits until no server of it lives.
    fn until_gone(&self) -> Outcome<()> {
        let gone = || match living_in(&self.dir()) {
            pids if pids.is_empty() => Ok(()),
            pids => Err(format!("{pids:?}")),
        };
        Ok(until_blocking("the servers are gone", LIMIT, gone)?)
    }

    pub(crate) fn password(&self, user: &str) -> Outcome<String> {
        Ok(fs::read_to_string(self.dir().join("secrets").join(user))?)
    }

    /// Writes some hundred keys over all slots as the administrator, and remembers them.
    pub(crate) async fn write(&self, prefix: &str) -> Outcome<Report> {
        let load = self.load(prefix)?;
        load.until_more(300, LIMIT).await?;
        Ok(load.stop().await)
    }

    pub(crate) fn load(&self, prefix: &str) -> Outcome<Load> {
        self.load_with(LoadOptions {
            prefix: prefix.to_owned(),
            ..LoadOptions::default()
        })
    }

    /// Writes as these options say, as the administrator.
    pub(crate) fn load_with(&self, options: LoadOptions) -> Outcome<Load> {
        let login = Some(("default".to_owned(), self.password("default")?));
        let options = LoadOptions { login, ..options };
        Ok(Load::start(&self.ports.addresses(), options))
    }

    pub(crate) async fn administrator(
        &self,
        index: usize,
    ) -> Outcome<redis::aio::MultiplexedConnection> {
        let mut connection = connect(&self.ports.addresses()[index]).await?;
        let password = self.password("default")?;
        let mut login = redis::cmd("AUTH");
        login.arg(password);
        login.query_async::<()>(&mut connection).await?;
        Ok(connection)
    }

    /// How many shards a server sees.
    pub(crate) async fn shards_at(&self, index: usize) -> Outcome<usize> {
        let mut connection = self.administrator(index).await?;
        let mut ask = redis::cmd("CLUSTER");
        let shards: Vec<redis::Value> = ask.arg("SHARDS").query_async(&mut connection).await?;
        Ok(shards.len())
    }

    /// Empties a server as the product tells people to.
    pub(crate) async fn empty(&self, index: usize) -> Outcome<()> {
        let mut connection = self.administrator(index).await?;
        let flush = redis::cmd("FLUSHALL");
        flush.query_async::<()>(&mut connection).await?;
        let mut reset = redis::cmd("CLUSTER");
        reset.arg("RESET").arg("HARD");
        Ok(reset.query_async(&mut connection).await?)
    }

    /// Takes Shardwright's own user away from a server.
    async fn forget_us(&self, index: usize) -> Outcome<()> {
        let mut connection = self.administrator(index).await?;
        let mut forget = redis::cmd("ACL");
        forget.arg("DELUSER").arg("shardwright");
        Ok(forget.query_async(&mut connection).await?)
    }

    pub(crate) async fn all_there(&self, report: &Report) -> Outcome<()> {
        let lost = report.lost(&self.ports.addresses()).await?;
        assert_eq!(lost, [], "of {} keys", report.acked());
        Ok(())
    }

    pub(crate) fn status(&self) -> Outcome<serde_json::Value> {
        let ran = self.run(&["status", "-o", "json"]);
        Ok(serde_json::from_str(&ran.out)?)
    }

    /// The number of a server that is a primary now, by `status`.
    pub(crate) fn a_primary(&self) -> Outcome<usize> {
        let status = self.status()?;
        let server = status["shards"][1]["nodes"][0]["server"]
            .as_str()
            .ok_or("no primary")?;
        Ok(server.trim_start_matches("c-").parse()?)
    }

    pub(crate) fn until_healthy(&self) -> Outcome<()> {
        let healthy = || {
            let ran = self.run(&["check"]);
            if ran.code == Some(0) {
                Ok(())
            } else {
                Err(ran.out + &ran.err)
            }
        };
        Ok(until_blocking("the cluster is healthy", LIMIT, healthy)?)
    }
}

pub(crate) const OK: &str = "[OK] c is healthy";
const NOTHING_KEPT: &str = "  persistence: {aof: false, rdb: false}\n";

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn up_is_idempotent_and_keeps_secrets(engine) {
        let local = Local::new(&engine, "  users: [{name: worker, rules: '~* &* +@all -@dangerous'}]\n")?;
        let first = local.up(&[]).must(0, &[OK, "REDISCLI_AUTH=", "--user worker"]);
        let pids = local.pids()?;
        let second = local.up(&[]).must(0, &[OK]);
        local.run(&["up", "--name", "c"]).must(0, &[OK]);
        assert_eq!(local.pids()?, pids, "a second up changes nothing");
        assert_eq!(living_in(&local.dir()), { let mut sorted = pids.clone(); sorted.sort_unstable(); sorted });

        let status = local.status()?;
        assert_eq!(status["slots_covered"], 16384);
        assert_eq!(status["shards"].as_array().map(Vec::len), Some(3));
        let table = local.run(&["status", "local:c"]).must(0, &["SLOTS", "primary", "replica", "0-5460"]);
        local.run(&["check", "-o", "json"]).must(0, &["\"problems\": []"]);

        let passwords: Vec<String> = ["default", "worker", "replication", "shardwright"]
            .iter().map(|user| local.password(user)).collect::<Result<_, _>>()?;
        for user in ["default", "worker", "replication", "shardwright"] {
            assert_eq!(mode(&local.dir().join("secrets").join(user)), 0o600, "{user}");
        }
        assert_eq!(mode(&local.dir()), 0o700);
        assert_eq!(mode(&local.dir().join("secrets")), 0o700);
        let told = [&first.out, &first.err, &second.err, &table.out, &table.err, &status.to_string()].map(Clone::clone).join("\n");
        let is_private = |path: &Path| path.starts_with(local.dir().join("secrets")) || path.ends_with("auth.conf");
        for (at, password) in passwords.iter().enumerate() {
            assert!(password.len() >= 32, "user {at} has a long password");
            assert!(!told.contains(password.as_str()), "the password of user {at} is told");
            for pid in &pids {
                let argv = fs::read(format!("/proc/{pid}/cmdline"))?;
                assert!(!String::from_utf8_lossy(&argv).contains(password.as_str()), "user {at} in argv");
                let environ = fs::read(format!("/proc/{pid}/environ"))?;
                assert!(!String::from_utf8_lossy(&environ).contains(password.as_str()), "user {at} in environ");
            }
            for (path, (mode, bytes)) in tree(&local.dir()) {
                if String::from_utf8_lossy(&bytes).contains(password.as_str()) {
                    assert!(is_private(&path), "the password of user {at} is in {}", path.display());
                    assert_eq!(mode & 0o777, 0o600, "{}", path.display());
                }
            }
        }

        let purged = local.run(&["down", "--purge", "--yes"]).must(0, &["6 server(s) ended", "removed"]);
        assert!(!local.dir().exists(), "{purged:?}");
        assert!(living_in(&local.home.path("")).is_empty(), "no process is left");
        local.run(&["status"]).must(2, &["no local cluster"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn a_replica_that_refuses_its_table_begins_anew(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        let replica = local.a_replica()?;
        local.kill9([replica])?;
        fs::write(local.node(replica).join("data/nodes.conf"), "no table\n")?;
        local.up(&[]).must(0, &[OK]);
        let kept = local.node(replica).join("data.aside-1");
        assert_eq!(fs::read_to_string(kept.join("nodes.conf"))?, "no table\n");
        assert!(kept.join("appendonlydir").exists(), "nothing is deleted");
        local.until_healthy()?;
        local.all_there(&written).await
    }
}

each_engine! {
    [redis_7_0, redis_7_4, valkey_8_0, valkey_9_1]
    async fn the_replica_of_a_primary_that_refuses_its_table_has_every_key(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        let status = local.status()?;
        let primary = status["shards"][0]["nodes"][0]["server"].as_str().ok_or("no primary")?;
        let table = local.node(primary.trim_start_matches("c-").parse()?).join("data/nodes.conf");
        local.run(&["down"]).must(0, &["6 server(s) stopped"]);
        let whole = fs::read(&table)?;
        fs::write(&table, &whole[..whole.len() / 2])?;
        // It is not given up by itself: its file may come back. What is named instead loses nothing.
        let ran = local.up(&["--timeout", "30"]);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains("refuses its own table of nodes") && said.contains("--accept-data-loss"), "{said}");
        local.up(&["--accept-data-loss"]).must(0, &[OK]);
        local.all_there(&written).await
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn no_directory_is_set_aside_while_slots_are_not_served(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        local.kill9(0..6)?;
        local.until_gone()?;
        let tables: Vec<PathBuf> = (0..6).map(|i| local.node(i).join("data/nodes.conf")).collect();
        for table in &tables {
            fs::rename(table, table.with_extension("good"))?;
            fs::write(table, "no table\n")?;
        }
        local.up(&["--timeout", "10"]).must(3, &["refuses its own table of nodes"]);
        assert!(!local.node(0).join("data.aside-1").exists());
        for table in &tables {
            fs::rename(table.with_extension("good"), table)?;
        }
        local.up(&[]).must(0, &[OK]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn down_and_up_keep_every_key_also_at_new_ports(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        local.run(&["down", "--dry-run"]).must(0, &["stop c-0", "6 server(s) of c run; nothing was changed"]);
        local.run(&["down", "--purge", "--dry-run"]).must(0, &["end c-5", "remove ", "nothing was changed"]);
        local.run(&["pause", "--dry-run"]).must(0, &["give out no further slots of", "no slots have to move"]);
        local.run(&["resume"]).must(0, &["it was not paused"]);
        assert_eq!(living_in(&local.dir()).len(), 6);
        local.run(&["down"]).must(0, &["6 server(s) stopped"]);
        assert!(living_in(&local.dir()).is_empty());
        local.run(&["status"]).must(1, &["stopped; start it: shardwright up"]);
        let stopped = local.run(&["check"]);
        stopped.must(1, &["stopped: none of its 6 servers runs", "start it: shardwright up"]).without(&["--accept-data-loss", "[ERR]"]);
        local.run(&["up"]).must(0, &[OK]);
        local.all_there(&written).await?;

        let moved = Block::take(6)?;
        let port = moved.first().to_string();
        local.home.run(&local.up_args(&port, &[])).must(3, &["runs on ports from", "shardwright down"]);
        // One that does not let us in is ended by a signal, and that is told.
        local.forget_us(0).await?;
        local.run(&["down"]).must(0, &["warning: c-0 was ended by a signal", "server.log", "6 server(s) stopped", "all but 1"]);
        local.run(&["down"]).must(0, &["0 server(s) stopped"]);
        local.home.run(&local.up_args(&port, &[])).must(0, &[OK, &port]);
        assert_eq!(written.lost(&moved.addresses()).await?, []);
        local.run(&["check"]).must(0, &["[OK] 6 nodes agree"]);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn with_persistence_off_a_clean_stop_keeps_the_data(engine) {
        let local = Local::new(&engine, NOTHING_KEPT)?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        local.run(&["down"]).must(0, &["6 server(s) stopped", "data saved"]);
        local.up(&[]).must(0, &[OK]);
        local.all_there(&written).await?;
        Ok(())
    }
}

#[test]
fn a_crash_of_all_with_persistence_off_is_told_and_started_only_with_consent() -> TestResult {
    let body = async |engine: Engine| {
        let local = Local::new(&engine, NOTHING_KEPT)?;
        local.up(&[]).must(0, &[OK]);
        local.write("a").await?;
        local.kill9(0..6)?;
        local.until_gone()?;
        let before = tree(&local.dir().join("nodes"));
        local.up(&[]).must(
            3,
            &[
                "a person has to decide",
                "without its newest data",
                "--accept-data-loss",
            ],
        );
        assert!(
            living_in(&local.dir()).is_empty(),
            "what was the only copy is not started"
        );
        assert_eq!(
            changes(&before, &tree(&local.dir().join("nodes"))),
            Vec::<PathBuf>::new()
        );
        local.up(&["--accept-data-loss"]).must(0, &[OK]);
        local.run(&["check"]).must(0, &["[OK] 6 nodes agree"]);
        local.write("b").await?;
        Ok(())
    };
    shardwright_testkit::skip::run_on("a_crash_of_all_with_persistence_off", "redis_7_0", body)?;
    shardwright_testkit::skip::run_on("a_crash_of_all_with_persistence_off", "valkey_9_1", body)
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn all_directories_empty_is_data_lost_and_never_formed_anew_unasked(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        local.run(&["down"]).must(0, &[]);
        for index in 0..6 {
            fs::remove_dir_all(local.node(index).join("data"))?;
        }
        local.up(&[]).must(3, &["every node is empty", "data is lost", "--accept-data-loss"]);
        local.up(&["--accept-data-loss"]).must(0, &[OK]);
        local.write("a").await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn with_a_log_all_killed_at_once_come_back_with_every_key(engine) {
        let local = Local::new(&engine, "  persistence: {aof: true, fsync: always, rdb: false}\n")?;
        local.up(&[]).must(0, &[OK]);
        let written = local.write("a").await?;
        local.kill9(0..6)?;
        local.until_gone()?;
        local.run(&["status"]).must(1, &["dead", "stopped; start it: shardwright up"]);
        local.run(&["check"]).must(1, &["stopped: none of its 6 servers runs", "shardwright up"]);
        local.up(&[]).must(0, &[OK]);
        local.all_there(&written).await?;
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn watch_promotes_past_a_killed_primary_and_ends_cleanly(engine) {
        let local = Local::new(&engine, "")?;
        let mut watch = local.watch();
        let load = local.load("a")?;
        load.until_more(500, LIMIT).await?;
        let killed = local.a_primary()?;
        // What is acknowledged before the silence is on the replica too: only then may nothing be missing.
        let quiet = load.stop().await;
        let start = std::time::Instant::now();
        local.kill9([killed])?;
        let writes = local.write("b").await?;
        // Without us the engine takes node-timeout (5 s) and more.
        assert!(start.elapsed() < Duration::from_secs(5), "writes took {:?} to return", start.elapsed());
        local.until_healthy()?;
        local.all_there(&quiet).await?;
        local.all_there(&writes).await?;
        assert_eq!(living_in(&local.dir()).len(), 6, "the killed server runs again");
        assert_ne!(local.a_primary()?, killed);
        assert!(watch.said().contains("healthy"), "{}", watch.said());
        watch.until_said("start c-", LIMIT);

        let pids = local.pids()?;
        watch.signal("TERM", false);
        watch.end().must(0, &["the watch has ended; the servers run on"]);
        local.run(&["check"]).must(0, &["[OK] 6 nodes agree"]);
        // Ctrl-C, and the end of a terminal, reach the whole process group, and none of the servers.
        for signal in ["INT", "HUP"] {
            let watch = local.watch();
            watch.signal(signal, true);
            watch.end().must(0, &["the servers run on"]);
        }
        local.run(&["check"]).must(0, &["[OK] 6 nodes agree"]);
        assert_eq!(local.pids()?, pids);
        Ok(())
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn watch_heals_with_nothing_kept_and_a_lost_directory(engine) {
        let local = Local::new(&engine, NOTHING_KEPT)?;
        let watch = local.watch();
        let written = local.write("a").await?;
        let killed = local.a_primary()?;
        local.kill9([killed])?;
        local.until_healthy()?;
        local.all_there(&written).await?;
        // The whole directory of a primary is gone with its process.
        let killed = local.a_primary()?;
        let data = local.node(killed).join("data");
        let pid = local.pid(killed)?;
        fs::remove_dir_all(&data)?;
        shell(&format!("kill -KILL {pid}"));
        let again = || match local.pid(killed) {
            Ok(now) if now != pid && data.exists() => Ok(()),
            other => Err(format!("{other:?}")),
        };
        until_blocking("the server starts again", LIMIT, again)?;
        local.until_healthy()?;
        local.all_there(&written).await?;
        assert_eq!(local.status()?["others"].as_array().map(Vec::len), Some(0), "the old node is forgotten");
        watch.signal("TERM", false);
        watch.end().must(0, &["the servers run on"]);
        Ok(())
    }
}

/// A process of somebody else, ended with the test.
struct Stranger(Child);

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

each_engine! {
    [redis_7_0, valkey_9_1]
    async fn a_stranger_with_the_noted_number_is_never_signalled(engine) {
        let local = Local::new(&engine, "")?;
        local.up(&[]).must(0, &[OK]);
        local.run(&["down"]).must(0, &[]);
        let mut stranger = Stranger(Command::new("sleep").arg("300").stdin(Stdio::null()).spawn()?);
        let note = local.node(0).join("process.json");
        let mut noted: serde_json::Value = serde_json::from_str(&fs::read_to_string(&note)?)?;
        noted["pid"] = stranger.0.id().into();
        fs::write(&note, noted.to_string())?;
        local.run(&["down"]).must(0, &["0 server(s) stopped"]);
        assert!(stranger.0.try_wait()?.is_none(), "the stranger lives");
        local.up(&[]).must(0, &[OK]);
        assert_ne!(u32::try_from(local.pid(0)?)?, stranger.0.id(), "a server of our own was started");
        assert_eq!(living_in(&local.dir()).len(), 6);
        local.run(&["down"]).must(0, &["6 server(s) stopped"]);
        fs::write(&note, noted.to_string())?;
        local.run(&["down", "--purge", "--yes"]).must(0, &["0 server(s) ended"]);
        assert!(stranger.0.try_wait()?.is_none(), "the stranger lives");
        Ok(())
    }
}
