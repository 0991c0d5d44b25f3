//! Brings a cluster's objects to what is wanted. Server-side apply, and only where what there is differs: an idle
//! cluster costs no write.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{ApiResource, DynamicObject};
use kube::{Api, ResourceExt};
use shardwright_engine::Access;
use shardwright_manifest::{API_VERSION, Cluster, KIND, Secret};
use shardwright_topology::Timestamp;

use crate::facts::{ObjectKey, state_of};
use crate::names::{self, Names};
use crate::not_applied::{FileWritten, NotApplied, written_at};
use crate::object::ClusterObject;
use crate::objects::{self, BuildError, Built, Given, Objects};
use crate::passwords::{PasswordError, Passwords};
use crate::request::{RequestError, ask};
use crate::settings::UnknownSettings;
use crate::wake::Wake;
use crate::world::{Marked, World};

/// How often Secrets are looked at where they may not be watched: who may watch them may read them all.
const AGAIN: Duration = Duration::from_secs(60);
/// How soon objects are looked at again only because something changed. Pods that start change several times a second, and
/// each look reads the Secrets anew.
const CHANGED_AGAIN: Duration = Duration::from_millis(500);
/// How long a watch may lag behind a write before its word counts against what was written.
const WATCH_LAG: Duration = Duration::from_secs(5);

/// Objects could not be brought to what is wanted.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// A request failed.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// A password can't be had.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// A running server does not know a setting.
    #[error("nothing was changed")]
    UnknownSettings(#[from] UnknownSettings),
    /// The objects can't be built from this manifest.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// There is another object of this name.
    #[error("the {kind} {name} is there already, and {}", whose(.owner.as_deref()))]
    Taken {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
        /// Whose it is, if that is known.
        owner: Option<String>,
    },
    /// The object still belongs to a cluster of this name that was deleted.
    #[error(
        "the {kind} {name} belongs to an earlier cluster of this name; waiting until it is removed"
    )]
    NotYetGone {
        /// Its kind.
        kind: String,
        /// Its name.
        name: String,
    },
}

impl ApplyError {
    /// Whether it failed because the namespace is being deleted.
    pub fn namespace_ends(&self) -> bool {
        match self {
            Self::Request(error) | Self::Password(PasswordError::Request(error)) => {
                error.namespace_ends()
            }
            Self::Password(_)
            | Self::UnknownSettings(_)
            | Self::Build(_)
            | Self::Taken { .. }
            | Self::NotYetGone { .. } => false,
        }
    }
}

/// Nothing that others need is to be removed on our word.
fn whose(owner: Option<&str>) -> String {
    match owner {
        Some(owner) => format!("belongs to {owner}: name this cluster otherwise"),
        None => {
            "is not ours: name this cluster otherwise, or remove it once nobody needs it".to_owned()
        }
    }
}

/// Whose an object is that is not ours: of another cluster here, or of what is said to own it.
fn owner_of(there: &ObjectMeta) -> Option<String> {
    let label = |key: &str| there.labels.as_ref().and_then(|l| l.get(key));
    let managed = label(names::MANAGED_BY_LABEL).map(String::as_str) == Some(names::MANAGED_BY);
    if managed && let Some(cluster) = label(names::INSTANCE_LABEL) {
        return Some(format!("the {KIND} {cluster}"));
    }
    let owner = there.owner_references.iter().flatten().next()?;
    Some(format!("the {} {}", owner.kind, owner.name))
}

