//! What is kept of each Kubernetes object: the few facts that matter here, so that a thousand pods fit into little
//! memory. Pure: an object in, facts out.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Node,
    PersistentVolume, PersistentVolumeClaim, Pod, PodStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use serde::{Deserialize, Serialize};
use shardwright_manifest::{Quantity, owned_setting};
use shardwright_topology::wire::why_not_started;
use shardwright_topology::{Formed, NodeId, Timestamp, WhyNotStarted};

use crate::names;
use crate::not_applied::MadeWith;

/// The namespace and the name of an object. Of something that has no namespace, that is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectKey {
    /// The key of these two.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object that has a name: all that come from a server do.
    pub(crate) fn of(meta: &ObjectMeta) -> Option<Self> {
        let name = meta.name.as_ref()?;
        Some(Self::new(meta.namespace.as_deref().unwrap_or(""), name))
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The cluster a thing belongs to, by its labels.
pub(crate) fn cluster_of(meta: &ObjectMeta) -> Option<ObjectKey> {
    let labels = meta.labels.as_ref()?;
    let ours = labels.get(names::NAME_LABEL).map(String::as_str) == Some(names::APP);
    let instance = labels.get(names::INSTANCE_LABEL).filter(|_| ours)?;
    Some(ObjectKey::new(meta.namespace.clone()?, instance))
}

/// The container of the server, as the kubelet last reported it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Container {
    /// It was not started yet in this pod; the text says why, if the kubelet does.
    NotYet(Option<String>),
    /// It runs.
    Running {
        /// The container's id.
        id: String,
    },
    /// It ended; another one may have been started since, unless the pod is at its end.
    Ended {
        /// The id of the container that ended.
        id: String,
        /// Why, in the kubelet's words, such as `OOMKilled (137)` or `CrashLoopBackOff`.
        why: String,
    },
}

/// A pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodFact {
    /// The cluster it belongs to.
    pub cluster: ObjectKey,
    /// Its name.
    pub name: String,
    /// Its uid: a re-created pod of the same name has another.
    pub uid: String,
    /// The Kubernetes node it was put on.
    pub host: Option<String>,
    /// Its address, while it has one.
    pub ip: Option<IpAddr>,
    /// Since when it is being deleted.
    pub leaving_since: Option<Timestamp>,
    /// It has come to its end: no container is started in it any more.
    pub over: bool,
    /// Whether the kubelet holds it for ready.
    pub ready: bool,
    /// The revision of the template it was made from.
    pub revision: Option<String>,
    /// The server's container.
    pub container: Container,
    /// Why it can't be placed, in the scheduler's words.
    pub unschedulable: Option<String>,
    /// A container beside the server's that does not run: its name, and why.
    pub beside: Option<(String, String)>,
    /// Since when the kubelet holds it for not ready, where it tells.
    pub unready_since: Option<Timestamp>,
    /// What it was made with.
    pub made_with: MadeWith,
}

impl PodFact {
    /// The facts of a pod that carries our labels.
    pub fn of(pod: &Pod) -> Option<Self> {
        let cluster = cluster_of(&pod.metadata)?;
        let status = pod.status.as_ref();
        let condition = |kind: &str| {
            let all = status.and_then(|s| s.conditions.as_ref());
            all.and_then(|c| c.iter().find(|c| c.type_ == kind))
        };
        let statuses = status.and_then(|s| s.container_statuses.as_ref());
        let server = statuses.and_then(|c| c.iter().find(|c| c.name == names::SERVER_CONTAINER));
        Some(Self {
            cluster,
            name: pod.name_any(),
            uid: pod.uid()?,
            host: pod.spec.as_ref().and_then(|s| s.node_name.clone()),
            ip: status
                .and_then(|s| s.pod_ip.as_ref())
                .and_then(|ip| ip.parse().ok()),
            leaving_since: pod.metadata.deletion_timestamp.as_ref().map(millis),
            over: matches!(
                status.and_then(|s| s.phase.as_deref()),
                Some("Failed" | "Succeeded")
            ),
            ready: condition("Ready").is_some_and(|c| c.status == "True"),
            revision: pod.labels().get("controller-revision-hash").cloned(),
            container: match server.map_or(Container::NotYet(None), container) {
                // It waits for those that run before it.
                Container::NotYet(_) if let Some(why) = status.and_then(init_waits) => {
                    Container::NotYet(Some(why))
                }
                seen => seen,
            },
            unschedulable: condition("PodScheduled")
                .filter(|c| c.status == "False")
                .and_then(|c| c.message.clone()),
            beside: statuses.and_then(|all| all.iter().find_map(fails_beside)),
            unready_since: condition("Ready")
                .filter(|c| c.status == "False")
                .and_then(|c| c.last_transition_time.as_ref().map(millis)),
            made_with: MadeWith::of(pod),
        })
    }
}

