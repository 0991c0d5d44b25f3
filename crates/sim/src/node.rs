//! One engine process with its table, its data and its clocks: what is kept, and what it says of itself.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{FunctionLibraries, NodeId, OpenSlot, Role, Slot, SlotSet};

use crate::facts::Profile;

/// Where a process listens: a number for one IP address and port. [`At::NONE`] is `noaddr`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct At(pub(crate) u16);

impl At {
    pub(crate) const NONE: Self = Self(0);
}

/// One key, which is one write: its slot and its number.
pub(crate) type Key = (u16, u32);

/// What a node believes of another's health.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Belief {
    Fine,
    Suspected,
    Failed { since: u64 },
}

/// A row of a node's table.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) at: At,
    pub(crate) role: Role,
    pub(crate) primary: Option<NodeId>,
    /// The shard it was said to be in, by the id of the node that began it; none: one of its own.
    pub(crate) shard: Option<NodeId>,
    pub(crate) epoch: u64,
    pub(crate) slots: SlotSet,
    pub(crate) belief: Belief,
    /// When the oldest unanswered ping was sent.
    pub(crate) pinged: Option<u64>,
    /// When the last answer came.
    pub(crate) heard: u64,
    pub(crate) link_up: bool,
    /// Who reported it as failing, and when.
    pub(crate) reports: BTreeMap<NodeId, u64>,
    /// When this node last voted about it.
    pub(crate) voted: Option<u64>,
    /// Its replication offset, by its last header.
    pub(crate) offset: u64,
}

impl Peer {
    pub(crate) fn new(at: At, role: Role, now: u64) -> Self {
        Self {
            at,
            role,
            primary: None,
            shard: None,
            epoch: 0,
            slots: SlotSet::empty(),
            belief: Belief::Fine,
            pinged: None,
            heard: now,
            link_up: false,
            reports: BTreeMap::new(),
            voted: None,
            offset: 0,
        }
    }

    /// Whether it votes: a primary with slots.
    pub(crate) fn votes(&self) -> bool {
        self.role == Role::Primary && !self.slots.is_empty()
    }

    pub(crate) fn failed(&self) -> bool {
        matches!(self.belief, Belief::Failed { .. })
    }
}

/// A node that was met and is not yet known by name.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    /// The made-up name it has meanwhile.
    pub(crate) name: NodeId,
    pub(crate) at: At,
    pub(crate) since: u64,
    pub(crate) sent: Option<u64>,
    /// Whether MEET is sent (we were told to), or only a ping (it met us).
    pub(crate) meets: bool,
}

/// A replica's election.
#[derive(Clone, Debug)]
pub(crate) struct Election {
    /// When votes are asked for.
    pub(crate) at: u64,
    pub(crate) sent: bool,
    pub(crate) epoch: u64,
    pub(crate) votes: BTreeSet<NodeId>,
}

/// A failover that was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Manual {
    pub(crate) until: u64,
    /// Without the primary. With it, the replica first waits for the paused primary's offset.
    pub(crate) force: bool,
    pub(crate) target: Option<u64>,
}

/// A replica's copying.
#[derive(Clone, Debug)]
pub(crate) struct Copying {
    /// Whether the link is up and the first copy done.
    pub(crate) up: bool,
    /// Being copied: until when, and whether fully.
    pub(crate) busy: Option<(u64, bool)>,
    /// From which run of which node.
    pub(crate) from: Option<(NodeId, u64)>,
    /// Counts the links, so that what was sent on an old one is not taken from a new one.
    pub(crate) link: u64,
    pub(crate) last_contact: u64,
    /// The address it copies from. On Redis 7 that may be another than its table gives to its primary.
    pub(crate) target: At,
    /// When it lost its link; none before the first since it began to follow.
    pub(crate) lost: Option<u64>,
    /// Whether the planner made it copy this primary, so that what the first copy replaces is our doing.
    pub(crate) ours: bool,
}

