//! Every reason not to do a thing. A reason is a wait, never a warning.

use std::fmt;

mod eviction;
mod held;
mod moves;
mod remove;
mod replace;
mod room;
mod versions;

pub use eviction::{NoEviction, why_no_eviction};
pub(crate) use held::{Held, someone_unheard};
pub use moves::{NoMove, why_not_move};
pub(crate) use moves::{
    holds_stray_keys, why_functions_go, why_no_moves, why_not_between, why_replicas_lack,
};
pub use remove::{NoRemove, why_not_remove, why_not_retire};
pub(crate) use remove::{drains, drains_for};
pub use replace::{NoReplace, why_not_replace};
pub(crate) use room::why_no_room;
pub use versions::{can_copy, left_behind};

use shardwright_topology::{
    Address, Claim, Disk, EngineKind, Member, NodeId, Observed, Place, Replication, Role, Row,
    Server, ServerName, Source, Timestamp,
};

use crate::evidence::{
    Dead, EmptyPlace, Follower, Follows, LOST_BEFORE_MS, RoleSeen, Who, brings_nothing, clock,
    copies_elsewhere, has_file_of, in_sync, sees_role,
};
use crate::rules::promote::candidate;
use crate::{Authority, Desired, Limits, Shape};

/// Why a dead server is not started.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoStart {
    /// Its node owns slots, and a live replica is about to take them: it would come back as an old primary.
    SuccessorFirst,
    /// It would come back as a primary with slots but without its newest data, and empty its replicas.
    OldData,
    /// The same, and it would take slots from those who serve them now: it became a primary just before it ended, and
    /// they never heard of it.
    ClaimsBetter,
    /// It is not known what it would come back with.
    DiskUnknown,
    /// It would end again at once.
    TableRefused,
    /// The same, for the data.
    DataRefused,
    /// It has no data, and who follows its address would copy that.
    PlaceFollowed {
        /// Who may.
        by: Follower,
    },
}

/// Why this dead server may not be started, if it may not.
///
/// A server that would come back as a primary, but not with everything its memory held, never does: its replicas
/// would copy the loss (kill -9 and a restart in place without a log leave 0 keys on both).
pub fn why_not_start(d: &Desired, o: &Observed, server: &Server) -> Option<NoStart> {
    let member = server.recorded_id.and_then(|id| o.member(id));
    let owns = member.is_some_and(|m| {
        m.source == Source::Others && m.role == Role::Primary && !m.slots.is_empty()
    });
    if owns
        && server
            .recorded_id
            .and_then(|id| candidate(d, o, id))
            .is_some()
    {
        return Some(NoStart::SuccessorFirst);
    }
    if !d.consent.lose_data {
        // Without data a new node comes, at an address that others may follow.
        let blank = brings_nothing(o, server).then(|| why_not_blank(o, server));
        let copied = left_alone(o, server).map(|by| NoStart::PlaceFollowed { by });
        if let Some(why) = blank.flatten().or(copied) {
            return Some(why);
        }
    }
    match server.disk.known() {
        None => Some(NoStart::DiskUnknown),
        Some(Disk::TableRefused) => Some(NoStart::TableRefused),
        Some(Disk::DataRefused) => Some(NoStart::DataRefused),
        Some(Disk::Blank | Disk::Log | Disk::CleanSnapshot) => None,
        Some(Disk::Stale { claim }) => {
            let owns_slots = *claim != Claim::Nothing;
            let never_formed = o.formed.is_none() && !owns_slots;
            let followed = follows(o, member, owns_slots);
            if d.consent.lose_data || never_formed {
                None
            } else if !followed {
                Some(NoStart::OldData)
            } else {
                claims_better(o, claim).then_some(NoStart::ClaimsBetter)
            }
        }
    }
}

