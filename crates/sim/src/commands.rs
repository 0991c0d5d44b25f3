//! The administrative commands of one node, with the engine's refusals.

use shardwright_topology::{CodeDigest, FunctionLibraries, NodeId, OpenSlot, Role, Slot, SlotSet};

use crate::bus::{Context, Kind};
use crate::facts;
use crate::model::Model;
use crate::node::{At, Elections, Manual, Node};

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Command {
    Meet(At),
    Forget(NodeId),
    Replicate(NodeId),
    AddSlots(SlotSet),
    SetConfigEpoch(u64),
    /// `cluster-replica-no-failover`.
    SetElectable(bool),
    /// A failover with the primary, in sync.
    Switchover,
    /// A failover by vote, without the primary.
    Force,
    /// A failover without votes.
    Takeover,
    Reset,
    Close(Slot),
    Assign(Slot, NodeId),
    BumpEpoch,
    Migrating(Slot, NodeId),
    Importing(Slot, NodeId),
}

/// Why a node refused, in the engine's words.
pub(crate) type Refusal = &'static str;

impl Model {
    /// Does a command at a server that answers.
    pub(crate) fn command(&mut self, seat: usize, command: &Command) -> Result<(), Refusal> {
        let fresh = self.fresh_id();
        let now = self.now;
        let done = self.with_node(seat, |node, cx| node.command(command, fresh, cx));
        let done = done.unwrap_or(Err("no process"));
        if done.is_ok() && *command == Command::Reset {
            let life = self.reborn(seat);
            self.trace
                .note(now, format_args!("the reset node is now {life}"));
        }
        done
    }

    /// Moves some keys of a slot from one primary to another (`MIGRATE`).
    pub(crate) fn move_keys(
        &mut self,
        source: usize,
        target: usize,
        slot: Slot,
        keys_max: u32,
    ) -> Result<(), Refusal> {
        let takes = self.seats[target]
            .node
            .as_ref()
            .is_some_and(|n| n.is_primary() && (n.me().slots.contains(slot) || n.importing(slot)));
        if !takes {
            return Err("MOVED: the target does not take this slot");
        }
        let from = self.seats[source].node.as_ref().ok_or("no process")?;
        if !from.is_primary() {
            return Err("READONLY");
        }
        let most = usize::try_from(keys_max).expect("few keys");
        let keys: Vec<_> = from.keys_in(slot).take(most).collect();
        for key in keys {
            self.change(target, key, true);
            self.change(source, key, false);
        }
        Ok(())
    }

    /// The same as a step of ours: the judge remembers what went where.
    pub(crate) fn move_keys_as_told(
        &mut self,
        source: usize,
        target: usize,
        slot: Slot,
        keys_max: u32,
    ) -> Result<(), Refusal> {
        let most = usize::try_from(keys_max).expect("few keys");
        let from = self.seats[source].node.as_ref();
        let keys = from.map(|n| n.keys_in(slot).take(most).collect::<Vec<_>>());
        // Right before, the mover asks the target how much it has left.
        if keys.as_ref().map_or(0, |keys| keys.len() as u64) > self.room(target) {
            return Err("the target has no room");
        }
        self.move_keys(source, target, slot, keys_max)?;
        let gone = self.evict(target);
        self.oracle_evicted_by_a_move(target, &gone);
        if let Some(id) = self.seats[target].node.as_ref().map(|n| n.id) {
            let now = self.now;
            for key in keys.into_iter().flatten() {
                self.oracle.takes_in(key, id, now);
            }
        }
        Ok(())
    }

    /// A primary takes these libraries of another that have still this code, and passes them on to its replicas.
    pub(crate) fn copy_functions(
        &mut self,
        source: usize,
        target: usize,
        wanted: &FunctionLibraries,
    ) {
        let from = self.seats[source].node.as_ref();
        let Some(from) = from.map(|n| n.libraries.clone()) else {
            return;
        };
        let same = |(name, code): &(&String, &CodeDigest)| from.get(*name) == Some(*code);
        let libraries = wanted.iter().filter(same);
        let libraries: FunctionLibraries = libraries.map(|(n, c)| (n.clone(), *c)).collect();
        let to = self.seats[target].node.as_ref().map(|n| n.id);
        let nodes = self.seats.iter_mut().filter_map(|s| s.node.as_mut());
        for node in nodes.filter(|n| Some(n.id) == to || n.copying.up && n.me().primary == to) {
            node.libraries.extend(libraries.clone());
        }
    }

