//! The grammar of the verbs that move slots.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use shardwright_planner::Budget;

use super::TargetArgs;

/// What moving slots may cost.
#[derive(Clone, Copy, Debug, Args)]
#[command(next_help_heading = "Moving slots")]
pub(crate) struct Pace {
    /// How long one burst of keys may keep a server from its clients, such as 5ms or 1s. Valkey 9 moves slots by itself:
    /// while clients are there, 1000 keys at once for each millisecond of this
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = time)]
    pub(crate) max_pause: Duration,
    /// How much data a server gives away in a second at most, such as 50MB. Not where the engine moves slots by itself
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) bandwidth: Option<u64>,
    /// Move slots even to servers whose memory limit they may exceed
    #[arg(long)]
    pub(crate) force: bool,
}

impl Pace {
    /// Whether it is what holds without a word on the command line.
    pub(crate) fn is_default(&self) -> bool {
        self.max_pause == Budget::default().pause_max && self.bandwidth.is_none() && !self.force
    }

    /// The same, in the planner's words.
    pub(crate) fn budget(&self) -> Budget {
        Budget {
            pause_max: self.max_pause,
            bandwidth_bytes_max: self.bandwidth,
        }
    }
}

/// How slots are moved.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct MoveRun {
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// How long it may take, in seconds
    #[arg(long, value_name = "S", default_value_t = 3_600)]
    pub(crate) timeout: u64,
    #[command(flatten)]
    pub(crate) pace: Pace,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright scale --shards 5                          five shards: servers are added, slots move to them\n  \
    shardwright scale local:cache --shards 3              back to three: slots move away, then servers go\n  \
    shardwright scale --shards 4 --replicas 2 --dry-run   what that would take\n  \
    shardwright scale k8s:cache/redis --shards 5          the object is changed, and its operator watched\n\n\
    It writes the stored manifest, as `up --shards` does. Broken off, it goes on when it is run again; or ask for \
    another number meanwhile. On Kubernetes the operator goes on whether it is watched or not.\n\
    A cluster that others run grows by add-node and rebalance, and shrinks by remove-node.")]
#[group(id = "shape", required = true, multiple = true, args = ["shards", "replicas"])]
pub(crate) struct Scale {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// How many shards: 3 or more
    #[arg(long, value_name = "N")]
    pub(crate) shards: Option<u32>,
    /// How many replicas for each shard
    #[arg(long, value_name = "N")]
    pub(crate) replicas: Option<u32>,
    /// On Kubernetes: return once the object is changed
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) run: MoveRun,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright pause                      the local cluster; `scale` and `up --watch` heed it\n  \
    shardwright resume local:cache\n  \
    shardwright pause k8s:cache/redis      the annotation shardwright.dev/moves is set\n\n\
    It counts for all moves of slots, whoever asks for them, until `resume`. What heals goes on.\n\
    Where others run a cluster, nothing but the running verb moves its slots: Ctrl-C ends it after the burst of keys \
    that is under way, and the same line again goes on.")]
pub(crate) struct Pause {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright cancel                     a local change of shape that is under way, or was broken off\n  \
    shardwright cancel k8s:cache/redis     the object is changed back, and its operator watched\n\n\
    What it goes back to is the shape that the cluster had when all was last as declared. A pause ends with it.\n\
    Where others run a cluster, no change of shape is declared: Ctrl-C ends what moves.")]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// On Kubernetes: return once the object is changed
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) run: MoveRun,
}

/// What is divided among shards.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum By {
    /// The number of slots
    Slots,
    /// The keys in them
    Keys,
    /// The memory that the keys take. Of servers that do not tell it by slot it is estimated by their keys
    Memory,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright rebalance 10.0.0.1:6379                            as many slots for each shard\n  \
    shardwright rebalance 10.0.0.1:6379 --use-empty-primaries      for those without slots too\n  \
    shardwright rebalance 10.0.0.1:6379 --weights 3f2a=2,9c41=0    twice as many for one, none for another\n  \
    shardwright rebalance 10.0.0.1:6379 --by keys                  as many keys for each shard, by the fewest slots\n\n\
    NODE is a node id or its beginning, or HOST:PORT. A weight that is not given is 1.")]