/// The name of a container that is not the server's and does not run, and why. One that is being started does.
fn fails_beside(status: &ContainerStatus) -> Option<(String, String)> {
    if status.name == names::SERVER_CONTAINER {
        return None;
    }
    match container(status) {
        Container::NotYet(Some(why))
            if !matches!(&*why, "ContainerCreating" | "PodInitializing") =>
        {
            Some((status.name.clone(), why))
        }
        Container::Ended { why, .. } => Some((status.name.clone(), why)),
        Container::NotYet(_) | Container::Running { .. } => None,
    }
}

fn container(status: &ContainerStatus) -> Container {
    let ended = |end: &ContainerStateTerminated, why: Option<&String>| {
        let reason = end.reason.as_deref().unwrap_or("ended");
        let why = why.map_or_else(
            || format!("{reason} ({})", end.exit_code),
            |why| format!("{why}, after {reason} ({})", end.exit_code),
        );
        let why = match complaint(end) {
            Some(said) => format!("{why}: {said}"),
            None => why,
        };
        end.container_id
            .clone()
            .map(|id| Container::Ended { id, why })
    };
    let last = status
        .last_state
        .as_ref()
        .and_then(|s| s.terminated.as_ref());
    let seen = match status.state.as_ref() {
        Some(ContainerState {
            running: Some(_), ..
        }) => status
            .container_id
            .clone()
            .map(|id| Container::Running { id }),
        Some(ContainerState {
            terminated: Some(end),
            ..
        }) => ended(end, None),
        Some(ContainerState {
            waiting: Some(wait),
            ..
        }) => last
            .and_then(|end| ended(end, wait.reason.as_ref()))
            .or_else(|| Some(Container::NotYet(waits(wait, &status.image)))),
        Some(_) | None => None,
    };
    seen.unwrap_or(Container::NotYet(None))
}

/// Why a server ended before it served, by the end of its log as the kubelet keeps it. The node program has become the
/// server, so that it is the first process of its container.
fn complaint(end: &ContainerStateTerminated) -> Option<String> {
    let mut why = why_not_started(end.message.as_deref()?, 1)?;
    if let WhyNotStarted::BadConfig { line, .. } = &mut why
        && line.as_ref().is_some_and(|line| is_ours(&line.text))
    {
        *line = None;
    }
    Some(why.to_string())
}

/// Whether a line of configuration sets what no manifest may: among these are passwords.
fn is_ours(line: &str) -> bool {
    let key = line.split_whitespace().next();
    key.is_none_or(|key| owned_setting(key).is_some())
}

/// Why a container is not started: the kubelet's reason first, then what it is about. Always the same text for the same
/// cause: the kubelet says `ErrImagePull` and `ImagePullBackOff` in turn, and counts its tries in its messages.
fn waits(wait: &ContainerStateWaiting, image: &str) -> Option<String> {
    let reason = wait.reason.as_deref()?;
    Some(match reason {
        "ErrImagePull" | "ImagePullBackOff" => {
            format!("ImagePullBackOff: image {image} can't be pulled")
        }
        "ErrImageNeverPull" => format!("{reason}: image {image} is not on its Kubernetes node"),
        "InvalidImageName" => format!("{reason}: {image} is no name of an image"),
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => {
            let said = wait.message.as_deref().and_then(|said| said.lines().next());
            said.map_or_else(|| reason.to_owned(), |said| format!("{reason}: {said}"))
        }
        _ => reason.to_owned(),
    })
}

/// Why the containers that run before the server do not get on, if the kubelet says so.
fn init_waits(status: &PodStatus) -> Option<String> {
    let all = status.init_container_statuses.iter().flatten();
    let waits = all.filter_map(|one| {
        let state = one.state.as_ref()?;
        let why = match (&state.waiting, &state.terminated) {
            (Some(wait), _) => waits(wait, &one.image)?,
            (None, Some(end)) if end.exit_code != 0 => {
                let reason = end.reason.as_deref().unwrap_or("ended");
                format!("{reason} ({})", end.exit_code)
            }
            (None, _) => return None,
        };
        // What has not begun says nothing.
        (why != "PodInitializing").then(|| match why.split_once(": ") {
            Some((reason, about)) => format!("{reason}: init container {}: {about}", one.name),
            None => format!("{why}: init container {}", one.name),
        })
    });
    waits.into_iter().next()
}

