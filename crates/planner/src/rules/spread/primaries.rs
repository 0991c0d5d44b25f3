//! Primaries are kept apart: no host and no zone holds so many of them that the others are no majority without it, nor more
//! than its share, where switchovers can avoid that.
//!
//! Roles change within a shard alone, and never so that its copies are placed worse ([`crate::placement::Cost`]): so
//! these changes and those of the other placements come to an end together.

use std::collections::BTreeSet;

use shardwright_topology::{NoWrites, NodeId, Observed, Place, Timestamp};

use super::{Copy, Shard, has_zones, placed, shards, voters};
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

/// The switchover that comes first, if any helps. None while it is not known where every primary is.
pub(crate) fn apart(o: &Observed, l: &Limits, now: Timestamp) -> Option<Apart> {
    let zones = has_zones(o);
    let voters = voters(o);
    let places = voters.iter().map(|m| Some(placed(o, m.id, zones)?.place));
    let places: Vec<&Place> = places.collect::<Option<_>>()?;
    let spread = PrimarySpread::new(&places, voters.len(), counts(o));
    if !spread.is_crowded() {
        return None;
    }
    let shards = shards(o);
    let candidates = |id: NodeId| {
        let shard = shards.iter().find(|s| s.primary.id == id);
        shard.map_or_else(Vec::new, |shard| candidates(o, l, now, shard))
    };
    let candidates: Vec<Vec<Copy<'_>>> = voters.iter().map(|m| candidates(m.id)).collect();
    let each = places.iter().copied().zip(&candidates);
    let leads: Vec<Leads<'_>> = each
        .map(|(at, replicas)| Leads {
            at,
            or: replicas.iter().map(|r| r.place).collect(),
        })
        .collect();
    let turn = spread.first_switchover(&leads)?;
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

/// On how many hosts and in how many zones servers run, as far as it is known.
fn counts(o: &Observed) -> (usize, usize) {
    let places = || o.servers().values().map(|s| &s.place);
    let hosts: BTreeSet<&String> = places().filter_map(|p| p.host.as_ref()).collect();
    let zones: BTreeSet<&String> = places().filter_map(|p| p.zone.as_ref()).collect();
    (hosts.len(), zones.len())
}

/// The replicas that could be their shard's primary with no copy placed worse: first those that could be at once, the
/// others have to wait a little.
fn candidates<'a>(o: &'a Observed, l: &Limits, now: Timestamp, shard: &Shard<'a>) -> Vec<Copy<'a>> {
    let mut found = Vec::new();
    for (i, replica) in shard.replicas.iter().enumerate() {
        let cost = shard.cost_led_by(i);
        if cost > shard.cost || is_full(o, replica.id) {
            continue;
        }
        let why_not = safety::why_not_switch_over(o, l, replica.id, now);
        let later = |why: &NoSwitchover| matches!(why, NoSwitchover::WonLately { .. });
        if why_not.iter().all(later) && safety::left_behind(o, replica.id).is_empty() {
            found.push((!why_not.is_empty(), cost, *replica));
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