pub(crate) struct Rebalance {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// What each shard has its part of
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = By::Slots)]
    pub(crate) by: By,
    /// How much a shard gets, compared with the others
    #[arg(
        long,
        visible_alias = "cluster-weight",
        value_name = "NODE=W",
        value_delimiter = ','
    )]
    pub(crate) weights: Vec<String>,
    /// Do nothing while no shard is further from its part than so many percent
    #[arg(
        long,
        visible_alias = "cluster-threshold",
        value_name = "PERCENT",
        default_value_t = 2,
        value_parser = clap::value_parser!(u32).range(0..=100)
    )]
    pub(crate) threshold: u32,
    /// Give slots to primaries that have none, too
    #[arg(long, visible_alias = "cluster-use-empty-masters")]
    pub(crate) use_empty_primaries: bool,
    #[command(flatten)]
    pub(crate) run: MoveRun,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright reshard 10.0.0.1:6379 --from 3f2a --to 9c41 --slots 1000       any 1000 slots of one\n  \
    shardwright reshard 10.0.0.1:6379 --from all --to 9c41 --slots 4096        from all others, of each its part\n  \
    shardwright reshard 10.0.0.1:6379 --from all --to 9c41 --slots 0-99,5461-5461  just these\n\n\
    NODE is a node id or its beginning, or HOST:PORT.")]
pub(crate) struct Reshard {
    /// HOST:PORT of any member
    #[arg(default_value = "local")]
    pub(crate) target: String,
    /// The directory of the local cluster
    #[arg(long, value_name = "DIR", hide = true)]
    pub(crate) dir: Option<PathBuf>,
    /// Who gives: primaries, or all
    #[arg(
        long,
        visible_alias = "cluster-from",
        value_name = "NODE",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) from: Vec<String>,
    /// Who gets: a primary
    #[arg(long, visible_alias = "cluster-to", value_name = "NODE")]
    pub(crate) to: String,
    /// How many slots, or which: FIRST-LAST,...
    #[arg(long, visible_alias = "cluster-slots", value_name = "COUNT|RANGES")]
    pub(crate) slots: String,
    /// Do not ask
    #[arg(short, long, visible_alias = "cluster-yes")]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) run: MoveRun,
}

/// A number, and the unit after it.
fn split(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit());
    text.split_at(end.unwrap_or(text.len()))
}

pub(super) fn time(text: &str) -> Result<Duration, String> {
    let wrong = || "write a time such as 5ms or 1s: 1ms to 10s".to_owned();
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let ms = match unit {
        "ms" => number,
        "s" => number.saturating_mul(1_000),
        _ => return Err(wrong()),
    };
    if (1..=10_000).contains(&ms) {
        Ok(Duration::from_millis(ms))
    } else {
        Err(wrong())
    }
}

/// The least that may be allowed in a second: less moves a slot of a megabyte in hours, which nobody means.
const SIZE_MIN: u64 = 1_000;

pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong =
        || "write a size with its unit, such as 500KB, 50MB or 1GB: 1KB at least".to_owned();
    let (number, unit) = split(text);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit {
        "B" => 1,
        "K" | "KB" => 1_000,
        "M" | "MB" => 1_000_000,
        "G" | "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    let bytes = number
        .checked_mul(factor)
        .filter(|bytes| *bytes >= SIZE_MIN);
    bytes.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_carry_their_units() {
        let ms = Duration::from_millis;
        assert_eq!(time("5ms"), Ok(ms(5)));
        assert_eq!(time("1s"), Ok(ms(1_000)));
        assert_eq!(size("50MB"), Ok(50_000_000));
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("1000B"), Ok(1_000));
        for wrong in [
            "",
            "5",
            "ms",
            "0ms",
            "1m",
            "-1ms",
            "11s",
            "99999999999999999999s",
        ] {
            assert!(time(wrong).is_err(), "{wrong}");
        }
        for wrong in [
            "",
            "MB",
            "0MB",
            "5",
            "5000000",
            "999B",
            "5mb",
            "1.5MB",
            "99999999999999999999",
            "9999999999999GB",
        ] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
