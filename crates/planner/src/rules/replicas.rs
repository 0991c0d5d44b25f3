//! Every shard has its replicas, each away from its primary's host, and each follows a primary that owns slots.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use shardwright_topology::{Member, NodeId, Observed, Place, Role, Source};

use crate::draft::Draft;
use crate::evidence::{Dead, Gone, Unburdened, copies_another, copies_elsewhere, in_sync};
use crate::pairing::{Seat, fill};
use crate::placement::Cost;
use crate::rules::electable::hold_back;
use crate::shape::ours_to_reshape;
use crate::{Action, Authority, Precondition, Reason, Request, Shape, Waiting, safety};

/// Gives replicas to the shards that lack them, from free nodes, else from a shard with more than it needs.
pub(crate) fn attach(p: &mut Draft<'_>) {
    let astray: Vec<(NodeId, Place)> = repoint(p)
        .into_iter()
        .filter_map(|id| Some((id, place(p.o, id)?)))
        .collect();
    let mut free = free_nodes(p);
    let mut seats = seats(p);
    free.retain(|(id, _)| Some(*id) != asked_for(p));
    // A person's word where one is to go counts before another shard's need.
    if let Some((replica, primary)) = asked_pair(p) {
        let seat = seats.iter_mut().find(|s| s.primary == primary);
        let at = free.iter().position(|(id, _)| *id == replica);
        if let (Some(seat), Some(at)) = (seat, at)
            && safety::can_copy(p.o, replica, primary)
        {
            let (_, place) = free.remove(at);
            replicate(p, replica, primary, Reason::ReplicaMissing);
            seat.replicas.push(place);
        }
    }
    make_room(&mut seats, astray.len());
    for (nodes, because) in [
        (astray, Reason::WrongPrimary),
        (free, Reason::ReplicaMissing),
    ] {
        for (replica, primary) in fill_readable(p.o, &seats, &nodes) {
            replicate(p, replica, primary, because.clone());
            if let Some(seat) = seats.iter_mut().find(|s| s.primary == primary) {
                seat.replicas.push(place_or_unknown(p.o, replica));
            }
        }
    }
    // One loan a pass: the next looks at what the first left.
    let mut lent = false;
    let live = live_replicas(p);
    for seat in &seats {
        let have = count(&seat.replicas);
        if have >= seat.want {
            continue;
        }
        if !lent && lend(p, &seats, &live, seat, have) {
            lent = true;
        } else if p.d.shape != Shape::AsFound && have.saturating_add(spares(p, seat)) < seat.want {
            p.wait(Waiting::ReplicaMissing {
                primary: seat.primary,
                have,
                want: seat.want,
            });
        }
    }
}

/// Fills the seats with nodes that can read what the seat's primary writes. Nodes of the oldest version choose first: the
/// newer can go anywhere they can.
fn fill_readable(o: &Observed, seats: &[Seat], nodes: &[(NodeId, Place)]) -> Vec<(NodeId, NodeId)> {
    let mut by_version: BTreeMap<_, Vec<(NodeId, Place)>> = BTreeMap::new();
    for (id, place) in nodes {
        let version = o.view_of(*id).map(|v| (v.server.engine, v.server.version));
        let of_it = by_version.entry(version).or_default();
        of_it.push((*id, place.clone()));
    }
    let mut seats = seats.to_vec();
    let mut pairs = Vec::new();
    for nodes in by_version.values() {
        let reads = |s: &&Seat| {
            nodes
                .iter()
                .all(|(id, _)| safety::can_copy(o, *id, s.primary))
        };
        let open: Vec<Seat> = seats.iter().filter(reads).cloned().collect();
        for (replica, primary) in fill(&open, nodes).pairs {
            if let Some(seat) = seats.iter_mut().find(|s| s.primary == primary) {
                seat.replicas.push(place_or_unknown(o, replica));
            }
            pairs.push((replica, primary));
        }
    }
    pairs
}