/// Whether a replica stands for election when its primary fails (`cluster-replica-no-failover`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Elections {
    Stands,
    HeldBack,
}

/// One engine process.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) profile: Profile,
    /// Changes with each start; unique in a history.
    pub(crate) run: u64,
    pub(crate) started: u64,
    pub(crate) current_epoch: u64,
    pub(crate) last_vote_epoch: u64,
    /// The table, its own row included.
    pub(crate) peers: BTreeMap<NodeId, Peer>,
    pub(crate) greetings: Vec<Greeting>,
    pub(crate) banned: BTreeMap<NodeId, u64>,
    pub(crate) open: Vec<OpenSlot>,
    pub(crate) state_ok: bool,
    /// When it last was in a minority.
    pub(crate) minority: Option<u64>,
    pub(crate) election: Option<Election>,
    /// Whether it takes its failed primary's place by itself. The setting is gone with the process.
    pub(crate) elections: Elections,
    pub(crate) manual: Option<Manual>,
    /// A primary takes no writes until then (a switchover is under way), and for whom.
    pub(crate) paused: Option<(u64, NodeId)>,
    pub(crate) data: BTreeSet<Key>,
    /// How many keys it has deleted for lack of memory since it was started.
    pub(crate) evicted: u64,
    /// Libraries of functions.
    pub(crate) libraries: FunctionLibraries,
    /// Its table on disk is one that it refuses to load: it can't be started any more.
    pub(crate) torn: bool,
    /// Its table on disk is gone: it will start under an id that nobody knows, with its data.
    pub(crate) table_lost: bool,
    pub(crate) replid: u64,
    /// The stream it continued when it was promoted, and up to where.
    pub(crate) replid2: Option<(u64, u64)>,
    pub(crate) offset: u64,
    pub(crate) copying: Copying,
    /// Whose data it copied last, in full or going on, while it holds that.
    pub(crate) copy_of: Option<NodeId>,
    /// Whose data it held when it became a primary.
    pub(crate) promoted_with: Option<NodeId>,
    pub(crate) ticks: u64,
    /// Sessions of its replicas: seat of the replica and when the last write sent to it arrives.
    pub(crate) sending: BTreeMap<usize, u64>,
}

impl Node {
    /// A node that was never in a cluster.
    pub(crate) fn blank(id: NodeId, at: At, profile: Profile, run: u64, now: u64) -> Self {
        Self {
            id,
            profile,
            run,
            started: now,
            current_epoch: 0,
            last_vote_epoch: 0,
            peers: BTreeMap::from([(id, Peer::new(at, Role::Primary, now))]),
            greetings: Vec::new(),
            banned: BTreeMap::new(),
            open: Vec::new(),
            state_ok: false,
            minority: None,
            election: None,
            elections: Elections::Stands,
            manual: None,
            paused: None,
            data: BTreeSet::new(),
            evicted: 0,
            libraries: FunctionLibraries::new(),
            torn: false,
            table_lost: false,
            replid: run,
            replid2: None,
            offset: 0,
            copying: Copying::idle(now),
            copy_of: None,
            promoted_with: None,
            ticks: 0,
            sending: BTreeMap::new(),
        }
    }

    pub(crate) fn me(&self) -> &Peer {
        &self.peers[&self.id]
    }

    pub(crate) fn me_mut(&mut self) -> &mut Peer {
        self.peers.get_mut(&self.id).expect("a node lists itself")
    }

    pub(crate) fn is_primary(&self) -> bool {
        self.me().role == Role::Primary
    }

    /// The node whose slots these are: itself, or its primary.
    pub(crate) fn shard_head(&self) -> NodeId {
        self.me().primary.unwrap_or(self.id)
    }

    /// The shard a node is in, as far as is known.
    pub(crate) fn shard_of(&self, id: NodeId) -> NodeId {
        self.peers.get(&id).and_then(|p| p.shard).unwrap_or(id)
    }

