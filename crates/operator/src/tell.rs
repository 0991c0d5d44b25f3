//! The status of one object: written only where it differs, and not more often than a person can read.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Map, Value, json};
use shardwright_manifest::RedisClusterStatus;
use shardwright_runtime_kubernetes::{ClusterObject, World, cluster_resource};
use tokio::time::timeout;

use crate::error::PassError;
use crate::status::{Change, change, is_renewed};

/// Reasons, the nodes that conditions name, and lists are written at most so often; a status that changes, at once.
const DETAILS_EVERY: Duration = Duration::from_secs(1);
/// The same of what differs in its wording alone; and of all of it while slots move: then figures and lists change all
/// the time.
const WORDING_EVERY: Duration = Duration::from_secs(5);
/// The time of one write.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);
/// The field manager of the status.
const MANAGER: &str = "shardwright-status";

/// What was written of one object's status.
#[derive(Debug, Default)]
pub(crate) struct Told {
    last: Option<Written>,
}

#[derive(Debug)]
struct Written {
    uid: String,
    status: RedisClusterStatus,
    /// The version of the object that was read before the write, and the one that the write made: while the watch
    /// still shows either, this is the newest word.
    versions: [Option<String>; 2],
    at: Instant,
}

/// What became of a status.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Telling {
    /// It says what it said.
    Same,
    /// It was written.
    Written,
    /// It is to be written after this time.
    Later(Duration),
}

impl Told {
    /// The status that the object has now, as far as is known.
    pub(crate) fn now(&self, object: &ClusterObject) -> Option<RedisClusterStatus> {
        let newest = self
            .last
            .as_ref()
            .filter(|w| w.uid == object.uid && w.versions.contains(&object.resource_version));
        newest
            .map(|w| w.status.clone())
            .or_else(|| read(object.status.as_ref()?))
    }

    /// Whether this is to be written now.
    fn when(&self, new: &RedisClusterStatus, old: Option<&RedisClusterStatus>) -> Telling {
        let Some(old) = old else {
            return Telling::Written;
        };
        let moves = new.moves.is_some() && old.moves.is_some();
        let every = match change(new, old) {
            Change::Same if is_renewed(new, old) => return Telling::Written,
            Change::Same => return Telling::Same,
            Change::News => return Telling::Written,
            Change::Details if !moves => DETAILS_EVERY,
            Change::Details | Change::Wording => WORDING_EVERY,
        };
        // What was written before this process began was written long enough ago.
        let since = self.last.as_ref().map(|w| w.at.elapsed());
        match since.and_then(|since| every.checked_sub(since)) {
            Some(left) if !left.is_zero() => Telling::Later(left),
            Some(_) | None => Telling::Written,
        }
    }

    /// Writes the status, if it differs from what the object has.
    pub(crate) async fn tell(
        &mut self,
        world: &World,
        object: &ClusterObject,
        new: RedisClusterStatus,
    ) -> Result<Telling, PassError> {
        let old = self.now(object);
        let when = self.when(&new, old.as_ref());
        if when != Telling::Written {
            return Ok(when);
        }
        let client = world.client().clone();
        let api: Api<DynamicObject> =
            Api::namespaced_with(client, &object.key.namespace, &cluster_resource());
        let params = PatchParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let change = Patch::Merge(patch(&new, object.status.as_ref(), old.as_ref())?);
        let write = api.patch_status(&object.key.name, &params, &change);
        let answer = timeout(REQUEST_LIMIT, write)
            .await
            .map_err(|_| PassError::ApiSilent)?
            .map_err(|e| PassError::Api(Box::new(e)))?;
        self.last = Some(Written {
            uid: object.uid.clone(),
            status: new,
            versions: [
                object.resource_version.clone(),
                answer.metadata.resource_version,
            ],
            at: Instant::now(),
        });
        Ok(Telling::Written)
    }
}

/// A status that can't be read counts as none: it is written anew.
fn read(status: &Value) -> Option<RedisClusterStatus> {
    serde_json::from_value(status.clone()).ok()
}

