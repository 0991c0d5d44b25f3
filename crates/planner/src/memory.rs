//! What is remembered from pass to pass. All of it may be lost at any time: that costs a repetition only.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{
    Attempt, AttemptKind, Death, DeathProof, Dissent, DuplicateId, Health, NodeId, NodeView,
    Observed, Place, Process, Role, Row, Seen, Server, ServerName, Slot, SlotSize, Source, Starter,
    Starts, Timestamp, Why,
};

use crate::Action;
use crate::evidence::{in_sync, read};
use crate::identities::Identities;
use crate::rules::meet::disbelieved;

/// How long an attempt is remembered, in milliseconds: longer than any lock of the engines that it could run into
/// (4 × node-timeout at its default of 15 s).
const ATTEMPT_KEPT_MS: u64 = 60_000;
/// After how long the engines have given up an attempt, in milliseconds: 5 s with the old primary, 2 × node-timeout
/// (15 s by default) without.
const ATTEMPT_ENDS_MS: u64 = 30_000;

/// How long the engines keep a forgotten node out, in milliseconds (`CLUSTER FORGET`).
const BAN_MS: u64 = 60_000;

/// How long the size of a slot is remembered, in milliseconds: clients change it meanwhile.
const SIZES_KEPT_MS: u64 = 60_000;

/// The memory of whoever keeps a cluster: filled from what is observed and asked, read by the next plan.
#[derive(Debug, Default)]
pub struct Memory {
    deaths: BTreeMap<ServerName, Death>,
    last_heard: BTreeMap<ServerName, NodeView>,
    /// What nodes said last at servers where others speak by now.
    former: BTreeMap<NodeId, NodeView>,
    attempts: Vec<Attempt>,
    /// The role and run of each node when it was last heard.
    roles: BTreeMap<NodeId, (Role, String)>,
    /// When nodes became primaries, seen by a change of role within one run.
    wins: BTreeMap<NodeId, Timestamp>,
    /// When a vote about each dead primary was last asked for.
    votes: BTreeMap<NodeId, Timestamp>,
    /// Since when each primary's replicas are not believed to be such.
    disbelieved: BTreeMap<NodeId, Timestamp>,
    /// What each server was last heard to be, and where.
    posts: BTreeMap<ServerName, Post>,
    /// Since when all that is so, and all is at rest.
    steady_since: Option<Timestamp>,
    /// When each server that is down was first found dead since it was last heard.
    down_since: BTreeMap<ServerName, Timestamp>,
    /// How each server that was not heard since was told to start.
    starts: BTreeMap<ServerName, Starts>,
    /// The nodes that were seen to own slots, and since when each owns none.
    owned: BTreeMap<NodeId, Option<Timestamp>>,
    /// When each node was last told to take slots or keys in.
    took_in: BTreeMap<NodeId, Timestamp>,
    /// What slots hold at a node.
    sizes: BTreeMap<NodeId, BTreeMap<Slot, Measured>>,
    /// The processes that answered as each node, and which two did so at one time.
    identities: Identities,
    /// The run of each replica, and the primary to which its link was seen up in it.
    linked: BTreeMap<NodeId, (String, NodeId)>,
    /// Replicas that were told not to take their primary's place by themselves.
    held_back: BTreeSet<NodeId>,
    /// Nodes that others had forgotten at the first look, and when they last had; nothing before that look.
    forgotten: Option<BTreeMap<NodeId, Timestamp>>,
}

/// What a slot held at a node.
#[derive(Clone, Copy, Debug)]
struct Measured {
    at: Timestamp,
    size: SlotSize,
    /// Whether the node has owned the slot since.
    owned: bool,
}

/// One run of a node, whose copy it is, and where.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Post {
    node: NodeId,
    run: String,
    primary: Option<NodeId>,
    place: Place,
}

impl Memory {
    /// The process as the runtime and the network together show it: where the runtime can't tell, a refused
    /// connection proves a death, but only where `gone` says so (see [`Witnesses::why_not_dead`]). A death keeps the
    /// time at which it was first proved.
    ///
    /// [`Witnesses::why_not_dead`]: crate::Witnesses::why_not_dead
    pub fn process(
        &mut self,
        server: &ServerName,
        told: &Process,
        starter: Starter,
        view: &Seen<NodeView>,
        gone: bool,
        now: Timestamp,
    ) -> Process {
        let proof = match (told, view) {
            // It spoke after it was said to be dead: its host has started it again.
            (Process::Dead(_), Seen::Known(_)) if starter == Starter::Host => {
                self.deaths.remove(server);
                return Process::Running;
            }
            (Process::Dead(death), _) => Some(death.proof.clone()),
            (Process::Unknown, Seen::Unknown(Why::Refused)) if gone => Some(DeathProof::Refused),
            _ => None,
        };
        let Some(proof) = proof else {
            self.deaths.remove(server);
            return told.clone();
        };
        let death = self
            .deaths
            .entry(server.clone())
            .or_insert(Death { proof, since: now });
        Process::Dead(death.clone())
    }