/// Who would copy whatever starts at this address, although it follows another node, of which neither the process nor a
/// file with its data is left: what it holds would be dropped.
pub(crate) fn left_alone(o: &Observed, server: &Server) -> Option<Follower> {
    let mut others = o.servers().values().filter(|s| s.name != server.name);
    others.find_map(|s| {
        let view = s.view.known().filter(|v| v.server.keys > 0)?;
        let Replication::Replica { primary: from, .. } = &view.server.replication else {
            return None;
        };
        let of = view.own()?.primary?;
        let here = server
            .address
            .known()
            .is_some_and(|at| from.same_socket(at));
        let comes = |s: &Server| s.process.death().is_none() || has_file_of(o, s, of);
        let there = o.server_of(of).is_some_and(comes);
        (here && server.recorded_id != Some(of) && !there).then(|| Follower {
            who: Who::Server(s.name.clone()),
            how: Follows::Copies {
                keys: view.server.keys,
            },
        })
    })
}

/// Why nothing without data may start at this server's address, if it may not.
pub fn why_not_blank(o: &Observed, server: &Server) -> Option<NoStart> {
    let by = EmptyPlace::prove(o, server).err()?;
    Some(NoStart::PlaceFollowed { by })
}

/// Whether a dead server's directory is needed by nobody: its node owns nothing, and the living serve every slot.
pub fn may_set_aside(o: &Observed, server: &Server) -> bool {
    let node = server.recorded_id.and_then(|id| o.member(id));
    let owns_nothing = node.is_none_or(|m| m.slots.is_empty());
    owns_nothing && all_served(o)
}

/// Whether every slot has an owner that was heard, and is one process.
fn all_served(o: &Observed) -> bool {
    let mut owners = o.members().values().filter(|m| !m.slots.is_empty());
    o.uncovered().is_empty() && owners.all(|m| m.source == Source::Itself && !o.has_duplicate(m.id))
}

/// Whether a node that comes back without its newest data is known to follow others: its slots have another owner,
/// or it was a replica, and will take a new copy of a primary that lives. Of a node that nobody tells of, nothing is
/// known: it may be the last that remembers its shard, unless the primaries of all slots were heard.
fn follows(o: &Observed, member: Option<&Member>, owns_slots: bool) -> bool {
    if !owns_slots && all_served(o) {
        return true;
    }
    let Some(member) = member.filter(|m| m.slots.is_empty()) else {
        return false;
    };
    match member.role {
        // Whoever tells of it may be new, and never have heard it itself: then it knows nothing of its slots.
        Role::Primary => !owns_slots || all_served(o),
        Role::Replica => {
            // The others may not yet have heard that it had become a primary. Then what it owned has another owner
            // only if every slot has one.
            if owns_slots {
                return all_served(o);
            }
            let primary = member.primary.and_then(|id| o.member(id));
            primary.is_some_and(|p| p.source == Source::Itself || p.slots.is_empty())
        }
    }
}

/// Whether what is on a disk claims a slot by no smaller an epoch than its owner has: its node had just become a
/// primary, others have not heard of it, and they would all believe it if it came back.
pub(crate) fn claims_better(o: &Observed, claim: &Claim) -> bool {
    match claim {
        Claim::Nothing => false,
        Claim::Unreadable => true,
        Claim::Slots { epoch, slots } => slots.slots().any(|slot| {
            let owner = o.owner(slot).and_then(|id| o.member(id));
            owner.is_none_or(|m| m.epoch <= *epoch)
        }),
    }
}

/// A replica of this primary that was not heard, and is not proved dead: it may hold a fresher copy, and the others
/// may yet elect it.
pub fn unheard_sibling(o: &Observed, primary: NodeId) -> Option<NodeId> {
    o.replicas_of(primary)
        .find(|m| m.source == Source::Others && Dead::prove(o, m.id).is_none())
        .map(|m| m.id)
}

/// Why a node is not forgotten.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoForget {
    /// It owns slots.
    OwnsSlots {
        /// How many.
        slots: u16,
    },
    /// Nodes copy it.
    HasReplicas {
        /// How many.
        replicas: usize,
    },
}

