//! A dead primary with a live replica: promote the freshest, by vote, and without votes when that is too slow.

use shardwright_topology::{
    AttemptKind, DeathProof, Disk, Flags, Member, NodeId, NodeView, Observed, OpenSlot,
    Replication, Server, Source, Starter, Timestamp,
};

use crate::draft::Draft;
use crate::evidence::{
    Copy, Dead, HowDead, LOST_BEFORE_MS, LiveAt, RoleSeen, brings_nothing, clock, copies_elsewhere,
    has_file_of, is_anothers, is_nowhere, last_heard, of_its_stream, read, sees_role,
};
use crate::refused::unproved;
use crate::rules::electable::hold_back_of;
use crate::rules::start::rests;
use crate::rules::take_in::is_returned;
use crate::{
    Action, Authority, Desired, FailoverPolicy, Limits, LostMajority, OnlyOnDisk, Precondition,
    Reason, Waiting, safety,
};

/// How long after it was told to take slots in a node may hold keys that none of its replicas has read: a step moves
/// slots for 2 s, and a replica that is in sync is milliseconds behind.
const TOOK_IN_LATELY_MS: u64 = 5_000;

/// How long before a primary's death was seen its replica may have lost the link to it, for both to be one event: a pod
/// that is gone is told of seconds late.
const LINK_LOST_BEFORE_MS: u64 = 15_000;

/// How often a container that is held must have been let start, without a word from it, to count as one that can't.
const STARTS_OF_A_CONTAINER: u32 = 3;

/// Promotes a replica of every primary that is proved dead and owns slots.
pub(crate) fn dead_primaries(p: &mut Draft<'_>) {
    let silent: Vec<&Member> =
        p.o.voters()
            .filter(|m| m.source == Source::Others)
            .collect();
    let lost = LostMajority::of(p.d, p.o);
    for primary in silent {
        if is_returned(p, primary.id) {
            continue;
        }
        let replaced = || p.replaced.get(&primary.id).cloned();
        let dead = Dead::prove(p.o, primary.id).or_else(replaced);
        // One that speaks where it does not belong lives all the same.
        match dead.filter(|_| !p.strangers.contains(&primary.id)) {
            None => {
                let why = unproved(p.d, p.o, primary.id);
                // Without a majority nobody votes on it: that is said of all such primaries at once.
                let lost = lost.as_ref();
                let said = lost.is_some_and(|lost| lost.primaries.contains(&primary.id));
                if !said || !matches!(why, Waiting::PrimarySilent { .. }) {
                    p.wait(why);
                }
                hold_back_without_copy(p, primary.id);
            }
            Some(dead) if restart_comes_first(p, &dead) => {}
            Some(dead) => promote_one(p, primary, &dead),
        }
    }
    if let Some(lost) = lost {
        p.wait(Waiting::MajorityLost(Box::new(lost)));
    }
}

/// Holds back whoever is not known to have a copy of what a silent primary may come back with.
fn hold_back_without_copy(p: &mut Draft<'_>, primary: NodeId) {
    let o = p.o;
    hold_back_of(p, primary, |view| !has_copy(o, primary, view));
}