/// A replica that copies from another address than its primary's is told anew whom it follows: the engine then takes
/// the address from the replica's table. What it copied there is nothing of its primary's.
pub(crate) fn follow_anew(p: &mut Draft<'_>) {
    let replicas: Vec<&Member> =
        p.o.members()
            .values()
            .filter(|m| m.role == Role::Replica && m.source == Source::Itself && p.is_ours(m.id))
            .filter(|m| m.primary.is_none_or(|id| !p.foreign.contains(&id)))
            .collect();
    for m in replicas {
        let (Some(primary), Some(from)) = (m.primary, copies_elsewhere(p.o, m.id)) else {
            continue;
        };
        // While its table is wrong too, it would copy from there again: it is introduced first.
        let row = p.o.view_of(m.id).and_then(|v| v.rows.get(primary));
        let knows_better = row.is_some_and(|row| !row.address.same_socket(&from));
        let lives = p.o.member(primary).is_some_and(|m| m.role == Role::Primary);
        let drops = dropped(p, m.id, primary);
        if knows_better && lives && p.o.view_of(primary).is_some() && drops.is_none() {
            replicate(p, m.id, primary, Reason::CopiesElsewhere { from });
        } else {
            p.wait(Waiting::CopiesElsewhere {
                node: m.id,
                primary,
                from,
                drops,
            });
        }
    }
}

/// How many keys a replica has, where its primary has none and may have lost them: they may be the last copy, unless they
/// are known to be those of another node that lives.
fn dropped(p: &Draft<'_>, replica: NodeId, primary: NodeId) -> Option<u64> {
    let keys = |id| p.o.view_of(id).map(|v| v.server.keys);
    let empty = keys(primary) == Some(0) && !p.d.consent.lose_data;
    let another = |v| copies_another(p.o, v, primary);
    let theirs = p.o.view_of(replica).is_some_and(another);
    keys(replica).filter(|keys| empty && *keys > 0 && !theirs)
}

/// How many replicas it has beside those that hold a seat, on servers that are too many.
fn spares(p: &Draft<'_>, seat: &Seat) -> u16 {
    let replicas = p.o.replicas_of(seat.primary);
    let spares = replicas.filter(|r| p.is_surplus(r.id)).count();
    u16::try_from(spares).unwrap_or(u16::MAX)
}

fn count(replicas: &[Place]) -> u16 {
    u16::try_from(replicas.len()).unwrap_or(u16::MAX)
}

/// Replicas that follow a replica follow its primary instead. Returns those whose primary is no more: they are free.
fn repoint(p: &mut Draft<'_>) -> Vec<NodeId> {
    let mut astray = Vec::new();
    let replicas: Vec<&Member> =
        p.o.members()
            .values()
            .filter(|m| m.role == Role::Replica && m.source == Source::Itself && p.is_ours(m.id))
            .collect();
    for replica in replicas {
        let Some(primary) = replica.primary else {
            continue;
        };
        // What it has may be the last copy of what a foreign node took.
        if p.foreign.contains(&primary) && !safety::all_served(p.o) {
            continue;
        }
        match p.o.member(primary) {
            // Two that copy each other have no primary.
            Some(m) if m.role == Role::Replica && m.primary == Some(replica.id) => {
                astray.push(replica.id);
            }
            Some(m) if m.role == Role::Replica => {
                if let Some(top) = m.primary.filter(|top| owns(p.o, *top)) {
                    replicate(p, replica.id, top, Reason::WrongPrimary);
                }
            }
            // A shard that gave up its slots, or a new one that is not wanted any more.
            Some(m) if m.source == Source::Itself && is_no_shard(p, m) => astray.push(replica.id),
            // A primary that owns slots, or that lives and may be given some.
            Some(m) if !m.slots.is_empty() || m.source == Source::Itself => {}
            Some(m) => {
                if Dead::prove(p.o, m.id).is_some() || Gone::prove(p.d, p.o, m.id).is_some() {
                    astray.push(replica.id);
                }
            }
            None => astray.push(replica.id),
        }
    }
    astray
}

