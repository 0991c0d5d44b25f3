//! Dead servers of ours are started, unless that would bring an old or empty primary back. Where their host starts
//! them by itself, only those are that a start gate holds.

use shardwright_topology::{
    Claim, Disk, NodeId, Observed, Role, Seen, Server, SlotSet, Source, Starter, Starts, Why,
};

use crate::draft::Draft;
use crate::evidence::{EmptyPlace, LiveAt, brings_nothing, is_elsewhere};
use crate::safety::NoStart;
use crate::{Action, Authority, Precondition, Reason, Rest, Waiting, safety};

/// Starts every dead server of ours that may be started: none where a node may be that another is promoted past.
pub(crate) fn dead_servers(p: &mut Draft<'_>) {
    if p.d.authority != Authority::Managed {
        return;
    }
    let dead: Vec<&Server> =
        p.o.servers()
            .values()
            .filter(|s| s.process.death().is_some() && s.starter == Starter::Step)
            .collect();
    for server in dead {
        let starting =
            |a: &Action| matches!(a, Action::StartServer { server: s } if *s == server.name);
        let promoting = |a: &Action| match a {
            Action::Failover { dead, .. } | Action::Takeover { dead, .. } => {
                !is_elsewhere(p.o, server, dead.node())
            }
            _ => false,
        };
        let begun = |a: &Action| starting(a) || promoting(a);
        if p.steps.iter().any(|s| begun(&s.action)) {
            continue;
        }
        if safety::why_not_start(p.d, p.o, server).is_none() && rests(p, server) {
            continue;
        }
        match safety::why_not_start(p.d, p.o, server) {
            None => start(p, server),
            Some(why) => hold(p, server, why),
        }
    }
}

fn start(p: &mut Draft<'_>, server: &Server) {
    let because = if owned(p, server).is_some() {
        Reason::OnlyCopyOnDisk
    } else {
        Reason::ServerDown
    };
    let action = Action::StartServer {
        server: server.name.clone(),
    };
    let mut requires = successors_live(p, server);
    if brings_nothing(p.o, server) {
        requires.extend(nobody_follows_since(p, server));
    }
    p.act_if(action, because, requires);
}

/// What is done, or waited for, where a server may not be started as it is.
fn hold(p: &mut Draft<'_>, server: &Server, why: NoStart) {
    let name = server.name.clone();
    match why {
        NoStart::SuccessorFirst => {}
        NoStart::TableLost => start_afresh(p, server, Reason::TableLost),
        NoStart::TableRefused if safety::may_set_aside(p.o, server) => {
            start_afresh(p, server, Reason::TableRefused);
        }
        NoStart::DataRefused if safety::may_set_aside(p.o, server) => {
            start_afresh(p, server, Reason::DataRefused);
        }
        NoStart::ClaimsBetter if safety::may_set_aside(p.o, server) => {
            start_afresh(p, server, Reason::ClaimsBetter);
        }
        NoStart::PlaceFollowed { by } => p.wait(Waiting::PlaceFollowed { server: name, by }),
        NoStart::TableRefused => p.wait(Waiting::TableRefused { server: name }),
        NoStart::DataRefused => p.wait(Waiting::DataRefused {
            server: name,
            failure: server.start_failure.clone(),
        }),
        NoStart::DiskUnknown => hold_unread(p, server),
        NoStart::OldData | NoStart::ClaimsBetter => {
            p.wait(Waiting::StartHeld { server: name });
            let lost = server.recorded_id.zip(owned(p, server));
            if let Some((primary, slots)) = lost.filter(|(id, _)| !has_a_replica(p.o, *id)) {
                p.wait(Waiting::ShardLost { primary, slots });
            }
        }
    }
}

/// Whether a replica of this node speaks that has keys: they may be its primary's, although nobody can prove it.
fn has_a_replica(o: &Observed, primary: NodeId) -> bool {
    let has_keys = |id| o.view_of(id).is_some_and(|view| view.server.keys > 0);
    o.replicas_of(primary).any(|m| has_keys(m.id))
}

