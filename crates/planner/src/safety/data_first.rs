//! What consent to lose data does not go past: keys of a living server, or of a directory that comes back.

use shardwright_topology::{
    Claim, DeathProof, Disk, NodeId, Observed, Process, Seen, Server, Source, Why,
};

use super::may_set_aside;
use crate::evidence::{EmptyPlace, Follower, Follows, Who};

/// How often a container that is held must have been let start, without a word from it, to count as one that can't.
const STARTS_OF_A_CONTAINER: u32 = 3;

/// How long a server that was told to start, and runs, may take to answer, in milliseconds.
const ANSWERS_WITHIN_MS: u64 = 10_000;

/// Who has keys, or comes back with some, and would copy what starts at this address instead.
pub(crate) fn followed_by_data(o: &Observed, server: &Server) -> Option<Follower> {
    let mut followers = EmptyPlace::followers(o, server);
    followers.find(|follower| match (&follower.how, &follower.who) {
        (Follows::Copies { .. }, _) => true,
        (Follows::Down | Follows::Unheard, Who::Server(name)) => {
            o.servers().get(name).is_some_and(|s| comes_back(o, s))
        }
        (Follows::Down | Follows::Unheard | Follows::Unknown, _) => false,
    })
}

/// Whether a replica of this node is not heard yet, and comes back with what is on its disk.
pub(crate) fn replica_comes_back(o: &Observed, primary: NodeId) -> bool {
    let mut silent = o
        .replicas_of(primary)
        .filter(|m| m.source == Source::Others);
    silent.any(|m| o.server_of(m.id).is_some_and(|s| comes_back(o, s)))
}

/// Whether a server that is not heard is about to be, with the data on its disk: it is busy, or was started just now, or
/// is down and was not yet started in vain.
fn comes_back(o: &Observed, s: &Server) -> bool {
    match s.process {
        Process::Dead(_) => {
            let has_data = matches!(
                s.disk.known(),
                Some(Disk::Log | Disk::CleanSnapshot | Disk::Tableless | Disk::Stale { .. })
            );
            has_data && !was_started_in_vain(o, s)
        }
        Process::Running | Process::Unknown => {
            let lately = o
                .starts
                .get(&s.name)
                .is_some_and(|starts| o.at.since_ms(starts.last) < ANSWERS_WITHIN_MS);
            let works = matches!(s.view, Seen::Unknown(Why::Loading | Why::Busy(_)));
            works || lately && s.process == Process::Running
        }
    }
}

/// Whether a server was started, and ended before it said a word: a file is broken, or a setting. A container that waits
/// to be started has not ended for that, but one that waits once more after it was let start again and again has.
pub(crate) fn was_started_in_vain(o: &Observed, s: &Server) -> bool {
    let least = s.process.death().map(|death| match death.proof {
        DeathProof::ChildReaped => 1,
        _ => STARTS_OF_A_CONTAINER,
    });
    let times = o.starts.get(&s.name).map(|starts| starts.times);
    least
        .zip(times)
        .is_some_and(|(least, times)| times >= least)
}

/// Whether what is on a disk claims a slot by no smaller an epoch than another has that serves it, with keys.
pub(crate) fn would_empty(o: &Observed, server: &Server, claim: &Claim) -> bool {
    let Claim::Slots { epoch, slots } = claim else {
        return false;
    };
    let mut owners = slots.slots().filter_map(|slot| o.owner(slot));
    owners.any(|id| {
        let serves = o.view_of(id).is_some_and(|view| view.server.keys > 0);
        let yields = o.member(id).is_some_and(|m| m.epoch <= *epoch);
        serves && yields && server.recorded_id != Some(id)
    })
}

/// Whether nobody needs a server's directory, and the primary of its node has keys; where that is not known, all have.
pub(crate) fn is_served_elsewhere(o: &Observed, server: &Server) -> bool {
    let has_keys = |id| o.view_of(id).is_some_and(|view| view.server.keys > 0);
    let node = server.recorded_id.and_then(|id| o.member(id));
    let data = match node.and_then(|m| m.primary) {
        Some(primary) => has_keys(primary),
        None => o.voters().all(|m| has_keys(m.id)),
    };
    may_set_aside(o, server) && data
}
