//! The shape of a cluster on Kubernetes: declared on its object, and its operator watched while it comes to that.

use std::time::Duration;

use anyhow::Context;
use kube::Client;
use shardwright_manifest::{
    Accepted, Condition, ConditionStatus, MovesStatus, RedisClusterStatus, ShapeStatus,
};
use shardwright_planner::Desired;
use shardwright_runtime::{MoveProgress, Total};
use shardwright_runtime_kubernetes::outside::{self, AskError, Follow};
use shardwright_runtime_kubernetes::{ClusterObject, ObjectKey};
use tokio::time::timeout;

use super::ask::must_be_kept;
use super::{client, look_at_as, must_be, status};
use crate::cli::Login;
use crate::commands::reshape::{Reshape, print_growth};
use crate::exit::{ExitStatus, NotDone, UsageError, WhyNotDone};
use crate::printer::Printer;
use crate::progress::Progress;
use crate::report::print_plan;
use crate::stop::{Interrupted, stop};

/// How often a change is tried anew that met another's.
const TRIES: u32 = 8;

/// Whether it is waited for that the cluster comes to what is declared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wait {
    /// So long.
    For(Duration),
    /// Not at all.
    No,
}

impl Wait {
    /// As the command line says.
    pub(crate) fn of(no_wait: bool, timeout_s: u64) -> Self {
        if no_wait {
            Self::No
        } else {
            Self::For(Duration::from_secs(timeout_s))
        }
    }
}

/// Pauses the moves of slots, or lets them go on. Says whether that is new.
pub(crate) async fn pause(key: &ObjectKey, login: &Login, pause: bool) -> anyhow::Result<bool> {
    let client = client(&login.kube).await?;
    must_be(&client, key).await?;
    Ok(outside::pause(&client, key, pause).await?)
}

/// Prints what another shape would take.
pub(crate) async fn preview(
    key: &ObjectKey,
    login: &Login,
    wanted: Reshape,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let client = client(&login.kube).await?;
    let object = must_be(&client, key).await?;
    let declared = accepted(&object, Reshape::default())?.cluster;
    let cluster = accepted(&object, wanted)?.cluster;
    // The pods that are there and declared now: those that the other shape needs beyond them are yet to be made.
    let (mut keeper, observed) = look_at_as(&client, &object, declared, login, out).await?;
    let there = u32::try_from(observed.servers().len()).unwrap_or(u32::MAX);
    let budget = keeper.links().budget();
    if there < cluster.nodes() {
        let names = there..cluster.nodes();
        let added: Vec<_> = names.map(|n| (format!("{}-{n}", key.name), None)).collect();
        print_growth(&cluster, &observed, &added, &budget, out)?;
    } else {
        keeper.set_desired(Desired {
            moves_paused: object.moves_paused(),
            ..cluster.desired()
        });
        let report = keeper.look().await?;
        let consent = keeper.desired().consent;
        print_plan(&report.plan, &report.observed, &budget, consent, out)?;
    }
    Ok(ExitStatus::Success)
}

/// Declares another shape, and waits until the cluster has it.
pub(crate) async fn scale(
    key: &ObjectKey,
    login: &Login,
    wanted: Reshape,
    wait: Wait,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let client = client(&login.kube).await?;
    let object = declare(&client, key, wanted, false, out).await?;
    follow(&client, &object, wait, out).await
}

/// Declares the shape anew that the cluster had when all was last as declared; slots may move again.
pub(crate) async fn cancel(
    key: &ObjectKey,
    login: &Login,
    dry_run: bool,
    wait: Wait,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let client = client(&login.kube).await?;
    let object = must_be(&client, key).await?;
    let Some(former) = status(&object).settled_shape else {
        return Err(UsageError(format!(
            "the operator has not told which shape {key} had before; name it: shardwright scale k8s:{key} --shards N"
        ))
        .into());
    };
    if shape_of(&object)? == former {
        out.done("[OK] no change of shape is under way: there is nothing to cancel");
        return Ok(ExitStatus::Success);
    }
    let back = Reshape {
        shards: Some(former.shards),
        replicas: Some(former.replicas_per_shard),
    };
    if dry_run {
        return preview(key, login, back, out).await;
    }
    let object = declare(&client, key, back, true, out).await?;
    follow(&client, &object, wait, out).await
}

fn accepted(object: &ClusterObject, wanted: Reshape) -> anyhow::Result<Accepted> {
    let accepted = object.reshaped(wanted.shards, wanted.replicas);
    accepted.with_context(|| format!("the RedisCluster {} can't be so", object.key))
}

fn shape_of(object: &ClusterObject) -> anyhow::Result<ShapeStatus> {
    let cluster = accepted(object, Reshape::default())?.cluster;
    Ok(ShapeStatus {
        shards: cluster.shards(),
        replicas_per_shard: cluster.replicas_per_shard(),
    })
}

