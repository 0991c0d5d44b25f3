//! What many histories add up to: so that one sees what was covered.

use std::collections::BTreeMap;
use std::fmt;

use crate::steps::KINDS;
use crate::{Outcome, PASSES_MAX, REST_MAX_MS};

/// The sum of many histories.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// How many were played.
    pub histories: u64,
    /// Of these, how many rightly waited for a person.
    pub waited_for_a_person: u64,
    /// Passes of the operator.
    pub passes: u64,
    /// The longest way to rest, in passes.
    pub passes_to_rest_max: u64,
    /// The longest way to rest, in virtual milliseconds.
    pub ms_to_rest_max: u64,
    /// Acknowledged writes.
    pub writes: u64,
    /// Acknowledged writes that nobody had in the end, none by a planned step.
    pub writes_lost: u64,
    /// Steps by kind of action.
    pub steps: BTreeMap<&'static str, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
}

impl Tally {
    /// Adds a history.
    pub fn add(&mut self, o: &Outcome) {
        self.histories += 1;
        self.waited_for_a_person += u64::from(o.needs_a_person);
        self.passes += o.passes;
        self.passes_to_rest_max = self.passes_to_rest_max.max(o.passes_to_rest);
        self.ms_to_rest_max = self.ms_to_rest_max.max(o.ms_to_rest);
        self.writes += o.writes;
        self.writes_lost += o.writes_lost;
        for (kind, count) in &o.steps {
            *self.steps.entry(kind).or_insert(0) += count;
        }
        for (kind, count) in &o.faults {
            *self.faults.entry(kind).or_insert(0) += count;
        }
    }

    /// Kinds of action that were never taken, and kinds of fault that never struck.
    pub fn missing(&self) -> Vec<&'static str> {
        let steps = KINDS.into_iter().filter(|k| !self.steps.contains_key(k));
        let faults = crate::faults::KINDS
            .into_iter()
            .filter(|k| self.faults.get(k).is_none_or(|count| *count == 0));
        steps.chain(faults).collect()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} histories, {} passes, {} that rightly waited for a person",
            self.histories, self.passes, self.waited_for_a_person
        )?;
        writeln!(
            f,
            "at rest at the latest after {} passes and {} ms (bounds: {PASSES_MAX} and {REST_MAX_MS})",
            self.passes_to_rest_max, self.ms_to_rest_max
        )?;
        writeln!(
            f,
            "{} acknowledged writes, {} lost, none by a planned step",
            self.writes, self.writes_lost
        )?;
        for (title, counts) in [("steps", &self.steps), ("faults", &self.faults)] {
            let list: Vec<String> = counts.iter().map(|(k, n)| format!("{k} {n}")).collect();
            writeln!(f, "{title}: {}", list.join(", "))?;
        }
        Ok(())
    }
}
