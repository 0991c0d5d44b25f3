//! A cluster that `shardwright up` made for a measurement, and that goes away with it.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process};
use shardwright_testkit::ports::BUS_OFFSET;
use shardwright_testkit::{Engine, LoadOptions, until};
use tokio::process::{Child, Command};

use crate::local::{Failure, LocalCluster, program, run};
use crate::view::{Login, Observer, Row};

/// Far beyond what any step of a measurement takes.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Where free blocks of ports are looked for: below those that single servers of tests take.
const PORTS: std::ops::Range<u16> = 8_000..10_900;
/// Three shards with a replica each.
const NODES: u16 = 6;
/// A slot of each shard, well inside its range.
pub(crate) const SLOTS: [u16; 3] = [2_000, 8_000, 14_000];

/// A cluster in a directory of its own.
#[derive(Debug)]
pub(crate) struct Scene {
    program: PathBuf,
    pub(crate) cluster: LocalCluster,
    // The last to go: the cluster's directory is in it.
    home: tempfile::TempDir,
}

impl Scene {
    /// Makes a cluster of three shards with a replica each, users, AOF and RDB.
    pub(crate) async fn up(engine: &Engine, fsync: &str) -> Result<Self, Failure> {
        let home = tempfile::Builder::new()
            .prefix("shardwright-bench-")
            .tempdir()?;
        let manifest = home.path().join("cluster.yaml");
        std::fs::write(&manifest, manifest_text(fsync))?;
        let scene = Self {
            program: program()?,
            cluster: LocalCluster::at(home.path().join("cluster")),
            home,
        };
        let port = free_block()?.to_string();
        let (manifest, engine) = (utf8(&manifest)?, utf8(&engine.path)?);
        scene
            .shardwright(&["up", "-f", manifest, "--engine", engine, "--port", &port])
            .await?;
        Ok(scene)
    }

    /// Runs a verb on this cluster to its end.
    pub(crate) async fn shardwright(&self, words: &[&str]) -> Result<(), Failure> {
        let dir = utf8(self.cluster.dir())?;
        run(&self.program, &[words, &["--dir", dir]].concat()).await
    }

    /// The administrator, for whoever looks.
    pub(crate) fn admin(&self) -> Result<Login, Failure> {
        Ok(Some(self.cluster.login("default")?))
    }

    pub(crate) fn observer(&self) -> Result<Observer, Failure> {
        Ok(Observer::new(self.cluster.addresses()?, self.admin()?))
    }

    /// Writers as the application's user, one for each of these slots, a write every 2 ms.
    pub(crate) fn load(&self, slots: &[u16], prefix: &str) -> Result<LoadOptions, Failure> {
        Ok(LoadOptions {
            slots: slots.to_vec(),
            pause: Duration::from_millis(2),
            login: Some(self.cluster.login("worker")?),
            prefix: prefix.to_owned(),
            ..LoadOptions::default()
        })
    }

    /// Starts `up --watch` and waits until it watches.
    pub(crate) async fn watch(&self) -> Result<Watch, Failure> {
        let log = self.home.path().join("watch.log");
        let file = std::fs::File::create(&log)?;
        let dir = utf8(self.cluster.dir())?;
        let child = Command::new(&self.program)
            .args(["up", "--watch", "--dir", dir])
            .env("SHARDWRIGHT_LOG", "debug")
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()?;
        let watch = Watch { child, log };
        until("the watch has begun", LIMIT, || async {
            let log = watch.log();
            if log.lines().any(|line| line.starts_with("watching")) {
                Ok(())
            } else {
                Err(log)
            }
        })
        .await?;
        Ok(watch)
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let purge = std::process::Command::new(&self.program)
            .args(["down", "--purge", "--yes", "--dir"])
            .arg(self.cluster.dir())
            .stdin(Stdio::null())
            .output();
        match purge {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!(
                "the servers in {} may run on: {}",
                self.cluster.dir().display(),
                String::from_utf8_lossy(&output.stderr)
            ),
            Err(error) => eprintln!(
                "the servers in {} may run on: {error}",
                self.cluster.dir().display()
            ),
        }
    }
}

