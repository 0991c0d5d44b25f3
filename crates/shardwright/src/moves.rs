//! What slots that are to move amount to: keys, memory, time. By their own size where it was measured, else estimated by
//! what their server holds in all.

use std::collections::BTreeMap;

use serde::Serialize;
use shardwright_planner::{Action, Budget, Plan};
use shardwright_topology::{NodeId, Observed, SizedBy, SlotSet, SlotSize};

use crate::report::place;
use crate::status::bytes;
use crate::verb_result::NodeRef;

/// How many keys move in a second, all sources together: measured on two cores, and less than most machines do.
const KEYS_PER_S: u64 = 50_000;

/// Slots that are to move, and what they amount to.
#[derive(Debug, Serialize)]
pub(crate) struct Move {
    from: NodeRef,
    /// `null`: to a shard that is not there yet.
    to: Option<NodeRef>,
    slots: String,
    slot_count: u16,
    keys: Option<u64>,
    memory_bytes: Option<u64>,
    /// Whether just these slots were measured. Else it is their part, by their number, of what their server holds; or, where
    /// a server does not tell the memory of keys, by the number of their keys.
    measured: bool,
    /// The slots, for people.
    #[serde(skip)]
    shown: String,
    #[serde(skip)]
    source: NodeId,
    /// Both ends, for people.
    #[serde(skip)]
    words: (String, Option<String>),
}

impl Move {
    /// These slots of this primary, to a node that may not be there yet.
    pub(crate) fn of(o: &Observed, from: NodeId, to: Option<NodeId>, slots: &SlotSet) -> Self {
        let own = measured(o, from, slots);
        let server = o.view_of(from).map(|v| &v.server);
        let owned = o.member(from).map_or(0, |m| m.slots.count());
        let part = |whole: u64| {
            let part = u128::from(whole) * u128::from(slots.count()) / u128::from(owned.max(1));
            u64::try_from(part).unwrap_or(u64::MAX)
        };
        Self {
            from: NodeRef::of(o, from),
            to: to.map(|id| NodeRef::of(o, id)),
            words: (place(o, from), to.map(|id| place(o, id))),
            slots: slots.listed(),
            shown: slots.counted().to_string(),
            slot_count: slots.count(),
            keys: match &own {
                Some(own) => Some(own.keys),
                None => server.map(|s| part(s.keys)),
            },
            memory_bytes: match &own {
                Some(own) => Some(own.bytes),
                None => server.and_then(|s| s.used_memory_bytes).map(part),
            },
            measured: own.is_some_and(|own| own.by != SizedBy::Average),
            source: from,
        }
    }

    /// Those of a plan.
    pub(crate) fn all(plan: &Plan, o: &Observed) -> Vec<Self> {
        let moves = plan.steps.iter().filter_map(|step| match &step.action {
            Action::MoveSlots { from, to, slots } => {
                Some(Self::of(o, *from, Some(to.node()), slots))
            }
            _ => None,
        });
        moves.collect()
    }

    /// What these slots amount to.
    pub(crate) fn amount(&self) -> String {
        amount(self.keys, self.memory_bytes, self.measured)
    }

    /// The slots that a plan moves, by the nodes that have them: what has to be measured for all this.
    pub(crate) fn wanted(plan: &Plan) -> BTreeMap<NodeId, SlotSet> {
        let mut wanted: BTreeMap<NodeId, SlotSet> = BTreeMap::new();
        for step in &plan.steps {
            if let Action::MoveSlots { from, slots, .. } = &step.action {
                let all = wanted.entry(*from).or_insert_with(SlotSet::empty);
                *all = all.union(slots);
            }
        }
        wanted
    }

    /// In a line: which slots go where.
    pub(crate) fn line(&self) -> String {
        let Self {
            words: (from, to),
            shown,
            ..
        } = self;
        let to = to.as_deref().unwrap_or("a new shard");
        format!("move slots {shown} from {from} to {to}")
    }
}

/// What all moves together amount to.
#[derive(Debug, Serialize)]
pub(crate) struct Sum {
    slots: u32,
    keys: Option<u64>,
    memory_bytes: Option<u64>,
    /// Whether all of it was measured.
    measured: bool,
    /// By `because`.
    seconds: Option<u64>,
    because: String,
}