/// A primary that has its file gets time to come back before a replica takes its place: under `KeepEveryWrite`, and
/// always where that replica may lack more than a moment's writes ([`is_behind`]), or while the primary was taking slots
/// in. Keys that moved there are at their source no more: they are lost if the replica had not read them yet. However
/// often it is started, it has that time only once.
fn restart_comes_first(p: &mut Draft<'_>, dead: &Dead) -> bool {
    let HowDead::Proved(death) = dead.how() else {
        return false;
    };
    if is_given_up(p.d, p.o, dead.node()) {
        return false;
    }
    let Some(server) = p.o.server_of(dead.node()) else {
        return false;
    };
    let has_all = has_file_of(p.o, server, dead.node()) && !brings_nothing(p.o, server);
    let since = p.o.down_since.get(&server.name);
    let waited = p
        .now
        .since_ms(since.map_or(death.since, |at| death.since.min(*at)));
    if p.d.authority != Authority::Managed || !has_all {
        return false;
    }
    let behind = |replica: &NodeId| {
        is_behind(p.o, *replica, death.since) || is_linked_past(p.o, p.l, *replica, dead.node())
    };
    let short = p.l.restart_grace_ms;
    let (grace, has, because) =
        if let Some(replica) = candidate(p.d, p.o, dead.node()).filter(behind) {
            let has = OnlyOnDisk::WritesSinceLink { replica };
            (p.l.behind_grace_ms, has, Reason::RestartAhead)
        } else if takes_in(p.o, dead.node(), death.since) {
            (short, OnlyOnDisk::MovedKeys, Reason::RestartImporter)
        } else if p.d.failover == FailoverPolicy::KeepEveryWrite {
            (short, OnlyOnDisk::LastWrites, Reason::RestartFirst)
        } else {
            return false;
        };
    if waited >= grace {
        return false;
    }
    hold_back_of(p, dead.node(), |_| true);
    p.wait(Waiting::RestartGrace {
        server: server.name.clone(),
        left_ms: grace - waited,
        has,
    });
    let starts = server.starter == Starter::Step && safety::left_alone(p.o, server).is_none();
    if starts && !rests(p, server) {
        let server = server.name.clone();
        p.act(Action::StartServer { server }, because);
    }
    true
}

/// Whether a replica had no link to its primary for longer than a moment before that died, or none at all since its own
/// start: all that was written meanwhile is at the primary only.
fn is_behind(o: &Observed, replica: NodeId, died: Timestamp) -> bool {
    let Some(view) = o.view_of(replica) else {
        return false;
    };
    match (&view.server.replication, view.server.link_lost_s) {
        (Replication::Replica { link_up: false, .. }, None) => true,
        (Replication::Replica { link_up: false, .. }, Some(lost)) => {
            lost.saturating_mul(1_000) > o.at.since_ms(died).saturating_add(LINK_LOST_BEFORE_MS)
        }
        (Replication::Replica { link_up: true, .. } | Replication::Primary { .. }, _) => false,
    }
}

/// Whether a replica may have copied from another that listened at its primary's address: it lost its link only long after
/// its last word of its primary by the bus, or any node met another there, and so knows no address of the primary any more.
/// (It looks so too where the primary's host died, and nothing closed the link.)
fn is_linked_past(o: &Observed, l: &Limits, replica: NodeId, primary: NodeId) -> bool {
    let Some(view) = o.view_of(replica) else {
        return false;
    };
    if o.beliefs(primary)
        .any(|(_, row)| row.flags.has(Flags::NOADDR))
    {
        return true;
    }
    let link = view.server.link_lost_s.zip(clock(view));
    let pong = view.rows.get(primary).map(|row| row.pong_received_ms);
    link.zip(pong).is_some_and(|((ago_s, now), pong)| {
        let lost = now.saturating_sub(ago_s.saturating_mul(1_000));
        pong > 0 && lost > pong.saturating_add(l.node_timeout_ms / 2 + LOST_BEFORE_MS)
    })
}

/// Whether a dead node was taking slots in: a source has one open towards it, it had one open itself when it was last
/// heard, or it was told to take some a moment before it died.
fn takes_in(o: &Observed, node: NodeId, died: Timestamp) -> bool {
    let open = |v: &NodeView, is: fn(&OpenSlot, NodeId) -> bool| {
        let mut open = v.own().into_iter().flat_map(|own| &own.open);
        open.any(|end| is(end, node))
    };
    let gives = |end: &OpenSlot, to| matches!(end, OpenSlot::Migrating { to: t, .. } if *t == to);
    let takes = |end: &OpenSlot, _| matches!(end, OpenSlot::Importing { .. });
    let lately = o
        .took_in
        .get(&node)
        .is_some_and(|at| died.since_ms(*at) < TOOK_IN_LATELY_MS);
    let silent = o.servers().values().filter_map(|s| s.last_heard.as_deref());
    let mut views = o.views().map(|(_, v)| v).chain(silent);
    let shown = views.any(|v| open(v, gives));
    lately || shown || last_heard(o, node).is_some_and(|v| open(v, takes))
}

