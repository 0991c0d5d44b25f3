//! The judge: it knows the truth, and watches what our steps do to it. It shares nothing with the planner.

mod copies;
mod functions;
mod removal;

use std::collections::{BTreeMap, BTreeSet};

use shardwright_planner::Action;
use shardwright_topology::{NodeId, Observed, OpenSlot, Role, ServerName, Slot, SlotSet};

use crate::model::{Model, Persistence};
use crate::node::Key;

/// What the judge remembers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) violations: Vec<String>,
    /// Whether the cluster is ours to set up.
    pub(crate) managed: bool,
    /// Whether a person agreed to lose data.
    pub(crate) consent: bool,
    /// Whether the operator was down lately: then nobody could have done better.
    pub(crate) operator_down_until: u64,
    /// Who was asked to leave.
    pub(crate) leaving: BTreeSet<NodeId>,
    /// The seats that are too many for what is declared: nothing but slots keeps them.
    pub(crate) too_many: BTreeSet<usize>,
    /// When our own steps last assigned a slot.
    assigned: BTreeMap<u16, u64>,
    /// Which node each moved key last went to, and when.
    moved_in: BTreeMap<Key, (NodeId, u64)>,
    /// When each node last became a primary.
    promoted: BTreeMap<NodeId, u64>,
    /// Switchovers that we asked for: the replica, its primary, and when.
    switchovers: BTreeMap<NodeId, (NodeId, u64)>,
    /// Keys that a node alone held for its shard when we made it copy another.
    copied_before: BTreeMap<NodeId, BTreeSet<Key>>,
    /// When a server last changed so that it could not be heard, or could again.
    pub(crate) disturbed: BTreeMap<usize, u64>,
    /// When nodes last could not reach one another.
    cut_until: u64,
    /// When the operator last got no answer from a server that was well.
    pub(crate) deaf_until: u64,
    /// How often two primaries took writes for one slot by the engines' doing.
    pub(crate) engine_duals: u64,
    /// Keys that servers deleted by themselves: for lack of memory by what clients, or other people, wrote, or because
    /// they started with keys of others' slots.
    pub(crate) evicted: BTreeSet<Key>,
}

/// How long a server must have been in reach before not hearing it is our fault.
pub(crate) const COULD_BE_HEARD_MS: u64 = 3_000;

/// How long a primary that was taking slots in is waited for, at least, before another takes its place: after it was
/// told to take them it is known to be one for 5 s.
const IMPORTER_WAITED_FOR_MS: u64 = 4_500;

impl Oracle {
    /// Notes that a move assigns these slots.
    pub(crate) fn assigns(&mut self, slots: &[Slot], now: u64) {
        let numbers = slots.iter().map(|s| (s.number(), now));
        self.assigned.extend(numbers);
    }

    /// Notes that a node has taken in a key, which its source has no more.
    pub(crate) fn takes_in(&mut self, key: Key, node: NodeId, now: u64) {
        self.moved_in.insert(key, (node, now));
    }
}

impl Model {
    pub(crate) fn accuse(&mut self, what: String) {
        self.trace.note(self.now, format_args!("VIOLATION {what}"));
        self.oracle.violations.push(what);
    }

    /// Notes that a server could not be heard, or can be again.
    pub(crate) fn disturb(&mut self, seat: usize) {
        let now = self.now;
        self.oracle.disturbed.insert(seat, now);
    }

    /// Whether somebody else has a key, or nobody is to: its server has deleted it by itself, and a copy of it is an old one.
    fn held_elsewhere(&self, key: Key, except: usize) -> bool {
        let gone = self.oracle.evicted.contains(&key);
        gone || self.seats.iter().enumerate().any(|(i, s)| {
            i != except && !s.foreign && s.node.as_ref().is_some_and(|n| n.data.contains(&key))
        })
    }

    /// Who truly owns a slot: of all that claim it for themselves, living or on a disk, the one with the greatest epoch.
    fn true_owner(&self, slot: u16) -> Option<NodeId> {
        let slot = shardwright_topology::Slot::new(u64::from(slot)).ok()?;
        self.seats
            .iter()
            .filter(|s| !s.foreign)
            .filter_map(|s| s.node.as_ref())
            .filter(|n| n.is_primary() && n.me().slots.contains(slot))
            .max_by_key(|n| (n.me().epoch, n.id))
            .map(|n| n.id)
    }

