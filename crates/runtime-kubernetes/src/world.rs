//! What there is on Kubernetes of all our clusters, kept up by watches; and who is to look again when it changes.

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, StreamExt};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::core::{
    ApiResource, DynamicObject, DynamicResourceScope, NamespaceResourceScope, PartialObjectMeta,
};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::facts::{ClaimFact, HostFact, ObjectKey, PodFact, SetFact, cluster_of, state_of};
use crate::names;
use crate::object::{ClusterObject, cluster_resource};
use crate::objects::{BudgetApi, budget_resource};
use crate::store::{Change, Store, Writer};
use crate::wake::{Bells, Wake};

/// Where clusters are looked after.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// In all namespaces.
    Everywhere,
    /// In one.
    Namespace(String),
}

/// What there is. Cheap to clone; the watches end with the last clone.
#[derive(Clone)]
pub struct World {
    client: Client,
    budget_api: BudgetApi,
    stores: Arc<Stores>,
    watches: Arc<Watches>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Watches(Vec<AbortHandle>);

impl Drop for Watches {
    fn drop(&mut self) {
        self.0.iter().for_each(AbortHandle::abort);
    }
}

/// One state of an object that we apply, as far as others could change it: none of its contents, so that it costs
/// next to nothing to keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    cluster: ObjectKey,
    state: u64,
}

impl Mark {
    fn of(object: &PartialObjectMeta<DynamicObject>) -> Option<Self> {
        Some(Self {
            cluster: cluster_of(&object.metadata)?,
            state: state_of(&object.metadata),
        })
    }
}

/// One state of a Secret, by its metadata alone.
#[derive(Clone, PartialEq, Eq, Debug)]
struct SecretFact {
    key: ObjectKey,
    /// The cluster that it was made for.
    cluster: Option<ObjectKey>,
    state: u64,
}

impl SecretFact {
    fn of(secret: &PartialObjectMeta<Secret>) -> Option<Self> {
        Some(Self {
            key: ObjectKey::of(&secret.metadata)?,
            cluster: cluster_of(&secret.metadata),
            state: state_of(&secret.metadata),
        })
    }

    /// Tells the cluster that it was made for, and those whose users have a password in it.
    fn tell(stores: &Stores, secret: &Self) {
        if let Some(cluster) = &secret.cluster {
            stores.bells.ring(cluster);
        }
        let ObjectKey { namespace, name } = &secret.key;
        for cluster in stores.clusters.select(namespace, |c| c.names_secret(name)) {
            stores.bells.ring(&cluster.key);
        }
    }
}

#[derive(Debug)]
struct Stores {
    clusters: Arc<Store<ClusterObject>>,
    pods: Arc<Store<PodFact>>,
    claims: Arc<Store<ClaimFact>>,
    sets: Arc<Store<SetFact>>,
    hosts: Arc<Store<HostFact>>,
    secrets: Arc<Store<SecretFact>>,
    /// By kind.
    marks: BTreeMap<String, Arc<Store<Mark>>>,
    bells: Bells,
    coming_and_going: watch::Sender<u64>,
    filled: watch::Sender<usize>,
    errors: AtomicU64,
}

impl World {
    /// Starts the watches. Fails where the API server can't be asked which disruption budgets it serves.
    pub async fn start(client: Client, scope: &Scope) -> Result<Self, kube::Error> {
        let budget_api = budgets_served(&client).await?;
        let marked = [
            ApiResource::erase::<ConfigMap>(&()),
            ApiResource::erase::<Service>(&()),
            ApiResource::erase::<NetworkPolicy>(&()),
            budget_resource(budget_api),
        ];
        let marks = marked
            .iter()
            .map(|kind| (kind.kind.clone(), Arc::default()));
        let stores = Arc::new(Stores {
            clusters: Arc::default(),
            pods: Arc::default(),
            claims: Arc::default(),
            sets: Arc::default(),
            hosts: Arc::default(),
            secrets: Arc::default(),
            marks: marks.collect(),
            bells: Bells::default(),
            coming_and_going: watch::Sender::new(0),
            filled: watch::Sender::new(0),
            errors: AtomicU64::new(0),
        });
        let watches = Watcher {
            client: client.clone(),
            scope: scope.clone(),
            stores: Arc::clone(&stores),
        }
        .start(&marked);
        Ok(Self {
            client,
            budget_api,
            stores,
            watches: Arc::new(Watches(watches)),
        })
    }

    /// The client it was made with.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The disruption budgets that this API server serves: `policy/v1`, or `v1beta1` where only that is.
    pub fn budget_api(&self) -> BudgetApi {
        self.budget_api
    }