/// Starts a server as a new node, with its directory set aside, once nobody follows its address.
fn start_afresh(p: &mut Draft<'_>, server: &Server, because: Reason) {
    let name = server.name.clone();
    match EmptyPlace::prove(p.o, server) {
        Ok(_) => {
            let mut requires = owners_live(p);
            requires.extend(nobody_follows_since(p, server));
            p.act_if(Action::StartAfresh { server: name }, because, requires);
        }
        Err(by) => p.wait(Waiting::PlaceFollowed { server: name, by }),
    }
}

/// Whoever holds keys must still follow whom it followed, or be a primary: the engine may have made it a replica of the
/// node that was here, since it was looked at, and it would copy what comes without data.
fn nobody_follows_since(p: &Draft<'_>, server: &Server) -> Vec<Precondition> {
    if server.recorded_id.is_none() {
        return Vec::new();
    }
    let views = p.o.views().map(|(_, view)| view);
    let holders = views.filter(|view| view.server.keys > 0);
    let rows = holders.filter_map(|view| Some((view.id, view.own()?)));
    rows.filter_map(|(node, own)| match own.role {
        Role::Primary => Some(Precondition::IsPrimary { node }),
        Role::Replica => Some(Precondition::IsReplicaOf {
            node,
            primary: own.primary?,
        }),
    })
    .collect()
}

/// How long a server rests after its second start without a word from it, in milliseconds; twice as long after each more.
const FIRST_REST_MS: u64 = 1_000;
/// The longest rest, in milliseconds.
const LONGEST_REST_MS: u64 = 30_000;

/// Whether a server that was started more than once, and was not heard since, is not to be started again yet; then that
/// is waited for.
pub(crate) fn rests(p: &mut Draft<'_>, server: &Server) -> bool {
    let Some(Starts { times, last }) = p.o.starts.get(&server.name).copied() else {
        return false;
    };
    let doubled = 2_u64.saturating_pow(times.saturating_sub(2));
    let rest = FIRST_REST_MS.saturating_mul(doubled).min(LONGEST_REST_MS);
    let left_ms = rest.saturating_sub(p.now.since_ms(last));
    if times < 2 || left_ms == 0 {
        return false;
    }
    p.wait(Waiting::StartsAgain {
        server: server.name.clone(),
        rest: Rest {
            times,
            left_ms,
            failure: server.start_failure.clone(),
        },
    });
    true
}

fn hold_unread(p: &mut Draft<'_>, server: &Server) {
    let why = match &server.disk {
        Seen::Unknown(Why::Unreachable(how)) => how.clone(),
        Seen::Unknown(why) => why.to_string(),
        Seen::Known(_) => return,
    };
    let server = server.name.clone();
    p.wait(Waiting::DirectoryUnread { server, why });
}

/// The slots that this silent server's node still owns.
fn owned(p: &Draft<'_>, server: &Server) -> Option<SlotSet> {
    let member = p.o.member(server.recorded_id?)?;
    (member.source == Source::Others && !member.slots.is_empty()).then(|| member.slots.clone())
}

/// A server that would come back as an old primary is safe to start only while those live who own its slots now.
fn successors_live(p: &Draft<'_>, server: &Server) -> Vec<Precondition> {
    match server.disk.known() {
        Some(Disk::Stale { claim }) if *claim != Claim::Nothing => owners_live(p),
        _ => Vec::new(),
    }
}

/// The owners of all slots must still live where they were heard.
pub(crate) fn owners_live(p: &Draft<'_>) -> Vec<Precondition> {
    let owners = p.o.voters().filter_map(|m| LiveAt::prove(p.o, m.id));
    owners
        .map(|owner| Precondition::LivesAt {
            node: owner.node(),
            address: owner.address().clone(),
        })
        .collect()
}
