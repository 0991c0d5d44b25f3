//! The object as a person with `kubectl` has it: read it, ask for something on it, and watch what comes of that.

use std::fmt;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use kube::api::{Patch, PatchParams};
use kube::core::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Map, json};

use crate::facts::ObjectKey;
use crate::object::{ClusterObject, cluster_resource};
use crate::request::{RequestError, ask};
use crate::wish::{Asked, MOVES, PAUSED};
use crate::world::version_of;

/// How often a change is tried anew that met another's. Ours are as short as a request.
const TRIES: u32 = 8;
/// The field manager of requests.
const MANAGER: &str = "shardwright-request";
/// The field manager of what a person declares by a verb.
const CLI_MANAGER: &str = "shardwright-cli";

/// A request could not be put on the object, or taken off it.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The API server.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// There is no such object.
    #[error("there is no RedisCluster {0} any more")]
    Gone(ObjectKey),
    /// Another request is not answered yet.
    #[error(
        "{0} is asked for already and not answered yet; wait for it, or take its annotation away"
    )]
    Another(String),
    /// Others change the object all the time.
    #[error("the RedisCluster {0} is changed by others all the time; try again")]
    Busy(ObjectKey),
}

/// The version of the API server, major and minor; none where what it tells is no version.
pub async fn version(client: &Client) -> Result<Option<(u32, u32)>, RequestError> {
    let what = || "ask the API server for its version".to_owned();
    let told = ask(what, client.apiserver_version()).await?;
    Ok(version_of(&told.major, &told.minor))
}

/// Reads a `RedisCluster`; none where there is no such object.
pub async fn read(client: &Client, key: &ObjectKey) -> Result<Option<ClusterObject>, RequestError> {
    let what = || format!("read the RedisCluster {key}");
    let object = ask(what, api(client, key).get_opt(&key.name)).await?;
    Ok(object.as_ref().and_then(ClusterObject::of))
}

/// Asks for this. One thing at a time.
pub async fn put(client: &Client, key: &ObjectKey, asked: &Asked) -> Result<(), AskError> {
    for _ in 0..TRIES {
        let object = read(client, key).await?;
        let object = object.ok_or_else(|| AskError::Gone(key.clone()))?;
        match Asked::first(&object) {
            Some(other) if other != *asked => return Err(AskError::Another(other.to_string())),
            Some(_) => return Ok(()),
            None => {}
        }
        if annotate(client, &object, asked.key, Some(&asked.text)).await? {
            return Ok(());
        }
    }
    Err(AskError::Busy(key.clone()))
}

/// Takes this request away, if it still stands there: it was answered, or is no longer wanted. Says whether it did.
pub async fn take_off(client: &Client, key: &ObjectKey, asked: &Asked) -> Result<bool, AskError> {
    for _ in 0..TRIES {
        let Some(object) = read(client, key).await? else {
            return Ok(false);
        };
        if object.wishes.get(asked.key) != Some(&asked.text) {
            return Ok(false);
        }
        if annotate(client, &object, asked.key, None).await? {
            return Ok(true);
        }
    }
    Err(AskError::Busy(key.clone()))
}

/// Pauses the moving of slots, or lets it go on. Says whether that is new.
pub async fn pause(client: &Client, key: &ObjectKey, paused: bool) -> Result<bool, AskError> {
    for _ in 0..TRIES {
        let object = read(client, key).await?;
        let object = object.ok_or_else(|| AskError::Gone(key.clone()))?;
        let wanted = paused.then_some(PAUSED);
        if object.moves.as_deref() == wanted {
            return Ok(false);
        }
        if annotate(client, &object, MOVES, wanted).await? {
            return Ok(true);
        }
    }
    Err(AskError::Busy(key.clone()))
}

