//! The grammar of the verb that shows a cluster, once or again and again.

use clap::Args;

use super::TargetArgs;
use crate::verb_result::Asked;

#[derive(Clone, Debug, Args)]
#[command(after_help = "Examples:\n  \
    shardwright status                      the only cluster of this machine\n  \
    shardwright status 10.0.0.1:6379        any cluster, by the address of a member\n  \
    shardwright status local --watch        again every two seconds, until Ctrl-C\n  \
    shardwright status local --wide         every slot range, in rows as long as they are\n  \
    shardwright status k8s:cache/redis -o json\n\n\
    Exit status 1 where it is not healthy; `shardwright check` says why. With --watch 130 after Ctrl-C; with -o json it \
    writes a line for each look then.")]
pub(crate) struct Status {
    #[command(flatten)]
    pub(crate) target: TargetArgs,
    /// Show every slot range and every column, however wide that is
    #[arg(long)]
    pub(crate) wide: bool,
    /// Show it again and again, so many seconds apart
    #[arg(
        long,
        value_name = "SECONDS",
        num_args = 0..=1,
        default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..=3_600)
    )]
    pub(crate) watch: Option<u64>,
}

impl Status {
    /// What is asked for, in a few words.
    pub(crate) fn asked(&self) -> Asked {
        Asked {
            verb: Some("status".to_owned()),
            cluster: Some(self.target.target.clone()),
            dry_run: false,
        }
    }
}
