//! The ways to move slots: each as a person does it, from the start of the program to its end.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use shardwright_testkit::server::ask_on;
use shardwright_testkit::{Cluster, Engine, Kind, Server, until};
use tokio::process::Command;

use super::data::Data;
use crate::create::client_of;
use crate::local::{Failure, program};

/// More than the slowest way needs.
const LIMIT: Duration = Duration::from_secs(300);

/// Who moves the slots, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// `redis-cli --cluster reshard`, ten keys at a time.
    Cli,
    /// The same with `--cluster-pipeline 200`.
    CliPipelined,
    /// `shardwright reshard --max-pause`, key by key.
    KeyWise { max_pause_ms: u64 },
    /// `shardwright reshard` where the engine moves slots by itself.
    Native,
    /// `CLUSTER MIGRATESLOTS` sent to each source by hand: what the engine can do.
    ByHand,
}

impl Way {
    /// All that this engine knows.
    pub(crate) fn all(engine: &Engine) -> Vec<Self> {
        let mut ways = vec![Self::Cli, Self::CliPipelined];
        if is_native(engine) {
            ways.extend([Self::Native, Self::ByHand]);
        } else {
            ways.extend([1, 5, 10].map(|max_pause_ms| Self::KeyWise { max_pause_ms }));
        }
        ways
    }

    pub(crate) fn name(self) -> String {
        match self {
            Self::Cli => "redis-cli".to_owned(),
            Self::CliPipelined => "redis-cli, pipeline 200".to_owned(),
            Self::KeyWise { max_pause_ms } => format!("shardwright, max-pause {max_pause_ms}ms"),
            Self::Native => "shardwright, native".to_owned(),
            Self::ByHand => "native by hand".to_owned(),
        }
    }

    pub(crate) fn is_key_wise(self) -> bool {
        self.max_pause().is_some()
    }

    /// How long the source may be kept from its clients, where that is bounded.
    pub(crate) fn max_pause(self) -> Option<Duration> {
        match self {
            Self::KeyWise { max_pause_ms } => Some(Duration::from_millis(max_pause_ms)),
            Self::Cli | Self::CliPipelined | Self::Native | Self::ByHand => None,
        }
    }

    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::KeyWise { .. } | Self::Native)
    }

    /// Moves the slots of this data set to the last, empty node. Returns when it is done.
    pub(crate) async fn carry_out(self, cluster: &Cluster, data: &Data) -> Result<(), Failure> {
        if self == Self::ByHand {
            return by_hand(cluster, data).await;
        }
        let mut command = self.command(cluster, data).await?;
        command.stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let output = tokio::time::timeout(LIMIT, command.output()).await??;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("{} ended with {}: {said}", self.name(), output.status).into())
    }

    async fn command(self, cluster: &Cluster, data: &Data) -> Result<Command, Failure> {
        let at = cluster[0].address();
        let target = newest(cluster).id().await?;
        let from = if data.slots() == 1 {
            cluster[0].id().await?
        } else {
            "all".to_owned()
        };
        let count = data.slots().to_string();
        let mut command;
        if self.is_ours() {
            command = Command::new(program()?);
            // Both take the first slot of the first shard, where there is only one to move.
            let slots = if data.slots() == 1 { "0-0" } else { &count };
            command.args(["reshard", &at, "--from", &from, "--to", &target]);
            command.args(["--slots", slots, "--yes"]);
            if let Self::KeyWise { max_pause_ms } = self {
                command.args(["--max-pause", &format!("{max_pause_ms}ms")]);
            }
        } else {
            command = Command::new(cli(&cluster[0])?);
            command.args(["--cluster", "reshard", &at, "--cluster-yes"]);
            command.args(["--cluster-from", &from, "--cluster-to", &target]);
            command.args(["--cluster-slots", &count]);
            if self == Self::CliPipelined {
                command.args(["--cluster-pipeline", "200"]);
            }
        }
        Ok(command)
    }
}

/// Whether it moves slots by itself.
pub(crate) fn is_native(engine: &Engine) -> bool {
    engine.kind == Kind::Valkey && engine.version.major >= 9
}

/// The node that is to get the slots.
pub(crate) fn newest(cluster: &Cluster) -> &Server {
    &cluster[cluster.servers.len() - 1]
}

fn cli(server: &Server) -> Result<PathBuf, Failure> {
    client_of(server.engine())
}

/// One order to each source, all at once; done when the last of them says so.
async fn by_hand(cluster: &Cluster, data: &Data) -> Result<(), Failure> {
    let target = newest(cluster).id().await?;
    let sources = if data.slots() == 1 {
        1
    } else {
        cluster.servers.len() - 1
    };
    let share = data.slots() / u16::try_from(sources)?;
    let mut rest = data.slots() - share * u16::try_from(sources)?;
    for source in 0..sources {
        let first = cluster.slots(source).0;
        let more = u16::from(rest > 0);
        rest -= more;
        let last = first + share + more - 1;
        let (first, last) = (first.to_string(), last.to_string());
        let words = ["CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", &first, &last];
        cluster[source]
            .ask::<()>(&[&words[..], &["NODE", &target]].concat())
            .await?;
    }
    let mut links = Vec::new();
    for source in &cluster.servers[..sources] {
        links.push((source.address(), source.connection().await?));
    }
    let (failed, _) = until("the engine has moved all slots", LIMIT, || async {
        for (address, link) in &links {
            let words = ["CLUSTER", "GETSLOTMIGRATIONS"];
            let jobs: redis::Value = ask_on(&mut link.clone(), address, &words)
                .await
                .map_err(|e| e.to_string())?;
            // Its states are words of the reply.
            let said = format!("{jobs:?}");
            if said.contains("failed") || said.contains("cancelled") {
                return Ok(Some(said));
            }
            if !said.contains("success") {
                return Err(said);
            }
        }
        Ok(None)
    })
    .await?;
    match failed {
        None => Ok(()),
        Some(said) => Err(format!("the engine did not move its slots: {said}").into()),
    }
}
