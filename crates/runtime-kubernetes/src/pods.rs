//! The runtime of Kubernetes: each node a pod of one `StatefulSet`. Hands, no opinions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::Api;
use shardwright_engine::{Access, Secret};
use shardwright_manifest::Cluster;
use shardwright_runtime::{Runtime, RuntimeError, Seat};
use shardwright_topology::{Formed, NodeId, NodeView, ServerName, Timestamp};
use tokio::time::timeout;

use crate::facts::{
    ClaimFact, Container, HostFact, HostState, ObjectKey, PodFact, SetFact, VolumeFact,
};
use crate::gate::{self, Tell};
use crate::names::Names;
use crate::record;
use crate::request::{RequestError, ask};
use crate::seats::{self, GateReport, Sight};
use crate::wake::Wake;
use crate::world::World;

/// How long the first lists of what there is may take.
const FILL_LIMIT: Duration = Duration::from_secs(10);
/// How long to the next try to read volumes, after one that failed.
const VOLUMES_AGAIN: Duration = Duration::from_secs(5);

/// One cluster's pods.
#[derive(Debug)]
pub struct Pods {
    pub(crate) world: World,
    pub(crate) key: ObjectKey,
    pub(crate) names: Names,
    pub(crate) cluster: Cluster,
    password: Option<Secret>,
    wake: Wake,
    /// What gates said, by pod, of the pod with this uid.
    gates: BTreeMap<String, (String, GateReport)>,
    /// Who spoke at the last look, by pod.
    heard: BTreeMap<String, NodeId>,
    /// What was recorded and may not be in the world yet.
    written: Written,
    pub(crate) volumes: BTreeMap<String, VolumeFact>,
    volumes_failed: Option<Instant>,
    /// Since when Kubernetes nodes that volumes are tied to are missed.
    pub(crate) missed: BTreeMap<String, Timestamp>,
}

/// What was written on a `StatefulSet` (by its uid): the watch tells of it a little later.
#[derive(Debug, Default)]
struct Written {
    set: String,
    formed: Option<Formed>,
    nodes: BTreeMap<String, NodeId>,
    /// The pods that were taken away, with what was recorded of them.
    gone: BTreeSet<String>,
}

impl Pods {
    /// The pods of the cluster of this name, which is to be like `cluster`. `access` is how we log in at its servers:
    /// their gates know the same password.
    pub fn new(world: World, key: ObjectKey, cluster: Cluster, access: &Access) -> Self {
        Self {
            names: Names::new(&key.name, &key.namespace),
            wake: world.wake(&key),
            world,
            key,
            cluster,
            password: access.credentials.as_ref().map(|c| c.password.clone()),
            gates: BTreeMap::new(),
            heard: BTreeMap::new(),
            written: Written::default(),
            volumes: BTreeMap::new(),
            volumes_failed: None,
            missed: BTreeMap::new(),
        }
    }

    /// Gates are asked with this password from now on.
    pub fn set_access(&mut self, access: &Access) {
        self.password = access.credentials.as_ref().map(|c| c.password.clone());
    }

    /// It is to be like this from now on.
    pub fn set_cluster(&mut self, cluster: Cluster) {
        self.cluster = cluster;
    }

    /// What it is to be like.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The `StatefulSet`, with what we wrote on it.
    fn set(&self) -> Option<SetFact> {
        let mut set = SetFact::clone(&*self.world.set(&self.key)?);
        if set.uid == self.written.set {
            set.formed = set.formed.or_else(|| self.written.formed.clone());
            set.nodes.retain(|pod, _| !self.written.gone.contains(pod));
            let written = self.written.nodes.iter();
            set.nodes
                .extend(written.map(|(pod, id)| (pod.clone(), *id)));
        }
        Some(set)
    }

    /// What was written on another `StatefulSet` counts no more.
    fn written_on(&mut self, set_uid: &str) -> &mut Written {
        if self.written.set != set_uid {
            self.written = Written {
                set: set_uid.to_owned(),
                ..Written::default()
            };
        }
        &mut self.written
    }

