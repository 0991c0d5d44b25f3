//! `scale`: more or fewer shards or replicas.

use shardwright_runtime_kubernetes::ObjectKey;
use shardwright_runtime_local::{State, StateError};

use super::reshape::{self, Reshape};
use super::up;
use crate::cli::{Scale, Up};
use crate::exit::{ExitStatus, UsageError};
use crate::printer::Printer;
use crate::target::{Target, local_dir};

pub(super) async fn run(args: Scale, out: &mut Printer) -> anyhow::Result<ExitStatus> {
    let reshape = Reshape {
        shards: args.shards,
        replicas: args.replicas,
    };
    let name = match args.target.target.parse()? {
        Target::Local(name) => name,
        Target::Kubernetes(key) => return Err(on_kubernetes(&key, reshape).into()),
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
        timeout: args.run.timeout,
        accept_data_loss: false,
        dry_run: false,
        pace: args.run.pace,
    };
    up::bring(up, Some(done), out).await
}

fn on_kubernetes(key: &ObjectKey, reshape: Reshape) -> UsageError {
    let ObjectKey { namespace, name } = key;
    let fields = [
        ("shards", reshape.shards),
        ("replicasPerShard", reshape.replicas),
    ];
    let fields = fields.into_iter().filter_map(|(field, number)| {
        let number = number?;
        Some(format!("\"{field}\":{number}"))
    });
    let spec: Vec<String> = fields.collect();
    UsageError(format!(
        "k8s:{key} is kept by its operator as its object says; instead: \
         kubectl patch rediscluster {name} -n {namespace} --type merge -p '{{\"spec\":{{{}}}}}'",
        spec.join(",")
    ))
}

fn of_others(target: &str) -> UsageError {
    UsageError(format!(
        "nothing declares the shape of a cluster that others run, and its servers are not ours to start; \
         for one more shard: shardwright add-node {target} HOST:PORT --primary, then: \
         shardwright rebalance {target} --use-empty-primaries; for one less: shardwright remove-node {target} NODE"
    ))
}