impl fmt::Display for NoForget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OwnsSlots { slots } => write!(f, "it owns {slots} slots; move them away first"),
            Self::HasReplicas { replicas } => write!(
                f,
                "{replicas} replica(s) follow it; give them another primary first"
            ),
        }
    }
}

/// Why this node may not be forgotten, if it may not. With consent to lose data, its slots do not keep it, once no
/// replica is left that could have a copy of them.
pub fn why_not_forget(d: &Desired, o: &Observed, node: NodeId) -> Option<NoForget> {
    let member = o.member(node)?;
    let given_up = d.consent.lose_data && o.replicas_of(node).next().is_none();
    if !member.slots.is_empty() && !given_up {
        return Some(NoForget::OwnsSlots {
            slots: member.slots.count(),
        });
    }
    let replicas = o
        .replicas_of(node)
        .filter(|r| r.source == Source::Itself)
        .count();
    (replicas > 0).then_some(NoForget::HasReplicas { replicas })
}

/// Why a planned change of roles is not done.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoSwitchover {
    /// The primary was not heard.
    PrimaryUnheard,
    /// The replica was not heard.
    ReplicaUnheard,
    /// Its link to the primary is down, or its first copy is not done.
    NotInSync,
    /// It copies from an address that is not its primary's.
    CopiesElsewhere {
        /// From where.
        from: Address,
    },
    /// The primary, or a majority of all, does not yet see it as a replica: it would be asked in vain.
    RoleNotSeen,
    /// Its bus link to the primary is down for the moment, as after a greeting: the engine would refuse.
    LinkDown,
    /// Two processes answer as it, or as its primary: it is not known which of them would be asked.
    DuplicateId {
        /// Which.
        node: NodeId,
    },
    /// It became a primary lately and its process was not restarted since: Redis would let it promote itself with
    /// its old votes and its old epoch, beside the primary, and what it then took in would be lost.
    WonLately {
        /// How long to wait yet, in milliseconds.
        left_ms: u64,
    },
}

impl fmt::Display for NoSwitchover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CopiesElsewhere { from } => {
                return write!(f, "the replica copies from {from}, which is not its primary's address; make it follow its primary again: fix");
            }
            Self::PrimaryUnheard => "its primary is not heard; if it is dead, use --force",
            Self::ReplicaUnheard => "the replica itself is not heard",
            Self::NotInSync => "the replica is not in sync with its primary yet; wait until its link is up",
            Self::RoleNotSeen => "not enough primaries see it as a replica yet; try again in some seconds",
            Self::LinkDown => "its bus link to the primary is down; try again in a second",
            Self::DuplicateId { node } => {
                return write!(f, "two processes answer as node {node:?}; stop the copy first (shardwright check tells them apart)");
            }
            Self::WonLately { left_ms } => {
                let seconds = left_ms.div_ceil(1_000);
                return write!(f, "it was a primary a moment ago, and Redis would reuse its old votes; try again in {seconds} s");
            }
        })
    }
}

/// How long this node must not be asked to become a primary with the engine's help, in milliseconds.
///
/// Redis keeps the votes of a won election: a failover asked for within 2 × node-timeout of it, by a process that was
/// not restarted, succeeds at once with the old epoch. Valkey forgets them.
pub fn won_lately(o: &Observed, l: &Limits, node: NodeId, now: Timestamp) -> Option<u64> {
    let view = o
        .view_of(node)
        .filter(|v| v.server.engine == EngineKind::Redis)?;
    let age = now.since_ms(*o.wins.get(&view.id)?);
    (2 * l.node_timeout_ms)
        .checked_sub(age)
        .filter(|left| *left > 0)
}

