//! `cancel`: a change of shape that is under way is taken back.

use shardwright_runtime_local::{ShapeNote, State, StateError, StateLock, resume_moves};

use super::scale;
use crate::cli::{Cancel, Login, Scale};
use crate::exit::{ExitStatus, UsageError};
use crate::handover::is_held;
use crate::kubernetes::{self, Wait};
use crate::printer::Printer;
use crate::target::{Target, local_dir};

pub(super) async fn run(
    args: Cancel,
    login: &Login,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let name = match args.target.target.parse()? {
        Target::Local(name) => name,
        Target::Kubernetes(key) => {
            scale::must_be_default(&args.run.pace)?;
            let wait = Wait::of(args.no_wait, args.run.timeout);
            return kubernetes::cancel(&key, login, args.run.dry_run, wait, out).await;
        }
        Target::Member(_) => {
            let text = "no shape of a cluster that others run is declared: Ctrl-C ends what moves, and rebalance or \
                        remove-node take it back";
            return Err(UsageError(text.to_owned()).into());
        }
    };
    let dir = local_dir(name.as_deref(), args.target.dir.clone())?;
    let Some(state) = State::read(&dir)? else {
        return Err(StateError::NoCluster { dir }.into());
    };
    let Some(former) = state.former else {
        out.done("[OK] no change of shape is under way: there is nothing to cancel");
        return Ok(ExitStatus::Success);
    };
    let ShapeNote {
        shards,
        replicas_per_shard,
    } = former;
    if !args.run.dry_run {
        // Whoever works on it takes requests, or ends first; its lock is taken again below.
        if !is_held(&dir).await? {
            drop(StateLock::take(&dir)?);
        }
        resume_moves(&dir)?;
    }
    out.say(&format!(
        "back to {shards} shards with {replicas_per_shard} replica(s) each"
    ));
    let back = Scale {
        target: args.target,
        shards: Some(shards),
        replicas: Some(replicas_per_shard),
        no_wait: false,
        run: args.run,
    };
    Box::pin(scale::change_shape(back, "cancel", login, out)).await
}
