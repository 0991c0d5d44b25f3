//! The runtime of a person who looks in from outside: the same seats as an operator sees, from lists read now and
//! then. Nothing is watched, so that the rights to read are enough, and nothing is ever changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::ListParams;
use kube::{Api, Client};
use shardwright_engine::Secret;
use shardwright_manifest::Cluster;
use shardwright_runtime::{Runtime, RuntimeError, Seat};
use shardwright_topology::{Formed, NodeId, NodeView, ServerName, Timestamp};
use tokio::time::timeout;

use crate::facts::{ClaimFact, Container, HostFact, ObjectKey, PodFact, SetFact, VolumeFact};
use crate::forward::Forwards;
use crate::gate::{self, GateError};
use crate::names::{GATE_PORT, Names};
use crate::request::{RequestError, ask};
use crate::seats::{self, GateReport, Sight};

/// How old a list may be that is looked at again. One observation asks several times.
const FRESH: Duration = Duration::from_millis(500);
/// How long the way to a gate and its answer may take.
const GATE_LIMIT: Duration = Duration::from_secs(3);

/// One cluster's pods, only looked at.
pub struct Visit {
    client: Client,
    key: ObjectKey,
    names: Names,
    cluster: Cluster,
    forwards: Forwards,
    /// What gates ask for; they are not asked without.
    password: Option<Secret>,
    seen: Option<Seen>,
    gates: BTreeMap<String, (String, GateReport)>,
    hosts: Option<BTreeMap<String, Arc<HostFact>>>,
    volumes: BTreeMap<String, VolumeFact>,
}

impl fmt::Debug for Visit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Visit")
            .field("key", &self.key)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// What the last lists said.
#[derive(Debug)]
struct Seen {
    at: Instant,
    pods: Vec<Arc<PodFact>>,
    claims: Vec<Arc<ClaimFact>>,
    set: Option<SetFact>,
}

impl Visit {
    /// The pods of the cluster of this name, which is to be like `cluster`. `password` is that of Shardwright's own
    /// user, where we log in as that.
    pub fn new(
        client: Client,
        key: ObjectKey,
        cluster: Cluster,
        forwards: Forwards,
        password: Option<Secret>,
    ) -> Self {
        Self {
            names: Names::new(&key.name, &key.namespace),
            client,
            key,
            cluster,
            forwards,
            password,
            seen: None,
            gates: BTreeMap::new(),
            hosts: None,
            volumes: BTreeMap::new(),
        }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.key.namespace)
    }

    async fn look(&mut self) -> Result<(), RequestError> {
        if self.seen.as_ref().is_some_and(|s| s.at.elapsed() < FRESH) {
            return Ok(());
        }
        let ours = ListParams::default().labels(&self.names.label_selector());
        let what = |kind: &str| format!("list the {kind} of {}", self.key);
        let (pods, claims, sets) = (
            self.api::<Pod>(),
            self.api::<PersistentVolumeClaim>(),
            self.api::<StatefulSet>(),
        );
        let (pods, claims, set) = tokio::try_join!(
            ask(|| what("pods"), pods.list(&ours)),
            ask(|| what("claims"), claims.list(&ours)),
            ask(
                || format!("read the StatefulSet {}", self.key),
                sets.get_opt(self.names.stateful_set())
            ),
        )?;
        let pods: Vec<_> = pods.items.iter().filter_map(PodFact::of).collect();
        let by_address = pods.iter().filter(|pod| !pod.over);
        let by_address = by_address.filter_map(|pod| Some((pod.ip?, pod.name.clone())));
        self.forwards.set_pods(by_address.collect());
        let claims = claims.items.iter().filter_map(ClaimFact::of);
        self.seen = Some(Seen {
            at: Instant::now(),
            pods: pods.into_iter().map(Arc::new).collect(),
            claims: claims.map(Arc::new).collect(),
            set: set.as_ref().and_then(SetFact::of),
        });
        self.read_hosts().await?;
        self.read_volumes().await
    }

    /// Reads the Kubernetes nodes once: their zones do not change. Without the right to, zones are not known.
    async fn read_hosts(&mut self) -> Result<(), RequestError> {
        if self.hosts.is_some() {
            return Ok(());
        }
        let api = Api::<Node>::all(self.client.clone());
        let all = ListParams::default();
        let what = || "list the Kubernetes nodes".to_owned();
        let hosts = match ask(what, api.list(&all)).await {
            Ok(list) => list.items,
            Err(error) if error.code() == Some(403) => {
                tracing::info!("Kubernetes nodes may not be listed: zones are not known");
                Vec::new()
            }
            Err(error) => return Err(error),
        };
        let facts = hosts.iter().filter_map(HostFact::of);
        self.hosts = Some(facts.map(|h| (h.name.clone(), Arc::new(h))).collect());
        Ok(())
    }

    /// Reads the volumes that are not known yet. Without the right to, none is known to be tied to a place.
    async fn read_volumes(&mut self) -> Result<(), RequestError> {
        let claims = self.seen.iter().flat_map(|seen| &seen.claims);
        let names: BTreeSet<String> = claims.filter_map(|claim| claim.volume.clone()).collect();
        let api = Api::<PersistentVolume>::all(self.client.clone());
        let unknown = names
            .into_iter()
            .filter(|name| !self.volumes.contains_key(name));
        let read = unknown.map(|name| {
            let api = api.clone();
            async move {
                let answer = ask(|| format!("read the volume {name}"), api.get(&name)).await;
                (name, answer)
            }
        });
        for (name, answer) in join_all(read).await {
            let fact = match answer {
                Ok(volume) => VolumeFact::of(&volume),
                Err(error) if matches!(error.code(), Some(403 | 404)) => VolumeFact::default(),
                Err(error) => return Err(error),
            };
            self.volumes.insert(name, fact);
        }
        Ok(())
    }

    /// Asks the gates of those servers that did not speak and whose container runs: one whose server is not started
    /// looks just like that.
    async fn ask_gates(&mut self, heard: &BTreeMap<String, NodeId>) {
        let (Some(password), Some(seen)) = (&self.password, &self.seen) else {
            return;
        };
        let silent = seen.pods.iter().filter(|pod| {
            let runs = matches!(pod.container, Container::Running { .. });
            runs && !pod.over && !heard.contains_key(&pod.name)
        });
        let forwards = &self.forwards;
        let asked = silent.filter_map(|pod| Some((pod, pod.ip?)));
        let answers = join_all(asked.map(|(pod, ip)| async move {
            let answer = async {
                let way = forwards.open(ip, GATE_PORT).await.map_err(|why| {
                    let source = std::io::Error::other(why.to_string());
                    GateError::Io { ip, source }
                })?;
                gate::ask_over(way, ip, password).await
            };
            let late = |_| Err(GateError::TimedOut { ip });
            (pod, timeout(GATE_LIMIT, answer).await.unwrap_or_else(late))
        }));
        let mut gates = BTreeMap::new();
        for (pod, answer) in answers.await {
            match answer {
                Ok(report) => {
                    gates.insert(pod.name.clone(), (pod.uid.clone(), report));
                }
                Err(error) => tracing::debug!(pod = pod.name, %error, "gate not asked"),
            }
        }
        self.gates = gates;
    }
}

