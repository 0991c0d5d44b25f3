//! Slots move while writers write, something is killed, and every acknowledged write is looked for.
//!
//! The mover is the real program. A run is drawn from its seed: who gives and who gets, which slots, the moment, and
//! how long a killed server stays away.

use std::fmt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use tokio::process::{Child, Command};

use crate::load::{Lost, Report};
use crate::wait::until;
use crate::{Cluster, Engine, Error, Load, LoadOptions, Persistence};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Far beyond what any step takes.
const LIMIT: Duration = Duration::from_secs(60);
/// Slots that move, and slots that other shards keep meanwhile.
const MOVED_SLOTS: usize = 12;
const KEPT_SLOTS: usize = 3;
/// Keys of a lane, written over and over, so that an older value that comes back is seen too.
const KEYS: u64 = 250;
/// Acknowledged writes before the first move: a good part of the keys is there then.
const SOME_WRITES: u64 = 2_500;
/// The moment of the kill, after the first mover was started: several moves of Valkey, most of one of others.
const MOMENT_MS: u64 = 2_500;
/// How long a killed server stays away, or a frozen one frozen: less than the node-timeout.
const AWAY_MS: u64 = 1_200;
/// Short, so that the runs that wait for a failover do not wait long.
const NODE_TIMEOUT_MS: &str = "2000";

/// What `fix` says of a key that it leaves to a person.
const UNDECIDED: &str = "nothing proves which values are newer";
/// How much of what a program said is told.
const SAID_LINES: usize = 40;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// The primary that gives slots; it starts again with its append-only file.
    Source,
    /// The primary that gets slots; it starts again with its append-only file.
    Target,
    /// A replica of either; it starts again.
    Replica,
    /// The program that moves slots.
    Mover,
    /// The program and the source at once: slots stay open, with keys at both ends.
    MoverAndSource,
    /// The program and the target at once.
    MoverAndTarget,
    /// Nobody: the target answers nothing for a while, as behind a cut cable.
    FrozenTarget,
    /// The source, which stays away until its replica has taken over.
    SourceFailedOver,
    /// The target, which stays away until its replica has taken over. What the source gave it and its replica had not
    /// yet is lost then: the engine moves a key without waiting for replicas.
    TargetFailedOver,
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Source,
        Self::Target,
        Self::Replica,
        Self::Mover,
        Self::MoverAndSource,
        Self::MoverAndTarget,
        Self::FrozenTarget,
        Self::SourceFailedOver,
        Self::TargetFailedOver,
    ];

    /// Whether no acknowledged write may be lost.
    #[must_use]
    pub fn keeps_all(self) -> bool {
        self != Self::TargetFailedOver
    }

    /// On which ground.
    #[must_use]
    pub fn guarantee(self) -> &'static str {
        match self {
            Self::Source | Self::Target | Self::MoverAndSource | Self::MoverAndTarget => {
                "starts again with its AOF"
            }
            Self::Replica | Self::Mover | Self::FrozenTarget => "no primary dies",
            Self::SourceFailedOver => "its replica takes over; writers WAIT 1",
            Self::TargetFailedOver => "none: MIGRATE waits for no replica; writers WAIT 1",
        }
    }

    fn fails_over(self) -> bool {
        matches!(self, Self::SourceFailedOver | Self::TargetFailedOver)
    }

    fn kills_the_mover(self) -> bool {
        matches!(
            self,
            Self::Mover | Self::MoverAndSource | Self::MoverAndTarget
        )
    }
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Source => "source",
            Self::Target => "target",
            Self::Replica => "replica",
            Self::Mover => "mover",
            Self::MoverAndSource => "mover and source",
            Self::MoverAndTarget => "mover and target",
            Self::FrozenTarget => "target frozen",
            Self::SourceFailedOver => "source, failed over",
            Self::TargetFailedOver => "target, failed over",
        })
    }
}

/// What came of one run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was killed.
    pub victim: Victim,
    /// What the run was drawn from.
    pub seed: u64,
    /// Acknowledged writes.
    pub acked: usize,
    /// Those of them that are gone or stand back.
    pub lost: Vec<Lost>,
    /// A key stands at both ends with two values, and nothing proves which is newer: `fix` left its slot to a person.
    /// Then a write counts as kept that stands at either. The cluster is of no use for further runs.
    pub undecided: bool,
    /// Moves that had ended before.
    pub moves: usize,
    /// Slots that were open once the mover had ended and all servers were back: `fix` closed them.
    pub open: usize,
    /// From the kill until all nodes agreed, no slot was open and all replicas had their copies.
    pub whole: Duration,
}