/// A claim of a pod's volume, with the record of whose data it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClaimFact {
    /// The cluster it belongs to.
    pub cluster: ObjectKey,
    /// Its name.
    pub name: String,
    /// Its uid: a re-created claim of the same name has another, and nothing of the data.
    pub uid: String,
    /// The volume it is bound to.
    pub volume: Option<String>,
    /// How many bytes are asked for.
    pub requested_bytes: Option<u64>,
    /// It is being deleted.
    pub leaving: bool,
    /// The uids of the objects that take it along when they are deleted.
    pub owners: Vec<String>,
    /// The cluster whose data it holds, as recorded.
    pub formed: Option<Formed>,
    /// The node whose data it holds, as recorded.
    pub node: Option<NodeId>,
}

impl ClaimFact {
    /// The facts of a claim that carries our labels.
    pub fn of(claim: &PersistentVolumeClaim) -> Option<Self> {
        let note = |key: &str| claim.annotations().get(key);
        let requested = claim
            .spec
            .as_ref()
            .and_then(|s| s.resources.as_ref()?.requests.as_ref()?.get("storage"));
        let at = note(names::CLAIM_FORMED_AT_ANNOTATION).and_then(|ms| ms.parse().ok());
        Some(Self {
            cluster: cluster_of(&claim.metadata)?,
            name: claim.name_any(),
            uid: claim.uid()?,
            volume: claim.spec.as_ref().and_then(|s| s.volume_name.clone()),
            requested_bytes: requested.and_then(|q| bytes(&q.0)),
            leaving: claim.metadata.deletion_timestamp.is_some(),
            owners: claim
                .owner_references()
                .iter()
                .map(|owner| owner.uid.clone())
                .collect(),
            formed: note(names::CLAIM_CLUSTER_ID_ANNOTATION).map(|id| Formed {
                cluster_id: id.clone(),
                at: Timestamp(at.unwrap_or(0)),
            }),
            node: note(names::CLAIM_NODE_ID_ANNOTATION).and_then(|id| id.parse().ok()),
        })
    }
}

/// How many bytes a quantity of Kubernetes is, as far as it can be read.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    Quantity::new(text).bytes().ok()
}

/// The fact that a cluster was formed, as it is written on the `StatefulSet`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct FormedNote {
    pub(crate) cluster_id: String,
    pub(crate) at_ms: u64,
}

impl From<&Formed> for FormedNote {
    fn from(formed: &Formed) -> Self {
        Self {
            cluster_id: formed.cluster_id.clone(),
            at_ms: formed.at.0,
        }
    }
}

impl From<FormedNote> for Formed {
    fn from(note: FormedNote) -> Self {
        Self {
            cluster_id: note.cluster_id,
            at: Timestamp(note.at_ms),
        }
    }
}

/// A `StatefulSet`: its metadata, and what its pods are made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SetFact {
    /// The cluster it belongs to.
    pub cluster: ObjectKey,
    /// Its uid.
    pub uid: String,
    /// It is being deleted.
    pub leaving: bool,
    /// What tells its states apart, the records left out.
    pub(crate) state: u64,
    /// The recorded fact that the cluster was formed.
    pub formed: Option<Formed>,
    /// The recorded nodes, by pod.
    pub nodes: BTreeMap<String, NodeId>,
    /// A record is there that can't be read; the text says which.
    pub unreadable: Option<String>,
    /// The revision of the template that pods are made from now; not known while the controller has not seen the newest.
    pub revision: Option<String>,
}

impl SetFact {
    /// The facts of a `StatefulSet` that carries our labels.
    pub fn of(set: &StatefulSet) -> Option<Self> {
        let note = |key: &str| set.annotations().get(key);
        let mut unreadable = None;
        let mut broken = |key: &str, why: &dyn fmt::Display| {
            unreadable = Some(format!("annotation {key}: {why}"));
        };
        let formed = note(names::FORMED_ANNOTATION).and_then(|text| {
            serde_json::from_str::<FormedNote>(text)
                .map_err(|e| broken(names::FORMED_ANNOTATION, &e))
                .ok()
        });
        let nodes = note(names::NODES_ANNOTATION).and_then(|text| {
            serde_json::from_str::<BTreeMap<String, String>>(text)
                .map_err(|e| broken(names::NODES_ANNOTATION, &e))
                .ok()
        });
        let mut by_pod = BTreeMap::new();
        for (pod, id) in nodes.into_iter().flatten() {
            match id.parse() {
                Ok(id) => {
                    by_pod.insert(pod, id);
                }
                Err(e) => broken(names::NODES_ANNOTATION, &format!("{pod}: {e}")),
            }
        }
        Some(Self {
            cluster: cluster_of(&set.metadata)?,
            uid: set.uid()?,
            leaving: set.metadata.deletion_timestamp.is_some(),
            state: state_of(&set.metadata),
            formed: formed.map(Formed::from),
            nodes: by_pod,
            unreadable,
            revision: newest_revision(set),
        })
    }
}

