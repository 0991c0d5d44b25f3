//! What the planner's runtime says of each pod. Pure: facts in, seats out.
//!
//! Nothing is concluded from silence. A pod object that is missing, a Kubernetes node that does not report, a pod
//! without an address: each leaves the process unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use shardwright_runtime::Seat;
use shardwright_topology::{
    Address, Claim, Death, DeathProof, Disk, Formed, Host, NodeId, OutdatedStart, Place, Process,
    Seen, ServerName, Starter, Tied, Timestamp, Why,
};

use crate::facts::{ClaimFact, Container, HostFact, HostState, PodFact, SetFact, VolumeFact};
use crate::names::{self, Names};

/// The kubelet's reason for a container that ends whenever it was started.
const CRASH_LOOP: &str = "CrashLoopBackOff";

/// What the start gate of a pod said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GateReport {
    /// The server is not started: it would come back as an old primary.
    Held {
        /// What it would claim.
        claim: Claim,
    },
    /// Nothing is held: the server runs, or is about to.
    NotHeld,
}

/// Everything that is known of one cluster's pods.
#[derive(Debug)]
pub struct Sight<'a> {
    /// The names of its objects.
    pub names: &'a Names,
    /// How many pods are wanted.
    pub wanted: u32,
    /// Whether the servers keep an append-only file.
    pub aof: bool,
    /// The pods there are.
    pub pods: &'a [Arc<PodFact>],
    /// The claims there are.
    pub claims: &'a [Arc<ClaimFact>],
    /// The `StatefulSet`.
    pub set: Option<&'a SetFact>,
    /// The Kubernetes nodes that pods are on or volumes are tied to.
    pub hosts: &'a BTreeMap<String, Arc<HostFact>>,
    /// Since when Kubernetes nodes that volumes are tied to are missed, of those that tell no time themselves.
    pub missed: &'a BTreeMap<String, Timestamp>,
    /// The volumes of the claims, by name, as far as they could be read.
    pub volumes: &'a BTreeMap<String, VolumeFact>,
    /// What gates said, by pod, of the pod (by its uid) that was asked.
    pub gates: &'a BTreeMap<String, (String, GateReport)>,
    /// Now.
    pub now: Timestamp,
}

/// A seat for every ordinal that is wanted, and for every pod beyond that still exists or is recorded: one that is not
/// there yet, or not just now, has its data on its volume.
pub fn seats(sight: &Sight<'_>) -> Vec<Seat> {
    let there = sight.pods.iter().map(|pod| pod.name.as_str());
    let recorded = recorded_pods(sight);
    let beyond = there.chain(recorded.iter().map(String::as_str));
    let beyond = beyond.filter_map(|pod| sight.names.ordinal(pod));
    let ordinals: BTreeSet<u32> = (0..sight.wanted).chain(beyond).collect();
    ordinals.into_iter().map(|n| seat(sight, n)).collect()
}

/// The pods that the `StatefulSet` records. One that was made anew on retained claims records nothing before what the
/// claims say was copied to it.
fn recorded_pods(sight: &Sight<'_>) -> BTreeSet<String> {
    match sight.set.filter(|set| set.formed.is_some()) {
        Some(set) => set.nodes.keys().cloned().collect(),
        None => recorded_by_claims(sight.names, sight.claims)
            .into_keys()
            .collect(),
    }
}

/// The nodes that claims record, by pod. Claims of another cluster of this name count for nothing.
pub(crate) fn recorded_by_claims(
    names: &Names,
    claims: &[Arc<ClaimFact>],
) -> BTreeMap<String, NodeId> {
    let of = |claim: &&ClaimFact| Some((names.pod_of_claim(&claim.name)?.to_owned(), claim.node?));
    let used = used_claims(claims);
    used.iter().filter_map(of).collect()
}

/// How many pods a `StatefulSet` has to have that is made anew, so that the data on every claim of this cluster is looked
/// at before anything is decided: retained claims may be more than the manifest wants now.
pub(crate) fn pods_with_data(names: &Names, claims: &[Arc<ClaimFact>]) -> u32 {
    let used = used_claims(claims);
    let pods = used.iter().filter_map(|c| names.pod_of_claim(&c.name));
    let ordinals = pods.filter_map(|pod| names.ordinal(pod));
    ordinals.max().map_or(0, |last| last.saturating_add(1))
}

/// What is said of claims with data of this cluster that no pod can mount.
pub(crate) fn misnamed_claims(names: &Names, claims: &[Arc<ClaimFact>]) -> Vec<String> {
    let used = used_claims(claims).into_iter();
    let misnamed = used.filter(|claim| names.pod_of_claim(&claim.name).is_none());
    let text = |claim: &ClaimFact| {
        let as_pods_do = names.claim(&names.pod(0));
        format!(
            "the PersistentVolumeClaim {} records data of this cluster, and no pod mounts a claim of that name: they are \
             called as {as_pods_do}",
            claim.name
        )
    };
    misnamed.map(text).collect()
}

