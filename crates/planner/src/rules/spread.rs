//! Replicas that share a host or a zone with another copy of their shard are placed better, and primaries are kept apart
//! ([`primaries`]): by where they really run, one change at a time, and only once everything has been at rest for a while.
//!
//! A change is made only if it lowers what the placement costs ([`Cost`]), so changes come to an end. A role that
//! moves costs no copy, so it goes before a replica that moves. Two replicas that change places do so one after the
//! other: the first makes the other shard one richer, and its own one poorer; and what a poorer shard gets back, from
//! the richer one and once that keeps a copy, is for [`super::replicas`] to find, by the same cost. So nothing need be
//! remembered between the two.

use std::collections::BTreeMap;

use shardwright_topology::{AttemptKind, Member, NodeId, Observed, Place, Role, ServerName};

pub(crate) mod primaries;

use primaries::Tried;

use crate::draft::Draft;
use crate::evidence::Unburdened;
use crate::placement::{Cost, Shared};
use crate::rules::electable::hold_back;
use crate::safety::{self, NoSpread, NoSwitchover};
use crate::{Action, Crowded, Precondition, Reason, Shape, SharedPlace, Spread, SpreadBy, Waiting};

/// How long a switchover for a better place is not tried again, in milliseconds: each may pause the writes of a shard for
/// the 5 s that the engine tries it, and nothing is lost by waiting.
pub(crate) const RETRY_MS: u64 = 20_000;

/// Takes the change that lowers the cost most, if one does.
pub(crate) fn better_places(p: &mut Draft<'_>) {
    // All that is more urgent is a step or a wait already.
    if !p.steps.is_empty() || !p.waiting.is_empty() {
        return;
    }
    let steady = match safety::why_not_spread(p.d, p.o, p.l, p.now) {
        None => true,
        Some(NoSpread::NotSteady { .. }) => false,
        Some(_) => return,
    };
    let Some(change) = best(p) else { return };
    match change.kind {
        _ if !steady => later(p, change),
        Kind::Role => switch_over(p, change),
        Kind::Copy { from } => go(p, change, from),
    }
}

/// One copy of a shard, where it runs.
#[derive(Clone, Copy)]
struct Copy<'a> {
    id: NodeId,
    name: &'a ServerName,
    place: &'a Place,
}

/// A shard whose copies are all at known places.
struct Shard<'a> {
    primary: Copy<'a>,
    replicas: Vec<Copy<'a>>,
    cost: Cost,
}

impl<'a> Shard<'a> {
    fn places(&self) -> Vec<&'a Place> {
        self.replicas.iter().map(|r| r.place).collect()
    }

    /// What it would cost without the replica at this index, with another, or both.
    fn cost_with(&self, without: Option<usize>, with: Option<&'a Place>) -> Cost {
        let mut places = self.places();
        if let Some(i) = without {
            places.remove(i);
        }
        places.extend(with);
        Cost::of(self.primary.place, &places)
    }

    /// What it would cost if the replica at this index were the primary.
    fn cost_led_by(&self, i: usize) -> Cost {
        let mut places = self.places();
        let lead = std::mem::replace(&mut places[i], self.primary.place);
        Cost::of(lead, &places)
    }

    fn shared(&self, i: usize) -> Option<Shared> {
        let mut siblings = self.places();
        let at = siblings.remove(i);
        Shared::worst(self.replicas[i].id, at, self.primary.place, &siblings)
    }

    /// The worst that any of its replicas shares.
    fn worst(&self) -> Option<Shared> {
        let all = (0..self.replicas.len()).filter_map(|i| self.shared(i));
        all.min_by_key(|s| (matches!(s.what, SharedPlace::Zone(_)), s.with, s.replica))
    }
}

/// A change for the better.
struct Change {
    kind: Kind,
    /// The replica that gets another role, or another primary.
    replica: NodeId,
    /// The primary whose role it takes, or that it is to copy.
    primary: NodeId,
    because: Crowded,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A switchover: no copy moves.
    Role,
    /// The replica takes a copy of another primary.
    Copy { from: NodeId },
}

/// What ranks changes: replicas on their primary's host, then whether a copy moves, then the rest of the cost, then
/// how many primaries the host has already; of equals the first by name.
type Rank<'a> = (i64, bool, Cost, usize, &'a ServerName, &'a ServerName);