/// What an apply did.
#[derive(Clone, Debug)]
pub struct Applied {
    /// What was written, such as `StatefulSet redis`.
    pub changed: Vec<String>,
    /// What is wanted and can't be had, and what stays instead.
    pub warnings: Vec<String>,
    /// Those of the warnings that say that a field is declared and not so.
    pub unmet: Vec<NotApplied>,
    /// What is under way, such as the `StatefulSet` being made anew; the cluster's signal rings when to go on.
    pub pending: Vec<String>,
    /// Passwords that were changed in their Secrets and that the servers do not get: one text for each user.
    pub passwords_not_applied: Vec<String>,
    /// How we log in at the servers.
    pub access: Access,
    /// When the files that servers read at their start were written last, by the field that they come from.
    pub files: Vec<FileWritten>,
    /// How long until it is to be done again, where something changed a moment after the last one.
    pub again_after: Option<Duration>,
    /// Settings that a running server does not know: where there are any, nothing was written.
    pub refused: Option<UnknownSettings>,
}

/// Applies one cluster's objects, again and again.
#[derive(Debug)]
pub struct Applier {
    pub(crate) world: World,
    pub(crate) key: ObjectKey,
    pub(crate) names: Names,
    wake: Wake,
    /// Something changed, and was not looked at yet.
    changed: bool,
    /// The namespace of the operator's own pod, if it runs in one.
    operator_namespace: Option<String>,
    done: Option<Done>,
    /// The names of settings that the servers know, as they said themselves.
    pub(crate) known_settings: BTreeSet<String>,
    written: BTreeMap<(String, String), Written>,
    /// The passwords that were found to be those of the objects that pods mount.
    pub(crate) in_use: Option<BTreeMap<String, Secret>>,
    /// When objects were written last, by the API server's word, by name.
    written_at: BTreeMap<String, Timestamp>,
}

/// The last apply that went well.
#[derive(Debug)]
struct Done {
    at: Instant,
    uid: String,
    cluster: Cluster,
    applied: Applied,
}

/// What was written of an object last.
#[derive(Debug)]
struct Written {
    wanted: u64,
    /// Its state after that.
    after: u64,
    /// What the watch said then. It may say so a little longer.
    before: Option<(Marked, Instant)>,
}

/// What one run does, as it goes along.
pub(crate) struct Run<'a> {
    pub(crate) owner: &'a OwnerReference,
    pub(crate) changed: Vec<String>,
    pub(crate) warnings: Vec<String>,
    unmet: Vec<NotApplied>,
    pub(crate) pending: Vec<String>,
    pub(crate) passwords_not_applied: Vec<String>,
}

impl<'a> Run<'a> {
    pub(crate) fn new(owner: &'a OwnerReference) -> Self {
        Self {
            owner,
            changed: Vec::new(),
            warnings: Vec::new(),
            unmet: Vec::new(),
            pending: Vec::new(),
            passwords_not_applied: Vec::new(),
        }
    }

    /// Warns that what this field of the manifest declares is not so, and why.
    pub(crate) fn warn_of(&mut self, field: &'static str, why: String) {
        self.unmet.push(NotApplied {
            field,
            pods: Vec::new(),
            why: why.clone(),
        });
        self.warnings.push(why);
    }
}

impl Applier {
    /// An applier of the objects of the cluster of this name. `operator_namespace`: that of the pod of whoever applies,
    /// if it runs in one.
    pub fn new(world: World, key: ObjectKey, operator_namespace: Option<String>) -> Self {
        Self {
            names: Names::new(&key.name, &key.namespace),
            wake: world.wake(&key),
            world,
            key,
            changed: false,
            operator_namespace,
            done: None,
            known_settings: BTreeSet::new(),
            written: BTreeMap::new(),
            in_use: None,
            written_at: BTreeMap::new(),
        }
    }

    /// When the files of the servers were written last, by the field of the manifest that they come from.
    fn files(&self) -> Vec<FileWritten> {
        let files = [
            ("config", self.names.config_map()),
            ("users", self.names.acl()),
        ];
        let files = files.into_iter();
        files
            .filter_map(|(field, name)| Some((field, *self.written_at.get(&name)?)))
            .collect()
    }