    /// Primaries with slots in its table.
    pub(crate) fn size(&self) -> usize {
        self.peers.values().filter(|p| p.votes()).count()
    }

    pub(crate) fn quorum(&self) -> usize {
        self.size() / 2 + 1
    }

    /// Who owns this slot, by its table.
    pub(crate) fn owner(&self, slot: Slot) -> Option<NodeId> {
        self.peers
            .iter()
            .find(|(_, p)| p.slots.contains(slot))
            .map(|(id, _)| *id)
    }

    /// All slots with an owner, by its table.
    pub(crate) fn owned(&self) -> SlotSet {
        self.peers
            .values()
            .flat_map(|p| p.slots.ranges().iter().copied())
            .collect()
    }

    pub(crate) fn importing(&self, slot: Slot) -> bool {
        self.open
            .iter()
            .any(|o| matches!(o, OpenSlot::Importing { .. }) && o.slot() == slot)
    }

    /// Keys it holds of a slot.
    pub(crate) fn keys_in(&self, slot: Slot) -> impl Iterator<Item = Key> + '_ {
        let n = slot.number();
        self.data.range((n, 0)..=(n, u32::MAX)).copied()
    }

    /// Whether a client's write to this slot would be taken.
    pub(crate) fn takes_writes(&self, slot: Slot) -> bool {
        self.state_ok
            && self.paused.is_none()
            && self.is_primary()
            && self.me().slots.contains(slot)
    }

    /// Takes slots out of the table, whoever has them.
    pub(crate) fn disown(&mut self, slots: &SlotSet) {
        for peer in self.peers.values_mut() {
            if !peer.slots.intersection(slots).is_empty() {
                peer.slots = peer.slots.difference(slots);
            }
        }
    }

    /// Gives slots to a node in the table.
    pub(crate) fn own(&mut self, id: NodeId, slots: &SlotSet) {
        self.disown(slots);
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.slots = peer.slots.union(slots);
        }
    }

    /// A config epoch above all it knows, without asking anyone.
    pub(crate) fn bump_epoch(&mut self) {
        let highest = self.peers.values().map(|p| p.epoch).max().unwrap_or(0);
        let highest = highest.max(self.current_epoch);
        if self.me().epoch == 0 || self.me().epoch != highest {
            self.current_epoch = highest + 1;
            let epoch = self.current_epoch;
            self.me_mut().epoch = epoch;
        }
    }

    /// Becomes a replica of this node.
    pub(crate) fn follow(&mut self, primary: NodeId, ours: bool, now: u64) {
        // A primary that turns into a replica has had no link; a replica loses the one it had.
        let lost = if self.is_primary() {
            self.replid2 = None;
            None
        } else if self.copying.up {
            Some(now)
        } else {
            self.copying.lost
        };
        let target = self.peers.get(&primary).map_or(At::NONE, |p| p.at);
        let shard = self.shard_of(primary);
        let me = self.me_mut();
        me.role = Role::Replica;
        me.primary = Some(primary);
        me.shard = Some(shard);
        me.slots = SlotSet::empty();
        self.open.clear();
        self.manual = None;
        self.paused = None;
        self.sending.clear();
        self.copying = Copying {
            link: self.copying.link + 1,
            target,
            lost,
            ours,
            ..Copying::idle(now)
        };
    }

    /// The offset of its former life, while it takes its first copy: Redis 7 shows it, Valkey does not.
    pub(crate) fn offset_shown(&self) -> u64 {
        let first = !self.copying.up && self.copying.lost.is_none();
        if first && self.profile == Profile::Valkey9 {
            return 0;
        }
        self.offset
    }

    /// Takes a node's new address. Whoever copies it copies from there on, but on Redis 7 only where the node itself told
    /// it (see [`Profile::retargets_by_gossip`]).
    pub(crate) fn takes_address(&mut self, id: NodeId, at: At, gossip: bool, now: u64) {
        let Some(peer) = self.peers.get_mut(&id).filter(|p| p.at != at) else {
            return;
        };
        peer.at = at;
        peer.link_up = false;
        let retargets = !gossip || self.profile.retargets_by_gossip();
        if self.me().primary == Some(id) && at != At::NONE && retargets {
            self.copying = Copying {
                link: self.copying.link + 1,
                target: at,
                lost: if self.copying.up {
                    Some(now)
                } else {
                    self.copying.lost
                },
                ours: self.copying.ours,
                ..Copying::idle(now)
            };
        }
    }

    /// Becomes the primary of its shard.
    pub(crate) fn replace_primary(&mut self, replid: u64) {
        let Some(old) = self.me().primary else { return };
        let slots = self
            .peers
            .get(&old)
            .map_or_else(SlotSet::empty, |p| p.slots.clone());
        let me = self.me_mut();
        me.role = Role::Primary;
        me.primary = None;
        let id = self.id;
        self.own(id, &slots);
        self.replid2 = Some((self.replid, self.offset));
        self.replid = replid;
        self.promoted_with = self.copy_of.take();
        self.copying.up = false;
        self.copying.busy = None;
        self.copying.from = None;
        self.copying.link += 1;
        self.manual = None;
        if self.profile.votes_again() {
            self.election = None;
        }
    }

    /// What a stop of the process ends, while its file of nodes stays.
    pub(crate) fn stop(&mut self) {
        self.greetings.clear();
        self.banned.clear();
        self.state_ok = false;
        self.minority = None;
        self.election = None;
        self.manual = None;
        self.paused = None;
        self.sending.clear();
        self.copying.up = false;
        self.copying.busy = None;
        self.copying.from = None;
        self.copying.link += 1;
    }

    /// A start of the process from its files.
    pub(crate) fn start(&mut self, at: At, run: u64, now: u64) {
        self.run = run;
        self.table_lost = false;
        self.elections = Elections::Stands;
        self.started = now;
        self.evicted = 0;
        self.replid = run;
        self.replid2 = None;
        self.copying = Copying {
            link: self.copying.link + 1,
            ..Copying::idle(now)
        };
        for peer in self.peers.values_mut() {
            peer.link_up = false;
            peer.pinged = None;
            peer.heard = now;
            peer.reports.clear();
            peer.voted = None;
        }
        self.me_mut().at = at;
        let of = self.me().primary;
        self.copying.target = of
            .and_then(|id| self.peers.get(&id))
            .map_or(At::NONE, |p| p.at);
        // A replica restarts with the offset its file names; a primary begins a new stream.
        self.offset = u64::from(!self.data.is_empty());
        self.copy_of = self.copy_of.filter(|_| !self.data.is_empty());
    }

    /// Forgets everyone and everything, and takes a new name.
    pub(crate) fn reset(&mut self, id: NodeId, now: u64) {
        let at = self.me().at;
        let run = self.run;
        *self = Self {
            ticks: self.ticks,
            started: self.started,
            copying: Copying {
                link: self.copying.link + 1,
                ..Copying::idle(now)
            },
            ..Self::blank(id, at, self.profile, run, now)
        };
    }
}

impl Copying {
    /// How long ago the engine holds its data to be: since it last heard its primary, or lost the link to it; for ever
    /// before its first link since its process began. It may be taking a copy anew meanwhile.
    pub(crate) fn silent_ms(&self, now: u64) -> u64 {
        let since = if self.up {
            Some(self.last_contact)
        } else {
            self.lost
        };
        since.map_or(u64::MAX, |at| now.saturating_sub(at))
    }

    pub(crate) fn idle(now: u64) -> Self {
        Self {
            up: false,
            busy: None,
            from: None,
            link: 0,
            last_contact: now,
            target: At::NONE,
            lost: None,
            ours: false,
        }
    }
}