/// Writes the shape on the object, judged first as the operator would judge it.
async fn declare(
    client: &Client,
    key: &ObjectKey,
    wanted: Reshape,
    resume: bool,
    out: &mut Printer,
) -> anyhow::Result<ClusterObject> {
    for _ in 0..TRIES {
        let object = must_be(client, key).await?;
        must_be_kept(key, &object)?;
        let Accepted { cluster, warnings } = accepted(&object, wanted)?;
        let new = ShapeStatus {
            shards: cluster.shards(),
            replicas_per_shard: cluster.replicas_per_shard(),
        };
        if shape_of(&object)? == new && !(resume && object.moves_paused()) {
            out.say(&format!("{} is declared already", words(new)));
            return Ok(object);
        }
        out.record.begin();
        let changed =
            outside::reshape(client, &object, wanted.shards, wanted.replicas, resume).await?;
        out.record.changed(changed.is_some());
        if let Some(changed) = changed {
            for warning in warnings {
                out.warn(&warning.to_string());
            }
            out.say(&format!("{} declared", words(new)));
            return Ok(changed);
        }
    }
    Err(AskError::Busy(key.clone()).into())
}

fn words(shape: ShapeStatus) -> String {
    let ShapeStatus {
        shards,
        replicas_per_shard,
    } = shape;
    format!("{shards} shards with {replicas_per_shard} replica(s) each")
}

/// Waits until the operator says that the cluster is as this object declares.
async fn follow(
    client: &Client,
    object: &ClusterObject,
    wait: Wait,
    out: &mut Printer,
) -> anyhow::Result<ExitStatus> {
    let Wait::For(limit) = wait else {
        return Ok(ExitStatus::Success);
    };
    let key = &object.key;
    let wanted = shape_of(object)?;
    let asked_to_stop = stop().context("cannot listen to signals")?;
    let mut progress = Progress::new(Total::default());
    let mut latest = None;
    let mut follow = Follow::new(client, key);
    let followed = until_so(&mut follow, object, wanted, &mut progress, &mut latest);
    let ended = tokio::select! {
        () = asked_to_stop => {
            progress.done();
            let text = format!(
                "no longer watched; the operator goes on; to stop or undo it: shardwright pause k8s:{key}, shardwright cancel k8s:{key}"
            );
            return Err(Interrupted(text).into());
        }
        ended = timeout(limit, followed) => ended,
    };
    progress.done();
    match (ended, latest) {
        (Ok(Ok(true)), _) => {
            out.done(&format!("[OK] {key} has {}", words(wanted)));
            Ok(ExitStatus::Success)
        }
        (Ok(Ok(false)), _) => {
            let text = format!(
                "the RedisCluster {key} was deleted, or another shape was declared meanwhile"
            );
            Err(NotDone::new(WhyNotDone::Overruled, text).into())
        }
        (Ok(Err(error)), _) => Err(error),
        (Err(_), Some(latest)) => {
            let text = format!("not done in time (--timeout); the operator goes on: {latest}");
            Err(NotDone::new(WhyNotDone::TimedOut, text).into())
        }
        (Err(_), None) => {
            let text = format!(
                "no operator has taken up the change, and it stands; does one run, and keep the namespace {}? \
                 see: kubectl get pods -A -l app.kubernetes.io/name=shardwright",
                key.namespace
            );
            Err(NotDone::new(WhyNotDone::NoOperator, text).into())
        }
    }
}

/// True once it is so; false where that is no longer wanted.
async fn until_so(
    follow: &mut Follow,
    declared: &ClusterObject,
    wanted: ShapeStatus,
    progress: &mut Progress,
    latest: &mut Option<String>,
) -> anyhow::Result<bool> {
    loop {
        let Some(object) = follow.next().await? else {
            return Ok(false);
        };
        if object.generation > declared.generation && shape_of(&object)? != wanted {
            return Ok(false);
        }
        let status = status(&object);
        let fresh = status.observed_generation >= Some(declared.generation);
        if !fresh {
            continue;
        }
        if status.settled_shape == Some(wanted) && holds(&status, "Ready") {
            return Ok(true);
        }
        if let Some(moves) = &status.moves {
            progress.moves(&far(moves, object.moves_paused()));
        }
        if let Some(said) = condition(&status, "Progressing") {
            if status.moves.is_none() {
                progress.say(&said.message);
            }
            *latest = Some(said.message.clone());
        }
    }
}

/// The operator's word in ours.
fn far(moves: &MovesStatus, paused: bool) -> MoveProgress {
    MoveProgress {
        slots_moved: moves.slots_moved.into(),
        slots_left: moves.slots_left.into(),
        keys_moved: moves.keys_moved,
        keys_per_s: moves.keys_per_second,
        bytes_per_s: moves.bytes_per_second,
        eta_s: moves.eta_seconds,
        paused,
    }
}

fn condition<'a>(status: &'a RedisClusterStatus, kind: &str) -> Option<&'a Condition> {
    status.conditions.iter().find(|c| c.kind == kind)
}

fn holds(status: &RedisClusterStatus, kind: &str) -> bool {
    condition(status, kind).is_some_and(|c| c.status == ConditionStatus::True)
}