/// Whether a primary is not to own slots: it has none, there are as many shards as declared without it, or it was asked
/// to leave.
fn is_no_shard(p: &Draft<'_>, m: &Member) -> bool {
    let asked = matches!(&p.d.request, Some(Request::Leave { node }) if *node == m.id);
    let enough = || match (p.d.authority, p.d.shape) {
        (Authority::Managed, Shape::Declared { shards, .. }) => {
            p.o.voters().count() >= usize::from(shards) && p.o.uncovered().is_empty()
        }
        (Authority::Managed | Authority::Guest, Shape::Declared { .. } | Shape::AsFound) => false,
    };
    m.slots.is_empty() && Unburdened::prove(p.o, m.id).is_some() && (asked || enough())
}

fn owns(o: &Observed, id: NodeId) -> bool {
    o.member(id)
        .is_some_and(|m| m.role == Role::Primary && !m.slots.is_empty())
}

fn place(o: &Observed, id: NodeId) -> Option<Place> {
    o.server_of(id).map(|s| s.place.clone())
}

/// The place of a node; one whose server is not known is at no known host.
fn place_or_unknown(o: &Observed, id: NodeId) -> Place {
    place(o, id).unwrap_or_else(|| Place {
        host: None,
        ..Place::default()
    })
}

/// Every live primary that owns slots, or is to become a shard, with the replicas it has and those it should have.
fn seats(p: &Draft<'_>) -> Vec<Seat> {
    let mut voters: Vec<&Member> = p.o.voters().filter(|m| p.is_ours(m.id)).collect();
    voters.sort_by_key(|m| m.slots.ranges().first().copied());
    let heads = p.reshaping.heads.iter().copied().chain(asked_for(p));
    let heads = heads.filter_map(|id| p.o.member(id));
    let mut seats: Vec<Seat> = voters
        .iter()
        .copied()
        .chain(heads)
        .map(|m| {
            let drains = p.reshaping.drains.contains(&m.id);
            // One whose server is too many holds no seat, unless its shard goes too: another is to take its place.
            let stays = |r: &&Member| counts(p, r) && (drains || !p.is_surplus(r.id));
            let replicas = p.o.replicas_of(m.id).filter(stays);
            let replicas: Vec<Place> = replicas.map(|r| place_or_unknown(p.o, r.id)).collect();
            let want = match p.d.shape {
                // One whose server is too many needs somebody to hand over to.
                Shape::Declared {
                    shards,
                    replicas_per_shard: 0,
                } if p.is_surplus(m.id) && voters.len() <= usize::from(shards) => 1,
                // A shard that gives up its slots keeps a copy until then, and needs no more.
                Shape::Declared {
                    replicas_per_shard, ..
                } if drains => replicas_per_shard.min(1),
                Shape::Declared {
                    replicas_per_shard, ..
                } => replicas_per_shard,
                Shape::AsFound => 0,
            };
            Seat {
                primary: m.id,
                place: place_or_unknown(p.o, m.id),
                replicas,
                want,
            }
        })
        .collect();
    join_wants_one(p, &mut seats);
    as_found_wants_one_each(p, &mut seats);
    seats
}

/// A replica that was asked to join wants one more seat: at the shard it was asked for, else where fewest are.
fn join_wants_one(p: &Draft<'_>, seats: &mut [Seat]) {
    let Some(Request::Join {
        server,
        replica: true,
        of,
    }) = &p.d.request
    else {
        return;
    };
    let joined =
        p.o.servers()
            .get(server)
            .and_then(shardwright_topology::Server::id)
            .and_then(|id| p.o.member(id));
    if !joined.is_some_and(|m| m.role == Role::Primary && m.slots.is_empty()) {
        return;
    }
    let fits = |s: &&mut Seat| joined.is_some_and(|m| safety::can_copy(p.o, m.id, s.primary));
    let seat = match of {
        Some(primary) => seats.iter_mut().find(|s| s.primary == *primary),
        None => seats
            .iter_mut()
            .filter(fits)
            .min_by_key(|s| s.replicas.len()),
    };
    if let Some(seat) = seat {
        seat.want = seat.want.max(count(&seat.replicas).saturating_add(1));
    }
}