fn promote_one(p: &mut Draft<'_>, primary: &Member, dead: &Dead) {
    let Some(replica) = candidate(p.d, p.o, primary.id) else {
        hold_back_without_copy(p, primary.id);
        let (primary, slots) = (primary.id, primary.slots.clone());
        // Its directory is lost and every replica was heard: nobody will ever step in.
        p.wait(if is_lost(p.o, primary) {
            Waiting::ShardLost { primary, slots }
        } else {
            Waiting::NoCandidate { primary }
        });
        return;
    };
    // Of a node that is nowhere it is not known when it died; but whoever looks for it has looked everywhere.
    let since = match dead.how() {
        HowDead::Proved(_) | HowDead::Replaced { .. } => died_at(p.o, dead),
        HowDead::Nowhere | HowDead::GivenUp | HowDead::Stated => Timestamp(0),
    };
    let waited = p.now.since_ms(since);
    let sibling = safety::unheard_sibling(p.o, primary.id);
    // One that is known to be fresher is waited for longer: the engine's own failover would choose it too.
    let patience = |sibling| {
        if was_fresher(p.o, sibling, replica) {
            p.l.sibling_wait_ms.max(2 * p.l.node_timeout_ms)
        } else {
            p.l.sibling_wait_ms
        }
    };
    if let Some(sibling) = sibling.filter(|sibling| waited < patience(*sibling)) {
        p.wait(Waiting::SiblingUnheard { sibling });
        return;
    }
    // Which of two processes with one id is to be stopped, a person says first: that is waited for anyway.
    if is_doubled_fresher(p.o, primary.id, replica) {
        return;
    }
    // It would claim what its table gives to the dead primary, above all who took some of that since.
    if believes_too_much(p.o, primary, replica) {
        p.wait(Waiting::Views {
            speaker: replica,
            about: primary.id,
        });
        return;
    }
    // Two are never asked at once; and what was asked before this death counts no more.
    if let Some(heir) = under_way(p, primary.id, replica) {
        p.wait(Waiting::Promotion { replica: heir });
        return;
    }
    let asked = p
        .asked(replica, AttemptKind::Failover, since)
        .map(|a| p.now.since_ms(a.at));
    // Old votes would promote it with an old epoch, and voters that voted about this primary lately would refuse:
    // then no vote is asked for.
    let no_vote = safety::won_lately(p.o, p.l, replica, p.now).is_some()
        || safety::voted_lately(p.o, p.l, replica, primary.id, since);
    let too_slow = no_vote || asked.unwrap_or(waited) >= p.l.takeover_after_ms;
    let because = why_this_one(p.o, primary.id, replica);
    let requires = vec![Precondition::IsReplicaOf {
        node: replica,
        primary: primary.id,
    }];
    let dead = dead.clone();
    match RoleSeen::prove(p.o, replica, primary.id) {
        Some(seen) if asked.is_none() && !no_vote => {
            p.act_if(Action::Failover { dead, seen }, because, requires);
        }
        // Only votes may pass over a replica that may be fresher: it, or the engine, can still win them.
        _ if too_slow && sibling.is_none() => {
            let because = if asked.is_some() {
                Reason::VoteTooSlow
            } else {
                because
            };
            p.act_if(Action::Takeover { replica, dead }, because, requires);
        }
        _ if asked.is_some() => p.wait(Waiting::Promotion { replica }),
        _ => show_role(p, primary.id, replica),
    }
}

/// What its promotion may cost.
fn why_this_one(o: &Observed, primary: NodeId, replica: NodeId) -> Reason {
    match o.view_of(replica).filter(|v| !has_copy(o, primary, v)) {
        Some(view) => Reason::NoCopyLeft {
            keys: view.server.keys,
        },
        None => Reason::PrimaryDead {
            tail_bytes_max: tail(o, primary, replica),
        },
    }
}

/// Whether a replica's table gives its primary slots that have another owner by now.
pub(crate) fn believes_too_much(o: &Observed, primary: &Member, replica: NodeId) -> bool {
    let row = o.view_of(replica).and_then(|v| v.rows.get(primary.id));
    row.is_some_and(|row| !row.slots.difference(&primary.slots).is_empty())
}

/// Whether a silent replica had more of the stream, when it was last heard, than this one has now.
fn was_fresher(o: &Observed, silent: NodeId, replica: NodeId) -> bool {
    let before = last_heard(o, silent).and_then(read);
    before.is_some() && before > o.view_of(replica).and_then(read)
}