    /// What a server said last, while it is silent.
    pub fn last_heard(
        &mut self,
        name: &ServerName,
        view: &Seen<NodeView>,
    ) -> Option<Box<NodeView>> {
        match view {
            Seen::Known(view) => {
                let before = self.last_heard.insert(name.clone(), view.clone());
                if let Some(before) = before.filter(|before| before.id != view.id) {
                    self.former.insert(before.id, before);
                }
                None
            }
            Seen::Unknown(_) => self.last_heard.get(name).cloned().map(Box::new),
        }
    }

    /// Adds to an observation what is remembered, and takes note of what it shows.
    pub fn recall(&mut self, o: &mut Observed) {
        let silent = |id: NodeId| o.member(id).is_some_and(|m| m.source == Source::Others);
        self.former.retain(|id, _| silent(*id));
        o.former.clone_from(&self.former);
        self.note_owners(o);
        self.note_wins(o);
        self.note_links(o);
        o.linked = self.linked.iter().map(|(id, (_, of))| (*id, *of)).collect();
        self.held_back.retain(|id| o.member(*id).is_some());
        o.held_back.clone_from(&self.held_back);
        o.forgotten = self.note_forgotten(o);
        self.note_places(o);
        self.note_downs(o);
        self.starts
            .retain(|name, _| o.servers().get(name).is_some_and(|s| !answers(s)));
        o.starts.clone_from(&self.starts);
        self.identities.recall(o);
        o.down_since.clone_from(&self.down_since);
        self.took_in
            .retain(|_, at| o.at.since_ms(*at) < ATTEMPT_KEPT_MS);
        o.took_in.clone_from(&self.took_in);
        self.recall_sizes(o);
        self.attempts.retain_mut(|a| {
            let age = o.at.since_ms(a.at);
            a.ended |= o.view_of(a.node).is_some() && age >= ATTEMPT_ENDS_MS;
            // It is not known how it ended; but a node that nobody lists any more is of no interest.
            let open = !a.ended && o.member(a.node).is_some();
            let done = o.member(a.node).is_some_and(|m| m.role == Role::Primary);
            !done && (open || age < ATTEMPT_KEPT_MS)
        });
        o.attempts.clone_from(&self.attempts);
        o.wins.clone_from(&self.wins);
        o.votes.clone_from(&self.votes);
        let since = |id| (id, *self.disbelieved.get(&id).unwrap_or(&o.at));
        self.disbelieved = disbelieved(o).into_iter().map(since).collect();
        o.disbelieved.clone_from(&self.disbelieved);
        o.steady_since = self.steady_since;
    }

    /// Takes note of what slots hold at a node.
    pub fn measured(&mut self, node: NodeId, sizes: BTreeMap<Slot, SlotSize>, at: Timestamp) {
        let measured = |size| Measured {
            at,
            size,
            owned: false,
        };
        let sizes = sizes.into_iter().map(|(slot, size)| (slot, measured(size)));
        self.sizes.entry(node).or_default().extend(sizes);
    }

    /// Adds what slots hold to an observation, as far as that was measured lately, and was not given away since.
    pub fn recall_sizes(&mut self, o: &mut Observed) {
        for (node, sizes) in &mut self.sizes {
            sizes.retain(|slot, measured| {
                let owned = o.owner(*slot) == Some(*node);
                let given = measured.owned && !owned;
                measured.owned |= owned;
                !given && o.at.since_ms(measured.at) < SIZES_KEPT_MS
            });
        }
        self.sizes.retain(|_, sizes| !sizes.is_empty());
        let now = |sizes: &BTreeMap<Slot, Measured>| {
            let sizes = sizes.iter();
            sizes
                .map(|(slot, measured)| (*slot, measured.size))
                .collect()
        };
        let sizes = self.sizes.iter();
        o.slot_sizes = sizes.map(|(node, sizes)| (*node, now(sizes))).collect();
    }