    /// Ends when every watch has had its first list.
    pub async fn filled(&self) {
        let mut filled = self.stores.filled.subscribe();
        let all = self.watches.0.len();
        if filled.wait_for(|n| *n >= all).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// How often a watch failed since the start.
    pub fn watch_errors(&self) -> u64 {
        self.stores.errors.load(Ordering::Relaxed)
    }

    /// The `RedisCluster` objects there are.
    pub fn clusters(&self) -> Vec<ObjectKey> {
        self.stores.clusters.keys()
    }

    /// One of them, as it is now.
    pub fn object(&self, key: &ObjectKey) -> Option<Arc<ClusterObject>> {
        self.stores.clusters.get(key)
    }

    /// Tells when a `RedisCluster` object has come, changed or gone.
    pub fn clusters_changed(&self) -> watch::Receiver<u64> {
        self.stores.coming_and_going.subscribe()
    }

    /// The signal of one cluster: its object, pods, claims, `StatefulSet` or other objects, or a Kubernetes node that
    /// has a pod of it, changed.
    pub fn wake(&self, key: &ObjectKey) -> Wake {
        self.stores.bells.wake(key)
    }

    /// The pods of a cluster.
    pub fn pods(&self, key: &ObjectKey) -> Vec<Arc<PodFact>> {
        self.stores
            .pods
            .select(&key.namespace, |pod| pod.cluster == *key)
    }

    /// The claims of a cluster.
    pub fn claims(&self, key: &ObjectKey) -> Vec<Arc<ClaimFact>> {
        self.stores
            .claims
            .select(&key.namespace, |claim| claim.cluster == *key)
    }

    /// The `StatefulSet` of a cluster.
    pub fn set(&self, key: &ObjectKey) -> Option<Arc<SetFact>> {
        self.stores.sets.get(key)
    }

    /// A Kubernetes node.
    pub fn host(&self, name: &str) -> Option<Arc<HostFact>> {
        self.stores.hosts.get(&ObjectKey::new("", name))
    }

    /// Whether a Kubernetes node is known not to be there. Where we may not see any, none is.
    pub(crate) fn lacks_host(&self, name: &str) -> bool {
        self.stores.hosts.is_listed() && self.host(name).is_none()
    }

    /// The state of an object that we apply. That of Secrets is not known: the right to watch them may be missing.
    pub(crate) fn mark(&self, kind: &str, key: &ObjectKey) -> Marked {
        if kind == SET {
            let set = self.stores.sets.get(key);
            return set.map_or(Marked::Absent, |set| Marked::State(set.state));
        }
        match self.stores.marks.get(kind).map(|store| store.get(key)) {
            None => Marked::NotWatched,
            Some(None) => Marked::Absent,
            Some(Some(mark)) => Marked::State(mark.state),
        }
    }
}

/// What is known of the state of an object that we apply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Marked {
    /// Its kind is not watched.
    NotWatched,
    /// It is not there.
    Absent,
    /// It is there, in this state.
    State(u64),
}

/// The kind of the set of pods.
const SET: &str = "StatefulSet";
/// Secrets that hold no password of ours, and may be many.
const OTHER_SECRETS_LEFT_OUT: &str =
    "type!=kubernetes.io/service-account-token,type!=helm.sh/release.v1";
/// Which disruption budgets there are. What a version knows can be switched off, so the list of what is served counts
/// as well.
async fn budgets_served(client: &Client) -> Result<BudgetApi, kube::Error> {
    let kind = budget_resource(BudgetApi::V1);
    match client.list_api_group_resources(&kind.api_version).await {
        Ok(list) if list.resources.iter().any(|r| r.kind == kind.kind) => {}
        Ok(_) => return Ok(BudgetApi::V1Beta1),
        Err(kube::Error::Api(status)) if status.code == 404 => return Ok(BudgetApi::V1Beta1),
        Err(error) => return Err(error),
    }
    let version = match client.apiserver_version().await {
        Ok(told) => version_of(&told.major, &told.minor),
        Err(kube::Error::Api(status)) if status.code == 403 => None,
        Err(error) => return Err(error),
    };
    // Of an unknown version, only what every one with `policy/v1` knows is asked for.
    Ok(match version.map(BudgetApi::of_version) {
        Some(api @ BudgetApi::V1Unhealthy) => api,
        Some(BudgetApi::V1 | BudgetApi::V1Beta1) | None => BudgetApi::V1,
    })
}

/// The version that an API server tells: some write `27+` for the minor part.
pub(crate) fn version_of(major: &str, minor: &str) -> Option<(u32, u32)> {
    let digits = |text: &str| {
        let end = text.find(|c: char| !c.is_ascii_digit());
        text.get(..end.unwrap_or(text.len()))?.parse::<u32>().ok()
    };
    Some((digits(major)?, digits(minor)?))
}

/// Starts the watches of one world.
struct Watcher {
    client: Client,
    scope: Scope,
    stores: Arc<Stores>,
}