/// The revision of the template from which a set's pods are made, once its controller has seen the newest.
pub(crate) fn newest_revision(set: &StatefulSet) -> Option<String> {
    let status = set.status.as_ref()?;
    let seen = status.observed_generation >= set.metadata.generation;
    status.update_revision.clone().filter(|_| seen)
}

/// Whether a Kubernetes node is well, in the words of the control plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostState {
    /// Its kubelet reports that it is.
    Ready,
    /// Its kubelet reports that it is not, or reports nothing any more, since then (0 where that is not told).
    NotReady(Timestamp),
}

impl HostState {
    /// The time where none is told.
    pub(crate) const NOT_TOLD: Timestamp = Timestamp(0);
}

/// A Kubernetes node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostFact {
    /// Its name.
    pub name: String,
    /// Its zone, if zones are known.
    pub zone: Option<String>,
    /// Whether it is well.
    pub state: HostState,
    /// It takes no new pods: it is being drained, perhaps.
    pub cordoned: bool,
}

impl HostFact {
    /// The facts of a Kubernetes node.
    pub fn of(node: &Node) -> Option<Self> {
        let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
        let ready = conditions.and_then(|c| c.iter().find(|c| c.type_ == "Ready"));
        let state = match ready {
            Some(c) if c.status == "True" => HostState::Ready,
            Some(c) => {
                let since = c.last_transition_time.as_ref();
                HostState::NotReady(since.map_or(HostState::NOT_TOLD, millis))
            }
            None => HostState::NotReady(HostState::NOT_TOLD),
        };
        Some(Self {
            name: node.metadata.name.clone()?,
            zone: node.labels().get(names::ZONE_LABEL).cloned(),
            state,
            cordoned: node
                .spec
                .as_ref()
                .and_then(|s| s.unschedulable)
                .unwrap_or(false),
        })
    }
}

/// Where a volume can be used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct VolumeFact {
    /// The one Kubernetes node it is tied to.
    pub host: Option<String>,
    /// The one zone it is tied to.
    pub zone: Option<String>,
}

impl VolumeFact {
    /// The facts of a volume. Its `nodeAffinity` can't change once it is set.
    pub fn of(volume: &PersistentVolume) -> Self {
        let terms = volume
            .spec
            .as_ref()
            .and_then(|s| s.node_affinity.as_ref()?.required.as_ref())
            .map_or(&[][..], |r| r.node_selector_terms.as_slice());
        // Several terms are alternatives: then nothing is tied to one.
        let [term] = terms else {
            return Self::default();
        };
        let mut fact = Self::default();
        let fields = term.match_fields.iter().flatten();
        for e in term.match_expressions.iter().flatten().chain(fields) {
            let [value] = e.values.as_deref().unwrap_or(&[]) else {
                continue;
            };
            if e.operator != "In" {
                continue;
            }
            if is_host_key(&e.key) {
                fact.host = Some(value.clone());
            } else if e.key.ends_with("/zone") {
                fact.zone = Some(value.clone());
            }
        }
        fact
    }
}

/// Whether a label's values are one Kubernetes node each. Storage drivers have keys of their own, such as
/// `topology.hostpath.csi/node`.
fn is_host_key(key: &str) -> bool {
    key == names::HOST_LABEL || key == "metadata.name" || key.ends_with("/node")
}

/// What the state of an object is told by. Where a generation counts the changes of what is wanted, the reports in
/// the object's status do not count; what is recorded by ourselves never does.
pub(crate) fn state_of(meta: &ObjectMeta) -> u64 {
    let mut hasher = DefaultHasher::new();
    meta.uid.hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    match meta.generation {
        Some(generation) => generation.hash(&mut hasher),
        None => meta.resource_version.hash(&mut hasher),
    }
    meta.labels.hash(&mut hasher);
    for (key, value) in meta.annotations.iter().flatten() {
        if key != names::FORMED_ANNOTATION && key != names::NODES_ANNOTATION {
            (key, value).hash(&mut hasher);
        }
    }
    for owner in meta.owner_references.iter().flatten() {
        (&owner.uid, owner.controller).hash(&mut hasher);
    }
    hasher.finish()
}

pub(crate) fn millis(time: &Time) -> Timestamp {
    Timestamp(u64::try_from(time.0.as_millisecond()).unwrap_or(0))
}

#[cfg(test)]
#[path = "facts_tests.rs"]
mod tests;