    /// What an action changes has another size then. Of a move that is what the receiver holds: slots that did not go
    /// are as they were, and those that went are no longer the source's.
    fn forget_sizes(&mut self, action: &Action) {
        match action {
            Action::MoveSlots { to, slots, .. } => {
                if let Some(sizes) = self.sizes.get_mut(&to.node()) {
                    sizes.retain(|slot, _| !slots.contains(*slot));
                }
            }
            Action::MoveKeys { slot, .. } => {
                for sizes in self.sizes.values_mut() {
                    sizes.remove(slot);
                }
            }
            _ => {}
        }
    }

    /// The node ids as which two processes answered a short while ago.
    pub fn duplicates(&self) -> Vec<DuplicateId> {
        self.identities.duplicates()
    }

    /// Remembers that two processes answered as one node.
    pub fn note_duplicates(&mut self, found: Vec<DuplicateId>, at: Timestamp) {
        self.identities.note(found, at);
    }

    /// A server is down from its first death until it is heard again, however often it was started meanwhile.
    fn note_downs(&mut self, o: &Observed) {
        let heard = |name: &ServerName| {
            o.servers()
                .get(name)
                .is_none_or(|s| s.view.known().is_some())
        };
        self.down_since.retain(|name, _| !heard(name));
        for (name, server) in o.servers() {
            if let Some(death) = server.process.death() {
                let since = self.down_since.entry(name.clone());
                since.or_insert(death.since);
            }
        }
    }

    /// Since when everyone is where it is. A server that is only silent says nothing else than before; one that is dead,
    /// leaves, or is not in sync is not at rest, and one that was started again begins anew.
    fn note_places(&mut self, o: &Observed) {
        let mut posts = BTreeMap::new();
        let mut rests = true;
        for (name, server) in o.servers() {
            let post = match server.view.known() {
                Some(view) => post(o, server, view),
                None => self.posts.get(name).cloned(),
            };
            rests &= post.is_some() && !server.leaving && server.process.death().is_none();
            posts.extend(post.map(|post| (name.clone(), post)));
        }
        let same = posts == self.posts;
        self.posts = posts;
        self.steady_since = rests.then(|| self.steady_since.filter(|_| same).unwrap_or(o.at));
    }

    /// Whether this replica was seen with its link to the primary that it follows up, in the run that it is in.
    pub fn saw_linked(&self, replica: &NodeView) -> bool {
        let primary = replica.own().and_then(|own| own.primary);
        let seen = self.linked.get(&replica.id);
        seen.is_some_and(|(run, of)| *run == replica.server.run_id && Some(*of) == primary)
    }

    /// Whether a replica was seen with its link to this primary up, in the run in which it was heard last.
    pub fn saw_link(&self, replica: NodeId, primary: NodeId) -> bool {
        let seen = self.linked.get(&replica);
        seen.is_some_and(|(_, of)| *of == primary)
    }

    /// Which replicas had their links up, to a primary that was heard, or to which they had a bus link as well: else another
    /// may listen at its address. That is forgotten with the run, with another primary, and while a new copy takes the
    /// place of the old.
    fn note_links(&mut self, o: &Observed) {
        for (_, view) in o.views() {
            let primary = view.own().and_then(|own| own.primary);
            let kept = self.linked.get(&view.id).is_some_and(|(run, of)| {
                *run == view.server.run_id && Some(*of) == primary && read(view).is_some()
            });
            if !kept {
                self.linked.remove(&view.id);
            }
            // A link that is dialled in vain is shown as up, until the node is suspected.
            let fine = |row: &Row| row.link_up && row.health == Health::Fine;
            let bus = |id| view.rows.get(id).is_some_and(fine);
            let is_there = |id: &NodeId| o.view_of(*id).is_some() || bus(*id);
            if let Some(primary) = primary.filter(is_there).filter(|_| in_sync(o, view)) {
                let link = (view.server.run_id.clone(), primary);
                self.linked.insert(view.id, link);
            }
        }
        self.linked.retain(|id, _| o.member(*id).is_some());
    }

    /// Who owns slots, and since when who did owns none.
    fn note_owners(&mut self, o: &mut Observed) {
        self.owned.retain(|id, _| o.member(*id).is_some());
        for member in o.members().values() {
            if !member.slots.is_empty() {
                self.owned.insert(member.id, None);
            } else if let Some(since) = self.owned.get_mut(&member.id) {
                since.get_or_insert(o.at);
            }
        }
        let gave = |(id, since): (&NodeId, &Option<Timestamp>)| Some((*id, (*since)?));
        o.gave_all = self.owned.iter().filter_map(gave).collect();
    }

