//! What must be true at the end of a history, read off the model itself.

use std::collections::BTreeMap;

use shardwright_topology::SlotSet;

mod primaries;

use crate::faults::{open_slots, stray_keys};
use crate::history::History;
use crate::model::Persistence;
use crate::node::Node;

/// Faults that end no process and cut nobody off.
const HARMLESS: [&str; 12] = [
    "operator cut off",
    "slow bus",
    "slow replication",
    "open slot",
    "memory limit",
    "stray keys",
    "asked: switchover",
    "asked: assign",
    "more shards",
    "fewer shards",
    "more replicas",
    "edit reverted",
];

/// Faults that only make something late.
const SLOW: [&str; 3] = ["slow bus", "slow replication", "slow copies"];

impl History {
    /// The nodes of the cluster's own servers, living or on a disk.
    fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.model
            .seats
            .iter()
            .enumerate()
            .filter(|(_, s)| !s.foreign)
            .filter_map(|(i, s)| s.node.as_ref().map(|n| (i, n)))
    }

    /// At rest: every slot has one living owner, everyone agrees, and no stranger was taken in.
    pub(crate) fn check_end(&mut self) {
        let mut wrong: Vec<String> = Vec::new();
        let owners: Vec<(usize, &Node)> = self
            .nodes()
            .filter(|(i, n)| self.model.answers(*i) && n.is_primary())
            .filter(|(_, n)| !n.me().slots.is_empty())
            .collect();
        let mut covered = SlotSet::empty();
        for (_, n) in &owners {
            let twice = covered.intersection(&n.me().slots);
            if !twice.is_empty() {
                wrong.push(format!("slots {twice} have two owners"));
            }
            covered = covered.union(&n.me().slots);
        }
        let bare = covered.complement();
        if !bare.is_empty() {
            wrong.push(format!("slots {bare} have no living owner"));
        }
        let strangers: Vec<_> = self
            .model
            .seats
            .iter()
            .filter(|s| s.foreign)
            .filter_map(|s| s.node.as_ref())
            .collect();
        for (i, n) in self.nodes().filter(|(i, _)| self.model.answers(*i)) {
            let name = &self.model.seats[i].name;
            let member = n.peers.len() > 1;
            for (_, owner) in owners.iter().filter(|_| member) {
                let believed = n.peers.get(&owner.id).map(|p| &p.slots);
                if believed != Some(&owner.me().slots) {
                    wrong.push(format!("{name} believes other slots of an owner"));
                }
            }
            if member && !n.state_ok {
                wrong.push(format!("{name} does not serve"));
            }
            if open_slots(n) > 0 {
                wrong.push(format!("{name} shows an open slot"));
            }
            if member && stray_keys(n) > 0 {
                let keys = stray_keys(n);
                wrong.push(format!(
                    "{name} holds {keys} keys of slots that it does not own"
                ));
            }
            if strangers.iter().any(|s| n.peers.contains_key(&s.id)) {
                wrong.push(format!("{name} knows a stranger"));
            }
        }
        if strangers.iter().any(|s| s.peers.len() > 1) {
            wrong.push("a stranger was taken in".to_owned());
        }
        wrong.extend(self.badly_placed());
        wrong.extend(self.primaries_together());
        wrong.extend(self.not_as_declared());
        wrong.extend(self.lost_without_a_fault());
        wrong.extend(self.dropped_untold());
        for what in wrong {
            self.model.accuse(format!("at rest, but {what}"));
        }
    }

    /// Where servers are ours, there are as many shards as declared, all with as many slots, and no server too many.
    fn not_as_declared(&self) -> Option<String> {
        if !self.setting.managed {
            return None;
        }
        let owners = self.nodes().filter(|(_, n)| n.me().votes());
        let counts: Vec<u16> = owners.map(|(_, n)| n.me().slots.count()).collect();
        let (most, fewest) = (counts.iter().max()?, counts.iter().min()?);
        let many = counts.len() == usize::from(self.setting.shards);
        let too_many = &self.model.oracle.too_many;
        let stays = too_many.iter().find(|i| self.model.seats[**i].listed);
        if !many || most - fewest > 1 {
            return Some(format!(
                "the shards own {counts:?} slots, and {} are declared",
                self.setting.shards
            ));
        }
        stays.map(|i| format!("{} is too many", self.model.seats[*i].name))
    }

    /// Where nothing happened that may lose a write, none is lost.
    fn lost_without_a_fault(&self) -> Option<String> {
        let mut kinds = self.struck.keys();
        let calm = kinds.all(|kind| HARMLESS.contains(kind));
        let lost = self.lost_writes();
        (calm && lost > 0).then(|| format!("{lost} writes are lost"))
    }

    /// Where nothing happened but that one process was frozen, and the operator lived through all of it, it is told which
    /// acknowledged writes that process dropped.
    fn dropped_untold(&self) -> Vec<String> {
        let mut kinds = self.struck.keys();
        let calm = kinds.all(|kind| *kind == "frozen" || SLOW.contains(kind));
        let once = self.struck.get("frozen") == Some(&1);
        let watched = self.operator.crashes == 0 && !self.setting.faults_from_start;
        if calm && once && watched {
            self.model.dropped_late().1
        } else {
            Vec::new()
        }
    }

    /// With one replica each a host can hold one copy of each shard, and no more: whatever is beyond that is a pair on
    /// one host, and nothing else is.
    fn badly_placed(&self) -> Option<String> {
        let places: BTreeMap<_, _> = self
            .nodes()
            .map(|(i, n)| (n.id, &self.model.seats[i].place.host))
            .collect();
        let simple = self.setting.replicas == 1 && self.setting.managed && self.setting.hosts > 1;
        let paired = self.nodes().all(|(_, n)| {
            let copies = self.nodes().filter(|(_, r)| r.me().primary == Some(n.id));
            copies.count() == usize::from(n.is_primary())
        });
        if !simple || !paired {
            return None;
        }
        let mut on_host: BTreeMap<_, usize> = BTreeMap::new();
        for host in places.values() {
            *on_host.entry(host).or_default() += 1;
        }
        let shards = usize::from(self.setting.shards);
        let fewest: usize = on_host.values().map(|n| n.saturating_sub(shards)).sum();
        let is_pair = |n: &Node| {
            n.me()
                .primary
                .is_some_and(|p| places.get(&p) == places.get(&n.id))
        };
        let pairs = self.nodes().filter(|(_, n)| is_pair(n)).count();
        (pairs != fewest).then(|| format!("{pairs} pairs are on one host, and could be {fewest}"))
    }

    /// Whether a node believes that one who is nowhere owns slots.
    fn believes_in_the_gone(&self, n: &Node) -> bool {
        let gone = |id| self.model.home(id).is_none();
        n.peers
            .iter()
            .any(|(id, p)| gone(*id) && !p.slots.is_empty())
    }

    /// Whether a replica copies from where another than its primary is, or would come back, or may have begun to copy
    /// one that was started there on a copied disk.
    fn copies_another(&self, n: &Node) -> bool {
        let head = n.shard_head();
        let there = |s: &crate::model::Seat| s.at == n.copying.target;
        let mut seats = self.model.seats.iter().filter(|s| there(s));
        let elsewhere = seats.any(|s| s.node.as_ref().is_none_or(|n| n.id != head));
        elsewhere || self.struck("disk copied") && !n.copying.up
    }

    /// A server that is too many, owns slots, and has no replica to hand over to that stays.
    fn too_many_with_slots(&self) -> Option<usize> {
        let too_many = |i: usize| self.model.oracle.too_many.contains(&i);
        let has_heir = |n: &Node| {
            let mut others = self.nodes();
            others.any(|(i, r)| r.me().primary == Some(n.id) && !too_many(i))
        };
        let mut owners = self.nodes().filter(|(_, n)| !n.me().slots.is_empty());
        let found = owners.find(|(i, n)| too_many(*i) && !has_heir(n));
        found.map(|(i, _)| i)
    }

    /// A server that lost its table of nodes, and has keys of slots that another owns by now: nobody but a person may say
    /// that they are not needed.
    fn copy_without_place(&self) -> Option<usize> {
        let another = |i: usize, n: &Node| {
            let recorded = self.model.seats[i].recorded;
            recorded.is_some_and(|id| id != n.id) && n.peers.len() == 1
        };
        let mut alone = self
            .nodes()
            .filter(|(i, n)| another(*i, n) && !n.data.is_empty());
        let owned = |n: &Node| {
            let others = self.nodes().filter(|(i, o)| {
                o.id != n.id && o.peers.len() > 1 && o.is_primary() && self.model.answers(*i)
            });
            others.fold(SlotSet::empty(), |all, (_, o)| all.union(&o.me().slots))
        };
        let found = alone.find(|(_, n)| !n.me().slots.intersection(&owned(n)).is_empty());
        found.map(|(i, _)| i)
    }

    /// A server of which only a person can say where it belongs.
    fn belongs_nowhere(&self) -> Option<String> {
        let seats = &self.model.seats;
        if let Some(s) = seats.iter().find(|s| s.foreign) {
            return Some(format!("a stranger listens at {}", s.name));
        }
        // Nothing ties such a node to this cluster, where no runtime recorded it.
        let alone = self.nodes().find(|(_, n)| n.peers.len() == 1);
        if let Some((i, _)) = alone.filter(|_| !self.setting.managed) {
            return Some(format!("nobody asked {} to join", seats[i].name));
        }
        if let Some(i) = self.copy_without_place() {
            return Some(format!("{} may have what others have not", seats[i].name));
        }
        if !self.setting.managed && self.struck("two islands") {
            return Some("nothing ties two islands of guests".to_owned());
        }
        None
    }

    /// A replica that copies from where its primary was, which came back without its data.
    fn has_what_its_primary_lost(&self) -> Option<usize> {
        let running = || self.nodes().filter(|(i, _)| self.model.seats[*i].running);
        let emptied = |n: &Node| {
            let head = running().find(|(_, h)| h.id == n.shard_head() && h.id != n.id);
            head.is_some_and(|(_, h)| h.data.is_empty())
        };
        let last = running().find(|(_, n)| !n.data.is_empty() && emptied(n));
        last.map(|(i, _)| i)
    }

    /// Whether the truth is such that only a person can go on, and why.
    pub(crate) fn truth_needs_a_person(&self) -> Option<String> {
        let seats = &self.model.seats;
        if let Some(why) = self.belongs_nowhere() {
            return Some(why);
        }
        let owners = self
            .nodes()
            .filter(|(i, n)| self.model.answers(*i) && n.me().votes())
            .count();
        if owners > usize::from(self.setting.shards) && self.model.has_functions_alone() {
            return Some("a shard that is too many has functions that no other has".to_owned());
        }
        let broken_off = self.struck("open slot") || self.struck("stray keys");
        if owners != usize::from(self.setting.shards) && broken_off {
            return Some(format!(
                "a broken-off move left {owners} primaries with slots"
            ));
        }
        if broken_off && self.nodes().any(|(_, n)| self.believes_in_the_gone(n)) {
            return Some("a broken-off move was to a node that is gone".to_owned());
        }
        if let Some(i) = self.too_many_with_slots() {
            return Some(format!("{} is too many, and owns slots", seats[i].name));
        }
        if let Some((i, _)) = self
            .nodes()
            .find(|(_, n)| n.is_primary() && n.me().slots.is_empty() && !n.data.is_empty())
        {
            return Some(format!(
                "{} holds keys of slots that it lost",
                seats[i].name
            ));
        }
        // A forming that was broken off may leave nodes that know one who is gone: nobody can tell whose they are.
        let leftover = self.nodes().find(|(i, n)| {
            let absent = |id| self.model.home(id).is_none();
            seats[*i].recorded.is_none() && n.peers.keys().any(|id| absent(*id))
        });
        if let Some((i, _)) = leftover {
            return Some(format!("{} knows a node that is gone", seats[i].name));
        }
        if let Some(i) = self.has_what_its_primary_lost() {
            return Some(format!("{} has what its primary lost", seats[i].name));
        }
        if owners != usize::from(self.setting.shards) && self.model.oracle.consent {
            return Some("a shard was given up".to_owned());
        }
        let lost = self.kept_by_nobody();
        (!lost.is_empty()).then(|| format!("the last copy of slots {lost} is gone"))
    }

    /// The slots of which no primary and no replica has the data, or nobody can tell that one has.
    fn kept_by_nobody(&self) -> SlotSet {
        let seats = &self.model.seats;
        let gone = |i: usize| !seats[i].running && seats[i].persistence == Persistence::Off;
        // What a switchover gave away just before its heir died is not kept by the old primary.
        let newer = |n: &Node| {
            let heirs = self.nodes().filter(|(i, h)| {
                gone(*i) && h.is_primary() && h.me().epoch > n.me().epoch && h.id != n.id
            });
            heirs.fold(SlotSet::empty(), |all, (_, h)| all.union(&h.me().slots))
        };
        let kept = self
            .nodes()
            .filter(|(i, n)| n.is_primary() && !gone(*i))
            .map(|(_, n)| n.me().slots.difference(&newer(n)))
            .fold(SlotSet::empty(), |all, slots| all.union(&slots));
        // A replica's copy counts for what its primary says it owns; for one that is silent, what the replica believes.
        let copied: SlotSet = self
            .nodes()
            .filter(|(i, n)| !n.is_primary() && seats[*i].running && n.offset > 1)
            // One that follows an address may have copied whoever came back there under another id.
            .filter(|(_, n)| n.copy_of == Some(n.shard_head()) && !self.copies_another(n))
            .filter_map(|(_, n)| {
                let head = n.shard_head();
                let lives = self
                    .nodes()
                    .find(|(i, h)| h.id == head && seats[*i].running);
                if let Some((_, h)) = lives {
                    return Some(h.me().slots.difference(&newer(h)));
                }
                // Whose data it has where it follows an address that its primary left, nobody can tell; nor where the
                // operator was started since their link was up.
                let mut nodes = self.nodes();
                let home = nodes.find(|(_, h)| h.id == head).map(|(i, _)| seats[i].at);
                let there = home.is_none_or(|at| at == n.copying.target);
                let told = there && self.operator.saw_link(n.id, head);
                let believed = n.peers.get(&head).filter(|_| told);
                believed.map(|p| p.slots.clone())
            })
            .fold(SlotSet::empty(), |all, slots| all.union(&slots));
        kept.union(&copied).complement()
    }
}
