//! The disruption budget follows the servers: none may be evicted while a shard has no replica that can take over.

use std::time::{Duration, Instant};

use shardwright_planner::safety::{NoEviction, why_no_eviction};
use shardwright_runtime::Report;
use shardwright_runtime_kubernetes::ClusterObject;
use shardwright_runtime_kubernetes::objects::Evictions;
use shardwright_topology::Observed;

use super::{LEFT_ALONE, One};
use crate::error::PassError;
use crate::events::{self, Note};

/// For how long every shard must have had a replica that can take over before evictions are allowed again. Longer than
/// links are down after a change of roles (about 1 s), so that one episode is two writes however links come and go in
/// it; short beside the time that a drain waits between two tries (5 s with kubectl).
const ALLOW_AFTER: Duration = Duration::from_secs(3);

/// Whether evictions are allowed, from look to look.
#[derive(Debug, Default)]
pub(super) struct EvictionGate {
    decided: Option<Evictions>,
    /// Since when every shard has had a replica that can take over.
    safe_since: Option<Instant>,
}

/// What an [`EvictionGate`] decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Decision {
    evictions: Evictions,
    /// It is another one than before.
    changed: bool,
    /// How long until the same facts decide otherwise.
    again_after: Option<Duration>,
}

impl EvictionGate {
    /// Refuses at once, and allows again after [`ALLOW_AFTER`]. What is seen first is decided at once.
    fn decide(&mut self, safe: bool, now: Instant) -> Decision {
        let since = match (safe, self.safe_since) {
            (false, _) => None,
            (true, since) => Some(since.unwrap_or(now)),
        };
        self.safe_since = since;
        let held = self.decided == Some(Evictions::Refused);
        let (evictions, again_after) = match since {
            None => (Evictions::Refused, None),
            Some(since) => match ALLOW_AFTER.checked_sub(now.saturating_duration_since(since)) {
                Some(left) if held && !left.is_zero() => (Evictions::Refused, Some(left)),
                Some(_) | None => (Evictions::OneAtATime, None),
            },
        };
        let changed = self.decided.replace(evictions) != Some(evictions);
        Decision {
            evictions,
            changed,
            again_after,
        }
    }
}

impl One<'_> {
    /// Brings the disruption budget to what the servers allow. Returns how long until it is to be looked at again.
    /// `applied`: the other objects are as they are wanted, so that nothing is amiss if this goes well too.
    pub(super) async fn follow_budget(
        &mut self,
        object: &ClusterObject,
        report: &Report,
        applied: bool,
    ) -> Duration {
        let now = Instant::now();
        let rest = self
            .budget_not_before
            .map(|at| at.saturating_duration_since(now));
        if let Some(left) = rest.filter(|left| !left.is_zero()) {
            return left;
        }
        match Box::pin(self.limit_evictions(object, report)).await {
            Ok(again) => {
                self.budget_not_before = None;
                if applied {
                    self.trouble = None;
                }
                again
            }
            Err(error) => {
                let wait = self.failed(object, &error);
                self.budget_not_before = Some(Instant::now() + wait);
                wait
            }
        }
    }

    async fn limit_evictions(
        &mut self,
        object: &ClusterObject,
        report: &Report,
    ) -> Result<Duration, PassError> {
        let Some(kept) = &self.keeper else {
            return Ok(LEFT_ALONE);
        };
        let (cluster, o) = (&kept.cluster, &report.observed);
        let why = why_no_eviction(&cluster.desired(), o, &cluster.limits(), o.at);
        let decision = self.evictions.decide(why.is_empty(), Instant::now());
        let applier = &mut self.applier;
        let written = applier.limit_evictions(object, cluster, decision.evictions);
        let written = written.await?;
        for _ in &written {
            self.shared.metrics.wrote("object");
        }
        self.tell(object, note(decision, &why, o, &written));
        Ok(decision.again_after.unwrap_or(LEFT_ALONE))
    }
}

/// What there is to say of a budget that was written: why nobody may be evicted, and when that ends.
fn note(decision: Decision, why: &[NoEviction], o: &Observed, written: &[String]) -> Option<Note> {
    match (decision.evictions, written) {
        (_, []) => None,
        (Evictions::Refused, _) if decision.changed => Some(events::of_evictions_refused(why, o)),
        _ => events::of_apply(written),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn evictions_are_refused_at_once_and_allowed_once_it_has_lasted() {
        let (mut gate, start) = (EvictionGate::default(), Instant::now());
        let mut decide = |safe, ms| {
            let decision = gate.decide(safe, start + MS * ms);
            (decision.evictions, decision.changed)
        };
        assert_eq!(decide(true, 0), (Evictions::OneAtATime, true));
        assert_eq!(decide(true, 5_000), (Evictions::OneAtATime, false));
        assert_eq!(decide(false, 5_001), (Evictions::Refused, true));
        assert_eq!(decide(false, 9_000), (Evictions::Refused, false));
        assert_eq!(decide(true, 9_500), (Evictions::Refused, false));
        assert_eq!(decide(true, 12_499), (Evictions::Refused, false));
        assert_eq!(decide(true, 12_500), (Evictions::OneAtATime, true));
    }

    #[test]
    fn a_link_that_comes_and_goes_is_one_change() {
        let (mut gate, start) = (EvictionGate::default(), Instant::now());
        gate.decide(true, start);
        let changes = (1..60).filter(|n| {
            let safe = n % 3 != 0;
            gate.decide(safe, start + MS * 500 * *n).changed
        });
        assert_eq!(changes.count(), 1);
    }

    #[test]
    fn what_is_left_to_wait_is_told() {
        let (mut gate, start) = (EvictionGate::default(), Instant::now());
        assert_eq!(gate.decide(false, start).again_after, None);
        let decision = gate.decide(true, start + MS);
        assert_eq!(decision.again_after, Some(ALLOW_AFTER));
        let decision = gate.decide(true, start + MS + ALLOW_AFTER / 3);
        assert_eq!(decision.again_after, Some(ALLOW_AFTER * 2 / 3));
        let decision = gate.decide(true, start + MS + ALLOW_AFTER);
        assert_eq!(
            (decision.evictions, decision.again_after),
            (Evictions::OneAtATime, None)
        );
    }
}