    /// Keys that a server deleted for lack of memory by what we moved there: they are lost.
    pub(crate) fn oracle_evicted_by_a_move(&mut self, seat: usize, gone: &[Key]) {
        if !gone.is_empty() {
            let name = self.seats[seat].name.clone();
            let many = gone.len();
            self.accuse(format!(
                "a move made {name} delete {many} keys for lack of memory"
            ));
        }
    }

    /// Keys that a node deleted because their slots went elsewhere.
    pub(crate) fn oracle_dropped_with_slots(&mut self, seat: usize, dropped: &[Key]) {
        let lost: Vec<Key> = dropped
            .iter()
            .copied()
            .filter(|k| !self.held_elsewhere(*k, seat))
            .filter(|k| {
                // Later, or across a cut, an election of the engine's own takes what it never heard was given away.
                let at = self.oracle.assigned.get(&k.0);
                at.is_some_and(|at| {
                    self.now - at < COULD_BE_HEARD_MS && *at > self.oracle.cut_until
                })
            })
            .collect();
        if let Some(key) = lost.first() {
            let name = self.seats[seat].name.clone();
            self.accuse(format!(
                "assigning slot {} made {name} delete the last copy of {} keys",
                key.0,
                lost.len()
            ));
        }
    }

    /// A copy replaced what a node had.
    pub(crate) fn oracle_replaced_by_copy(
        &mut self,
        seat: usize,
        source: usize,
        dropped: &[Key],
        ours: bool,
    ) {
        let Some(id) = self.seats[seat].node.as_ref().map(|n| n.id) else {
            return;
        };
        let alone = self.oracle.copied_before.remove(&id);
        if self.oracle.consent {
            return;
        }
        let last: Vec<Key> = dropped
            .iter()
            .copied()
            .filter(|k| !self.held_elsewhere(*k, seat))
            .collect();
        let (name, from) = (
            self.seats[seat].name.clone(),
            self.seats[source].name.clone(),
        );
        if ours {
            let moved = last
                .iter()
                .filter(|k| alone.as_ref().is_some_and(|keys| keys.contains(k)))
                .count();
            if moved > 0 {
                self.accuse(format!(
                    "making {name} a replica of {from} dropped the last copy of {moved} keys"
                ));
            }
        }
        if self.seats[source].started_by_us {
            let emptied = last
                .iter()
                .filter(|k| self.seats[source].lost.contains(k))
                .count();
            if emptied > 0 {
                self.accuse(format!(
                    "starting {from} emptied its replica {name} of {emptied} keys"
                ));
            }
        }
    }

    /// A node became a primary in place of another.
    pub(crate) fn oracle_promoted(&mut self, seat: usize, past: Option<NodeId>) {
        let now = self.now;
        let Some(node) = self.seats[seat].node.as_ref() else {
            return;
        };
        let (id, mine) = (node.id, node.data.clone());
        self.oracle.promoted.insert(id, now);
        // The engine may elect one that we told to follow another, before it has anything of that.
        if let Some(past) = past.filter(|_| self.oracle.copied_before.contains_key(&id)) {
            self.judge_copy(past, id);
        }
        let Some((primary, at)) = self.oracle.switchovers.remove(&id) else {
            return;
        };
        if past != Some(primary) || now - at > 5_000 {
            return;
        }
        let Some(old) = self.home(primary).filter(|i| self.seats[*i].running) else {
            return;
        };
        let theirs = self.seats[old].node.as_ref().expect("its home has it");
        let missing = theirs.data.difference(&mine).count();
        if missing > 0 {
            let name = self.name(id);
            self.accuse(format!(
                "the switchover to {name} dropped {missing} acknowledged writes"
            ));
        }
    }

