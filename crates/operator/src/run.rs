//! The whole process: lead, keep every cluster, and end well.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use shardwright_runtime_kubernetes::{ObjectKey, Scope, World};
use tokio::sync::{Semaphore, watch};
use tokio::task::{Id, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::Instrument;

use crate::admin::{self, AdminError, Health};
use crate::error::chain;
use crate::events::Publisher;
use crate::lease::{Candidate, Leader, LeaseError};
use crate::metrics::Metrics;
use crate::tend::{Shared, tend};

/// How long passes under way may take to end. The kubelet waits 20 s, and the lease is to be given back in that time.
const STOP_LIMIT: Duration = Duration::from_secs(10);
/// How long to the next try to begin watches, while the API server does not answer.
const WATCH_AGAIN: Duration = Duration::from_secs(2);

/// How an operator is to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The namespaces whose clusters it keeps; all if there are none.
    pub namespaces: Vec<String>,
    /// How many passes are made at a time.
    pub concurrency: usize,
    /// Where the admin server listens.
    pub admin: SocketAddr,
    /// The namespace of the lease.
    pub lease_namespace: String,
    /// The name of the lease.
    pub lease: String,
    /// The name of this operator among all, such as its pod's.
    pub identity: String,
    /// The namespace of its pod, if it runs in one: from there alone the start gates of clusters are reached.
    pub own_namespace: Option<String>,
}

/// The operator can't begin, or must not go on.
#[derive(Debug, thiserror::Error)]
pub enum OperatorError {
    /// The admin server.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The lease was lost: everything was dropped at once.
    #[error("no longer the leader: everything was stopped at once")]
    Lost(#[from] LeaseError),
}

/// Runs against the API server of `client` until `stop` ends, or it must not go on.
///
/// # Errors
/// When it can't begin, and when the lease is lost.
pub async fn run(
    config: Config,
    client: Client,
    stop: impl Future<Output = ()>,
) -> Result<(), OperatorError> {
    let mut stop = pin!(stop);
    let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
    let bound = admin::serve(config.admin, Arc::clone(&health), Arc::clone(&metrics)).await?;
    tracing::info!(admin = %bound, identity = config.identity, "started");
    let (namespace, me) = (&config.lease_namespace, &config.identity);
    let candidate = Candidate::new(client.clone(), namespace, &config.lease, me);
    let mut leader = tokio::select! {
        () = &mut stop => return Ok(()),
        leader = candidate.acquire(|| health.is_ready()) => leader,
    };
    metrics.leads(true);
    let shared = Arc::new(Shared {
        permits: Semaphore::new(config.concurrency.max(1)),
        publisher: Publisher::start(client.clone(), me, Arc::clone(&metrics)),
        metrics: Arc::clone(&metrics),
        health,
        own_namespace: config.own_namespace.clone(),
    });
    let (halt, halted) = watch::channel(false);
    let mut work = JoinSet::new();
    for scope in scopes(&config.namespaces) {
        work.spawn(keep_all(
            Arc::clone(&shared),
            client.clone(),
            scope,
            halted.clone(),
        ));
    }
    let lost = tokio::select! {
        biased;
        error = leader.keep() => Some(error),
        () = &mut stop => None,
    };
    if let Some(error) = lost {
        // Dropped where it stands: another may act from now on.
        work.abort_all();
        metrics.leads(false);
        return Err(error.into());
    }
    tracing::info!("stopping: passes under way are ended");
    end_well(leader, work, &halt).await?;
    metrics.leads(false);
    Ok(())
}

fn scopes(namespaces: &[String]) -> Vec<Scope> {
    if namespaces.is_empty() {
        return vec![Scope::Everywhere];
    }
    let mut all: Vec<String> = namespaces.to_vec();
    all.sort();
    all.dedup();
    all.into_iter().map(Scope::Namespace).collect()
}

/// Lets passes under way end, and gives the lease back.
async fn end_well(
    mut leader: Leader,
    mut work: JoinSet<()>,
    halt: &watch::Sender<bool>,
) -> Result<(), OperatorError> {
    halt.send_replace(true);
    let all = async { while work.join_next().await.is_some() {} };
    tokio::select! {
        biased;
        error = leader.keep() => return Err(error.into()),
        ended = timeout(STOP_LIMIT, all) => {
            if ended.is_err() {
                tracing::warn!("a pass did not end in time; it is dropped");
            }
        }
    }
    work.abort_all();
    if let Err(error) = leader.release().await {
        let error = chain(&error);
        tracing::warn!(error, "the lease was not given back; it expires by itself");
    }
    Ok(())
}

/// Keeps all clusters of one scope: a task for each object.
async fn keep_all(
    shared: Arc<Shared>,
    client: Client,
    scope: Scope,
    mut halted: watch::Receiver<bool>,
) {
    let begun = async {
        let world = begin(&client, &scope).await;
        world.filled().await;
        world
    };
    let world = tokio::select! {
        _ = halted.wait_for(|halt| *halt) => return,
        world = begun => world,
    };
    let mut changed = world.clusters_changed();
    let mut tasks = JoinSet::new();
    let mut kept: BTreeMap<Id, ObjectKey> = BTreeMap::new();
    loop {
        changed.borrow_and_update();
        for key in world.clusters() {
            let leaving = world.object(&key).is_none_or(|o| o.leaving);
            if leaving || kept.values().any(|k| *k == key) {
                continue;
            }
            let work = tend(
                Arc::clone(&shared),
                world.clone(),
                key.clone(),
                halted.clone(),
            );
            // Every line about a cluster names it, at whatever level lines are shown.
            let span = tracing::error_span!("reconcile", cluster = %key);
            kept.insert(tasks.spawn(work.instrument(span)).id(), key);
        }
        tokio::select! {
            _ = halted.wait_for(|halt| *halt) => break,
            change = changed.changed() => {
                if change.is_err() {
                    tracing::error!("the watches ended");
                    break;
                }
            }
            Some(ended) = tasks.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => {
                        tracing::error!(%error, "the task of a cluster broke off; it is begun anew");
                        error.id()
                    }
                };
                kept.remove(&id);
            }
        }
    }
    while tasks.join_next().await.is_some() {}
}

/// Begins the watches, as soon as the API server answers.
async fn begin(client: &Client, scope: &Scope) -> World {
    let mut tick = interval(WATCH_AGAIN);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match World::start(client.clone(), scope).await {
            Ok(world) => return world,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "the watches can't begin yet; trying again");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_namespaces_all_are_kept_and_none_twice() {
        assert_eq!(scopes(&[]), [Scope::Everywhere]);
        let two = ["b", "a", "b"].map(str::to_owned);
        let wanted = ["a", "b"].map(|n| Scope::Namespace(n.to_owned()));
        assert_eq!(scopes(&two), wanted);
    }
}
