//! The cluster bus of one node: how it takes a message, as the engine's own source and the
//! Redis Cluster specification have it.

use std::rc::Rc;

use shardwright_topology::{NodeId, Role, SlotSet};

use crate::dice::Dice;
use crate::facts;
use crate::node::{At, Belief, Greeting, Key, Node, Peer};

/// What every message carries of its sender.
#[derive(Clone, Debug)]
pub(crate) struct Header {
    pub(crate) id: NodeId,
    pub(crate) at: At,
    pub(crate) current_epoch: u64,
    /// Its own epoch, or its primary's.
    pub(crate) epoch: u64,
    pub(crate) role: Role,
    pub(crate) primary: Option<NodeId>,
    /// Its shard. A MEET does not tell it.
    pub(crate) shard: NodeId,
    /// Its own slots, or its primary's.
    pub(crate) slots: SlotSet,
    pub(crate) offset: u64,
    pub(crate) paused: bool,
    pub(crate) gossip: Vec<Gossip>,
}

/// What a message tells of a third node.
#[derive(Clone, Debug)]
pub(crate) struct Gossip {
    id: NodeId,
    at: At,
    role: Role,
    failing: bool,
}

/// Which link of the one who began it a message travels on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    Row(NodeId),
    Greeting(NodeId),
}

/// What a message says.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    Ping,
    Meet,
    Pong,
    Fail(NodeId),
    Forget(NodeId),
    Update {
        id: NodeId,
        epoch: u64,
        slots: SlotSet,
    },
    VoteRequest {
        force: bool,
    },
    Vote,
    Pause,
}

/// A message.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// The server that sent it.
    pub(crate) from: usize,
    pub(crate) header: Rc<Header>,
    pub(crate) kind: Kind,
    pub(crate) link: Link,
}

/// Something to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) to: At,
    pub(crate) kind: Kind,
    pub(crate) link: Link,
}

/// What a node needs from outside, and what it gives.
pub(crate) struct Context<'a> {
    pub(crate) now: u64,
    pub(crate) dice: &'a mut Dice,
    /// The next number for a replication stream.
    pub(crate) streams: &'a mut u64,
    pub(crate) out: Vec<Outgoing>,
    /// Keys that were deleted because their slot went elsewhere.
    pub(crate) dropped: Vec<Key>,
    /// Whether the node became a primary by an election.
    pub(crate) elected: Elected,
}

/// How a node became a primary.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Elected {
    /// By no election.
    No,
    /// By one that it was told to begin.
    Asked,
    /// By one that it began by itself.
    ByItself,
}

impl Context<'_> {
    pub(crate) fn stream(&mut self) -> u64 {
        *self.streams += 1;
        *self.streams
    }
}

impl Node {
    /// What it tells of itself with every message.
    pub(crate) fn header(&self) -> Header {
        let head = self.peers.get(&self.shard_head());
        Header {
            id: self.id,
            at: self.me().at,
            current_epoch: self.current_epoch,
            epoch: head.map_or(self.me().epoch, |p| p.epoch),
            role: self.me().role,
            primary: self.me().primary,
            shard: self.shard_of(self.id),
            slots: head.map_or_else(SlotSet::empty, |p| p.slots.clone()),
            offset: self.offset,
            paused: self.paused.is_some(),
            gossip: self
                .peers
                .iter()
                .filter(|(id, p)| **id != self.id && p.at != At::NONE)
                .map(|(id, p)| Gossip {
                    id: *id,
                    at: p.at,
                    role: p.role,
                    failing: p.belief != Belief::Fine,
                })
                .collect(),
        }
    }

    pub(crate) fn tell(&self, id: NodeId, kind: Kind, cx: &mut Context<'_>) {
        if let Some(peer) = self.peers.get(&id) {
            cx.out.push(Outgoing {
                to: peer.at,
                kind,
                link: Link::Row(id),
            });
        }
    }

    pub(crate) fn tell_all(&self, kind: &Kind, cx: &mut Context<'_>) {
        for id in self.peers.keys().filter(|id| **id != self.id) {
            self.tell(*id, kind.clone(), cx);
        }
    }

