//! The objects of a cluster on Kubernetes, built from the manifest: pure, the same objects for the
//! same input.
//!
//! The pod template depends on nothing but the manifest. Whatever is decided here for all clusters
//! (an image, a probe, a path) is part of the template of every cluster there is, and changing it
//! would restart them all at the next upgrade of the operator: the snapshots of the tests say so.

mod claims;
mod network;
mod overrides;
mod pod;
mod quantity;
mod standalone;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec, StatefulSetUpdateStrategy};
use k8s_openapi::api::core::v1::{
    ConfigMap, ResourceRequirements, Secret as SecretObject, Service,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::Resource;
use kube::core::{ApiResource, DynamicObject};
use serde::Serialize;
use shardwright_manifest::{
    AclStorage, Cluster, NodeSettings, PasswordSecret, Problem, Problems, REPLICATION_USER,
    RenderError, Replication, SHARDWRIGHT_USER, Secret, redis_conf, replication_auth, users_acl,
};

pub use self::claims::{ClaimChange, claim_change, keep_live_claims};
pub use self::network::{BudgetApi, Evictions, budget_resource};
pub use self::pod::image;
pub use self::standalone::{CREATE_JOB_IMAGE, StandaloneError, standalone};
use crate::names::{self, Names};

/// What the manifest does not say.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// The object of the cluster. What it owns is removed with it.
    pub owner: Option<&'a OwnerReference>,
    /// The passwords that were made here, by the name of the user: see [`passwords_to_make`].
    pub made: &'a BTreeMap<String, Secret>,
    /// The passwords from the Secrets that the manifest names: see [`passwords_to_read`].
    pub read: &'a BTreeMap<String, Secret>,
    /// Which kind of disruption budget the API server knows.
    pub budget: BudgetApi,
    /// The namespace of the operator, which alone reaches the start gates; None where none looks after the cluster, or
    /// it runs in no pod.
    pub operator_namespace: Option<&'a str>,
    /// How many pods there have to be at least: those that are to go keep their place until they
    /// are empty. 0 for as many as the manifest asks for.
    pub pods_min: u32,
}

/// Why objects cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Overrides of the pods that Kubernetes would not take, or that would break the node.
    #[error("the manifest is refused: {}", list(.0))]
    Overrides(Vec<Problem>),
    /// A file of the servers cannot be written.
    #[error("a file for the servers cannot be rendered")]
    Render(#[from] RenderError),
    /// A value that has no place in JSON. Not to be met.
    #[error("the object {name} cannot be written as JSON: {why}")]
    Json {
        /// The object.
        name: String,
        /// What the writer says.
        why: String,
    },
}

fn list(problems: &[Problem]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// The users that need a password and whose manifest names no Secret for it: one is made, once, and
/// kept in the Secret [`Names::passwords_secret`].
pub fn passwords_to_make(cluster: &Cluster) -> Vec<&str> {
    let users = cluster.users().iter();
    users
        .filter(|user| user.needs_password() && user.password_secret().is_none())
        .map(shardwright_manifest::User::name)
        .collect()
}

/// The users whose password lies in a Secret that the manifest names, with its place.
pub fn passwords_to_read(cluster: &Cluster) -> Vec<(&str, &PasswordSecret)> {
    let users = cluster.users().iter();
    users
        .filter_map(|user| Some((user.name(), user.password_secret()?)))
        .collect()
}

/// The users, in the kind of object that the manifest asks for.
#[derive(Clone, PartialEq)]
pub enum AclObject {
    /// Only who may read Secrets may read the hashes.
    Secret(SecretObject),
    /// Whoever may read the configuration may read the hashes.
    ConfigMap(ConfigMap),
}

impl AclObject {
    /// Replaces the text of each file by what `edit` makes of it.
    pub(crate) fn edit(&mut self, edit: impl Fn(&str) -> String) {
        match self {
            Self::Secret(secret) => {
                for bytes in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
                    let text = edit(&String::from_utf8_lossy(&bytes.0));
                    bytes.0 = text.into_bytes();
                }
            }
            Self::ConfigMap(map) => {
                for text in map.data.iter_mut().flat_map(BTreeMap::values_mut) {
                    *text = edit(text);
                }
            }
        }
    }
}