/// A running `up --watch`.
#[derive(Debug)]
pub(crate) struct Watch {
    child: Child,
    log: PathBuf,
}

impl Watch {
    fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_else(|error| format!("no log: {error}"))
    }

    /// Ends it the way an init system does.
    pub(crate) async fn end(mut self) -> Result<(), Failure> {
        let pid = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = pid
            .and_then(Pid::from_raw)
            .ok_or_else(|| format!("the watch has ended by itself:\n{}", self.log()))?;
        kill_process(pid, Signal::TERM)?;
        let status = tokio::time::timeout(LIMIT, self.child.wait()).await??;
        if status.success() {
            Ok(())
        } else {
            Err(format!("the watch ended with {status}").into())
        }
    }

    /// What it logged from `from` on for `span`, each line with the milliseconds since `from`.
    pub(crate) fn lines(&self, from: SystemTime, span: Duration) -> Vec<(f64, String)> {
        let from = micros_of_day(from);
        let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        let log = self.log();
        let lines = log.lines().filter_map(|line| {
            let (stamp, rest) = line.split_once(' ')?;
            let after = stamp_micros(stamp)? - from;
            #[expect(clippy::cast_precision_loss, reason = "microseconds of one day")]
            let ms = after as f64 / 1000.0;
            (0..span)
                .contains(&after)
                .then(|| (ms, rest.trim().to_owned()))
        });
        lines.collect()
    }
}

/// Microseconds since midnight UTC.
fn micros_of_day(time: SystemTime) -> i64 {
    let day = 86_400_000_000_u128;
    let micros = time
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() % day);
    i64::try_from(micros).unwrap_or(i64::MAX)
}

/// The same of a stamp such as `2025-11-22T15:35:20.123456Z`.
fn stamp_micros(stamp: &str) -> Option<i64> {
    let time = stamp.split_once('T')?.1.strip_suffix('Z')?;
    let (seconds, fraction) = time.split_once('.')?;
    let mut sum = 0;
    for part in seconds.split(':') {
        sum = sum * 60 + part.parse::<i64>().ok()?;
    }
    let fraction: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    Some(sum * 1_000_000 + fraction)
}

fn manifest_text(fsync: &str) -> String {
    format!(
        "apiVersion: shardwright.dev/v1alpha1
kind: RedisCluster
metadata:
  name: bench
spec:
  shards: 3
  replicasPerShard: 1
  users:
    - name: worker
      rules: \"~* &* +@all -@dangerous\"
  persistence:
    aof: true
    fsync: {fsync}
    rdb: true
"
    )
}

/// The first of six consecutive ports that are free, their bus ports too.
pub(crate) fn free_block() -> Result<u16, Failure> {
    let step = usize::from(NODES);
    let span = u32::from((PORTS.end - PORTS.start) / NODES);
    // Processes start at different places, so that they rarely meet.
    let skip = usize::try_from((std::process::id().wrapping_mul(37)) % span)?;
    let blocks: Vec<u16> = PORTS.step_by(step).collect();
    let free = |port: u16| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok();
    let mut turned = blocks.iter().cycle().skip(skip).take(blocks.len());
    turned
        .find(|first| (**first..**first + NODES).all(|port| free(port) && free(port + BUS_OFFSET)))
        .copied()
        .ok_or_else(|| "no six consecutive free ports".into())
}

pub(crate) fn utf8(path: &Path) -> Result<&str, Failure> {
    path.to_str()
        .ok_or_else(|| format!("{} is not UTF-8", path.display()).into())
}

/// Looks until `right` holds, and says after what time.
pub(crate) async fn time_until<F: AsyncFnMut() -> bool>(
    what: &str,
    begun: Instant,
    mut right: F,
) -> Result<Duration, Failure> {
    let mut ticks = crate::view::ticks();
    loop {
        ticks.tick().await;
        if right().await {
            return Ok(begun.elapsed());
        }
        if begun.elapsed() > LIMIT {
            return Err(format!("{what}: not so after {LIMIT:?}").into());
        }
    }
}

/// The address of the primary of a shard.
pub(crate) fn primary_of(rows: &[Row], shard: usize) -> Result<String, Failure> {
    crate::view::owner_of(rows, SLOTS[shard])
}
