//! Forming a new cluster: give every slot an owner. The rest (meeting, replicas) is what healing does anyway.

use std::collections::BTreeMap;

use shardwright_topology::{
    ConfigEpoch, NodeId, NodeView, Place, Role, Server, SlotRange, SlotSet,
};

use crate::draft::Draft;
use crate::evidence::Blank;
use crate::ours::is_fresh;
use crate::{
    Action, Authority, Precondition, Reason, Request, Shape, Standing, Ungiven, Waiting, layout,
};

/// How far the cluster's life has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Slots are being given out.
    Forming,
    /// It lives: heal it.
    Formed,
    /// It was formed, and nothing of it can be seen: nothing may be done to it.
    Lost,
}

/// Finds the stage, and while forming takes its steps.
pub(crate) fn stage(p: &mut Draft<'_>) -> Stage {
    let asked = matches!(p.d.request, Some(Request::Form { .. }));
    let all = |is: fn(&NodeView) -> bool| {
        let mut ours = p.ours.iter();
        !p.ours.is_empty() && ours.all(|id| p.o.view_of(*id).is_some_and(is))
    };
    let (all_blank, no_keys) = (all(is_fresh), all(|v| v.server.keys == 0));
    let none_unheard = p.o.servers().values().all(|s| s.view.known().is_some());
    let refused = !p.o.duplicates().is_empty()
        || p.standings
            .values()
            .any(|s| matches!(s, Standing::Foreign(_)));
    if p.o.formed.is_some() {
        // Forming anew by consent may have been broken off: it goes on while nobody holds a key.
        let again = p.d.consent.lose_data && no_keys && !p.o.uncovered().is_empty();
        if !all_blank {
            let go_on = again && none_unheard && !refused && as_laid_out(p);
            return if go_on { give_slots(p) } else { Stage::Formed };
        }
        if !none_unheard {
            // Those that are not heard may hold everything. `settle` says who they are.
            return Stage::Lost;
        }
        if !p.d.consent.lose_data {
            p.wait(Waiting::DataLost);
        }
        if !p.d.consent.lose_data || refused {
            return Stage::Lost;
        }
        return give_slots(p);
    }
    if p.d.authority == Authority::Guest && !asked {
        return Stage::Formed;
    }
    if refused {
        return Stage::Lost;
    }
    if p.o.uncovered().is_empty() && !p.ours.is_empty() {
        if p.d.authority == Authority::Guest {
            return Stage::Formed;
        }
        p.act(Action::RecordFormed, Reason::AllSlotsGiven);
        return Stage::Forming;
    }
    give_slots(p)
}

/// Whether every node is a primary with no slots or with just those of one shard: so a forming leaves them.
fn as_laid_out(p: &Draft<'_>) -> bool {
    let Shape::Declared { shards, .. } = p.d.shape else {
        return false;
    };
    let ranges = layout(shards);
    p.o.members().values().all(|m| {
        let laid_out = |r: &SlotRange| m.slots.ranges() == [*r];
        m.role == Role::Primary && (m.slots.is_empty() || ranges.iter().any(laid_out))
    })
}

/// Gives each shard's slots to its primary. Can be broken off and taken up anywhere: what was given stays given.
fn give_slots(p: &mut Draft<'_>) -> Stage {
    let Shape::Declared {
        shards,
        replicas_per_shard,
    } = p.d.shape
    else {
        // Without a declared shape it is not known what to form.
        let why = "a cluster is formed only in a declared shape: say how many shards".to_owned();
        p.wait(Waiting::Request { why: vec![why] });
        return Stage::Lost;
    };
    let servers = in_order(p);
    let want = usize::from(shards) * (1 + usize::from(replicas_per_shard));
    if servers.len() < want {
        p.wait(Waiting::ServersMissing {
            have: servers.len(),
            want,
        });
    }
    if servers.len() < want || servers.iter().any(|s| s.view.known().is_none()) {
        return Stage::Forming;
    }
    let Some(owners) = choose_owners(p, &servers, &layout(shards)) else {
        let slots = p.o.uncovered();
        let why = Ungiven::SaidElsewhere;
        p.wait(Waiting::Uncovered { slots, why });
        return Stage::Lost;
    };
    for (i, (range, id)) in owners.iter().enumerate() {
        let slots = SlotSet::from(*range);
        let Some(member) = p.o.member(*id).filter(|m| m.slots.is_empty()) else {
            continue;
        };
        let node = member.id;
        give_epoch(p, node, i);
        let requires = vec![Precondition::SlotsFree {
            node,
            slots: slots.clone(),
        }];
        p.act_if(Action::AddSlots { node, slots }, Reason::Forming, requires);
    }
    // The rest too: blank nodes that meet with one epoch take new ones, and may then meet that of an owner.
    let owns = |id: &NodeId| owners.iter().any(|(_, owner)| owner == id);
    let rest: Vec<NodeId> = servers.iter().filter_map(|s| s.id()).collect();
    for (i, node) in rest.into_iter().filter(|id| !owns(id)).enumerate() {
        give_epoch(p, node, owners.len().saturating_add(i));
    }
    Stage::Forming
}