/// A cluster of three shards with a replica each, and the program that moves its slots.
#[derive(Debug)]
pub struct Kills {
    cluster: Cluster,
    program: PathBuf,
    home: tempfile::TempDir,
}

/// Who gives and who gets, by their places among the servers and their ids.
#[derive(Clone, Debug)]
struct Ends {
    source: usize,
    target: usize,
    ids: [String; 2],
}

impl Kills {
    /// Forms the cluster.
    ///
    /// # Errors
    /// When it can't be formed.
    pub async fn begin(
        engine: &Engine,
        program: PathBuf,
        persistence: Persistence,
    ) -> Result<Self, Failure> {
        let cluster = Cluster::formed(engine, 3, 1, |builder| {
            builder
                .persistence(persistence)
                .config("cluster-node-timeout", NODE_TIMEOUT_MS)
                // The engine's default: one whose slots went to two others follows one of them.
                .config("cluster-allow-replica-migration", "yes")
        });
        Ok(Self {
            cluster: cluster.await?,
            program,
            home: tempfile::Builder::new()
                .prefix("shardwright-kills-")
                .tempdir()?,
        })
    }

    /// One run. After an error the cluster may be in any state.
    ///
    /// # Errors
    /// When the cluster does not become whole by `fix`, or the writers can't go on.
    pub async fn run(&mut self, victim: Victim, seed: u64) -> Result<Run, Failure> {
        let mut dice = Dice::new(seed);
        let ends = self.draw_ends(&mut dice).await?;
        let moving = self.draw_slots(&mut dice, ends.source, MOVED_SLOTS).await?;
        let mut slots = moving.clone();
        for server in self.primaries().await? {
            if server != ends.source {
                slots.extend(self.draw_slots(&mut dice, server, KEPT_SLOTS).await?);
            }
        }
        let load = Load::start(
            &self.cluster.addresses(),
            LoadOptions {
                slots,
                padding_bytes: 300,
                prefix: format!("s{seed}"),
                keys_per_lane: Some(KEYS),
                replicas: u32::from(victim.fails_over()),
                timeout: Duration::from_millis(500),
                ..LoadOptions::default()
            },
        );
        load.until_more(SOME_WRITES, LIMIT).await?;
        let moment = Instant::now() + Duration::from_millis(50 + dice.below(MOMENT_MS));
        let (mut mover, ends, rounds) = self.move_until(&ends, &moving, moment).await?;
        let killed = Instant::now();
        if victim.kills_the_mover() {
            mover.start_kill()?;
        }
        self.strike(victim, &ends, &mut dice).await?;
        if tokio::time::timeout(LIMIT, mover.wait()).await.is_err() {
            return Err(format!("the mover does not end:\n{}", self.said("mover")).into());
        }
        let open = self.open_slots().await?;
        let undecided = self.fix().await?;
        if !undecided {
            self.cluster.until_agreed().await?;
        }
        let whole = killed.elapsed();
        load.until_more(200, LIMIT).await?;
        let report = load.stop().await;
        let still = self.open_slots().await?;
        if still > 0 && !undecided {
            return Err(format!("{still} slots are open after fix:\n{}", self.said("fix")).into());
        }
        let mut lost = report.lost(&self.cluster.addresses()).await?;
        if undecided {
            lost = self.nowhere(&report, lost).await?;
        }
        for server in self.primaries().await? {
            self.cluster[server].ask::<()>(&["FLUSHALL"]).await?;
        }
        Ok(Run {
            victim,
            seed,
            acked: report.acked(),
            lost,
            undecided,
            moves: rounds,
            open,
            whole,
        })
    }

    /// Has the program mend what is left. True where it leaves something to a person.
    async fn fix(&self) -> Result<bool, Failure> {
        let fixed = self.shardwright(&["fix", &self.cluster[0].address()], "fix")?;
        let fixed = ended(fixed).await?;
        let undecided = self.said("fix").contains(UNDECIDED);
        if fixed.success() || undecided {
            return Ok(undecided);
        }
        let said = (self.said("mover"), self.said("fix"));
        Err(format!("mover:\n{}\nfix ended with {fixed}:\n{}", said.0, said.1).into())
    }