/// Whether voters would refuse a vote about this dead primary because they gave one lately, about an earlier death.
///
/// A voter votes about one primary once in 2 × node-timeout. Valkey 9 has no such limit.
pub fn voted_lately(
    o: &Observed,
    l: &Limits,
    heir: NodeId,
    primary: NodeId,
    died: Timestamp,
) -> bool {
    let limited = o.view_of(heir).is_some_and(|v| match v.server.engine {
        EngineKind::Redis => true,
        EngineKind::Valkey => v.server.version.major < 9,
    });
    let vote = o.votes.get(&primary).filter(|at| **at < died);
    limited && vote.is_some_and(|at| died.since_ms(*at) < 2 * l.node_timeout_ms)
}

/// Every reason not to make this replica the primary of its shard by a switchover.
pub fn why_not_switch_over(
    o: &Observed,
    l: &Limits,
    replica: NodeId,
    now: Timestamp,
) -> Vec<NoSwitchover> {
    let mut why = Vec::new();
    match o.view_of(replica).map(|v| &v.server.replication) {
        None => why.push(NoSwitchover::ReplicaUnheard),
        Some(Replication::Replica { .. }) => {
            if let Some(from) = copies_elsewhere(o, replica) {
                why.push(NoSwitchover::CopiesElsewhere { from });
            } else if o.view_of(replica).is_none_or(|v| !in_sync(o, v)) {
                why.push(NoSwitchover::NotInSync);
            }
        }
        Some(Replication::Primary { .. }) => why.push(NoSwitchover::NotInSync),
    }
    let primary = o.member(replica).and_then(|m| m.primary);
    match primary.filter(|id| o.view_of(*id).is_some()) {
        None => why.push(NoSwitchover::PrimaryUnheard),
        Some(primary) => {
            if !sees_role(o, primary, replica, primary)
                || RoleSeen::prove(o, replica, primary).is_none()
            {
                why.push(NoSwitchover::RoleNotSeen);
            }
            let row = o.view_of(replica).and_then(|v| v.rows.get(primary));
            if row.is_some_and(|row| !row.link_up) {
                why.push(NoSwitchover::LinkDown);
            }
        }
    }
    let mut ends = [Some(replica), primary].into_iter().flatten();
    why.extend(
        ends.find(|id| o.has_duplicate(*id))
            .map(|node| NoSwitchover::DuplicateId { node }),
    );
    why.extend(won_lately(o, l, replica, now).map(|left_ms| NoSwitchover::WonLately { left_ms }));
    why
}

/// Why no replica is moved to a better place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoSpread {
    /// Others run the cluster, or it is kept in the shape it has.
    NotOurs,
    /// A person asked for something: that comes first, and may be against it.
    Asked,
    /// A server was not heard: its host may only be away.
    Unheard {
        /// Which.
        server: ServerName,
    },
    /// A server was told to end, and will be elsewhere soon.
    Leaving {
        /// Which.
        server: ServerName,
    },
    /// Not every slot has one owner that was heard.
    SlotsUnserved,
    /// The host of a server is away, or one that its volume ties it to: it may return.
    HostAway {
        /// The host.
        host: String,
    },
    /// A slot is half moved.
    SlotOpen {
        /// At which node.
        node: NodeId,
    },
    /// A replica has no full copy, or no link to its primary.
    NotInSync {
        /// Which.
        node: NodeId,
    },
    /// All this has not been so for long enough.
    NotSteady {
        /// How long to wait yet, in milliseconds.
        left_ms: u64,
    },
}

impl fmt::Display for NoSpread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOurs => f.write_str("the cluster is kept in the shape it has"),
            Self::Asked => f.write_str("what was asked for comes first"),
            Self::Unheard { server } => write!(f, "{server} is not heard"),
            Self::Leaving { server } => write!(f, "{server} is being stopped"),
            Self::SlotsUnserved => f.write_str("not every slot is served"),
            Self::HostAway { host } => write!(f, "{host} is away"),
            Self::SlotOpen { node } => write!(f, "a slot is open at {node:?}"),
            Self::NotInSync { node } => write!(f, "replica {node:?} is not in sync"),
            Self::NotSteady { left_ms } => {
                let seconds = left_ms.div_ceil(1_000);
                write!(f, "it was not at rest for long enough; {seconds} s more")
            }
        }
    }
}