/// Gives a blank node the epoch of its place in the order, counted from 1.
fn give_epoch(p: &mut Draft<'_>, node: NodeId, place: usize) {
    let Some(member) = p.o.member(node).filter(|m| m.epoch == ConfigEpoch(0)) else {
        return;
    };
    let server = member.server.as_ref();
    let Some(blank) = server.and_then(|server| Blank::prove(p.o, server)) else {
        return;
    };
    let epoch = ConfigEpoch(u64::try_from(place).unwrap_or(u64::MAX).saturating_add(1));
    let requires = vec![Precondition::IsBlank { node }];
    p.act_if(
        Action::SetConfigEpoch { blank, epoch },
        Reason::Forming,
        requires,
    );
}

/// The servers in their order of preference: as a person gave them, else by leave rank and name.
fn in_order<'a>(p: &Draft<'a>) -> Vec<&'a Server> {
    if let Some(Request::Form { order }) = &p.d.request {
        return order
            .iter()
            .filter_map(|name| p.o.servers().get(name))
            .collect();
    }
    // One that is too many is given nothing; what it has, it keeps.
    let has = |id| p.o.member(id).is_some_and(|m| !m.slots.is_empty());
    let counts = |s: &&Server| s.id().is_none_or(|id| has(id) || !p.is_surplus(id));
    let mut servers: Vec<&Server> = p.o.servers().values().filter(counts).collect();
    servers.sort_by_key(|s| (s.place.leave_rank, &s.name));
    servers
}

/// Who gets which range: those that already have theirs keep it, the rest are spread over hosts and zones.
/// `None` when slots were given out in another way: then this is no forming of ours.
fn choose_owners(
    p: &mut Draft<'_>,
    servers: &[&Server],
    ranges: &[SlotRange],
) -> Option<Vec<(SlotRange, NodeId)>> {
    let mut owner: BTreeMap<usize, NodeId> = BTreeMap::new();
    let mut free: Vec<&Server> = Vec::new();
    for server in servers {
        let member = server.id().and_then(|id| p.o.member(id))?;
        if member.slots.is_empty() {
            if member.role == Role::Primary {
                free.push(server);
            }
            continue;
        }
        let Some(i) = ranges
            .iter()
            .position(|r| SlotSet::from(*r) == member.slots)
        else {
            let what = crate::waiting::Foreign::OwnsSlots {
                slots: member.slots.clone(),
            };
            p.wait(Waiting::Foreign {
                server: server.name.clone(),
                what,
            });
            return None;
        };
        owner.insert(i, member.id);
    }
    // What a node owns that is none of these servers is not ours to give.
    let uncovered = p.o.uncovered();
    let taken = |range: &SlotRange| !SlotSet::from(*range).difference(&uncovered).is_empty();
    if (0..ranges.len()).any(|i| !owner.contains_key(&i) && taken(&ranges[i])) {
        return None;
    }
    let o = p.o;
    let servers = owner.values().filter_map(|id| o.server_of(*id));
    let taken: Vec<&Place> = servers.map(|s| &s.place).collect();
    let wanted = ranges.len().saturating_sub(owner.len());
    let mut spread = spread_out(free, &taken, wanted).into_iter();
    let mut owners = Vec::new();
    for (i, range) in ranges.iter().enumerate() {
        let id = match owner.get(&i) {
            Some(id) => *id,
            None => spread.next()?,
        };
        owners.push((*range, id));
    }
    Some(owners)
}

/// So many of the nodes, spread over hosts and zones: each time one on a host with the fewest, of these in a zone with the
/// fewest, and of these the first. At the places `taken` there is one each already.
/// Servers without a known host count as on one, and so do those without a known zone.
fn spread_out<'a>(mut free: Vec<&'a Server>, taken: &[&'a Place], wanted: usize) -> Vec<NodeId> {
    let mut hosts: BTreeMap<Option<&'a str>, usize> = BTreeMap::new();
    let mut zones: BTreeMap<Option<&'a str>, usize> = BTreeMap::new();
    let mut chosen = Vec::new();
    let mut places = taken.to_vec();
    loop {
        for place in places.drain(..) {
            *hosts.entry(place.host.as_deref()).or_insert(0) += 1;
            *zones.entry(place.zone.as_deref()).or_insert(0) += 1;
        }
        let held = |place: &'a Place| {
            let on_host = hosts.get(&place.host.as_deref()).copied();
            let in_zone = zones.get(&place.zone.as_deref()).copied();
            (on_host, in_zone)
        };
        let first = (0..free.len()).min_by_key(|i| (held(&free[*i].place), *i));
        let Some(i) = first.filter(|_| chosen.len() < wanted) else {
            return chosen;
        };
        let server = free.remove(i);
        chosen.extend(server.id());
        places.push(&server.place);
    }
}
