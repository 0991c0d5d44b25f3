//! The steps of the demo, in their order.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use redis::IntoConnectionInfo as _;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use shardwright_testkit::slots::{slot_of, tag_for};
use shardwright_testkit::{Load, LoadOptions, until};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::local::{Failure, LocalCluster, program};
use crate::watch::Watch;

const MANIFEST: &str = "examples/article.yaml";
/// The name in that manifest.
const CLUSTER: &str = "redis";
/// The application's user in that manifest.
const USER: &str = "worker";
const KEYS: usize = 10_000;
/// So many writers at a time.
const WRITERS: usize = 16;
/// A replica confirms within this, or the demo fails.
const WAIT_MS: u64 = 5_000;
/// Longer without writes is a failure of the demo. It is a tenth of a second as a rule.
const GAP_LIMIT: Duration = Duration::from_secs(5);
/// Far beyond what any step takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A shard's primary and the first of its slots.
#[derive(Clone, Debug)]
struct Primary {
    address: String,
    slot: u16,
}

pub(crate) async fn all() -> Result<(), Failure> {
    let program = program()?;

    heading(
        "1. A cluster",
        "Three shards, a replica each, as the manifest says.",
    );
    verb(&program, &["up", "-f", MANIFEST]).await?;
    let cluster = LocalCluster::at(state_dir()?);
    let login = cluster.login(USER)?;

    heading(
        "2. Ten thousand keys",
        "Written as user worker, through a cluster client.",
    );
    let client = client(&cluster, &login).await?;
    // Other values than those of an earlier demo, so that old keys prove nothing.
    let stamp = std::process::id();
    let begun = Instant::now();
    write_all(&client, stamp).await?;
    let seconds = begun.elapsed().as_secs_f64();
    println!("wrote {KEYS} keys in {seconds:.2} s");
    verb(&program, &["status", &format!("local:{CLUSTER}")]).await?;

    heading(
        "3. Nothing under way",
        "No more writes. Each replica confirms that it has everything: a last write to each\n\
         primary, and WAIT 1 on the same connection. A replica takes in the writes of its primary\n\
         in their order, so the one that has the last write has all ten thousand.",
    );
    let primaries = primaries(&client).await?;
    for primary in &primaries {
        confirm(primary, &login).await?;
    }

    heading(
        "4. The watch",
        "shardwright up --watch keeps the cluster as it should be.",
    );
    let mut watch = Watch::begin(&program, CLUSTER).await?;

    let victim = primaries.first().ok_or("the cluster has no primary")?;
    heading(
        "5. A primary dies",
        &format!(
            "kill -9 of {}, while a client writes to its slots.",
            victim.address
        ),
    );
    kill_and_measure(&cluster, &login, victim, &mut watch).await?;

    heading(
        "6. Every key again",
        "All ten thousand are read back and compared.",
    );
    check_all(&client, stamp).await?;
    println!("none of {KEYS} keys is missing, and each has its value");
    watch.end().await?;

    heading(
        "7. The cluster now",
        "The one that died is back, and the primaries are on hosts apart.",
    );
    verb(&program, &["check", &format!("local:{CLUSTER}")]).await?;
    verb(&program, &["status", &format!("local:{CLUSTER}")]).await?;
    how_to_connect(&cluster).await
}

fn heading(title: &str, text: &str) {
    println!("\n=== {title}\n{text}\n");
}

/// Runs a verb of shardwright with its words on our terminal.
async fn verb(program: &Path, words: &[&str]) -> Result<(), Failure> {
    println!("$ shardwright {}", words.join(" "));
    let mut command = Command::new(program);
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let status = command.status().await?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("shardwright {} ended with {status}", words.join(" ")).into())
    }
}