    /// Those of these keys that stand at no server as they must, open slots included.
    async fn nowhere(&self, report: &Report, lost: Vec<Lost>) -> Result<Vec<Lost>, Failure> {
        let mut nowhere = Vec::new();
        for lost in lost {
            let mut kept = false;
            for at in self.primaries().await? {
                let mut connection = self.cluster[at].connection().await?;
                let mut ask = redis::pipe();
                ask.cmd("ASKING").ignore().cmd("GET").arg(&lost.key);
                // One that has nothing to do with the slot sends us away.
                let found: Result<(Option<String>,), _> = ask.query_async(&mut connection).await;
                kept |= found.is_ok_and(|(found,)| report.may_stand(&lost, found.as_deref()));
            }
            if !kept {
                nowhere.push(lost);
            }
        }
        Ok(nowhere)
    }

    /// Moves the slots there and back until the moment has come; returns the mover that runs then.
    async fn move_until(
        &self,
        first: &Ends,
        slots: &[u16],
        moment: Instant,
    ) -> Result<(Child, Ends, usize), Failure> {
        let mut ends = first.clone();
        let mut rounds = 0;
        let slots: Vec<String> = slots.iter().map(|s| format!("{s}-{s}")).collect();
        let slots = slots.join(",");
        loop {
            let at = self.cluster[0].address();
            let [from, to] = &ends.ids;
            let words = [
                "reshard",
                &at,
                "--yes",
                "--from",
                from,
                "--to",
                to,
                "--slots",
                &slots,
                "--max-pause",
                "2ms",
                "--bandwidth",
                "500KB",
                "--timeout",
                "10",
            ];
            let mut mover = self.shardwright(&words, "mover")?;
            let left = moment.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, mover.wait()).await {
                Err(_) => return Ok((mover, ends, rounds)),
                Ok(status) => {
                    let status = status?;
                    if !status.success() {
                        return Err(format!("the move failed:\n{}", self.said("mover")).into());
                    }
                    rounds += 1;
                }
            }
            std::mem::swap(&mut ends.source, &mut ends.target);
            ends.ids.swap(0, 1);
        }
    }

    /// Kills who is to be killed, and brings servers back.
    async fn strike(
        &mut self,
        victim: Victim,
        ends: &Ends,
        dice: &mut Dice,
    ) -> Result<(), Failure> {
        let away = Duration::from_millis(dice.below(AWAY_MS));
        let server = match victim {
            Victim::Mover => return Ok(()),
            Victim::Source | Victim::MoverAndSource | Victim::SourceFailedOver => ends.source,
            Victim::Target
            | Victim::MoverAndTarget
            | Victim::FrozenTarget
            | Victim::TargetFailedOver => ends.target,
            Victim::Replica => {
                let primary = &ends.ids[usize::from(dice.below(2) == 1)];
                self.replica_of(primary).await?
            }
        };
        if victim == Victim::FrozenTarget {
            self.cluster[server].freeze()?;
            tokio::time::sleep(away).await;
            return Ok(self.cluster[server].thaw()?);
        }
        self.cluster[server].kill9()?;
        if victim.fails_over() {
            let id = &ends.ids[usize::from(server == ends.target)];
            self.until_failed_over(id).await?;
        } else {
            tokio::time::sleep(away).await;
        }
        Ok(self.cluster[server].restart()?)
    }

    /// Waits until a living server says that this node owns nothing any more. One that takes slots in from it may
    /// say otherwise until they are closed.
    async fn until_failed_over(&self, id: &str) -> Result<(), Error> {
        until("the replica takes over", LIMIT, || async {
            for server in self.cluster.servers.iter().filter(|s| s.pid().is_some()) {
                let view: Result<String, Error> = server.ask(&["CLUSTER", "NODES"]).await;
                let view = view.map_err(|error| error.to_string())?;
                let owns = |row: &str| row.starts_with(id) && row.split(' ').count() > 8;
                if !view.lines().any(owns) {
                    return Ok(());
                }
            }
            Err("it owns slots everywhere".to_owned())
        })
        .await
        .map(|_| ())
    }

    /// The places of the primaries among the servers.
    async fn primaries(&self) -> Result<Vec<usize>, Error> {
        let mut primaries = Vec::new();
        for (at, server) in self.cluster.servers.iter().enumerate() {
            if !own_row(server).await?.contains("slave") {
                primaries.push(at);
            }
        }
        Ok(primaries)
    }

    async fn replica_of(&self, primary: &str) -> Result<usize, Failure> {
        for (at, server) in self.cluster.servers.iter().enumerate() {
            if own_row(server).await?.split(' ').nth(3) == Some(primary) {
                return Ok(at);
            }
        }
        Err(format!("{primary} has no replica").into())
    }

    async fn draw_ends(&self, dice: &mut Dice) -> Result<Ends, Failure> {
        let mut primaries = self.primaries().await?;
        if primaries.len() != 3 {
            return Err(format!("there are {} primaries", primaries.len()).into());
        }
        let source = dice.take(&mut primaries);
        let target = dice.take(&mut primaries);
        let ids = [
            self.cluster[source].id().await?,
            self.cluster[target].id().await?,
        ];
        Ok(Ends {
            source,
            target,
            ids,
        })
    }

    /// So many slots of this server.
    async fn draw_slots(
        &self,
        dice: &mut Dice,
        server: usize,
        count: usize,
    ) -> Result<Vec<u16>, Failure> {
        let row = own_row(&self.cluster[server]).await?;
        let mut owned = Vec::new();
        for range in row.split(' ').skip(8) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            owned.extend(first.parse::<u16>()?..=last.parse::<u16>()?);
        }
        if owned.len() < count {
            return Err(format!("server {server} has {} slots", owned.len()).into());
        }
        let mut drawn: Vec<u16> = (0..count).map(|_| dice.take(&mut owned)).collect();
        drawn.sort_unstable();
        Ok(drawn)
    }

    /// How many slots any server has open.
    async fn open_slots(&self) -> Result<usize, Error> {
        let mut open = std::collections::BTreeSet::new();
        for server in &self.cluster.servers {
            let row = own_row(server).await?;
            let slots = row.split(' ').filter_map(|word| {
                let (slot, _) = word.strip_prefix('[')?.split_once('-')?;
                Some(slot.to_owned())
            });
            open.extend(slots);
        }
        Ok(open.len())
    }

    /// Starts the program. What it says is kept.
    fn shardwright(&self, words: &[&str], name: &str) -> Result<Child, Failure> {
        let said = std::fs::File::create(self.home.path().join(name))?;
        let mut command = Command::new(&self.program);
        command
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
            .env("SHARDWRIGHT_LOG", "shardwright=info")
            .env("NO_COLOR", "1");
        for name in ["SHARDWRIGHT_PASSWORD", "REDISCLI_AUTH"] {
            command.env_remove(name);
        }
        Ok(command.stderr(said).kill_on_drop(true).spawn()?)
    }

    fn said(&self, name: &str) -> String {
        let read = std::fs::read_to_string(self.home.path().join(name));
        let said = read.unwrap_or_else(|error| format!("(nothing: {error})"));
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(SAID_LINES)..].join("\n")
    }
}

async fn ended(mut child: Child) -> Result<ExitStatus, Failure> {
    Ok(tokio::time::timeout(LIMIT * 2, child.wait()).await??)
}

/// A server's row about itself.
async fn own_row(server: &crate::Server) -> Result<String, Error> {
    let view: String = server.ask(&["CLUSTER", "NODES"]).await?;
    let row = view.lines().find(|row| row.contains("myself"));
    row.map(str::to_owned).ok_or(Error::State {
        port: server.port(),
        state: "does not list itself",
    })
}

/// What is drawn from a seed.
struct Dice(ChaCha8Rng);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    /// A number below `bound`.
    fn below(&mut self, bound: u64) -> u64 {
        self.0.next_u64() % bound.max(1)
    }

    /// Takes one of these out.
    fn take<T>(&mut self, of: &mut Vec<T>) -> T {
        let at = self.below(of.len() as u64);
        of.swap_remove(usize::try_from(at).unwrap_or(0))
    }
}