    /// Gives the node that was reset at this server its new name and id.
    fn reborn(&mut self, seat: usize) -> String {
        let id = self.born(seat);
        if let Some(node) = self.seats[seat].node.as_mut() {
            let row = node.peers.remove(&node.id).expect("a node lists itself");
            node.id = id;
            node.peers.insert(id, row);
        }
        self.name(id)
    }
}

impl Command {
    /// Whether it is one of `CLUSTER SETSLOT`.
    fn sets_slots(&self) -> bool {
        matches!(
            self,
            Self::Close(_) | Self::Assign(..) | Self::Migrating(..) | Self::Importing(..)
        )
    }
}

impl Node {
    fn command(
        &mut self,
        command: &Command,
        fresh: NodeId,
        cx: &mut Context<'_>,
    ) -> Result<(), Refusal> {
        if command.sets_slots() && !self.is_primary() {
            return Err("Please use SETSLOT only with primaries");
        }
        match command {
            Command::Meet(at) => self.greet(*at, true, cx),
            Command::Forget(id) => {
                self.forget(*id, cx.now)?;
                if self.profile.broadcasts_forgetting() {
                    self.tell_all(&Kind::Forget(*id), cx);
                }
            }
            Command::SetElectable(true) => self.elections = Elections::Stands,
            Command::SetElectable(false) => self.elections = Elections::HeldBack,
            Command::Replicate(id) => self.replicate(*id, cx)?,
            Command::AddSlots(slots) => {
                if !self.owned().intersection(slots).is_empty() {
                    return Err("slot is already busy");
                }
                let id = self.id;
                self.own(id, slots);
                self.open.retain(|o| {
                    !(matches!(o, OpenSlot::Importing { .. }) && slots.contains(o.slot()))
                });
            }
            Command::SetConfigEpoch(epoch) => {
                if self.peers.len() > 1 || !self.greetings.is_empty() {
                    return Err(
                        "the user can assign a config epoch only when the node does not know any other node",
                    );
                }
                if self.me().epoch != 0 {
                    return Err("node config epoch is already non-zero");
                }
                self.me_mut().epoch = *epoch;
                self.current_epoch = self.current_epoch.max(*epoch);
            }
            Command::Switchover | Command::Force | Command::Takeover => {
                self.failover(command, cx)?;
            }
            Command::Reset => {
                if self.is_primary() && !self.data.is_empty() {
                    return Err("reset can't be called with keys");
                }
                self.reset(fresh, cx.now);
            }
            Command::Close(slot) => self.open.retain(|o| o.slot() != *slot),
            Command::BumpEpoch => {
                if self.is_primary() {
                    self.bump_epoch();
                }
            }
            Command::Assign(slot, owner) => self.assign(*slot, *owner, cx)?,
            Command::Migrating(slot, to) => self.migrate(*slot, *to)?,
            Command::Importing(slot, from) => self.import(*slot, *from)?,
        }
        Ok(())
    }

    fn migrate(&mut self, slot: Slot, to: NodeId) -> Result<(), Refusal> {
        self.must_know(to)?;
        if self.owner(slot) != Some(self.id) {
            return Err("I'm not the owner of hash slot");
        }
        self.open.retain(|o| o.slot() != slot);
        self.open.push(OpenSlot::Migrating { slot, to });
        Ok(())
    }

    fn import(&mut self, slot: Slot, from: NodeId) -> Result<(), Refusal> {
        self.must_know(from)?;
        if self.owner(slot) == Some(self.id) {
            return Err("I'm already the owner of hash slot");
        }
        self.open.retain(|o| o.slot() != slot);
        self.open.push(OpenSlot::Importing { slot, from });
        Ok(())
    }