    /// Looks for two primaries that take writes for one slot.
    pub(crate) fn watch(&mut self) {
        if !self.cut.is_empty() {
            self.oracle.cut_until = self.now;
        }
        let mut takers: Vec<(usize, NodeId, u64, SlotSet)> = Vec::new();
        let mut slots = 0_u32;
        for (i, s) in self.seats.iter().enumerate() {
            let Some(node) = s.node.as_ref().filter(|_| !s.foreign && self.answers(i)) else {
                continue;
            };
            if node.state_ok && node.paused.is_none() && node.is_primary() {
                slots += u32::from(node.me().slots.count());
                // Of a slot that it gives away it takes no new key: it asks the client to go on.
                let given = |o: &OpenSlot| match o {
                    OpenSlot::Migrating { slot, .. } => Some(*slot),
                    OpenSlot::Importing { .. } => None,
                };
                let given: SlotSet = node.open.iter().filter_map(given).collect();
                let taken = node.me().slots.difference(&given);
                takers.push((i, node.id, node.me().epoch, taken));
            }
        }
        if slots <= u32::from(shardwright_topology::SLOT_COUNT) && takers.len() < 2 {
            return;
        }
        let mut found = None;
        for (k, a) in takers.iter().enumerate() {
            for b in &takers[k + 1..] {
                if !a.3.intersection(&b.3).is_empty() {
                    let (newer, older) = if a.2 >= b.2 { (a, b) } else { (b, a) };
                    found = Some((newer.1, older.0));
                }
            }
        }
        let Some((newer, older)) = found else { return };
        self.oracle.engine_duals += 1;
        let s = &self.seats[older];
        let since = s.node.as_ref().map(|n| n.started);
        let after = self.oracle.promoted.get(&newer).copied();
        let ours = s.started_by_us
            && since.zip(after).is_some_and(|(start, at)| start > at)
            && (self.oracle.cut_until == 0 || self.now > self.oracle.cut_until + COULD_BE_HEARD_MS)
            && self.operator_cut.is_empty()
            && (self.oracle.deaf_until == 0
                || self.now > self.oracle.deaf_until + COULD_BE_HEARD_MS)
            && self.now > self.oracle.operator_down_until + COULD_BE_HEARD_MS;
        if ours {
            let (older, newer) = (s.name.clone(), self.name(newer));
            self.accuse(format!(
                "{older}, which was started again, and {newer} both take writes for one slot"
            ));
        }
    }

    /// All slots that some node, living or on a disk, claims for itself.
    pub(crate) fn claimed(&self) -> SlotSet {
        // What was in the place before another's process runs there is kept, and comes back.
        let own = self.seats.iter();
        own.filter_map(|s| if s.foreign { &s.stash } else { &s.node }.as_ref())
            .filter(|n| n.is_primary())
            .flat_map(|n| n.me().slots.ranges().iter().copied())
            .collect()
    }

    /// Judges a step by the truth, right before it is taken.
    pub(crate) fn judge(&mut self, action: &Action, o: &Observed) {
        let touched: Vec<NodeId> = action.at().into_iter().chain(about(action)).collect();
        for id in touched {
            let stranger = self.home(id).is_none_or(|i| self.seats[i].foreign)
                && !self.names.contains_key(&id);
            if stranger {
                self.accuse(format!("a step touches a stranger: {action}"));
            }
            self.judge_doubled(id, action);
        }
        match action {
            Action::AddSlots { node, slots } => self.judge_adding(*node, slots),
            Action::Replicate { node, .. } => {
                let alone = self.alone(node.node());
                self.oracle.copied_before.insert(node.node(), alone);
            }
            Action::Switchover { replica, primary } => {
                let now = self.now;
                self.oracle.switchovers.insert(*replica, (*primary, now));
            }
            Action::Failover { dead, seen } => {
                self.judge_passing_a_living(dead.node(), o);
                self.judge_promotion(dead.node(), seen.replica(), o);
            }
            Action::Takeover { replica, dead } => {
                self.judge_passing_a_living(dead.node(), o);
                self.judge_promotion(dead.node(), *replica, o);
            }
            Action::Forget { gone, .. } => self.judge_forgetting(gone.node(), o),
            Action::Reset { node } => self.judge_reset(node.node()),
            Action::Recreate { server, .. } => self.judge_recreation(server, o),
            Action::RemoveServer { server } => self.judge_removal(server),
            Action::AssignSlot { slot, .. } => {
                let now = self.now;
                self.oracle.assigned.insert(slot.number(), now);
            }
            // A server that others started since it was looked at is not started twice: nothing happens.
            Action::StartServer { .. }
            | Action::StartAfresh { .. }
            | Action::Replace { .. }
            | Action::RecordFormed
            | Action::SetConfigEpoch { .. }
            | Action::Meet { .. }
            | Action::CloseSlot { .. }
            | Action::RaiseEpoch { .. }
            | Action::MoveKeys { .. }
            | Action::SetElectable { .. }
            | Action::CopyFunctions { .. } => {}
            Action::MoveSlots { from, to, slots } => {
                self.judge_first_slots(to.node());
                self.judge_last_slots(*from, slots);
            }
        }
    }