/// All objects of a cluster.
#[derive(Clone, PartialEq)]
pub struct Objects {
    /// `redis.conf`.
    pub config: ConfigMap,
    /// `users.acl`.
    pub acl: AclObject,
    /// What replicas and probes log in with.
    pub auth: SecretObject,
    /// The passwords that were made; None if none was.
    pub passwords: Option<SecretObject>,
    /// Names in DNS for every pod, ready or not.
    pub headless: Service,
    /// For clients: pods that are ready.
    pub clients: Service,
    /// Who may connect to what.
    pub network: NetworkPolicy,
    /// At most one pod away at a time, where someone asks first.
    pub budget: DynamicObject,
    /// The pods and their volumes.
    pub stateful_set: StatefulSet,
}

/// One object, and how the API server calls its kind.
#[derive(Clone, PartialEq)]
pub struct Built {
    /// The kind.
    pub resource: ApiResource,
    /// The object.
    pub object: DynamicObject,
}

// There are passwords in some of these: only names are shown.
impl fmt::Debug for Built {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.object.metadata.name;
        write!(f, "Built({} {name:?})", self.resource.kind)
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({:?})", self.stateful_set.metadata.name)
    }
}

impl Built {
    pub(crate) fn of<K: Resource<DynamicType = ()> + Serialize>(
        object: &K,
    ) -> Result<Self, BuildError> {
        let resource = ApiResource::erase::<K>(&());
        let object = dynamic(&resource, object.meta().name.as_deref(), object)?;
        Ok(Self { resource, object })
    }
}

fn dynamic(
    resource: &ApiResource,
    name: Option<&str>,
    object: &impl Serialize,
) -> Result<DynamicObject, BuildError> {
    let failed = |e: serde_json::Error| BuildError::Json {
        name: format!("{} {}", resource.kind, name.unwrap_or("without a name")),
        why: e.to_string(),
    };
    serde_json::to_value(object)
        .and_then(serde_json::from_value)
        .map_err(failed)
}

impl Objects {
    /// All of them, in the order to apply them in: what a pod mounts comes before the pods.
    pub fn list(&self) -> Result<Vec<Built>, BuildError> {
        let acl = match &self.acl {
            AclObject::Secret(secret) => Built::of(secret),
            AclObject::ConfigMap(map) => Built::of(map),
        };
        let mut list = vec![Built::of(&self.config)?, acl?, Built::of(&self.auth)?];
        if let Some(passwords) = &self.passwords {
            list.insert(0, Built::of(passwords)?);
        }
        list.extend([
            Built::of(&self.headless)?,
            Built::of(&self.clients)?,
            Built::of(&self.network)?,
            Built {
                resource: budget_resource(match self.budget.types.as_ref() {
                    Some(types) if types.api_version == "policy/v1beta1" => BudgetApi::V1Beta1,
                    _ => BudgetApi::V1,
                }),
                object: self.budget.clone(),
            },
            Built::of(&self.stateful_set)?,
        ]);
        Ok(list)
    }

    /// The object that held the users before `acl.storage` was changed: to be removed if it is
    /// there. Its kind; its name is that of the one that holds them now.
    pub fn superseded_acl(&self) -> ApiResource {
        match &self.acl {
            AclObject::Secret(_) => ApiResource::erase::<ConfigMap>(&()),
            AclObject::ConfigMap(_) => ApiResource::erase::<SecretObject>(&()),
        }
    }
}