/// Roles that move cost no copy, so they go first: those that leave fewer replicas on their primary's host, then those
/// that keep primaries apart.
fn best(p: &Draft<'_>) -> Option<Change> {
    let shards = shards(p.o);
    let total: Cost = shards.iter().fold(Cost::NOTHING, |sum, s| sum + s.cost);
    let moved = |others: Option<Change>| {
        apart(p, Tried::Not)
            .or(others)
            .or_else(|| apart(p, Tried::Too))
    };
    if total == Cost::NOTHING {
        return moved(None);
    }
    let roles = roles(p, &shards);
    let copies = copies(p, &shards);
    let best = roles.into_iter().chain(copies).min_by(|a, b| a.0.cmp(&b.0));
    let best = best.map(|(_, change)| change);
    if best.as_ref().is_some_and(|c| matches!(c.kind, Kind::Role)) {
        return best;
    }
    moved(best)
}

/// The switchover that keeps primaries apart. One that was tried in vain lets all others go first.
fn apart(p: &Draft<'_>, tried: Tried) -> Option<Change> {
    let change = primaries::apart(p.o, p.l, p.now, tried)?;
    Some(Change {
        kind: Kind::Role,
        replica: change.replica,
        primary: change.primary,
        because: Crowded::Primaries(change.because),
    })
}

/// The primaries with slots, in the order of those.
fn voters(o: &Observed) -> Vec<&Member> {
    let mut voters: Vec<_> = o.voters().collect();
    voters.sort_by_key(|m| m.slots.ranges().first().copied());
    voters
}

/// Whether any zone is known.
fn has_zones(o: &Observed) -> bool {
    o.servers().values().any(|s| s.place.zone.is_some())
}

/// A node at its place, if that is known: its host, and its zone where zones are known.
fn placed(o: &Observed, id: NodeId, has_zones: bool) -> Option<Copy<'_>> {
    let server = o.server_of(id)?;
    let (name, place) = (&server.name, &server.place);
    let known = place.host.is_some() && (place.zone.is_some() || !has_zones);
    known.then_some(Copy { id, name, place })
}

/// Every shard of which all copies are at known places, in the order of their slots.
fn shards(o: &Observed) -> Vec<Shard<'_>> {
    let zones = has_zones(o);
    let copy = |id: NodeId| placed(o, id, zones);
    let mut followers: BTreeMap<NodeId, Vec<NodeId>> = BTreeMap::new();
    for m in o.members().values().filter(|m| m.role == Role::Replica) {
        if let Some(primary) = m.primary {
            followers.entry(primary).or_default().push(m.id);
        }
    }
    let shard = |id: NodeId| {
        let primary = copy(id)?;
        let followers = followers.get(&id).into_iter().flatten();
        let mut replicas: Vec<Copy<'_>> = followers.map(|r| copy(*r)).collect::<Option<_>>()?;
        replicas.sort_by_key(|r| r.name);
        let places: Vec<&Place> = replicas.iter().map(|r| r.place).collect();
        Some(Shard {
            primary,
            cost: Cost::of(primary.place, &places),
            replicas,
        })
    };
    let voters = voters(o).into_iter();
    voters.filter_map(|m| shard(m.id)).collect()
}

/// The switchovers that leave fewer replicas on their primary's host, as they may where a shard has several. For zones
/// alone none is worth while: a role that moves takes no copy out of a zone.
fn roles<'a>(p: &Draft<'_>, shards: &[Shard<'a>]) -> Vec<(Rank<'a>, Change)> {
    let mut out = Vec::new();
    for shard in shards.iter().filter(|s| s.replicas.len() >= 2) {
        let Some(shared) = shard.worst() else {
            continue;
        };
        for (i, replica) in shard.replicas.iter().enumerate() {
            let gain = shard.cost_led_by(i) - shard.cost;
            let why_not = safety::why_not_switch_over(p.o, p.l, replica.id, p.now);
            let later = |why: &NoSwitchover| matches!(why, NoSwitchover::WonLately { .. });
            let strands = !safety::left_behind(p.o, replica.id).is_empty();
            if strands || gain.host_of_primary >= 0 || !why_not.iter().all(later) {
                continue;
            }
            let leads = |s: &&Shard<'_>| s.primary.place.same_host(replica.place);
            let crowd = shards.iter().filter(leads).count();
            let names = (replica.name, shard.primary.name);
            let rank = (gain.host_of_primary, false, gain, crowd, names.0, names.1);
            let change = Change {
                kind: Kind::Role,
                replica: replica.id,
                primary: shard.primary.id,
                because: Crowded::Copies(shared.clone()),
            };
            out.push((rank, change));
        }
    }
    out
}

