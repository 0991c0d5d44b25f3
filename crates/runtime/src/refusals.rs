//! What the engine refuses again and again, with the same words.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use shardwright_engine::movers::MoveError;
use shardwright_topology::NodeId;

use crate::Report;
use crate::execute::StepError;

/// How long one refusal must be repeated before it is taken for the last word. News of roles and owners takes the engines
/// less: their own elections end within two seconds, and a node that was met is known to all within five.
const AFTER: Duration = Duration::from_secs(10);
/// How many times at least.
const TIMES: u32 = 3;

/// The refusals that were said in one pass after the other.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// By node and by its words: since when, and how many times.
    said: BTreeMap<(NodeId, String), (Instant, u32)>,
    /// How many keys had moved when it was last asked.
    keys_moved: u64,
}

impl Refusals {
    /// Takes note of a pass. True where a step has been refused with the same words for so long that waiting for
    /// another answer is in vain.
    pub(crate) fn note(&mut self, report: &Report, at: Instant) -> bool {
        // While keys move, what is refused may be in the way of those that moved.
        if std::mem::replace(&mut self.keys_moved, report.moved.keys) != report.moved.keys {
            self.said.clear();
        }
        // A pass that only waits says nothing of it.
        if report.outcomes.is_empty() {
            return false;
        }
        let refused = |node: Option<NodeId>, error: &StepError| Some((node?, words(error)?));
        let now: Vec<(NodeId, String)> = report
            .outcomes
            .iter()
            .filter_map(|o| refused(o.step.action.at(), o.result.as_ref().err()?))
            .collect();
        self.said.retain(|said, _| now.contains(said));
        for said in now {
            let (_, times) = self.said.entry(said).or_insert((at, 0));
            *times += 1;
        }
        self.said
            .values()
            .any(|(since, times)| *times >= TIMES && at.saturating_duration_since(*since) >= AFTER)
    }
}

/// The engine's own words, where it was the engine that refused.
fn words(error: &StepError) -> Option<String> {
    match error {
        StepError::Server(error) | StepError::Move(MoveError::Node(error)) => {
            error.is_refusal().then(|| error.to_string())
        }
        StepError::Move(error) => Some(error.to_string()),
        // The runtime's errors end a run at once; the others say what was seen, not what was refused.
        StepError::Runtime(_)
        | StepError::Moved(_)
        | StepError::BothSides { .. }
        | StepError::NoDatabase { .. }
        | StepError::Untold(_)
        | StepError::Skipped => None,
    }
}

#[cfg(test)]
mod tests {
    use shardwright_engine::{Endpoint, Error};
    use shardwright_planner::{Action, Plan, Reason, Step};
    use shardwright_topology::{Observed, Slot, Timestamp};

    use super::*;
    use crate::{Outcome, Total};

    /// A pass in which a step ended so, after so many keys have moved.
    fn pass(result: Result<(), StepError>, keys: u64) -> Report {
        let node = NodeId::from_bytes([1; 20]);
        let slot = Slot::new(7).expect("a slot");
        let step = Step {
            action: Action::CloseSlot { node, slot },
            because: Reason::NothingMoved,
            requires: Vec::new(),
        };
        Report {
            observed: Observed::new(Timestamp(0), None, Vec::new()),
            plan: Plan::default(),
            violations: Vec::new(),
            outcomes: vec![Outcome { step, result }],
            moved: Total {
                keys,
                ..Total::default()
            },
        }
    }

    fn refused(code: &str) -> Result<(), StepError> {
        Err(StepError::Server(Error::Server {
            endpoint: Endpoint::new("h", 1),
            command: "CLUSTER SETSLOT",
            code: code.to_owned(),
            message: "some words".to_owned(),
        }))
    }

    /// Whether it is found hopeless within a minute of passes, and after how many seconds.
    fn ends_after(mut one: impl FnMut(u64) -> Report) -> Option<u64> {
        let (mut refusals, begun) = (Refusals::default(), Instant::now());
        (0..60).find(|s| refusals.note(&one(*s), begun + Duration::from_secs(*s)))
    }

    #[test]
    fn the_same_words_again_and_again_are_the_last_words() {
        assert_eq!(ends_after(|_| pass(refused("ERR"), 0)), Some(10));
        assert_eq!(
            ends_after(|_| pass(refused("CLUSTERDOWN"), 0)),
            None,
            "that ends by itself"
        );
        let now_and_then = |s| pass(if s % 5 == 0 { Ok(()) } else { refused("ERR") }, 0);
        assert_eq!(ends_after(now_and_then), None);
        assert_eq!(ends_after(|s| pass(refused("ERR"), s)), None, "keys move");
    }
}