/// Where `shardwright` keeps this cluster when it is told nothing else.
fn state_dir() -> Result<PathBuf, Failure> {
    let named = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = named("XDG_STATE_HOME").map(PathBuf::from);
    let home = || named("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    let state = state
        .or_else(home)
        .ok_or("neither XDG_STATE_HOME nor HOME is set")?;
    Ok(state.join("shardwright").join(CLUSTER))
}

async fn client(
    cluster: &LocalCluster,
    login: &(String, String),
) -> Result<ClusterConnection, Failure> {
    let addresses = cluster.addresses()?;
    let nodes = addresses
        .iter()
        .map(|address| format!("redis://{address}/"));
    let client = ClusterClientBuilder::new(nodes)
        .username(login.0.clone())
        .password(login.1.clone())
        .build()?;
    Ok(client.get_async_connection().await?)
}

fn key(number: usize) -> String {
    format!("demo:{number}")
}

fn value(number: usize, stamp: u32) -> String {
    format!("value {number} of run {stamp}")
}

async fn write_all(client: &ClusterConnection, stamp: u32) -> Result<(), Failure> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = client.clone();
        writers.spawn(async move {
            for number in (writer..KEYS).step_by(WRITERS) {
                let mut set = redis::cmd("SET");
                set.arg(key(number)).arg(value(number, stamp));
                set.query_async::<()>(&mut client).await?;
            }
            Ok::<_, redis::RedisError>(())
        });
    }
    for written in writers.join_all().await {
        written?;
    }
    Ok(())
}

/// Reads every key; an error names the first that is not as it was written.
async fn check_all(client: &ClusterConnection, stamp: u32) -> Result<(), Failure> {
    let mut readers = JoinSet::new();
    for reader in 0..WRITERS {
        let mut client = client.clone();
        readers.spawn(async move {
            let mut wrong = Vec::new();
            for number in (reader..KEYS).step_by(WRITERS) {
                let mut get = redis::cmd("GET");
                get.arg(key(number));
                let found: Option<String> = get.query_async(&mut client).await?;
                if found.as_deref() != Some(value(number, stamp).as_str()) {
                    wrong.push(key(number));
                }
            }
            Ok::<_, redis::RedisError>(wrong)
        });
    }
    let mut wrong = Vec::new();
    for read in readers.join_all().await {
        wrong.extend(read?);
    }
    match wrong.first() {
        None => Ok(()),
        Some(first) => {
            let count = wrong.len();
            Err(format!("{count} of {KEYS} keys are missing or wrong, such as {first}").into())
        }
    }
}

/// The primaries, as the cluster tells its clients (`CLUSTER SLOTS`), in the order of their slots.
async fn primaries(client: &ClusterConnection) -> Result<Vec<Primary>, Failure> {
    type Range = (u16, u16, (String, u16));
    let mut command = redis::cmd("CLUSTER");
    command.arg("SLOTS");
    let ranges: Vec<redis::Value> = command.query_async(&mut client.clone()).await?;
    let mut primaries: Vec<Primary> = Vec::new();
    for range in ranges {
        let redis::Value::Array(parts) = range else {
            return Err("CLUSTER SLOTS answers something else than ranges".into());
        };
        let [first, last, primary, ..] = parts.as_slice() else {
            return Err("CLUSTER SLOTS tells of a range without a primary".into());
        };
        // A node is an address, a port, and more that does not matter here.
        let redis::Value::Array(node) = primary else {
            return Err("CLUSTER SLOTS tells of a primary without an address".into());
        };
        let node = redis::Value::Array(node.iter().take(2).cloned().collect());
        let whole = redis::Value::Array(vec![first.clone(), last.clone(), node]);
        let (slot, _, (host, port)): Range = redis::from_redis_value(whole)?;
        let address = format!("{host}:{port}");
        if primaries.iter().all(|known| known.address != address) {
            primaries.push(Primary { address, slot });
        }
    }
    primaries.sort_by_key(|primary| primary.slot);
    Ok(primaries)
}

async fn connect(
    address: &str,
    login: &(String, String),
) -> Result<MultiplexedConnection, Failure> {
    let info = format!("redis://{address}/").into_connection_info()?;
    let settings = info.redis_settings().clone();
    let info = info.set_redis_settings(settings.set_username(&login.0).set_password(&login.1));
    // WAIT may take its time.
    let config = redis::AsyncConnectionConfig::new()
        .set_response_timeout(Some(Duration::from_millis(WAIT_MS * 2)));
    let client = redis::Client::open(info)?;
    Ok(client
        .get_multiplexed_async_connection_with_config(&config)
        .await?)
}