/// The replicas whose going to another shard lowers the cost: for good where their own has one more than it needs and
/// the other fewer; else in exchange for one of the other's.
fn copies<'a>(p: &Draft<'_>, shards: &[Shard<'a>]) -> Vec<(Rank<'a>, Change)> {
    let Shape::Declared {
        replicas_per_shard, ..
    } = p.d.shape
    else {
        return Vec::new();
    };
    let want = usize::from(replicas_per_shard);
    let mut out = Vec::new();
    for (i, from) in shards.iter().enumerate() {
        for (k, replica) in from.replicas.iter().enumerate() {
            let Some(shared) = from.shared(k) else {
                continue;
            };
            let fits = |to: &Shard<'_>| safety::can_copy(p.o, replica.id, to.primary.id);
            for (_, to) in shards
                .iter()
                .enumerate()
                .filter(|(j, to)| *j != i && fits(to))
            {
                let Some((gain, other)) = gain(from, k, to, want) else {
                    continue;
                };
                let crowd = 0;
                let rank = (gain.host_of_primary, true, gain, crowd, replica.name, other);
                let change = Change {
                    kind: Kind::Copy {
                        from: from.primary.id,
                    },
                    replica: replica.id,
                    primary: to.primary.id,
                    because: Crowded::Copies(shared.clone()),
                };
                out.push((rank, change));
            }
        }
    }
    out
}

/// What it brings at best if this replica goes to that shard, and whose place it takes; nothing if it brings nothing.
fn gain<'a>(
    from: &Shard<'a>,
    k: usize,
    to: &Shard<'a>,
    want: usize,
) -> Option<(Cost, &'a ServerName)> {
    let replica = from.replicas[k];
    let (have, there) = (from.replicas.len(), to.replicas.len());
    let before = from.cost + to.cost;
    if have > want.max(1) {
        let after = from.cost_with(Some(k), None) + to.cost_with(None, Some(replica.place));
        let gain = after - before;
        return (there < have && gain < Cost::NOTHING).then_some((gain, to.primary.name));
    }
    // Until the other comes back the shard may be without a replica: only for one that was in a bad place, and now
    // is in a better.
    let beside = |primary: Copy<'_>| {
        let (at, with) = (replica.place, primary.place);
        (at.same_host(with), at.same_zone(with))
    };
    let bare = have == 1 && beside(to.primary) >= beside(from.primary);
    if have != want || there < want || bare {
        return None;
    }
    let elsewhere = |other: &Copy<'_>| {
        let same_zone = other.place.zone == replica.place.zone;
        other.place.host != replica.place.host || !same_zone
    };
    let others = to.replicas.iter().enumerate();
    others
        .filter(|(_, other)| elsewhere(other))
        .map(|(j, other)| {
            let after = from.cost_with(Some(k), Some(other.place))
                + to.cost_with(Some(j), Some(replica.place));
            (after - before, other.name)
        })
        .filter(|(gain, _)| *gain < Cost::NOTHING)
        .min()
}

/// It is not yet time.
fn later(p: &mut Draft<'_>, change: Change) {
    p.wait(Waiting::Spread(Spread {
        replica: change.replica,
        primary: change.primary,
        by: match change.kind {
            Kind::Role => SpreadBy::Role,
            Kind::Copy { .. } => SpreadBy::Copy,
        },
        because: change.because,
    }));
}

fn switch_over(p: &mut Draft<'_>, change: Change) {
    let (replica, primary) = (change.replica, change.primary);
    if !safety::why_not_switch_over(p.o, p.l, replica, p.now).is_empty() {
        return later(p, change);
    }
    if p.asked_within(replica, AttemptKind::Switchover, RETRY_MS) {
        return p.wait(Waiting::Promotion { replica });
    }
    let requires = vec![Precondition::IsReplicaOf {
        node: replica,
        primary,
    }];
    let action = Action::Switchover { replica, primary };
    p.act_if(action, Reason::Crowded(change.because), requires);
}

fn go(p: &mut Draft<'_>, change: Change, from: NodeId) {
    let Some(node) = Unburdened::prove(p.o, change.replica) else {
        return;
    };
    hold_back(p, change.replica, change.primary);
    let requires = vec![
        Precondition::IsUnburdened {
            node: change.replica,
        },
        Precondition::IsReplicaOf {
            node: change.replica,
            primary: from,
        },
    ];
    let action = Action::Replicate {
        node,
        primary: change.primary,
    };
    p.act_if(action, Reason::Crowded(change.because), requires);
}
