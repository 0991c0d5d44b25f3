//! The leader's lease: of all operators of a cluster only its holder acts.
//!
//! No maintained crate speaks to the client version used here, so these are the rules of client-go's leader
//! election: a holder that has not renewed for [`RENEW_LIMIT`] stops by itself, before anyone else may take over
//! after [`DURATION`]. Others judge by their own clock, from when they last saw the lease change, so that clocks need
//! not agree.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// How long a lease counts that is not renewed.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long a holder goes on without a renewal. Well below [`DURATION`]: a step under way may take seconds to end.
pub const RENEW_LIMIT: Duration = Duration::from_secs(10);
/// How often it is renewed. This is the only write of an idle operator.
const RENEW_EVERY: Duration = Duration::from_secs(4);
/// How often one that waits looks at it, and how long after an error.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The time of one request to the API server.
const REQUEST_LIMIT: Duration = Duration::from_secs(3);

/// The lease can't be used, or is lost.
#[derive(Debug, thiserror::Error)]
pub enum LeaseError {
    /// The API server refused or failed.
    #[error("cannot use the lease {name}; see that the operator may get, create and update leases")]
    Api {
        /// Which.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// The API server did not answer in time.
    #[error("the API server did not answer within {} s about the lease {name}", REQUEST_LIMIT.as_secs())]
    TimedOut {
        /// Which.
        name: String,
    },
    /// It could not be renewed in time.
    #[error("the lease {name} was not renewed for {} s: another operator may act now", RENEW_LIMIT.as_secs())]
    Expired {
        /// Which.
        name: String,
    },
    /// Somebody else has it.
    #[error("the lease {name} was taken by {holder}")]
    Taken {
        /// Which.
        name: String,
        /// By whom.
        holder: String,
    },
}

/// What matters of a lease that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    /// Nobody, once it is released.
    holder: Option<String>,
    /// Changes with every write.
    version: Option<String>,
    /// How long it counts, as its holder said.
    duration: Duration,
}

/// What to do about the lease.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Decision {
    /// There is none: make it.
    Create,
    /// It is free, or its holder is silent for too long.
    Take,
    /// It is ours.
    Renew,
    /// It is another's.
    Wait(String),
}

/// Decides by what was read, and for how long that has not changed.
fn decide(found: Option<&Record>, unchanged: Duration, me: &str) -> Decision {
    let Some(record) = found else {
        return Decision::Create;
    };
    match record.holder.as_deref() {
        None | Some("") => Decision::Take,
        Some(holder) if holder == me => Decision::Renew,
        Some(_) if unchanged >= record.duration => Decision::Take,
        Some(holder) => Decision::Wait(holder.to_owned()),
    }
}

/// Whether a holder must stop. Counted from before the request of its last renewal: the server may have taken that at
/// any time since.
fn must_stop(since_renewal: Duration) -> bool {
    since_renewal >= RENEW_LIMIT
}

/// Someone who wants to lead.
#[derive(Debug)]
pub struct Candidate {
    api: Api<Object>,
    name: String,
    me: String,
    /// What was seen last, and since when it is so.
    seen: Option<(Record, Instant)>,
}

/// The one who leads.
#[derive(Debug)]
pub struct Leader {
    candidate: Candidate,
    renewed: Instant,
}

impl Candidate {
    /// Someone called `me` (unique among all candidates) who wants the lease `name` of this namespace.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            me: me.to_owned(),
            seen: None,
        }
    }

    /// Waits until the lease is ours. `answered` is told each time the API server has answered.
    pub async fn acquire(mut self, mut answered: impl FnMut()) -> Leader {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told: Option<String> = None;
        loop {
            tick.tick().await;
            let started = Instant::now();
            match self.try_once().await {
                Ok(None) => {
                    answered();
                    tracing::info!(lease = self.name, holder = self.me, "leading");
                    return Leader {
                        candidate: self,
                        renewed: started,
                    };
                }
                Ok(Some(holder)) => {
                    answered();
                    if told.as_ref() != Some(&holder) {
                        tracing::info!(
                            lease = self.name,
                            holder,
                            "another operator leads; waiting"
                        );
                        told = Some(holder);
                    }
                }
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(error, "the lease is not ours yet");
                }
            }
        }
    }

    /// Looks once, and writes if that is right. The holder, if it is another.
    async fn try_once(&mut self) -> Result<Option<String>, LeaseError> {
        let found = self.ask(self.api.get_opt(&self.name)).await?;
        let record = found.as_ref().map(record_of);
        let unchanged = self.unchanged(record.as_ref());
        let now = MicroTime(Timestamp::now());
        match (decide(record.as_ref(), unchanged, &self.me), found) {
            (Decision::Wait(holder), _) => return Ok(Some(holder)),
            (Decision::Create, _) | (_, None) => {
                let object = Object {
                    metadata: ObjectMeta {
                        name: Some(self.name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(self.spec(None, &now)),
                };
                self.ask(self.api.create(&PostParams::default(), &object))
                    .await?;
            }
            (Decision::Take, Some(mut object)) => {
                object.spec = Some(self.spec(object.spec.as_ref(), &now));
                // With the version that was read: of two who take it at once the server refuses one.
                let params = PostParams::default();
                self.ask(self.api.replace(&self.name, &params, &object))
                    .await?;
            }
            (Decision::Renew, Some(mut object)) => {
                let spec = object.spec.get_or_insert_with(LeaseSpec::default);
                spec.renew_time = Some(now);
                spec.lease_duration_seconds = Some(whole_seconds(DURATION));
                let params = PostParams::default();
                self.ask(self.api.replace(&self.name, &params, &object))
                    .await?;
            }
        }
        Ok(None)
    }

    fn spec(&self, before: Option<&LeaseSpec>, now: &MicroTime) -> LeaseSpec {
        let transitions = before.map(|s| s.lease_transitions.map_or(1, |n| n.saturating_add(1)));
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            acquire_time: Some(now.clone()),
            renew_time: Some(now.clone()),
            lease_duration_seconds: Some(whole_seconds(DURATION)),
            lease_transitions: Some(transitions.unwrap_or(0)),
            ..LeaseSpec::default()
        }
    }

    /// For how long the lease has been as it is now.
    fn unchanged(&mut self, record: Option<&Record>) -> Duration {
        let same = self.seen.as_ref().is_some_and(|(r, _)| Some(r) == record);
        if !same {
            self.seen = record.map(|r| (r.clone(), Instant::now()));
        }
        self.seen
            .as_ref()
            .map_or(Duration::ZERO, |(_, since)| since.elapsed())
    }

    async fn ask<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, LeaseError> {
        let name = || self.name.clone();
        match timeout(REQUEST_LIMIT, request).await {
            Ok(answer) => answer.map_err(|source| LeaseError::Api {
                name: name(),
                source: Box::new(source),
            }),
            Err(_) => Err(LeaseError::TimedOut { name: name() }),
        }
    }
}