/// The merge patch that turns what is there into the new status: what is no longer said is taken away.
fn patch(
    new: &RedisClusterStatus,
    shown: Option<&Value>,
    old: Option<&RedisClusterStatus>,
) -> Result<Value, PassError> {
    let value = serde_json::to_value(new).map_err(PassError::Status)?;
    let old = serde_json::to_value(old).map_err(PassError::Status)?;
    let mut fields: Map<String, Value> = Map::new();
    for before in [shown, Some(&old)].into_iter().flatten() {
        for name in before.as_object().into_iter().flat_map(Map::keys) {
            fields.insert(name.clone(), Value::Null);
        }
    }
    fields.extend(value.as_object().cloned().into_iter().flatten());
    Ok(json!({ "status": fields }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::PROGRESSING;
    use shardwright_manifest::{Condition, ConditionStatus, MovesStatus, StateWord};

    fn status(ready: Option<&str>, state: StateWord) -> RedisClusterStatus {
        RedisClusterStatus {
            ready: ready.map(str::to_owned),
            state: Some(state),
            ..RedisClusterStatus::default()
        }
    }

    fn told(at: Instant) -> Told {
        Told {
            last: Some(Written {
                uid: "u".to_owned(),
                status: status(None, StateWord::Healthy),
                versions: [None, None],
                at,
            }),
        }
    }

    fn ago(span: Duration) -> Instant {
        let then = Instant::now().checked_sub(span);
        then.expect("this machine is up for longer")
    }

    /// Healthy, with this said of `Progressing`.
    fn progressing(reason: &str, message: &str) -> RedisClusterStatus {
        RedisClusterStatus {
            conditions: vec![Condition {
                kind: PROGRESSING.to_owned(),
                status: ConditionStatus::True,
                reason: reason.to_owned(),
                message: message.to_owned(),
                last_transition_time: String::new(),
                observed_generation: None,
            }],
            ..status(None, StateWord::Progressing)
        }
    }

    #[test]
    fn while_views_converge_a_condition_is_written_once_a_second_at_most() {
        let old = progressing("ViewsDiffer", "waiting: redis-1 does not know redis-4");
        // The reason, or whom it is about.
        let reason = progressing("Meet", "introduce redis-1 to redis-4");
        let nodes = progressing("ViewsDiffer", "waiting: redis-1 does not know redis-5");
        for new in [&reason, &nodes] {
            let soon = told(Instant::now()).when(new, Some(&old));
            assert!(matches!(soon, Telling::Later(left) if left <= DETAILS_EVERY));
            let then = told(ago(DETAILS_EVERY)).when(new, Some(&old));
            assert_eq!(then, Telling::Written);
        }
        // The same of the same nodes, in other words.
        let words = progressing("ViewsDiffer", "waiting: redis-4 is a replica for redis-1");
        let soon = told(ago(DETAILS_EVERY)).when(&words, Some(&old));
        assert!(matches!(soon, Telling::Later(_)));
        let then = told(ago(WORDING_EVERY)).when(&words, Some(&old));
        assert_eq!(then, Telling::Written);
    }

    #[test]
    fn what_is_already_said_costs_nothing() {
        let same = status(Some("6/6"), StateWord::Healthy);
        assert_eq!(Told::default().when(&same, Some(&same)), Telling::Same);
        assert_eq!(told(Instant::now()).when(&same, Some(&same)), Telling::Same);
        assert_eq!(Told::default().when(&same, None), Telling::Written);
    }

    #[test]
    fn the_time_of_the_last_look_is_written_once_a_minute() {
        let at = |time: &str| RedisClusterStatus {
            last_observed: Some(time.to_owned()),
            ..status(Some("6/6"), StateWord::Healthy)
        };
        let old = at("2026-01-01T00:00:00Z");
        let when = |new: &RedisClusterStatus| told(Instant::now()).when(new, Some(&old));
        assert_eq!(when(&at("2026-01-01T00:00:59Z")), Telling::Same);
        assert_eq!(when(&at("2026-01-01T00:01:00Z")), Telling::Written);
        // Of an older operator that told no time.
        let none = status(Some("6/6"), StateWord::Healthy);
        assert_eq!(Told::default().when(&old, Some(&none)), Telling::Written);
        // A cluster that is left alone is not looked at.
        assert_eq!(when(&none), Telling::Same);
    }

    #[test]
    fn texts_wait_a_moment_and_news_do_not() {
        let old = status(Some("6/6"), StateWord::Healthy);
        let text = status(Some("5/6"), StateWord::Healthy);
        let news = status(Some("5/6"), StateWord::Degraded);
        let just_now = told(Instant::now());
        assert!(matches!(
            just_now.when(&text, Some(&old)),
            Telling::Later(_)
        ));
        assert_eq!(just_now.when(&news, Some(&old)), Telling::Written);
        assert_eq!(Told::default().when(&text, Some(&old)), Telling::Written);
    }

    #[test]
    fn figures_of_a_move_wait_longer() {
        let moving = |left| RedisClusterStatus {
            moves: Some(MovesStatus {
                slots_left: left,
                ..MovesStatus::default()
            }),
            ..status(None, StateWord::Progressing)
        };
        let (old, new) = (moving(4_096), moving(4_000));
        let told = told(ago(DETAILS_EVERY));
        assert!(matches!(told.when(&new, Some(&old)), Telling::Later(_)));
        let over = status(None, StateWord::Progressing);
        assert_eq!(told.when(&over, Some(&new)), Telling::Written);
    }

    #[test]
    fn what_is_no_longer_said_is_taken_away() {
        let old = status(Some("6/6"), StateWord::Healthy);
        let new = status(None, StateWord::DataLost);
        let shown = json!({ "phase": "of an older operator", "ready": "6/6" });
        let patch = patch(&new, Some(&shown), Some(&old)).expect("plain data");
        let wanted = json!({ "status": { "phase": null, "ready": null, "state": "DataLost" } });
        assert_eq!(patch, wanted);
    }
}