impl Watcher {
    fn start(&self, marked: &[ApiResource]) -> Vec<AbortHandle> {
        let s = &self.stores;
        let any = watcher::Config::default();
        let app = format!("{}={}", names::NAME_LABEL, names::APP);
        let ours = any.clone().labels(&app);
        let clusters = watcher(
            self.api_of::<DynamicObject>(&cluster_resource()),
            any.clone(),
        );
        let pods = watcher(self.api(), ours.clone());
        let claims = watcher(self.api(), ours.clone());
        let sets = watcher(self.api::<StatefulSet>(), ours.clone());
        let hosts = watcher(Api::all(self.client.clone()), any.clone());
        // By their metadata alone: what is in them is read by name.
        let secrets = watcher(
            self.api::<PartialObjectMeta<Secret>>(),
            any.fields(OTHER_SECRETS_LEFT_OUT),
        );
        let mut tasks = vec![
            self.follow(
                clusters,
                &s.clusters,
                Need::Always,
                ClusterObject::of,
                |s, cluster| {
                    s.bells.ring(&cluster.key);
                    s.coming_and_going.send_modify(|n| *n = n.wrapping_add(1));
                },
            ),
            self.follow(pods, &s.pods, Need::Always, PodFact::of, |s, pod| {
                s.bells.ring(&pod.cluster);
            }),
            self.follow(
                claims,
                &s.claims,
                Need::Always,
                ClaimFact::of,
                |s, claim| {
                    s.bells.ring(&claim.cluster);
                },
            ),
            self.follow(sets, &s.sets, Need::Always, SetFact::of, |s, set| {
                s.bells.ring(&set.cluster);
            }),
            self.follow(hosts, &s.hosts, Need::IfAllowed, HostFact::of, |s, host| {
                for pod in s.pods.select("", |p| p.host.as_ref() == Some(&host.name)) {
                    s.bells.ring(&pod.cluster);
                }
            }),
        ];
        let secrets = self.follow(
            secrets,
            &s.secrets,
            Need::IfAllowed,
            SecretFact::of,
            SecretFact::tell,
        );
        tasks.push(secrets);
        for kind in marked {
            let events = watcher(
                self.api_of::<PartialObjectMeta<DynamicObject>>(kind),
                ours.clone(),
            );
            if let Some(store) = s.marks.get(&kind.kind) {
                tasks.push(
                    self.follow(events, store, Need::Always, Mark::of, |s, mark| {
                        s.bells.ring(&mark.cluster);
                    }),
                );
            }
        }
        tasks
    }

    /// Keeps a store up by the events of one watch, for ever.
    fn follow<K, F>(
        &self,
        events: impl Stream<Item = watcher::Result<watcher::Event<K>>> + Send + 'static,
        store: &Arc<Store<F>>,
        need: Need,
        read: fn(&K) -> Option<F>,
        tell: fn(&Stores, &F),
    ) -> AbortHandle
    where
        K: Resource + Send + 'static,
        F: PartialEq + Send + Sync + 'static,
    {
        let stores = Arc::clone(&self.stores);
        let mut writer = Writer::new(Arc::clone(store));
        let follow = async move {
            let mut events = pin!(events.default_backoff());
            let mut once = Once::default();
            while let Some(event) = events.next().await {
                let event = match event {
                    Ok(event) => event,
                    Err(error) => {
                        stores.errors.fetch_add(1, Ordering::Relaxed);
                        tracing::warn!(%error, "a watch failed; it is begun anew");
                        // Without Kubernetes nodes the rest goes on: where things are stays unknown. Without Secrets
                        // too: those that are used are looked at now and then.
                        if need == Need::IfAllowed && is_forbidden(&error) {
                            once.fill(&stores);
                        }
                        continue;
                    }
                };
                let key = |object: &K| ObjectKey::of(object.meta());
                let (changes, whole) = writer.take(event, |o| Some((key(o)?, read(o)?)), key);
                for Change { before, after } in changes {
                    if let Some(fact) = after.or(before) {
                        tell(&stores, &fact);
                    }
                }
                if whole {
                    once.fill(&stores);
                }
            }
        };
        tokio::spawn(follow).abort_handle()
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.scope {
            Scope::Everywhere => Api::all(self.client.clone()),
            Scope::Namespace(ns) => Api::namespaced(self.client.clone(), ns),
        }
    }

    fn api_of<K>(&self, kind: &ApiResource) -> Api<K>
    where
        K: Resource<DynamicType = ApiResource, Scope = DynamicResourceScope>,
    {
        match &self.scope {
            Scope::Everywhere => Api::all_with(self.client.clone(), kind),
            Scope::Namespace(ns) => Api::namespaced_with(self.client.clone(), ns, kind),
        }
    }
}

/// Whether we can do without a kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    /// No.
    Always,
    /// Where we may not see it, the rest goes on.
    IfAllowed,
}

/// Counts a watch as filled, once.
#[derive(Default)]
struct Once(bool);

impl Once {
    fn fill(&mut self, stores: &Stores) {
        if !std::mem::replace(&mut self.0, true) {
            stores.filled.send_modify(|n| *n += 1);
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 403)
}

#[cfg(test)]
mod tests {
    use super::version_of;

    #[test]
    fn versions_of_providers_are_read() {
        assert_eq!(version_of("1", "20"), Some((1, 20)));
        assert_eq!(version_of("1", "27+"), Some((1, 27)));
        assert_eq!(version_of("1", ""), None);
        assert_eq!(version_of("", "27"), None);
    }
}
