//! A linter of plans. It shares no code with the rules: two paths guard one property.
//!
//! The executor refuses a plan in which this finds anything fatal.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{
    Claim, Disk, Flags, Health, NodeId, NodeView, Observed, Process, Replication, Role, Seen,
    Server, ServerName, SlotSet,
};

mod copy;
mod duplicates;
mod functions;
mod given;
mod moves;
mod old_ids;
mod place;
mod primaries;
mod removal;
mod replacement;
mod stated;
mod violation;

use copy::another_stream;
pub use violation::{Severity, Violation, ViolationKind};

use crate::ours::{standings, without_strangers};
use crate::{Action, Authority, Desired, Plan, Standing, Step};

/// Finds what a plan would break, from the observation alone.
pub fn check(plan: &Plan, d: &Desired, o: &Observed) -> Vec<Violation> {
    // Strangers' tables say nothing about this cluster.
    let standings = standings(d, o);
    let ours = without_strangers(o, &standings);
    let (all, o) = (o, ours.as_ref().unwrap_or(o));
    let mut lint = Lint {
        d,
        o,
        all,
        found: Vec::new(),
        given: SlotSet::empty(),
        comes: BTreeMap::new(),
        heirs: BTreeMap::new(),
        primaries: BTreeMap::new(),
        moved: plan.steps.iter().filter_map(moved).collect(),
        held_back: BTreeSet::new(),
        recreated: 0,
        starts: plan.steps.iter().filter_map(started).collect(),
        ends: moves::ends(plan),
        others_act: plan.steps.len() > moves::ends(plan).len(),
        alone: plan.steps.len() == 1,
        standings,
    };
    for (i, step) in plan.steps.iter().enumerate() {
        if step
            .action
            .at()
            .is_some_and(|node| o.view_of(node).is_none())
        {
            lint.fatal(i, ViolationKind::ActsUnheard);
        }
        lint.one_process_each(i, &step.action);
        lint.action(i, &step.action);
        lint.keeps_apart(i, step);
    }
    lint.found
}

fn moved(step: &Step) -> Option<NodeId> {
    match &step.action {
        Action::Replicate { node, .. } => Some(node.node()),
        _ => None,
    }
}

fn started(step: &Step) -> Option<ServerName> {
    match &step.action {
        Action::StartServer { server } | Action::StartAfresh { server } => Some(server.clone()),
        _ => None,
    }
}

struct Lint<'a> {
    d: &'a Desired,
    o: &'a Observed,
    /// The observation with what strangers say.
    all: &'a Observed,
    found: Vec<Violation>,
    given: SlotSet,
    /// How many bytes the steps so far bring to each receiver with a memory limit.
    comes: BTreeMap<NodeId, u64>,
    heirs: BTreeMap<NodeId, NodeId>,
    primaries: BTreeMap<NodeId, NodeId>,
    /// The nodes that the plan makes replicas.
    moved: BTreeSet<NodeId>,
    /// The nodes that the steps so far hold back from elections.
    held_back: BTreeSet<NodeId>,
    /// How many volumes were given up so far.
    recreated: usize,
    /// The servers that the plan starts.
    starts: BTreeSet<ServerName>,
    /// From which node to which slots move.
    ends: Vec<(NodeId, NodeId)>,
    /// Whether there are steps that are no moves of slots.
    others_act: bool,
    /// Whether there is but one step.
    alone: bool,
    standings: BTreeMap<ServerName, Standing>,
}

