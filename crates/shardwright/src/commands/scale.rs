//! `scale`: more or fewer shards or replicas.

use shardwright_runtime_local::{State, StateError};

use super::reshape::{self, Reshape};
use super::up;
use crate::cli::{LogFormat, Login, Pace, Scale, Up};
use crate::exit::{ExitStatus, UsageError};
use crate::kubernetes::{self, Wait};
use crate::printer::Printer;
use crate::target::{Target, local_dir};

pub(super) async fn run(
    args: Scale,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    Box::pin(change_shape(args, "scale", login, out)).await
}

/// The same, for the verb that was typed.
pub(super) async fn change_shape(
    args: Scale,
    typed: &str,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let reshape = Reshape {
        shards: args.shards,
        replicas: args.replicas,
    };
    let name = match args.target.target.parse()? {
        Target::Local(name) => name,
        Target::Kubernetes(key) => {
            must_be_default(&args.run.pace)?;
            if args.run.dry_run {
                return kubernetes::preview(&key, login, reshape, out).await;
            }
            let wait = Wait::of(args.no_wait, args.run.timeout);
            return kubernetes::scale(&key, login, reshape, wait, out).await;
        }
        Target::Member(_) => return Err(of_others(&args.target.target).into()),
    };
    let dir = local_dir(name.as_deref(), args.target.dir)?;
    let Some(state) = State::read(&dir)? else {
        return Err(StateError::NoCluster { dir }.into());
    };
    let cluster = reshape.of_stored(&dir)?;
    if args.run.dry_run {
        return reshape::preview(&dir, &cluster, Some(&args.run.pace), out).await;
    }
    let done = format!(
        "[OK] {} has {} shards with {} replica(s) each, and all have as many slots",
        state.name,
        cluster.shards(),
        cluster.replicas_per_shard()
    );
    let up = Up {
        file: None,
        name: Some(state.name),
        shards: args.shards,
        replicas: args.replicas,
        engine: None,
        dir: Some(dir),
        port: None,
        secrets: None,
        watch: false,
        log_format: LogFormat::Text,
        timeout: args.run.timeout,
        accept_data_loss: false,
        dry_run: false,
        pace: args.run.pace,
    };
    Box::pin(up::bring(up, (typed, Some(done)), out)).await
}

/// The operator moves slots at its own pace.
pub(super) fn must_be_default(pace: &Pace) -> Result<(), UsageError> {
    if pace.is_default() {
        return Ok(());
    }
    let text = "--max-pause, --bandwidth and --force are not for clusters on Kubernetes: the operator moves slots at its own pace";
    Err(UsageError(text.to_owned()))
}

fn of_others(target: &str) -> UsageError {
    UsageError(format!(
        "nothing declares the shape of a cluster that others run, and its servers are not ours to start; \
         for one more shard: shardwright add-node {target} HOST:PORT --primary, then: \
         shardwright rebalance {target} --use-empty-primaries; for one less: shardwright remove-node {target} NODE"
    ))
}