/// A primary without slots for which a person asked for a replica: it is to become a shard.
fn asked_for(p: &Draft<'_>) -> Option<NodeId> {
    let primary = asked_pair(p).map(|(_, primary)| primary)?;
    let member = p.o.member(primary).filter(|m| p.is_ours(m.id))?;
    let becomes = member.role == Role::Primary && member.slots.is_empty();
    becomes.then_some(primary)
}

/// The node that was asked to join as a replica of a certain primary, and that primary.
fn asked_pair(p: &Draft<'_>) -> Option<(NodeId, NodeId)> {
    match &p.d.request {
        Some(Request::Join {
            server,
            replica: true,
            of: Some(primary),
        }) => {
            let replica = p.o.servers().get(server)?.id()?;
            (replica != *primary).then_some((replica, *primary))
        }
        _ => None,
    }
}

/// In a cluster kept as it was found, a bare shard wants a replica only when another has two.
fn as_found_wants_one_each(p: &Draft<'_>, seats: &mut [Seat]) {
    if p.d.shape == Shape::AsFound && seats.iter().any(|s| s.replicas.len() >= 2) {
        for seat in seats.iter_mut().filter(|s| s.replicas.is_empty()) {
            seat.want = seat.want.max(1);
        }
    }
}

/// Replicas that lost their primary all get one, even where no more are wanted: else what they follow is never
/// forgotten. The surplus goes where fewest are.
fn make_room(seats: &mut [Seat], astray: usize) {
    let lacks = |s: &Seat| s.want.saturating_sub(count(&s.replicas));
    let open: usize = seats.iter().map(|s| usize::from(lacks(s))).sum();
    for _ in open..astray {
        if let Some(seat) = seats
            .iter_mut()
            .min_by_key(|s| count(&s.replicas).max(s.want))
        {
            seat.want = count(&seat.replicas).max(seat.want).saturating_add(1);
        }
    }
}

/// Whether a replica counts: one that is only away for a while does, where we start servers again ourselves.
fn counts(p: &Draft<'_>, replica: &Member) -> bool {
    match p.d.authority {
        Authority::Managed => replica.server.is_some(),
        Authority::Guest => replica.source == Source::Itself || replica.failed_by == 0,
    }
}

/// Primaries without slots that may become replicas.
fn free_nodes(p: &Draft<'_>) -> Vec<(NodeId, Place)> {
    let (voters, shards) = (p.o.voters().count(), p.d.shape);
    let fewer = matches!(shards, Shape::Declared { shards, .. } if voters < usize::from(shards));
    if fewer && (ours_to_reshape(p.d, p.o).is_none() || !p.o.uncovered().is_empty()) {
        return Vec::new(); // an empty primary may be the shard that is missing
    }
    let asked = |m: &Member| match &p.d.request {
        Some(Request::Join {
            server,
            replica: true,
            ..
        }) => m.server.as_ref() == Some(server),
        _ => false,
    };
    let mut free: Vec<_> = p
        .our_servers()
        .filter_map(|s| p.o.member(s.id()?).map(|m| (s, m)))
        .filter(|(_, m)| m.role == Role::Primary && m.slots.is_empty())
        .filter(|(_, m)| shards != Shape::AsFound || asked(m))
        .filter(|(_, m)| Unburdened::prove(p.o, m.id).is_some() && !p.is_surplus(m.id))
        .filter(|(_, m)| !p.reshaping.heads.contains(&m.id))
        .collect();
    free.sort_by_key(|(s, _)| (s.place.leave_rank, rank(p, s), &s.name));
    free.into_iter()
        .map(|(s, m)| (m.id, s.place.clone()))
        .collect()
}