    /// Reads the volumes that are not known yet, once each: where a volume can be used does not change.
    async fn read_volumes(&mut self, claims: &[Arc<ClaimFact>]) {
        let again = self
            .volumes_failed
            .is_none_or(|at| at.elapsed() >= VOLUMES_AGAIN);
        let unknown = claims
            .iter()
            .filter_map(|claim| claim.volume.clone())
            .filter(|name| again && !self.volumes.contains_key(name));
        let api = Api::<PersistentVolume>::all(self.world.client().clone());
        let read = unknown.map(|name| {
            let api = api.clone();
            async move {
                let answer = ask(|| format!("read the volume {name}"), api.get(&name)).await;
                (name, answer)
            }
        });
        self.volumes_failed = self.volumes_failed.filter(|_| !again);
        for (name, answer) in join_all(read).await {
            match answer {
                Ok(volume) => {
                    self.volumes.insert(name, VolumeFact::of(&volume));
                }
                // Where we may not look, nothing is known to be tied to a place.
                Err(error) if error.code() == Some(403) => {
                    tracing::info!(volume = name, "may not be read: it counts as free to move");
                    self.volumes.insert(name, VolumeFact::default());
                }
                Err(error) => {
                    tracing::warn!(%error, "a volume was not read");
                    self.volumes_failed = Some(Instant::now());
                }
            }
        }
    }

    fn hosts(&self, pods: &[Arc<PodFact>]) -> BTreeMap<String, Arc<HostFact>> {
        let of_pods = pods.iter().filter_map(|pod| pod.host.as_ref());
        let of_volumes = self
            .volumes
            .values()
            .filter_map(|volume| volume.host.as_ref());
        of_pods
            .chain(of_volumes)
            .filter_map(|name| Some((name.clone(), self.world.host(name)?)))
            .collect()
    }

    /// Asks the gates of those servers that did not speak and whose container runs: one whose server is not started
    /// looks just like that.
    async fn ask_gates(&mut self) {
        let Some(password) = &self.password else {
            return;
        };
        let pods = self.world.pods(&self.key);
        let hosts = self.hosts(&pods);
        let cut_off = |pod: &PodFact| {
            let host = pod.host.as_ref().and_then(|name| hosts.get(name));
            host.is_some_and(|host| host.state != HostState::Ready)
        };
        let silent = pods.iter().filter(|pod| {
            let runs = matches!(pod.container, Container::Running { .. });
            runs && !pod.over && !cut_off(pod) && !self.heard.contains_key(&pod.name)
        });
        let asked = silent.filter_map(|pod| Some((pod, pod.ip?)));
        let answers =
            join_all(asked.map(|(pod, ip)| async move { (pod, gate::ask(ip, password).await) }));
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

    /// Copies what the `StatefulSet` says to the claims of those who are known to live there, and back what only
    /// claims say (of a cluster that was made anew on retained volumes). Writes only what is not there yet; says
    /// whether it wrote.
    pub async fn mirror_records(&mut self) -> Result<bool, RuntimeError> {
        let claims = self.world.claims(&self.key);
        let Some(set) = self.set().filter(|set| !set.leaving) else {
            return Ok(false);
        };
        let Some(formed) = seats::formed(Some(&set), &claims) else {
            return Ok(false);
        };
        let mut written = false;
        for claim in claims.iter().filter(|claim| !claim.leaving) {
            let pod = set
                .nodes
                .iter()
                .find(|(pod, _)| self.names.claim(pod) == claim.name);
            let lives = pod.filter(|(pod, id)| self.heard.get(*pod) == Some(*id));
            let Some((_, node)) = lives else { continue };
            let notes = record::on_claim(claim, Some(&formed), Some(*node));
            if !notes.is_empty() {
                let request = record::write_claim(self.world.client(), claim, &notes);
                ask(|| format!("record on the claim {}", claim.name), request)
                    .await
                    .map_err(failed)?;
                written = true;
            }
        }
        if set.formed.is_none() {
            let mut nodes = seats::recorded_by_claims(&self.names, &claims);
            nodes.extend(set.nodes.clone());
            self.write_set(&set, Some(&formed), &nodes).await?;
            written = true;
        }
        Ok(written)
    }

    async fn write_set(
        &mut self,
        set: &SetFact,
        formed: Option<&Formed>,
        nodes: &BTreeMap<String, NodeId>,
    ) -> Result<(), RuntimeError> {
        let said = record::on_set(formed, nodes);
        let request = record::write_set(self.world.client(), set, &said);
        let what = || format!("record on the StatefulSet {}", set.cluster);
        ask(what, request).await.map_err(failed)?;
        let written = self.written_on(&set.uid);
        written.formed = formed.cloned().or_else(|| written.formed.take());
        for (pod, id) in nodes {
            written.gone.remove(pod);
            written.nodes.insert(pod.clone(), *id);
        }
        Ok(())
    }

    /// What was recorded of this pod is no longer so.
    pub(crate) fn forget_record(&mut self, set_uid: &str, pod: &str) {
        let written = self.written_on(set_uid);
        written.nodes.remove(pod);
        written.gone.insert(pod.to_owned());
    }

    /// Has the gate of a pod let its server start. The kubelet starts what is not held.
    async fn tell_gate(&mut self, server: &ServerName, what: Tell) -> Result<(), RuntimeError> {
        let held = self
            .world
            .pods(&self.key)
            .into_iter()
            .find(|pod| pod.name == server.0)
            .filter(|pod| {
                self.gates
                    .get(&pod.name)
                    .is_some_and(|(uid, _)| *uid == pod.uid)
            });
        let (Some(pod), Some(password)) = (held, &self.password) else {
            return Ok(());
        };
        let Some(ip) = pod.ip else { return Ok(()) };
        gate::tell(ip, password, what).await.map_err(|e| {
            RuntimeError::because(
                format!("the start gate of {server} could not be told to let it start"),
                e,
            )
        })?;
        self.gates.remove(&pod.name);
        Ok(())
    }

    pub(crate) fn set_to_write(&self) -> Result<SetFact, RuntimeError> {
        self.set().filter(|set| !set.leaving).ok_or_else(|| {
            let what = format!("nothing to record on: there is no StatefulSet {}", self.key);
            RuntimeError::new(what)
        })
    }
}

/// What the keeper is told of a request that failed.
fn failed(error: RequestError) -> RuntimeError {
    RuntimeError::because("what is to be remembered was not recorded", error)
}

#[async_trait]
impl Runtime for Pods {
    async fn seats(&mut self, now: Timestamp) -> Result<Vec<Seat>, RuntimeError> {
        timeout(FILL_LIMIT, self.world.filled())
            .await
            .map_err(|_| {
                RuntimeError::new("the API server has not told yet what there is; is it reachable?")
            })?;
        let pods = self.world.pods(&self.key);
        let claims = self.world.claims(&self.key);
        self.read_volumes(&claims).await;
        self.miss_hosts(now);
        let set = self.set();
        if let Some(what) = set.as_ref().and_then(|set| set.unreadable.as_ref()) {
            return Err(RuntimeError::new(format!(
                "the record on the StatefulSet {} can't be read: {what}; mend it, or remove it",
                self.key
            )));
        }
        Ok(seats::seats(&Sight {
            names: &self.names,
            wanted: self.cluster.nodes(),
            aof: self.cluster.persistence().aof,
            pods: &pods,
            claims: &claims,
            set: set.as_ref(),
            hosts: &self.hosts(&pods),
            missed: &self.missed,
            volumes: &self.volumes,
            gates: &self.gates,
            now,
        }))
    }

