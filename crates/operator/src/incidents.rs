//! What happens to the shards of a cluster between one look and the next, as notes for people: a primary that is away and
//! back, a promotion that was not ours, a majority that is lost. Pure: it reads no clock, and steers nothing.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_planner::{Action, unserved};
use shardwright_runtime::Report;
use shardwright_topology::{Member, NodeId, NodeView, Observed, Role, SlotSet, Source, Timestamp};

use crate::events::Note;

/// How long after its primary was unreachable last a replica's promotion is put down to that, in milliseconds: node-timeout,
/// an election, and the restart of the primary lie between.
const SILENCE_EXPLAINS_MS: u64 = 60_000;

/// A shard whose primary is unreachable.
#[derive(Clone, Debug)]
struct Away {
    since: Timestamp,
    /// Its slots.
    slots: SlotSet,
    /// What the primary is called.
    name: String,
    /// One look alone may have met a time-out.
    told: bool,
}

/// What was seen of one cluster so far.
#[derive(Debug, Default)]
pub struct Incidents {
    /// Shards without a reachable primary, by the primary that is away.
    away: BTreeMap<NodeId, Away>,
    /// Since when fewer than a majority of the primaries were reachable, and whether that was told.
    no_majority: Option<(Timestamp, bool)>,
    /// What nodes said of themselves last; a primary is one with slots.
    roles: BTreeMap<NodeId, Role>,
    /// Whom replicas followed.
    follows: BTreeMap<NodeId, NodeId>,
    /// When nodes were unreachable last.
    silent_at: BTreeMap<NodeId, Timestamp>,
    /// Whom we promoted, until they are seen as primaries.
    promoted: BTreeSet<NodeId>,
}

impl Incidents {
    /// What there is to tell of a pass.
    pub fn pass(&mut self, report: &Report) -> Vec<Note> {
        let done = report.outcomes.iter().filter(|o| o.result.is_ok());
        let promoted = done.filter(|o| promotes(&o.step.action));
        let promoted = promoted.filter_map(|o| o.step.action.at()).collect();
        self.see(&report.observed, promoted)
    }

    /// What there is to tell of a look; `promoted` are those whom we made primaries after it.
    pub fn see(&mut self, o: &Observed, promoted: BTreeSet<NodeId>) -> Vec<Note> {
        let mut notes = Vec::new();
        // Where no node was reached, nothing is known to have changed.
        if o.views().next().is_some() {
            notes.extend(self.promotions(o));
            notes.extend(self.shards(o));
            notes.extend(self.majority(o));
        }
        self.promoted.extend(promoted);
        notes
    }

    /// Who became a primary by no step of ours.
    fn promotions(&mut self, o: &Observed) -> Vec<Note> {
        let mut notes = Vec::new();
        for member in o.members().values() {
            let Some(own) = o.view_of(member.id).and_then(NodeView::own) else {
                self.silent_at.insert(member.id, o.at);
                continue;
            };
            if own.role == Role::Primary && own.slots.is_empty() {
                self.roles.remove(&member.id);
                continue;
            }
            let was = self.roles.insert(member.id, own.role);
            let before = self.follows.remove(&member.id);
            if let Some(primary) = own.primary {
                self.follows.insert(member.id, primary);
            }
            let ours = own.role == Role::Primary && self.promoted.remove(&member.id);
            if (was, own.role) == (Some(Role::Replica), Role::Primary) && !ours {
                notes.push(self.promotion(o, member, before));
            }
        }
        notes
    }

    fn promotion(&self, o: &Observed, member: &Member, before: Option<NodeId>) -> Note {
        let of = before.map_or_else(String::new, |id| format!(" in place of {}", name_of(o, id)));
        let silent = before.and_then(|id| self.silent_at.get(&id));
        let engine = silent.is_some_and(|at| o.at.since_ms(*at) <= SILENCE_EXPLAINS_MS);
        let (reason, why) = if engine {
            let why = "the engine's own failover, as its primary did not answer";
            ("EngineFailover", why)
        } else {
            let why = "a person or another program did it: its primary answered";
            ("PromotedByOthers", why)
        };
        let (name, slots) = (name_of(o, member.id), &member.slots);
        let text = format!("{name} is the primary of slots {slots}{of}: {why}");
        Note::warning(reason, text)
    }

    /// Shards whose primary is unreachable in two looks, and those that have one again.
    fn shards(&mut self, o: &Observed) -> Vec<Note> {
        let mut notes = Vec::new();
        let silent = o.voters().filter(|m| m.source == Source::Others);
        let silent: BTreeMap<NodeId, &Member> = silent.map(|m| (m.id, m)).collect();
        let unserved = if self.away.is_empty() {
            SlotSet::empty()
        } else {
            unserved(o)
        };
        let served = |slots: &SlotSet| slots.intersection(&unserved).is_empty();
        let gone = self.away.iter().filter(|(id, _)| !silent.contains_key(id));
        let over = gone.filter(|(_, away)| served(&away.slots));
        let ended: Vec<NodeId> = over.map(|(id, _)| *id).collect();
        for away in ended.iter().filter_map(|id| self.away.remove(id)) {
            if away.told {
                let Away { slots, name, .. } = &away;
                let length = length(o.at.since_ms(away.since));
                let text = format!(
                    "slots {slots} have a primary again, {length} after {name} was unreachable"
                );
                notes.push(Note::normal("ShardHasPrimary", text));
            }
        }
        for (id, member) in silent {
            if let Some(away) = self.away.get_mut(&id) {
                if !away.told {
                    let Away { slots, name, .. } = &*away;
                    let text = format!("slots {slots} have no primary: {name} is unreachable");
                    notes.push(Note::warning("ShardWithoutPrimary", text));
                    away.told = true;
                }
                continue;
            }
            let away = Away {
                since: o.at,
                slots: member.slots.clone(),
                name: name_of(o, id),
                told: false,
            };
            self.away.insert(id, away);
        }
        notes
    }

    /// Fewer primaries reachable than a vote needs, in two looks; and enough again.
    fn majority(&mut self, o: &Observed) -> Option<Note> {
        let all = o.voters().count();
        let reachable = o.voters().filter(|m| m.source == Source::Itself).count();
        let lost = all > 0 && reachable * 2 <= all;
        match (self.no_majority, lost) {
            (None, true) => {
                self.no_majority = Some((o.at, false));
                None
            }
            (Some((since, false)), true) => {
                self.no_majority = Some((since, true));
                let text = format!(
                    "{reachable} of {all} primaries can be reached, which is no majority: nothing can be promoted by a vote"
                );
                Some(Note::warning("NoMajority", text))
            }
            (Some((since, told)), false) => {
                self.no_majority = None;
                let length = length(o.at.since_ms(since));
                let text = format!(
                    "{reachable} of {all} primaries can be reached, which is a majority again, after {length}"
                );
                told.then(|| Note::normal("MajorityRestored", text))
            }
            (Some((_, true)), true) | (None, false) => None,
        }
    }
}

/// Whether a step makes a replica the primary of its shard.
fn promotes(action: &Action) -> bool {
    matches!(
        action,
        Action::Switchover { .. } | Action::Failover { .. } | Action::Takeover { .. }
    )
}

fn name_of(o: &Observed, id: NodeId) -> String {
    let server = o.member(id).and_then(|member| member.server.as_ref());
    server.map_or_else(|| id.short(), |server| server.0.clone())
}

fn length(ms: u64) -> String {
    format!("{}.{} s", ms / 1_000, ms % 1_000 / 100)
}