    /// Of two processes with one id nobody knows which a command reaches.
    fn judge_doubled(&mut self, id: NodeId, action: &Action) {
        let could_hear = |i: usize| {
            let disturbed = self.oracle.disturbed.get(&i);
            let s = &self.seats[i];
            let lately = [disturbed, s.node.as_ref().map(|n| &n.started)];
            s.listed
                && self.answers(i)
                && !self.operator_cut.contains(&i)
                && !self.refusing.contains(&i)
                && (lately.into_iter().flatten()).all(|at| self.now > at + COULD_BE_HEARD_MS)
        };
        let has = |i: &usize| self.seats[*i].node.as_ref().is_some_and(|n| n.id == id);
        let heard = (0..self.seats.len()).filter(|i| has(i) && could_hear(*i));
        let deaf = self.oracle.deaf_until;
        if heard.count() > 1 && (deaf == 0 || self.now > deaf + COULD_BE_HEARD_MS) {
            self.accuse(format!(
                "a step is about one of two servers with one id: {action}"
            ));
        }
    }

    /// The keys that a node alone holds for the primary it copies. What it has not finished to copy is no copy.
    fn alone(&self, id: NodeId) -> BTreeSet<Key> {
        let Some((at, node)) = self
            .home(id)
            .and_then(|i| Some((i, self.seats[i].node.as_ref()?)))
            .filter(|(_, n)| n.copying.up)
        else {
            return BTreeSet::new();
        };
        let head = node.me().primary;
        let keys = node.data.iter().copied();
        keys.filter(|k| !self.held_elsewhere(*k, at) && self.true_owner(k.0) == head)
            .collect()
    }

    fn judge_adding(&mut self, node: NodeId, slots: &SlotSet) {
        let owners: Vec<NodeId> = self
            .seats
            .iter()
            .filter(|s| !s.foreign)
            .filter_map(|s| s.node.as_ref())
            .filter(|n| n.id != node && n.is_primary())
            .filter(|n| !n.me().slots.intersection(slots).is_empty())
            .map(|n| n.id)
            .collect();
        if let Some(owner) = owners.first()
            && !self.oracle.consent
        {
            let (node, owner) = (self.name(node), self.name(*owner));
            self.accuse(format!("slots of {owner} are given to {node} too"));
        }
        let given = |k: &Key| {
            shardwright_topology::Slot::new(u64::from(k.0)).is_ok_and(|s| slots.contains(s))
        };
        // Keys that the new owner has too are not left behind.
        let mine = self.home(node).and_then(|i| self.seats[i].node.as_ref());
        let kept = self.seats.iter().filter_map(|s| s.node.as_ref()).find(|n| {
            let mut lacks = n.data.iter().filter(|k| given(k));
            n.id != node && lacks.any(|k| !mine.is_some_and(|mine| mine.data.contains(k)))
        });
        if let Some(holder) = kept.map(|n| n.id)
            && !self.oracle.consent
        {
            let (node, holder) = (self.name(node), self.name(holder));
            self.accuse(format!(
                "slots {slots} are given to {node} though {holder} holds keys of them, without consent"
            ));
        }
    }

    /// Whether a majority of the primaries with slots holds this node to have failed.
    fn most_hold_failed(&self, node: NodeId) -> bool {
        let running = self.seats.iter().filter(|s| s.running && !s.foreign);
        let nodes = running.filter_map(|s| s.node.as_ref());
        let voters = nodes.filter(|n| n.me().votes() && n.id != node);
        let failed = voters.filter(|n| n.peers.get(&node).is_some_and(crate::node::Peer::failed));
        let size = self.home(node).and_then(|i| self.seats[i].node.as_ref());
        size.is_some_and(|n| failed.count() >= n.quorum())
    }

