//! What is declared and not so in what runs. Pods are made from the template of their time, and servers read their files
//! when they start: until a pod is made anew, an edit of either is only declared. Pure: facts in, fields out.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use shardwright_manifest::Cluster;
use shardwright_topology::Timestamp;

use crate::facts::{PodFact, SetFact, millis};
use crate::names;
use crate::objects::{image, server_resources};

/// How many pods are named of those that lack something.
const NAMES_MAX: usize = 3;

/// A part of the manifest that is declared, and is not so in what runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotApplied {
    /// Its field below `spec`.
    pub field: &'static str,
    /// The pods that have it otherwise, by name; none where it is not about pods.
    pub pods: Vec<String>,
    /// What is so instead.
    pub why: String,
}

impl fmt::Display for NotApplied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

/// What a pod was made with, as far as it is compared.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MadeWith {
    /// The image of the server's container.
    pub image: Option<String>,
    /// What that container asks for, by resource.
    pub requests: BTreeMap<String, String>,
    /// What it may use at most, by resource.
    pub limits: BTreeMap<String, String>,
    /// When the server's container was started that runs now; none while none runs.
    pub started_at: Option<Timestamp>,
}

impl MadeWith {
    /// What this pod was made with.
    pub(crate) fn of(pod: &Pod) -> Self {
        let spec = pod.spec.as_ref();
        let server = spec.and_then(|s| s.containers.iter().find(|c| is_server(&c.name)));
        let resources = server.and_then(|c| c.resources.as_ref());
        let statuses = pod.status.as_ref();
        let statuses = statuses.and_then(|s| s.container_statuses.as_ref());
        let status = statuses.and_then(|all| all.iter().find(|c| is_server(&c.name)));
        let running = status.and_then(|s| s.state.as_ref()?.running.as_ref());
        Self {
            image: server.and_then(|c| c.image.clone()),
            requests: amounts(resources.and_then(|r| r.requests.as_ref())),
            limits: amounts(resources.and_then(|r| r.limits.as_ref())),
            started_at: running.and_then(|r| r.started_at.as_ref()).map(millis),
        }
    }

    /// Whether it has what is asked for. Where only a limit is declared, Kubernetes asks for as much.
    fn has(&self, wanted: Option<&ResourceRequirements>) -> bool {
        let within = |all: &BTreeMap<String, String>, wanted: BTreeMap<String, String>| {
            wanted
                .iter()
                .all(|(key, amount)| all.get(key) == Some(amount))
        };
        within(
            &self.requests,
            amounts(wanted.and_then(|w| w.requests.as_ref())),
        ) && within(
            &self.limits,
            amounts(wanted.and_then(|w| w.limits.as_ref())),
        )
    }
}

fn is_server(container: &str) -> bool {
    container == names::SERVER_CONTAINER
}

fn amounts(all: Option<&BTreeMap<String, Quantity>>) -> BTreeMap<String, String> {
    let all = all.into_iter().flatten();
    all.map(|(key, Quantity(amount))| (key.clone(), amount.clone()))
        .collect()
}

/// A file that servers read when they start: the field that it comes from, and when it was written last.
pub type FileWritten = (&'static str, Timestamp);

/// When we wrote an object last, by its own word.
pub(crate) fn written_at(meta: &ObjectMeta) -> Option<Timestamp> {
    let ours = meta.managed_fields.iter().flatten();
    let ours = ours.filter(|entry| entry.manager.as_deref() == Some(names::FIELD_MANAGER));
    ours.filter_map(|entry| entry.time.as_ref())
        .map(millis)
        .max()
}

/// What is declared and not so. Pods that do not run, or are being deleted, have it as soon as they are made anew.
pub fn not_applied(
    cluster: &Cluster,
    set: Option<&SetFact>,
    pods: &[Arc<PodFact>],
    files: &[FileWritten],
) -> Vec<NotApplied> {
    let stay: Vec<&PodFact> = pods
        .iter()
        .map(|pod| &**pod)
        .filter(|pod| pod.leaving_since.is_none())
        .collect();
    let mut found = of_template(cluster, set, &stay);
    for &(field, written) in files {
        let before = |pod: &&&PodFact| pod.made_with.started_at.is_some_and(|at| at < written);
        let older: Vec<&PodFact> = stay.iter().filter(before).copied().collect();
        found.extend(lacking(field, &older, "started before it was changed"));
    }
    found
}

/// The same of what stands in the template of the pods.
fn of_template(cluster: &Cluster, set: Option<&SetFact>, stay: &[&PodFact]) -> Vec<NotApplied> {
    let Some(newest) = set.and_then(|set| set.revision.as_ref()) else {
        return Vec::new();
    };
    let (image, resources) = (image(cluster), server_resources(cluster));
    let (mut images, mut sizes, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for pod in stay {
        if pod.revision.as_ref().is_none_or(|made| made == newest) {
            continue;
        }
        let other_image = pod
            .made_with
            .image
            .as_ref()
            .is_some_and(|has| *has != image);
        let other_size = !pod.made_with.has(resources.as_ref());
        if other_image {
            images.push(*pod);
        }
        if other_size {
            sizes.push(*pod);
        }
        if !other_image && !other_size {
            others.push(*pod);
        }
    }
    let found = [
        lacking("image", &images, "made with another image"),
        lacking("resources", &sizes, "made with other resources"),
        lacking("pod", &others, "made from an older template"),
    ];
    found.into_iter().flatten().collect()
}

fn lacking(field: &'static str, pods: &[&PodFact], how: &str) -> Option<NotApplied> {
    let names: Vec<String> = pods.iter().map(|pod| pod.name.clone()).collect();
    let shown = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>();
    let more = match names.len().saturating_sub(NAMES_MAX) {
        0 => String::new(),
        more => format!(" (+{more} more)"),
    };
    let were = if names.len() == 1 { "was" } else { "were" };
    let why = format!("{}{more} {were} {how}", shown.join(", "));
    (!names.is_empty()).then_some(NotApplied {
        field,
        pods: names,
        why,
    })
}

#[cfg(test)]
#[path = "not_applied_tests.rs"]
mod tests;
