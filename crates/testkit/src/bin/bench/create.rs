//! `bench create`: forming six fresh nodes, by redis-cli and by shardwright, in turn.
//!
//! The clock runs from the start of the process until it has returned *and* the observer sees
//! agreement. Shown besides: when it returned, and since when views and slots agreed (`views`)
//! and the replicas had their copies as well (`agreed`). The observer is the same for both, and so are the servers: the engine's own
//! defaults, nothing on disk, idle for three seconds before.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use shardwright_testkit::{Cluster, Engine, until};
use tokio::process::Command;

use crate::Options;
use crate::figures::{median, ms};
use crate::local::{Failure, program};
use crate::view::{Observer, ticks};

/// Servers refuse to serve for two seconds after their start: neither side shall wait for that.
const IDLE_S: u64 = 3;
/// Far beyond what either side needs.
const LIMIT: Duration = Duration::from_secs(60);

/// Who forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Former {
    RedisCli,
    Shardwright,
}

/// How one forming went, in time since the process was started.
struct Run {
    returned: Duration,
    /// The first look at which all but the replicas' links was right.
    views: Duration,
    /// The first look that found agreement, maybe before the process returned.
    agreed: Duration,
    /// Returned, and in agreement.
    done: Duration,
    /// Nodes at which `redis-cli --cluster check` was content at once afterwards.
    content: usize,
}

pub(crate) async fn run(options: &Options) -> Result<(), Failure> {
    let shardwright = program()?;
    let mut summary = Vec::new();
    for engine in options.engines()? {
        let cli = client_of(&engine)?;
        println!("\n== {engine}; client {}", cli.display());
        println!("former       run  returned     views    agreed      done  check content at");
        let (mut theirs, mut ours) = (Vec::new(), Vec::new());
        for round in 1..=options.runs.unwrap_or(5) {
            for former in [Former::RedisCli, Former::Shardwright] {
                let run = one(&engine, former, &cli, &shardwright).await?;
                let name = match former {
                    Former::RedisCli => "redis-cli",
                    Former::Shardwright => "shardwright",
                };
                println!(
                    "{name:<12} {round:>3}  {:>8}  {:>8}  {:>8}  {:>8}  {}/6",
                    ms(Some(run.returned)),
                    ms(Some(run.views)),
                    ms(Some(run.agreed)),
                    ms(Some(run.done)),
                    run.content
                );
                match former {
                    Former::RedisCli => theirs.push(run),
                    Former::Shardwright => ours.push(run),
                }
            }
        }
        summary.push((engine.name.clone(), theirs, ours));
    }
    println!("\nmedian until returned and agreed (returned alone)");
    println!("engine       redis-cli --cluster create  shardwright create  ratio");
    for (engine, theirs, ours) in &summary {
        let done = |runs: &[Run]| median(&runs.iter().map(|run| run.done).collect::<Vec<_>>());
        let back = |runs: &[Run]| median(&runs.iter().map(|run| run.returned).collect::<Vec<_>>());
        let both = |runs: &[Run]| format!("{} ({})", ms(done(runs)), ms(back(runs)));
        let ratio = match (done(theirs), done(ours)) {
            (Some(theirs), Some(ours)) => {
                format!("{:.1}x", theirs.as_secs_f64() / ours.as_secs_f64())
            }
            _ => "-".to_owned(),
        };
        println!(
            "{engine:<12} {:>26}  {:>18}  {ratio:>5}",
            both(theirs),
            both(ours)
        );
    }
    Ok(())
}

/// Six fresh nodes that have idled.
async fn idle_nodes(engine: &Engine) -> Result<Cluster, Failure> {
    let cluster = Cluster::start(engine, 6, |builder| builder)?;
    until("the servers have idled", LIMIT, || async {
        for server in &cluster.servers {
            let up = server.field(&["INFO", "server"], "uptime_in_seconds").await;
            let age = up.ok().flatten().and_then(|text| text.parse::<u64>().ok());
            if age.is_none_or(|age| age < IDLE_S) {
                return Err(format!("{}: {age:?} s", server.address()));
            }
        }
        Ok(())
    })
    .await?;
    Ok(cluster)
}