    /// Takes a message.
    pub(crate) fn receive(&mut self, message: &Message, cx: &mut Context<'_>) {
        let h = &*message.header;
        if h.id == self.id {
            return;
        }
        let known = self.peers.contains_key(&h.id);
        if known {
            self.current_epoch = self.current_epoch.max(h.current_epoch);
            let peer = self.peers.get_mut(&h.id).expect("it is known");
            peer.epoch = peer.epoch.max(h.epoch);
            peer.offset = h.offset;
        }
        match &message.kind {
            Kind::Ping | Kind::Meet => self.asked(message, known, cx),
            Kind::Pong => {
                if !self.answered(h, message.link, known, cx) {
                    return;
                }
            }
            Kind::Fail(id) => self.told_of_failure(*id, known, cx),
            // A node that may not forget it (its own primary) does not.
            Kind::Forget(id) if known && self.me().primary != Some(*id) && *id != self.id => {
                if self.peers.contains_key(id) {
                    self.forget(*id, cx.now).expect("it may be forgotten");
                }
            }
            Kind::Update { id, epoch, slots } => {
                if known && self.peers.get(id).is_some_and(|p| p.epoch < *epoch) {
                    if *id != self.id {
                        self.turn_primary(*id);
                    }
                    let peer = self.peers.get_mut(id).expect("it is known");
                    peer.epoch = *epoch;
                    self.take_claim(*id, *epoch, slots, cx);
                }
            }
            Kind::VoteRequest { force } if known => self.vote(h, *force, cx),
            Kind::Vote if known => self.voted_for(h, cx),
            Kind::Pause if known => self.pause(h, cx),
            Kind::VoteRequest { .. } | Kind::Vote | Kind::Pause | Kind::Forget(_) => {}
        }
        if known && matches!(message.kind, Kind::Ping | Kind::Meet | Kind::Pong) {
            if self.doubts(h) {
                return;
            }
            self.take_header(h, cx);
            if !matches!(message.kind, Kind::Meet) {
                let peer = self.peers.get_mut(&h.id).expect("it is known");
                peer.shard = Some(h.shard);
            }
        }
    }

    /// Whether a known sender's word is taken for old: it was a primary of a greater epoch than that by which it says
    /// to be a replica in the same shard.
    fn doubts(&self, h: &Header) -> bool {
        let peer = self.peers.get(&h.id);
        let of = h.primary.filter(|id| self.peers.contains_key(id));
        self.profile.doubts_replicas()
            && peer.is_some_and(|p| p.role == Role::Primary && p.epoch > h.epoch)
            && of.is_some_and(|of| self.shard_of(of) == self.shard_of(h.id))
    }

    /// A ping or MEET: it is answered, and a MEET from a stranger begins a greeting.
    fn asked(&mut self, message: &Message, known: bool, cx: &mut Context<'_>) {
        let h = &*message.header;
        if known {
            self.takes_address(h.id, h.at, false, cx.now);
        } else if matches!(message.kind, Kind::Meet) {
            self.greet(h.at, false, cx);
        }
        cx.out.push(Outgoing {
            to: h.at,
            kind: Kind::Pong,
            link: message.link,
        });
    }

    /// Begins to greet whoever listens there.
    pub(crate) fn greet(&mut self, at: At, meets: bool, cx: &mut Context<'_>) {
        if self.greetings.iter().any(|g| g.at == at) {
            return;
        }
        let name = NodeId::from_bytes(cx.dice.bytes20());
        self.greetings.push(Greeting {
            name,
            at,
            since: cx.now,
            sent: None,
            meets,
        });
        self.send_greetings(cx);
    }

    pub(crate) fn send_greetings(&mut self, cx: &mut Context<'_>) {
        let now = cx.now;
        self.greetings
            .retain(|g| now.saturating_sub(g.since) < facts::HANDSHAKE_MS);
        for g in &mut self.greetings {
            if g.sent.is_none_or(|at| now - at >= facts::PING_AGE_MS) {
                g.sent = Some(now);
                cx.out.push(Outgoing {
                    to: g.at,
                    kind: if g.meets { Kind::Meet } else { Kind::Ping },
                    link: Link::Greeting(g.name),
                });
            }
        }
    }