/// Another number of shards or replicas, written on just this state of the object; with `resume`, slots may move from
/// then on. Returns the object as it is then; none where it was changed meanwhile.
pub async fn reshape(
    client: &Client,
    object: &ClusterObject,
    shards: Option<u32>,
    replicas: Option<u32>,
    resume: bool,
) -> Result<Option<ClusterObject>, RequestError> {
    let key = &object.key;
    let mut spec = Map::new();
    if let Some(shards) = shards {
        spec.insert("shards".to_owned(), json!(shards));
    }
    if let Some(replicas) = replicas {
        spec.insert("replicasPerShard".to_owned(), json!(replicas));
    }
    let mut metadata = json!({
        "uid": object.uid,
        "resourceVersion": object.resource_version,
    });
    if resume {
        metadata["annotations"] = json!({MOVES: null});
    }
    let patch = Patch::Merge(json!({"metadata": metadata, "spec": spec}));
    let params = PatchParams {
        field_manager: Some(CLI_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let what = || format!("change the shape of the RedisCluster {key}");
    match ask(what, api(client, key).patch(&key.name, &params, &patch)).await {
        Ok(there) => Ok(ClusterObject::of(&there)),
        Err(error) if error.code() == Some(409) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes an annotation on just this state of the object. False where it was changed meanwhile.
async fn annotate(
    client: &Client,
    object: &ClusterObject,
    name: &str,
    text: Option<&str>,
) -> Result<bool, RequestError> {
    let key = &object.key;
    let patch = Patch::Merge(json!({"metadata": {
        "uid": object.uid,
        "resourceVersion": object.resource_version,
        "annotations": {name: text},
    }}));
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let what = || format!("change the annotation {name} of the RedisCluster {key}");
    let api = api(client, key);
    match ask(what, api.patch_metadata(&key.name, &params, &patch)).await {
        Ok(_) => Ok(true),
        Err(error) if error.code() == Some(409) => Ok(false),
        Err(error) => Err(error),
    }
}

fn api(client: &Client, key: &ObjectKey) -> Api<DynamicObject> {
    Api::namespaced_with(client.clone(), &key.namespace, &cluster_resource())
}

type Events = Pin<Box<dyn Stream<Item = watcher::Result<watcher::Event<DynamicObject>>> + Send>>;

/// Follows one object.
pub struct Follow {
    key: ObjectKey,
    events: Events,
    /// Whether the list that is being read holds the object.
    listed: bool,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Follow {
    /// Begins.
    pub fn new(client: &Client, key: &ObjectKey) -> Self {
        let just_it = watcher::Config::default().fields(&format!("metadata.name={}", key.name));
        let events = watcher(api(client, key), just_it).default_backoff();
        Self {
            key: key.clone(),
            events: Box::pin(events),
            listed: false,
        }
    }

    /// Its next state; none once it is gone. Fails only where we may not watch it.
    pub async fn next(&mut self) -> Result<Option<ClusterObject>, RequestError> {
        loop {
            let object = match self.events.next().await {
                Some(Ok(watcher::Event::Apply(object))) => object,
                Some(Ok(watcher::Event::InitApply(object))) => {
                    self.listed = true;
                    object
                }
                Some(Ok(watcher::Event::Init)) => {
                    self.listed = false;
                    continue;
                }
                Some(Ok(watcher::Event::InitDone)) if self.listed => continue,
                Some(Ok(watcher::Event::InitDone | watcher::Event::Delete(_))) | None => {
                    return Ok(None);
                }
                Some(Err(error)) => {
                    self.forbidden(error)?;
                    continue;
                }
            };
            if let Some(object) = ClusterObject::of(&object) {
                return Ok(Some(object));
            }
        }
    }

    /// A watch that failed is begun anew, unless that is of no use.
    fn forbidden(&self, error: watcher::Error) -> Result<(), RequestError> {
        tracing::debug!(%error, "a watch failed; it is begun anew");
        match error {
            watcher::Error::InitialListFailed(source)
            | watcher::Error::WatchStartFailed(source)
                if matches!(&source, kube::Error::Api(status) if status.code == 403) =>
            {
                let what = format!("watch the RedisCluster {}", self.key);
                Err(RequestError::of(what, source))
            }
            _ => Ok(()),
        }
    }
}