    /// Brings all objects to what is wanted. Where nothing changed since the last time, nothing is asked either. Where a
    /// running server does not know a setting that is to be written, nothing is, and it is told in [`Applied::refused`].
    pub async fn apply(
        &mut self,
        object: &ClusterObject,
        cluster: &Cluster,
    ) -> Result<Applied, ApplyError> {
        self.changed |= self.wake.has_rung();
        let last = self.done.as_ref().filter(|done| {
            done.at.elapsed() < AGAIN && done.uid == object.uid && done.cluster == *cluster
        });
        if let Some(done) = last
            && let Rest::For(again_after) = rest(self.changed, done.at.elapsed())
        {
            return Ok(Applied {
                changed: Vec::new(),
                again_after,
                ..done.applied.clone()
            });
        }
        self.changed = false;
        self.done = None;
        let owner = owner(object);
        let mut run = Run::new(&owner);
        let (access, refused) = Box::pin(self.apply_all(cluster, &mut run)).await?;
        let applied = Applied {
            changed: run.changed,
            warnings: run.warnings,
            unmet: run.unmet,
            pending: run.pending,
            passwords_not_applied: run.passwords_not_applied,
            access,
            files: self.files(),
            again_after: None,
            refused,
        };
        if applied.refused.is_some() {
            return Ok(applied);
        }
        self.done = Some(Done {
            at: Instant::now(),
            uid: object.uid.clone(),
            cluster: cluster.clone(),
            applied: applied.clone(),
        });
        Ok(applied)
    }

    async fn apply_all(
        &mut self,
        cluster: &Cluster,
        run: &mut Run<'_>,
    ) -> Result<(Access, Option<UnknownSettings>), ApplyError> {
        let client = self.world.client().clone();
        let mut passwords = Passwords::gather(&client, &self.names, cluster).await?;
        let mut objects = objects::build(
            cluster,
            &Given {
                owner: Some(run.owner),
                made: &passwords.made,
                read: &passwords.read,
                budget: self.world.budget_api(),
                operator_namespace: self.operator_namespace.as_deref(),
                pods_min: 0,
            },
        )?;
        let access = self
            .keep_passwords(cluster, &mut passwords, &mut objects, run)
            .await?;
        if let Some(unknown) = self.unknown_settings(cluster, &access).await {
            if !self.stand_in_file(&unknown.names).await? {
                return Ok((access, Some(unknown)));
            }
            run.warn_of("config", unknown.to_string());
        }
        if let Some(first) = &objects.passwords
            && passwords.keep(&client, &self.names, first).await?
        {
            run.changed
                .push(format!("Secret {}", self.names.passwords_secret()));
        }
        for mut built in objects.list()? {
            if built.resource.kind == "Secret" && is_named(&built, &self.names.passwords_secret()) {
                // What is in it is kept as it is, even where a person changed it.
                if let Some(fields) = built.object.data.as_object_mut() {
                    fields.remove("data");
                }
            }
            match built.resource.kind.as_str() {
                "StatefulSet" => self.apply_set(&objects, built, run).await?,
                // How many pods may go is known once the servers were asked: see `limit_evictions`.
                "PodDisruptionBudget" => {}
                _ => self.apply_one(&built, run).await?,
            }
        }
        self.remove_superseded(&objects, run).await?;
        self.warn_of_claims(cluster, run);
        self.tend_claims(cluster, run).await?;
        Ok((access, None))
    }

    /// Applies one object, unless it is known to be as it is wanted.
    pub(crate) async fn apply_one(
        &mut self,
        built: &Built,
        run: &mut Run<'_>,
    ) -> Result<(), ApplyError> {
        let wanted = hash_of(built)?;
        if !self.needs_write(built, wanted).await? {
            return Ok(());
        }
        self.refuse_others(built, run).await?;
        self.write(built, wanted, run).await
    }