    /// An answer. False when the one who answers is not who was asked.
    fn answered(&mut self, h: &Header, link: Link, known: bool, cx: &mut Context<'_>) -> bool {
        match link {
            Link::Greeting(name) => {
                let Some(i) = self.greetings.iter().position(|g| g.name == name) else {
                    return false;
                };
                let greeting = self.greetings.remove(i);
                if known {
                    self.takes_address(h.id, greeting.at, false, cx.now);
                    return true;
                }
                let mut peer = Peer::new(greeting.at, h.role, cx.now);
                peer.link_up = true;
                self.peers.insert(h.id, peer);
                // As the engine: what the header says of slots counts from the next message on.
                false
            }
            Link::Row(id) if id != h.id => {
                if let Some(peer) = self.peers.get_mut(&id).filter(|p| p.at == h.at) {
                    peer.at = At::NONE;
                    peer.link_up = false;
                }
                false
            }
            Link::Row(id) => {
                let Some(peer) = self.peers.get_mut(&id) else {
                    return false;
                };
                peer.heard = cx.now;
                peer.pinged = None;
                let rested = match peer.belief {
                    Belief::Fine => false,
                    Belief::Suspected => true,
                    Belief::Failed { since } => {
                        !peer.votes() || cx.now.saturating_sub(since) > facts::REPORT_VALID_MS
                    }
                };
                if rested {
                    peer.belief = Belief::Fine;
                }
                true
            }
        }
    }

    fn told_of_failure(&mut self, id: NodeId, known: bool, cx: &mut Context<'_>) {
        if known
            && id != self.id
            && let Some(peer) = self.peers.get_mut(&id).filter(|p| !p.failed())
        {
            peer.belief = Belief::Failed { since: cx.now };
        }
    }

    fn turn_primary(&mut self, id: NodeId) {
        if let Some(peer) = self.peers.get_mut(&id) {
            peer.role = Role::Primary;
            peer.primary = None;
        }
    }

    /// What a known sender says of its role and slots.
    fn take_header(&mut self, h: &Header, cx: &mut Context<'_>) {
        match h.role {
            Role::Primary => self.turn_primary(h.id),
            Role::Replica => {
                let knows = h.primary.filter(|id| self.peers.contains_key(id));
                let peer = self.peers.get_mut(&h.id).expect("it is known");
                if peer.role == Role::Primary {
                    peer.role = Role::Replica;
                    peer.slots = SlotSet::empty();
                    peer.primary = None;
                }
                if let Some(primary) = knows {
                    let shard = self.shard_of(primary);
                    let peer = self.peers.get_mut(&h.id).expect("it is known");
                    peer.primary = knows;
                    peer.shard = Some(shard);
                }
            }
        }
        let head = if h.role == Role::Primary {
            Some(h.id)
        } else {
            h.primary
        };
        let differs = head
            .and_then(|id| self.peers.get(&id))
            .is_some_and(|p| p.slots != h.slots);
        if h.role == Role::Primary && differs {
            self.take_claim(h.id, h.epoch, &h.slots, cx);
        }
        if differs {
            self.contradict(h, cx);
        }
        self.collide(h, cx);
        if h.paused
            && self.me().primary == Some(h.id)
            && let Some(manual) = self.manual.as_mut().filter(|m| !m.force)
            && manual.target.is_none()
        {
            manual.target = Some(h.offset);
        }
        self.take_gossip(h, cx);
    }

    /// Tells a sender with an old claim who has the slot now.
    fn contradict(&self, h: &Header, cx: &mut Context<'_>) {
        let head = if h.role == Role::Primary {
            Some(h.id)
        } else {
            h.primary
        };
        let newer = self.peers.iter().find(|(id, p)| {
            Some(**id) != head && p.epoch > h.epoch && !p.slots.intersection(&h.slots).is_empty()
        });
        if let Some((id, peer)) = newer {
            let kind = Kind::Update {
                id: *id,
                epoch: peer.epoch,
                slots: peer.slots.clone(),
            };
            self.tell(h.id, kind, cx);
        }
    }

    /// Two primaries with one epoch: the one with the smaller id takes a new one.
    fn collide(&mut self, h: &Header, _cx: &mut Context<'_>) {
        if self.is_primary()
            && h.role == Role::Primary
            && h.epoch == self.me().epoch
            && h.id > self.id
        {
            self.current_epoch += 1;
            let epoch = self.current_epoch;
            self.me_mut().epoch = epoch;
        }
    }