/// Whether one of two processes with the id of another replica of this primary has read more of the stream than this.
fn is_doubled_fresher(o: &Observed, primary: NodeId, replica: NodeId) -> bool {
    let Some(mine) = o.view_of(replica) else {
        return false;
    };
    let stream = |v: &NodeView| v.server.stream.as_ref().map(|s| s.id.clone());
    let fresher = |v: &NodeView| {
        let follows = v.own().is_some_and(|own| own.primary == Some(primary));
        follows && stream(v) == stream(mine) && read(v) > read(mine)
    };
    let mut views = o.views().map(|(_, v)| v);
    views.any(|v| o.has_duplicate(v.id) && fresher(v))
}

/// When it died at the latest.
fn died_at(o: &Observed, dead: &Dead) -> Timestamp {
    match dead.how() {
        HowDead::Proved(death) => death.since,
        HowDead::Replaced { before, .. } => *before,
        HowDead::Nowhere | HowDead::GivenUp | HowDead::Stated => o.at,
    }
}

/// The replica of this primary that is becoming the primary just now: another that was asked, or this one without votes.
fn under_way(p: &Draft<'_>, primary: NodeId, candidate: NodeId) -> Option<NodeId> {
    let lately = |id, kind| p.asked_within(id, kind, p.l.takeover_after_ms);
    p.o.replicas_of(primary).map(|m| m.id).find(|id| {
        lately(*id, AttemptKind::Takeover)
            || (*id != candidate && lately(*id, AttemptKind::Failover))
    })
}

/// Makes the candidate greet every voter that does not see it as a replica, so that the vote can be won.
fn show_role(p: &mut Draft<'_>, primary: NodeId, replica: NodeId) {
    let of = p.o.voters().count();
    let blind: Vec<NodeId> =
        p.o.voters()
            .filter(|v| p.o.view_of(v.id).is_some() && !sees_role(p.o, v.id, replica, primary))
            .map(|v| v.id)
            .collect();
    let seen_by =
        p.o.voters()
            .filter(|v| sees_role(p.o, v.id, replica, primary))
            .count();
    p.wait(Waiting::RoleNotSeen {
        replica,
        seen_by,
        of,
    });
    for voter in blind {
        if let Some(target) = LiveAt::prove(p.o, voter) {
            let requires = vec![Precondition::LivesAt {
                node: voter,
                address: target.address().clone(),
            }];
            p.act_if(
                Action::Meet {
                    teller: replica,
                    target,
                },
                Reason::OldBelief,
                requires,
            );
        }
    }
}

/// The replica with the freshest copy, of those that were heard; of equals, the one with the smallest id.
///
/// A copy that a replica took from its primary and kept in memory comes first. When there is none, and the primary's
/// own directory is lost, what a replica read from its disk is the best there is; and with consent, even nothing.
pub(crate) fn candidate(d: &Desired, o: &Observed, primary: NodeId) -> Option<NodeId> {
    let live: Vec<(&Member, &NodeView)> = o
        .replicas_of(primary)
        .filter(|m| m.source == Source::Itself && !o.has_duplicate(m.id))
        .filter(|m| {
            o.server_of(m.id)
                .is_some_and(|s| s.process.death().is_none())
        })
        .filter_map(|m| Some((m, o.view_of(m.id)?)))
        .collect();
    let freshest = |fit: &dyn Fn(&NodeView) -> bool| {
        let fit = live.iter().filter(|(_, v)| fit(v));
        let copies = fit.filter_map(|(m, v)| Some((read(v)?, std::cmp::Reverse(m.id))));
        copies.max().map(|(_, id)| id.0)
    };
    let best = freshest(&|v| has_copy(o, primary, v));
    if best.is_some() || !is_lost(o, primary) && !is_given_up(d, o, primary) {
        return best;
    }
    let something = freshest(&|v| has_something(o, v));
    something.or_else(|| freshest(&|_| true).filter(|_| d.consent.lose_data))
}

/// Whether nothing of a dead primary will return: its directory is lost, and every replica of it was heard.
fn is_lost(o: &Observed, primary: NodeId) -> bool {
    let known =
        |m: &Member| m.source == Source::Itself || o.formed.is_some() && is_nowhere(o, m.id);
    disk_is_lost(o, primary) && o.replicas_of(primary).all(known)
}