/// A last write, and WAIT for a replica on the connection that wrote: WAIT speaks of its own
/// connection's writes only.
async fn confirm(primary: &Primary, login: &(String, String)) -> Result<(), Failure> {
    let address = &primary.address;
    let mut connection = connect(address, login).await?;
    let last = format!("{{{}}}:last", tag_for(primary.slot));
    let mut set = redis::cmd("SET");
    set.arg(last).arg("written");
    set.query_async::<()>(&mut connection).await?;
    let mut wait = redis::cmd("WAIT");
    wait.arg(1).arg(WAIT_MS);
    let replicas: u64 = wait.query_async(&mut connection).await?;
    if replicas < 1 {
        return Err(format!("no replica of {address} has all writes after {WAIT_MS} ms").into());
    }
    println!("{address}: WAIT 1 says {replicas} replica has everything");
    Ok(())
}

async fn kill_and_measure(
    cluster: &LocalCluster,
    login: &(String, String),
    victim: &Primary,
    watch: &mut Watch,
) -> Result<(), Failure> {
    // One writer into the victim's slots, about a write each millisecond.
    let options = LoadOptions {
        slots: vec![victim.slot],
        login: Some(login.clone()),
        prefix: format!("probe{}", std::process::id()),
        ..LoadOptions::default()
    };
    let load = Load::start(&cluster.addresses()?, options);
    load.until_more(300, LIMIT).await?;
    let heard = watch.lines();
    let pid = cluster.kill9(&victim.address)?;
    println!("   killed process {pid}");
    let gone = PathBuf::from(format!("/proc/{pid}/cwd"));
    until("the killed process is gone", LIMIT, || async {
        if gone.exists() {
            Err("it is there".to_owned())
        } else {
            Ok(())
        }
    })
    .await?;
    load.until_more(300, LIMIT).await?;
    println!("   writes are back");
    watch.until_said("healthy", heard).await?;
    let report = load.stop().await;
    let gap = report.longest_gap(victim.slot, victim.slot);
    let gap = gap.ok_or("the probe wrote nothing")?.length;
    println!(
        "\nwrites to slots of the dead primary were away for {} ms",
        gap.as_millis()
    );
    let lost = report.lost(&cluster.addresses()?).await?.len();
    let acked = report.acked();
    if lost == 0 {
        println!("all {acked} writes that were acknowledged before and after it are there too");
    } else {
        println!(
            "of {acked} writes acknowledged before and after it, {lost} had not reached the replica\n\
             (the manifest says failover: Availability; KeepEveryWrite waits for the dead one first)"
        );
    }
    if gap > GAP_LIMIT {
        return Err(format!("writes were away for {gap:?}: more than {GAP_LIMIT:?}").into());
    }
    Ok(())
}

/// Prints a line that works when it is pasted: it is tried first.
async fn how_to_connect(cluster: &LocalCluster) -> Result<(), Failure> {
    let address = cluster
        .addresses()?
        .into_iter()
        .next()
        .ok_or("no servers")?;
    let (host, port) = address.split_once(':').ok_or("an address without a port")?;
    let Some(client) = command_line_client() else {
        println!(
            "\nThe cluster runs on at {address}. There is no redis-cli here to connect with\n\
             (Debian: apt-get install redis-tools). When you are done: make demo-down"
        );
        return Ok(());
    };
    let password = cluster.dir().join("secrets").join(USER);
    let line = format!(
        "REDISCLI_AUTH=\"$(cat '{}')\" {client} -c -h {host} -p {port} --user {USER}",
        password.display()
    );
    let tried = Command::new("sh")
        .args(["-c", &format!("{line} GET {}", key(0))])
        .stdin(Stdio::null())
        .output()
        .await?;
    let said = String::from_utf8_lossy(&tried.stdout);
    if !tried.status.success() || !said.starts_with("value 0") {
        let complaint = String::from_utf8_lossy(&tried.stderr);
        return Err(format!("this line does not work:\n  {line}\n{said}{complaint}").into());
    }
    let slot = slot_of(key(0).as_bytes());
    println!(
        "\nThe cluster runs on. Connect to it, and try: GET {} (slot {slot})\n",
        key(0)
    );
    println!("  {line}\n\nWhen you are done: make demo-down");
    Ok(())
}

/// A client as it can be typed: its name where it is on the search path of the person, else its path.
fn command_line_client() -> Option<String> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for name in ["redis-cli", "valkey-cli"] {
        let found = folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|path| path.is_file());
        if let Some(found) = found {
            // The engines that the demo fetched are on its own search path only.
            let ours = found
                .components()
                .any(|part| part.as_os_str() == ".engines");
            let shown = if ours {
                format!("'{}'", found.display())
            } else {
                name.to_owned()
            };
            return Some(shown);
        }
    }
    None
}