    /// A claim on slots counts where its epoch is greater, or nobody has the slot.
    pub(crate) fn take_claim(
        &mut self,
        claimant: NodeId,
        epoch: u64,
        slots: &SlotSet,
        cx: &mut Context<'_>,
    ) {
        let importing: SlotSet = self
            .open
            .iter()
            .map(|o| o.slot())
            .filter(|s| self.importing(*s))
            .collect();
        let slots_wanted = slots.difference(&importing);
        let head = self.shard_head();
        let mut taken = slots_wanted.difference(&self.owned());
        let mut from_head = SlotSet::empty();
        for (id, peer) in &self.peers {
            if *id == claimant || peer.epoch >= epoch {
                continue;
            }
            let part = peer.slots.intersection(&slots_wanted);
            if *id == head && claimant != self.id {
                from_head = part.clone();
            }
            taken = taken.union(&part);
        }
        if taken.is_empty() {
            return;
        }
        self.own(claimant, &taken);
        if from_head.is_empty() {
            return;
        }
        let bare = self.peers.get(&head).is_none_or(|p| p.slots.is_empty());
        if bare && slots.count() == from_head.count() {
            self.follow(claimant, false, cx.now);
            if self.profile.broadcasts_roles() {
                self.tell_all(&Kind::Pong, cx);
            }
        } else if head == self.id {
            // Keys of a slot that went to another are deleted by the engine.
            let lost: Vec<Key> = from_head.slots().flat_map(|s| self.keys_in(s)).collect();
            for key in &lost {
                self.data.remove(key);
            }
            cx.dropped.extend(lost);
        }
    }

    fn take_gossip(&mut self, h: &Header, cx: &mut Context<'_>) {
        let votes = self.peers.get(&h.id).is_some_and(Peer::votes);
        for g in &h.gossip {
            if g.id == self.id {
                continue;
            }
            if let Some(peer) = self.peers.get_mut(&g.id) {
                if votes && g.failing {
                    peer.reports.insert(h.id, cx.now);
                } else if votes {
                    peer.reports.remove(&h.id);
                }
                // A node out of reach may have moved: another's word on where it is.
                let moved = peer.at != g.at && !g.failing;
                if moved && peer.belief != Belief::Fine {
                    self.takes_address(g.id, g.at, true, cx.now);
                }
            } else if !self.is_banned(g.id, cx.now) {
                self.peers.insert(g.id, Peer::new(g.at, g.role, cx.now));
            }
        }
    }

    pub(crate) fn is_banned(&self, id: NodeId, now: u64) -> bool {
        self.banned.get(&id).is_some_and(|until| now < *until)
    }

    /// Votes for a replica, or says nothing.
    fn vote(&mut self, h: &Header, force: bool, cx: &mut Context<'_>) {
        let fresh =
            h.current_epoch >= self.current_epoch && self.last_vote_epoch != self.current_epoch;
        let replica = self.peers.get(&h.id).filter(|p| p.role == Role::Replica);
        let Some(primary) = replica.and_then(|p| p.primary) else {
            return;
        };
        let Some(peer) = self.peers.get(&primary) else {
            return;
        };
        let lately = peer
            .voted
            .is_some_and(|at| cx.now.saturating_sub(at) < facts::SECOND_VOTE_MS);
        let held = lately && !self.profile.votes_again();
        let older = self
            .peers
            .values()
            .any(|p| p.epoch > h.epoch && !p.slots.intersection(&h.slots).is_empty());
        if !self.me().votes() || !fresh || !(peer.failed() || force) || held || older {
            return;
        }
        self.last_vote_epoch = self.current_epoch;
        self.peers.get_mut(&primary).expect("it is known").voted = Some(cx.now);
        self.tell(h.id, Kind::Vote, cx);
    }

    fn voted_for(&mut self, h: &Header, cx: &mut Context<'_>) {
        let voter = self.peers.get(&h.id).is_some_and(Peer::votes);
        if let Some(election) = self.election.as_mut()
            && voter
            && h.current_epoch >= election.epoch
        {
            election.votes.insert(h.id);
        }
        self.drive_failover(cx);
    }

    /// A replica asked for a pause before a switchover.
    fn pause(&mut self, h: &Header, cx: &mut Context<'_>) {
        let mine = self.is_primary()
            && self
                .peers
                .get(&h.id)
                .is_some_and(|p| p.primary == Some(self.id));
        if mine {
            self.paused = Some((cx.now + 2 * facts::MANUAL_FAILOVER_MS, h.id));
            self.tell(h.id, Kind::Ping, cx);
        }
    }

    /// Whether all slots have an owner that is not held to have failed.
    pub(crate) fn covered(&self) -> bool {
        let mut slots = 0_u32;
        for peer in self.peers.values().filter(|p| !p.failed()) {
            slots += u32::from(peer.slots.count());
        }
        slots == u32::from(shardwright_topology::SLOT_COUNT)
    }
}
