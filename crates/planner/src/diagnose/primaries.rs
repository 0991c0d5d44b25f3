//! Places that hold so many primaries that the others are no majority without them.

use shardwright_topology::{NodeId, Observed};

use super::{Found, ProblemKind, add};
use crate::rules::spread::primaries::{Tried, apart, majorities};
use crate::safety::why_not_switch_over;
use crate::{Limits, PrimariesAt, Severity, SharedPlace};

/// Such places are noted: all is well until one of them is cut off.
pub(super) fn of(o: &Observed, found: &mut Found) {
    let places = majorities(o);
    if places.is_empty() {
        return;
    }
    let limits = Limits::default();
    let now = |replica: &NodeId| why_not_switch_over(o, &limits, *replica, o.at).is_empty();
    let replica = apart(o, &limits, o.at, Tried::Too).map(|change| change.replica);
    let replica = replica.filter(now);
    for at in places {
        add(found, Severity::Note, ProblemKind::Majority { at, replica });
    }
}

pub(super) fn majority(at: &PrimariesAt) -> String {
    format!("{at}: if it is cut off, the others are no majority, and no slot is served")
}

pub(super) fn mend(target: &str, at: &PrimariesAt, replica: Option<NodeId>) -> String {
    if let Some(replica) = replica {
        return format!("shardwright failover {target} {replica}");
    }
    let places = match at.place {
        SharedPlace::Host(_) => "hosts",
        SharedPlace::Zone(_) => "zones",
    };
    format!(
        "where no switchover helps, spread its servers over more {places}, {} at least, so that each shard has copies on several",
        at.places_min()
    )
}