    fn formed(&self) -> Option<Formed> {
        seats::formed(self.set().as_ref(), &self.world.claims(&self.key))
    }

    async fn learn(&mut self, heard: &[(ServerName, NodeView)]) -> Result<(), RuntimeError> {
        self.heard = heard
            .iter()
            .map(|(name, view)| (name.0.clone(), view.id))
            .collect();
        self.ask_gates().await;
        Ok(())
    }

    async fn start_afresh(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        self.tell_gate(server, Tell::Afresh).await
    }

    async fn start(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        self.tell_gate(server, Tell::Release).await
    }

    async fn recreate(&mut self, server: &ServerName, host: &str) -> Result<(), RuntimeError> {
        self.give_up_volume(server, host).await
    }

    async fn replace(&mut self, server: &ServerName, made_from: &str) -> Result<(), RuntimeError> {
        self.make_anew(server, made_from).await
    }

    async fn remove(&mut self, server: &ServerName) -> Result<(), RuntimeError> {
        self.take_away(server).await
    }

    async fn record_formed(&mut self, now: Timestamp) -> Result<(), RuntimeError> {
        let set = self.set_to_write()?;
        // The set's own uid serves as the cluster's: it is made up anew for each, and no two are alike.
        let formed = Formed {
            cluster_id: set.uid.clone(),
            at: now,
        };
        self.write_set(&set, Some(&formed), &BTreeMap::new())
            .await?;
        self.mirror_records().await?;
        Ok(())
    }

    async fn record_members(
        &mut self,
        nodes: &BTreeMap<ServerName, NodeId>,
    ) -> Result<(), RuntimeError> {
        let mut set = self.set_to_write()?;
        let new = nodes.iter().map(|(name, id)| (name.0.clone(), *id));
        set.nodes.extend(new);
        let nodes = set.nodes.clone();
        self.write_set(&set, None, &nodes).await?;
        self.mirror_records().await?;
        Ok(())
    }

    async fn woken(&mut self) {
        self.wake.woken().await;
    }
}
