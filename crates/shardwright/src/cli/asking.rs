//! The grammar of the verbs that ask every node, and of the one that brings keys in.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use shardwright_engine::Endpoint;
use shardwright_planner::Budget;

use super::moving::{size, time};

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright call 10.0.0.1:6379 dbsize\n  \
    shardwright call --primaries local config get maxmemory\n  \
    shardwright call -o json 10.0.0.1:6379 client no-evict on\n\n\
    Our own flags come before TARGET: what follows it is the command. It is sent once to each node, within \
    --command-timeout. Commands that wait or stream are refused. Exit status 1 if any node did not answer or refused.")]
pub(crate) struct Call {
    /// Only the primaries
    #[arg(
        long,
        visible_alias = "cluster-only-masters",
        conflicts_with = "replicas"
    )]
    pub(crate) primaries: bool,
    /// Only the replicas
    #[arg(long, visible_alias = "cluster-only-replicas")]
    pub(crate) replicas: bool,
    /// The directory of the local cluster
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// HOST:PORT of any member, or local:NAME
    pub(crate) target: String,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) command: Vec<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright set-timeout 10.0.0.1:6379 5000           a node is failed after five seconds of silence\n  \
    shardwright set-timeout 10.0.0.1:6379 5000 --force   also while some nodes do not answer\n\n\
    It is set at every node, and written into its configuration file where it has one.")]
pub(crate) struct SetTimeout {
    /// HOST:PORT of any member
    pub(crate) target: String,
    /// cluster-node-timeout, in milliseconds
    #[arg(value_name = "MS", value_parser = clap::value_parser!(u64).range(100..=3_600_000))]
    pub(crate) ms: u64,
    /// Go on although some nodes do not answer: they keep the time they have
    #[arg(long)]
    pub(crate) force: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright import 10.0.0.1:6379 --from 10.0.0.9:6379 --dry-run\n  \
    shardwright import 10.0.0.1:6379 --from 10.0.0.9:6379             the keys move\n  \
    shardwright import 10.0.0.1:6379 --from 10.0.0.9:6379 --copy      the source keeps its own\n\n\
    The source sends its keys to the shards by itself, so it must reach them. A key that the cluster has with another \
    value is told, and left alone at both ends, unless --replace is given. Broken off, it goes on when it is run again. \
    --user and --password-file are for the cluster.")]
pub(crate) struct Import {
    /// HOST:PORT of any member, or local:NAME
    pub(crate) target: String,
    /// HOST:PORT of the server whose keys are brought in: in no cluster, with keys in database 0 only
    #[arg(long, visible_alias = "cluster-from", value_name = "HOST:PORT")]
    pub(crate) from: Endpoint,
    /// Let the source keep its keys
    #[arg(long, visible_alias = "cluster-copy")]
    pub(crate) copy: bool,
    /// Overwrite what the cluster has
    #[arg(long, visible_alias = "cluster-replace")]
    pub(crate) replace: bool,
    /// The ACL user to log in as at the source
    #[arg(
        long,
        visible_alias = "cluster-from-user",
        value_name = "NAME",
        requires = "from_password_file"
    )]
    pub(crate) from_user: Option<String>,
    /// Read the source's password from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) from_password_file: Option<PathBuf>,
    /// How long one burst of keys may keep the source from its clients, such as 5ms or 1s
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = time)]
    pub(crate) max_pause: Duration,
    /// How much data the source gives away in a second at most, such as 50MB
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) bandwidth: Option<u64>,
    /// The directory of the local cluster
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

impl Import {
    /// What it may cost the source, in the planner's words.
    pub(crate) fn budget(&self) -> Budget {
        Budget {
            pause_max: self.max_pause,
            bandwidth_bytes_max: self.bandwidth,
        }
    }
}