/// Where a server stands in the order a person gave, if one did.
fn rank(p: &Draft<'_>, server: &shardwright_topology::Server) -> usize {
    match &p.d.request {
        Some(Request::Form { order }) => order
            .iter()
            .position(|n| *n == server.name)
            .unwrap_or(usize::MAX),
        _ => 0,
    }
}

/// The replicas of ours that were heard and stay, by their primary.
type Live = BTreeMap<NodeId, Vec<NodeId>>;

fn live_replicas(p: &Draft<'_>) -> Live {
    let mut live = Live::new();
    let stay = |m: &&Member| p.is_ours(m.id) && !p.is_surplus(m.id);
    for m in p.o.members().values().filter(stay) {
        if let Some(primary) = m.primary.filter(|_| m.role == Role::Replica) {
            live.entry(primary).or_default().push(m.id);
        }
    }
    live
}

/// Takes a replica for a shard from another: for a bare shard if the lender keeps another, for one that only lacks
/// some if the lender keeps all that it should have. Those with too many lend first; of what they have, what is placed
/// best then goes, by the cost of [`super::spread`], whose exchanges end here. The lender keeps one that is in sync: for
/// that is waited. Returns whether one goes, or will.
fn lend(p: &mut Draft<'_>, seats: &[Seat], live: &Live, lacks: &Seat, have: u16) -> bool {
    let declared = p.d.shape != Shape::AsFound;
    let mut loans = Vec::new();
    for seat in seats {
        let Some(nodes) = live.get(&seat.primary).filter(|nodes| nodes.len() >= 2) else {
            continue;
        };
        let rich = nodes.len() > usize::from(seat.want);
        let new = p.reshaping.heads.contains(&lacks.primary);
        if (have > 0 || new) && !(declared && rich) {
            continue;
        }
        let fits = |id: &&NodeId| safety::can_copy(p.o, **id, lacks.primary);
        for spare in nodes.iter().filter(fits) {
            let stay = || nodes.iter().filter(|id| *id != spare);
            let keeps = stay().any(|id| p.o.view_of(*id).is_some_and(|v| in_sync(p.o, v)));
            let at = place_or_unknown(p.o, *spare);
            let beside: Vec<Place> = stay().map(|id| place_or_unknown(p.o, *id)).collect();
            let cost = Cost::of_one(&at, &lacks.place, &lacks.replicas)
                - Cost::of_one(&at, &seat.place, &beside);
            loans.push((!rich, cost, !keeps, Reverse(nodes.len()), *spare));
        }
    }
    let Some((_, _, waits, _, replica)) = loans.into_iter().min() else {
        return false;
    };
    let primary = lacks.primary;
    if waits {
        p.wait(Waiting::Lend { replica, primary });
    } else {
        replicate(p, replica, primary, Reason::ReplicaMissing);
    }
    true
}

/// Makes a node a replica, once it knows its primary by name (else the engine says `Unknown node`).
pub(crate) fn replicate(p: &mut Draft<'_>, node: NodeId, primary: NodeId, because: Reason) {
    let same = |a: &Action| matches!(a, Action::Replicate { node: n, .. } if n.node() == node);
    if p.steps.iter().any(|s| same(&s.action)) {
        return; // it copies from elsewhere, and is told anew whom it follows first
    }
    let knows =
        p.o.view_of(node)
            .and_then(|v| v.rows.get(primary))
            .is_some_and(shardwright_topology::Row::is_member);
    let lives = p.o.view_of(primary).is_some();
    if let Some(why) = safety::why_not_copy(p.o, node, primary) {
        return p.wait(Waiting::CannotCopy { why, node, primary });
    }
    match Unburdened::prove(p.o, node) {
        Some(proof) if knows && lives => {
            hold_back(p, node, primary);
            let requires = vec![Precondition::IsUnburdened { node }];
            p.act_if(
                Action::Replicate {
                    node: proof,
                    primary,
                },
                because,
                requires,
            );
        }
        _ => p.wait(Waiting::Views {
            speaker: node,
            about: primary,
        }),
    }
}