    fn judge_passing_a_living(&mut self, dead: NodeId, o: &Observed) {
        // Of processes that are not ours the engine's voters decide who is dead: where a majority holds it FAIL they
        // elect without us too.
        if o.formed.is_none() && self.most_hold_failed(dead) {
            return;
        }
        // One that others started again after its death was seen takes no writes before the writable delay is over,
        // and by then knows its heir.
        let again = |i: usize| {
            let s = &self.seats[i];
            !s.started_by_us
                && s.node
                    .as_ref()
                    .is_some_and(|n| self.now < n.started + crate::facts::WRITABLE_DELAY_MS / 2)
        };
        if self
            .home(dead)
            .is_some_and(|i| self.seats[i].running && !again(i))
        {
            let dead = self.name(dead);
            self.accuse(format!("{dead} is promoted past, and lives"));
        }
    }

    fn judge_promotion(&mut self, dead: NodeId, heir: NodeId, o: &Observed) {
        self.judge_passing_an_importer(dead);
        self.judge_copy(dead, heir);
        let Some(mine) = self.home(heir).and_then(|i| self.seats[i].node.as_ref()) else {
            return;
        };
        let (offset, stream) = (mine.offset, mine.replid);
        let heard = |id| o.view_of(id).is_some();
        let mut fresher = None;
        for (i, s) in self.seats.iter().enumerate() {
            let Some(node) = s.node.as_ref().filter(|n| n.id != heir) else {
                continue;
            };
            if node.me().primary != Some(dead) || node.me().role != Role::Replica {
                continue;
            }
            let calm = self
                .oracle
                .disturbed
                .get(&i)
                .is_none_or(|at| self.now - at > COULD_BE_HEARD_MS);
            // Offsets of two streams say nothing about one another.
            let fresher_copy = node.replid == stream
                && node.offset > offset
                && node.copying.busy.is_none()
                && self.answers(i);
            // One that was heard could be had; one that was not, if it had been within reach for a while.
            let within_reach = calm && s.listed && !self.operator_cut.contains(&i);
            if fresher_copy && (heard(node.id) || within_reach) {
                fresher = Some(node.id);
            }
        }
        if let Some(fresher) = fresher {
            let (heir, fresher) = (self.name(heir), self.name(fresher));
            self.accuse(format!(
                "{heir} is promoted over {fresher}, which has the fresher copy"
            ));
        }
    }

    /// A dead primary that could come back is not passed over while it alone has keys that moved there a moment ago.
    fn judge_passing_an_importer(&mut self, dead: NodeId) {
        let Some(seat) = self.home(dead) else { return };
        let s = &self.seats[seat];
        let returns = s.persistence != Persistence::Off && s.listed;
        let Some(node) = s.node.as_ref().filter(|n| returns && !n.torn) else {
            return;
        };
        let down = self.oracle.operator_down_until;
        let fresh = |key: &&Key| {
            let moved = self.oracle.moved_in.get(*key);
            moved.is_some_and(|(to, at)| {
                // An operator that was down since remembers nothing of it.
                *to == dead && self.now - at < IMPORTER_WAITED_FOR_MS && (down == 0 || *at > down)
            })
        };
        let alone = |key: &&Key| !self.held_elsewhere(**key, seat);
        let keys = node.data.iter().filter(fresh).filter(alone).count();
        if keys > 0 && self.operator_cut.is_empty() {
            let name = self.name(dead);
            self.accuse(format!(
                "{name} is promoted past, and alone has {keys} keys that moved there"
            ));
        }
    }

    /// A node that owns nothing and copies nobody may be forgotten by mistake: it is greeted again when it is heard.
    fn judge_forgetting(&mut self, gone: NodeId, o: &Observed) {
        if self.oracle.leaving.contains(&gone) {
            return;
        }
        let harm = self.home(gone).is_some_and(|i| {
            let owns = |n: &crate::node::Node| n.is_primary() && !n.me().slots.is_empty();
            let goes = self.oracle.too_many.contains(&i);
            let copies = |n: &crate::node::Node| self.seats[i].running && n.copying.up && !goes;
            let node = self.seats[i].node.as_ref();
            node.is_some_and(|n| owns(n) || copies(n))
        });
        if harm && !self.oracle.consent {
            let name = self.name(gone);
            let told: Vec<String> = o
                .servers()
                .values()
                .map(|s| {
                    let id = |id: Option<NodeId>| id.map(|id| self.name(id));
                    let said = s.view.known().map(|v| v.id);
                    format!(
                        "{} says {:?}, recorded {:?}",
                        s.name,
                        id(said),
                        id(s.recorded_id)
                    )
                })
                .collect();
            self.accuse(format!(
                "{name} is forgotten, and lives or owns slots: {told:?}"
            ));
        }
    }