impl Lint<'_> {
    fn fatal(&mut self, step: usize, kind: ViolationKind) {
        self.found.push(Violation {
            severity: Severity::Fatal,
            step,
            kind,
        });
    }

    fn action(&mut self, i: usize, action: &Action) {
        match action {
            Action::StartServer { server } => self.starts(i, server),
            Action::StartAfresh { server } => self.starts_afresh(i, server),
            Action::Recreate { server, host } => self.recreates(i, server, host),
            Action::Replace { server, made_from } => self.replaces(i, server, made_from),
            Action::RemoveServer { server } => self.removes(i, server),
            Action::RecordFormed => {
                if !self.o.uncovered().is_empty() {
                    self.fatal(i, ViolationKind::FormedUncovered);
                }
            }
            Action::SetConfigEpoch { blank, .. } => self.must_be_blank(i, blank.node()),
            Action::AddSlots { node, slots } => self.adds(i, *node, slots),
            Action::Meet { target, .. } => self.meets(i, target.node(), target.address()),
            Action::Replicate { node, primary } => self.replicates(i, node.node(), *primary),
            Action::SetElectable { node, electable } => self.sets_electable(i, *node, *electable),
            Action::Switchover { replica, primary } => {
                if self.heir(i, *replica, *primary) && self.copies(*replica) != Some(*primary) {
                    let replica = *replica;
                    self.fatal(i, ViolationKind::NoCopy { replica });
                }
            }
            Action::Failover { dead, seen } => {
                self.past(i, seen.replica(), dead.node());
                self.majority(i, seen.replica(), dead.node());
            }
            Action::Takeover { replica, dead } => self.past(i, *replica, dead.node()),
            Action::Forget { gone, .. } => self.forgets(i, gone.node()),
            Action::Reset { node } => {
                self.may_drop(i, node.node());
                if !self.may_leave(node.node()) && !self.may_be_freed(node.node()) {
                    self.fatal(i, ViolationKind::ResetsUnasked { node: node.node() });
                }
            }
            Action::CloseSlot { .. } => {}
            Action::AssignSlot { node, slot, owner } => {
                self.last_slot_goes(i, *slot, *owner);
                let keys = self
                    .o
                    .view_of(*node)
                    .and_then(|v| v.keys_in_slot.get(slot))
                    .copied();
                if node == owner {
                    self.takes(i, *node, *slot);
                } else if keys != Some(0) {
                    self.fatal(i, ViolationKind::AssignsAwayKeys { slot: *slot });
                }
            }
            Action::RaiseEpoch { node } => self.raises(i, *node),
            Action::MoveKeys {
                from,
                to,
                slot,
                replace,
                ..
            } => {
                self.meets(i, to.node(), to.address());
                self.has_room(i, *from, to.node(), &[*slot].into_iter().collect());
                self.moves_keys(i, (*from, to.node()), *slot, *replace);
            }
            Action::CopyFunctions {
                from,
                to,
                libraries,
            } => self.gives_functions(i, *from, *to, libraries),
            Action::MoveSlots { from, to, slots } => {
                self.meets(i, to.node(), to.address());
                self.moves(i, *from, to.node(), slots);
                self.has_room(i, *from, to.node(), slots);
            }
        }
    }

    fn starts(&mut self, i: usize, name: &ServerName) {
        let server = self.o.servers().get(name);
        if server.is_some_and(|s| place::has_no_data(s) || self.is_anothers(s)) {
            self.takes_place(i, name);
        }
        self.leaves_copies(i, name);
        if !server.is_some_and(|s| matches!(s.process, Process::Dead(_))) {
            let server = name.clone();
            self.fatal(i, ViolationKind::StartsRunning { server });
        }
        let node = server.and_then(|s| s.recorded_id);
        let gave_up_slots = node
            .and_then(|id| self.o.member(id))
            .is_some_and(|m| m.slots.is_empty());
        let held = match server.map(|s| &s.disk) {
            Some(Seen::Known(Disk::Stale { claim })) if *claim != Claim::Nothing => {
                let outdated = gave_up_slots && self.o.uncovered().is_empty();
                (!outdated || self.is_better(claim)) && !self.d.consent.lose_data
            }
            Some(Seen::Known(
                Disk::Blank | Disk::Log | Disk::CleanSnapshot | Disk::Stale { .. },
            )) => false,
            Some(Seen::Known(Disk::TableRefused | Disk::DataRefused) | Seen::Unknown(_)) | None => {
                true
            }
        };
        if held {
            let server = name.clone();
            self.fatal(i, ViolationKind::StartsOldPrimary { server });
        }
    }

    /// Whether a claim would take a slot from the one who has it.
    fn is_better(&self, claim: &Claim) -> bool {
        let Claim::Slots { epoch, slots } = claim else {
            return *claim == Claim::Unreadable;
        };
        let owner = |slot| self.o.owner(slot).and_then(|id| self.o.member(id));
        slots.slots().filter_map(owner).any(|m| m.epoch <= *epoch)
    }

    /// A directory is set aside only when its server refused it, or would lead others astray with it, and the living
    /// own every slot.
    fn starts_afresh(&mut self, i: usize, name: &ServerName) {
        self.takes_place(i, name);
        let useless = self.o.servers().get(name).is_some_and(|s| {
            let harms = match s.disk.known() {
                Some(Disk::TableRefused | Disk::DataRefused) => true,
                Some(Disk::Stale { claim }) => self.is_better(claim),
                Some(Disk::Blank | Disk::Log | Disk::CleanSnapshot) | None => false,
            };
            matches!(s.process, Process::Dead(_)) && harms
        });
        if !useless || !self.all_owned() {
            let server = name.clone();
            self.fatal(i, ViolationKind::SetsDataAside { server });
        }
    }

    /// A volume is given up only when wanted, after its time, one at a time, of a silent server whose node is known and
    /// owns nothing; and when the living own every slot, or at least its primary lives.
    fn recreates(&mut self, i: usize, name: &ServerName, host: &str) {
        self.recreated += 1;
        let heard = |id: NodeId| self.o.view_of(id).and_then(NodeView::own);
        let safe = self.o.servers().get(name).is_some_and(|s| {
            let away = s.place.tied.as_ref().filter(|tied| tied.host == host);
            let since = away.and_then(|tied| tied.away_since);
            let due = match (self.d.recreate_after_ms, since) {
                (Some(after_ms), Some(since)) => self.o.at.0 >= since.0.saturating_add(after_ms),
                _ => false,
            };
            let silent = matches!(s.view, Seen::Unknown(_)) && !self.starts.contains(name);
            let node = s.recorded_id.and_then(|id| self.o.member(id));
            let owns = node.is_some_and(|m| !m.slots.is_empty());
            let primary = node
                .filter(|m| m.role == Role::Replica)
                .and_then(|m| m.primary);
            let told = s.last_heard.is_some();
            let kept = match primary.zip(s.recorded_id) {
                Some((primary, node)) => {
                    let serves = heard(primary).is_some_and(|own| !own.slots.is_empty());
                    serves && (told || self.has_outlasted(primary, node))
                }
                None => self.all_owned(),
            };
            let attempts = || self.o.attempts.iter();
            let asked = attempts().any(|a| Some(a.node) == s.recorded_id && !a.ended);
            let before = s.last_heard.as_ref();
            let before = before.filter(|v| Some(v.id) == s.recorded_id);
            let was = before.is_some_and(|v| self.is_better(&Claim::of(v.own())));
            due && silent && s.recorded_id.is_some() && !owns && !asked && !was && kept
        });
        if !safe || self.recreated > 1 {
            let server = name.clone();
            self.fatal(i, ViolationKind::GivesUpVolume { server });
        }
    }

    /// Whether a primary was not started since a node that nobody of us heard sent its last pong to anybody, who was not
    /// started since either.
    fn has_outlasted(&self, primary: NodeId, node: NodeId) -> bool {
        let younger_than = |id: NodeId, at: u64| {
            let Some(view) = self.o.view_of(id) else {
                return true;
            };
            let now = view.rows.iter().map(|row| row.pong_received_ms).max();
            let age = view.server.uptime_s;
            let Some((now, age_s)) = now.zip(age) else {
                return true;
            };
            now.saturating_sub(at) >= age_s.saturating_mul(1_000)
        };
        let mut pongs = self
            .o
            .beliefs(node)
            .map(|(by, row)| (by, row.pong_received_ms));
        pongs.any(|(by, at)| at > 0 && !younger_than(by, at) && !younger_than(primary, at))
    }

    /// Whether the nodes that were heard own every slot.
    fn all_owned(&self) -> bool {
        let one = |v: &NodeView| !self.is_doubled(v.id);
        let heard = self.o.views().filter(|(_, v)| one(v));
        let heard = heard.filter_map(|(_, v)| self.o.member(v.id));
        let owned: u32 = heard.map(|m| u32::from(m.slots.count())).sum();
        owned == u32::from(shardwright_topology::SLOT_COUNT)
    }

    fn replicates(&mut self, i: usize, node: NodeId, primary: NodeId) {
        self.may_drop(i, node);
        let copied = self
            .o
            .view_of(primary)
            .and_then(|v| v.own())
            .is_some_and(|own| own.role == Role::Primary);
        let server = |id| self.o.view_of(id).map(|v| &v.server);
        if let (Some(reads), Some(writes)) = (server(node), server(primary))
            && !reads.reads(writes)
        {
            self.fatal(i, ViolationKind::CannotCopy { node, primary });
        }
        if !copied || primary == node {
            self.fatal(i, ViolationKind::BadPrimary { primary });
        }
        let other = self.primaries.insert(node, primary);
        if other.is_some_and(|other| other != primary) {
            self.fatal(i, ViolationKind::TwoPrimaries { node });
        }
        if self.empties_its_own(node, primary) {
            self.fatal(i, ViolationKind::WouldLoseData { node });
        }
        // Its offset is that of its former life until it has the copy, and the engine elects by offsets.
        let keys = server(primary).is_none_or(|s| s.keys > 0);
        let own = self.o.view_of(node).and_then(NodeView::own);
        let held = own.is_some_and(|own| own.flags.has(Flags::NOFAILOVER));
        if keys && !held && !self.held_back.contains(&node) {
            self.fatal(i, ViolationKind::ElectsItself { node });
        }
        self.leaves(i, node, primary);
    }

    fn sets_electable(&mut self, i: usize, node: NodeId, electable: bool) {
        if !electable {
            self.held_back.insert(node);
        } else if let Some(kind) = self.may_not_elect(node) {
            self.fatal(i, kind);
        }
    }

    /// Why a replica may not take its primary's place by itself: it has no copy, or would take it at once.
    fn may_not_elect(&self, node: NodeId) -> Option<ViolationKind> {
        let view = self.o.view_of(node);
        if view
            .and_then(NodeView::own)
            .is_some_and(|own| own.role == Role::Primary)
        {
            return None;
        }
        let Some(primary) = self.copies(node) else {
            return Some(ViolationKind::NoCopy { replica: node });
        };
        let row = view.and_then(|v| v.rows.get(primary));
        let failed = row.is_some_and(|row| row.health == Health::Failed);
        failed.then_some(ViolationKind::ElectsItself { node })
    }

    /// The primary that a node has a copy of, and whose stream it follows, by its own word.
    fn copies(&self, node: NodeId) -> Option<NodeId> {
        let view = self.o.view_of(node)?;
        match &view.server.replication {
            Replication::Replica {
                link_up: true,
                syncing: false,
                primary: from,
                ..
            } => {
                let primary = view.own()?.primary?;
                let of = self.o.view_of(primary);
                let other = of.is_some_and(|of| another_stream(of, view));
                (!other && !self.strange_source(view, primary, from)).then_some(primary)
            }
            Replication::Replica { .. } | Replication::Primary { .. } => None,
        }
    }

    /// A replica in sync is taken from a primary that lives only if another one stays in sync there. Or for a better
    /// place, if the receiver keeps one that can come in exchange, everyone was heard, and nothing else moves.
    fn leaves(&mut self, i: usize, node: NodeId, to: NodeId) {
        let Some(from) = self.copies(node).filter(|from| *from != to) else {
            return;
        };
        let lives = self.o.view_of(from).and_then(NodeView::own);
        let keeps = |primary: NodeId| {
            let mut others = self.o.views().map(|(_, v)| v.id);
            others.any(|id| !self.moved.contains(&id) && self.copies(id) == Some(primary))
        };
        let owns = lives.is_some_and(|own| own.role == Role::Primary && !own.slots.is_empty());
        if !owns || keeps(from) {
            return;
        }
        let place = |id: NodeId| self.o.server_of(id).map(|s| &s.place);
        let beside = |primary: NodeId| match (place(node), place(primary)) {
            (Some(at), Some(with)) => Some((at.same_host(with), at.same_zone(with))),
            _ => None,
        };
        let better = beside(to).is_some() && beside(to) < beside(from);
        let heard = |s: &Server| matches!(s.view, Seen::Known(_));
        let calm = self.o.servers().values().all(heard) && self.moved.len() == 1;
        if !better || !calm || !keeps(to) {
            self.fatal(i, ViolationKind::BaresShard { primary: from });
        }
    }

    /// Counts the voters anew: primaries that own slots, were heard, and have the row that lets them grant a vote.
    fn majority(&mut self, i: usize, replica: NodeId, primary: NodeId) {
        let mut voters = 0;
        let mut grant = 0;
        for (id, m) in self.o.members() {
            if m.role != Role::Primary || m.slots.is_empty() {
                continue;
            }
            voters += 1;
            let row = self.o.view_of(*id).and_then(|v| v.rows.get(replica));
            let sees = row.is_some_and(|r| r.role == Role::Replica && r.primary == Some(primary));
            grant += usize::from(sees);
        }
        if grant * 2 <= voters {
            self.fatal(i, ViolationKind::NoMajority { replica });
        }
    }

    /// Everyone will believe what this node claims: so nobody else may have a better claim to any of it.
    fn raises(&mut self, i: usize, node: NodeId) {
        let own = self.o.view_of(node).and_then(NodeView::own);
        let others: SlotSet = own
            .into_iter()
            .flat_map(|row| row.slots.slots())
            .filter(|slot| self.o.owner(*slot) != Some(node))
            .collect();
        if !others.is_empty() {
            self.fatal(i, ViolationKind::SlotsOwned { slots: others });
        }
    }

    fn must_be_blank(&mut self, i: usize, node: NodeId) {
        if !self
            .o
            .view_of(node)
            .is_some_and(shardwright_topology::NodeView::is_blank)
        {
            self.fatal(i, ViolationKind::WouldLoseData { node });
        }
    }

    fn meets(&mut self, i: usize, node: NodeId, address: &shardwright_topology::Address) {
        let heard = self.o.servers().values().any(|s| {
            s.view.known().is_some_and(|v| v.id == node)
                && s.address.known().is_some_and(|a| a.same_socket(address))
        });
        if !heard {
            self.fatal(i, ViolationKind::MeetsUnproved { node });
        }
    }

    /// A node that is made a replica or reset may hold nothing of its own.
    fn may_drop(&mut self, i: usize, node: NodeId) {
        let safe = self.o.view_of(node).is_some_and(|v| {
            v.own().is_some_and(|own| {
                own.slots.is_empty() && (own.role == Role::Replica || v.server.keys == 0)
            })
        });
        if !safe {
            self.fatal(i, ViolationKind::WouldLoseData { node });
        }
    }

    /// Whether it is its replica; if not, that is said.
    fn heir(&mut self, i: usize, replica: NodeId, primary: NodeId) -> bool {
        let its_own = self
            .o
            .member(replica)
            .is_some_and(|m| m.role == Role::Replica && m.primary == Some(primary));
        if !its_own {
            self.fatal(i, ViolationKind::NotItsReplica { node: replica });
        }
        if self
            .heirs
            .insert(primary, replica)
            .is_some_and(|other| other != replica)
        {
            self.fatal(i, ViolationKind::TwoHeirs { primary });
        }
        its_own
    }

    fn past(&mut self, i: usize, replica: NodeId, primary: NodeId) {
        if self.heir(i, replica, primary) {
            self.must_hold_copy(i, replica, primary);
        }
        // A stranger, too, proves that no other node lives at its server.
        let speaks = self
            .all
            .servers()
            .values()
            .any(|s| s.view.known().is_some_and(|v| v.id == primary));
        let seat = self
            .all
            .servers()
            .values()
            .find(|s| s.recorded_id == Some(primary));
        let found = seat.or_else(|| self.o.server_of(primary));
        let another = |s: &Server| match s.view.known() {
            Some(view) => view.id != primary && !self.is_doubled(view.id),
            None => s.recorded_id.is_some_and(|id| id != primary),
        };
        let gone = if let Some(s) = found {
            s.process.death().is_some() || s.view.known().is_some() && another(s)
        } else {
            let gone = |s: &Server| s.process.death().is_some() || another(s);
            self.o.formed.is_some() && self.o.servers().values().all(gone)
        };
        let gone = gone && !self.lives_on_the_bus(found, primary);
        // The same plan may start it again.
        let starts = found.is_some_and(|s| self.starts.contains(&s.name));
        let by_word =
            || self.may_be_passed(replica, primary) || self.is_stated_dead(replica, primary);
        if speaks || !(gone || by_word()) || starts {
            self.fatal(i, ViolationKind::PrimaryNotDead { primary });
        }
    }

    fn forgets(&mut self, i: usize, node: NodeId) {
        let asked = self.may_leave(node);
        // It lives, or may: it speaks, its server is silent, or it is not ours to know.
        let lives = self.d.authority == Authority::Guest
            || self.o.servers().values().any(|s| match s.view.known() {
                // What is on the disk whose place a copy of another took is not known.
                Some(view) => view.id == node || self.is_doubled(view.id),
                None => s.recorded_id.is_none_or(|id| id == node),
            });
        let view = self.o.view_of(node);
        let holds = view.is_some_and(|v| {
            let replica = v.own().is_some_and(|own| own.role == Role::Replica);
            v.server.keys > 0 && !replica
        });
        let owns = self.o.member(node).is_some_and(|m| !m.slots.is_empty());
        let loses = (owns || holds) && !self.d.consent.lose_data;
        if ((lives && !asked) || loses)
            && !self.came_back_as_another(node)
            && !self.is_given_up(node)
        {
            self.fatal(i, ViolationKind::ForgetsTheLiving { node });
        }
    }
}