    /// When nodes became primaries, of those whose process was not restarted since.
    fn note_wins(&mut self, o: &Observed) {
        for (_, view) in o.views() {
            let Some(role) = view.own().map(|own| own.role) else {
                continue;
            };
            let this = (role, view.server.run_id.clone());
            match self.roles.insert(view.id, this) {
                Some((_, run)) if run != view.server.run_id => {
                    self.wins.remove(&view.id);
                }
                Some((Role::Replica, _)) if role == Role::Primary => {
                    self.wins.insert(view.id, o.at);
                }
                Some(_) | None => {}
            }
        }
    }

    /// The nodes that others had forgotten when they were first looked at, though they know those. Later ones are nodes
    /// that join, of which some hear before others.
    fn note_forgotten(&mut self, o: &Observed) -> BTreeMap<NodeId, Timestamp> {
        let missed = o.disagreements().iter().filter(|g| {
            let row = o.view_of(g.about).and_then(|v| v.rows.get(g.speaker));
            g.dissent == Dissent::NotListed && row.is_some_and(Row::is_member)
        });
        let missed: BTreeSet<NodeId> = missed.map(|g| g.about).collect();
        let first = self.forgotten.is_none();
        let known = self.forgotten.get_or_insert_default();
        for node in missed {
            if first || known.contains_key(&node) {
                known.insert(node, o.at);
            }
        }
        known.retain(|_, at| o.at.since_ms(*at) < BAN_MS);
        known.clone()
    }

    /// Remembers that a node was asked, whether or not an answer came.
    pub fn asked(&mut self, action: &Action, at: Timestamp) {
        self.forget_sizes(action);
        if let Action::MoveSlots { to, .. } | Action::MoveKeys { to, .. } = action {
            self.took_in.insert(to.node(), at);
        }
        match action {
            Action::SetElectable {
                node,
                electable: false,
            } => {
                self.held_back.insert(*node);
            }
            Action::SetElectable {
                node,
                electable: true,
            } => {
                self.held_back.remove(node);
            }
            _ => {}
        }
        if let Action::StartServer { server } | Action::StartAfresh { server } = action {
            let before = self.starts.get(server).map_or(0, |starts| starts.times);
            let times = before.saturating_add(1);
            self.starts
                .insert(server.clone(), Starts { times, last: at });
        }
        // Whoever becomes the owner of a slot that was half moved has taken its keys in.
        if let Action::AssignSlot { node, owner, .. } = action
            && node == owner
        {
            self.took_in.insert(*owner, at);
        }
        let kind = match action {
            Action::Failover { .. } => AttemptKind::Failover,
            Action::Takeover { .. } => AttemptKind::Takeover,
            Action::Switchover { .. } => AttemptKind::Switchover,
            Action::StartServer { .. }
            | Action::StartAfresh { .. }
            | Action::Recreate { .. }
            | Action::Replace { .. }
            | Action::RemoveServer { .. }
            | Action::RecordFormed
            | Action::SetConfigEpoch { .. }
            | Action::AddSlots { .. }
            | Action::Meet { .. }
            | Action::Replicate { .. }
            | Action::Forget { .. }
            | Action::Reset { .. }
            | Action::CloseSlot { .. }
            | Action::CopyFunctions { .. }
            | Action::SetElectable { .. }
            | Action::RaiseEpoch { .. }
            | Action::AssignSlot { .. }
            | Action::MoveKeys { .. }
            | Action::MoveSlots { .. } => return,
        };
        if let Action::Failover { dead, .. } = action {
            self.votes.insert(dead.node(), at);
        }
        if let Some(node) = action.at() {
            self.attempts.push(Attempt {
                node,
                kind,
                at,
                ended: false,
            });
        }
    }
}

/// Whether a server says anything: what it says may be that it loads, or lets nobody in.
fn answers(server: &Server) -> bool {
    match &server.view {
        Seen::Known(_) => true,
        Seen::Unknown(why) => why.is_an_answer(),
    }
}

/// The post of a server that was heard; none while it is not in sync.
fn post(o: &Observed, server: &Server, view: &NodeView) -> Option<Post> {
    Some(Post {
        node: view.id,
        run: view.server.run_id.clone(),
        primary: view.own().filter(|_| in_sync(o, view))?.primary,
        place: server.place.clone(),
    })
}
