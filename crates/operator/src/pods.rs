//! What the kubelet and the scheduler say of pods that do not serve, for the status.

use std::sync::Arc;

use shardwright_runtime_kubernetes::names::SERVER_CONTAINER;
use shardwright_runtime_kubernetes::{Container, PodFact};
use shardwright_topology::Timestamp;

use crate::status::{PodNote, PodTrouble};

/// For how long a pod may run and not be ready before that is said, in milliseconds: a server that starts is not yet.
const UNREADY_MS: u64 = 60_000;

/// The pods of which there is something to say, the worst first, then by name.
pub(crate) fn notes(pods: &[Arc<PodFact>], now: Timestamp) -> Vec<PodNote> {
    let mut notes: Vec<PodNote> = pods.iter().filter_map(|pod| note(pod, now)).collect();
    notes.sort_by(|a, b| (a.trouble, &a.pod).cmp(&(b.trouble, &b.pod)));
    notes
}

fn note(pod: &PodFact, now: Timestamp) -> Option<PodNote> {
    let (trouble, text) = match (&pod.unschedulable, &pod.container) {
        (Some(why), _) => (PodTrouble::Unplaced, why.clone()),
        (None, Container::NotYet(Some(why)) | Container::Ended { why, .. }) => {
            (trouble(why), why.clone())
        }
        (None, Container::Running { .. }) => return unready(pod, now),
        (None, Container::NotYet(None)) => return None,
    };
    Some(PodNote {
        pod: pod.name.clone(),
        trouble,
        remedy: remedy(pod, trouble),
        text,
    })
}

/// What there is to say of a pod that is not ready though its server runs: a container beside the server's, or a probe
/// that has failed for a while.
fn unready(pod: &PodFact, now: Timestamp) -> Option<PodNote> {
    if pod.ready || pod.leaving_since.is_some() {
        return None;
    }
    let (namespace, name) = (&pod.cluster.namespace, &pod.name);
    let (text, remedy) = if let Some((container, why)) = &pod.beside {
        (
            format!("its container {container} does not run: {why}"),
            format!("see why: kubectl logs -n {namespace} {name} -c {container}"),
        )
    } else {
        let since = pod.unready_since?;
        if now.since_ms(since) < UNREADY_MS {
            return None;
        }
        (
            "it runs and is not ready".to_owned(),
            format!("see why: kubectl describe pod -n {namespace} {name}"),
        )
    };
    Some(PodNote {
        pod: name.clone(),
        trouble: PodTrouble::Unready,
        text,
        remedy: Some(remedy),
    })
}

/// The first word is the kubelet's reason.
fn trouble(why: &str) -> PodTrouble {
    match why.split([':', ',', ' ']).next() {
        Some("ContainerCreating" | "PodInitializing") => PodTrouble::Starting,
        Some("ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName") => PodTrouble::Image,
        _ => PodTrouble::Failing,
    }
}