    /// Whether an object is not known to be as it was written last.
    pub(crate) async fn needs_write(
        &mut self,
        built: &Built,
        wanted: u64,
    ) -> Result<bool, ApplyError> {
        let (kind, name) = id_of(built);
        let key = ObjectKey::new(self.names.namespace(), &name);
        let mut marked = self.world.mark(&kind, &key);
        if !self.written.contains_key(&(kind.clone(), name.clone())) {
            return Ok(true);
        }
        if marked == Marked::NotWatched {
            let there = self.metadata(built).await?;
            marked = there.map_or(Marked::Absent, |meta| Marked::State(state_of(&meta)));
        }
        let Some(written) = self.written.get_mut(&(kind, name)) else {
            return Ok(true);
        };
        if marked == Marked::State(written.after) {
            written.before = None;
            return Ok(written.wanted != wanted);
        }
        let lags = written
            .before
            .is_some_and(|(before, at)| before == marked && at.elapsed() < WATCH_LAG);
        Ok(written.wanted != wanted || !lags)
    }

    /// Refuses to take over what is not ours.
    pub(crate) async fn refuse_others(
        &self,
        built: &Built,
        run: &Run<'_>,
    ) -> Result<(), ApplyError> {
        let Some(there) = self.metadata(built).await? else {
            return Ok(());
        };
        let (kind, name) = id_of(built);
        let label = |key: &str| there.labels.as_ref().and_then(|l| l.get(key));
        let ours = label(names::MANAGED_BY_LABEL).map(String::as_str) == Some(names::MANAGED_BY)
            && label(names::INSTANCE_LABEL) == Some(&self.key.name);
        if !ours {
            let owner = owner_of(&there);
            return Err(ApplyError::Taken { kind, name, owner });
        }
        let mut owners = there.owner_references.iter().flatten();
        if there.deletion_timestamp.is_some()
            || owners.any(|o| o.kind == KIND && o.uid != run.owner.uid)
        {
            return Err(ApplyError::NotYetGone { kind, name });
        }
        Ok(())
    }

    pub(crate) async fn write(
        &mut self,
        built: &Built,
        wanted: u64,
        run: &mut Run<'_>,
    ) -> Result<(), ApplyError> {
        let (kind, name) = id_of(built);
        let key = ObjectKey::new(self.names.namespace(), &name);
        let before = self.world.mark(&kind, &key);
        let what = || format!("apply the {kind} {name}");
        let params = PatchParams::apply(names::FIELD_MANAGER).force();
        let api = self.api(&built.resource);
        let there = ask(
            what,
            api.patch(&name, &params, &Patch::Apply(&built.object)),
        )
        .await?;
        let after = state_of(&there.metadata);
        if let Some(at) = written_at(&there.metadata) {
            self.written_at.insert(name.clone(), at);
        }
        // A write that changed nothing is none.
        if before != Marked::State(after) {
            run.changed.push(format!("{kind} {name}"));
        }
        let before = Some((before, Instant::now()));
        let written = Written {
            wanted,
            after,
            before,
        };
        self.written.insert((kind, name), written);
        Ok(())
    }

    /// Removes the object that held the users before `acl.storage` was changed.
    async fn remove_superseded(
        &mut self,
        objects: &Objects,
        run: &mut Run<'_>,
    ) -> Result<(), ApplyError> {
        let (resource, name) = (objects.superseded_acl(), self.names.acl());
        let key = ObjectKey::new(self.names.namespace(), &name);
        if self.world.mark(&resource.kind, &key) == Marked::Absent {
            return Ok(());
        }
        let built = Built {
            object: DynamicObject::new(&name, &resource),
            resource,
        };
        let Some(there) = self.metadata(&built).await? else {
            return Ok(());
        };
        let mut owners = there.owner_references.iter().flatten();
        if owners.any(|o| o.uid == run.owner.uid) {
            self.delete(&built.resource, &name, &there, DeleteParams::default())
                .await?;
            run.changed.push(format!("{} {name}", built.resource.kind));
        }
        Ok(())
    }