impl Leader {
    /// Renews the lease until it is lost. What is done under it must stop at once then.
    pub async fn keep(&mut self) -> LeaseError {
        let name = self.candidate.name.clone();
        let mut every = RENEW_EVERY;
        loop {
            let left = RENEW_LIMIT.saturating_sub(self.renewed.elapsed());
            let mut tick = interval(every.min(left).max(Duration::from_millis(1)));
            // The first tick is at once.
            tick.tick().await;
            tick.tick().await;
            let started = Instant::now();
            let left = RENEW_LIMIT.saturating_sub(self.renewed.elapsed());
            match timeout(left, self.candidate.try_once()).await {
                Ok(Ok(None)) => {
                    self.renewed = started;
                    every = RENEW_EVERY;
                }
                Ok(Ok(Some(holder))) => return LeaseError::Taken { name, holder },
                Ok(Err(error)) => {
                    let error = crate::error::chain(&error);
                    tracing::warn!(error, "the lease was not renewed; trying again");
                    every = LOOK_EVERY / 2;
                }
                Err(_) => {}
            }
            if must_stop(self.renewed.elapsed()) {
                return LeaseError::Expired { name };
            }
        }
    }

    /// Gives it back, so that the next one need not wait.
    pub async fn release(self) -> Result<(), LeaseError> {
        let candidate = self.candidate;
        let found = candidate
            .ask(candidate.api.get_opt(&candidate.name))
            .await?;
        let Some(mut object) = found else {
            return Ok(());
        };
        let Some(spec) = object.spec.as_mut() else {
            return Ok(());
        };
        if spec.holder_identity.as_deref() != Some(candidate.me.as_str()) {
            return Ok(());
        }
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        let params = PostParams::default();
        candidate
            .ask(candidate.api.replace(&candidate.name, &params, &object))
            .await?;
        Ok(())
    }
}

fn record_of(object: &Object) -> Record {
    let spec = object.spec.as_ref();
    let said = spec
        .and_then(|s| s.lease_duration_seconds)
        .and_then(|s| u64::try_from(s).ok());
    Record {
        holder: spec.and_then(|s| s.holder_identity.clone()),
        version: object.metadata.resource_version.clone(),
        duration: said.map_or(DURATION, Duration::from_secs),
    }
}

fn whole_seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> Record {
        Record {
            holder: Some(holder.to_owned()),
            version: Some("7".to_owned()),
            duration: DURATION,
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_it_is_free_ours_or_forgotten() {
        let short = Duration::from_secs(14);
        let long = Duration::from_secs(15);
        let wait = Decision::Wait("other".to_owned());
        assert_eq!(decide(None, Duration::ZERO, "me"), Decision::Create);
        assert_eq!(decide(Some(&held_by("me")), long, "me"), Decision::Renew);
        assert_eq!(
            decide(Some(&held_by("")), Duration::ZERO, "me"),
            Decision::Take
        );
        assert_eq!(decide(Some(&held_by("other")), short, "me"), wait);
        assert_eq!(decide(Some(&held_by("other")), long, "me"), Decision::Take);
        let nobody = Record {
            holder: None,
            ..held_by("x")
        };
        assert_eq!(decide(Some(&nobody), Duration::ZERO, "me"), Decision::Take);
    }

    #[test]
    fn a_holder_stops_before_another_may_begin() {
        assert!(!must_stop(Duration::from_millis(9_999)));
        assert!(must_stop(RENEW_LIMIT));
        // The last request it sent may still be carried out, and a step may be under way.
        assert!(RENEW_LIMIT + REQUEST_LIMIT < DURATION);
        assert!(RENEW_EVERY + REQUEST_LIMIT < RENEW_LIMIT);
    }

    #[test]
    fn what_a_lease_says_is_read_without_guessing() {
        let empty = record_of(&Object::default());
        assert_eq!(empty.holder, None);
        assert_eq!(empty.duration, DURATION);
        let released = record_of(&Object {
            spec: Some(LeaseSpec {
                holder_identity: Some(String::new()),
                lease_duration_seconds: Some(1),
                ..LeaseSpec::default()
            }),
            ..Object::default()
        });
        assert_eq!(released.duration, Duration::from_secs(1));
        assert_eq!(
            decide(Some(&released), Duration::ZERO, "me"),
            Decision::Take
        );
    }
}