/// Whether pods can be made of the overrides in the manifest.
///
/// # Errors
/// Every problem of theirs: what [`build`] refuses too.
pub fn check_overrides(cluster: &Cluster) -> Result<(), Problems> {
    let problems = pod::template(cluster, &Names::of(cluster)).err();
    problems.and_then(Problems::of).map_or(Ok(()), Err)
}

/// Builds all objects of `cluster`. Fails with every problem of the overrides at once, or where a
/// password is missing.
pub fn build(cluster: &Cluster, given: &Given<'_>) -> Result<Objects, BuildError> {
    let names = Names::of(cluster);
    let make = Maker {
        cluster,
        names: &names,
        owner: given.owner,
    };
    let mut passwords = given.made.clone();
    passwords.extend(given.read.clone());
    let pod = pod::template(cluster, &names).map_err(BuildError::Overrides)?;
    Ok(Objects {
        config: config_map(&make)?,
        acl: acl(&make, &passwords)?,
        auth: auth(&make, &passwords)?,
        passwords: (!given.made.is_empty()).then(|| made_passwords(&make, given.made)),
        headless: network::headless(&make),
        clients: network::clients(&make),
        network: network::policy(&make, &pod, given),
        budget: network::budget(&make, given.budget, Evictions::default())?,
        stateful_set: StatefulSet {
            metadata: make.metadata(names.stateful_set()),
            spec: StatefulSetSpec {
                replicas: Some(count(cluster.nodes().max(given.pods_min))),
                service_name: Some(names.headless_service().to_owned()),
                pod_management_policy: Some("Parallel".to_owned()),
                // Who restarts when is decided by the planner, which knows who is a primary.
                update_strategy: Some(StatefulSetUpdateStrategy {
                    type_: Some("OnDelete".to_owned()),
                    rolling_update: None,
                }),
                selector: LabelSelector {
                    match_labels: Some(names.selector()),
                    match_expressions: None,
                },
                template: pod,
                volume_claim_templates: Some(vec![claims::template(cluster, &names)]),
                ..StatefulSetSpec::default()
            },
            status: None,
        },
    })
}

/// What the server's container is to ask for, and may use at most; none where nothing is declared.
pub(crate) fn server_resources(cluster: &Cluster) -> Option<ResourceRequirements> {
    pod::server_resources(cluster)
}

/// Builds the disruption budget alone, which lets so many pods go.
///
/// # Errors
/// [`BuildError::Json`], which is not to be met.
pub fn build_budget(
    cluster: &Cluster,
    owner: &OwnerReference,
    api: BudgetApi,
    evictions: Evictions,
) -> Result<Built, BuildError> {
    let names = Names::of(cluster);
    let make = Maker {
        cluster,
        names: &names,
        owner: Some(owner),
    };
    Ok(Built {
        resource: budget_resource(api),
        object: network::budget(&make, api, evictions)?,
    })
}

/// A count of pods as Kubernetes holds it. The manifest bounds it by 11000.
fn count(pods: u32) -> i32 {
    i32::try_from(pods).unwrap_or(i32::MAX)
}

/// What the makers of objects share.
struct Maker<'a> {
    cluster: &'a Cluster,
    names: &'a Names,
    owner: Option<&'a OwnerReference>,
}

impl Maker<'_> {
    /// The metadata of an object that goes with the cluster. The labels of the manifest are on it,
    /// but never instead of ours.
    fn metadata(&self, name: &str) -> ObjectMeta {
        let mut labels = self.cluster.labels().clone();
        labels.extend(self.names.labels());
        ObjectMeta {
            name: Some(name.to_owned()),
            namespace: Some(self.names.namespace().to_owned()),
            labels: Some(labels),
            owner_references: self.owner.map(|owner| vec![owner.clone()]),
            ..ObjectMeta::default()
        }
    }
}