/// Whether a person gave up what can't be had any more, and nothing is known that the primary could bring back.
fn is_given_up(d: &Desired, o: &Observed, primary: NodeId) -> bool {
    let server = o.server_of(primary);
    let disk = server.and_then(|s| s.disk.known());
    let comes =
        disk.is_some_and(|d| !matches!(d, Disk::Blank | Disk::TableRefused | Disk::DataRefused));
    // It was started, and ended before it said a word: a file is broken, or a setting. A container that waits to be
    // started has not ended for that, but one that waits once more after it was let start again and again has.
    let in_vain = server.is_some_and(|s| {
        let least = s.process.death().map(|death| match death.proof {
            DeathProof::ChildReaped => 1,
            _ => STARTS_OF_A_CONTAINER,
        });
        let times = o.starts.get(&s.name).map(|starts| starts.times);
        least
            .zip(times)
            .is_some_and(|(least, times)| times >= least)
    });
    d.consent.lose_data && (!comes || in_vain || server.is_some_and(Server::has_other_table))
}

/// Whether what the node had on disk is gone for certain: its directory is blank, or another node lives in it.
fn disk_is_lost(o: &Observed, node: NodeId) -> bool {
    match o.server_of(node) {
        Some(server) => server.disk.known() == Some(&Disk::Blank) || is_anothers(o, server),
        None => Dead::prove(o, node).is_some(),
    }
}

/// Whether a replica may be promoted for what it holds: a copy of its primary's data; or, where nothing better will
/// return, what it read from its disk; or anything, with consent.
pub(crate) fn may_step_in(d: &Desired, o: &Observed, primary: NodeId, replica: &NodeView) -> bool {
    let best_there_is = || is_lost(o, primary) && has_something(o, replica);
    d.consent.lose_data || has_copy(o, primary, replica) || best_there_is()
}

/// Whether it holds keys, and they are not those of some other server that it copied.
fn has_something(o: &Observed, replica: &NodeView) -> bool {
    replica.server.keys > 0 && copies_elsewhere(o, replica.id).is_none()
}

/// Whether a replica holds in memory what it copied from its primary: by its stream or its link, else by what the
/// primary said when it was last heard: that the replica was online, or that there was nothing to copy. A process that
/// began after the primary died has only what its disk had.
pub(crate) fn has_copy(o: &Observed, primary: NodeId, replica: &NodeView) -> bool {
    if read(replica).is_none()
        || copies_elsewhere(o, replica.id).is_some()
        || began_after(o, primary, replica)
    {
        return false;
    }
    let proved = || Copy::prove(o, replica.id, primary).is_some();
    let Some(last) = last_heard(o, primary) else {
        return proved();
    };
    let online = match &last.server.replication {
        Replication::Primary { replicas, .. } => replicas.iter().any(|r| {
            let address = o.member(replica.id).map(|m| &m.address);
            r.online && address.is_some_and(|a| a.same_socket(&r.address))
        }),
        Replication::Replica { .. } => false,
    };
    let had = online && replica.server.keys > 0;
    let other = of_its_stream(o, replica, primary) == Some(false);
    proved() || last.server.keys == 0 || (had && !other)
}

/// Whether the replica's process is certainly younger than the primary's death. Its age is told in whole seconds.
fn began_after(o: &Observed, primary: NodeId, replica: &NodeView) -> bool {
    let Some(dead) = Dead::prove(o, primary) else {
        return false;
    };
    let dead_ms = o.at.since_ms(died_at(o, &dead));
    let age = |s: u64| s.saturating_add(1).saturating_mul(1_000);
    replica.server.uptime_s.is_some_and(|s| age(s) <= dead_ms)
}

/// How much of the dead primary's stream the replica lacks at most, by what the primary said last. What it took in
/// after that is not in the figure: it is known only when the primary was heard.
fn tail(o: &Observed, primary: NodeId, replica: NodeId) -> Option<u64> {
    let has = read(o.view_of(replica)?)?;
    match last_heard(o, primary)?.server.replication {
        Replication::Primary { offset: end, .. } => Some(end.saturating_sub(has)),
        Replication::Replica { .. } => None,
    }
}