/// What a person can do. A pod that does not start is made anew by itself once the template is another.
fn remedy(pod: &PodFact, trouble: PodTrouble) -> Option<String> {
    let (namespace, name) = (&pod.cluster.namespace, &pod.name);
    let cluster = &pod.cluster.name;
    match trouble {
        // Of one that runs, `unready` says it.
        PodTrouble::Starting | PodTrouble::Unready => None,
        PodTrouble::Unplaced => Some(format!(
            "make room for it, or let it ask for less: kubectl describe pod -n {namespace} {name}"
        )),
        PodTrouble::Image => Some(format!(
            "correct the image, and the pod is made anew: kubectl edit rediscluster -n {namespace} {cluster}"
        )),
        PodTrouble::Failing => Some(match &pod.container {
            Container::Ended { .. } => {
                format!("see why: kubectl logs -n {namespace} {name} -c {SERVER_CONTAINER}")
            }
            Container::NotYet(_) | Container::Running { .. } => {
                format!("see why: kubectl describe pod -n {namespace} {name}")
            }
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shardwright_runtime_kubernetes::{MadeWith, ObjectKey};

    fn pod(name: &str, container: Container, unschedulable: Option<&str>) -> Arc<PodFact> {
        Arc::new(PodFact {
            cluster: ObjectKey::new("cache", "redis"),
            name: name.to_owned(),
            uid: "u".to_owned(),
            host: None,
            ip: None,
            leaving_since: None,
            over: false,
            ready: false,
            revision: None,
            container,
            unschedulable: unschedulable.map(str::to_owned),
            beside: None,
            unready_since: None,
            made_with: MadeWith::default(),
        })
    }

    fn not_yet(why: &str) -> Container {
        Container::NotYet(Some(why.to_owned()))
    }

    #[test]
    fn the_worst_comes_first_and_what_to_do_can_be_pasted() {
        let ended = Container::Ended {
            id: "c".to_owned(),
            why: "CrashLoopBackOff, after Error (1)".to_owned(),
        };
        let runs = Container::Running { id: "c".to_owned() };
        let pods = [
            pod("redis-0", not_yet("ContainerCreating"), None),
            pod("redis-1", ended, None),
            pod(
                "redis-2",
                not_yet("CreateContainerConfigError: secret \"x\" not found"),
                None,
            ),
            pod(
                "redis-3",
                not_yet("ImagePullBackOff: image i can't be pulled"),
                None,
            ),
            pod(
                "redis-4",
                Container::NotYet(None),
                Some("0/3 nodes are available"),
            ),
            pod("redis-5", runs, None),
        ];
        let told: Vec<_> = notes(&pods, Timestamp(0))
            .into_iter()
            .map(|note| (note.pod, note.trouble, note.remedy))
            .collect();
        let told: Vec<_> = told
            .iter()
            .map(|(pod, trouble, remedy)| {
                let command = remedy.as_deref().and_then(|r| r.split_once(": "));
                (&**pod, *trouble, command.map(|(_, command)| command))
            })
            .collect();
        assert_eq!(
            told,
            [
                (
                    "redis-4",
                    PodTrouble::Unplaced,
                    Some("kubectl describe pod -n cache redis-4")
                ),
                (
                    "redis-3",
                    PodTrouble::Image,
                    Some("kubectl edit rediscluster -n cache redis")
                ),
                (
                    "redis-1",
                    PodTrouble::Failing,
                    Some("kubectl logs -n cache redis-1 -c redis")
                ),
                (
                    "redis-2",
                    PodTrouble::Failing,
                    Some("kubectl describe pod -n cache redis-2")
                ),
                ("redis-0", PodTrouble::Starting, None),
            ]
        );
    }

    #[test]
    fn a_pod_that_runs_and_is_not_ready_is_told_with_its_containers_reason() {
        let runs = || Container::Running { id: "c".to_owned() };
        let with = |edit: fn(&mut PodFact), now: u64| {
            let mut fact = PodFact::clone(&pod("redis-0", runs(), None));
            edit(&mut fact);
            notes(&[Arc::new(fact)], Timestamp(now))
        };
        let beside = |fact: &mut PodFact| {
            let why = "CrashLoopBackOff, after Error (1)".to_owned();
            fact.beside = Some(("exporter".to_owned(), why));
        };
        let told = with(beside, 0);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].trouble, PodTrouble::Unready);
        assert_eq!(
            told[0].text,
            "its container exporter does not run: CrashLoopBackOff, after Error (1)"
        );
        assert_eq!(
            told[0].remedy.as_deref(),
            Some("see why: kubectl logs -n cache redis-0 -c exporter")
        );
        let since = |fact: &mut PodFact| fact.unready_since = Some(Timestamp(5));
        assert_eq!(with(since, 60_004), []);
        assert_eq!(with(since, 60_005)[0].text, "it runs and is not ready");
        assert_eq!(with(|fact| fact.ready = true, 60_005), []);
    }
}