/// How each server of the cluster is set up. What differs from pod to pod comes with its command
/// line, and what is secret from a file of its own.
fn node_settings() -> NodeSettings {
    NodeSettings {
        port: names::CLIENT_PORT,
        bus_port: None,
        bind: Vec::new(),
        dir: names::DATA_DIR.into(),
        nodes_file: format!("{}/{}", names::DATA_DIR, names::NODES_FILE),
        acl_file: format!("{}/{}", names::ACL_DIR, names::ACL_FILE).into(),
        auth_file: format!("{}/{}", names::AUTH_DIR, names::REPLICATION_FILE).into(),
        pid_file: None,
        log_file: None,
        announce_ip: None,
        announce_hostname: None,
    }
}

fn config_map(make: &Maker<'_>) -> Result<ConfigMap, BuildError> {
    let conf = redis_conf(make.cluster, &node_settings())?;
    Ok(ConfigMap {
        metadata: make.metadata(&make.names.config_map()),
        data: Some(BTreeMap::from([(names::CONFIG_FILE.to_owned(), conf)])),
        ..ConfigMap::default()
    })
}

fn acl(make: &Maker<'_>, passwords: &BTreeMap<String, Secret>) -> Result<AclObject, BuildError> {
    // Both, whatever the version: pods of another one may run on for a while, and start again with what is mounted.
    let mut files = BTreeMap::new();
    for (file, rights) in [
        (names::ACL_FILE, Replication::Copies),
        (names::MOVING_ACL_FILE, Replication::CopiesAndMoves),
    ] {
        let text = users_acl(make.cluster, passwords, rights)?;
        files.insert(file.to_owned(), text);
    }
    let metadata = make.metadata(&make.names.acl());
    Ok(match make.cluster.kubernetes().acl_storage {
        AclStorage::Secret => AclObject::Secret(secret(metadata, files)),
        AclStorage::ConfigMap => AclObject::ConfigMap(ConfigMap {
            metadata,
            data: Some(files),
            ..ConfigMap::default()
        }),
    })
}

fn auth(
    make: &Maker<'_>,
    passwords: &BTreeMap<String, Secret>,
) -> Result<SecretObject, BuildError> {
    let of = |user: &str| {
        passwords
            .get(user)
            .ok_or_else(|| RenderError::NoPassword(vec![user.to_owned()]))
    };
    let replication = replication_auth(of(REPLICATION_USER)?)?;
    let ours = of(SHARDWRIGHT_USER)?;
    Ok(secret(
        make.metadata(&make.names.auth_secret()),
        [
            (
                names::REPLICATION_FILE.to_owned(),
                replication.expose().to_owned(),
            ),
            (names::PASSWORD_FILE.to_owned(), ours.expose().to_owned()),
        ],
    ))
}

/// The made passwords. Where the volumes outlive the cluster, so do they: who takes the data up
/// again has clients that know them.
fn made_passwords(make: &Maker<'_>, passwords: &BTreeMap<String, Secret>) -> SecretObject {
    let mut metadata = make.metadata(&make.names.passwords_secret());
    if make.cluster.kubernetes().retain_volumes {
        metadata.owner_references = None;
    }
    secret(
        metadata,
        passwords
            .iter()
            .map(|(user, password)| (user.clone(), password.expose().to_owned())),
    )
}

fn secret(metadata: ObjectMeta, data: impl IntoIterator<Item = (String, String)>) -> SecretObject {
    let bytes = |(key, text): (String, String)| (key, ByteString(text.into_bytes()));
    SecretObject {
        metadata,
        type_: Some("Opaque".to_owned()),
        data: Some(data.into_iter().map(bytes).collect()),
        ..SecretObject::default()
    }
}

/// The Secrets, other than our own, that the objects of a cluster are made from: a change of one
/// is a reason to build again.
pub fn secrets_used(cluster: &Cluster) -> BTreeSet<&str> {
    passwords_to_read(cluster)
        .into_iter()
        .map(|(_, secret)| secret.name.as_str())
        .collect()
}

#[cfg(test)]
#[path = "objects/tests.rs"]
mod tests;
