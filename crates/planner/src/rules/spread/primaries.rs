//! Primaries are kept apart: no host and no zone holds so many of them that the others are no majority without it, nor more
//! than its share, where switchovers can avoid that.
//!
//! Roles change within a shard alone, and never so that its copies are placed worse ([`crate::placement::Cost`]): so
//! these changes and those of the other placements come to an end together.

use std::collections::{BTreeMap, BTreeSet};

use shardwright_topology::{AttemptKind, Member, NoWrites, NodeId, Observed, Place, Timestamp};

use super::{Copy, Shard, placed, shards, voters};
use crate::Limits;
use crate::placement::{Leads, PrimariesAt, PrimarySpread};
use crate::safety::{self, NoSwitchover};

/// A switchover that keeps primaries apart, or makes room for the one that does.
pub(crate) struct Apart {
    /// The replica that becomes the primary.
    pub(crate) replica: NodeId,
    /// Its primary.
    pub(crate) primary: NodeId,
    /// Which place holds too many.
    pub(crate) because: PrimariesAt,
}

/// Whether replicas count that were asked a while ago and did not become the primary.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tried {
    /// They don't.
    Not,
    /// They do.
    Too,
}

/// The switchover that comes first, if any helps. None while it is not known where every primary is.
pub(crate) fn apart(o: &Observed, l: &Limits, now: Timestamp, tried: Tried) -> Option<Apart> {
    let voters = voters(o);
    let places = voters.iter().map(|m| Some(placed(o, m.id, false)?.place));
    let places: Vec<&Place> = places.collect::<Option<_>>()?;
    let spread = PrimarySpread::new(&places, voters.len(), counts(o));
    if !spread.is_crowded() {
        return None;
    }
    let shards = shards(o);
    let by_primary: BTreeMap<NodeId, &Shard<'_>> =
        shards.iter().map(|s| (s.primary.id, s)).collect();
    let first = |candidates: &[Vec<Copy<'_>>]| {
        let each = places.iter().copied().zip(candidates);
        let leads: Vec<Leads<'_>> = each
            .map(|(at, replicas)| Leads {
                at,
                or: replicas.iter().map(|r| r.place).collect(),
            })
            .collect();
        spread.first_switchover(&leads)
    };
    let of = |m: &&Member| by_primary.get(&m.id).copied();
    let well_placed = voters
        .iter()
        .map(|m| of(m).map_or_else(Vec::new, well_placed));
    let well_placed: Vec<Vec<Copy<'_>>> = well_placed.collect();
    // Where no replica at all could help, none need be looked at closely.
    first(&well_placed)?;
    let pairs = well_placed.into_iter().zip(&voters);
    let candidates: Vec<Vec<Copy<'_>>> = pairs
        .map(|(replicas, m)| {
            let shard = of(m);
            shard.map_or_else(Vec::new, |s| candidates(o, l, (now, tried), s, replicas))
        })
        .collect();
    let turn = first(&candidates)?;
    Some(Apart {
        replica: candidates[turn.shard][turn.to].id,
        primary: voters[turn.shard].id,
        because: turn.because,
    })
}

/// The places that hold so many primaries that the others are no majority, of those that are known: the hosts, or where
/// there is none the zones.
pub(crate) fn majorities(o: &Observed) -> Vec<PrimariesAt> {
    let voters: Vec<NodeId> = o.voters().map(|m| m.id).collect();
    let servers = voters.iter().filter_map(|id| o.server_of(*id));
    let places: Vec<&Place> = servers.map(|s| &s.place).collect();
    PrimarySpread::new(&places, voters.len(), counts(o)).majorities()
}

/// On how many hosts and in how many zones servers run that may take a primary. No zone counts while that of any server
/// is unknown.
fn counts(o: &Observed) -> (usize, usize) {
    let places = || o.servers().values().map(|s| &s.place);
    let open = || places().filter(|p| !p.cordoned);
    let hosts: BTreeSet<&String> = open().filter_map(|p| p.host.as_ref()).collect();
    if places().any(|p| p.zone.is_none()) {
        return (hosts.len(), 0);
    }
    let zones: BTreeSet<&String> = open().filter_map(|p| p.zone.as_ref()).collect();
    (hosts.len(), zones.len())
}

/// The replicas that could be their shard's primary with no copy placed worse, on a host that is not being emptied.
fn well_placed<'a>(shard: &Shard<'a>) -> Vec<Copy<'a>> {
    let replicas = shard.replicas.iter().enumerate();
    let well = |i: usize, at: &Place| !at.cordoned && shard.cost_led_by(i) <= shard.cost;
    replicas
        .filter(|(i, replica)| well(*i, replica.place))
        .map(|(_, replica)| *replica)
        .collect()
}

/// Those of these replicas that may be asked: first those that may be at once, the others have to wait a little.
fn candidates<'a>(
    o: &Observed,
    l: &Limits,
    (now, tried): (Timestamp, Tried),
    shard: &Shard<'a>,
    replicas: Vec<Copy<'a>>,
) -> Vec<Copy<'a>> {
    let asked = |id: NodeId, ms: u64| {
        let mut attempts = o.attempts.iter();
        attempts
            .any(|a| a.node == id && a.kind == AttemptKind::Switchover && now.since_ms(a.at) < ms)
    };
    let failed = |id| {
        let lately = asked(id, super::RETRY_MS) && !asked(id, l.switchover_retry_ms);
        lately && tried == Tried::Not
    };
    let mut found = Vec::new();
    for replica in replicas {
        if is_full(o, replica.id) || failed(replica.id) {
            continue;
        }
        let why_not = safety::why_not_switch_over(o, l, replica.id, now);
        let later = |why: &NoSwitchover| matches!(why, NoSwitchover::WonLately { .. });
        if why_not.iter().all(later) && safety::left_behind(o, replica.id).is_empty() {
            let at = shard.replicas.iter().position(|r| r.id == replica.id);
            let cost = at.map_or(shard.cost, |i| shard.cost_led_by(i));
            found.push((!why_not.is_empty(), cost, replica));
        }
    }
    found.sort_by_key(|(waits, cost, replica)| (*waits, *cost, replica.name));
    found.into_iter().map(|(_, _, replica)| replica).collect()
}

/// Whether a replica would refuse writes as a primary, as its disk takes none.
fn is_full(o: &Observed, replica: NodeId) -> bool {
    let why = o.view_of(replica).and_then(|v| v.server.no_writes);
    matches!(why, Some(NoWrites::Log | NoWrites::Snapshot))
}
