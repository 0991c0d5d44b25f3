//! The same cluster for those who run no operator: all objects as documents for `kubectl apply`,
//! and a Job that forms the cluster once.
//!
//! What an operator does while a cluster lives, nobody does here. Two things follow.
//! - The start gate would hold a server that lost its memory, and nobody would release it. It holds
//!   none that has an append-only file, so a cluster without one is refused.
//! - After all pods were gone at once, each has a new address and no one tells the others: a person
//!   has to delete the Job and to apply it again, and it brings the nodes together.

use std::collections::BTreeMap;

use k8s_openapi::api::batch::v1::{Job, JobSpec};
use k8s_openapi::api::core::v1::{
    Container, LocalObjectReference, Namespace, PodSecurityContext, PodSpec, PodTemplateSpec,
    ResourceRequirements, SeccompProfile, SecretVolumeSource, Volume,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use shardwright_manifest::{Cluster, SHARDWRIGHT_USER};

use super::{BuildError, Built, Given, build, pod, quantity};
use crate::names::{self, Names};

/// The image that the Job runs: the one of the operator, of this version.
pub const CREATE_JOB_IMAGE: &str = concat!(
    "ghcr.io/shardwright/shardwright:",
    env!("CARGO_PKG_VERSION")
);

/// How often the Job tries: until the last pod answers, with growing pauses, for hours.
const ATTEMPTS: i32 = 30;
/// How long one attempt may take, in seconds.
const ATTEMPT_SECONDS: u32 = 120;
/// A user that no image has any files of.
const NOBODY: i64 = 65532;

/// Why a cluster cannot be had without an operator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StandaloneError {
    /// Without the append-only file a server that starts again is empty, and makes its replicas so.
    #[error(
        "spec.persistence.aof is false: a server that starts again without its data is held until an operator has promoted a replica, and here is none; keep the append-only file, or run the operator (shardwright install)"
    )]
    NoAppendOnlyFile,
    /// The objects cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// All documents, in the order to apply them in. `image` is that of the Job.
pub fn standalone(
    cluster: &Cluster,
    given: &Given<'_>,
    image: &str,
) -> Result<Vec<Value>, StandaloneError> {
    if !cluster.persistence().aof {
        return Err(StandaloneError::NoAppendOnlyFile);
    }
    let names = Names::of(cluster);
    let mut list = Vec::new();
    if names.namespace() != names::DEFAULT_NAMESPACE {
        list.push(Built::of(&Namespace {
            metadata: ObjectMeta {
                name: Some(names.namespace().to_owned()),
                ..ObjectMeta::default()
            },
            ..Namespace::default()
        })?);
    }
    list.extend(build(cluster, given)?.list()?);
    list.push(Built::of(&create_job(cluster, &names, image))?);
    let documents = list.into_iter().map(|built| {
        let name = format!("{built:?}");
        serde_json::to_value(built.object).map_err(|e| {
            StandaloneError::Build(BuildError::Json {
                name,
                why: e.to_string(),
            })
        })
    });
    documents.collect()
}

/// Forms the cluster. Where it was formed, brings its nodes together or does nothing, so it may run
/// again.
fn create_job(cluster: &Cluster, names: &Names, image: &str) -> Job {
    let mut labels = cluster.labels().clone();
    labels.extend(names.labels());
    labels.insert(names::COMPONENT_LABEL.to_owned(), "create".to_owned());
    // Not those of the nodes, or Services and the disruption budget would take it for one.
    let pod_labels = [
        (names::NAME_LABEL, "redis-cluster-create"),
        (names::INSTANCE_LABEL, names.cluster()),
        (names::MANAGED_BY_LABEL, names::MANAGED_BY),
    ];
    let by_platform = cluster.kubernetes().pod.platform_user_ids == Some(true);
    let user = (!by_platform).then_some(NOBODY);
    let secrets = cluster.kubernetes().image_pull_secrets.iter();
    let pull: Vec<_> = secrets
        .map(|name| LocalObjectReference { name: name.clone() })
        .collect();
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-create", names.cluster())),
            namespace: Some(names.namespace().to_owned()),
            labels: Some(labels),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(ATTEMPTS),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(
                        pod_labels
                            .map(|(key, value)| (key.to_owned(), value.to_owned()))
                            .into(),
                    ),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    restart_policy: Some("OnFailure".to_owned()),
                    automount_service_account_token: Some(false),
                    enable_service_links: Some(false),
                    security_context: Some(PodSecurityContext {
                        run_as_non_root: Some(true),
                        run_as_user: user,
                        run_as_group: user,
                        fs_group: user,
                        seccomp_profile: Some(SeccompProfile {
                            type_: "RuntimeDefault".to_owned(),
                            localhost_profile: None,
                        }),
                        ..PodSecurityContext::default()
                    }),
                    image_pull_secrets: (!pull.is_empty()).then_some(pull),
                    containers: vec![create_container(cluster, names, image)],
                    volumes: Some(vec![Volume {
                        name: names::AUTH_VOLUME.to_owned(),
                        secret: Some(SecretVolumeSource {
                            secret_name: Some(names.auth_secret()),
                            default_mode: Some(pod::SECRET_MODE),
                            ..SecretVolumeSource::default()
                        }),
                        ..Volume::default()
                    }]),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

fn create_container(cluster: &Cluster, names: &Names, image: &str) -> Container {
    let mut args = vec!["create".to_owned()];
    args.extend((0..cluster.nodes()).map(|ordinal| {
        let host = names.pod_host(&names.pod(ordinal));
        format!("{host}:{}", names::CLIENT_PORT)
    }));
    let options = [
        "--replicas".to_owned(),
        cluster.replicas_per_shard().to_string(),
        "--yes".to_owned(),
        "--unless-formed".to_owned(),
        "--timeout".to_owned(),
        ATTEMPT_SECONDS.to_string(),
        "--user".to_owned(),
        SHARDWRIGHT_USER.to_owned(),
        "--password-file".to_owned(),
        format!("{}/{}", names::AUTH_DIR, names::PASSWORD_FILE),
    ];
    args.extend(options);
    Container {
        name: "create".to_owned(),
        image: Some(image.to_owned()),
        args: Some(args),
        resources: Some(ResourceRequirements {
            requests: Some(BTreeMap::from([
                ("cpu".to_owned(), quantity::milli(10)),
                ("memory".to_owned(), quantity::bytes(32 << 20)),
            ])),
            limits: Some(BTreeMap::from([(
                "memory".to_owned(),
                quantity::bytes(128 << 20),
            )])),
            claims: None,
        }),
        termination_message_policy: Some(pod::MESSAGE_POLICY.to_owned()),
        security_context: Some(pod::confined()),
        volume_mounts: Some(vec![pod::mount(names::AUTH_VOLUME, names::AUTH_DIR, true)]),
        ..Container::default()
    }
}