/// What is said of claims with data of this cluster that the `StatefulSet` has no pods for: it was made with fewer.
pub(crate) fn idle_claims(
    names: &Names,
    claims: &[Arc<ClaimFact>],
    pods: &[Arc<PodFact>],
    set: &SetFact,
    wanted: u32,
) -> Option<String> {
    // A set without a record was just made, with pods for all of them.
    set.formed.as_ref()?;
    let mut idle: BTreeMap<u32, &str> = BTreeMap::new();
    for claim in used_claims(claims) {
        let Some(pod) = names.pod_of_claim(&claim.name) else {
            continue;
        };
        let known = set.nodes.contains_key(pod) || pods.iter().any(|p| p.name == pod);
        if let Some(ordinal) = names.ordinal(pod).filter(|n| *n >= wanted && !known) {
            idle.insert(ordinal, &claim.name);
        }
    }
    let (last, _) = idle.last_key_value()?;
    let all: Vec<&str> = idle.values().copied().collect();
    Some(format!(
        "claims record data of this cluster, and the StatefulSet has no pods for them: {}; have them started: kubectl scale \
         statefulset -n {} {} --replicas={}",
        all.join(", "),
        names.namespace(),
        names.stateful_set(),
        last.saturating_add(1)
    ))
}

/// The claims with data of the cluster that claims say was formed here last.
fn used_claims(claims: &[Arc<ClaimFact>]) -> Vec<&ClaimFact> {
    let Some(formed) = formed(None, claims) else {
        return Vec::new();
    };
    let ours = |claim: &&ClaimFact| {
        let of = claim.formed.as_ref();
        !claim.leaving && of.is_some_and(|of| of.cluster_id == formed.cluster_id)
    };
    claims.iter().map(|claim| &**claim).filter(ours).collect()
}

/// The recorded fact that the cluster was formed: the `StatefulSet`'s, else that of any claim. Claims outlive their
/// cluster where volumes are retained.
pub fn formed(set: Option<&SetFact>, claims: &[Arc<ClaimFact>]) -> Option<Formed> {
    let on_set = set.and_then(|set| set.formed.clone());
    on_set.or_else(|| {
        let on_claims = claims.iter().filter_map(|claim| claim.formed.clone());
        // Of two the later counts, and of two of one time the one whose id is greater: any order will do, but one.
        on_claims.max_by(|a, b| (a.at, &a.cluster_id).cmp(&(b.at, &b.cluster_id)))
    })
}

/// The node that is recorded at a pod: by the `StatefulSet`, else by its claim.
pub fn recorded(set: Option<&SetFact>, claim: Option<&ClaimFact>, pod: &str) -> Option<NodeId> {
    let on_set = set.and_then(|set| set.nodes.get(pod).copied());
    on_set.or_else(|| claim.and_then(|claim| claim.node))
}

fn seat(sight: &Sight<'_>, ordinal: u32) -> Seat {
    let name = sight.names.pod(ordinal);
    let pod = sight.pods.iter().find(|pod| pod.name == name);
    let claim_name = sight.names.claim(&name);
    let claim = sight.claims.iter().find(|claim| claim.name == claim_name);
    let recorded_id = recorded(sight.set, claim.map(|c| &**c), &name);
    let kept = sight.aof && claim.is_some_and(|claim| claim.node.is_some());
    let gate = pod.and_then(|pod| gate_of(sight, pod));
    Seat {
        address: address(pod.map(|p| &**p)),
        place: place(sight, pod.map(|p| &**p), claim.map(|c| &**c), ordinal),
        process: process(pod.map(|p| &**p), sight.now),
        // The kubelet starts every server; one that its gate holds then waits for a step.
        starter: match gate {
            Some(GateReport::Held { .. }) => Starter::Step,
            Some(GateReport::NotHeld) | None => Starter::Host,
        },
        leaving: pod.is_some_and(|pod| pod.leaving_since.is_some()),
        disk: match gate {
            Some(GateReport::Held { claim }) => Seen::Known(Disk::Stale {
                claim: claim.clone(),
            }),
            Some(GateReport::NotHeld) | None if kept => Seen::Known(Disk::Log),
            Some(GateReport::NotHeld) | None => Seen::Unknown(Why::NotAsked),
        },
        disk_row: None,
        start_failure: None,
        recorded_id,
        outdated: pod.and_then(|pod| outdated(sight, pod)),
        name: ServerName(name),
    }
}