impl Sum {
    /// Of these; none where nothing moves.
    pub(crate) fn of(moves: &[Move], budget: &Budget) -> Option<Self> {
        if moves.is_empty() {
            return None;
        }
        let keys = moves.iter().map(|m| m.keys).sum::<Option<u64>>();
        let by_keys = keys.map(|keys| keys.div_ceil(KEYS_PER_S));
        let given = |source: NodeId| -> Option<u64> {
            let of_it = moves.iter().filter(|m| m.source == source);
            of_it.map(|m| m.memory_bytes).sum()
        };
        let most = moves.iter().filter_map(|m| given(m.source)).max();
        let by_bytes = budget
            .bandwidth_bytes_max
            .and_then(|limit| Some(most?.div_ceil(limit.max(1))));
        let (seconds, because) = match (by_bytes, budget.bandwidth_bytes_max) {
            (Some(slower), Some(limit)) if Some(slower) > by_keys => {
                let text = format!("at {} a second from each source", bytes(limit));
                (Some(slower), text)
            }
            _ => (by_keys, format!("at {KEYS_PER_S} keys a second")),
        };
        Some(Self {
            slots: moves.iter().map(|m| u32::from(m.slot_count)).sum(),
            keys,
            memory_bytes: moves.iter().map(|m| m.memory_bytes).sum(),
            measured: moves.iter().all(|m| m.measured),
            seconds,
            because,
        })
    }

    /// In a line.
    pub(crate) fn line(&self) -> String {
        let time = self.seconds.map_or_else(
            || "how long that takes is not known".to_owned(),
            |s| format!("about {} ({})", seconds(s.max(1)), self.because),
        );
        let amount = amount(self.keys, self.memory_bytes, self.measured);
        format!("In all {} slots move: {amount}; {time}.", self.slots)
    }
}

/// What these slots hold together, if all of them were measured.
fn measured(o: &Observed, from: NodeId, slots: &SlotSet) -> Option<SlotSize> {
    let sizes = o.slot_sizes.get(&from)?;
    let none = SlotSize {
        keys: 0,
        bytes: 0,
        largest: 0,
        by: SizedBy::Slot,
    };
    slots.slots().try_fold(none, |sum, slot| {
        let size = sizes.get(&slot)?;
        Some(SlotSize {
            keys: sum.keys.saturating_add(size.keys),
            bytes: sum.bytes.saturating_add(size.bytes),
            largest: sum.largest.max(size.largest),
            by: sum.by.max(size.by),
        })
    })
}

fn amount(keys: Option<u64>, memory: Option<u64>, measured: bool) -> String {
    let keys = keys.map_or_else(|| "keys unknown".to_owned(), |n| format!("about {n} keys"));
    let memory = memory.map_or_else(
        || "memory unknown".to_owned(),
        |n| format!("{} of memory", bytes(n)),
    );
    let how = if measured { "" } else { " (estimated)" };
    format!("{keys}, {memory}{how}")
}

/// A time that a person reads.
pub(crate) fn seconds(s: u64) -> String {
    match (s / 3_600, s / 60 % 60, s % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn moved(source: u8, keys: u64, memory: u64) -> Move {
        Move {
            from: NodeRef {
                id: String::new(),
                server: None,
            },
            to: None,
            slots: "0-99".to_owned(),
            shown: "0-99 (100)".to_owned(),
            slot_count: 100,
            keys: Some(keys),
            memory_bytes: Some(memory),
            measured: true,
            source: NodeId::from_bytes([source; 20]),
            words: (String::new(), None),
        }
    }

    #[test]
    fn the_time_is_that_of_the_slower_limit() {
        let budget = |limit| Budget {
            pause_max: Duration::from_millis(10),
            bandwidth_bytes_max: limit,
        };
        let moves = [
            moved(1, 100_000, 8_000_000),
            moved(1, 50_000, 2_000_000),
            moved(2, 0, 0),
        ];
        let line = |limit| Sum::of(&moves, &budget(limit)).map(|s| s.line());
        assert_eq!(
            line(None).as_deref(),
            Some(
                "In all 300 slots move: about 150000 keys, 9.5M of memory; about 3 s (at 50000 keys a second)."
            )
        );
        assert_eq!(
            line(Some(100_000)).as_deref(),
            Some(
                "In all 300 slots move: about 150000 keys, 9.5M of memory; about 1 min 40 s (at 97.6K a second from each source)."
            )
        );
        assert!(Sum::of(&[], &budget(None)).is_none());
        assert_eq!(
            [59, 61, 3_700].map(seconds),
            ["59 s", "1 min 1 s", "1 h 1 min"]
        );
    }
}