/// The first reason why no replica may be moved to a better place just now, if there is one.
pub fn why_not_spread(d: &Desired, o: &Observed, l: &Limits, now: Timestamp) -> Option<NoSpread> {
    if d.authority != Authority::Managed || d.shape == Shape::AsFound {
        return Some(NoSpread::NotOurs);
    }
    if d.request.is_some() {
        return Some(NoSpread::Asked);
    }
    for server in o.servers().values() {
        let server_name = server.name.clone();
        if server.view.known().is_none() {
            return Some(NoSpread::Unheard {
                server: server_name,
            });
        }
        if server.leaving {
            return Some(NoSpread::Leaving {
                server: server_name,
            });
        }
    }
    if let Some(host) = o.servers().values().find_map(|s| host_away(&s.place)) {
        return Some(NoSpread::HostAway { host });
    }
    if !all_served(o) || !o.contested().is_empty() {
        return Some(NoSpread::SlotsUnserved);
    }
    for (_, view) in o.views() {
        let node = view.id;
        if view.own().is_none() || !view.open_slots().is_empty() {
            return Some(NoSpread::SlotOpen { node });
        }
        if !in_sync(o, view) {
            return Some(NoSpread::NotInSync { node });
        }
    }
    let steady_ms = o.steady_since.map_or(0, |since| now.since_ms(since));
    let left_ms = l.spread_after_ms.saturating_sub(steady_ms);
    (left_ms > 0).then_some(NoSpread::NotSteady { left_ms })
}

/// A host that is away, of those where the server runs or may run.
fn host_away(place: &Place) -> Option<String> {
    let here = place.host.clone().filter(|_| place.away_since.is_some());
    let tied = place.tied.as_ref().filter(|tied| tied.away_since.is_some());
    here.or_else(|| tied.map(|tied| tied.host.clone()))
}

/// Why a server that its volume ties to a host is not made anew elsewhere, without the volume.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum NoRecreate {
    /// Nothing ties it to a host.
    NotTied,
    /// The host is well: the server can run there.
    HostIsThere,
    /// The server speaks.
    Speaks,
    /// The host is to be waited for.
    ToWait,
    /// The host is away, but not for long enough.
    NotYet {
        /// How long it still has, in milliseconds.
        left_ms: u64,
    },
    /// It is not known which node's data the volume holds.
    DataUnknown,
    /// The node owns slots: its volume may be the freshest copy, until another is confirmed as their owner.
    OwnsSlots {
        /// The node.
        node: NodeId,
    },
    /// The node was a replica, and its primary does not speak: the volume may be the last copy.
    PrimarySilent {
        /// The primary.
        primary: NodeId,
    },
    /// It was asked to become a primary, and was not heard since; or it was one when it was heard last, and others have
    /// not heard of it; or its primary has been started again since anybody heard it, and we never did, so that we can't
    /// tell who took whose place. So it may be one, and have taken writes.
    MayBePrimary {
        /// The node.
        node: NodeId,
    },
    /// Nobody tells of the node, and not every slot has an owner that speaks: what it had may be missing.
    SomeSlotsSilent,
    /// Another is made anew first: what is seen next may keep this one. Or something more urgent is at work.
    NotItsTurn,
}