fn command_of(former: Former, cli: &Path, shardwright: &Path, addresses: &[String]) -> Command {
    let mut command = match former {
        Former::RedisCli => {
            let mut command = Command::new(cli);
            command.args(["--cluster", "create"]).args(addresses);
            command.args(["--cluster-replicas", "1", "--cluster-yes"]);
            command
        }
        Former::Shardwright => {
            let mut command = Command::new(shardwright);
            command.arg("create").args(addresses);
            command.args(["--replicas", "1", "--yes"]);
            command
        }
    };
    command.stdin(Stdio::null()).kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

async fn one(
    engine: &Engine,
    former: Former,
    cli: &Path,
    shardwright: &Path,
) -> Result<Run, Failure> {
    let cluster = idle_nodes(engine).await?;
    let addresses = cluster.addresses();
    let mut observer = Observer::new(addresses.clone(), None);
    // Opens its connections before the clock runs.
    if observer.agreed().await.is_ok() {
        return Err("fresh nodes agree already: the test is wrong".into());
    }
    let mut command = command_of(former, cli, shardwright, &addresses);
    let begun = Instant::now();
    let child = command.spawn()?;
    let mut output = tokio::spawn(async move {
        let output = child.wait_with_output().await;
        (output, begun.elapsed())
    });
    let mut returned = None;
    let (mut views, mut first) = (None, None);
    let mut ticks = ticks();
    let done = loop {
        tokio::select! {
            ended = &mut output, if returned.is_none() => {
                let (ended, after) = ended?;
                let ended = ended?;
                if !ended.status.success() {
                    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
                    return Err(format!("{former:?} failed: {}\n{told}{said}", ended.status).into());
                }
                returned = Some(after);
            }
            _ = ticks.tick() => {}
        }
        let asked_after_return = returned.is_some();
        match observer.agreed().await {
            Ok(_) => {
                let now = begun.elapsed();
                views.get_or_insert(now);
                first.get_or_insert(now);
                if asked_after_return {
                    break now;
                }
            }
            Err(why) if begun.elapsed() > LIMIT => {
                return Err(format!("{former:?}: no agreement after {LIMIT:?}: {why}").into());
            }
            Err(why) => {
                if why.only_links {
                    views.get_or_insert(begun.elapsed());
                }
            }
        }
    };
    let content = content_at(cli, &addresses).await?;
    Ok(Run {
        returned: returned.unwrap_or(done),
        views: views.unwrap_or(done),
        agreed: first.unwrap_or(done),
        done,
        content,
    })
}

/// At how many nodes `redis-cli --cluster check` finds nothing wrong.
async fn content_at(cli: &Path, addresses: &[String]) -> Result<usize, Failure> {
    let mut content = 0;
    for address in addresses {
        let mut command = Command::new(cli);
        command
            .args(["--cluster", "check", address])
            .stdin(Stdio::null());
        let output = command.kill_on_drop(true).output().await?;
        let said = String::from_utf8_lossy(&output.stdout);
        let well =
            output.status.success() && !said.contains("[ERR]") && !said.contains("[WARNING]");
        content += usize::from(well);
    }
    Ok(content)
}

/// The engine's own client where it has one, else any redis-cli: they speak the same protocol.
pub(crate) fn client_of(engine: &Engine) -> Result<PathBuf, Failure> {
    let mut folders: Vec<PathBuf> = engine
        .path
        .parent()
        .map(Path::to_owned)
        .into_iter()
        .collect();
    let path = std::env::var_os("PATH").ok_or("no PATH")?;
    folders.extend(std::env::split_paths(&path));
    let others = shardwright_testkit::engines().usable.iter();
    folders.extend(others.filter_map(|other| Some(other.path.parent()?.to_owned())));
    let names = [format!("{}-cli", engine.kind), "redis-cli".to_owned()];
    let candidates = folders
        .iter()
        .flat_map(|folder| names.iter().map(|name| folder.join(name)));
    let mut found = candidates.filter(|path| path.is_file());
    found
        .next()
        .ok_or_else(|| "no redis-cli to compare with; install redis-tools".into())
}