    /// How many keys only this server could bring back: it alone has them, and no other that lives owns their slot by a
    /// better claim, whose copy would drop them.
    fn needed(&self, seat: usize) -> usize {
        let Some(node) = self.seats[seat].node.as_ref() else {
            return 0;
        };
        let lives = |owner| self.home(owner).is_some_and(|i| self.seats[i].running);
        let keys = node.data.iter().filter(|k| !self.held_elsewhere(**k, seat));
        let owner = |key: &Key| self.true_owner(key.0);
        keys.filter(|k| owner(k).is_none_or(|owner| owner == node.id || !lives(owner)))
            .count()
    }

    /// The volume of a node that by the truth owns a slot that no other serves, or has keys that only it could bring
    /// back, is needed. But of one that became a primary secretly, as it was asked to by an operator that has forgotten
    /// it since, nobody can know.
    fn judge_recreation(&mut self, server: &ServerName, o: &Observed) {
        let found = self.seats.iter().position(|s| s.name == *server);
        let Some((i, node)) = found.and_then(|i| Some((i, self.seats[i].node.clone()?))) else {
            return;
        };
        let id = node.id;
        let name = self.name(id);
        let takes = |n: &crate::node::Node, slot| n.is_primary() && n.me().slots.contains(slot);
        let elsewhere = |slot| {
            let mut others = self.seats.iter().filter(|s| s.running && !s.foreign);
            others.any(|s| {
                s.node
                    .as_ref()
                    .is_some_and(|n| n.id != id && takes(n, slot))
            })
        };
        let mut own = node.me().slots.slots().filter(|s| takes(&node, *s));
        let owns = own.any(|s| self.true_owner(s.number()) == Some(id) && !elsewhere(s));
        let told = |n: &crate::node::Node| {
            let row = n.peers.get(&id).filter(|_| n.id != id);
            row.is_some_and(|row| row.role == Role::Primary)
        };
        let others = self.seats.iter().filter(|s| s.running && !s.foreign);
        let heard = o
            .servers()
            .get(server)
            .is_some_and(|s| s.last_heard.is_some());
        let known = heard || others.filter_map(|s| s.node.as_ref()).any(told);
        let secretly = node.is_primary() && !known;
        // What was copied to another server still has its original.
        let mut seats = self.seats.iter().enumerate().filter(|(at, _)| *at != i);
        let copied = seats.any(|(_, s)| s.node.as_ref().is_some_and(|n| n.id == id));
        if (owns && !copied || self.needed(i) > 0) && !secretly && !self.oracle.consent {
            self.accuse(format!(
                "the volume of {name} is given up, and may be needed"
            ));
        }
    }
}

/// The other nodes an action is about, as far as they must be ours.
fn about(action: &Action) -> Option<NodeId> {
    match action {
        Action::Meet { target, .. } => Some(target.node()),
        Action::Replicate { primary, .. } | Action::Switchover { primary, .. } => Some(*primary),
        Action::MoveKeys { to, .. } | Action::MoveSlots { to, .. } => Some(to.node()),
        Action::AssignSlot { owner, .. } => Some(*owner),
        Action::StartServer { .. }
        | Action::StartAfresh { .. }
        | Action::Recreate { .. }
        | Action::Replace { .. }
        | Action::RemoveServer { .. }
        | Action::RecordFormed
        | Action::SetConfigEpoch { .. }
        | Action::AddSlots { .. }
        | Action::Failover { .. }
        | Action::Takeover { .. }
        | Action::Forget { .. }
        | Action::Reset { .. }
        | Action::RaiseEpoch { .. }
        | Action::CopyFunctions { .. }
        | Action::SetElectable { .. }
        | Action::CloseSlot { .. } => None,
    }
}