    fn must_know(&self, id: NodeId) -> Result<(), Refusal> {
        if self.peers.contains_key(&id) {
            Ok(())
        } else {
            Err("I don't know about node")
        }
    }

    pub(crate) fn forget(&mut self, id: NodeId, now: u64) -> Result<(), Refusal> {
        if id == self.id {
            return Err("I tried hard but I can't forget myself");
        }
        if !self.peers.contains_key(&id) {
            return Err("Unknown node");
        }
        if self.me().primary == Some(id) {
            return Err("Can't forget my primary");
        }
        self.peers.remove(&id);
        for peer in self.peers.values_mut() {
            peer.reports.remove(&id);
            if peer.primary == Some(id) {
                peer.primary = None;
            }
        }
        self.banned.insert(id, now + facts::FORGET_BAN_MS);
        Ok(())
    }

    fn replicate(&mut self, id: NodeId, cx: &mut Context<'_>) -> Result<(), Refusal> {
        if id == self.id {
            return Err("Can't replicate myself");
        }
        let Some(peer) = self.peers.get(&id) else {
            return Err("Unknown node");
        };
        if peer.role == Role::Replica {
            return Err("I can only replicate a primary, not a replica");
        }
        if self.is_primary() && !(self.me().slots.is_empty() && self.data.is_empty()) {
            return Err("To set a primary the node must be empty and without assigned slots");
        }
        // Valkey does nothing then; Redis connects anew, to the address in its table.
        if self.me().primary == Some(id) && self.profile.retargets_by_gossip() {
            return Ok(());
        }
        self.follow(id, true, cx.now);
        if self.profile.broadcasts_roles() {
            self.tell_all(&Kind::Pong, cx);
        }
        Ok(())
    }

    fn failover(&mut self, how: &Command, cx: &mut Context<'_>) -> Result<(), Refusal> {
        let Some(primary) = self.me().primary else {
            return Err("You should send CLUSTER FAILOVER to a replica");
        };
        let Some(peer) = self.peers.get(&primary) else {
            return Err("I'm a replica but my primary is unknown to me");
        };
        let switchover = *how == Command::Switchover;
        if switchover && (peer.failed() || !peer.link_up) {
            return Err("primary is down or failed, please use CLUSTER FAILOVER FORCE");
        }
        if *how == Command::Takeover {
            self.bump_epoch_of_replica();
            let stream = cx.stream();
            self.replace_primary(stream);
            self.tell_all(&Kind::Pong, cx);
            return Ok(());
        }
        self.manual = Some(Manual {
            until: cx.now + facts::MANUAL_FAILOVER_MS,
            force: !switchover,
            target: None,
        });
        if switchover {
            self.tell(primary, Kind::Pause, cx);
        } else {
            self.drive_failover(cx);
        }
        Ok(())
    }

    /// A replica's own row holds no epoch of its own: it takes one above all it knows.
    fn bump_epoch_of_replica(&mut self) {
        self.me_mut().epoch = 0;
        self.bump_epoch();
    }

    fn assign(&mut self, slot: Slot, owner: NodeId, cx: &mut Context<'_>) -> Result<(), Refusal> {
        self.must_know(owner)?;
        let mine = self.owner(slot) == Some(self.id);
        let empty = self.keys_in(slot).next().is_none();
        if mine && owner != self.id && !empty {
            return Err("Can't assign hashslot to a different node while I still hold keys");
        }
        if empty {
            self.open
                .retain(|o| !(matches!(o, OpenSlot::Migrating { .. }) && o.slot() == slot));
        }
        let set = SlotSet::from(shardwright_topology::SlotRange::from(slot));
        self.own(owner, &set);
        if owner == self.id && self.importing(slot) {
            self.bump_epoch();
            self.open.retain(|o| o.slot() != slot);
            self.tell_all(&Kind::Pong, cx);
        }
        Ok(())
    }
}
