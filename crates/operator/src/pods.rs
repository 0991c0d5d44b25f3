//! What the kubelet and the scheduler say of pods that do not serve, for the status.

use std::sync::Arc;

use shardwright_runtime_kubernetes::names::SERVER_CONTAINER;
use shardwright_runtime_kubernetes::{Container, PodFact};

use crate::status::{PodNote, PodTrouble};

/// The pods of which there is something to say, the worst first, then by name.
pub(crate) fn notes(pods: &[Arc<PodFact>]) -> Vec<PodNote> {
    let mut notes: Vec<PodNote> = pods.iter().filter_map(|pod| note(pod)).collect();
    notes.sort_by(|a, b| (a.trouble, &a.pod).cmp(&(b.trouble, &b.pod)));
    notes
}

fn note(pod: &PodFact) -> Option<PodNote> {
    let (trouble, text) = match (&pod.unschedulable, &pod.container) {
        (Some(why), _) => (PodTrouble::Unplaced, why.clone()),
        (None, Container::NotYet(Some(why)) | Container::Ended { why, .. }) => {
            (trouble(why), why.clone())
        }
        (None, Container::NotYet(None) | Container::Running { .. }) => return None,
    };
    Some(PodNote {
        pod: pod.name.clone(),
        trouble,
        remedy: remedy(pod, trouble),
        text,
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
        PodTrouble::Starting => None,
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
    use shardwright_runtime_kubernetes::ObjectKey;

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
        let told: Vec<_> = notes(&pods)
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
}