    /// Deletes just this object: another of the same name is left alone.
    pub(crate) async fn delete(
        &self,
        resource: &ApiResource,
        name: &str,
        meta: &ObjectMeta,
        params: DeleteParams,
    ) -> Result<(), RequestError> {
        let params = params.preconditions(Preconditions {
            uid: meta.uid.clone(),
            resource_version: None,
        });
        let what = || format!("delete the {} {name}", resource.kind);
        ask(what, self.api(resource).delete(name, &params)).await?;
        Ok(())
    }

    async fn metadata(&self, built: &Built) -> Result<Option<ObjectMeta>, RequestError> {
        let (kind, name) = id_of(built);
        let api = self.api(&built.resource);
        let there = ask(
            || format!("look at the {kind} {name}"),
            api.get_metadata_opt(&name),
        )
        .await?;
        Ok(there.map(|there| there.metadata))
    }

    pub(crate) fn api(&self, resource: &ApiResource) -> Api<DynamicObject> {
        let client = self.world.client().clone();
        Api::namespaced_with(client, self.names.namespace(), resource)
    }
}

/// Whether objects are to be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Rest {
    /// Now.
    No,
    /// Not before this time, or not until something changes.
    For(Option<Duration>),
}

/// Whether to look, where the last look is so long ago. What changes again and again is looked at every
/// [`CHANGED_AGAIN`].
fn rest(changed: bool, since: Duration) -> Rest {
    match CHANGED_AGAIN.checked_sub(since) {
        _ if !changed => Rest::For(None),
        Some(left) if !left.is_zero() => Rest::For(Some(left)),
        Some(_) | None => Rest::No,
    }
}

/// The `RedisCluster` object as the owner of what is made from it.
pub(crate) fn owner(object: &ClusterObject) -> OwnerReference {
    OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        name: object.key.name.clone(),
        uid: object.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

fn id_of(built: &Built) -> (String, String) {
    (built.resource.kind.clone(), built.object.name_any())
}

fn is_named(built: &Built, name: &str) -> bool {
    built.object.metadata.name.as_deref() == Some(name)
}

/// Tells two wanted objects apart.
pub(crate) fn hash_of(built: &Built) -> Result<u64, ApplyError> {
    let text = serde_json::to_string(&built.object).map_err(|e| BuildError::Json {
        name: built.object.name_any(),
        why: e.to_string(),
    })?;
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    Ok(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_an_object_is_that_stands_in_the_way_is_told() {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let of_redis = ObjectMeta {
            labels: Some(BTreeMap::from([
                label(names::MANAGED_BY_LABEL, names::MANAGED_BY),
                label(names::INSTANCE_LABEL, "redis"),
            ])),
            ..ObjectMeta::default()
        };
        let of_web = ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                kind: "Deployment".to_owned(),
                name: "web".to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        };
        let told = |there: &ObjectMeta| {
            let taken = ApplyError::Taken {
                kind: "Service".to_owned(),
                name: "redis-client".to_owned(),
                owner: owner_of(there),
            };
            taken.to_string()
        };
        let head = "the Service redis-client is there already, and";
        for (there, end) in [
            (
                &of_redis,
                "belongs to the RedisCluster redis: name this cluster otherwise",
            ),
            (
                &of_web,
                "belongs to the Deployment web: name this cluster otherwise",
            ),
            (
                &ObjectMeta::default(),
                "is not ours: name this cluster otherwise, or remove it once nobody needs it",
            ),
        ] {
            assert_eq!(told(there), format!("{head} {end}"));
        }
    }

    #[test]
    fn what_changes_several_times_a_second_is_not_looked_at_as_often() {
        let ms = Duration::from_millis;
        assert_eq!(rest(false, ms(10)), Rest::For(None));
        assert_eq!(rest(true, ms(100)), Rest::For(Some(ms(400))));
        assert_eq!(rest(true, ms(500)), Rest::No);
        assert_eq!(rest(true, ms(60_000)), Rest::No);
        assert_eq!(rest(false, ms(59_000)), Rest::For(None));
    }
}