/// Whoever looks in from outside changes nothing: that is the operator's.
fn only_looked_at() -> RuntimeError {
    RuntimeError::new("a cluster on Kubernetes is only looked at from outside; its operator acts")
}

#[async_trait]
impl Runtime for Visit {
    async fn seats(&mut self, now: Timestamp) -> Result<Vec<Seat>, RuntimeError> {
        self.look()
            .await
            .map_err(|e| RuntimeError::because("cannot see what there is on Kubernetes", e))?;
        let Some(seen) = &self.seen else {
            return Ok(Vec::new());
        };
        if let Some(what) = seen.set.as_ref().and_then(|set| set.unreadable.as_ref()) {
            return Err(RuntimeError::new(format!(
                "the record on the StatefulSet {} can't be read: {what}; mend it, or remove it",
                self.key
            )));
        }
        let no_hosts = BTreeMap::new();
        // A visit is too short to miss anybody.
        let missed = BTreeMap::new();
        Ok(seats::seats(&Sight {
            names: &self.names,
            wanted: self.cluster.nodes(),
            aof: self.cluster.persistence().aof,
            pods: &seen.pods,
            claims: &seen.claims,
            set: seen.set.as_ref(),
            hosts: self.hosts.as_ref().unwrap_or(&no_hosts),
            volumes: &self.volumes,
            missed: &missed,
            gates: &self.gates,
            now,
        }))
    }

    fn formed(&self) -> Option<Formed> {
        let seen = self.seen.as_ref()?;
        seats::formed(seen.set.as_ref(), &seen.claims)
    }

    async fn learn(&mut self, heard: &[(ServerName, NodeView)]) -> Result<(), RuntimeError> {
        let heard = heard
            .iter()
            .map(|(name, view)| (name.0.clone(), view.id))
            .collect();
        self.ask_gates(&heard).await;
        Ok(())
    }

    async fn start(&mut self, _: &ServerName) -> Result<(), RuntimeError> {
        Err(only_looked_at())
    }

    async fn start_afresh(&mut self, _: &ServerName) -> Result<(), RuntimeError> {
        Err(only_looked_at())
    }

    async fn recreate(&mut self, _: &ServerName, _: &str) -> Result<(), RuntimeError> {
        Err(only_looked_at())
    }

    async fn remove(&mut self, _: &ServerName) -> Result<(), RuntimeError> {
        Err(only_looked_at())
    }

    async fn record_formed(&mut self, _: Timestamp) -> Result<(), RuntimeError> {
        Err(only_looked_at())
    }

    async fn record_members(
        &mut self,
        _: &BTreeMap<ServerName, NodeId>,
    ) -> Result<(), RuntimeError> {
        Err(only_looked_at())
    }

    async fn woken(&mut self) {
        std::future::pending::<()>().await;
    }
}