/// Whether a pod does not start, and was made from another template than pods are made from now. One that was ready
/// starts; one whose container runs may yet; one that is leaving is made anew anyhow.
fn outdated(sight: &Sight<'_>, pod: &PodFact) -> Option<OutdatedStart> {
    let newest = sight.set.filter(|set| !set.leaving)?.revision.as_ref()?;
    let made_from = pod
        .revision
        .clone()
        .filter(|made_from| made_from != newest)?;
    if pod.ready || pod.leaving_since.is_some() {
        return None;
    }
    let why = match (&pod.container, &pod.unschedulable) {
        (Container::NotYet(_), Some(why)) | (Container::NotYet(Some(why)), None) => why.clone(),
        (Container::NotYet(None), None) => "its container was not started yet".to_owned(),
        // It ends again and again: the kubelet waits ever longer before it starts it once more.
        (Container::Ended { why, .. }, _) if why.starts_with(CRASH_LOOP) => why.clone(),
        (Container::Ended { .. } | Container::Running { .. }, _) => return None,
    };
    Some(OutdatedStart { made_from, why })
}

/// What the gate of just this pod said: another of the same name has another gate.
fn gate_of<'a>(sight: &Sight<'a>, pod: &PodFact) -> Option<&'a GateReport> {
    let (uid, report) = sight.gates.get(&pod.name)?;
    (*uid == pod.uid).then_some(report)
}

fn address(pod: Option<&PodFact>) -> Seen<Address> {
    let unknown = |how: &str| Seen::Unknown(Why::Unreachable(how.to_owned()));
    let Some(pod) = pod else {
        return unknown("there is no such pod");
    };
    match pod.ip {
        // The address of a pod at its end may be another pod's by now.
        Some(_) if pod.over => unknown("its pod has ended"),
        Some(ip) => Seen::Known(Address {
            bus_port: names::BUS_PORT,
            ..Address::new(Host::Ip(ip), names::CLIENT_PORT)
        }),
        None => match (&pod.unschedulable, &pod.container) {
            (Some(why), _) => unknown(&format!("its pod can't be placed: {why}")),
            (None, Container::NotYet(Some(why))) => {
                unknown(&format!("its pod has no address yet: {why}"))
            }
            (None, _) => unknown("its pod has no address yet"),
        },
    }
}

fn place(
    sight: &Sight<'_>,
    pod: Option<&PodFact>,
    claim: Option<&ClaimFact>,
    ordinal: u32,
) -> Place {
    let volume = claim
        .and_then(|claim| claim.volume.as_ref())
        .and_then(|name| sight.volumes.get(name));
    let tied_to = volume.and_then(|volume| volume.host.clone());
    // Where a volume is tied, its pod will come back, if it is not there now.
    let host = pod
        .and_then(|pod| pod.host.clone())
        .or_else(|| tied_to.clone());
    let of_host = host
        .as_ref()
        .and_then(|name| sight.hosts.get(name)?.zone.clone());
    Place {
        zone: of_host.or_else(|| volume.and_then(|volume| volume.zone.clone())),
        away_since: host.as_ref().and_then(|name| away_since(sight, name)),
        cordoned: host
            .as_ref()
            .and_then(|name| sight.hosts.get(name))
            .is_some_and(|host| host.cordoned),
        tied: tied_to.map(|host| Tied {
            away_since: away_since(sight, &host),
            host,
        }),
        host,
        leave_rank: ordinal,
    }
}

/// Since when a Kubernetes node is known to be away; of one that tells no time, since when we have missed it.
fn away_since(sight: &Sight<'_>, host: &str) -> Option<Timestamp> {
    match sight.hosts.get(host).map(|host| host.state) {
        Some(HostState::Ready) => None,
        Some(HostState::NotReady(since)) if since != HostState::NOT_TOLD => Some(since),
        Some(HostState::NotReady(_)) | None => sight.missed.get(host).copied(),
    }
}

/// The kubelet's word that a container ended proves a death only where no other is started in its place: elsewhere the
/// word may be older than the successor, and the live sandbox itself (it refuses connections) is the quicker witness.
fn process(pod: Option<&PodFact>, now: Timestamp) -> Process {
    let Some(pod) = pod else {
        return Process::Unknown;
    };
    let at_its_end = pod.over || pod.leaving_since.is_some();
    match &pod.container {
        Container::Ended { id, .. } if at_its_end => Process::Dead(Death {
            proof: DeathProof::TerminatedByKubelet {
                container: id.clone(),
            },
            since: now,
        }),
        Container::Ended { .. } | Container::Running { .. } | Container::NotYet(_) => {
            Process::Unknown
        }
    }
}

#[cfg(test)]
#[path = "seats_tests.rs"]
mod tests;