impl fmt::Display for NoRecreate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTied => f.write_str("nothing ties it to a host"),
            Self::HostIsThere => f.write_str("its host is well"),
            Self::Speaks => f.write_str("it answers"),
            Self::ToWait => f.write_str("storage.onUnreachable is Wait"),
            Self::NotYet { left_ms } => {
                write!(f, "it may return for {} s more", left_ms.div_ceil(1_000))
            }
            Self::DataUnknown => f.write_str("it is not known whose data the volume holds"),
            Self::OwnsSlots { node } => {
                write!(
                    f,
                    "node {node:?} owns slots: no other copy of them is confirmed"
                )
            }
            Self::MayBePrimary { node } => write!(
                f,
                "node {node:?} may have become a primary of which others have not heard"
            ),
            Self::PrimarySilent { primary } => write!(
                f,
                "its primary {primary:?} does not answer: the volume may be the last copy"
            ),
            Self::SomeSlotsSilent => {
                f.write_str("not all slots are served: the volume may be the last copy of some")
            }
            Self::NotItsTurn => f.write_str("something else is done first"),
        }
    }
}

/// Whether the process of a primary runs since before its replica was heard last, by anybody's bus: what the replica had
/// from it then, it has still. A node that starts takes the time of its start for that of the last pongs in its table.
fn runs_since_heard(o: &Observed, primary: NodeId, replica: NodeId) -> bool {
    let started = |id: NodeId| {
        let view = o.view_of(id)?;
        let age_ms = view.server.uptime_s?.saturating_mul(1_000);
        Some(
            clock(view)?
                .saturating_sub(age_ms)
                .saturating_add(LOST_BEFORE_MS),
        )
    };
    let heard = |(by, row): (NodeId, &Row)| {
        let pong = row.pong_received_ms;
        started(by).filter(|at| pong > *at).map(|_| pong)
    };
    let heard = o.beliefs(replica).filter_map(heard).max();
    heard
        .zip(started(primary))
        .is_some_and(|(heard, started)| started < heard)
}

/// Why the volume of this server may not be given up, if it may not.
///
/// The host may be cut off only, and the server live on there. So this needs no proof of a death: it needs that nothing
/// is lost with the volume. The other copies of the shard must speak now, and the node must own nothing.
pub fn why_not_recreate(d: &Desired, o: &Observed, server: &Server) -> Option<NoRecreate> {
    let Some(tied) = &server.place.tied else {
        return Some(NoRecreate::NotTied);
    };
    let Some(since) = tied.away_since else {
        return Some(NoRecreate::HostIsThere);
    };
    if server.view.known().is_some() {
        return Some(NoRecreate::Speaks);
    }
    let Some(after_ms) = d.recreate_after_ms else {
        return Some(NoRecreate::ToWait);
    };
    let left_ms = after_ms.saturating_sub(o.at.since_ms(since));
    if left_ms > 0 {
        return Some(NoRecreate::NotYet { left_ms });
    }
    let Some(node) = server.recorded_id else {
        return Some(NoRecreate::DataUnknown);
    };
    let asked = o.attempts.iter().any(|a| a.node == node && !a.ended);
    let before = server.last_heard.as_ref().filter(|v| v.id == node);
    let was = before.is_some_and(|v| claims_better(o, &Claim::of(v.own())));
    if asked || was {
        return Some(NoRecreate::MayBePrimary { node });
    }
    match o.member(node) {
        Some(member) if !member.slots.is_empty() => Some(NoRecreate::OwnsSlots { node }),
        Some(Member {
            role: Role::Replica,
            primary: Some(primary),
            ..
        }) => {
            let is_served = |m: &Member| {
                m.source == Source::Itself && m.role == Role::Primary && !m.slots.is_empty()
            };
            let lives = o.member(*primary).is_some_and(is_served);
            if !lives {
                return Some(NoRecreate::PrimarySilent { primary: *primary });
            }
            let replaced = before.is_none() && !runs_since_heard(o, *primary, node);
            replaced.then_some(NoRecreate::MayBePrimary { node })
        }
        // A primary without slots, a replica of nobody, or one that was forgotten: its shard may be any.
        Some(_) | None => (!all_served(o)).then_some(NoRecreate::SomeSlotsSilent),
    }
}
